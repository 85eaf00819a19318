package quality_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/sfu/quality"
)

const ms = time.Millisecond

func TestScore(t *testing.T) {
	for _, x := range []struct {
		name     string
		s        quality.Sample
		low, top float64
	}{
		{"sound, perfect", quality.Sample{Sound: true}, 4.9, 5},
		{"sound, another continent", quality.Sample{Sound: true, RoundTrip: 200 * ms, Jitter: 5 * ms}, 4.6, 4.95},
		{"sound, a satellite", quality.Sample{Sound: true, RoundTrip: 600 * ms, Jitter: 10 * ms}, 3.1, 4},
		{"sound, 1 % lost", quality.Sample{Sound: true, Loss: 0.01, RoundTrip: 40 * ms}, 4.5, 4.9},
		{"sound, 5 % lost", quality.Sample{Sound: true, Loss: 0.05, RoundTrip: 40 * ms}, 3.5, 4},
		{"sound, 20 % lost", quality.Sample{Sound: true, Loss: 0.2, RoundTrip: 40 * ms}, 1, 2.5},
		{"sound, broken", quality.Sample{Sound: true, Stalled: 1}, 1, 1},
		{"picture, perfect", quality.Sample{RoundTrip: 40 * ms}, 5, 5},
		{"picture, a layer less", quality.Sample{Halvings: 1}, 3.9, 4},
		{"picture, two layers less", quality.Sample{Halvings: 2}, 3, 3.05},
		{"picture, half as many", quality.Sample{Slower: 1}, 4.5, 4.7},
		{"picture, stood still once", quality.Sample{KeyRequests: 1}, 4.2, 4.4},
		{"picture, stands still", quality.Sample{Stalled: 1}, 1, 1},
		{"picture, for half a second of two", quality.Sample{Stalled: 0.25}, 2.9, 3.1},
		{"picture, 10 % not repaired", quality.Sample{Loss: 0.1}, 2.4, 2.6},
		{"picture, late", quality.Sample{RoundTrip: 700 * ms}, 3.4, 3.6},
		{"nonsense", quality.Sample{Loss: math.NaN(), Stalled: -1, RoundTrip: -5 * time.Second, Halvings: -3, KeyRequests: -2, Slower: -1}, 5, 5},
	} {
		if got := x.s.Score(); got < x.low || got > x.top {
			t.Errorf("%s: %.2f, want %.2f to %.2f", x.name, got, x.low, x.top)
		}
	}
}

// No figure that gets worse makes the score better, and none takes it out of its range.
func TestScoreFalls(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		s := quality.Sample{
			Sound: r.IntN(2) == 0, Loss: r.Float64(), RoundTrip: time.Duration(r.IntN(2000)) * ms, Jitter: time.Duration(r.IntN(100)) * ms,
			Stalled: r.Float64() * float64(r.IntN(2)), KeyRequests: r.IntN(4), Halvings: 3 * r.Float64(), Slower: 2 * r.Float64(),
		}
		was := s.Score()
		if was < 1 || was > 5 {
			t.Fatalf("%+v: %f", s, was)
		}
		worse := s
		switch r.IntN(7) {
		case 0:
			worse.Loss += 0.1
		case 1:
			worse.RoundTrip += 100 * ms
		case 2:
			worse.Jitter += 10 * ms
		case 3:
			worse.Stalled += 0.2
		case 4:
			worse.KeyRequests++
		case 5:
			worse.Halvings += 0.5
		case 6:
			worse.Slower += 0.5
		}
		if now := worse.Score(); now > was+1e-9 {
			t.Fatalf("%f for %+v, %f for %+v", was, s, now, worse)
		}
	}
}

func TestMeter(t *testing.T) {
	var m quality.Meter
	grades := func(scores ...float64) (got string) {
		for _, s := range scores {
			m.Add(s)
			got += m.Grade().String()[:1]
		}
		return got
	}
	for _, x := range []struct {
		name   string
		scores []float64
		want   string
	}{
		{"good from the start", []float64{5, 4.6, 4.3}, "ggg"},
		{"one bad moment shows, and goes by", []float64{1, 5, 5, 5, 5, 5}, "ppfggg"},
		{"bad", []float64{1, 1}, "pp"},
		{"and slowly better", []float64{5, 5, 5, 5, 5, 5}, "pffggg"},
		{"at a limit it does not flicker", []float64{3.6, 3.8, 4.1, 3.9, 4.1, 3.9, 4.1, 3.9, 4.1}, "gffffffff"},
	} {
		if got := grades(x.scores...); got != x.want {
			t.Errorf("%s: %s, want %s (at %.2f)", x.name, got, x.want, m.Score())
		}
	}
}
