package transport_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// null is an Output that forgets, as cheaply as a socket's arena.
type null struct {
	buf  [4096]byte
	n    int
	last []byte
}

func (o *null) Reserve(n int) []byte { return o.buf[:n] }
func (o *null) Commit(n int, _ udp.Path) {
	o.n++
	o.last = o.buf[:n]
}

// echo is a Handler that sends every packet back, as forwarding does.
type echo struct {
	stream *srtp.Stream
	next   uint64
	failed error
	rtcp   int
}

func (e *echo) RTP(s *transport.Session, b *pktbuf.Buf, h *rtp.Header, _ uint64, _ int64) {
	payload := b.Bytes()[h.HeaderLen:]
	hdr := s.ReserveRTP(rtp.FixedHeaderLen + len(payload))[:0]
	hdr = rtp.AppendHeader(hdr, h.Marker, h.PayloadType, uint16(e.next), h.Timestamp, serverSSRC, false)
	if err := s.SendRTP(e.stream, e.next, hdr, payload); err != nil {
		e.failed = err
	}
	e.next++
}

func (e *echo) RTCP(s *transport.Session, c []byte, _ int64) {
	e.rtcp++
	if err := s.SendRTCP(c); err != nil {
		e.failed = err
	}
}
func (e *echo) State(*transport.Session, transport.State, int64) {}

// TestNoAllocation follows packets from the sealed datagram through Receive, the handler
// and SendRTP back to a sealed datagram.
func TestNoAllocation(t *testing.T) {
	for _, p := range []srtp.Profile{srtp.AEADAES128GCM, srtp.AES128CMHMACSHA1_80} {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			n := w.node(1)
			s, c := w.connect(n, 1, 1000, p)

			// The same session behind an output and a handler that do not allocate.
			out, h := &null{}, &echo{}
			m, err := transport.NewMux(transport.Config{Node: 1, Secret: transporttest.UfragKey(t), Pool: pktbuf.NewPool(8)}, out, h, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Freeze()
			r, err := m.Restore(move(s, w.now), transport.RestoreOptions{}, w.now)
			if err != nil {
				t.Fatal(err)
			}
			if h.stream, err = r.Sender().Stream(serverSSRC); err != nil {
				t.Fatal(err)
			}
			const runs = 500
			var sealed, compound [][]byte
			for range 2 * (runs + 1) {
				sealed = append(sealed, c.packet("a payload of some length, as audio has"))
				b, err := c.send.SealRTCP(nil, []byte{0x80, 201, 0, 1, 0x11, 0x11, 0x11, 0x11})
				if err != nil {
					t.Fatal(err)
				}
				compound = append(compound, b)
			}
			batch := make([]udp.Datagram, 2)
			for i := range batch {
				batch[i].Path = udp.Path{Remote: c.Addr, Local: n.ip}
			}
			i, now := 0, w.now
			got := testing.AllocsPerRun(runs, func() {
				batch[0].Data, batch[1].Data = sealed[i], compound[i]
				i++
				now += ms
				m.Receive(batch, now)
			})
			if got != 0 {
				t.Errorf("%v allocations per packet", got)
			}
			if h.failed != nil || out.n < 2*runs || h.rtcp < runs {
				t.Fatalf("%v; %d datagrams out", h.failed, out.n)
			}
		})
	}
}

