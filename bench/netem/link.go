package netem

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Link is one direction of a line, carrying packets of which it knows the size and a value of the caller's. Time is handed in, as
// counted from any beginning, and never runs backwards. Not for several goroutines at once.
//
// The caller pushes packets, and pops those that have arrived: whenever Next says, or later.
type Link[T any] struct {
	seed uint64
	sets uint64
	im   Impairment
	rand rand.PCG
	bad  bool // state of the line in the model of Gilbert and Elliott
	now  time.Duration

	// What waits for the line, the first of it being on it; the line has worked on that until since.
	queue  fifo[queued[T]]
	queued int    // bytes in the queue
	left   uint64 // what the line has yet to carry of the first, in bits times 1e9: rate times nanoseconds
	since  time.Duration

	flying flying[T]
	serial uint64
	last   time.Duration // when the last packet that may not be overtaken arrives

	stats recorder
}

// queued is a packet with what chance has decided about it.
type queued[T any] struct {
	value T
	size  int
	at    time.Duration // when it came
	fate  fate
}

// fate is what chance has in store for a packet.
type fate struct {
	cause  cause
	lost   bool
	double bool
	late   time.Duration // jitter
	held   time.Duration // on top, while others pass
	passes bool          // may overtake
}

// overhead is what IPv4 and UDP put around a payload.
const overhead = 28

// NewLink returns a perfect line. The series of its statistics has one sample for each interval.
func NewLink[T any](seed uint64, interval time.Duration) *Link[T] {
	l := &Link[T]{seed: seed, stats: newRecorder(interval)}
	l.reseed()
	return l
}

// Set changes what the line does from now on. What waits for it leaves at the new rate; what is on its way arrives as it would have.
// The dice begin anew, with the seed and the number of the change, so that a run can be repeated from there.
func (l *Link[T]) Set(now time.Duration, im Impairment) {
	l.advance(now)
	if im.Burst != l.im.Burst {
		l.bad = false
	}
	l.im = im
	l.sets++
	l.reseed()
	l.advance(now) // without a rate, the queue leaves at once
}

// Seed begins all chance anew, as on a new line with this seed.
func (l *Link[T]) Seed(seed uint64) {
	l.seed, l.sets, l.bad = seed, 0, false
	l.reseed()
}

func (l *Link[T]) reseed() { l.rand.Seed(l.seed, l.sets) }

// Push hands a packet to the line.
func (l *Link[T]) Push(now time.Duration, size int, value T) {
	l.advance(now)
	f := l.roll()
	l.stats.came(l.now, size)
	p := queued[T]{value: value, size: size, at: l.now, fate: f}
	if l.im.Rate == 0 {
		l.leave(l.now, p)
		return
	}
	if l.full(size) {
		l.stats.dropped(l.now, byQueue)
		return
	}
	if l.queue.len() == 0 {
		l.begin(l.now, size)
	}
	l.queue.push(p)
	l.queued += size + overhead
}

// full says whether another packet is too much for the queue.
func (l *Link[T]) full(size int) bool {
	if l.queue.len() == 0 {
		return false
	}
	bytes := l.queued + size + overhead
	if l.im.Queue > 0 && bytes > l.im.Queue {
		return true
	}
	most := l.im.QueueTime
	if most == 0 && l.im.Queue == 0 {
		most = defaultQueueTime
	}
	return most > 0 && float64(bytes)*8 > float64(l.im.Rate)*most.Seconds()
}

// roll decides about a packet. It draws the same number of times whatever is switched on.
func (l *Link[T]) roll() fate {
	var f fate
	loss, state, burst, double, late, held := l.draw(), l.draw(), l.draw(), l.draw(), l.draw(), l.draw()
	inState := l.im.Burst.LossGood
	if l.bad {
		inState = l.im.Burst.LossBad
	}
	switch {
	case loss < l.im.Loss:
		f.lost, f.cause = true, byLoss
	case burst < inState:
		f.lost, f.cause = true, byBurst
	}
	if change := l.im.Burst.Enter; l.bad {
		l.bad = !(state < l.im.Burst.Leave)
	} else {
		l.bad = state < change
	}
	f.double = double < l.im.Duplicate
	f.late = time.Duration(late * float64(l.im.Jitter))
	f.passes = l.im.Overtake
	if held < l.im.Reorder {
		f.held = l.im.ReorderBy
		if f.held == 0 {
			f.held = defaultReorderBy
		}
	}
	return f
}

