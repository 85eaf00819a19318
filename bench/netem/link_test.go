package netem_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/bench/netem"
)

const ms = time.Millisecond

// arrival is a packet that came out of a line.
type arrival struct {
	N  int
	At time.Duration
}

// lab sends numbered packets over a line in simulated time.
type lab struct {
	*netem.Link[int]
	now time.Duration
	out []arrival
}

func newLab(seed uint64, im netem.Impairment) *lab {
	l := &lab{Link: netem.NewLink[int](seed, 100*ms)}
	l.Set(0, im)
	return l
}

// until lets everything arrive that is due by then, each at its time.
func (l *lab) until(end time.Duration) {
	for {
		at, ok := l.Next()
		if !ok || at > end {
			break
		}
		l.now = max(l.now, at)
		for n, ok := l.Pop(l.now); ok; n, ok = l.Pop(l.now) {
			l.out = append(l.out, arrival{n, l.now})
		}
	}
	l.now = end
}

// send sends packets first to last, one each gap, and lets all arrive.
func (l *lab) send(first, last, size int, gap time.Duration) []arrival {
	from := len(l.out)
	for n := first; n <= last; n++ {
		l.until(l.now)
		l.Push(l.now, size, n)
		l.until(l.now + gap)
	}
	l.until(l.now + time.Hour)
	return l.out[from:]
}

func numbers(a []arrival) []int {
	out := make([]int, len(a))
	for i := range a {
		out[i] = a[i].N
	}
	return out
}

// lost are the runs of numbers that are missing.
func lost(a []arrival, first, last int) (n int, runs []int) {
	there := make(map[int]bool)
	for _, x := range a {
		there[x.N] = true
	}
	run := 0
	for i := first; i <= last; i++ {
		if there[i] {
			if run > 0 {
				runs = append(runs, run)
			}
			run = 0
			continue
		}
		n++
		run++
	}
	return n, runs
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s: %.4f, want %.4f ± %.4f", what, got, want, tolerance)
	}
}

