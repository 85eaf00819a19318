package transport_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// watch checks, at the end, that every datagram of n went to an address from which an
// authenticated request had come before. Addresses enter allowed as such requests are
// made.
func watch(t *testing.T, n *node, allowed map[netip.AddrPort]bool, from int) {
	t.Helper()
	for _, d := range n.out.sent[from:] {
		if !allowed[d.path.Remote] {
			t.Fatalf("datagram %x for %v, which never authenticated", d.data, d.path.Remote)
		}
	}
}

func TestNothingForStrangers(t *testing.T) {
	w := newWorld(t)
	n := w.node(1, func(c *transport.Config) { c.PlainSTUNPerSecond = -1 })
	s, c := w.connect(n, 1, 1000, gcm)
	c.every = sec
	allowed := map[netip.AddrPort]bool{c.Addr: true}
	stranger := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 200, byte(i)}), 7000)
	}
	good := c.Request()
	foreign, err := transport.NewUfragKey([]byte("another cluster's secret"))
	if err != nil {
		t.Fatal(err)
	}
	other := w.node(9, func(c *transport.Config) { c.Secret = foreign })
	o, _ := other.mux.Open(1, w.now)

	with := func(change func(*client)) []byte {
		d := *c
		change(&d)
		return d.Request()
	}
	hostile := map[string][]byte{
		"wrong password":    with(func(d *client) { d.ServerKey = stun.NewKey("wrongpassword22charsXX") }),
		"no integrity":      with(func(d *client) { d.ServerKey = nil }),
		"the client's key":  with(func(d *client) { d.ServerKey = d.Key }),
		"guessed ufrag":     with(func(d *client) { d.Server.Ufrag = "AQAC" + d.Server.Ufrag[4:] }),
		"foreign cluster":   with(func(d *client) { d.Learn(o.Local()) }),
		"short ufrag":       with(func(d *client) { d.Server.Ufrag = "a" }),
		"empty ufrag":       with(func(d *client) { d.Server.Ufrag = "" }),
		"response":          c.Answer(c.LastCheck().Tx, c.Key),
		"forged response":   c.Answer(stun.TxID{1}, c.Key),
		"refusal":           func() []byte { d := *c; d.Refuse = 487; return d.Answer(stun.TxID{1}, c.Key) }(),
		"plain":             func() []byte { b := stun.Append(nil, stun.BindingRequest, stun.TxID{1}); return b.End(nil, true) }(),
		"unknown attribute": unknownAttribute(&client{Agent: transporttest.Agent{Server: transport.LocalParams{Ufrag: c.Server.Ufrag, Pwd: "x"}, Ufrag: "u"}}),
		"dtls":              transporttest.ClientHello,
		"rtp":               c.packet("x"),
		"rtcp":              append([]byte{0x80, 201, 0, 1}, make([]byte, 40)...),
		"channel data":      {0x40, 0, 0, 4, 1, 2, 3, 4},
		"allocate":          func() []byte { b := stun.Append(nil, 0x0003, stun.TxID{1}); return b.End(nil, true) }(),
		"indication":        func() []byte { b := stun.Append(nil, stun.BindingIndication, stun.TxID{1}); return b.End(nil, true) }(),
		"garbage":           {16, 1, 2, 3},
		"empty":             {},
	}
	from := len(n.out.sent)
	i := 0
	for name, b := range hostile {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				n.deliver(stranger(i), b)
			}
			w.run(3 * time.Second)
			watch(t, n, allowed, from)
		})
		i++
	}
	// A good request, cut or with any one bit turned, is as bad as none. (The FINGERPRINT
	// behind the integrity may become an attribute that RFC 8489 §14.5 says to ignore.)
	for i := range len(good) - 8 {
		for bit := range 8 {
			b := append([]byte(nil), good...)
			b[i] ^= 1 << bit
			n.deliver(stranger(100), b)
		}
		n.deliver(stranger(101), good[:i])
	}
	w.run(time.Minute)
	watch(t, n, allowed, from)

	if got := n.mux.Counters(); got.BadIntegrity == 0 || got.BadUfrag == 0 || got.StrayResponses == 0 || got.TURN < 3 ||
		got.ChannelData < 3 || got.STUNMalformed == 0 || got.UnknownAddress < 6 || got.DTLSUnexpected < 3 || got.PlainLimited < 3 {
		t.Errorf("counters do not tell: %+v", got)
	}
	if s.State() != transport.StateConnected {
		t.Error("the honest client suffers")
	}
	// And the good one, from anywhere, is answered there.
	d := c.also(4000)
	n.deliver(d.Addr, good)
	if len(d.Responses) != 1 {
		t.Error("authenticated request unanswered")
	}
}

