package forward_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// A leg goes on under one SSRC without a break, whatever it shows.
func TestLegGoesOn(t *testing.T) {
	r := newRig(t)
	a, b, c := r.join(1, theirs), r.join(2, theirs), r.join(3, ours)
	ta, sa := a.video("0", cameraSSRC, cameraRTX)
	tb := b.peer.NewTrack(forward.TrackConfig{
		MID: "0", Kind: rtp.KindVideo, Codecs: []forward.CodecMap{h264}, SSRCs: []uint32{cameraSSRC}, RTX: cameraRTX,
	})
	sb := b.source(cameraSSRC, cameraRTX, h264)
	sb.seq, sb.ts = 7, 7
	leg := c.slot(1, rtp.KindVideo, vp8, h264)
	leg.Bind(ta, r.now)
	sa.push(key("a0"))
	sa.stream(50, delta("a")) // its own numbers wrap in here, and so does the leg's timestamp
	leg.Bind(tb, r.now)
	sa.push(delta("not shown"))
	sb.push([]byte{0x65, 0, 'b', '0'}) // an IDR slice
	r.run(40 * ms)
	sb.stream(5, []byte{0x61, 0, 'b'})
	leg.Bind(nil, r.now)
	r.run(2 * sec)
	sb.push([]byte{0x65, 0, 'n', 'o'})
	leg.Bind(ta, r.now)
	sa.push(key("a1"))
	sa.push(delta("a2"))

	got := of(c.take(), 1001)
	if len(got) != 51+6+2 {
		t.Fatalf("%d packets: %q", len(got), texts(got))
	}
	whole(t, got)
	if got[0].index != 32761 {
		t.Errorf("first number %d", got[0].index)
	}
	if got[50].PayloadType != 96 || got[51].PayloadType != 102 || got[58].PayloadType != 96 {
		t.Errorf("payload types %d, %d, %d", got[50].PayloadType, got[51].PayloadType, got[58].PayloadType)
	}
	// The pause counts in the timestamp: 2 s and the 10 ms behind the last packet.
	if d := got[57].Timestamp - got[56].Timestamp; d < 2*90000 || d > 2*90000+1800 {
		t.Errorf("the pause of two seconds is %d ticks", d)
	}
	if leg.Stats().Packets != 59 || leg.Track() != ta || !leg.Usable() || leg.MID() != "s" || leg.Kind() != rtp.KindVideo {
		t.Errorf("leg %+v", leg.Stats())
	}
	if _, _, out := ta.Stats(); out != 53 || !ta.Live() || ta.Legs() != 1 || ta.Codec() != rtp.VP8 {
		t.Errorf("%d forwarded", out)
	}
}

func TestMuteIsNoGap(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	ta, sa := a.audio("0", micSSRC)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	la, lv := c.slot(1, rtp.KindAudio, opus), c.slot(2, rtp.KindVideo, vp8)
	la.Bind(ta, r.now)
	lv.Bind(tv, r.now)
	sa.push([]byte("before"))
	sv.push(key("before"))
	ta.SetMuted(true, r.now)
	tv.SetMuted(true, r.now)
	sa.stream(100, []byte("secret"))
	sv.stream(3000, delta("secret"))
	if got := texts(of(c.take(), 1001)); len(got) != 1 {
		t.Errorf("muted: %q", got)
	}
	if r.router.Counters.Muted != 3100 {
		t.Errorf("counters %+v", r.router.Counters)
	}
	if p := a.pli(); p > 1 {
		t.Errorf("%d PLI for a muted track", p)
	}
	ta.SetMuted(false, r.now)
	tv.SetMuted(false, r.now)
	tv.SetMuted(false, r.now)
	if p := a.pli(); p != 1 {
		t.Errorf("%d PLI at unmute", p)
	}
	sa.push([]byte("xxafter"))
	sv.push(delta("no key"))
	sv.push(key("after"))
	got := c.take()
	if d := cmp.Diff([]string{"after"}, texts(of(got, 1001))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"after"}, texts(of(got, 1002))); d != "" {
		t.Error(d)
	}
	if got[0].index != 32762 || got[1].index != 32762 {
		t.Errorf("numbers %d, %d", got[0].index, got[1].index)
	}
}

