package bwe

const (
	lossSlots = 8
	lossSlot  = 128 * millisecond

	lossEnough  = 20   // packets, before a ratio is worth anything
	lossMinimum = 0.10 // below this, losses are no sign of a full path
)

// loss counts what arrived and what did not, over the last second, by the time of the feedback.
type loss struct {
	arrived, lost [lossSlots]uint16
	head          int64

	// inherent is the share that is lost however little is sent: a radio link, not a queue.
	inherent float64

	// A reduction for losses is a question: does the path lose less when it is sent less?
	askedAt    int64   // 0: no question is open
	askedRatio float64 // lost before
	before     float64 // target before
	actedAt    int64
	lastAt     int64 // last loss
}

func (l *loss) advance(now int64) int {
	n := now / lossSlot
	if n > l.head+lossSlots {
		l.arrived, l.lost, l.head = [lossSlots]uint16{}, [lossSlots]uint16{}, n
	}
	for l.head < n {
		l.head++
		i := uint64(l.head) % lossSlots
		l.arrived[i], l.lost[i] = 0, 0
	}
	return int(uint64(l.head) % lossSlots)
}

func (l *loss) count(arrived bool, now int64) {
	i := l.advance(now)
	if arrived {
		l.arrived[i] += one(l.arrived[i])
	} else {
		l.lost[i] += one(l.lost[i])
	}
}

// one is 1 unless n is full.
func one(n uint16) uint16 {
	if n == 1<<16-1 {
		return 0
	}
	return 1
}

// found takes back a loss: the packet was only late.
func (l *loss) found(now int64) {
	l.advance(now)
	for i := range l.lost {
		if l.lost[i] > 0 {
			l.lost[i]--
			return
		}
	}
}

// ratio is the share of packets lost of those of the last second; 0 if there were few.
func (l *loss) ratio(now int64) float64 {
	l.advance(now)
	arrived, lost := 0, 0
	for i := range l.lost {
		arrived += int(l.arrived[i])
		lost += int(l.lost[i])
	}
	if arrived+lost < lossEnough {
		return 0
	}
	return float64(lost) / float64(arrived+lost)
}

// recent says that a packet was lost just now.
func (l *loss) recent(now int64) bool { return l.lastAt != 0 && now-l.lastAt < 100*millisecond }

// byLoss moves the target for losses. Those of a queue that overflows come with delay, which acts first and faster; this is for
// paths that drop without queueing. Such a path is told from one that loses at random by sending less: a limit stops to
// lose then, the other goes on, and the target comes back.
func (e *Estimator) byLoss(now int64) {
	l := &e.loss
	p := l.ratio(now)
	if p < l.inherent {
		l.inherent = max(p, l.inherent-0.05) // it may have been a bad moment
	}
	if l.askedAt != 0 {
		switch since := now - l.askedAt; {
		case since < second+e.response():
			return // the window still has what was sent before
		case p >= 0.6*l.askedRatio:
			// Less was sent, or was not as the target is far above, and as much is lost: it is not for the rate.
			l.inherent = max(l.inherent, p)
			if l.before > e.target && !e.ctl.held {
				e.set(l.before)
			}
		}
		l.askedAt = 0
	}
	limit := max(lossMinimum, 1.5*l.inherent+0.03)
	if p <= limit || now-l.actedAt < 300*millisecond+e.rtt {
		return
	}
	l.askedAt, l.actedAt = now, now
	l.askedRatio, l.before = p, e.target
	// What arrived is what the path carries at least.
	floor := 0.95 * e.acked.rate(e.clock, 450_000)
	e.set(min(e.target, max(e.target*(1-p/2), floor)))
}