// DTLS of a session leaves only for the session's own paths, and HandshakePacket cannot
// be used for a session without one.
func TestHandshakePacketNeedsPath(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	_, _ = n.mux.Open(1, w.now)
	n.mux.HandshakePacket(1, []byte{22}, w.now)
	n.mux.HandshakePacket(2, []byte{22}, w.now)
	if len(n.out.sent) != 0 || n.mux.Counters().HandshakePacketsLost != 2 {
		t.Error("sent without a path")
	}
}

func TestPlainSTUN(t *testing.T) {
	w := newWorld(t)
	n := w.node(1, func(c *transport.Config) { c.PlainSTUNPerSecond = 10 })
	c := w.client(n, 1000, transport.LocalParams{Ufrag: "none", Pwd: "none"})
	plain := func() []byte {
		b := stun.Append(nil, stun.BindingRequest, stun.TxID{1})
		return b.End(nil, false)
	}
	n.deliver(c.Addr, plain())
	if r := c.LastResponse(); r.Type != stun.BindingSuccess || r.Addr != c.Addr {
		t.Fatalf("response %+v", r)
	}
	for range 1000 {
		n.deliver(c.Addr, plain())
	}
	if got := n.mux.Counters(); got.PlainAnswered != 10 || got.PlainLimited != 991 {
		t.Errorf("answered %d, limited %d", got.PlainAnswered, got.PlainLimited)
	}
	w.run(500 * time.Millisecond)
	for range 1000 {
		n.deliver(c.Addr, plain())
	}
	if got := n.mux.Counters(); got.PlainAnswered != 15 {
		t.Errorf("answered %d", got.PlainAnswered)
	}
}

// 100 000 malformed datagrams of each kind, from a stranger and from the client itself:
// no crash, every one is counted, and the session goes on.
func TestMalformedDatagrams(t *testing.T) {
	const count = 100_000
	kinds := map[string]func(*rand.Rand, *client) []byte{
		"stun": func(r *rand.Rand, c *client) []byte { return mutate(r, c.Request()) },
		"stun header": func(r *rand.Rand, _ *client) []byte {
			b := random(r, 20+r.IntN(100))
			b[0] &= 3
			copy(b[4:], []byte{0x21, 0x12, 0xa4, 0x42})
			return b
		},
		"dtls": func(r *rand.Rand, _ *client) []byte { return first(random(r, 1+r.IntN(100)), byte(20+r.IntN(44))) },
		"channel data": func(r *rand.Rand, _ *client) []byte {
			return first(random(r, 1+r.IntN(100)), byte(64+r.IntN(16)))
		},
		"rtp":      func(r *rand.Rand, c *client) []byte { return mutate(r, c.packet("payload")) },
		"rtp junk": func(r *rand.Rand, _ *client) []byte { return first(random(r, 1+r.IntN(2500)), byte(128+r.IntN(64))) },
		"rtcp": func(r *rand.Rand, _ *client) []byte {
			b := first(random(r, 2+r.IntN(200)), 0x80)
			b[1] = byte(192 + r.IntN(32))
			return b
		},
		"anything": func(r *rand.Rand, _ *client) []byte { return random(r, r.IntN(200)) },
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.node(1)
			s, c := w.connect(n, 1, 1000, gcm)
			r := rand.New(transporttest.NewSeeded(1))
			stranger := netip.MustParseAddrPort("198.18.77.7:7")
			before := n.mux.Counters()
			for i := range count {
				from := stranger
				if i%2 == 0 {
					from = c.Addr
				}
				n.mux.Receive([]udp.Datagram{{Data: make(r, c), Path: udp.Path{Remote: from, Local: n.ip}}}, w.now)
				n.out.sent = n.out.sent[:0]
				c.Other = nil
			}
			n.moved = 0
			after := n.mux.Counters()
			if got := after.Datagrams - before.Datagrams; got != count {
				t.Errorf("%d datagrams counted", got)
			}
			if got := accounted(after) - accounted(before); got < count {
				t.Errorf("only %d of %d accounted for: %+v", got, count, after)
			}
			n.deliver(c.Addr, c.packet("fine"))
			if s.State() != transport.StateConnected || n.pool.InUse() != 0 || len(n.handler.rtp) == 0 {
				t.Errorf("session in %v, %d buffers in use", s.State(), n.pool.InUse())
			}
		})
	}
}

