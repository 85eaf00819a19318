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
	downMargin = 1.03 // and what is chosen when something must go, so that it is not the next to go
	keepMargin = 0.95 // what is sent may grow by this before it must go down
	unfair     = 2    // times that another must be better off, even after it has given, to have to
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
// What is sent is kept as long as it fits, a little over the budget even; steps up must fit with a margin. It is shared out anew
// only when it no longer fits, or when somebody is so much worse off than another that it is worth the change. Between these
// nothing moves, so that an estimate that trembles does not make layers flap.
func Allocate(budget uint64, streams []Stream, out []int) Allocation {
	var ideal [maxStreams]int16
	sound, kept := 0.0, 0.0
	for i := range streams {
		s := &streams[i]
		out[i] = -1
		switch {
		case s.Audio:
			out[i] = len(s.Candidates) - 1
			sound += s.rate(out[i])
		case i < maxStreams && s.Pixels > 0:
			out[i] = s.useful(s.Current)
			kept += s.rate(out[i])
		}
	}
	n := min(len(streams), maxStreams)
	video := max(float64(budget)-sound, 0)
	switch {
	case kept > video/keepMargin:
		share(video/downMargin, streams[:n], ideal[:n])
		adopt(streams[:n], ideal[:n], out)
	default:
		share(video/upMargin, streams[:n], ideal[:n])
		if fairer(streams[:n], ideal[:n], out) {
			adopt(streams[:n], ideal[:n], out)
			break
		}
		for i := range n {
			ideal[i] = int16(out[i])
		}
		raise(video/upMargin-kept, streams[:n], ideal[:n])
		adopt(streams[:n], ideal[:n], out)
	}
	return sum(sound, streams, out)
}

// share shares out budget from nothing.
func share(budget float64, streams []Stream, level []int16) {
	for i := range level {
		level[i] = -1
	}
	raise(budget, streams, level)
}

// raise spends what is left on steps up, the worst-off first.
func raise(left float64, streams []Stream, level []int16) {
	var full [maxStreams / 64]uint64 // cannot go higher
	for {
		best, bestRank := -1, math.Inf(1)
		for i := range streams {
			s := &streams[i]
			if s.Audio || s.Pixels == 0 || full[i/64]>>(i%64)&1 != 0 {
				continue
			}
			if r := s.rank(int(level[i])); r < bestRank {
				best, bestRank = i, r
			}
		}
		if best < 0 {
			return
		}
		s, from := &streams[best], int(level[best])
		next := s.better(from)
		if next < 0 || s.rate(next)-s.rate(from) > left {
			full[best/64] |= 1 << (best % 64)
			continue
		}
		left -= s.rate(next) - s.rate(from)
		level[best] = int16(next)
	}
}

// fairer says whether ideal takes only from such as will still be far better off than somebody, whom it raises, is now.
func fairer(streams []Stream, ideal []int16, now []int) bool {
	worst, giver := math.Inf(1), math.Inf(1)
	for i := range streams {
		s := &streams[i]
		if s.Audio || s.Pixels == 0 {
			continue
		}
		if int(ideal[i]) > now[i] {
			worst = min(worst, s.rank(now[i]))
		}
		if int(ideal[i]) < now[i] {
			giver = min(giver, s.rank(int(ideal[i])))
		}
	}
	switch {
	case math.IsInf(giver, 1):
		return false
	case giver < 0: // who gets nothing has a rank below zero, and the larger it is shown the lower
		return worst < unfair*giver
	}
	return unfair*worst < giver
}

func adopt(streams []Stream, level []int16, out []int) {
	for i := range streams {
		if !streams[i].Audio {
			out[i] = int(level[i])
		}
	}
}

// sum adds up what was chosen, and what the next step would need.
func sum(sound float64, streams []Stream, out []int) Allocation {
	video, step := 0.0, math.Inf(1)
	for i := range streams {
		s := &streams[i]
		if s.Audio {
			continue
		}
		video += s.rate(out[i])
		if i >= maxStreams || s.Pixels == 0 {
			continue
		}
		if next := s.better(out[i]); next >= 0 {
			step = min(step, s.rate(next)-s.rate(out[i]))
		}
	}
	a := Allocation{Used: uint64(sound + video)}
	if !math.IsInf(step, 1) {
		a.Need = uint64(sound+(video+max(step, 0))*upMargin) + 1
	}
	return a
}

// rate is what a candidate costs, 0 for none.
func (s *Stream) rate(c int) float64 {
	if c < 0 {
		return 0
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
		return -weight
	}
	if s.Screen {
		weight *= 1e12 // behind nothing, and far before any face
	}
	return s.rate(c) / weight
}

// useful returns the highest candidate up to c that is of use.
func (s *Stream) useful(c int) int {
	limit := s.largest()
	for c = min(c, len(s.Candidates)-1); c >= 0; c-- {
		if s.Candidates[c].Rate > 0 && s.Candidates[c].Pixels <= limit {
			return c
		}
	}
	return -1
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