func TestPerfectLine(t *testing.T) {
	l := newLab(1, netem.Impairment{})
	for n, a := range l.send(0, 99, 1200, ms) {
		if want := (arrival{n, time.Duration(n) * ms}); a != want {
			t.Fatalf("%+v, want %+v", a, want)
		}
	}
	if s := l.Stats(l.now); s.Packets != 100 || s.Delivered != 100 || s.QueueMax != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDelay(t *testing.T) {
	l := newLab(1, netem.Impairment{Delay: 40 * ms})
	for n, a := range l.send(0, 9, 100, 3*ms) {
		if want := (arrival{n, time.Duration(n)*3*ms + 40*ms}); a != want {
			t.Fatalf("%+v, want %+v", a, want)
		}
	}
}

func TestLoss(t *testing.T) {
	const n = 200_000
	l := newLab(7, netem.Impairment{Loss: 0.05})
	got, runs := lost(l.send(1, n, 100, 0), 1, n)
	near(t, "share lost", float64(got)/n, 0.05, 0.002)
	sum := 0
	for _, r := range runs {
		sum += r
	}
	near(t, "mean run of independent losses", float64(sum)/float64(len(runs)), 1/0.95, 0.01)
	if s := l.Stats(l.now); s.Lost != uint64(got) || s.LostBurst != 0 || s.Delivered != uint64(n-got) {
		t.Errorf("lost %d: %+v", got, s)
	}
}

func TestBurstLoss(t *testing.T) {
	const n = 400_000
	l := newLab(7, netem.Impairment{Burst: netem.Bursts(0.2, 8)})
	got, runs := lost(l.send(1, n, 100, 0), 1, n)
	near(t, "share lost", float64(got)/n, 0.2, 0.006)
	sum := 0
	for _, r := range runs {
		sum += r
	}
	near(t, "mean burst", float64(sum)/float64(len(runs)), 8, 0.2)
	if s := l.Stats(l.now); s.LostBurst != uint64(got) || s.Lost != 0 {
		t.Errorf("lost %d: %+v", got, s)
	}
}

func TestRate(t *testing.T) {
	// 1222 bytes and 28 of headers are 10 ms at 1 Mbit/s.
	l := newLab(1, netem.Impairment{Rate: 1e6, QueueTime: time.Second})
	for n, a := range l.send(0, 19, 1222, 2*ms) {
		if want := (arrival{n, time.Duration(n+1) * 10 * ms}); a != want {
			t.Fatalf("%+v, want %+v", a, want)
		}
	}
	s := l.Stats(l.now)
	if s.QueueMax != 20*10*ms-19*2*ms {
		t.Errorf("longest wait %v", s.QueueMax)
	}
	near(t, "p50 in ms", s.QueueP50.Seconds()*1e3, 10+9*8, 6)
	if s.QueueP99 != s.QueueMax {
		t.Errorf("p99 %v of 20 packets, longest %v", s.QueueP99, s.QueueMax)
	}
}

func TestQueueDrops(t *testing.T) {
	for _, tc := range []struct {
		name string
		im   netem.Impairment
		want int // of twenty packets that come at once
	}{
		{"bytes", netem.Impairment{Rate: 1e6, Queue: 5 * 1250}, 5},
		{"time", netem.Impairment{Rate: 1e6, QueueTime: 70 * ms}, 7},
		{"the smaller of both", netem.Impairment{Rate: 1e6, Queue: 5 * 1250, QueueTime: 30 * ms}, 3},
		{"neither", netem.Impairment{Rate: 1e6}, 20},
		{"a packet longer than the queue", netem.Impairment{Rate: 1e6, Queue: 10}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(1, tc.im)
			got := l.send(0, 19, 1222, 0)
			if len(got) != tc.want {
				t.Errorf("%d arrive", len(got))
			}
			if s := l.Stats(l.now); s.Dropped != uint64(20-tc.want) || s.Delivered != uint64(tc.want) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestRateChangesWithQueue(t *testing.T) {
	l := newLab(1, netem.Impairment{Rate: 1e6, QueueTime: time.Second})
	for n := range 10 {
		l.Push(0, 1222, n)
	}
	l.until(25 * ms) // the third is half through
	l.Set(l.now, netem.Impairment{Rate: 5e5, QueueTime: time.Second})
	l.until(45 * ms)
	l.Set(l.now, netem.Impairment{})
	l.until(time.Second)
	want := []arrival{{0, 10 * ms}, {1, 20 * ms}, {2, 35 * ms}}
	for n := 3; n < 10; n++ {
		want = append(want, arrival{n, 45 * ms})
	}
	if diff := gocmp.Diff(want, l.out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJitter(t *testing.T) {
	im := netem.Impairment{Delay: 20 * ms, Jitter: 30 * ms}
	kept := newLab(3, im).send(0, 999, 100, 5*ms)
	im.Overtake = true
	free := newLab(3, im).send(0, 999, 100, 5*ms)
	if !slices.IsSorted(numbers(kept)) {
		t.Error("packets overtake")
	}
	if slices.IsSorted(numbers(free)) {
		t.Error("no packet overtakes")
	}
	var least, most time.Duration = time.Hour, 0
	for _, a := range free {
		late := a.At - time.Duration(a.N)*5*ms
		least, most = min(least, late), max(most, late)
	}
	if least < 20*ms || least > 21*ms || most >= 50*ms || most < 49*ms {
		t.Errorf("late by %v to %v", least, most)
	}
	// Kept order is the same dice, each packet at least as late as the latest before it.
	slices.SortFunc(free, func(a, b arrival) int { return cmp.Compare(a.N, b.N) })
	var last time.Duration
	for n, a := range free {
		last = max(last, a.At)
		if kept[n] != (arrival{n, last}) {
			t.Fatalf("%+v, want %+v", kept[n], arrival{n, last})
		}
	}
}

func TestReorder(t *testing.T) {
	l := newLab(5, netem.Impairment{Reorder: 0.1, ReorderBy: 12 * ms})
	held := 0
	for _, a := range l.send(0, 9999, 100, 5*ms) {
		switch late := a.At - time.Duration(a.N)*5*ms; late {
		case 0:
		case 12 * ms:
			held++
		default:
			t.Fatalf("packet %d is late by %v", a.N, late)
		}
	}
	near(t, "share held back", float64(held)/10_000, 0.1, 0.01)
	if s := l.Stats(l.now); s.Held != uint64(held) {
		t.Errorf("held %d: %+v", held, s)
	}
}

func TestDuplicate(t *testing.T) {
	l := newLab(5, netem.Impairment{Duplicate: 0.25})
	got := l.send(0, 9999, 100, ms)
	near(t, "share doubled", float64(len(got)-10_000)/10_000, 0.25, 0.02)
	if s := l.Stats(l.now); s.Duplicated != uint64(len(got)-10_000) || s.Delivered != uint64(len(got)) {
		t.Errorf("%d arrive: %+v", len(got), s)
	}
	if n := len(slices.Compact(numbers(got))); n != 10_000 {
		t.Errorf("%d different", n)
	}
}

// everything is a line with all there is.
var everything = netem.Impairment{
	Rate: 4e6, Queue: 30_000, QueueTime: 80 * ms, Loss: 0.03, Burst: netem.Bursts(0.05, 4), Duplicate: 0.02,
	Delay: 30 * ms, Jitter: 10 * ms, Overtake: true, Reorder: 0.01, ReorderBy: 25 * ms,
}

func TestSameSeedSameFate(t *testing.T) {
	a, b := newLab(9, everything).send(0, 4999, 900, 2*ms), newLab(9, everything).send(0, 4999, 900, 2*ms)
	if diff := gocmp.Diff(a, b); diff != "" {
		t.Errorf("two runs with one seed:\n%s", diff)
	}
	if other := newLab(10, everything).send(0, 4999, 900, 2*ms); gocmp.Equal(numbers(a), numbers(other)) {
		t.Error("another seed changes nothing")
	}
}

// What one impairment does to a packet does not depend on the others, nor on when packets come, nor on what came before the change.
func TestDiceAreApart(t *testing.T) {
	const n = 3000
	_, want := lost(newLab(4, netem.Impairment{Loss: 0.1}).send(1, n, 200, ms), 1, n)
	for name, l := range map[string]*lab{
		"with delay and jitter": newLab(4, netem.Impairment{Loss: 0.1, Delay: 9 * ms, Jitter: 9 * ms, Overtake: true}),
		"with doubles":          newLab(4, netem.Impairment{Loss: 0.1, Duplicate: 0.5}),
		"with a queue":          newLab(4, netem.Impairment{Loss: 0.1, Rate: 1e7, QueueTime: time.Minute}),
	} {
		if _, got := lost(l.send(1, n, 200, 3*ms), 1, n); !slices.Equal(got, want) {
			t.Errorf("%s: other packets are lost", name)
		}
	}
	late := func(before int) []int {
		l := newLab(4, netem.Impairment{Loss: 0.5})
		l.send(-before, -1, 200, ms)
		l.Set(l.now, netem.Impairment{Loss: 0.1})
		_, runs := lost(l.send(1, n, 200, ms), 1, n)
		return runs
	}
	if !slices.Equal(late(10), late(1234)) {
		t.Error("after a change, other packets are lost when more came before it")
	}
}

func TestSeedBeginsAnew(t *testing.T) {
	play := func(l *lab) []int {
		l.Set(l.now, everything)
		return numbers(l.send(0, 999, 500, 4*ms))
	}
	want := play(newLab(3, netem.Impairment{Delay: ms}))
	l := newLab(8, netem.Impairment{Loss: 0.3})
	play(l)
	l.Seed(3)
	l.Set(l.now, netem.Impairment{Delay: ms})
	if !slices.Equal(play(l), want) {
		t.Error("a seed set later is not the same as one set at first")
	}
}

// A queue that drops packets does not change what becomes of the others by chance.
func TestDropsTakeTheirTurn(t *testing.T) {
	free := numbers(newLab(4, netem.Impairment{Loss: 0.2}).send(0, 2999, 1222, 0))
	through := numbers(newLab(4, netem.Impairment{Loss: 0.2, Rate: 1e6, Queue: 1000 * 1250}).send(0, 2999, 1222, 0))
	var want []int
	for _, n := range free {
		if n < 1000 {
			want = append(want, n)
		}
	}
	if !slices.Equal(through, want) {
		t.Errorf("%d arrive, want %d", len(through), len(want))
	}
}

// However the line is changed under way: every packet is accounted for, none arrives before it was sent, and a line with a rate
// carries no more than that.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := newLab(seed, netem.Impairment{})
		sent := map[int]time.Duration{}
		for n := range 400 {
			if r.IntN(40) == 0 {
				im := everything
				for _, off := range []func(){
					func() { im.Rate, im.Queue, im.QueueTime = 0, 0, 0 },
					func() { im.Rate = r.Uint64N(1e7) + 1 },
					func() { im.Jitter, im.Overtake = 0, false },
					func() { im.Loss, im.Burst = 0, netem.Burst{} },
					func() { im.Delay = 0 },
				} {
					if r.IntN(2) == 0 {
						off()
					}
				}
				if err := im.Validate(); err != nil {
					t.Fatal(err)
				}
				l.Set(l.now, im)
			}
			sent[n] = l.now
			l.Push(l.now, r.IntN(1400), n)
			l.until(l.now + time.Duration(r.IntN(5000))*time.Microsecond)
		}
		l.until(l.now + 1000*time.Hour)
		for _, a := range l.out {
			if a.At < sent[a.N] {
				t.Fatalf("seed %d: packet %d was sent at %v and arrived at %v", seed, a.N, sent[a.N], a.At)
			}
		}
		s := l.Stats(l.now)
		if _, ok := l.Next(); ok || s.Packets != 400 || s.Delivered != uint64(len(l.out)) ||
			s.Packets+s.Duplicated != s.Delivered+s.Lost+s.LostBurst+s.Dropped {
			t.Fatalf("seed %d: %d arrived: %+v", seed, len(l.out), s)
		}
	}
}

func TestSeries(t *testing.T) {
	l := newLab(1, netem.Impairment{Rate: 1e6, QueueTime: 50 * ms})
	for n := range 8 { // at 0: five pass, three are dropped
		l.Push(0, 1222, n)
	}
	l.until(250 * ms)
	l.Push(l.now, 100, 9)
	l.until(320 * ms)
	s := l.Stats(l.now)
	want := []netem.Sample{
		{In: 8 * 1222, Out: 5 * 1222, Dropped: 3, Queue: 50 * ms},
		{},
		{In: 100, Out: 100, Queue: 1024 * time.Microsecond},
		{},
	}
	if diff := gocmp.Diff(want, s.Series); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSeriesIsBounded(t *testing.T) {
	l := netem.NewLink[int](1, ms)
	for i := range 200_000 {
		l.Push(time.Duration(i)*ms, 10, i)
		l.Pop(time.Duration(i) * ms)
	}
	s := l.Stats(200_000 * ms)
	if len(s.Series) > 54_000 || len(s.Series) < 40_000 || s.First != time.Duration(200_001-len(s.Series))*ms {
		t.Errorf("%d samples from %v on", len(s.Series), s.First)
	}
	if in := s.Series[len(s.Series)-2].In; in != 10 {
		t.Errorf("the last full interval has %d bytes", in)
	}
	l.Push(1000*time.Hour, 10, 0) // a pause longer than the series
	if s := l.Stats(1000 * time.Hour); len(s.Series) > 54_000 || s.Series[len(s.Series)-1].In != 10 {
		t.Errorf("%d samples, the last %+v", len(s.Series), s.Series[len(s.Series)-1])
	}
}

func TestValidate(t *testing.T) {
	if err := everything.Validate(); err != nil {
		t.Error(err)
	}
	for name, im := range map[string]netem.Impairment{
		"loss":                {Loss: 1.01},
		"no number":           {Loss: math.NaN()},
		"negative":            {Duplicate: -0.1},
		"burst":               {Burst: netem.Burst{Enter: 2}},
		"delay":               {Delay: time.Hour},
		"rate":                {Rate: 1e12},
		"queue":               {Rate: 1, Queue: -1},
		"queue without rate":  {Queue: 1000},
		"overtake nothing":    {Overtake: true},
		"hold back no packet": {ReorderBy: ms},
	} {
		if im.Validate() == nil {
			t.Errorf("%s: %+v passes", name, im)
		}
	}
}
