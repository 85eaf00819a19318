// Package quality says how good a sound or a picture arrives, as a number that people would give it, from what the node knows of its
// way: docs/quality.md has the figures and where they come from.
//
// It promises that a score lies between 1 (bad) and 5 (nothing to complain of), that it falls when any figure gets worse, and that a
// grade does not flicker. It measures nothing itself, and holds no clock.
package quality

import (
	"math"
	"time"
)

// Sample is what is known of one stream over one interval.
type Sample struct {
	Sound bool
	// Loss is the share of packets that never came, repairs counted as having come.
	Loss float64
	// RoundTrip and Jitter are of the way between the node and the participant; 0: not known.
	RoundTrip, Jitter time.Duration
	// Stalled is the share of the interval in which nothing came although something should have.
	Stalled float64
	// KeyRequests are how often the receiver asked for a key frame: each time its picture stood still.
	KeyRequests int
	// Halvings says by how much the picture is smaller than would be of use: 1 is half as wide and half as high.
	Halvings float64
	// Slower says by how much there are fewer pictures a second than were sent: 1 is half as many.
	Slower float64
}

// Score returns what the sample is worth.
func (s Sample) Score() float64 {
	score := 0.0
	if s.Sound {
		score = s.sound()
	} else {
		score = s.picture()
	}
	// Whatever has come in between, nothing came for so long: a quarter of the time is bad already.
	score -= 8 * share(s.Stalled)
	return min(max(score, 1), 5)
}

// bpl is how well the codec bears loss (Bpl of ITU-T G.107): Opus conceals, and often has the lost packet in the next one.
const bpl = 15

// sound is the E-model (ITU-T G.107) with what a packet network adds to its defaults: delay and loss. Its result for a perfect line,
// 4.41, is stretched to 5.
func (s Sample) sound() float64 {
	const (
		perfect = 93.2 // R of the defaults
		buffer  = 40   // milliseconds that a receiver holds packets back for at least, and a packet lasts
		knee    = 177.3
	)
	delay := milliseconds(s.RoundTrip)/2 + 2*milliseconds(s.Jitter) + buffer
	id := 0.024 * delay
	if delay > knee {
		id += 0.11 * (delay - knee)
	}
	percent := 100 * share(s.Loss)
	r := perfect - id - 95*percent/(percent+bpl)
	return 1 + (mos(r)-1)*4/(mos(perfect)-1)
}

// mos is the mean opinion score of a rating (ITU-T G.107 annex B).
func mos(r float64) float64 {
	r = min(max(r, 0), 100)
	return 1 + 0.035*r + r*(r-60)*(100-r)*7e-6
}

// picture takes from 5 what people mind: a picture that breaks or stands still, that is smaller than its place, that is late.
func (s Sample) picture() float64 {
	score := 5.0
	score -= min(2.5, 25*share(s.Loss))
	score -= min(2, 0.7*float64(max(0, s.KeyRequests)))
	score -= min(2, max(0, s.Halvings))
	score -= min(1, 0.4*max(0, s.Slower))
	score -= min(1.5, max(0, milliseconds(s.RoundTrip)-250)/300)
	return score
}

func milliseconds(d time.Duration) float64 { return float64(max(0, d)) / float64(time.Millisecond) }

func share(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return min(max(x, 0), 1)
}

// Grade is a score in a word.
type Grade uint8

// The grades.
const (
	Good Grade = iota // nothing to complain of
	Fair              // one notices
	Poor              // one minds
)

// String returns the word.
func (g Grade) String() string { return [...]string{"good", "fair", "poor"}[min(g, Poor)] }

// Limits of the grades, and how far a score must be past one to come back.
const (
	fairBelow = 4.0
	poorBelow = 3.1
	back      = 0.25
)

// Meter smooths the scores of one stream. The zero Meter is ready, and good.
type Meter struct {
	below float64 // 5 less the smoothed score, so that the zero Meter is at its best
	grade Grade
}

// Add takes the score of one more interval: a change for the worse counts more than one for the better.
func (m *Meter) Add(score float64) {
	d := 5 - score - m.below
	if d > 0 {
		m.below += d * 0.6
	} else {
		m.below += d * 0.35
	}
	switch s := m.Score(); {
	case s < poorBelow || m.grade == Poor && s < poorBelow+back:
		m.grade = Poor
	case s < fairBelow || m.grade != Good && s < fairBelow+back:
		m.grade = Fair
	default:
		m.grade = Good
	}
}

// Score returns the smoothed score.
func (m *Meter) Score() float64 { return 5 - m.below }

// Grade returns the grade that goes with it.
func (m *Meter) Grade() Grade { return m.grade }
