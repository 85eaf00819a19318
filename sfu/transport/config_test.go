package transport_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestConfigIsChecked(t *testing.T) {
	good := transport.Config{Secret: transporttest.UfragKey(t), Pool: pktbuf.NewPool(1)}
	if _, err := transport.NewMux(good, &null{}, &echo{}, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*transport.Config){
		"no key":                    func(c *transport.Config) { c.Secret = transport.UfragKey{} },
		"no pool":                   func(c *transport.Config) { c.Pool = nil },
		"negative sessions":         func(c *transport.Config) { c.MaxSessions = -1 },
		"negative connect time-out": func(c *transport.Config) { c.ConnectTimeout = -1 },
		"no randomness":             func(c *transport.Config) { c.Rand = noRandom{} },
	} {
		c := good
		change(&c)
		if _, err := transport.NewMux(c, &null{}, &echo{}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := transport.NewMux(good, nil, &echo{}, nil); err == nil {
		t.Error("no output: accepted")
	}
	if _, err := transport.NewMux(good, &null{}, nil, nil); err == nil {
		t.Error("no handler: accepted")
	}
}

// Without a handshaker a ClientHello leads nowhere, and the client may try elsewhere.
func TestNoHandshaker(t *testing.T) {
	var none transport.NoHandshaker
	if none.Start(1, transport.FingerprintOf(nil)) {
		t.Error("started")
	}
	none.Deliver(1, nil)
	none.End(1)
}

func TestStateNames(t *testing.T) {
	var got []string
	for st := transport.StateConnecting; st <= transport.StateClosed+1; st++ {
		got = append(got, st.String())
	}
	want := []string{"connecting", "connected", "disconnected", "failed", "closed", "unknown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCandidatesArePassedOn(t *testing.T) {
	w := newWorld(t)
	want := []transport.Candidate{
		{Addr: netip.MustParseAddrPort("203.0.113.1:3478"), Priority: 5, Foundation: "1"},
		{Addr: netip.MustParseAddrPort("203.0.113.2:3478"), Priority: 9, Foundation: "2", Standby: true},
	}
	n := w.node(1, func(c *transport.Config) { c.Candidates = want })
	if diff := cmp.Diff(want, n.mux.Candidates(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	// Behind a public address, pairs are still made.
	w.connect(n, 1, 1000, gcm)
}

// A session over IPv6, handed on, and the figures that the admin API shows.
func TestIPv6(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, err := n.mux.Open(1, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if s.Cipher() != "" || s.RTT() != 0 {
		t.Error("figures before there are any")
	}
	c := w.client(n, 1000, s.Local())
	delete(w.clients, c.Addr)
	c.Addr = netip.MustParseAddrPort("[2001:db8::1]:1000")
	w.clients[c.Addr] = c
	local := netip.MustParseAddr("2001:db8::2")
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	n.receive(c.Addr, local, c.Request())
	w.now += 30 * ms // the way there and back
	w.pump()
	w.now += 10 * ms
	w.pump()
	n.receive(c.Addr, local, transporttest.ClientHello)
	keys, _, _ := transporttest.Exchange(t, gcm, 1)
	n.mux.HandshakeDone(1, keys, w.now)
	if p, ok := s.Path(); !ok || p != (udp.Path{Remote: c.Addr, Local: local}) {
		t.Fatalf("path %v", p)
	}
	if s.Cipher() != gcm.String() || c.Responses[0].Addr != c.Addr {
		t.Errorf("cipher %q, mapped address %v", s.Cipher(), c.Responses[0].Addr)
	}
	first := move(s, w.now)
	m := w.node(2)
	r, err := m.mux.Restore(first, transport.RestoreOptions{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := r.Path(); p.Remote != c.Addr || p.Local != local {
		t.Errorf("restored path %v", p)
	}
	if !bytes.Equal(first.Expose(), r.Checkpoint(w.now).Expose()) {
		t.Error("checkpoints differ")
	}
}

func TestRTT(t *testing.T) {
	for _, waited := range []int64{0, 15 * ms} { // let wait before the node has looked at it
		w := newWorld(t)
		n := w.node(1)
		s, c := w.connect(n, 1, 1000, gcm)
		c.Deaf = true // answers by hand, 40 ms late
		w.run(3 * time.Second)
		k := c.LastCheck()
		w.run(40*time.Millisecond - time.Duration(w.now-k.At))
		n.waited = waited
		n.deliver(c.Addr, c.Answer(k.Tx, c.Key))
		if got := s.RTT(); got != 40*ms-waited {
			t.Logf("checks %+v", c.Checks)
			t.Errorf("RTT = %v", time.Duration(got))
		}
	}
}

// A session counts as unsettled until it has its way, and again while it looks for another one.
func TestUnsettled(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	if n.mux.Unsettled() {
		t.Error("unsettled without sessions")
	}
	s, err := n.mux.Open(7, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if !n.mux.Unsettled() {
		t.Error("settled before the client is there")
	}
	s.Close()
	if n.mux.Unsettled() {
		t.Error("a closed session is unsettled")
	}
	s, _ = w.connect(n, 1, 1000, gcm)
	w.run(3 * time.Second)
	if n.mux.Unsettled() {
		t.Error("unsettled with a connected session")
	}
	s.Restart()
	if !n.mux.Unsettled() {
		t.Error("settled amid a restart")
	}
	s.Freeze()
	if n.mux.Unsettled() {
		t.Error("a frozen session is unsettled")
	}
}