// STUN is answered without allocation as well: a flood of checks makes no garbage.
func TestNoAllocationForChecks(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	out := &null{}
	m, err := transport.NewMux(transport.Config{Node: 1, Secret: transporttest.UfragKey(t), Pool: pktbuf.NewPool(8)}, out, &echo{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	if _, err := m.Restore(move(s, w.now), transport.RestoreOptions{}, w.now); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"request": c.Request(), "guessed ufrag": bytes.Replace(c.Request(), []byte("AQ"), []byte("AR"), 1),
		"plain": {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
	} {
		batch := []udp.Datagram{{Data: b, Path: udp.Path{Remote: c.Addr, Local: n.ip}}}
		m.Receive(batch, w.now)
		if got := testing.AllocsPerRun(200, func() { m.Receive(batch, w.now) }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func TestRTCP(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	compound := []byte{0x80, 201, 0, 1, 1, 2, 3, 4}
	b, err := c.send.SealRTCP(nil, compound)
	if err != nil {
		t.Fatal(err)
	}
	n.deliver(c.Addr, b)
	if len(n.handler.rtcp) != 1 || !bytes.Equal(n.handler.rtcp[0], compound) {
		t.Fatalf("received %x", n.handler.rtcp)
	}
	n.deliver(c.Addr, b)
	if got := n.mux.Counters(); got.RTCPIn != 1 || got.Replayed != 1 {
		t.Errorf("counters %+v", got)
	}
	if err := s.SendRTCP(compound); err != nil {
		t.Fatal(err)
	}
	w.pump()
	if got, err := c.recv.OpenRTCP(nil, c.Other[0]); err != nil || !bytes.Equal(got, compound) {
		t.Errorf("client got %x, %v", got, err)
	}
}

// SendRTP takes a header from anywhere, not only from ReserveRTP.
func TestSendRTPWithoutReserve(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	st, err := s.Sender().Stream(serverSSRC)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendRTP(st, 1, header(1, serverSSRC), []byte("one")); err != nil {
		t.Fatal(err)
	}
	stale := s.ReserveRTP(100)
	hdr := stale[:copy(stale, header(2, serverSSRC))]
	if err := s.SendRTCP([]byte{0x80, 201, 0, 1, 1, 2, 3, 4}); err != nil { // takes the output over
		t.Fatal(err)
	}
	if err := s.SendRTP(st, 2, hdr, []byte("two")); err != nil {
		t.Fatal(err)
	}
	w.pump()
	for i, want := range map[int]string{0: "one", 2: "two"} {
		if got, _, err := c.open(c.Other[i]); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestMediaRefused(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 1, 1000, gcm)
	b := c.packet("once")
	n.deliver(c.Addr, b)
	n.deliver(c.Addr, b)
	bad := bytes.Clone(c.packet("bad"))
	bad[len(bad)-1] ^= 1
	n.deliver(c.Addr, bad)
	var held []*pktbuf.Buf
	for b := n.pool.Get(); b != nil; b = n.pool.Get() {
		held = append(held, b)
	}
	n.deliver(c.Addr, c.packet("no room"))
	for _, b := range held {
		b.Release()
	}
	got := n.mux.Counters()
	if got.RTPIn != 1 || got.Replayed != 1 || got.AuthFailed != 1 || got.NoBuffer != 1 {
		t.Errorf("counters %+v", got)
	}
	u, err := n.mux.Open(2, w.now)
	if err != nil {
		t.Fatal(err)
	}
	d := w.client(n, 2000, u.Local())
	n.deliver(d.Addr, d.Request())
	n.deliver(d.Addr, b)
	if got := n.mux.Counters().NoKeys; got != 1 {
		t.Errorf("NoKeys = %d", got)
	}
	if trySend(t, u, 1, "x") == nil || u.SendRTCP(make([]byte, 8)) == nil || u.Ready() {
		t.Error("sent before the handshake")
	}
	_ = s
}

// The handler may close the session it is called for.
func TestCloseFromHandler(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	n.handler.onState = func(s *transport.Session, st transport.State) {
		if st == transport.StateDisconnected || st == transport.StateFailed {
			s.Close()
		}
	}
	_, c := w.connect(n, 1, 1000, gcm)
	c.Deaf = true
	w.run(time.Minute)
	if n.mux.Len() != 0 || n.mux.NextDeadline() != transport.Never {
		t.Error("session left behind")
	}
}

func TestDTLSHandOver(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	n.deliver(c.Addr, c.Request())
	// Before the answer one ClientHello is kept, anything else dropped.
	n.deliver(c.Addr, []byte{23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	n.deliver(c.Addr, transporttest.ClientHello)
	n.deliver(c.Addr, transporttest.ClientHello)
	if len(n.shaker.Started) != 0 {
		t.Fatal("handshake without a fingerprint to check")
	}
	n.shaker.Full = true
	if err := s.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	n.shaker.Full = false
	w.pump()
	n.deliver(c.Addr, transporttest.ClientHello) // the client repeats it
	if len(n.shaker.Started) != 1 || len(n.shaker.Delivered) != 1 {
		t.Fatalf("%d started, %d delivered", len(n.shaker.Started), len(n.shaker.Delivered))
	}
	got := n.mux.Counters()
	if got.HellosBeforeAnswer != 2 || got.HandshakesDeferred != 1 || got.DTLSUnexpected != 1 {
		t.Errorf("counters %+v", got)
	}
	n.mux.HandshakePacket(1, []byte{22, 1}, w.now)
	w.pump()
	if len(c.Other) != 1 || !bytes.Equal(c.Other[0], []byte{22, 1}) {
		t.Errorf("client got %x", c.Other)
	}
	// Close: the close_notify still finds its way, for a moment.
	s.Close()
	if len(n.shaker.Ended) != 1 {
		t.Error("handshake not ended")
	}
	n.mux.HandshakePacket(1, []byte{21, 1}, w.now)
	w.pump()
	if len(c.Other) != 2 {
		t.Error("close_notify lost")
	}
	w.run(3 * time.Second)
	n.mux.HandshakePacket(1, []byte{21, 2}, w.now)
	w.pump()
	if len(c.Other) != 2 {
		t.Error("closed session still sends")
	}
	if n.mux.NextDeadline() != transport.Never {
		t.Error("timer left behind")
	}
}

// DTLS before the first nomination goes back to where it came from.
func TestDTLSBeforeNomination(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := n.mux.Open(1, w.now)
	c := w.client(n, 1000, s.Local())
	_ = s.SetRemote(c.Remote(), w.now)
	c.Deaf = true
	n.deliver(c.Addr, c.Request())
	n.deliver(c.Addr, transporttest.ClientHello)
	n.mux.HandshakePacket(1, []byte{22, 1}, w.now)
	w.pump()
	if len(c.Other) != 1 {
		t.Error("no way back before the nomination")
	}
}

func TestHandshakeEnds(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	// The peer says goodbye.
	s, c := w.connect(n, 1, 1000, gcm)
	n.mux.HandshakeClosed(1, w.now)
	if s.State() != transport.StateClosed || n.mux.Len() != 0 || len(n.shaker.Ended) != 0 {
		t.Errorf("state %v, %d sessions", s.State(), n.mux.Len())
	}
	n.deliver(c.Addr, c.Request())
	n.deliver(c.Addr, c.packet("x"))
	if len(n.handler.rtp) != 0 {
		t.Error("closed session receives")
	}
	// A handshake fails.
	u, _ := n.mux.Open(2, w.now)
	d := w.client(n, 2000, u.Local())
	_ = u.SetRemote(d.Remote(), w.now)
	n.deliver(d.Addr, d.Request())
	n.deliver(d.Addr, transporttest.ClientHello)
	n.mux.HandshakeFailed(2, w.now)
	if u.State() != transport.StateFailed {
		t.Errorf("state %v", u.State())
	}
	// Late results mean nothing.
	keys, _, _ := transporttest.Exchange(t, gcm, 1)
	n.mux.HandshakeDone(2, keys, w.now)
	n.mux.HandshakeDone(3, keys, w.now)
	n.mux.HandshakeClosed(2, w.now)
	n.mux.HandshakeFailed(2, w.now)
	if u.State() != transport.StateFailed || u.Ready() {
		t.Errorf("state %v", u.State())
	}
	want := []transport.State{transport.StateConnected, transport.StateClosed, transport.StateFailed}
	for i, st := range n.handler.states {
		if i >= len(want) || st != want[i] {
			t.Errorf("states %v", n.handler.states)
			break
		}
	}
}
