package transport_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
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
)

const (
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

var (
	clientIP  = netip.MustParseAddr("198.18.1.1")
	secretKey = []byte("0123456789abcdef0123456789abcdef")
)

// seeded is a deterministic source of randomness.
type seeded struct{ *rand.ChaCha8 }

func newSeeded(n byte) seeded { return seeded{rand.NewChaCha8([32]byte{n})} }

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

// shaker is a Handshaker that only notes what it is asked.
type shaker struct {
	full      bool
	started   []transport.SessionID
	delivered [][]byte
	ended     []transport.SessionID
}

func (h *shaker) Start(id transport.SessionID, _ transport.Fingerprint) bool {
	if h.full {
		return false
	}
	h.started = append(h.started, id)
	return true
}

func (h *shaker) Deliver(_ transport.SessionID, b []byte) {
	h.delivered = append(h.delivered, slices.Clone(b))
}
func (h *shaker) End(id transport.SessionID) { h.ended = append(h.ended, id) }

// node is one server: a Mux with a memory around it.
type node struct {
	world   *world
	ip      netip.Addr
	mux     *transport.Mux
	out     *memory
	handler *recorder
	shaker  *shaker
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

func ufragKey(t testing.TB) transport.UfragKey {
	t.Helper()
	k, err := transport.NewUfragKey(secretKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// node adds a server. Its address is the one in the candidate.
func (w *world) node(n byte, change ...func(*transport.Config)) *node {
	w.t.Helper()
	a := netip.AddrFrom4([4]byte{198, 18, 0, n})
	nd := &node{world: w, ip: a, out: &memory{now: &w.now}, handler: &recorder{}, shaker: &shaker{}, pool: pktbuf.NewPool(64)}
	cfg := transport.Config{
		Node: uint16(n), Secret: ufragKey(w.t), Pool: nd.pool, Rand: newSeeded(n),
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
	n.mux.Receive([]udp.Datagram{{Data: slices.Clone(b), Path: udp.Path{Remote: from, Local: to}}}, n.world.now)
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
					for _, b := range c.receive(d.data, w.now) {
						n.receive(c.addr, d.path.Local, b)
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
				c.node.deliver(c.addr, c.request())
			}
		}
		if next == end {
			return
		}
	}
}

// check is what a client saw of one of the server's Binding requests.
type check struct {
	at           int64
	tx           stun.TxID
	useCandidate bool
	nomination   uint32
	username     string
	tieBreaker   uint64
}

// client is an ICE agent, controlled, with one address.
type client struct {
	w          *world
	node       *node
	addr       netip.AddrPort
	ufrag, pwd string
	key        *stun.Key
	server     transport.LocalParams
	serverKey  *stun.Key
	priority   uint32
	deaf       bool // answers nothing
	refuse     int  // answers with that code
	every      int64
	next       int64
	txs        byte

	checks    []check
	responses []response
	other     [][]byte // not STUN
	send      *srtp.Context
	recv      *srtp.Context
	seq       uint64
}

type response struct {
	typ  stun.Type
	tx   stun.TxID
	code int
	addr netip.AddrPort
	ok   bool // integrity
	raw  []byte
}

// client adds a client that knows the server's credentials.
func (w *world) client(n *node, port uint16, server transport.LocalParams) *client {
	c := &client{
		w: w, node: n, addr: netip.AddrPortFrom(clientIP, port),
		ufrag: "clnt", pwd: "clientpassword22charsX", priority: 1845494271,
	}
	c.key = stun.NewKey(c.pwd)
	c.learn(server)
	w.clients[c.addr] = c
	return c
}

func (c *client) learn(server transport.LocalParams) {
	c.server, c.serverKey = server, stun.NewKey(server.Pwd)
}

// also is the same client at another address.
func (c *client) also(port uint16) *client {
	d := *c
	d.addr = netip.AddrPortFrom(clientIP, port)
	d.every = 0
	d.checks, d.responses, d.other = nil, nil, nil
	c.w.clients[d.addr] = &d
	return &d
}

func (c *client) remote() transport.RemoteParams {
	return transport.RemoteParams{Ufrag: c.ufrag, Pwd: c.pwd, Fingerprint: transport.FingerprintOf([]byte("certificate"))}
}

// request makes a Binding request; change may add to it before it is closed.
func (c *client) request(change ...func(*stun.Builder)) []byte {
	c.txs++
	b := stun.Append(nil, stun.BindingRequest, stun.TxID{byte(c.addr.Port()), byte(c.addr.Port() >> 8), c.txs})
	b.Username(c.server.Ufrag + ":" + c.ufrag)
	b.Priority(c.priority)
	b.ICEControlled(7)
	for _, f := range change {
		f(&b)
	}
	return b.End(c.serverKey, true)
}

func (c *client) receive(b []byte, now int64) (replies [][]byte) {
	if udp.Classify(b) != udp.KindSTUN {
		c.other = append(c.other, slices.Clone(b))
		return nil
	}
	var m stun.Message
	if err := m.Parse(b); err != nil {
		c.w.t.Errorf("server sent malformed STUN: %v", err)
		return nil
	}
	if m.Type != stun.BindingRequest {
		r := response{typ: m.Type, tx: m.Tx, ok: m.CheckIntegrity(c.serverKey), raw: slices.Clone(b)}
		r.code, _ = m.ErrorCode()
		r.addr, _ = m.XORMappedAddress()
		c.responses = append(c.responses, r)
		return nil
	}
	k := check{at: now, tx: m.Tx, useCandidate: m.UseCandidate()}
	k.nomination, _ = m.Nomination()
	k.tieBreaker, _ = m.ICEControlling()
	u, _ := m.Username()
	k.username = string(u)
	if !m.CheckIntegrity(c.key) {
		c.w.t.Errorf("check with wrong integrity for %q", u)
	}
	c.checks = append(c.checks, k)
	if c.deaf {
		return nil
	}
	return [][]byte{c.answer(m.Tx, c.key)}
}

func (c *client) answer(tx stun.TxID, k *stun.Key) []byte {
	if c.refuse != 0 {
		b := stun.Append(nil, stun.BindingError, tx)
		b.ErrorCode(c.refuse, "no")
		return b.End(k, true)
	}
	b := stun.Append(nil, stun.BindingSuccess, tx)
	b.XORMappedAddress(netip.AddrPortFrom(c.node.ip, 3478))
	return b.End(k, true)
}

func (c *client) last() check {
	if len(c.checks) == 0 {
		return check{}
	}
	return c.checks[len(c.checks)-1]
}

func (c *client) lastResponse() response {
	if len(c.responses) == 0 {
		return response{}
	}
	return c.responses[len(c.responses)-1]
}

// exchange gives both sides the keys of a handshake that never was.
func exchange(t testing.TB, p srtp.Profile, seed byte) (server transport.Keys, send, recv *srtp.Context) {
	t.Helper()
	material := make([]byte, p.ExporterLen())
	_, _ = newSeeded(seed).Read(material)
	clientKeys, serverKeys, err := srtp.SplitExported(p, material)
	if err != nil {
		t.Fatal(err)
	}
	if send, err = srtp.New(clientKeys, srtp.Sender); err != nil {
		t.Fatal(err)
	}
	if recv, err = srtp.New(serverKeys, srtp.Receiver); err != nil {
		t.Fatal(err)
	}
	return transport.Keys{Local: serverKeys, Remote: clientKeys}, send, recv
}

var clientHello = []byte{
	22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12,
	1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
}

// connect makes a session and a client that have come to media.
func (w *world) connect(n *node, id transport.SessionID, port uint16, p srtp.Profile) (*transport.Session, *client) {
	w.t.Helper()
	s, err := n.mux.Open(id, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.client(n, port, s.Local())
	if err := s.SetRemote(c.remote(), w.now); err != nil {
		w.t.Fatal(err)
	}
	n.deliver(c.addr, c.request())
	n.deliver(c.addr, clientHello)
	var keys transport.Keys
	keys, c.send, c.recv = exchange(w.t, p, byte(port))
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
	b.Username(c.server.Ufrag + ":" + c.ufrag)
	b.Software("what")
	open := b.End(nil, false)
	binary.BigEndian.PutUint16(open[len(open)-8:], 0x7777)
	mac := hmac.New(sha1.New, []byte(c.server.Pwd))
	binary.BigEndian.PutUint16(open[2:], uint16(len(open)-stun.HeaderLen+24))
	mac.Write(open)
	open = append(open, 0, 8, 0, 20)
	return mac.Sum(open)
}
