package layer

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer/layertest"
)

// TestLatency changes the target once and expects the switch in a given number of pictures: how many go by before the leg has what
// it is to have. Key frames come on request, two pictures later at the earliest, or never.
func TestLatency(t *testing.T) {
	const never = -1
	l3t3 := layertest.Publisher{Codec: rtp.AV1, Spatial: 3, Temporal: 3, Descriptor: true}
	kSVC := layertest.Publisher{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Descriptor: true}
	shift := layertest.Publisher{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Shift: true, Descriptor: true}
	vp8 := layertest.Publisher{Codec: rtp.VP8, Temporal: 3}
	l1t3 := layertest.Publisher{Codec: rtp.AV1, Temporal: 3, Descriptor: true}
	vp9 := layertest.Publisher{Codec: rtp.VP9, Spatial: 3, Temporal: 3}
	vp9Flex := layertest.Publisher{Codec: rtp.VP9, Spatial: 3, Temporal: 3, Flexible: true}
	vp9Key := layertest.Publisher{Codec: rtp.VP9, Spatial: 3, Temporal: 3, KSVC: true, Flexible: true}
	simulcast := []layertest.Publisher{vp8, vp8, vp8}
	one := func(p layertest.Publisher) []layertest.Publisher { return []layertest.Publisher{p} }
	tests := []struct {
		name     string
		pubs     []layertest.Publisher
		from, to Target
		keys     bool // requests are answered
		most     int  // pictures
		asks     bool // for a key frame
	}{
		{"vp8 temporal down", one(vp8), Target{0, 0, 2}, Target{0, 0, 0}, false, 1, false},
		{"vp8 temporal up by one", one(vp8), Target{0, 0, 0}, Target{0, 0, 1}, false, 8, false},
		{"vp8 temporal up", one(vp8), Target{0, 0, 0}, Target{0, 0, 2}, false, 8, false},
		{"av1 temporal down", one(l1t3), Target{0, 0, 2}, Target{0, 0, 0}, false, 1, false},
		{"av1 temporal up", one(l1t3), Target{0, 0, 0}, Target{0, 0, 2}, false, 4, false},
		{"svc spatial down", one(l3t3), Target{0, 2, 2}, Target{0, 0, 2}, false, 1, false},
		{"svc down in both", one(l3t3), Target{0, 2, 2}, Target{0, 1, 0}, false, 1, false},
		{"svc spatial up without a key frame", one(l3t3), Target{0, 0, 2}, Target{0, 2, 2}, false, never, true},
		{"svc spatial up", one(l3t3), Target{0, 0, 2}, Target{0, 2, 2}, true, 3, true},
		{"svc temporal up", one(l3t3), Target{0, 2, 0}, Target{0, 2, 2}, false, 4, false},
		{"k-svc spatial down without a key frame", one(kSVC), Target{0, 2, 2}, Target{0, 0, 2}, false, never, true},
		{"k-svc spatial down", one(kSVC), Target{0, 2, 2}, Target{0, 0, 2}, true, 3, true},
		{"k-svc spatial up", one(kSVC), Target{0, 0, 2}, Target{0, 2, 2}, true, 3, true},
		{"k-svc temporal up", one(kSVC), Target{0, 2, 0}, Target{0, 2, 2}, false, 4, false},
		{"k-svc shifted, spatial up", one(shift), Target{0, 1, 2}, Target{0, 2, 2}, true, 3, true},
		{"k-svc shifted, temporal down", one(shift), Target{0, 2, 2}, Target{0, 2, 1}, false, 1, false},
		{"vp9 spatial down", one(vp9), Target{0, 2, 2}, Target{0, 0, 2}, false, 1, false},
		{"vp9 temporal up", one(vp9), Target{0, 2, 0}, Target{0, 2, 2}, false, 4, false},
		{"vp9 flexible, spatial down", one(vp9Flex), Target{0, 2, 2}, Target{0, 1, 2}, false, 1, false},
		{"vp9 flexible, spatial up", one(vp9Flex), Target{0, 1, 2}, Target{0, 2, 2}, true, 3, true},
		{"vp9 k-svc, spatial down", one(vp9Key), Target{0, 2, 2}, Target{0, 0, 2}, true, 3, true},
		{"simulcast down", simulcast, Target{2, 0, 2}, Target{0, 0, 2}, true, 3, true},
		{"simulcast up", simulcast, Target{0, 0, 2}, Target{2, 0, 2}, true, 3, true},
		{"simulcast down without a key frame", simulcast, Target{2, 0, 2}, Target{0, 0, 2}, false, never, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(16) { // the change falls on every place of the pattern
				w := newWorld(t, seed, tt.pubs...)
				w.sel.SetTarget(tt.from)
				w.run(8 + int(seed))
				if got := w.sel.Current(); got != tt.from {
					t.Fatalf("seed %d: %v before the change, want %v", seed, got, tt.from)
				}
				w.answer = tt.keys
				w.sel.SetTarget(tt.to)
				asked, took, frozen := false, never, 0
				for i := range 60 {
					_, ok := w.sel.NeedsKey()
					asked = asked || ok
					before := len(w.recv.Decoded)
					w.run(1)
					if len(w.recv.Decoded) == before {
						frozen++
					} else {
						frozen = 0
					}
					if frozen > 3 { // T0 alone is every fourth picture
						t.Fatalf("seed %d: frozen for %d pictures", seed, frozen)
					}
					if took == never && w.sel.Current() == tt.to {
						took = i + 1
					}
				}
				if took > tt.most || tt.most != never && took == never {
					t.Errorf("seed %d: switched after %d pictures, want %d at most", seed, took, tt.most)
				}
				if asked != tt.asks {
					t.Errorf("seed %d: asked for a key Frame: %v", seed, asked)
				}
				w.finish(0)
			}
		})
	}
}

