package transport_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// shared is what the shards of one port know of each other: whose an address is.
type shared struct {
	owners map[netip.AddrPort]*node
	nodes  []*node
}

// side is one shard's view of it.
type side struct {
	*shared
	at int // in nodes
}

func (s *side) me() *node { return s.nodes[s.at] }

func (s *side) Claim(a netip.AddrPort) bool {
	if o := s.owners[a]; o != nil && o != s.me() {
		o.mux.Yield(a, o.world.now)
		return false
	}
	s.owners[a] = s.me()
	return true
}

func (s *side) Release(a netip.AddrPort) {
	if s.owners[a] == s.me() {
		delete(s.owners, a)
	}
}

func (s *side) pass(to *node, d *udp.Datagram) bool {
	if to == nil || to == s.me() {
		return false
	}
	to.mux.Receive([]udp.Datagram{{Data: slices.Clone(d.Data), Path: d.Path}}, to.world.now)
	return true
}

func (s *side) PassAddress(d *udp.Datagram) bool { return s.pass(s.owners[d.Path.Remote], d) }

func (s *side) PassSession(id transport.SessionID, d *udp.Datagram) bool {
	for _, n := range s.nodes {
		if n.mux.Session(id) != nil {
			return s.pass(n, d)
		}
	}
	return false
}

// twoShards makes two Muxes on one port.
func twoShards(t *testing.T) (*world, *shared, *node, *node) {
	w := newWorld(t)
	all := &shared{owners: make(map[netip.AddrPort]*node)}
	for i := range 2 {
		all.nodes = append(all.nodes, w.node(byte(i+1), func(c *transport.Config) { c.Neighbours = &side{all, i} }))
	}
	return w, all, all.nodes[0], all.nodes[1]
}

// A client whose datagrams all come to the wrong shard is served like any other, by the shard that has its session.
func TestWrongShard(t *testing.T) {
	w, all, right, wrong := twoShards(t)
	s, err := right.mux.Open(1, w.now)
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(right, 1000, s.Local())
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	send := func(b []byte) {
		wrong.receive(c.Addr, right.ip, b)
		for moved := true; moved; { // what the client answers goes the same way
			moved = false
			for ; right.moved < len(right.out.sent); right.moved++ {
				moved = true
				for _, a := range c.Receive(right.out.sent[right.moved].data, w.now) {
					wrong.receive(c.Addr, right.ip, a)
				}
			}
		}
	}
	send(c.Request())
	send(transporttest.ClientHello)
	var keys transport.Keys
	keys, c.send, c.recv = transporttest.Exchange(t, gcm, 1)
	right.mux.HandshakeDone(1, keys, w.now)
	send(c.packet("hello"))
	if s.State() != transport.StateConnected || len(right.handler.rtp) != 1 || string(right.handler.rtp[0]) != "hello" {
		t.Fatalf("%v, %q", s.State(), right.handler.rtp)
	}
	a, b := right.mux.Counters(), wrong.mux.Counters()
	if a.Passed != 0 || b.Passed != b.Datagrams || b.Passed != a.Datagrams || b.UnknownAddress+b.UnknownSession+b.DTLSUnexpected+b.StrayResponses != 0 {
		t.Errorf("%d passed: %+v", a.Passed, b)
	}
	if len(wrong.out.sent) != 0 {
		t.Error("the wrong shard sends")
	}
	// Strangers are nobody's on either.
	stranger := netip.AddrPortFrom(clientIP, 9)
	wrong.receive(stranger, right.ip, c.packet("who"))
	wrong.receive(stranger, right.ip, transporttest.ClientHello)
	b = wrong.mux.Counters()
	if b.UnknownAddress != 1 || b.DTLSUnexpected != 1 || b.Passed != a.Datagrams {
		t.Errorf("strangers: %+v", b)
	}
	// Nor is the client, once it is gone.
	s.Close()
	if len(all.owners) != 0 {
		t.Errorf("%d addresses are still somebody's", len(all.owners))
	}
	wrong.receive(c.Addr, right.ip, c.packet("late"))
	wrong.receive(c.Addr, right.ip, c.Request())
	if after := wrong.mux.Counters(); after.UnknownAddress != 2 || after.ForeignNode != 1 {
		t.Errorf("after the end: %+v", after)
	}
}

// A participant on one shard who forges the address of one on another does not get that one's packets, until the address is long
// silent.
func TestAddressIsNotStolenAcrossShards(t *testing.T) {
	w, all, x, y := twoShards(t)
	_, victim := w.connect(x, 1, 1000, gcm)
	thief, err := y.mux.Open(2, w.now)
	if err != nil {
		t.Fatal(err)
	}
	forged := *victim
	forged.Learn(thief.Local())
	y.receive(victim.Addr, y.ip, forged.Request())
	if len(y.out.sent) != 0 || y.mux.Counters().PathConflicts != 1 || all.owners[victim.Addr] != x {
		t.Error("forged address accepted")
	}
	victim.Deaf = true
	w.run(6 * time.Second)
	y.receive(victim.Addr, y.ip, forged.Request()) // makes the other yield
	y.receive(victim.Addr, y.ip, forged.Request())
	if y.mux.Counters().PathConflicts != 2 || all.owners[victim.Addr] != y {
		t.Errorf("%+v", y.mux.Counters())
	}
}
