package transport_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

const gcm = srtp.AEADAES128GCM

func TestConnect(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 42, 1000, gcm)

	if got := len(s.Local().Ufrag); got != 24 {
		t.Errorf("ufrag of %d characters", got)
	}
	if got := len(s.Local().Pwd); got != 24 {
		t.Errorf("pwd of %d characters", got)
	}
	r := c.Responses[0]
	if r.Type != stun.BindingSuccess || !r.OK || r.Addr != c.Addr {
		t.Errorf("response = %+v", r)
	}
	// A plain check first, then the nomination with value 1.
	if len(c.Checks) != 2 || c.Checks[0].UseCandidate || !c.Checks[1].UseCandidate || c.Checks[1].Nomination != 1 {
		t.Errorf("checks = %+v", c.Checks)
	}
	for _, k := range c.Checks {
		if k.TieBreaker != 1<<64-1 || k.Username != c.Ufrag+":"+s.Local().Ufrag {
			t.Errorf("check = %+v", k)
		}
	}
	if diff := cmp.Diff([]transport.State{transport.StateConnected}, n.handler.states); diff != "" {
		t.Error(diff)
	}
	if p, ok := s.Path(); !ok || p.Remote != c.Addr || p.Local != n.ip {
		t.Errorf("path = %v", p)
	}

	n.deliver(c.Addr, c.packet("up"))
	if len(n.handler.rtp) != 1 || string(n.handler.rtp[0]) != "up" {
		t.Fatalf("received %q", n.handler.rtp)
	}
	send(t, s, 7, "down")
	w.pump()
	if got, index, err := c.open(c.Other[len(c.Other)-1]); err != nil || string(got) != "down" || index != 7 {
		t.Errorf("client got %q, %d, %v", got, index, err)
	}
	if n.pool.InUse() != 0 {
		t.Errorf("%d buffers leaked", n.pool.InUse())
	}
}

func TestChecksBeforeAnswer(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	n.deliver(c.Addr, c.Request())
	if len(c.Responses) != 1 || len(c.Checks) != 0 {
		t.Fatalf("%d responses, %d checks before the answer", len(c.Responses), len(c.Checks))
	}
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	w.pump()
	if len(c.Checks) != 2 {
		t.Errorf("%d checks after the answer, want check and nomination", len(c.Checks))
	}
}