// TestRefresh: an encoder refreshes the upper spatial layers without a key frame (appendix A.10.1.2), and a leg goes up there.
func TestRefresh(t *testing.T) {
	for _, k := range kinds {
		if k.pubs[0].Spatial < 2 || k.pubs[0].KSVC {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(8) {
				for _, temporal := range []uint8{0, 2} {
					w := newWorld(t, seed, k.pubs...)
					w.answer = false
					w.keyAsked[0] = true
					w.sel.SetTarget(Target{0, 0, temporal})
					w.run(9 + int(seed))
					w.sel.SetTarget(Target{0, 2, 2})
					w.run(6)
					if got := w.sel.Current().Spatial; got != 0 {
						t.Fatalf("seed %d: sends S%d before the refresh", seed, got)
					}
					w.pubs[0].Refresh = true
					w.run(8)
					if got, want := w.sel.Current(), (Target{0, 2, 2}); got != want {
						t.Errorf("seed %d: sends %v after the refresh, want %v", seed, got, want)
					}
					w.finish(0)
				}
			}
		})
	}
}

// TestRefreshAtLowRate: where nothing says that the lower spatial layers may be had at a higher rate, going up to another spatial
// layer gives no higher rate either.
func TestRefreshAtLowRate(t *testing.T) {
	w := newWorld(t, 1, layertest.Publisher{Codec: rtp.VP9, Spatial: 3, Temporal: 3, Flexible: true, NoUp: true})
	w.answer = false
	w.keyAsked[0] = true
	w.sel.SetTarget(Target{0, 0, 0})
	w.run(9)
	w.sel.SetTarget(Target{0, 2, 2})
	w.pubs[0].Refresh = true
	w.run(8)
	if got, want := w.sel.Current(), (Target{0, 2, 0}); got != want {
		t.Errorf("sends %v, want %v", got, want)
	}
	w.run(400)
	if _, ok := w.sel.NeedsKey(); !ok {
		t.Error("waits for a switching point for ever")
	}
	w.finish(0)
}

// TestKSVCDownMeanwhile: until the key frame that a spatial down-switch needs, pictures are left out at once.
func TestKSVCDownMeanwhile(t *testing.T) {
	w := newWorld(t, 1, layertest.Publisher{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Descriptor: true})
	w.sel.SetTarget(Target{0, 2, 2})
	w.run(9)
	w.answer = false
	w.sel.SetTarget(Target{0, 0, 0})
	w.run(1)
	if got, want := w.sel.Current(), (Target{0, 2, 0}); got != want {
		t.Errorf("sends %v, want %v", got, want)
	}
	w.answer = true
	w.run(2)
	if got, want := w.sel.Current(), (Target{0, 0, 0}); got != want {
		t.Errorf("sends %v after the key frame, want %v", got, want)
	}
	w.finish(0)
}

// TestLayerOff: the encoder stops and resumes its highest layer, and says so with its active decode targets.
func TestLayerOff(t *testing.T) {
	for _, k := range kinds {
		if k.pubs[0].Spatial < 2 || !k.pubs[0].Descriptor {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			w := newWorld(t, 3, k.pubs...)
			w.sel.SetTarget(Target{0, Top, Top})
			var got []Target
			for _, off := range []int{0, 1, 2, 0} {
				w.pubs[0].Off = off
				w.keyAsked[0] = true
				w.run(30)
				if s, ok := w.sel.NeedsKey(); ok {
					t.Errorf("asks for a key frame of stream %d although all there is is sent", s)
				}
				got = append(got, w.sel.Current())
			}
			if diff := cmp.Diff([]Target{{0, 2, 2}, {0, 1, 2}, {0, 0, 2}, {0, 2, 2}}, got); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			w.finish(0)
			w.recv.CheckMarkers(func(int) bool { return false })
			if n := len(w.frames) - len(w.recv.Decoded); n > 0 && !k.pubs[0].KSVC {
				t.Errorf("%d frames of the highest target withheld", n)
			}
		})
	}
}