// draw returns a number from 0 up to 1, 1 excluded.
func (l *Link[T]) draw() float64 { return float64(l.rand.Uint64()>>11) / (1 << 53) }

// begin puts a packet on the line.
func (l *Link[T]) begin(now time.Duration, size int) {
	l.since = now
	l.left = uint64(size+overhead) * 8 * uint64(time.Second)
}

// advance lets the line work until now.
func (l *Link[T]) advance(now time.Duration) {
	l.now = max(l.now, now)
	for l.queue.len() > 0 {
		done, ok := l.done()
		if !ok || done > l.now {
			if ok {
				l.left -= uint64(l.now-l.since) * l.im.Rate
				l.since = l.now
			}
			return
		}
		p := l.queue.pop()
		l.queued -= p.size + overhead
		l.leave(done, p)
		if l.queue.len() > 0 {
			l.begin(done, l.queue.first().size)
		}
	}
}

// done says when the first of the queue has been carried.
func (l *Link[T]) done() (time.Duration, bool) {
	if l.queue.len() == 0 {
		return 0, false
	}
	if l.im.Rate == 0 {
		return l.since, true
	}
	return l.since + time.Duration((l.left+l.im.Rate-1)/l.im.Rate), true
}

// leave sends a packet that has passed the bottleneck on its way.
func (l *Link[T]) leave(now time.Duration, p queued[T]) {
	l.stats.waited(now, now-p.at)
	if p.fate.lost {
		l.stats.dropped(now, p.fate.cause)
		return
	}
	due := now + l.im.Delay + p.fate.late
	switch {
	case p.fate.held > 0:
		due += p.fate.held
		l.stats.total.Held++
	case !p.fate.passes:
		due = max(due, l.last)
		l.last = due
	}
	l.fly(due, p)
	if p.fate.double {
		l.stats.total.Duplicated++
		l.fly(due, p)
	}
}

func (l *Link[T]) fly(due time.Duration, p queued[T]) {
	l.serial++
	heap.Push(&l.flying, flight[T]{due: due, serial: l.serial, size: p.size, value: p.value})
}

// Next says when there is something to pop, or to move on; ok is false when the line is empty.
func (l *Link[T]) Next() (at time.Duration, ok bool) {
	at, ok = l.done()
	if len(l.flying) > 0 && (!ok || l.flying[0].due < at) {
		return l.flying[0].due, true
	}
	return at, ok
}

// Pop returns the next packet that has arrived by now.
func (l *Link[T]) Pop(now time.Duration) (value T, ok bool) {
	l.advance(now)
	if len(l.flying) == 0 || l.flying[0].due > l.now {
		return value, false
	}
	f := heap.Pop(&l.flying).(flight[T])
	l.stats.arrived(l.now, f.size)
	return f.value, true
}

// Stats says what has passed up to now.
func (l *Link[T]) Stats(now time.Duration) Stats {
	l.advance(now)
	return l.stats.snapshot(l.now)
}

// flight is a packet on its way.
type flight[T any] struct {
	due    time.Duration
	serial uint64
	size   int
	value  T
}

// flying is a heap, the next to arrive on top, those of one time in the order in which they left.
type flying[T any] []flight[T]

func (f flying[T]) Len() int { return len(f) }
func (f flying[T]) Less(i, j int) bool {
	return f[i].due < f[j].due || f[i].due == f[j].due && f[i].serial < f[j].serial
}
func (f flying[T]) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push implements heap.Interface.
func (f *flying[T]) Push(x any) { *f = append(*f, x.(flight[T])) }

// Pop implements heap.Interface.
func (f *flying[T]) Pop() any {
	n := len(*f) - 1
	x := (*f)[n]
	(*f)[n] = flight[T]{}
	*f = (*f)[:n]
	return x
}

// fifo is a queue in a slice.
type fifo[T any] struct {
	list []T
	head int
}

func (q *fifo[T]) len() int  { return len(q.list) - q.head }
func (q *fifo[T]) first() *T { return &q.list[q.head] }
func (q *fifo[T]) push(v T)  { q.list = append(q.list, v) }

func (q *fifo[T]) pop() T {
	var zero T
	v := q.list[q.head]
	q.list[q.head] = zero
	q.head++
	if 2*q.head >= len(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	return v
}
