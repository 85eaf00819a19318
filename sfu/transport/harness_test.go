package transport_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

const (
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

var clientIP = netip.MustParseAddr("198.18.1.1")

// datagram is one that the server sent.
type datagram struct {
	at   int64
	path udp.Path
	data []byte
}

// memory is an Output that keeps everything.
type memory struct {
	buf  []byte
	now  *int64
	sent []datagram
}

func (o *memory) Reserve(n int) []byte {
	o.buf = make([]byte, n)
	return o.buf
}

func (o *memory) Commit(n int, p udp.Path) {
	o.sent = append(o.sent, datagram{*o.now, p, o.buf[:n]})
}

// recorder is a Handler that keeps what it is told.
type recorder struct {
	states  []transport.State
	rtp     [][]byte
	indices []uint64
	rtcp    [][]byte
	onState func(*transport.Session, transport.State)
}

func (r *recorder) RTP(_ *transport.Session, b *pktbuf.Buf, h *rtp.Header, index uint64, _ int64) {
	r.rtp = append(r.rtp, slices.Clone(b.Bytes()[h.HeaderLen:]))
	r.indices = append(r.indices, index)
}

func (r *recorder) RTCP(_ *transport.Session, c []byte, _ int64) {
	r.rtcp = append(r.rtcp, slices.Clone(c))
}

func (r *recorder) State(s *transport.Session, st transport.State, _ int64) {
	r.states = append(r.states, st)
	if r.onState != nil {
		r.onState(s, st)
	}
}

// node is one server: a Mux with a memory around it.
type node struct {
	waited  int64 // how long what is delivered has waited
	world   *world
	ip      netip.Addr
	mux     *transport.Mux
	out     *memory
	handler *recorder
	shaker  *transporttest.Shaker
	pool    *pktbuf.Pool
	moved   int // of out.sent, delivered
	dead    bool
}

// world is a simulated network with its clock.
type world struct {
	t       testing.TB
	now     int64
	nodes   map[netip.Addr]*node
	clients map[netip.AddrPort]*client
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, now: 1000 * sec,
		nodes:   make(map[netip.Addr]*node),
		clients: make(map[netip.AddrPort]*client),
	}
}

