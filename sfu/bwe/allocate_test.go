package bwe_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu/bwe"
)

// camera is simulcast of three streams with two temporal layers each.
func camera(pixels uint32) bwe.Stream {
	return bwe.Stream{Pixels: pixels, Current: -1, Candidates: []bwe.Candidate{
		{Rate: 90_000, Pixels: 320 * 180, Frames: 15},
		{Rate: 150_000, Pixels: 320 * 180, Frames: 30},
		{Rate: 300_000, Pixels: 640 * 360, Frames: 15},
		{Rate: 500_000, Pixels: 640 * 360, Frames: 30},
		{Rate: 900_000, Pixels: 1280 * 720, Frames: 15},
		{Rate: 1_500_000, Pixels: 1280 * 720, Frames: 30},
	}}
}

func screen(pixels uint32) bwe.Stream {
	return bwe.Stream{Pixels: pixels, Screen: true, Current: -1, Candidates: []bwe.Candidate{
		{Rate: 200_000, Pixels: 1280 * 720, Frames: 5},
		{Rate: 600_000, Pixels: 1920 * 1080, Frames: 5},
		{Rate: 1_200_000, Pixels: 1920 * 1080, Frames: 15},
	}}
}

func sound() bwe.Stream {
	return bwe.Stream{Audio: true, Current: -1, Candidates: []bwe.Candidate{{Rate: 40_000}}}
}

func conference(n int) []bwe.Stream {
	s := []bwe.Stream{sound(), screen(1920 * 1080)}
	for range n {
		s = append(s, camera(320*180))
	}
	s[2].Speaker = true
	return s
}

const (
	full  = 1280 * 720
	thumb = 320 * 180
)

func with(s bwe.Stream, change func(*bwe.Stream)) bwe.Stream {
	change(&s)
	return s
}

func TestAllocate(t *testing.T) {
	for _, c := range []struct {
		name    string
		budget  uint64
		streams []bwe.Stream
		want    []int
	}{
		{"nothing", 1e6, nil, []int{}},
		{"enough for all", 10e6, []bwe.Stream{sound(), camera(full), camera(full)}, []int{0, 5, 5}},
		{"sound whatever it costs", 10_000, []bwe.Stream{sound(), sound(), camera(full)}, []int{0, 0, -1}},
		{"no larger than shown", 10e6, []bwe.Stream{camera(thumb), camera(640 * 360)}, []int{1, 3}},
		{"not shown, not sent", 10e6, []bwe.Stream{camera(0), camera(full)}, []int{-1, 5}},
		{"equal ones equally", 1_130_000, []bwe.Stream{camera(full), camera(full)}, []int{3, 3}},
		{"something for each before more for any", 320_000, []bwe.Stream{camera(full), camera(full), camera(full)}, []int{0, 0, 0}},
		{"the larger one gets more", 1_300_000, []bwe.Stream{camera(full), camera(thumb)}, []int{4, 1}},
		{"a pinned one before an equal", 1_300_000, []bwe.Stream{camera(full), with(camera(full), func(s *bwe.Stream) { s.Pinned = true })}, []int{1, 4}},
		{"the speaker before an equal", 900_000, []bwe.Stream{camera(full), with(camera(full), func(s *bwe.Stream) { s.Speaker = true })}, []int{2, 3}},
		{"a screen is sharp before faces are", 900_000, []bwe.Stream{camera(thumb), screen(1920 * 1080), camera(thumb)}, []int{0, 1, 0}},
		{"a screen is sharp before it is smooth", 800_000, []bwe.Stream{screen(1920 * 1080)}, []int{1}},
		{"the screen when there is room for one", 250_000, []bwe.Stream{camera(full), screen(full)}, []int{-1, 0}},
		{"what does not fit does not keep others down", 900_000, []bwe.Stream{screen(1920 * 1080), camera(thumb)}, []int{1, 1}},
		{"nothing to choose from", 1e6, []bwe.Stream{{Pixels: full, Current: -1}, {Audio: true, Current: -1}}, []int{-1, -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := make([]int, len(c.streams))
			a := bwe.Allocate(c.budget, c.streams, out)
			if d := cmp.Diff(c.want, out); d != "" {
				t.Errorf("%s\nused %d, need %d", d, a.Used, a.Need)
			}
		})
	}
}

