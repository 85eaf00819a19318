package bwe

const (
	backoff  = 0.85 // of what arrived while the queue stood
	growth   = 0.08 // per second, far from any known limit
	capacity = 0.2  // weight of a new sight of the limit

	quiet      = 25_000  // microseconds of queue that are no matter
	deep       = 150_000 // above this, beyond the threshold, media waits
	heldAtMost = 1500 * millisecond
	blackout   = second // without feedback, after which the target falls
)

// control is what the delay makes of the target.
type control struct {
	held    bool // a deep queue drains
	stalled bool // feedback is overdue

	heldAt    int64
	heldFrom  int64 // arrival that the measure of the limit begins at, in microseconds; 0: none yet
	heldLast  int64
	heldBytes int

	low      int64 // queue at the last feedback, microseconds
	cutAt    int64 // last reduction for delay
	cutLow   int64 // queue then
	cutRate  float64
	stubborn int     // reductions that did not drain the queue
	limit    float64 // where the path was full last, 0: not known
	limitAt  int64

	rivalry  bool // the queue is somebody else's
	rivalAt  int64
	rivalLow int64
	lostAt   int64 // last reduction for a loss, while rivalry

	grewAt int64
	fallAt int64 // last reduction for silence

	overdue float64 // age of the packet in front that is normal when a feedback comes, microseconds
}

// response is how long it takes until a change is seen.
func (e *Estimator) response() int64 { return max(e.rtt, e.path, 10*millisecond) + e.interval }

// threshold is the queue that counts as one, in microseconds. Jitter that the least of several packets still has is allowed for.
func (e *Estimator) threshold() int64 { return quiet + int64(4*e.delay.jitter) }

// update moves the target after a feedback.
func (e *Estimator) update(now int64) {
	c := &e.ctl
	low, newest := e.delay.low(), e.delay.newest()
	th := e.threshold()
	rising := low > c.low+2000
	c.low = low

	if c.held {
		e.drain(now, newest, th)
		return
	}
	if e.probe.shadows(now) && low < deep+th {
		return // the queue is that of a probe, which is judged on its own
	}
	e.judgeRival(now, low, th)
	switch {
	case c.rivalry:
		e.compete(now)
	case e.standing(now, newest, th) || low > deep+th:
		e.hold(now)
	case low > th && (rising || low > 2*th):
		e.cut(now, low)
	case low < th && !e.underused(now):
		e.grow(now)
	default:
		c.grewAt = now
	}
}

// standing says whether a queue has just begun to grow so fast that to wait for several packets would be too long: the last one
// is late, and those behind it are more so, although they have not arrived.
func (e *Estimator) standing(now, newest, th int64) bool {
	if newest < max(15_000, th/2) {
		return false
	}
	at, ok := e.flight.oldest(now)
	if !ok {
		return false
	}
	age := (now-at)/1000 - e.rtt/1000
	return float64(age) > 30_000+1.5*e.ctl.overdue+4*e.delay.jitter
}

// hold makes media wait until the queue has drained, and measures meanwhile what the path carries.
func (e *Estimator) hold(now int64) {
	c := &e.ctl
	c.held, c.heldAt, c.heldFrom, c.heldBytes = true, now, 0, 0
	// What is seen at this moment may be one packet; the measure replaces it.
	seen := e.delay.trail()
	if seen == 0 {
		seen = e.acked.rate(e.clock, 150_000)
	}
	e.reduce(now, backoff*seen)
}

// drain waits for the queue to go, and sets the target by what comes out of it.
func (e *Estimator) drain(now, newest, th int64) {
	c := &e.ctl
	if seen := c.heldLast - c.heldFrom; c.heldFrom != 0 && seen >= 60_000 && c.heldBytes >= 2000 {
		rate := float64(c.heldBytes) * 8e6 / float64(seen)
		c.limit, c.limitAt = rate, now
		e.set(min(backoff*rate, max(e.target, c.cutRate)))
	}
	if newest < max(th, 40_000) || e.flight.waiting == 0 || now-c.heldAt > heldAtMost {
		c.held = false
		c.cutAt, c.grewAt = now, now
		e.delay.forget()
	}
}