// Video starts at a key frame and nowhere else; if none is recognised for three seconds it starts all the same.
func TestStartsAtKeyFrame(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	lv := c.slot(1, rtp.KindVideo, vp8)
	sv.stream(10, delta("nobody looks"))
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI without a receiver", p)
	}
	lv.Bind(tv, r.now)
	if p := a.pli(); p != 1 {
		t.Errorf("%d PLI for a late joiner", p)
	}
	sv.stream(10, delta("waiting"))
	sv.push(key("here"))
	sv.push(delta("on"))
	if d := cmp.Diff([]string{"here", "on"}, texts(c.take())); d != "" {
		t.Error(d)
	}
	// Asked again every 500 ms while no key frame is recognised; after three seconds it goes without.
	lv.Bind(nil, r.now)
	lv.Bind(tv, r.now)
	a.pli()
	sv.stream(300, delta("hidden"))
	if got := c.take(); len(got) != 0 {
		t.Fatalf("%d packets before three seconds", len(got))
	}
	if p := a.pli(); p < 5 || p > 7 {
		t.Errorf("%d PLI in three seconds", p)
	}
	sv.stream(5, delta("hidden"))
	if got := c.take(); len(got) < 3 {
		t.Errorf("%d packets after three seconds", len(got))
	}
	// And the wish ends.
	sv.stream(400, delta("hidden"))
	a.pli()
	sv.stream(300, delta("hidden"))
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI for a picture that runs", p)
	}
	whole(t, c.take())
}

func TestExtensions(t *testing.T) {
	r := newRig(t)
	a, c, bare := r.join(1, theirs), r.join(2, ours), r.join(3, forward.Extensions{})
	tv := a.peer.NewTrack(forward.TrackConfig{MID: "1", Kind: rtp.KindVideo, Codecs: []forward.CodecMap{vp8}, RIDs: []string{"q"}})
	sv := a.source(cameraSSRC, cameraRTX, vp8, element{1, []byte("1")}, element{2, []byte("q")}, element{5, []byte{1, 2, 3}})
	ta, sa := a.audio("0", micSSRC)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	c.slot(2, rtp.KindAudio, opus).Bind(ta, r.now)
	bare.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	long := bytes.Repeat([]byte{7}, 40)
	sv.push(key("x"), element{4, []byte{9, 9}}, element{7, []byte{3}}, element{8, []byte{0xa0, 1, 2}})
	sv.push(delta("x"), element{8, long})
	sa.push([]byte("x"), element{6, []byte{0x85}})
	sa.push([]byte("x"), element{6, bytes.Repeat([]byte{1}, 200)}) // no audio level is so long
	all := func(p packet) map[uint8][]byte {
		m := make(map[uint8][]byte)
		for id, v := range p.Extensions {
			m[id] = v
		}
		return m
	}
	got := c.take()
	ast := rtp.AbsSendTime(r.now)
	for i, want := range []map[uint8][]byte{
		{9: []byte("s"), 10: {0, 1}, 11: ast[:], 13: {3}, 14: {0xa0, 1, 2}},
		{9: []byte("s"), 10: {0, 2}, 11: ast[:], 14: long},
		{9: []byte("s"), 10: {0, 3}, 11: ast[:], 12: {0x85}},
		{9: []byte("s"), 10: {0, 4}, 11: ast[:]},
	} {
		if d := cmp.Diff(want, all(got[i])); d != "" {
			t.Errorf("packet %d: %s", i, d)
		}
	}
	for _, p := range bare.take() {
		if m := all(p); len(m) != 0 {
			t.Errorf("a receiver without extensions got %v", m)
		}
	}
}

