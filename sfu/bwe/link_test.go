package bwe_test

import (
	"container/heap"
	"math/rand/v2"
)

const (
	ms     int64 = 1e6
	second int64 = 1e9
	step   int64 = 250_000
)

// world is simulated time: events in order, and what is stepped every quarter of a millisecond.
type world struct {
	now   int64
	rng   *rand.Rand
	queue events
	n     int
	steps []func()
}

func newWorld(seed uint64) *world {
	return &world{now: second, rng: rand.New(rand.NewPCG(seed, 7))}
}

func (w *world) after(d int64, f func()) {
	w.n++
	heap.Push(&w.queue, event{at: w.now + d, n: w.n, f: f})
}

func (w *world) run(d int64) {
	for end := w.now + d; w.now < end; w.now += step {
		for len(w.queue) > 0 && w.queue[0].at <= w.now {
			heap.Pop(&w.queue).(event).f()
		}
		for _, f := range w.steps {
			f()
		}
	}
}

type event struct {
	at int64
	n  int
	f  func()
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// link is a bottleneck with a droptail queue, then a delay.
type link struct {
	w      *world
	rate   float64 // bit/s
	limit  int     // bytes of queue
	delay  int64
	jitter int64 // each packet is late by up to twice this
	order  bool  // jitter does not reorder
	loss   func() bool
	lastAt int64

	packets []queued
	bytes   int
	credit  float64
	carried int
	drops   int
	peak    int64 // longest queue, in time
}

type queued struct {
	size    int
	deliver func()
}

func (w *world) newLink(rate float64, queue int64, delay int64) *link {
	l := &link{w: w, delay: delay, limit: 1 << 30}
	l.setRate(rate, queue)
	w.steps = append(w.steps, l.step)
	return l
}

// setRate changes the rate, and the queue's limit to what takes so long to drain.
func (l *link) setRate(rate float64, queue int64) {
	l.rate = rate
	l.limit = int(rate / 8 * float64(queue) / float64(second))
}

func (l *link) send(size int, deliver func()) {
	if l.loss != nil && l.loss() {
		return
	}
	if l.bytes+size > l.limit {
		l.drops++
		return
	}
	l.bytes += size
	l.packets = append(l.packets, queued{size, deliver})
	l.peak = max(l.peak, l.waits())
}

// waits is how long the last packet in the queue waits.
func (l *link) waits() int64 {
	return int64(float64(l.bytes) * 8 / l.rate * float64(second))
}

func (l *link) step() {
	l.credit += l.rate / 8 * float64(step) / float64(second)
	for len(l.packets) > 0 && l.credit >= float64(l.packets[0].size) {
		p := l.packets[0]
		l.packets = l.packets[1:]
		l.credit -= float64(p.size)
		l.bytes -= p.size
		l.carried += p.size
		d := l.delay
		if l.jitter > 0 {
			d += l.w.rng.Int64N(2 * l.jitter)
		}
		if at := l.w.now + d; l.order {
			at = max(at, l.lastAt)
			l.lastAt = at
			d = at - l.w.now
		}
		l.w.after(d, p.deliver)
	}
	if len(l.packets) == 0 {
		l.credit = 0
	}
}

// bursts loses packets in runs: share of them, runs of mean length.
func bursts(rng *rand.Rand, share, length float64) func() bool {
	bad := false
	leave := 1 / length
	enter := leave * share / (1 - share)
	return func() bool {
		if bad {
			bad = rng.Float64() >= leave
		} else {
			bad = rng.Float64() < enter
		}
		return bad
	}
}

// tcp is a greedy flow of the Reno kind: a packet more each round trip, half at a loss.
type tcp struct {
	w              *world
	l              *link
	back           int64
	window, thresh float64
	flying         int
	next, acked    int
	cutAt          int64
	heard          int64
	delivered      int
	stopped        bool
}

func (w *world) newTCP(l *link, back int64) *tcp {
	t := &tcp{w: w, l: l, back: back, window: 10, thresh: 64, heard: w.now}
	w.steps = append(w.steps, t.step)
	return t
}

func (t *tcp) step() {
	if t.stopped {
		return
	}
	if t.w.now-t.heard > second {
		t.flying, t.window, t.heard = 0, 2, t.w.now
	}
	for t.flying < int(t.window) {
		seq, at := t.next, t.w.now
		t.next++
		t.flying++
		t.l.send(1200, func() {
			t.delivered += 1200
			t.w.after(t.back, func() { t.ack(seq, at) })
		})
	}
}

func (t *tcp) ack(seq int, sent int64) {
	t.heard = t.w.now
	if seq > t.acked {
		lost := seq - t.acked - 1
		t.acked = seq
		t.flying = max(t.flying-lost-1, 0)
		if lost > 0 && sent > t.cutAt {
			t.cutAt = t.w.now
			t.window = max(t.window/2, 2)
			t.thresh = t.window
			return
		}
	}
	if t.window < t.thresh {
		t.window++
	} else {
		t.window += 1 / t.window
	}
}