// cut goes below what the path carries, so that the queue drains.
func (e *Estimator) cut(now, low int64) {
	c := &e.ctl
	if now-c.cutAt < e.response()+100*millisecond {
		return
	}
	acked := min(e.acked.rate(e.clock, 300_000), 1.1*e.sent.rate(e.now/1000, 475_000)+10_000)
	if c.limit == 0 || now-c.limitAt > 30*second || acked < c.limit/2 || acked > 2*c.limit {
		c.limit = acked
	}
	c.limit += capacity * (acked - c.limit)
	c.limitAt = now
	e.reduce(now, backoff*acked)
}

func (e *Estimator) reduce(now int64, to float64) {
	c := &e.ctl
	c.cutRate = e.target
	c.cutAt, c.cutLow, c.grewAt = now, c.low, now
	e.set(min(e.target, to))
	e.probe.overuse(now)
}

// judgeRival finds out whose queue it is: ours drains when we send less.
func (e *Estimator) judgeRival(now, low, th int64) {
	c := &e.ctl
	if low < th {
		c.stubborn = 0
	}
	if c.rivalry {
		c.rivalLow = max(c.rivalLow, low)
		if low < th || now-c.rivalAt > 20*second {
			c.rivalry, c.stubborn = false, 0
		}
		return
	}
	if c.cutAt == 0 || low < th || now-c.cutAt < e.response()+300*millisecond {
		return
	}
	if e.sent.rate(e.now/1000, 300_000) < 1.05*e.target && low > c.cutLow*9/10 {
		if c.stubborn++; c.stubborn >= 3 {
			c.rivalry, c.rivalAt, c.rivalLow, c.lostAt, c.grewAt = true, now, low, now, now
		}
	} else {
		c.stubborn = 0
	}
}

// compete shares a queue with a flow that fills it: a little more each round trip, a quarter less for a loss, as such a flow does.
func (e *Estimator) compete(now int64) {
	c := &e.ctl
	wait := e.response() + 1000*c.low
	if e.loss.recent(now) && now-c.lostAt > wait {
		c.lostAt, c.grewAt = now, now
		e.set(0.75 * e.target)
		return
	}
	if e.underused(now) {
		c.grewAt = now
		return
	}
	e.raise(e.target + e.packetPer(wait)*e.since(now))
}

// grow adds to the target while it is used and the path shows no queue.
func (e *Estimator) grow(now int64) {
	c := &e.ctl
	dt := e.since(now)
	if c.limit != 0 && now-c.limitAt < 30*second && e.target > 0.7*c.limit && e.target < 1.2*c.limit {
		e.raise(e.target + e.packetPer(e.response()+50*millisecond)*dt)
		return
	}
	e.raise(e.target * (1 + growth*dt))
}

// since is the time to grow for, in seconds.
func (e *Estimator) since(now int64) float64 {
	dt := min(now-e.ctl.grewAt, 250*millisecond)
	e.ctl.grewAt = now
	return float64(dt) / float64(second)
}

// packetPer is the rise in bit/s per second that adds one packet in each round of t.
func (e *Estimator) packetPer(t int64) float64 {
	s := float64(t) / float64(second)
	return 8 * 1200 / s / s
}

// raise lifts the target no further than half beyond what has arrived.
func (e *Estimator) raise(to float64) {
	limit := 1.5*min(e.acked.rate(e.clock, 450_000), e.sent.rate(e.now/1000, 475_000)) + 10_000
	if to = min(to, limit); to > e.target {
		e.set(to)
	}
}

// underused says that less is sent than could be: nothing is learned about the target then.
func (e *Estimator) underused(now int64) bool {
	return e.sent.rate(now/1000, 475_000) < 0.85*e.target
}

// watch acts on feedback that does not come.
func (e *Estimator) watch(now int64) (next int64) {
	c := &e.ctl
	c.stalled = false
	if e.feedbacks == 0 {
		return never
	}
	at, ok := e.flight.oldest(now)
	if !ok {
		return never
	}
	limit := e.rtt + 3*e.interval + 150*millisecond + int64(8000*e.delay.jitter)
	since := max(at, e.feedbackAt)
	if now-since < limit {
		return since + limit
	}
	c.stalled = true
	if now-since > blackout && now-c.fallAt > blackout {
		c.fallAt = now
		e.set(0.7 * e.target)
	}
	return now + 200*millisecond
}
