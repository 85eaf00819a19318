package forward_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// camera adds a simulcast track with its three streams, which name themselves in their first packets only.
func (c *client) camera(ssrc uint32) (*forward.Track, []*source) {
	rids := []string{"q", "h", "f"}
	t := c.peer.NewTrack(forward.TrackConfig{MID: "1", Kind: rtp.KindVideo, Codecs: []forward.CodecMap{vp8}, RIDs: rids})
	var out []*source
	for i, rid := range rids {
		s := c.source(ssrc+uint32(i), ssrc+100+uint32(i), vp8, element{1, []byte("1")}, element{2, []byte(rid)})
		s.rtxExt = []element{{1, []byte("1")}, {3, []byte(rid)}}
		s.seq -= uint64(1000 * i)
		out = append(out, s)
	}
	return t, out
}

func TestSimulcast(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	q, h, f := s[0], s[1], s[2]
	q.push(key("q0"))  // the only one there is: it is sent
	h.push(delta("h")) // a higher one is sent from its key frame on
	q.push(delta("q1"))
	h.push(key("h0"))
	q.push(delta("q"))
	f.push(key("f0"))
	h.push(delta("h"))
	f.push(delta("f1"))
	if d := cmp.Diff([]string{"q0", "q1", "h0", "f0", "f1"}, texts(c.got)); d != "" {
		t.Error(d)
	}
	whole(t, c.got)
	for i, l := range track.Layers() {
		if l.SSRC != cameraSSRC+uint32(i) || l.RID != []string{"q", "h", "f"}[i] || l.Packets == 0 {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	// From now on the streams do not say who they are.
	for _, x := range s {
		x.ext = nil
	}
	// A lost packet of f comes by its retransmission stream, which is known by repaired-rid.
	f.next(delta("lost"))
	f.push(delta("f3"))
	a.deliver(f.repair(f.seq - 1))
	if d := cmp.Diff([]string{"q0", "q1", "h0", "f0", "f1", "f3", "lost"}, texts(c.take())); d != "" {
		t.Error(d)
	}
	// The highest falls silent. After a while the next one is sent, from its key frame on, which is asked for.
	a.pli()
	for i := range 150 {
		q.push(delta("q"))
		h.push(delta(fmt.Sprint("h", i)))
		r.run(10 * ms)
	}
	if got := c.take(); len(got) != 0 {
		t.Errorf("%q", texts(got))
	}
	if p := a.pliOf(h.ssrc); p < 2 || p > 3 {
		t.Errorf("%d PLI to the lower layer", p)
	}
	h.push(key("h1"))
	h.push(delta("h2"))
	// It comes back: until its key frame the lower one goes on.
	f.push(delta("f"))
	h.push(delta("h3"))
	if p := a.pliOf(f.ssrc); p != 1 {
		t.Errorf("%d PLI to the returned layer", p)
	}
	f.push(key("f4"))
	h.push(delta("h"))
	f.push(delta("f5"))
	if d := cmp.Diff([]string{"h1", "h2", "h3", "f4", "f5"}, texts(c.got)); d != "" {
		t.Error(d)
	}
	whole(t, c.take())
}

// When the layer that is shown has fallen silent and the key frames of the other cannot be seen, it is shown after a while.
func TestFallsDownWithoutKeyFrame(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	s[1].push(key("h"))
	for range 110 {
		s[0].push(delta("q"))
		r.run(10 * ms)
	}
	c.take()
	s[0].stream(210, delta("q"))
	if got := c.take(); len(got) != 0 {
		t.Errorf("%d packets too early", len(got))
	}
	s[0].stream(20, delta("q"))
	if got := c.take(); len(got) == 0 {
		t.Error("frozen for ever")
	}
	// But climbing waits for as long as there is a picture.
	s[1].push(delta("h"))
	for range 500 {
		s[0].push(delta("q"))
		s[1].push(delta("h"))
		r.run(10 * ms)
	}
	if got := c.take(); len(got) != 500 || string(got[0].payload[2:]) != "q" || string(got[499].payload[2:]) != "q" {
		t.Errorf("%d packets, %q", len(got), texts(got[:1]))
	}
}

func TestBinding(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	track, s := a.camera(cameraSSRC)
	drop := func(what string, b []byte) {
		t.Helper()
		before := r.router.Counters
		a.deliver(b)
		if r.router.Counters.UnknownSSRC != before.UnknownSSRC+1 || r.router.Counters.PacketsIn != before.PacketsIn {
			t.Errorf("%s: %+v", what, r.router.Counters)
		}
	}
	x := a.source(7, 8, vp8)
	drop("no mid", x.next(key("x")))
	x.ext = []element{{1, []byte("2")}, {2, []byte("q")}}
	drop("another mid", x.next(key("x")))
	x.ext = []element{{1, []byte("1")}, {2, []byte("z")}}
	drop("another rid", x.next(key("x")))
	x.ext = []element{{1, []byte("1")}}
	drop("no rid", x.next(key("x")))
	drop("retransmission before its stream", s[0].repair(1))
	s[0].push(key("q"))
	x.ext, x.pt = s[0].ext, 50
	drop("no codec of the track", x.next(key("x")))
	if l := track.Layers()[0]; l.SSRC != cameraSSRC || l.Packets != 1 {
		t.Errorf("layer %+v", l)
	}
	// A new stream takes the layer over, and its retransmissions with it.
	s[0].next(delta("lost"))
	s[0].push(delta("q"))
	a.deliver(s[0].repair(s[0].seq - 1))
	y := a.source(9, 10, vp8, s[0].ext...)
	y.rtxExt = s[0].rtxExt
	y.push(key("new"))
	s[0].rtxExt = nil
	drop("retransmission of the stream before", s[0].repair(s[0].seq))
	if l := track.Layers()[0]; l.SSRC != 9 {
		t.Errorf("layer %+v", l)
	}
	// Transport-wide feedback speaks of all of them: what is not reported counts as lost with the sender.
	if n := r.router.Counters.UnknownSSRC; n != 7 {
		t.Errorf("%d unknown", n)
	}
}

// A client that publishes the same section again sends the same streams and does not say again which is which.
func TestPublishAgain(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	leg := c.slot(1, rtp.KindVideo, vp8)
	for _, x := range s {
		x.push(key("x"))
		x.next(delta("lost"))
		x.push(delta("x"))
		a.deliver(x.repair(x.seq - 1))
		x.ext, x.rtxExt = nil, nil
	}
	track.Close(r.now)
	for _, x := range s {
		x.push(key("nobody"))
	}
	if r.router.Counters.UnknownSSRC != 3 {
		t.Errorf("counters %+v", r.router.Counters)
	}
	again, _ := a.camera(cameraSSRC)
	leg.Bind(again, r.now)
	recovered := r.router.Counters.Recovered
	for _, x := range s {
		x.push(key(fmt.Sprint(x.ssrc - cameraSSRC)))
		x.next(delta("lost"))
		x.push(delta(fmt.Sprint(x.ssrc - cameraSSRC)))
		a.deliver(x.repair(x.seq - 1))
	}
	for i, l := range again.Layers() {
		if l.SSRC != cameraSSRC+uint32(i) || l.Packets != 3 {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	if r.router.Counters.Recovered != recovered+3 {
		t.Errorf("counters %+v", r.router.Counters)
	}
	if got := texts(c.take()); got[len(got)-2] != "2" {
		t.Errorf("%q", got)
	}
}

// C3: a receiver gets the layer that fits how it shows the track, and nothing while it does not show it. What nobody can make use of is
// not asked of the publisher.
func TestViews(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	leg := c.slot(1, rtp.KindVideo, vp8)
	leg.Bind(track, r.now)
	pictures := func(n int, head func(string) []byte) {
		for range n {
			for i, x := range s {
				x.push(head(string("qhf"[i])))
			}
			r.run(20 * ms)
		}
	}
	shown := func(want string) {
		t.Helper()
		pictures(20, key)
		c.take()
		pictures(20, delta)
		got := ""
		for _, p := range c.take() {
			if x := texts([]packet{p})[0]; got == "" || got[len(got)-1:] != x {
				got += x
			}
		}
		if got != want {
			t.Errorf("%q is sent, not %q", got, want)
		}
	}
	shown("f")
	leg.SetView(forward.View{Pixels: 300 * 170}, r.now)
	shown("q")
	leg.SetView(forward.View{Pixels: 640 * 360}, r.now)
	shown("h")
	r.run(3 * sec)
	if d := cmp.Diff([]int{1}, r.demand); d != "" || track.Demand() != 1 {
		t.Error(d)
	}
	leg.SetView(forward.View{}, r.now)
	shown("")
	second := r.join(3, unreporting).slot(1, rtp.KindVideo, vp8)
	second.Bind(track, r.now)
	if d := cmp.Diff([]int{1, 2}, r.demand); d != "" {
		t.Error(d)
	}
	second.Bind(nil, r.now)
	r.run(3 * sec)
	if d := cmp.Diff([]int{1, 2, 0}, r.demand); d != "" {
		t.Error(d)
	}
	leg.SetView(forward.View{Pixels: 1280 * 720}, r.now)
	shown("f")
	if d := cmp.Diff([]int{1, 2, 0, 2}, r.demand); d != "" {
		t.Error(d)
	}
	whole(t, c.take())
}

// A camera may be smaller than others are: its key frames say it.
func TestViewsOfSmallCamera(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	leg := c.slot(1, rtp.KindVideo, vp8)
	leg.Bind(track, r.now)
	sized := func(width, height uint16, text string) []byte {
		b := []byte{0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, byte(width), byte(width >> 8), byte(height), byte(height >> 8)}
		return append(b, text...)
	}
	pictures := func(n int, whole bool) {
		for range n {
			for i, x := range s[:2] { // it has no third layer
				if whole {
					x.push(sized(320<<i, 240<<i, "qh"[i:i+1]))
				} else {
					x.push(delta("qh"[i : i+1]))
				}
			}
			r.run(20 * ms)
		}
	}
	for _, x := range []struct {
		width, height int
		want          string
	}{{320, 240, "q"}, {640, 360, "h"}, {300, 180, "q"}, {1280, 720, "h"}} {
		leg.SetView(forward.View{Pixels: uint32(x.width * x.height)}, r.now)
		pictures(20, true)
		c.take()
		pictures(20, false)
		for _, got := range texts(c.take()) {
			if got != x.want {
				t.Fatalf("%q is sent at %d x %d, want %q", got, x.width, x.height, x.want)
			}
		}
	}
	if track.Demand() != 2 {
		t.Errorf("%d is the highest layer wanted at a size that none has", track.Demand())
	}
	leg.SetView(forward.View{Pixels: 640 * 480}, r.now)
	r.run(3 * sec)
	if track.Demand() != 1 {
		t.Errorf("%d is the highest layer wanted, want 1", track.Demand())
	}
}

// Views of receivers on other shards count.
func TestMirroredViews(t *testing.T) {
	p := newPair(t, 64)
	a := p.a.join(1, theirs)
	track, s := a.camera(cameraSSRC)
	for _, x := range s {
		x.push(key("x"))
	}
	m := p.mirror(track)
	leg := p.b.join(3, unreporting).slot(1, rtp.KindVideo, vp8)
	leg.Bind(m.Track(), p.b.now)
	leg.SetView(forward.View{Pixels: 300 * 170}, p.b.now)
	for _, x := range s {
		p.push(x, key("x"))
	}
	p.run(3 * sec)
	p.run(3 * sec)
	if d := cmp.Diff([]int{0}, p.a.demand); d != "" {
		t.Error(d)
	}
	leg.SetView(forward.View{Pixels: 1280 * 720}, p.b.now)
	p.run(100 * ms)
	if d := cmp.Diff([]int{0, 2}, p.a.demand); d != "" {
		t.Error(d)
	}
}
