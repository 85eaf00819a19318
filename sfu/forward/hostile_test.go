package forward_test

import (
	"math/rand/v2"
	"testing"

	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// busy is a shard with everything on it that RTP and RTCP can reach.
type busy struct {
	*rig
	a, c    *client
	streams []*source
}

func newBusy(t testing.TB) *busy {
	r := newRig(t)
	b := &busy{rig: r, a: r.join(1, theirs), c: r.join(2, ours)}
	track, s := b.a.camera(cameraSSRC)
	ta, sa := b.a.audio("0", micSSRC+1000)
	b.streams = append(s, sa)
	b.c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	b.c.slot(2, rtp.KindAudio, opus).Bind(ta, r.now)
	b.a.slot(3, rtp.KindVideo, vp8)
	for range 20 {
		for _, x := range s {
			x.push(key("x"), element{4, []byte{0, byte(x.seq)}})
			x.push(delta("x"))
		}
		sa.push([]byte("x"), element{6, []byte{0x80}})
	}
	b.c.take()
	return b
}

// compounds are what clients really send, to begin mutations with.
func compounds() (out [][]byte) {
	block := []pionrtcp.ReceptionReport{{SSRC: 1001, LastSenderReport: 5, Delay: 9}, {SSRC: cameraSSRC}}
	for _, ps := range [][]pionrtcp.Packet{
		{&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: 1 << 50, Reports: block}, &pionrtcp.SourceDescription{
			Chunks: []pionrtcp.SourceDescriptionChunk{{Source: 1, Items: []pionrtcp.SourceDescriptionItem{{Type: pionrtcp.SDESCNAME, Text: "x"}}}},
		}},
		{&pionrtcp.ReceiverReport{SSRC: 1, Reports: block}, nack(1001, 32761, 32765, 32790), &pionrtcp.PictureLossIndication{MediaSSRC: 1001}},
		{&pionrtcp.FullIntraRequest{FIR: []pionrtcp.FIREntry{{SSRC: 1001}}}, &pionrtcp.Goodbye{Sources: []uint32{cameraSSRC}, Reason: "x"}},
		{&pionrtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{1001}}},
		{&pionrtcp.TransportLayerCC{
			PacketStatusCount: 1, RecvDeltas: []*pionrtcp.RecvDelta{{Type: pionrtcp.TypeTCCPacketReceivedSmallDelta}},
			Header: pionrtcp.Header{Count: pionrtcp.FormatTCC, Type: pionrtcp.TypeTransportSpecificFeedback, Length: 5},
			PacketChunks: []pionrtcp.PacketStatusChunk{
				&pionrtcp.RunLengthChunk{PacketStatusSymbol: pionrtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1},
			},
		}},
	} {
		b, err := pionrtcp.Marshal(ps)
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return append(out, []byte{0x80, 204, 0, 2, 0, 0, 0, 1, 'n', 'a', 'm', 'e'}, []byte{0x80, 207, 0, 1, 0, 0, 0, 1})
}

