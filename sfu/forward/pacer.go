package forward

import (
	"math"

	"github.com/sotto-edge/sotto/sfu/layer"
)

const (
	pacerBurst   = 10 * millisecond  // what may leave at once, in time of the pacing rate …
	pacerLeast   = 3000              // … and in bytes, at least
	pacerPatient = 400 * millisecond // a packet that would wait longer is not worth sending,
	pacerShut    = second            // unless the path is full and will be free again
	pacerSlots   = 1024              // most packets that wait for one peer
	pacerFew     = 64                // room for so many is kept;
	pacerKeeps   = 10 * second       // more, for so long after it was needed
)

// queued is a packet that waits for the peer's link to have room for it, and what is to become of it then. Its number it gets when
// it leaves, so that what is given up leaves no gap.
type queued struct {
	leg     *Leg
	from    *Layer
	id      uint32 // of the layer
	p       packet // with a reference of its own to the buffer
	verdict layer.Verdict
	stamp   layer.Stamp
	at      int64 // when it came
}

// pacer holds back what the peer's link cannot take yet. Nearly always nothing waits: what it lets pass at once is never copied.
// Sound is not held back, but counted.
type pacer struct {
	shut   bool   // nothing may leave: a queue on the path is to drain
	opened int64  // when it was shut last no more
	rate   uint64 // bit/s; 0: no limit is known
	credit int64  // bytes that may leave now; below zero after sound, or a packet larger than what was left
	at     int64  // when credit was reckoned

	queue []queued // a ring, made when it is needed
	head  int
	n     int

	fullAt int64 // when more than a few waited last
}

// set says how fast packets may leave, or that none may.
func (q *pacer) set(rate uint64, shut bool, now int64) {
	if q.shut && !shut {
		q.opened = now
	}
	q.rate, q.shut = rate, shut
	if q.n == 0 && len(q.queue) > pacerFew && now-q.fullAt > pacerKeeps {
		q.queue, q.head = nil, 0
	}
}

// refill reckons the credit of this moment.
func (q *pacer) refill(now int64) {
	if q.rate == 0 {
		return
	}
	gap := min(now-q.at, second)
	q.at = now
	most := max(pacerLeast, int64(q.rate/8)*pacerBurst/second)
	q.credit = min(q.credit+int64(q.rate/8)*gap/second, most)
}

// open says whether a packet may leave at once.
func (q *pacer) open(now int64) bool {
	if q.shut {
		return false
	}
	if q.rate == 0 {
		return q.n == 0
	}
	q.refill(now)
	return q.n == 0 && q.credit > 0
}

// affords says whether a packet sent again may leave. It goes before all that waits, see Peer.sendHeld.
func (q *pacer) affords(now int64) bool {
	q.refill(now)
	return !q.shut && (q.rate == 0 || q.credit > 0)
}

// spend counts what has left.
func (q *pacer) spend(size int) {
	if q.rate != 0 {
		q.credit -= int64(size)
	}
}

// put lets a packet wait. It is false when too many do, or for too long. What has waited for the path to be free has its turn then.
func (q *pacer) put(x queued, now int64) bool {
	if q.n > 0 {
		at := q.queue[q.head].at
		if q.shut && now-at > pacerShut || !q.shut && now-max(at, q.opened) > pacerPatient {
			return false
		}
	}
	if q.n == len(q.queue) {
		if q.n >= pacerSlots {
			return false
		}
		grown := make([]queued, max(32, 2*len(q.queue)))
		for i := range q.n {
			grown[i] = q.queue[(q.head+i)%len(q.queue)]
		}
		q.queue, q.head = grown, 0
	}
	x.p.buf.Retain()
	x.leg.waits++
	if x.verdict == layer.Begin {
		x.leg.beginning = true
	}
	q.queue[(q.head+q.n)%len(q.queue)] = x
	if q.n++; q.n > pacerFew {
		q.fullAt = now
	}
	return true
}

// take returns the next packet that may leave; the caller releases its buffer.
func (q *pacer) take(now int64) (queued, bool) {
	if q.n == 0 || q.shut {
		return queued{}, false
	}
	if q.refill(now); q.rate != 0 && q.credit <= 0 {
		return queued{}, false
	}
	x := q.queue[q.head]
	q.queue[q.head] = queued{}
	q.head = (q.head + 1) % len(q.queue)
	q.n--
	x.leg.waits--
	if x.verdict == layer.Begin {
		x.leg.beginning = false
	}
	return x, true
}

// next returns when the next packet may leave, or math.MaxInt64.
func (q *pacer) next() int64 {
	if q.n == 0 {
		return math.MaxInt64
	}
	return q.room()
}

// room returns when there is room for a packet. While it is shut the next feedback tells.
func (q *pacer) room() int64 {
	if q.shut {
		return math.MaxInt64
	}
	if q.rate == 0 || q.credit > 0 {
		return q.at
	}
	wait := (1-q.credit)*8*second/int64(q.rate) + 1
	return q.at + max(wait, quantum) // not a wake-up for each packet
}

// drop gives up what waits for leg, and returns how many packets that were.
func (q *pacer) drop(leg *Leg, now int64) (n int) {
	if leg.waits == 0 {
		return 0
	}
	kept := 0
	for i := range q.n {
		x := &q.queue[(q.head+i)%len(q.queue)]
		if x.leg == leg {
			if x.id == x.from.id {
				leg.apply(x.from, &x.p, layer.Drop, x.stamp, now)
			}
			x.p.buf.Release()
			*x = queued{}
			n++
			continue
		}
		if kept != i {
			q.queue[(q.head+kept)%len(q.queue)] = *x
			*x = queued{}
		}
		kept++
	}
	q.n = kept
	leg.waits, leg.beginning = 0, false
	return n
}
