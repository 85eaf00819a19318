package forward_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// pair is two shards, the publisher's and the receivers', with the links between them.
type pair struct {
	t        testing.TB
	a, b     *rig
	down, up *forward.Link
}

func newPair(t testing.TB, slots int) *pair {
	return &pair{t: t, a: newRig(t), b: newRig(t), down: forward.NewLink(slots), up: forward.NewLink(slots)}
}

// mirror makes the mirror of tr on the receivers' shard.
func (p *pair) mirror(tr *forward.Track) *forward.Mirror {
	m := forward.NewMirror(tr, p.b.router, p.down, p.up, false)
	tr.AddMirror(m)
	return m
}

// carry brings what crosses across, until nothing moves.
func (p *pair) carry() {
	for moved := true; moved; {
		moved = false
		for _, x := range []struct {
			l  *forward.Link
			to *rig
		}{{p.down, p.b}, {p.up, p.a}} {
			if !x.l.Publish() {
				continue
			}
			moved = true
			x.l.Receive(x.to.router, x.to.mux, 1<<20, x.to.now)
			x.to.router.Flush(x.to.now)
			x.to.pump()
		}
	}
}

// run lets time pass on both.
func (p *pair) run(d int64) {
	for ; d > 0; d -= 5 * ms {
		p.carry()
		p.a.run(min(d, 5*ms))
		p.b.run(min(d, 5*ms))
		p.carry()
	}
}

// push sends one packet and brings it across.
func (p *pair) push(s *source, payload []byte, ext ...element) {
	s.push(payload, ext...)
	p.carry()
	p.run(5 * ms)
}

func TestMirror(t *testing.T) {
	p := newPair(t, 64)
	pub := p.a.join(1, theirs)
	tr, src := pub.video("1", cameraSSRC, cameraRTX)
	home := p.a.join(2, ours)
	home.slot(1, rtp.KindVideo, vp8).Bind(tr, p.a.now)
	m := p.mirror(tr)
	far := []*client{p.b.join(3, ours), p.b.join(4, ours)}
	for _, c := range far {
		c.slot(1, rtp.KindVideo, vp8).Bind(m.Track(), p.b.now)
	}
	p.carry()
	p.push(src, key("begin"), element{8, []byte("descriptor")})
	for i := range 50 {
		p.push(src, delta(fmt.Sprint(i)), element{7, []byte{byte(i)}})
	}
	want := of(home.take(), 1001)
	whole(t, want)
	if len(want) != 51 {
		t.Fatalf("%d packets on the publisher's shard", len(want))
	}
	for _, c := range far {
		got := of(c.take(), 1001)
		whole(t, got)
		if d := cmp.Diff(texts(want), texts(got)); d != "" {
			t.Error(d)
		}
		if string(got[0].Extension(14)) != "descriptor" || got[9].Extension(13)[0] != 8 {
			t.Error("extensions are not passed on")
		}
	}
	// Each packet crossed once.
	if n := p.down.Counters.Packets; n != 51 {
		t.Errorf("%d packets crossed", n)
	}

	// What a receiver has lost is sent again from here: nothing crosses, and the publisher is not asked.
	before := [2]uint64{p.down.Counters.Packets, p.up.Counters.Messages}
	far[0].report(&pionrtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 1001, Nacks: []pionrtcp.NackPair{{PacketID: want[20].SequenceNumber}}})
	p.carry()
	again := of(far[0].take(), 2001)
	if len(again) != 1 || be16(again[0].payload) != want[20].SequenceNumber || string(again[0].payload[4:]) != "19" {
		t.Errorf("sent again: %v", again)
	}
	if after := [2]uint64{p.down.Counters.Packets, p.up.Counters.Messages}; after != before || len(reports[*pionrtcp.TransportLayerNack](pub)) != 0 {
		t.Errorf("crossed: %v, before %v", after, before)
	}

	// A request for a key frame reaches the publisher, once for all who ask.
	pub.pli()
	p.run(600 * ms)
	pub.pli()
	for _, c := range far {
		c.report(&pionrtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 1001})
	}
	p.carry()
	if n := pub.pli(); n != 1 {
		t.Errorf("%d requests for a key frame", n)
	}

	// What the publisher's network loses is asked for once, and comes late to everybody.
	p.push(src, key("new"))
	src.next(delta("lost"))
	lost := src.seq
	for i := range 3 {
		p.push(src, delta(fmt.Sprint("after ", i)))
	}
	p.run(100 * ms)
	if n := reports[*pionrtcp.TransportLayerNack](pub); len(n) == 0 {
		t.Fatal("not asked for")
	}
	pub.deliver(src.repair(lost))
	p.run(100 * ms)
	for _, c := range []*client{home, far[0], far[1]} {
		got := of(c.take(), 1001)
		slices.SortFunc(got, func(x, y packet) int { return int(x.index) - int(y.index) })
		whole(t, got)
		if d := cmp.Diff([]string{"new", "lost", "after 0", "after 1", "after 2"}, texts(got)); d != "" {
			t.Error(d)
		}
	}

	// Lip sync: the publisher's clock is known here, too.
	pub.report(&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: 77 << 32, RTPTime: src.ts})
	p.run(1100 * ms)
	p.push(src, delta("x"))
	p.run(1100 * ms)
	a, b := reports[*pionrtcp.SenderReport](home), reports[*pionrtcp.SenderReport](far[0])
	if len(a) == 0 || len(b) == 0 || a[len(a)-1].NTPTime>>33 != b[len(b)-1].NTPTime>>33 || b[len(b)-1].SSRC != 1001 {
		t.Errorf("reports %v and %v", a, b)
	}

	// The end.
	far[0].take()
	tr.RemoveMirror(m, p.a.now)
	p.push(src, delta("under way"))
	m.Close(p.b.now)
	far[0].report(&pionrtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 1001})
	p.carry()
	if n := len(far[0].take()); n != 0 {
		t.Errorf("%d packets after the end", n)
	}
	pub.peer.Close(p.a.now)
	if p.a.pool.InUse() != 0 || p.b.pool.InUse() != 0 {
		t.Errorf("%d and %d buffers left", p.a.pool.InUse(), p.b.pool.InUse())
	}
}