// accounted adds up the places where a received datagram can end.
func accounted(c transport.Counters) uint64 {
	return c.Unknown + c.ChannelData + c.TURN + c.STUNMalformed + c.STUNUnknown + c.STUNIndications + c.PlainAnswered + c.PlainLimited +
		c.BadUfrag + c.ForeignNode + c.UnknownSession + c.StaleGeneration + c.BadIntegrity + c.Requests + c.Responses + c.StrayResponses +
		c.DTLSIn + c.UnknownAddress + c.NoKeys + c.NotActive + c.RTPMalformed + c.NoBuffer + c.AuthFailed + c.Replayed + c.StreamsRefused +
		c.RTPIn + c.RTCPIn
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func first(b []byte, c byte) []byte {
	b[0] = c
	return b
}

// mutate damages a good datagram.
func mutate(r *rand.Rand, b []byte) []byte {
	switch r.IntN(4) {
	case 0:
		return b[:1+r.IntN(len(b)-1)]
	case 1:
		return append(b, random(r, 1+r.IntN(20))...)
	default:
		for range 1 + r.IntN(3) {
			b[1+r.IntN(len(b)-1)] ^= 1 << r.IntN(8)
		}
		return b
	}
}

func TestUfragCounters(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, _ := a.mux.Open(1, w.now)
	c := w.client(b, 1000, s.Local())
	b.deliver(c.Addr, c.Request()) // a member of the cluster, but not here
	s2, _ := b.mux.Open(2, w.now)
	c.Learn(s2.Local())
	s2.Close()
	b.deliver(c.Addr, c.Request()) // here, but over
	c.Learn(transport.LocalParams{Ufrag: "abcdefghijklmnopqrstuvwx", Pwd: "x"})
	b.deliver(c.Addr, c.Request())
	got := b.mux.Counters()
	if got.ForeignNode != 1 || got.UnknownSession != 1 || got.BadUfrag != 1 || len(b.out.sent) != 0 {
		t.Errorf("counters %+v", got)
	}
}

func TestMaxSessions(t *testing.T) {
	w := newWorld(t)
	n := w.node(1, func(c *transport.Config) { c.MaxSessions = 3 })
	for i := range 3 {
		if _, err := n.mux.Open(transport.SessionID(i), w.now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.mux.Open(9, w.now); err == nil {
		t.Error("fourth session opened")
	}
	if _, err := n.mux.Open(1, w.now); err == nil {
		t.Error("same session opened twice")
	}
	n.mux.Session(0).Close()
	if _, err := n.mux.Open(9, w.now); err != nil {
		t.Error(err)
	}
	n.mux.Close()
	if n.mux.Len() != 0 {
		t.Error("sessions left after Close")
	}
}

// FuzzReceive lets one stream of input play everybody: the first byte of each part says
// who sends, the second how much.
func FuzzReceive(f *testing.F) {
	part := func(who byte, b []byte) []byte {
		return append([]byte{who, byte(len(b)), byte(len(b) >> 8)}, b...)
	}
	w := newWorld(f)
	n := w.node(1)
	_, c := w.connect(n, 1, 1000, gcm)
	f.Add(append(part(0, c.Request()), part(1, c.packet("x"))...))
	f.Add(append(part(1, transporttest.ClientHello), part(2, c.Request())...))
	f.Add(part(1, append([]byte{0x80, 201, 0, 1}, make([]byte, 40)...)))
	f.Add(append(part(3, nil), part(1, c.Answer(c.LastCheck().Tx, c.Key))...))
	f.Fuzz(func(t *testing.T, in []byte) {
		w := newWorld(t)
		n := w.node(1)
		s, c := w.connect(n, 1, 1000, gcm)
		allowed := map[netip.AddrPort]bool{c.Addr: true}
		n.out.sent, n.moved = nil, 0
		for len(in) >= 3 {
			who, size := in[0], int(in[1])|int(in[2]&7)<<8
			in = in[3:]
			size = min(size, len(in))
			from := c.Addr
			if who%4 == 0 {
				from = netip.AddrPortFrom(clientIP, uint16(who)+5000)
			}
			if who%4 == 3 {
				w.run(time.Duration(size) * 10 * time.Millisecond)
			} else {
				if m := new(stun.Message); m.Parse(in[:size]) == nil && m.CheckIntegrity(c.ServerKey) {
					allowed[from] = true
				}
				n.receive(from, n.ip, in[:size])
			}
			in = in[size:]
		}
		for _, d := range n.out.sent {
			if m := new(stun.Message); m.Parse(d.data) == nil && m.Type != stun.BindingRequest && !m.HasIntegrity() {
				continue // a plain answer
			}
			if !allowed[d.path.Remote] {
				t.Fatalf("datagram for %v", d.path.Remote)
			}
		}
		if n.pool.InUse() != 0 {
			t.Fatal("buffer leaked")
		}
		s.Close()
		if n.mux.Len() != 0 {
			t.Fatal("session left behind")
		}
	})
}