func TestSetRemoteRefuses(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	good := c.Remote()
	if err := s.SetRemote(good, w.now); err != nil {
		t.Errorf("repeated: %v", err)
	}
	for name, change := range map[string]func(*transport.RemoteParams){
		"other ufrag":       func(p *transport.RemoteParams) { p.Ufrag = "else" },
		"other fingerprint": func(p *transport.RemoteParams) { p.Fingerprint = transport.FingerprintOf([]byte("x")) },
		"short ufrag":       func(p *transport.RemoteParams) { p.Ufrag = "abc" },
		"short pwd":         func(p *transport.RemoteParams) { p.Pwd = "short" },
		"line break":        func(p *transport.RemoteParams) { p.Pwd = "clientpassword22char\r\nX" },
	} {
		p := good
		change(&p)
		if s.SetRemote(p, w.now) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRoleConflict(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	_ = s.SetRemote(c.Remote(), w.now)

	// The peer claims to control, even with an equal tie-breaker: 487, and no state.
	for _, tie := range []uint64{1, 1<<64 - 1} {
		n.deliver(c.Addr, c.Request(func(b *stun.Builder) { b.ICEControlling(tie) }))
		if r := c.LastResponse(); r.Type != stun.BindingError || r.Code != stun.CodeRoleConflict || !r.OK {
			t.Errorf("tie-breaker %d: response %+v", tie, r)
		}
		if len(c.Checks) != 0 {
			t.Error("a check on behalf of a conflict")
		}
	}
	// The peer answers our check with 487: we stay controlling and ask again, with a
	// new transaction.
	c.Refuse = stun.CodeRoleConflict
	n.deliver(c.Addr, c.Request())
	if len(c.Checks) != 1 {
		t.Fatalf("%d checks", len(c.Checks))
	}
	c.Refuse = 0
	w.run(200 * time.Millisecond)
	if _, ok := s.Path(); !ok {
		t.Error("no path after the peer gave in")
	}
	if c.Checks[0].Tx == c.Checks[1].Tx {
		t.Error("transaction repeated after 487")
	}
	if got := n.mux.Counters().RoleConflicts; got != 3 {
		t.Errorf("RoleConflicts = %d", got)
	}
}

func TestUnknownAttribute(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	raw := unknownAttribute(c)
	n.deliver(c.Addr, raw)
	r := c.LastResponse()
	if r.Code != stun.CodeUnknownAttribute || !r.OK {
		t.Fatalf("response %+v", r)
	}
	var m stun.Message
	if err := m.Parse(r.Raw); err != nil {
		t.Fatal(err)
	}
	if got := m.UnknownAttributes(nil); len(got) != 1 || got[0] != 0x7777 {
		t.Errorf("unknown attributes %v", got)
	}
	// The same without integrity must stay unanswered.
	seen := len(n.out.sent)
	bad := c.Server
	bad.Pwd = "notthepassword22charsX"
	c.Learn(bad)
	n.deliver(c.Addr, unknownAttribute(c))
	if len(n.out.sent) != seen {
		t.Error("unauthenticated request was answered")
	}
}

func TestNominationRepeats(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	_ = s.SetRemote(c.Remote(), w.now)
	start := w.now
	n.receive(c.Addr, n.ip, c.Request())
	// Answer the check, not the nomination.
	tx := parse(t, n.out.sent[1].data).Tx
	n.moved = len(n.out.sent)
	c.Deaf = true
	n.deliver(c.Addr, c.Answer(tx, c.Key))
	w.run(time.Second)
	var at []int64
	for _, k := range c.Checks {
		if !k.UseCandidate || k.Nomination != 1 || k.Tx != c.Checks[0].Tx {
			t.Fatalf("check %+v", k)
		}
		at = append(at, (k.At-start)/ms)
	}
	if diff := cmp.Diff([]int64{0, 50, 150, 350, 750}, at); diff != "" {
		t.Errorf("nominations at:\n%s", diff)
	}
	if _, ok := s.Path(); ok {
		t.Error("path selected before the nomination was answered")
	}
	c.Deaf = false
	w.run(2 * time.Second)
	if _, ok := s.Path(); !ok {
		t.Error("no path after the nomination was answered")
	}
}

func TestBetterPathEarly(t *testing.T) {
	for _, tc := range []struct {
		name  string
		after time.Duration
		moves bool
	}{{"early", time.Second, true}, {"late", 10 * time.Second, false}} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			n := w.node(1)
			s, c := w.connect(n, 1, 1000, gcm)
			c.every = sec
			w.run(tc.after)
			d := c.also(2000)
			d.Priority = c.Priority + 1<<20
			n.deliver(d.Addr, d.Request())
			p, _ := s.Path()
			if moved := p.Remote == d.Addr; moved != tc.moves {
				t.Errorf("moved: %v", moved)
			}
			if tc.moves && d.LastCheck().Nomination != 2 {
				t.Errorf("nomination value %d, want 2", d.LastCheck().Nomination)
			}
			e := c.also(3000) // a worse one never
			e.Priority = 1
			n.deliver(e.Addr, e.Request())
			if q, _ := s.Path(); q != p {
				t.Error("moved to a worse path")
			}
		})
	}
}

// The client's NAT gives it a new address: the old one falls silent and the next check
// comes from elsewhere.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = sec
	w.run(20 * time.Second)
	delete(w.clients, c.Addr) // nothing reaches the old address any more
	d := c.also(2000)
	d.every, d.next = sec, w.now+sec
	start := w.now
	for w.now < start+5*sec {
		w.run(50 * time.Millisecond)
		if p, _ := s.Path(); p.Remote == d.Addr {
			break
		}
	}
	t.Logf("moved %v after the rebinding, %v after the first check", time.Duration(w.now-start), time.Duration(w.now-start-sec))
	if p, _ := s.Path(); p.Remote != d.Addr {
		t.Fatal("never moved")
	}
	if w.now-start > 3*sec {
		t.Error("moved too late")
	}
	if s.State() != transport.StateConnected {
		t.Errorf("state %v", s.State())
	}
	w.run(time.Minute)
	if p, _ := s.Path(); p.Remote != d.Addr || s.State() != transport.StateConnected {
		t.Error("did not stay")
	}
}

