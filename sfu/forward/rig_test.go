package forward_test

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"testing"

	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

const (
	ms  = int64(1e6)
	sec = int64(1e9)

	cameraSSRC = 0x11110001
	cameraRTX  = 0x11110002
	micSSRC    = 0x11110003

	opusPT = 111
)

var (
	serverAddr = netip.MustParseAddrPort("198.18.0.1:3478")

	vp8  = forward.CodecMap{Codec: rtp.VP8, PayloadType: 96, RTX: 97}
	h264 = forward.CodecMap{Codec: rtp.H264, PayloadType: 102, RTX: 103}
	opus = forward.CodecMap{Codec: rtp.Opus, PayloadType: opusPT}

	// The ids of publishers, and others for receivers: what is passed on is passed on under the receiver's.
	theirs = forward.Extensions{
		MID: 1, RID: 2, RepairedRID: 3, TransportCC: 4, AbsSendTime: 5, AudioLevel: 6, Orientation: 7, Dependency: 8,
	}
	ours = forward.Extensions{MID: 9, TransportCC: 10, AbsSendTime: 11, AudioLevel: 12, Orientation: 13, Dependency: 14}
	// Of the link to a receiver with these nothing is known: it gets all there is.
	unreporting = forward.Extensions{MID: 9, AbsSendTime: 11, AudioLevel: 12, Orientation: 13, Dependency: 14}
)

// rig is one shard without a socket: a Mux, a Router and the clients around them, in simulated time.
type rig struct {
	t       testing.TB
	now     int64
	mux     *transport.Mux
	router  *forward.Router
	pool    *pktbuf.Pool
	clients map[netip.AddrPort]*client
	sent    []datagram
	moved   int
	buf     []byte
	null    bool // datagrams are forgotten
	n       int  // datagrams out

	live   []*forward.Track
	states []transport.State
	demand []int
}

type datagram struct {
	to   netip.AddrPort
	data []byte
}

func (r *rig) Reserve(n int) []byte {
	if cap(r.buf) < n {
		r.buf = make([]byte, max(n, 4096))
	}
	return r.buf[:n]
}

func (r *rig) Commit(n int, p udp.Path) {
	r.n++
	if !r.null {
		r.sent = append(r.sent, datagram{p.Remote, slices.Clone(r.buf[:n])})
	}
}

func (r *rig) Live(t *forward.Track)                        { r.live = append(r.live, t) }
func (r *rig) Demand(_ *forward.Track, top int)             { r.demand = append(r.demand, top) }
func (r *rig) State(_ *forward.Peer, state transport.State) { r.states = append(r.states, state) }

func newRig(t testing.TB) *rig { return newRigWith(t, 4096) }

