package transport_test

import (
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/sfu/transport"
)

func controlling(b *stun.Builder) { b.ICEControlling(1) }

func naming(b *stun.Builder) {
	b.ICEControlling(1)
	b.UseCandidate()
}

// offering makes a session whose client has made the offer.
func offering(w *world, n *node) (*transport.Session, *client) {
	w.t.Helper()
	s, err := n.mux.Open(1, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	s.PeerOffers()
	c := w.client(n, 1000, s.Local())
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		w.t.Fatal(err)
	}
	return s, c
}

func TestPeerThatOfferedGivesIn(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := offering(w, n)
	n.deliver(c.Addr, c.Request(controlling))
	if r := c.LastResponse(); r.Type != stun.BindingError || r.Code != stun.CodeRoleConflict || !r.OK {
		t.Errorf("response %+v", r)
	}
	// It is checked nevertheless: one that overlooks the 487 learns its role from that.
	if len(c.Checks) == 0 || c.Checks[0].TieBreaker != 1<<64-1 {
		t.Fatalf("checks %+v", c.Checks)
	}
	w.run(200 * time.Millisecond)
	n.deliver(c.Addr, c.Request())
	if r := c.LastResponse(); r.Type != stun.BindingSuccess {
		t.Errorf("response %+v after it gave in", r)
	}
	if _, ok := s.Path(); !ok || s.Controlled() || !c.LastCheck().UseCandidate {
		t.Errorf("path %v, controlled %v, last check %+v", ok, s.Controlled(), c.LastCheck())
	}
	// Much later it claims to control once: that is no insisting.
	w.run(5 * time.Second)
	n.deliver(c.Addr, c.Request(controlling))
	if r := c.LastResponse(); r.Type != stun.BindingError || s.Controlled() {
		t.Errorf("response %+v, controlled %v", r, s.Controlled())
	}
	if got := n.mux.Counters(); got.RoleConflicts != 2 || got.RolesYielded != 0 {
		t.Errorf("conflicts %d, yielded %d", got.RoleConflicts, got.RolesYielded)
	}
}

// insist lets the client claim to control for so long.
func insist(w *world, n *node, c *client, d time.Duration, how func(*stun.Builder)) {
	for end := w.now + int64(d); w.now < end; {
		n.deliver(c.Addr, c.Request(how))
		w.run(100 * time.Millisecond)
	}
}

func TestPeerThatInsistsControls(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := offering(w, n)
	c.Deaf = true // nothing selected before it controls
	insist(w, n, c, 900*time.Millisecond, controlling)
	if s.Controlled() {
		t.Fatal("left in control at once")
	}
	c.Deaf = false
	insist(w, n, c, 300*time.Millisecond, controlling)
	if r := c.LastResponse(); r.Type != stun.BindingSuccess || !s.Controlled() {
		t.Fatalf("response %+v, controlled %v", r, s.Controlled())
	}
	checks := len(c.Checks)
	w.run(8 * time.Second)
	for _, k := range c.Checks[checks:] {
		if k.UseCandidate || k.TieBreaker != 0 {
			t.Errorf("check %+v of the controlled side", k)
		}
	}
	if len(c.Checks) == checks {
		t.Error("no checks: consent would end")
	}
	if _, ok := s.Path(); ok {
		t.Error("a path that nobody has nominated")
	}
	// It nominates one of two, and later the other.
	d := c.also(1001)
	for _, x := range []*client{c, d} {
		n.deliver(x.Addr, x.Request(controlling))
		n.deliver(x.Addr, x.Request(naming))
		w.run(50 * time.Millisecond)
		p, ok := s.Path()
		if !ok || x == c && p.Remote != c.Addr {
			t.Fatalf("path %v, nominated %v", p, x.Addr)
		}
	}
	if got := n.mux.Counters(); got.RolesYielded != 1 || got.Nominations != 0 {
		t.Errorf("%d yielded, %d nominations", got.RolesYielded, got.Nominations)
	}
	// The first one dies: the other is where it goes on.
	c.Deaf = true
	w.clients[d.Addr].every = int64(time.Second)
	w.run(10 * time.Second)
	if p, ok := s.Path(); !ok || p.Remote != d.Addr {
		t.Errorf("path %v %v, expected %v", p, ok, d.Addr)
	}
	// And a peer that gives in after all has its master back.
	n.deliver(d.Addr, d.Request())
	if s.Controlled() {
		t.Error("still controlled")
	}
}

func TestRoleIsHandedOver(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := offering(w, n)
	insist(w, n, c, 1200*time.Millisecond, controlling)
	n.deliver(c.Addr, c.Request(naming))
	if _, ok := s.Path(); !ok || !s.Controlled() {
		t.Fatalf("path %v, controlled %v", ok, s.Controlled())
	}
	cp := s.Checkpoint(w.now)
	s.Freeze()
	n.dead = true
	m := w.node(1) // the next process, at the same address
	r, err := m.mux.Restore(cp, transport.RestoreOptions{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Controlled() {
		t.Fatal("the role is lost")
	}
	m.deliver(c.Addr, c.Request(controlling))
	if got := c.LastResponse(); got.Type != stun.BindingSuccess {
		t.Errorf("response %+v", got)
	}
	if p, ok := r.Path(); !ok || p.Remote != c.Addr {
		t.Errorf("path %v %v", p, ok)
	}
}