// While the old path is alive, a second one is only kept ready.
func TestSecondPathStaysSpare(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = 2 * sec
	w.run(10 * time.Second)
	d := c.also(2000)
	d.every, d.next = sec, w.now
	w.run(time.Minute)
	if p, _ := s.Path(); p.Remote != c.Addr {
		t.Error("left a living path")
	}
	if got := n.mux.Counters().PathChanges; got != 1 {
		t.Errorf("PathChanges = %d", got)
	}
	c.every = 0
	delete(w.clients, c.Addr)
	w.run(3 * time.Second)
	if p, _ := s.Path(); p.Remote != d.Addr {
		t.Error("stayed on a dead path")
	}
}

func TestConsent(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	w.run(5 * time.Minute) // the client only answers
	if s.State() != transport.StateConnected {
		t.Fatalf("state %v", s.State())
	}
	gaps := make(map[int64]bool)
	for i := 3; i < len(c.Checks); i++ {
		gap := c.Checks[i].At - c.Checks[i-1].At
		gaps[gap] = true
		if gap < 2*sec || gap > 6*sec {
			t.Errorf("checks %v apart", time.Duration(gap))
		}
	}
	if len(gaps) < 3 {
		t.Errorf("no jitter: %v", gaps)
	}

	// It falls silent.
	c.Deaf = true
	silent := c.LastCheck().At
	n.handler.states = nil
	w.run(10 * time.Second)
	if s.State() != transport.StateDisconnected {
		t.Errorf("state %v after 10 s", s.State())
	}
	if err := trySend(t, s, 1, "x"); err != nil {
		t.Errorf("send while disconnected: %v", err) // consent still holds
	}
	// It comes back.
	n.deliver(c.Addr, c.packet("x"))
	if s.State() != transport.StateConnected {
		t.Errorf("state %v after a packet", s.State())
	}
	// It answers nothing for good: packets are no consent (RFC 7675 §5.1).
	for w.now < silent+40*sec && s.State() != transport.StateFailed {
		w.run(time.Second)
		if s.State() != transport.StateFailed {
			n.deliver(c.Addr, c.packet("x"))
		}
	}
	if d := time.Duration(w.now - silent); s.State() != transport.StateFailed || d > 31*time.Second || d < 25*time.Second {
		t.Errorf("state %v after %v", s.State(), d)
	}
	seen := len(n.out.sent)
	if trySend(t, s, 2, "x") == nil || s.SendRTCP(make([]byte, 8)) == nil {
		t.Error("sent without consent")
	}
	n.deliver(c.Addr, c.Request())
	w.run(time.Minute)
	if len(n.out.sent) != seen {
		t.Error("datagrams after failure")
	}
	want := []transport.State{transport.StateDisconnected, transport.StateConnected, transport.StateFailed}
	if diff := cmp.Diff(want, n.handler.states); diff != "" {
		t.Error(diff)
	}
	s.Close()
	s.Close()
	if n.mux.Len() != 0 || n.mux.NextDeadline() != transport.Never {
		t.Error("session left behind")
	}
}

func TestConnectTimeout(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	w.run(time.Hour) // nobody has answered yet: that is signaling's to end
	c := w.client(n, 1000, s.Local())
	_ = s.SetRemote(c.Remote(), w.now)
	w.run(29 * time.Second)
	if s.State() != transport.StateConnecting {
		t.Fatalf("state %v", s.State())
	}
	w.run(2 * time.Second)
	if s.State() != transport.StateFailed {
		t.Errorf("state %v", s.State())
	}
}

