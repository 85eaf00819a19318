package bwe

import "github.com/sotto-edge/sotto/sfu/rtcp"

const (
	tickMicros = 250 // transport-wide feedback counts arrivals in these

	// A clock that jumps by more is another one.
	clockJump = 10_000_000 // microseconds
)

// TransportFeedback takes feedback on transport-wide sequence numbers.
func (e *Estimator) TransportFeedback(f rtcp.TWCC, now int64) {
	if !e.begin(now) {
		return
	}
	for p := range f.Packets {
		ext := e.flight.next - 1
		ext += int64(int16(p.Sequence - uint16(ext)))
		if p.Received {
			e.arrived(ext, e.unwrap(p.Arrival, tickMicros, 1), true, now)
		} else {
			e.missing(ext, now)
		}
	}
	e.finish(now)
}

// StreamFeedback takes feedback on the sequence numbers of streams (RFC 8888).
func (e *Estimator) StreamFeedback(f rtcp.CCFB, now int64) {
	if len(e.keys) == 0 || !e.begin(now) {
		return
	}
	// In the order of sending, which is not that of the feedback.
	first := max(0, e.flight.next-int64(min(len(e.flight.ring), len(e.keys))))
	for ext := first; ext < e.flight.next; ext++ {
		r := e.flight.get(ext)
		if r == nil || r.state&received != 0 {
			continue
		}
		k := e.keys[uint64(ext)%uint64(len(e.keys))]
		p, ok := f.Find(k.ssrc, k.seq)
		switch {
		case !ok:
		case !p.Received:
			e.missing(ext, now)
		case p.Timed:
			e.arrived(ext, e.unwrap(p.Arrival, 15625, 1024), true, now)
		default:
			e.arrived(ext, 0, false, now)
		}
	}
	e.finish(now)
}

func (e *Estimator) begin(now int64) bool {
	e.now = max(e.now, now)
	return e.started
}

// unwrap turns an arrival in ticks of mul/div microseconds, which wrap, into microseconds that do not.
func (e *Estimator) unwrap(tick uint32, mul, div int64) int64 {
	if !e.clockSet {
		e.clockSet, e.ticks = true, int64(tick)
	}
	t := e.ticks + int64(int32(tick-uint32(e.ticks)))
	us := t * mul / div
	if t > e.ticks {
		e.ticks = t
	}
	e.clock = max(e.clock, us)
	return us
}

// arrived takes in that a packet came; timed says that its arrival is known.
func (e *Estimator) arrived(ext, arrival int64, timed bool, now int64) {
	r := e.flight.get(ext)
	if r == nil || r.state&received != 0 {
		return
	}
	if r.state&missed != 0 {
		e.loss.found(now)
	}
	r.state |= received
	e.loss.count(true, now)
	e.told = max(e.told, ext)
	e.flight.arrivedUpTo(ext)
	if !timed {
		return
	}
	sent := e.flight.sentAt(r, now) / 1000
	if d := &e.delay; d.last != unknownBase {
		if jump := arrival - sent - d.last; jump > clockJump || jump < -clockJump {
			d.reset()
			e.acked = meter{}
		}
	}
	e.delay.add(sent, arrival, int(r.size))
	e.acked.add(arrival, int(r.size))
	e.probe.arrived(r.probe, sent, arrival, int(r.size))
	if c := &e.ctl; c.held && sent < c.heldAt/1000 && arrival-sent-e.delay.lowest > quiet {
		c.pressed.add(sent, arrival, int(r.size))
	}
}

// missing takes in that a packet has not come, so far.
func (e *Estimator) missing(ext, now int64) {
	r := e.flight.get(ext)
	if r == nil || r.state&(received|missed) != 0 {
		return
	}
	r.state |= missed
	e.loss.count(false, now)
	if e.flight.sentAt(r, now) > e.ctl.lostAt {
		e.loss.lastAt = now // a loss in answer to what is sent since the last step down
	}
	e.probe.missing(r.probe, int(r.size))
}

// finish draws the conclusions of one feedback.
func (e *Estimator) finish(now int64) {
	if e.told == 0 {
		return // nothing that we sent and did not know of
	}
	if r := e.flight.get(e.told); r != nil {
		e.roundTrip(now - e.flight.sentAt(r, now))
	}
	e.told = 0
	if e.feedbacks > 0 {
		gap := min(now-e.feedbackAt, 250*millisecond)
		e.interval += (gap - e.interval) / 8
	} else {
		e.interval = 100 * millisecond
	}
	e.feedbacks++
	e.feedbackAt = now
	e.ctl.stalled = false

	e.judgeProbe(now)
	e.update(now)
	if !e.ctl.rivalry {
		e.byLoss(now)
	}
	if e.delay.newest() < e.threshold()/2 {
		e.inFront(now)
	}
}

// roundTrip follows the least age of the newest packet in a feedback; it may rise slowly.
func (e *Estimator) roundTrip(age int64) {
	if e.rtt == 0 || age < e.rtt {
		e.rtt = age
		return
	}
	e.rtt += min((age-e.rtt)/512, millisecond/4)
}

// inFront follows how old the first packet that has not arrived is at worst while there is no queue.
func (e *Estimator) inFront(now int64) {
	c := &e.ctl
	c.overdue -= c.overdue / 128
	c.overdue = max(c.overdue, min(float64(e.inQueue(now)), 100_000))
}
