// Package quantile sorts samples and says what most of them are. It keeps every sample: benches have thousands, not millions.
package quantile

import "slices"

// Samples are values of one kind, in any order.
type Samples []float64

// Sorted returns the samples in ascending order, as a copy.
func (s Samples) Sorted() Samples {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// At returns the value that a share q of the samples does not exceed (the nearest rank), 0 without samples.
func (s Samples) At(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := s.Sorted()
	return sorted[min(len(s)-1, max(0, int(q*float64(len(s))+0.999999)-1))]
}

// Max returns the largest sample, 0 without samples.
func (s Samples) Max() float64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}