func newRigWith(t testing.TB, buffers int) *rig {
	t.Helper()
	r := &rig{t: t, now: 1000 * sec, pool: pktbuf.NewPool(buffers), clients: make(map[netip.AddrPort]*client)}
	r.router = forward.New(forward.Config{Observer: r, Pool: r.pool})
	var err error
	r.mux, err = transport.NewMux(transport.Config{
		Node: 1, Secret: transporttest.UfragKey(t), Pool: r.pool, Rand: transporttest.NewSeeded(1),
		Candidates: []transport.Candidate{{Addr: serverAddr, Priority: 2130706431}},
	}, r, r.router, &transporttest.Shaker{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// packet is one that a client received.
type packet struct {
	rtp.Header
	index   uint64
	payload []byte
	raw     []byte
	at      int64
}

// client is a participant: ICE agent, SRTP contexts, and a Peer on the router.
type client struct {
	transporttest.Agent
	r     *rig
	sess  *transport.Session
	peer  *forward.Peer
	media transporttest.Media

	got  []packet
	rtcp []pionrtcp.Packet
	seen int // of Agent.Other
}

// open makes a client whose transport is not connected.
func (r *rig) open(id int, ext forward.Extensions) *client {
	r.t.Helper()
	s, err := r.mux.Open(transport.SessionID(id), r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("198.18.1.1"), uint16(10000+id))
	c := &client{Agent: transporttest.NewAgent(r.t, addr, serverAddr, s.Local()), r: r, sess: s}
	c.peer = r.router.NewPeer(s, 0xfeed0000+uint32(id), "the node", c)
	c.peer.SetExtensions(ext)
	r.clients[addr] = c
	return c
}

// connect brings the client's transport to media.
func (c *client) connect() *client {
	c.r.t.Helper()
	if err := c.sess.SetRemote(c.Remote(), c.r.now); err != nil {
		c.r.t.Fatal(err)
	}
	c.deliver(c.Request())
	c.deliver(transporttest.ClientHello)
	var keys transport.Keys
	keys, c.media = transporttest.ExchangeGCM(c.r.t, byte(c.Addr.Port()))
	c.r.mux.HandshakeDone(c.sess.ID(), keys, c.r.now)
	c.r.pump()
	if !c.sess.Ready() {
		c.r.t.Fatal("not connected")
	}
	return c
}

func (r *rig) join(id int, ext forward.Extensions) *client { return r.open(id, ext).connect() }

// deliver puts datagrams into the node as one batch.
func (c *client) deliver(data ...[]byte) {
	batch := make([]udp.Datagram, 0, len(data))
	for _, b := range data {
		batch = append(batch, udp.Datagram{Data: slices.Clone(b), Path: udp.Path{Remote: c.Addr, Local: serverAddr.Addr()}})
	}
	c.r.mux.Receive(batch, c.r.now)
	c.r.router.Flush(c.r.now)
	c.r.pump()
}

// pump delivers what the node has sent, and the answers, until nothing moves.
func (r *rig) pump() {
	for r.moved < len(r.sent) {
		d := r.sent[r.moved]
		r.moved++
		c := r.clients[d.to]
		if c == nil {
			r.t.Fatalf("datagram to %v", d.to)
		}
		for _, b := range c.Receive(d.data, r.now) {
			c.deliver(b)
		}
		c.read()
	}
}

// read opens what is not STUN.
func (c *client) read() {
	for ; c.seen < len(c.Other); c.seen++ {
		b := c.Other[c.seen]
		if rtp.IsRTCP(b) {
			plain, err := c.media.Recv.OpenRTCP(nil, b)
			if err != nil {
				c.r.t.Fatalf("RTCP: %v", err)
			}
			ps, err := pionrtcp.Unmarshal(plain)
			if err != nil {
				c.r.t.Fatalf("RTCP: %v", err)
			}
			c.rtcp = append(c.rtcp, ps...)
			continue
		}
		var p packet
		if !p.Parse(b) {
			c.r.t.Fatal("malformed RTP")
		}
		plain, index, err := c.media.Recv.OpenRTP(nil, b, p.HeaderLen)
		if err != nil {
			c.r.t.Fatalf("RTP: %v", err)
		}
		p.Parse(plain)
		p.index, p.payload, p.raw, p.at = index, plain[p.HeaderLen:], plain, c.r.now
		c.got = append(c.got, p)
	}
}

// run lets time pass.
func (r *rig) run(d int64) {
	r.t.Helper()
	for end := r.now + d; ; {
		next := min(end, r.mux.NextDeadline(), r.router.NextDeadline())
		r.now = max(r.now, next)
		if r.mux.NextDeadline() <= r.now {
			r.mux.Tick(r.now)
		}
		if r.router.NextDeadline() <= r.now {
			r.router.Tick(r.now)
		}
		if r.router.NextDeadline() <= r.now {
			r.t.Fatal("Tick left something that is due")
		}
		r.pump()
		if r.now >= end {
			return
		}
	}
}

// report sends one RTCP compound.
func (c *client) report(ps ...pionrtcp.Packet) {
	c.r.t.Helper()
	b, err := pionrtcp.Marshal(ps)
	if err != nil {
		c.r.t.Fatal(err)
	}
	c.reportRaw(b)
}

func (c *client) reportRaw(b []byte) {
	c.r.t.Helper()
	sealed, err := c.media.Send.SealRTCP(nil, b)
	if err != nil {
		c.r.t.Fatal(err)
	}
	c.deliver(sealed)
}

// take returns what came since the last take.
func (c *client) take() []packet {
	got := c.got
	c.got = nil
	return got
}

// of returns the packets of one SSRC.
func of(ps []packet, ssrc uint32) (out []packet) {
	for _, p := range ps {
		if p.SSRC == ssrc {
			out = append(out, p)
		}
	}
	return out
}

// reports returns the RTCP packets of one type that came since the last call for it.
func reports[T pionrtcp.Packet](c *client) (out []T) {
	c.r.pump()
	c.rtcp = slices.DeleteFunc(c.rtcp, func(p pionrtcp.Packet) bool {
		v, ok := p.(T)
		if ok {
			out = append(out, v)
		}
		return ok
	})
	return out
}

// element is a header extension.
type element struct {
	id uint8
	v  []byte
}

// source is one RTP stream of a client.
type source struct {
	c         *client
	ssrc, rtx uint32
	pt, rtxPT uint8
	seq       uint64
	ts        uint32
	step      uint32 // of ts
	ended     bool   // the last packet was the end of a picture
	rtxSeq    uint64
	ext       []element // in every packet
	rtxExt    []element
	history   map[uint64]sample
}

type sample struct {
	ts      uint32
	payload []byte
	ext     []element
}

func (c *client) source(ssrc, rtx uint32, m forward.CodecMap, ext ...element) *source {
	s := &source{
		c: c, ssrc: ssrc, rtx: rtx, pt: m.PayloadType, rtxPT: m.RTX, seq: 65500, ts: math.MaxUint32 - 5000, step: 3000, ended: true, rtxSeq: 1000, ext: ext,
		history: make(map[uint64]sample),
	}
	if m.Codec == rtp.Opus {
		s.step = 960
	}
	return s
}

func (c *client) seal(ssrc uint32, index uint64, hdr, payload []byte) []byte {
	c.r.t.Helper()
	st, err := c.media.Send.Stream(ssrc)
	if err != nil {
		c.r.t.Fatal(err)
	}
	b, err := c.media.Send.SealRTP(st, index, slices.Clip(hdr), payload)
	if err != nil {
		c.r.t.Fatal(err)
	}
	return b
}

func header(pt uint8, index uint64, ts, ssrc uint32, ext []element) []byte {
	h := rtp.AppendHeader(nil, true, pt, uint16(index), ts, ssrc, len(ext) > 0)
	if len(ext) == 0 {
		return h
	}
	w := rtp.BeginExtensions(h)
	for _, e := range ext {
		w.Add(e.id, e.v)
	}
	return w.End()
}

// next makes the stream's next packet, a picture or sound of its own.
func (s *source) next(payload []byte, ext ...element) []byte {
	return s.packet(payload, true, ext...)
}

// packet makes the stream's next packet. last says that the picture ends with it.
func (s *source) packet(payload []byte, last bool, ext ...element) []byte {
	if s.seq++; s.ended {
		s.ts += s.step
	}
	s.ended = last
	all := append(slices.Clone(s.ext), ext...)
	s.history[s.seq] = sample{s.ts, payload, all}
	h := header(s.pt, s.seq, s.ts, s.ssrc, all)
	if !last {
		h[1] &^= 0x80
	}
	return s.c.seal(s.ssrc, s.seq, h, payload)
}

// push sends the stream's next packet.
func (s *source) push(payload []byte, ext ...element) { s.c.deliver(s.next(payload, ext...)) }

// stream pushes n packets, 10 ms apart.
func (s *source) stream(n int, payload []byte) {
	for range n {
		s.push(payload)
		s.c.r.run(10 * ms)
	}
}

// repair makes the retransmission of a packet.
func (s *source) repair(seq uint64) []byte {
	s.rtxSeq++
	p := s.history[seq]
	return s.c.seal(s.rtx, s.rtxSeq, header(s.rtxPT, s.rtxSeq, p.ts, s.rtx, s.rtxExt), rtp.AppendRTX(nil, uint16(seq), p.payload))
}

// VP8 payloads (RFC 7741 §4.2): a descriptor with S, then the frame header with its inverse key frame bit.
func key(text string) []byte   { return append([]byte{0x10, 0x00}, text...) }
func delta(text string) []byte { return append([]byte{0x10, 0x01}, text...) }

// video adds a VP8 track and its stream.
func (c *client) video(mid string, ssrc, rtx uint32) (*forward.Track, *source) {
	t := c.peer.NewTrack(forward.TrackConfig{
		MID: mid, Kind: rtp.KindVideo, Codecs: []forward.CodecMap{vp8}, SSRCs: []uint32{ssrc}, RTX: rtx,
	})
	return t, c.source(ssrc, rtx, vp8)
}

func (c *client) audio(mid string, ssrc uint32) (*forward.Track, *source) {
	t := c.peer.NewTrack(forward.TrackConfig{MID: mid, Kind: rtp.KindAudio, Codecs: []forward.CodecMap{opus}, SSRCs: []uint32{ssrc}})
	return t, c.source(ssrc, 0, opus)
}

// slot adds a leg. Its SSRC is 1000 and a number, that of retransmissions 2000 and the number.
func (c *client) slot(n uint32, kind rtp.Kind, codecs ...forward.CodecMap) *forward.Leg {
	cfg := forward.LegConfig{
		MID: "s", Kind: kind, SSRC: 1000 + n, Start: uint16(32760), Timestamp: math.MaxUint32 - 1000,
	}
	if kind == rtp.KindVideo {
		cfg.RTXSSRC = 2000 + n
	}
	l := c.peer.NewLeg(cfg)
	l.SetCodecs(codecs)
	return l
}

// whole checks that packets are one stream without a break: numbers by one, timestamps not backwards.
func whole(t testing.TB, ps []packet) {
	t.Helper()
	for i := 1; i < len(ps); i++ {
		if ps[i].index != ps[i-1].index+1 || ps[i].SequenceNumber != uint16(ps[i].index) {
			t.Errorf("packet %d has index %d after %d", i, ps[i].index, ps[i-1].index)
		}
		if d := int32(ps[i].Timestamp - ps[i-1].Timestamp); d < 0 || d > 20*90000 {
			t.Errorf("packet %d has a timestamp %d later", i, d)
		}
	}
}

func texts(ps []packet) (out []string) {
	for _, p := range ps {
		out = append(out, string(p.payload[min(2, len(p.payload)):]))
	}
	return out
}

type pliPacket = *pionrtcp.PictureLossIndication

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// pli counts the key frame requests since the last call.
func (c *client) pli() int { return len(reports[*pionrtcp.PictureLossIndication](c)) }

// pliOf counts those for one stream, and forgets the others.
func (c *client) pliOf(ssrc uint32) (n int) {
	for _, p := range reports[*pionrtcp.PictureLossIndication](c) {
		if p.MediaSSRC == ssrc {
			n++
		}
	}
	return n
}

func trackOf(mid string) forward.TrackConfig {
	return forward.TrackConfig{MID: mid, Kind: rtp.KindVideo, Codecs: []forward.CodecMap{vp8}}
}
