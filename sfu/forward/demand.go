package forward

import "github.com/sotto-edge/sotto/internal/rtp"

// demandPatience is how long a layer is not wanted before its publisher is told to stop it: views change back, and a layer that
// starts costs a key frame.
const demandPatience = 2 * second

// Demand returns the highest layer that any receiver can make use of, by how large it shows the track. The lowest is always wanted:
// it is there at once for whoever comes next.
func (t *Track) Demand() int { return t.demand }

// review looks which layers are of use. What is wanted is asked for at once, and what is not any more is stopped after a while.
func (t *Track) review(now int64) {
	if t.kind != rtp.KindVideo || len(t.layers) == 1 {
		return
	}
	top := 0
	for _, l := range t.legs {
		top = max(top, l.useful())
	}
	for _, m := range t.mirrors {
		top = max(top, m.demand)
	}
	if t.tap != nil {
		top = len(t.layers) - 1
	}
	switch {
	case top == t.demand:
		t.lowerAt = 0
	case top > t.demand || t.lowerAt != 0 && now >= t.lowerAt:
		t.demand, t.lowerAt = top, 0
		if m := t.peer.mirror; m != nil {
			m.want(top)
		} else {
			t.peer.router.obs.Demand(t, top)
		}
	case t.lowerAt == 0:
		t.lowerAt = now + demandPatience
		t.peer.router.timers.sooner(t.peer, t.lowerAt)
	}
}

// useful is the lowest layer that is as large as the receiver shows it, as far as that is known.
func (l *Leg) useful() int {
	t := l.track
	if l.view.Pixels == 0 {
		return 0
	}
	for i := range t.layers {
		if 10*uint64(t.pixelsOf(i)) >= 7*uint64(l.view.Pixels) {
			return i
		}
	}
	return len(t.layers) - 1
}

// pixelsOf is the size of a layer's pictures. Where key frames did not say it, each layer is taken to be twice as wide as the one
// below, and the highest one that was ever received to be the picture as it was captured.
func (t *Track) pixelsOf(i int) uint32 {
	i = min(i, max(t.sizes-1, 0))
	for d := range t.layers {
		if j := i + d; j < len(t.layers) && t.layers[j].pixels != 0 {
			return t.layers[j].pixels >> (2 * d)
		}
		if j := i - d; j >= 0 && t.layers[j].pixels != 0 {
			return t.layers[j].pixels << (2 * d)
		}
	}
	return unknownPixels >> (2 * max(t.sizes-1-i, 0))
}

// measure takes the size of the layer's pictures from what a key frame has told.
func (l *Layer) measure(now int64) {
	if n := l.parser.Size().Pixels(); n != 0 && n != l.pixels {
		l.pixels = n
		l.track.review(now)
		for _, leg := range l.track.legs {
			leg.fresh = true
		}
	}
}