// What finds the link full is lost at first. It is then asked for from the publisher's shard, which has it in its history.
func TestMirrorOverflow(t *testing.T) {
	p := newPair(t, 16)
	pub := p.a.join(1, theirs)
	tr, src := pub.video("1", cameraSSRC, cameraRTX)
	m := p.mirror(tr)
	c := p.b.join(3, ours)
	c.slot(1, rtp.KindVideo, vp8).Bind(m.Track(), p.b.now)
	p.push(src, key("begin"))
	for i := range 20 { // the other shard is away for a while
		src.push(delta(fmt.Sprint(i)))
	}
	if p.down.Counters.Dropped == 0 {
		t.Fatal("nothing dropped")
	}
	p.carry()
	p.push(src, delta("end"))
	p.run(500 * ms)
	got := of(c.take(), 1001)
	slices.SortFunc(got, func(x, y packet) int { return int(x.index) - int(y.index) })
	whole(t, got)
	if len(got) != 22 {
		t.Errorf("%d packets: %v", len(got), texts(got))
	}
	if n := len(reports[*pionrtcp.TransportLayerNack](pub)); n != 0 {
		t.Errorf("the publisher is asked %d times for what it did not lose", n)
	}
}

// A muted track is silent on both shards, and begins anew with a key frame.
func TestMirrorMuted(t *testing.T) {
	p := newPair(t, 64)
	pub := p.a.join(1, theirs)
	tr, src := pub.video("1", cameraSSRC, cameraRTX)
	m := p.mirror(tr)
	c := p.b.join(3, ours)
	c.slot(1, rtp.KindVideo, vp8).Bind(m.Track(), p.b.now)
	p.push(src, key("begin"))
	src.push(delta("under way"))
	m.Track().SetMuted(true, p.b.now)
	tr.SetMuted(true, p.a.now)
	p.carry()
	p.push(src, delta("secret"))
	p.run(600 * ms)
	pub.pli()
	m.Track().SetMuted(false, p.b.now)
	tr.SetMuted(false, p.a.now)
	p.carry()
	if pub.pli() == 0 {
		t.Error("no key frame asked for")
	}
	p.push(src, delta("not yet"))
	p.push(src, key("again"))
	got := of(c.take(), 1001)
	whole(t, got)
	if d := cmp.Diff([]string{"begin", "again"}, texts(got)); d != "" {
		t.Error(d)
	}
}

// A publisher that pauses its best layer says goodbye to it: legs on both shards go on with the next one.
func TestMirrorOfSimulcast(t *testing.T) {
	p := newPair(t, 64)
	pub := p.a.join(1, theirs)
	cfg := trackOf("1")
	cfg.RIDs = []string{"q", "f"}
	tr := pub.peer.NewTrack(cfg)
	low := pub.source(0x1001, 0, vp8, element{1, []byte("1")}, element{2, []byte("q")})
	high := pub.source(0x1002, 0, vp8, element{1, []byte("1")}, element{2, []byte("f")})
	m := p.mirror(tr)
	c := p.b.join(3, ours)
	c.slot(1, rtp.KindVideo, vp8).Bind(m.Track(), p.b.now)
	p.push(low, key("low"))
	p.push(high, key("high"))
	p.push(low, delta("low"))
	p.push(high, delta("high"))
	c.take()
	pub.pli()
	p.run(600 * ms)
	pub.report(&pionrtcp.Goodbye{Sources: []uint32{0x1002}})
	p.carry()
	if pub.pliOf(0x1001) == 0 {
		t.Error("no key frame of the layer that is left")
	}
	p.push(low, key("low again"))
	if d := cmp.Diff([]string{"low again"}, texts(of(c.take(), 1001))); d != "" {
		t.Error(d)
	}
}

// A datagram for another shard's session crosses whole, with its path.
func TestLinkDatagrams(t *testing.T) {
	p := newPair(t, 4)
	c := p.b.join(1, theirs)
	_, src := c.audio("0", micSSRC)
	d := udp.Datagram{Data: src.next([]byte("hello")), Path: udp.Path{Remote: c.Addr, Local: serverAddr.Addr()}}
	big := udp.Datagram{Data: make([]byte, 4096), Path: d.Path}
	p.down.Forward(&d)
	p.down.Forward(&big)
	clear(d.Data)
	p.carry()
	if n := p.b.router.Counters.PacketsIn; n != 1 || p.down.Counters.Dropped != 1 {
		t.Errorf("%d packets, %+v", n, p.down.Counters)
	}
	for range 5 {
		p.down.Forward(&d)
	}
	if p.down.Counters.Dropped != 2 || p.down.Counters.Datagrams != 5 {
		t.Errorf("%+v", p.down.Counters)
	}
}