func mutate(rnd *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range rnd.IntN(4) {
		switch rnd.IntN(4) {
		case 0:
			if len(b) > 2 {
				b = b[:1+rnd.IntN(len(b)-1)]
			}
		case 1:
			b = append(b, b[rnd.IntN(len(b)):]...)
		default:
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
	}
	return b
}

// TestHostileRTCP shows that 100 000 malformed compounds do nothing but count (row of the issue: must show 5).
func TestHostileRTCP(t *testing.T) {
	b := newBusy(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	seeds := compounds()
	for i := range 100_000 {
		var m []byte
		if i%3 == 0 {
			m = make([]byte, rnd.IntN(200))
			for j := range m {
				m[j] = byte(rnd.Uint32())
			}
			if len(m) > 4 {
				m[0], m[1], m[2], m[3] = m[0]&0x3f|0x80, 200+m[1]%8, 0, m[3]%64
			}
		} else {
			m = mutate(rnd, seeds[rnd.IntN(len(seeds))])
		}
		c := b.a
		if i%2 == 0 {
			c = b.c
		}
		b.router.RTCP(c.sess, m, b.now)
		b.now += int64(rnd.IntN(int(ms)))
		if i%100 == 0 {
			b.run(0)
			b.sent, b.moved = nil, 0
			b.a.Other, b.c.Other, b.a.seen, b.c.seen = nil, nil, 0, 0
			b.a.rtcp, b.c.rtcp, b.c.got = nil, nil, nil
		}
	}
	n := b.router.Counters
	if n.MalformedRTCP < 10_000 || n.IgnoredRTCP < 1000 || n.KeyRequestsIn < 1000 || n.NACKsIn < 1000 || n.ReceiverEstimates < 1000 || n.FeedbackIn < 1000 {
		t.Errorf("counters %+v", n)
	}
	if limit := uint64(b.now-1000*sec)/uint64(500*ms)*3 + 10; n.KeyRequestsOut > limit {
		t.Errorf("%d PLI in %d ms", n.KeyRequestsOut, (b.now-1000*sec)/ms)
	}
	b.alive(t)
}

// TestHostileRTP does the same with packets whose outside is sealed well and whose inside is not.
func TestHostileRTP(t *testing.T) {
	b := newBusy(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	ssrcs := []uint32{cameraSSRC, cameraSSRC + 1, cameraSSRC + 2, cameraSSRC + 100, cameraSSRC + 101, micSSRC + 1000, 5, 6, 7}
	pts := []uint8{96, 97, 111, 102, 50}
	before := b.router.Counters
	for i := range 100_000 {
		var ext []element
		for range rnd.IntN(4) {
			v := make([]byte, rnd.IntN(40))
			for j := range v {
				v[j] = byte(rnd.Uint32())
			}
			ext = append(ext, element{uint8(rnd.IntN(16)), v})
		}
		if rnd.IntN(3) == 0 {
			ext = append(ext, element{1, []byte{"01"[rnd.IntN(2)]}}, element{2 + uint8(rnd.IntN(2)), []byte{"qhf"[rnd.IntN(3)]}})
		}
		h := header(pts[rnd.IntN(len(pts))], rnd.Uint64(), rnd.Uint32(), ssrcs[rnd.IntN(len(ssrcs))], ext)
		h[0] |= byte(rnd.IntN(2)) << 5
		body := make([]byte, rnd.IntN(30))
		for j := range body {
			body[j] = byte(rnd.IntN(20))
		}
		p := append(h, body...)
		if rnd.IntN(4) == 0 {
			p = mutate(rnd, p)
		}
		b.packet(p)
		b.now += int64(rnd.IntN(int(ms)))
		if i%16 == 0 {
			b.router.Flush(b.now)
		}
		if i%100 == 0 {
			b.run(0)
			b.sent, b.moved = nil, 0
			b.a.Other, b.c.Other, b.a.seen, b.c.seen = nil, nil, 0, 0
			b.a.rtcp, b.c.rtcp, b.c.got = nil, nil, nil
		}
	}
	n := b.router.Counters
	if n.UnknownSSRC < 1000 || n.Padding < 100 || n.Duplicates < 100 || n.UnknownPayload < 100 || n.PacketsIn == before.PacketsIn {
		t.Errorf("counters %+v", n)
	}
	b.alive(t)
}

// packet hands the publisher's decrypted packet p to the router, as the Mux does.
func (b *busy) packet(p []byte) {
	buf := b.pool.Get()
	if buf == nil {
		return
	}
	n := copy(buf.Tail(), p)
	buf.SetLen(n)
	var h rtp.Header
	if h.Parse(buf.Bytes()) {
		b.router.RTP(b.a.sess, buf, &h, 0, b.now)
	}
	buf.Release()
}

// alive checks that the shard still works, and that nothing of it stays.
func (b *busy) alive(t testing.TB) {
	t.Helper()
	b.run(3 * sec)
	d, e := b.join(8, theirs), b.join(9, ours)
	tv, sv := d.video("1", 1, 2)
	e.slot(1, rtp.KindVideo, vp8).Bind(tv, b.now)
	sv.push(key("alive"))
	if got := e.take(); len(got) != 1 {
		t.Errorf("%d packets", len(got))
	}
	for _, c := range b.clients {
		c.peer.Close(b.now)
		c.sess.Close()
	}
	if n := b.pool.InUse(); n != 0 {
		t.Errorf("%d buffers in use", n)
	}
	b.run(5 * sec)
	if b.router.NextDeadline() != 1<<63-1 {
		t.Error("a timer is left")
	}
}

func FuzzRTCP(f *testing.F) {
	for _, b := range compounds() {
		f.Add(b)
	}
	b := newBusy(f)
	b.null = true
	f.Fuzz(func(_ *testing.T, compound []byte) {
		b.now += ms
		b.router.RTCP(b.a.sess, append([]byte(nil), compound...), b.now)
		b.router.RTCP(b.c.sess, compound, b.now)
		b.router.Tick(b.now)
	})
}

func FuzzRTP(f *testing.F) {
	f.Add(append(header(96, 3, 4, cameraSSRC, []element{{1, []byte("1")}, {2, []byte("q")}, {4, []byte{0, 1}}}), key("x")...))
	f.Add(append(header(97, 3, 4, cameraSSRC+100, []element{{1, []byte("1")}, {3, []byte("q")}}), 0, 9, 0x10, 0))
	f.Add(append(header(111, 3, 4, micSSRC+1000, []element{{6, []byte{0x80}}, {8, make([]byte, 30)}}), "opus"...))
	b := newBusy(f)
	b.null = true
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1500 {
			return
		}
		b.now += ms
		b.packet(p)
		b.router.Flush(b.now)
		b.router.Tick(b.now)
		if n := b.pool.InUse(); n > 4*1024 {
			t.Fatalf("%d buffers in use", n)
		}
	})
}

// Without buffers packets are dropped and counted by the transport; what is held for repair is not more than that.
func TestNoBuffers(t *testing.T) {
	r := newRigWith(t, 32)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("x"))
	for range 100 {
		sv.push(delta("x"))
	}
	if n := len(c.take()); n != 32 || r.mux.Counters().NoBuffer != 69 {
		t.Errorf("%d packets, %d without a buffer", n, r.mux.Counters().NoBuffer)
	}
	r.run(2 * sec) // the history lets go of what is older than a second
	if n := r.pool.InUse(); n != 0 {
		t.Errorf("%d buffers in use", n)
	}
	sv.push(key("again"))
	if n := len(c.take()); n != 1 {
		t.Errorf("%d packets", n)
	}
}