func TestRestart(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = sec
	w.run(10 * time.Second)
	old := s.Local()
	local := s.Restart()
	if local == old || local != s.Local() {
		t.Fatal("credentials did not change")
	}
	// The old ones keep media alive.
	w.run(20 * time.Second)
	send(t, s, 1, "still here")
	n.deliver(c.Addr, c.packet("me too"))
	if s.State() != transport.StateConnected || len(n.handler.rtp) != 1 {
		t.Fatalf("state %v, %d packets", s.State(), len(n.handler.rtp))
	}
	// The client changes network and comes with new credentials on both sides.
	d := c.also(2000)
	d.Ufrag, d.Pwd = "newufrag", "newclientpassword22cha"
	d.Key = stun.NewKey(d.Pwd)
	d.Learn(local)
	if err := s.SetRemote(d.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.Path(); p.Remote != c.Addr {
		t.Error("old path gone before there is a new one")
	}
	n.deliver(d.Addr, d.Request())
	if p, _ := s.Path(); p.Remote != d.Addr {
		t.Error("new path not taken")
	}
	if d.LastCheck().Username != d.Ufrag+":"+local.Ufrag || d.LastCheck().Nomination != 2 {
		t.Errorf("check %+v", d.LastCheck())
	}
	n.deliver(d.Addr, d.packet("from the new network"))
	if len(n.handler.rtp) != 2 {
		t.Error("media lost over the restart")
	}
	// The old credentials are over.
	before := n.mux.Counters().StaleGeneration
	n.deliver(c.Addr, c.Request())
	if got := n.mux.Counters().StaleGeneration; got != before+1 {
		t.Errorf("StaleGeneration = %d", got)
	}
}

// Two restarts in a row, the first never answered; then one from the same address.
func TestRestartTwice(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = sec
	s.Restart()
	w.run(3 * time.Second)
	local := s.Restart()
	w.run(3 * time.Second)
	if s.State() != transport.StateConnected {
		t.Fatalf("state %v", s.State())
	}
	c.Ufrag = "newufrag"
	c.Learn(local)
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	n.deliver(c.Addr, c.Request())
	if got := c.LastCheck(); got.Username != "newufrag:"+local.Ufrag || !got.UseCandidate {
		t.Errorf("check %+v", got)
	}
	w.run(time.Minute)
	if s.State() != transport.StateConnected {
		t.Errorf("state %v", s.State())
	}
}

func TestPathsAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = sec
	for i := range 200 {
		d := c.also(uint16(2000 + i))
		d.Deaf = true
		n.deliver(d.Addr, d.Request())
	}
	if got := n.mux.Counters().PathsRefused; got != 200-transport.MaxPaths+1 {
		t.Errorf("PathsRefused = %d", got)
	}
	w.run(20 * time.Second)
	checks := n.mux.Counters().Checks
	if checks > 100 {
		t.Errorf("%d checks for forged sources", checks)
	}
	w.run(20 * time.Second) // the forged ones are forgotten
	d := c.also(5000)
	n.deliver(d.Addr, d.Request())
	if len(d.Responses) != 1 || s.State() != transport.StateConnected {
		t.Error("no place for an honest path")
	}
}

// A participant who forges another's address does not get the other's packets.
func TestAddressIsNotStolen(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	_, victim := w.connect(n, 1, 1000, gcm)
	thief, err := n.mux.Open(2, w.now)
	if err != nil {
		t.Fatal(err)
	}
	forged := *victim
	forged.Learn(thief.Local())
	seen := len(n.out.sent)
	n.receive(victim.Addr, n.ip, forged.Request())
	if len(n.out.sent) != seen || n.mux.Counters().PathConflicts != 1 {
		t.Error("forged address accepted")
	}
	n.deliver(victim.Addr, victim.packet("mine"))
	if len(n.handler.rtp) != 1 {
		t.Error("victim lost its packets")
	}
	// Once the victim is long silent, the address can be somebody else's.
	victim.Deaf = true
	w.run(6 * time.Second)
	n.receive(victim.Addr, n.ip, forged.Request())
	if got := n.mux.Counters().PathConflicts; got != 1 {
		t.Error("address of a silent session refused")
	}
}

func parse(t testing.TB, b []byte) *stun.Message {
	t.Helper()
	m := new(stun.Message)
	if err := m.Parse(b); err != nil {
		t.Fatal(err)
	}
	return m
}