// What stands between header and payload is not the leg's: CSRCs go, marker and padding stay.
func TestHeaderAndPadding(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.seq++
	h := rtp.AppendHeader(nil, false, 96, uint16(sv.seq), 5, cameraSSRC, false)
	h[0] |= 2 | 0x20
	h = append(h, 1, 2, 3, 4, 5, 6, 7, 8)
	a.deliver(a.seal(cameraSSRC, sv.seq, h, append(key("csrc"), 0, 0, 3)))
	// Padding alone, as probes have it: no key frame, but it has a number of its own, which must not be missed.
	sv.seq++
	h = rtp.AppendHeader(nil, false, 96, uint16(sv.seq), 5, cameraSSRC, false)
	h[0] |= 0x20
	a.deliver(a.seal(cameraSSRC, sv.seq, h, []byte{0x10, 0, 0, 4}))
	sv.push(delta("next"))
	got := c.take()
	if len(got) != 3 {
		t.Fatalf("%d packets", len(got))
	}
	whole(t, got[:2])
	p := got[0]
	if p.Marker || !p.Padding || p.raw[0]&0x0f != 0 || rtp.PaddingLen(p.raw, &p.Header) != 3 || !bytes.HasPrefix(p.payload, key("csrc")) {
		t.Errorf("header %x, payload %x", p.raw[:12], p.payload)
	}
	if !got[1].Padding || rtp.PaddingLen(got[1].raw, &got[1].Header) != 4 || got[2].Padding || !got[2].Marker {
		t.Errorf("padding %v, %v", got[1].Padding, got[2].Padding)
	}
}

// A publisher that jumps in its numbers must not make the leg jump: a receiver that misses the packets between would never find
// the rollover counter again.
func TestJumpOfPublisher(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	ta, sa := a.audio("0", micSSRC)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	c.slot(2, rtp.KindAudio, opus).Bind(ta, r.now)
	for range 5 {
		sv.push(key("k"))
		sv.stream(5, delta("d"))
		sa.stream(5, []byte("x"))
		sv.seq += 30000
		sa.seq += 30000
		sv.stream(3, delta("lost"))
		sa.stream(3, []byte("y"))
	}
	got := c.take()
	whole(t, of(got, 1001))
	whole(t, of(got, 1002))
	if v, a := len(of(got, 1001)), len(of(got, 1002)); v != 5*6 || a != 5*8 {
		t.Errorf("%d packets of video, %d of audio", v, a)
	}
}

func TestReordering(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	early := sv.next(delta("before the start"))
	sv.push(key("0"))
	one, two := sv.next(delta("1")), sv.next(delta("2"))
	a.deliver(two)
	a.deliver(one, early)
	if d := cmp.Diff([]string{"0", "2", "1"}, texts(c.got)); d != "" {
		t.Error(d)
	}
	got := c.take()
	slices.SortFunc(got, func(a, b packet) int { return int(a.index) - int(b.index) })
	whole(t, got)
	if r.router.Counters.Late != 1 {
		t.Errorf("counters %+v", r.router.Counters)
	}
}

// A leg that does not take the codec, or is not agreed, sends nothing.
func TestUnusableLeg(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	leg := c.slot(1, rtp.KindVideo, h264)
	if leg.Supports(rtp.VP8) || !leg.Supports(rtp.H264) {
		t.Error("codecs")
	}
	leg.Bind(tv, r.now)
	sv.push(key("x"))
	leg.SetCodecs(nil)
	sv.push(key("x"))
	if len(c.take()) != 0 || r.router.Counters.UnknownPayload != 2 || leg.Usable() {
		t.Errorf("counters %+v", r.router.Counters)
	}
	leg.SetCodecs([]forward.CodecMap{vp8})
	sv.push(key("x"))
	if got := c.take(); len(got) != 1 {
		t.Errorf("%d packets", len(got))
	}
}
