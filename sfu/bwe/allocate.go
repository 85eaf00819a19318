package bwe

import "math"

// Candidate is one way to send a stream: a simulcast stream with a spatial and a temporal layer.
type Candidate struct {
	Rate   uint64 // measured, bit/s
	Pixels uint32 // of a picture; 0: not known
	Frames uint8  // a second; 0: not known
}

// Stream is what there is to send to one receiver of one track, and what the receiver makes of it.
type Stream struct {
	// Candidates in the order of their rates, lowest first.
	Candidates []Candidate
	// Current is the candidate that is sent now, -1 for none. It is kept unless another is clearly better.
	Current int
	// Pixels is how large the receiver shows it; 0: not at all, and then it is not sent.
	Pixels uint32

	Audio   bool // always sent
	Screen  bool // text: sharp before smooth, and before faces
	Pinned  bool // the receiver has chosen to see it well
	Speaker bool
}

// Allocation is the sum of what Allocate has chosen.
type Allocation struct {
	Used uint64 // bit/s
	// Need is the budget with which the next step up would be made; 0: nobody would get better. It is what to tell
	// Estimator.Want.
	Need uint64
}

const (
	// maxStreams bounds the streams that are shared between; those beyond get nothing.
	maxStreams = 512

	upMargin   = 1.12 // a step up must fit with this to spare
	keepMargin = 0.95 // what is sent may grow by this before it must go down
	inertia    = 0.75 // how much worse off another must be to take from one that has
	bigEnough  = 0.7  // of the pixels shown, that a picture must have so that no larger one is of use
)

// Allocate chooses a candidate for each stream within the budget, or -1 for nothing, and writes them to out, which is as long as
// streams. It is a pure function of its arguments.
//
// Audio comes first, whatever it costs. Then each stream that is shown gets its lowest candidate, and then better ones: a screen
// until it is as good as can be shown, and behind it all others, the worst-off first by rate for each pixel shown. A pinned
// stream counts as four times as large, the speaker's as twice. What does not fit does not keep others from what does.
// A candidate larger than what is shown is of no use.
//
// A step above Current must fit with a margin, and Current is left only if it has not fitted by another: between the two
// nothing changes, so that an estimate that trembles does not make layers flap.
func Allocate(budget uint64, streams []Stream, out []int) Allocation {
	var (
		full [maxStreams / 64]uint64 // cannot go higher
		a    = allocator{left: float64(budget), need: math.Inf(1)}
	)
	for i := range streams {
		out[i] = -1
		if s := &streams[i]; s.Audio && len(s.Candidates) > 0 {
			out[i] = len(s.Candidates) - 1
			a.left -= float64(s.Candidates[out[i]].Rate)
		}
	}
	n := min(len(streams), maxStreams)
	for {
		best, bestRank := -1, math.Inf(1)
		for i := range n {
			s := &streams[i]
			if s.Audio || s.Pixels == 0 || full[i/64]>>(i%64)&1 != 0 {
				continue
			}
			if r := s.rank(out[i]); r < bestRank {
				best, bestRank = i, r
			}
		}
		if best < 0 {
			break
		}
		s := &streams[best]
		next := s.better(out[best])
		if next < 0 || !a.take(s, out[best], next, budget) {
			full[best/64] |= 1 << (best % 64)
			continue
		}
		out[best] = next
	}
	var r Allocation
	for i := range streams {
		if out[i] >= 0 {
			r.Used += streams[i].Candidates[out[i]].Rate
		}
	}
	if !math.IsInf(a.need, 1) {
		r.Need = uint64(a.need) + 1
	}
	return r
}

type allocator struct {
	left float64
	need float64
}

// take pays for a step if it fits.
func (a *allocator) take(s *Stream, from, to int, budget uint64) bool {
	cost := s.cost(to) - s.cost(from)
	if cost > a.left {
		a.need = min(a.need, float64(budget)-a.left+cost)
		return false
	}
	a.left -= cost
	return true
}

// cost is what a candidate counts against the budget.
func (s *Stream) cost(c int) float64 {
	switch {
	case c < 0:
		return 0
	case c > s.Current:
		return upMargin * float64(s.Candidates[c].Rate)
	case c == s.Current:
		return keepMargin * float64(s.Candidates[c].Rate)
	}
	return float64(s.Candidates[c].Rate)
}

// rank orders those that want to go higher: the lowest is next.
func (s *Stream) rank(c int) float64 {
	weight := float64(s.Pixels)
	if s.Speaker {
		weight *= 2
	}
	if s.Pinned {
		weight *= 4
	}
	if c < 0 {
		// Something for each comes before more for any; within that the screen, and then the largest.
		if s.Screen {
			weight *= 1e6
		}
		return -weight * s.lean(c)
	}
	r := float64(s.Candidates[c].Rate) / weight
	if s.Screen {
		// Between nothing and any face: a rate a pixel is far above this.
		r *= 1e-12
	}
	return r / s.lean(c)
}

// lean favours what is sent already.
func (s *Stream) lean(c int) float64 {
	if c < s.Current {
		return 1 / inertia
	}
	return 1
}

// better returns the next candidate that shows more than c, -1 if there is none.
func (s *Stream) better(c int) int {
	limit := s.largest()
	now := 0.0
	if c >= 0 {
		now = s.value(c)
	}
	for i := c + 1; i < len(s.Candidates); i++ {
		if s.Candidates[i].Rate > 0 && s.Candidates[i].Pixels <= limit && s.value(i) > now {
			return i
		}
	}
	return -1
}

// largest is the size beyond which pictures are of no use.
func (s *Stream) largest() uint32 {
	limit := uint32(math.MaxUint32)
	for _, c := range s.Candidates {
		if float64(c.Pixels) >= bigEnough*float64(s.Pixels) {
			limit = min(limit, c.Pixels)
		}
	}
	return limit
}

// value orders candidates by what they show.
func (s *Stream) value(i int) float64 {
	c := s.Candidates[i]
	switch {
	case c.Pixels == 0:
		return float64(c.Rate)
	case s.Screen:
		return float64(c.Pixels) + float64(c.Frames)/256
	default:
		return float64(c.Pixels) * math.Sqrt(float64(max(c.Frames, 1)))
	}
}