// TestRestart: a publisher's encoder is replaced, and its numbers begin anew, behind or far ahead of where they were. The
// receiver's go on.
func TestRestart(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, by := range []uint16{40000, 25000, 1000, 5000, 8192} {
				w := newWorld(t, uint64(by), k.pubs...)
				w.sel.SetTarget(Target{0, Top, 1})
				w.run(50)
				begins := w.begins
				for i, p := range w.pubs {
					p.PID = (p.PID - by) & 0x7fff
					p.Number -= by
					p.TL0 += 77
					w.keyAsked[i] = true
				}
				before, highest := len(w.recv.Decoded), w.recv.Highest
				w.run(1)
				if jump := w.recv.Highest - highest; jump > 16 {
					t.Errorf("by %d: numbers jump by %d", by, jump)
				}
				w.run(50)
				w.finish(0)
				if n := len(w.recv.Decoded) - before; n < 25 {
					t.Errorf("by %d: %d frames after the restart", by, n)
				}
				if w.begins != begins {
					t.Errorf("by %d: the leg's numbers began anew", by)
				}
			}
		})
	}
}

// TestStray: a packet of before a restart comes after it, with a number that lies ahead. Nothing stands still for it, and no key frame
// is asked for.
func TestStray(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, by := range []uint16{300, 1000, 1500, 5000} {
				w := newWorld(t, uint64(by), k.pubs...)
				w.recv.Late = true
				w.sel.SetTarget(Target{0, Top, Top})
				w.run(50)
				p := w.pubs[0]
				old := p.Next(false) // under way
				p.PID, p.Number = (p.PID-by)&0x7fff, p.Number-by
				w.keyAsked[0] = true
				w.run(2)
				w.answer = false
				before := len(w.recv.Decoded)
				for _, pk := range old {
					w.arrive(pk)
				}
				asked := false
				for range 40 {
					w.run(1)
					_, ok := w.sel.NeedsKey()
					asked = asked || ok
				}
				if n := len(w.recv.Decoded) - before; n < 40 || asked {
					t.Errorf("by %d: %d frames decoded in 40 pictures after a stray one; a key frame asked for: %v", by, n, asked)
				}
			}
		})
	}
}

// TestGap: nothing comes for longer than can be mended. A key frame is asked for at once, and the stream goes on with it.
func TestGap(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, gap := range []int{300, 700, 3000} {
				w := newWorld(t, uint64(gap), k.pubs...)
				w.sel.SetTarget(Target{0, Top, Top})
				w.run(50)
				for _, p := range w.pubs {
					for range gap {
						p.Next(false)
					}
				}
				w.answer = false
				asked := -1
				for i := range 20 {
					w.run(1)
					if _, ok := w.sel.NeedsKey(); ok && asked < 0 {
						asked = i
					}
				}
				if asked < 0 {
					t.Errorf("gap of %d pictures: no key frame asked for", gap)
				}
				w.answer = true
				before := len(w.recv.Decoded)
				w.run(40)
				if n := len(w.recv.Decoded) - before; n < 35 {
					t.Errorf("gap of %d pictures: %d frames decoded in the 40 pictures behind it", gap, n)
				}
				if s, ok := w.sel.NeedsKey(); ok {
					t.Errorf("gap of %d pictures: still asks for a key frame of stream %d", gap, s)
				}
			}
		})
	}
}

// TestLost: VP8 pictures that are lost for good, of a layer that the receiver does not get anyway, hold nothing up.
func TestLost(t *testing.T) {
	for _, temporal := range []uint8{0, 1} {
		w := newWorld(t, 5, layertest.Publisher{Codec: rtp.VP8, Temporal: 3})
		w.sel.SetTarget(Target{0, 0, temporal})
		p := w.pubs[0]
		sent := 0
		for i := range 400 {
			packets := p.Next(false)
			for _, pk := range packets {
				if pk.Frame.TID == 2 && i%3 > 0 {
					continue // never comes
				}
				w.arrive(pk)
			}
			if packets[0].Frame.TID == 0 || temporal > 0 && i%2 == 0 {
				sent++
			}
		}
		w.finish(0)
		if got := len(w.recv.Decoded); got != sent {
			t.Errorf("T%d: %d frames decoded, want %d", temporal, got, sent)
		}
	}
}