// TestNeed gives the budget that the allocator asks for, until nobody would get better.
func TestNeed(t *testing.T) {
	streams := conference(6)
	for i := range streams[2:] {
		streams[2+i].Pixels = full
	}
	out := make([]int, len(streams))
	before := make([]int, len(streams))
	budget := uint64(100_000)
	for steps := 0; ; steps++ {
		a := bwe.Allocate(budget, streams, out)
		if steps > 0 && cmp.Equal(out, before) {
			t.Fatalf("%d asked for and given, and nothing changes: %d of it used", budget, a.Used)
		}
		copy(before, out)
		if a.Need == 0 {
			break
		}
		if a.Need <= budget || steps > 100 {
			t.Fatalf("needs %d, has %d", a.Need, budget)
		}
		budget = a.Need
		for i := range streams {
			streams[i].Current = out[i]
		}
	}
	if d := cmp.Diff([]int{0, 2, 5, 5, 5, 5, 5, 5}, out); d != "" {
		t.Error(d)
	}
}

// TestNoFlapping trembles: the budget by 2 % to either side, and each measured rate too. Nothing may change more than once.
func TestNoFlapping(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		streams := []bwe.Stream{sound(), screen(full), camera(full), camera(full), camera(thumb)}
		base := make([]bwe.Stream, len(streams))
		copy(base, streams)
		out := make([]int, len(streams))
		budget := 300_000 + rng.Float64()*4e6
		changes := make([]int, len(streams))
		for round := range 500 {
			for i := range streams {
				streams[i].Candidates = append([]bwe.Candidate(nil), base[i].Candidates...)
				for k := range streams[i].Candidates {
					r := &streams[i].Candidates[k].Rate
					*r = uint64(float64(*r) * (0.98 + 0.04*rng.Float64()))
				}
			}
			bwe.Allocate(uint64(budget*(0.98+0.04*rng.Float64())), streams, out)
			for i := range streams {
				if round > 20 && out[i] != streams[i].Current {
					changes[i]++
				}
				streams[i].Current = out[i]
			}
		}
		for i, n := range changes {
			if n > 1 {
				t.Errorf("seed %d: stream %d changed %d times with %.0f kbit/s", seed, i, n, budget/1000)
			}
		}
	}
}

// TestChanges is what happens when the receiver's wishes change, or the budget does, with layers already sent.
func TestChanges(t *testing.T) {
	sent := func(s bwe.Stream, current int) bwe.Stream { s.Current = current; return s }
	for _, c := range []struct {
		name    string
		budget  uint64
		streams []bwe.Stream
		want    []int
	}{
		{"a little too much is kept", 1_450_000, []bwe.Stream{sent(camera(full), 5)}, []int{5}},
		{"too much is not", 1_400_000, []bwe.Stream{sent(camera(full), 5)}, []int{4}},
		{"a step up needs a margin", 1_600_000, []bwe.Stream{sent(camera(full), 4)}, []int{4}},
		{"and has it", 1_700_000, []bwe.Stream{sent(camera(full), 4)}, []int{5}},
		{"a stream that comes gets its share", 1_500_000, []bwe.Stream{sent(camera(full), 5), camera(full)}, []int{3, 3}},
		{"a screen that comes takes from faces", 1_500_000, []bwe.Stream{sent(camera(full), 5), screen(full)}, []int{4, 0}},
		{"a stream that is hidden gives its share up", 1_700_000, []bwe.Stream{sent(camera(full), 3), sent(camera(0), 3)}, []int{5, -1}},
		{"one made small gives up what cannot be seen", 1_000_000, []bwe.Stream{sent(camera(thumb), 4), sent(camera(full), 1)}, []int{1, 3}},
		{"an equal does not take from an equal", 1_350_000, []bwe.Stream{sent(camera(full), 2), sent(camera(full), 4)}, []int{2, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := make([]int, len(c.streams))
			a := bwe.Allocate(c.budget, c.streams, out)
			if d := cmp.Diff(c.want, out); d != "" {
				t.Errorf("%s\nused %d, need %d", d, a.Used, a.Need)
			}
		})
	}
}

// TestMany has more streams than are shared between: sound is sent all the same.
func TestMany(t *testing.T) {
	var streams []bwe.Stream
	for range 300 {
		streams = append(streams, camera(thumb), sound())
	}
	out := make([]int, len(streams))
	bwe.Allocate(1e9, streams, out)
	for i, got := range out {
		want := 1
		if i%2 == 1 {
			want = 0
		} else if i >= 512 {
			want = -1
		}
		if got != want {
			t.Fatalf("stream %d gets %d, want %d", i, got, want)
		}
	}
}