// node adds a server. Its address is the one in the candidate.
func (w *world) node(n byte, change ...func(*transport.Config)) *node {
	w.t.Helper()
	a := netip.AddrFrom4([4]byte{198, 18, 0, n})
	nd := &node{world: w, ip: a, out: &memory{now: &w.now}, handler: &recorder{}, shaker: &transporttest.Shaker{}, pool: pktbuf.NewPool(64)}
	cfg := transport.Config{
		Node: uint16(n), Secret: transporttest.UfragKey(w.t), Pool: nd.pool, Rand: transporttest.NewSeeded(n),
		Candidates: []transport.Candidate{{Addr: netip.AddrPortFrom(a, 3478), Priority: 2130706431}},
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if nd.mux, err = transport.NewMux(cfg, nd.out, nd.handler, nd.shaker); err != nil {
		w.t.Fatal(err)
	}
	w.nodes[a] = nd
	nd.mux.Tick(w.now)
	return nd
}

// deliver puts one datagram into a node, and lets the answers run their course.
func (n *node) deliver(from netip.AddrPort, b []byte) {
	n.receive(from, n.ip, b)
	n.world.pump()
}

func (n *node) receive(from netip.AddrPort, to netip.Addr, b []byte) {
	if n.dead {
		return
	}
	n.mux.Receive([]udp.Datagram{{Data: slices.Clone(b), Path: udp.Path{Remote: from, Local: to}, Waited: n.waited}}, n.world.now)
}

// pump delivers what nodes have sent until nothing moves.
func (w *world) pump() {
	for moved := true; moved; {
		moved = false
		for _, n := range w.nodes {
			for ; n.moved < len(n.out.sent); n.moved++ {
				moved = true
				d := n.out.sent[n.moved]
				if c := w.clients[d.path.Remote]; c != nil {
					for _, b := range c.Receive(d.data, w.now) {
						n.receive(c.Addr, d.path.Local, b)
					}
				}
			}
		}
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	end := w.now + int64(d)
	for {
		next := end
		for _, n := range w.nodes {
			if !n.dead {
				next = min(next, n.mux.NextDeadline())
			}
		}
		for _, c := range w.clients {
			if c.every > 0 {
				next = min(next, max(c.next, w.now))
			}
		}
		if next < w.now {
			w.t.Fatalf("deadline %v ago", time.Duration(w.now-next))
		}
		w.now = next
		for _, n := range w.nodes {
			if !n.dead && n.mux.NextDeadline() <= w.now {
				n.mux.Tick(w.now)
			}
		}
		w.pump()
		for _, c := range w.clients {
			if c.every > 0 && c.next <= w.now {
				c.next = w.now + c.every
				c.node.deliver(c.Addr, c.Request())
			}
		}
		if next == end {
			return
		}
	}
}

// client is an ICE agent with SRTP contexts, on a node.
type client struct {
	transporttest.Agent
	w     *world
	node  *node
	every int64 // between its Binding requests, 0: it makes none
	next  int64

	send *srtp.Context
	recv *srtp.Context
	seq  uint64
}

// client adds a client that knows the server's credentials.
func (w *world) client(n *node, port uint16, server transport.LocalParams) *client {
	c := &client{
		w: w, node: n,
		Agent: transporttest.NewAgent(w.t, netip.AddrPortFrom(clientIP, port), netip.AddrPortFrom(n.ip, 3478), server),
	}
	w.clients[c.Addr] = c
	return c
}

// also is the same client at another address.
func (c *client) also(port uint16) *client {
	d := *c
	d.Addr = netip.AddrPortFrom(clientIP, port)
	d.every = 0
	d.Checks, d.Responses, d.Other = nil, nil, nil
	c.w.clients[d.Addr] = &d
	return &d
}

// connect makes a session and a client that have come to media.
func (w *world) connect(n *node, id transport.SessionID, port uint16, p srtp.Profile) (*transport.Session, *client) {
	w.t.Helper()
	s, err := n.mux.Open(id, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.client(n, port, s.Local())
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		w.t.Fatal(err)
	}
	n.deliver(c.Addr, c.Request())
	n.deliver(c.Addr, transporttest.ClientHello)
	var keys transport.Keys
	keys, c.send, c.recv = transporttest.Exchange(w.t, p, byte(port))
	n.mux.HandshakeDone(id, keys, w.now)
	if !s.Ready() || s.State() != transport.StateConnected {
		w.t.Fatalf("not connected: %v", s.State())
	}
	return s, c
}

const (
	clientSSRC = 0x11111111
	serverSSRC = 0x22222222
)

// packet seals the client's next RTP packet.
func (c *client) packet(payload string) []byte {
	c.w.t.Helper()
	st, err := c.send.Stream(clientSSRC)
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.seq++
	b, err := c.send.SealRTP(st, c.seq, header(c.seq, clientSSRC), []byte(payload))
	if err != nil {
		c.w.t.Fatal(err)
	}
	return b
}

func header(index uint64, ssrc uint32) []byte {
	h := rtp.AppendHeader(nil, false, 111, uint16(index), uint32(index*960), ssrc, false)
	return slices.Clip(h)
}

// send sends one RTP packet from the server.
func send(t testing.TB, s *transport.Session, index uint64, payload string) {
	t.Helper()
	if err := trySend(t, s, index, payload); err != nil {
		t.Fatalf("send %d: %v", index, err)
	}
}

func trySend(t testing.TB, s *transport.Session, index uint64, payload string) error {
	t.Helper()
	st, err := s.Stream(serverSSRC)
	if err != nil {
		return err
	}
	h := header(index, serverSSRC)
	b := s.ReserveRTP(len(h) + len(payload))
	return s.SendRTP(st, index, b[:copy(b, h)], []byte(payload))
}

// open decrypts a packet of the server's.
func (c *client) open(b []byte) (payload []byte, index uint64, err error) {
	var h rtp.Header
	if !h.Parse(b) {
		c.w.t.Fatal("server sent malformed RTP")
	}
	plain, index, err := c.recv.OpenRTP(nil, b, h.HeaderLen)
	if err != nil {
		return nil, 0, err
	}
	return plain[h.HeaderLen:], index, nil
}

func sequence(b []byte) uint16 { return binary.BigEndian.Uint16(b[2:]) }

// unknownAttribute makes a request with a comprehension-required attribute of no
// meaning: a SOFTWARE attribute whose type is then changed, closed by hand.
func unknownAttribute(c *client) []byte {
	b := stun.Append(nil, stun.BindingRequest, stun.TxID{9, 9})
	b.Username(c.Server.Ufrag + ":" + c.Ufrag)
	b.Software("what")
	open := b.End(nil, false)
	binary.BigEndian.PutUint16(open[len(open)-8:], 0x7777)
	mac := hmac.New(sha1.New, []byte(c.Server.Pwd))
	binary.BigEndian.PutUint16(open[2:], uint16(len(open)-stun.HeaderLen+24))
	mac.Write(open)
	open = append(open, 0, 8, 0, 20)
	return mac.Sum(open)
}