// Whatever is closed first, nothing stays.
func TestCloseLeavesNothing(t *testing.T) {
	for name, shut := range map[string]func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg){
		"track, leg, peers": func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg) { tr.Close(r.now); l.Close(r.now) },
		"leg, track, peers": func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg) { l.Close(r.now); tr.Close(r.now) },
		"publisher":         func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg) { a.peer.Close(r.now) },
		"receiver":          func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg) { c.peer.Close(r.now) },
		"sessions": func(r *rig, a, c *client, tr *forward.Track, l *forward.Leg) {
			a.sess.Close()
			c.sess.Close()
			r.run(sec)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			a, c := r.join(1, theirs), r.join(2, ours)
			tv, sv := a.video("1", cameraSSRC, cameraRTX)
			ta, sa := a.audio("0", micSSRC)
			l := c.slot(1, rtp.KindVideo, vp8)
			l.Bind(tv, r.now)
			c.slot(2, rtp.KindAudio, opus).Bind(ta, r.now)
			sv.push(key("x"), element{4, []byte{0, 1}})
			sv.next(delta("lost"))
			sv.push(delta("x"))
			sa.push([]byte("x"))
			c.report(&pionrtcp.PictureLossIndication{MediaSSRC: 1001})
			shut(r, a, c, tv, l)
			a.peer.Close(r.now)
			c.peer.Close(r.now)
			if n := r.pool.InUse(); n != 0 {
				t.Errorf("%d buffers in use", n)
			}
			if r.router.NextDeadline() != 1<<63-1 {
				t.Error("a timer is left")
			}
			if a.sess.User != nil || tv.Legs() != 0 || l.Track() != nil {
				t.Error("something holds on")
			}
			// What still comes is nobody's.
			sv.push(key("x"))
			c.reportRaw([]byte{0x80, 201, 0, 1, 0, 0, 0, 1})
			a.sess.Close()
			c.sess.Close()
			r.run(10 * sec)
		})
	}
}
