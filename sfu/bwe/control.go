package bwe

const (
	backoff  = 0.85 // of what arrived while the queue stood
	growth   = 0.08 // per second, far from any known limit
	capacity = 0.2  // weight of a new sight of the limit

	quiet         = 25_000  // microseconds of queue that are no matter
	deep          = 150_000 // above this, beyond the threshold, media waits
	foreseen      = 60_000  // what is left of a queue that is seen to end, when media goes on
	drained       = 100_000 // below this it may go on: the lower layer drains the rest
	hopeless      = 500_000
	rivalPatience = 1500 * millisecond
	cutChain      = 4 * second // reductions closer than this are one
	lateEnough    = 3000       // bytes
	leastSeen     = 0.18       // of what is sent: what a few packets say may be less, and is not believed before it is measured
	heldProof     = 300 * millisecond
	afterHold     = 2 * second // since its begin, in which media is not sent faster than the path is thought to be
	heldAtMost    = 1500 * millisecond
	blackout      = second // without feedback, after which the target falls
)

// control is what the delay makes of the target.
type control struct {
	held    bool  // a deep queue drains
	doubt   bool  // or seems to: the next feedback tells,
	doubtAt int64 // if there is one: who is sent nothing has nothing to report
	stalled bool  // feedback is overdue
	slow    int64 // delay of the last packet at the last feedback, if packets came slower than they left; microseconds

	heldAt  int64
	pressed span // what was in that queue before

	low     int64   // queue at the last feedback, microseconds
	fall    float64 // how far it falls between two feedbacks of itself, in the mean
	over    bool    // it was above the threshold
	cutAt   int64   // last reduction for delay
	cutRate float64
	chain   bool    // it was soon after another
	chainAt int64   // the first of them
	series  float64 // what arrived before the first of several reductions
	clearAt int64   // last without a queue
	limit   float64 // where the path was full last, 0: not known
	limitAt int64

	rivalry bool  // the queue is somebody else's
	emptyAt int64 // since when it is gone, while rivalry
	lostAt  int64 // last reduction for a loss, while rivalry
	deepest int64 // while held

	grewAt int64
	fallAt int64 // last reduction for silence

	overdue float64 // age of the packet in front that is normal when a feedback comes, microseconds
}

// response is how long it takes until a change is seen.
func (e *Estimator) response() int64 { return max(e.rtt, e.path, 10*millisecond) + e.interval }

// threshold is the queue that counts as one, in microseconds. Jitter that the least of several packets still has is allowed for.
func (e *Estimator) threshold() int64 {
	return quiet + int64(e.spread())
}

// spread is how far delays lie apart without a queue, in microseconds.
func (e *Estimator) spread() float64 { return max(4*e.delay.jitter, 8*e.ctl.fall) }

// update moves the target after a feedback.
func (e *Estimator) update(now int64) {
	c := &e.ctl
	low, newest := e.delay.low(), e.delay.newest()
	th := e.threshold()
	rising := low > c.low+2000
	// A queue of ours goes as slowly as it came; what goes at once was jitter that packets share.
	if now-c.cutAt > second && !e.probe.shadows(now) && !c.rivalry {
		c.fall += (float64(min(max(c.low-low, 0), 60_000)) - c.fall) / 64
	}
	c.low = low
	wasOver := c.over
	c.over = low > th

	if c.held {
		e.drain(now, newest, th)
		return
	}
	wasDoubt, wasSlow := c.doubt, c.slow
	c.doubt, c.slow = !wasDoubt && e.silent(now), 0
	if c.doubt {
		c.doubtAt = now
	}
	slower := newest > max(15_000, th/2) && e.slower(now, newest)
	if slower {
		c.slow = newest
	}
	// Packets come slower than they leave for the second time, and later than the first: no more is needed to be sure.
	sure := wasDoubt || e.silent(now) || wasSlow > 0 && newest > max(wasSlow+th/2, 2*th)
	if e.probe.shadows(now) && low < deep+th {
		return // the queue is that of a probe, which is judged on its own
	}
	e.judgeRival(now, low, th)
	switch {
	case c.rivalry:
		e.compete(now)
	case low > deep+th, slower && sure:
		e.hold(now)
	case c.over && wasOver && (rising || low > 2*th):
		e.cut(now, low)
	case !c.over && !e.underused(now):
		e.grow(now)
	default:
		c.grewAt = now
	}
}

// silent says whether packets that should have arrived before this feedback was made are not in it. Behind a queue that has just
// begun to grow fast, all that the path delivers still left before it: what is missing is the first sign of it. It may be no more
// than a feedback that took long, so that it only makes media wait for the next one.
func (e *Estimator) silent(now int64) bool {
	return float64(e.inQueue(now)) > 12_000+2*e.ctl.overdue+4*e.delay.jitter
}

// slower says whether the last packets came at a rate well below that of sending, and enough of ours is late by it: a mere burst of
// ours is faster, and who sends little learns little from one packet.
func (e *Estimator) slower(now, newest int64) bool {
	trail, sent := e.delay.trail(), e.sent.rate(now/1000, 300_000)
	return trail > 0 && trail < 0.75*sent && sent*float64(newest) > 8e6*lateEnough
}

// inQueue is how long the first packet that has not arrived is late, in microseconds.
func (e *Estimator) inQueue(now int64) int64 {
	at, ok := e.flight.oldest(now)
	if !ok {
		return 0
	}
	return (now - at - e.rtt) / 1000
}

// hold makes media wait until the queue has drained, and measures meanwhile what the path carries.
func (e *Estimator) hold(now int64) {
	c := &e.ctl
	c.held, c.heldAt, c.pressed, c.deepest = true, now, span{}, 0
	// What is seen at this moment may be one packet; the measure replaces it.
	seen := e.delay.trail()
	if seen == 0 {
		seen = e.acked.rate(e.clock, 150_000)
	}
	e.reduce(now, max(seen, leastSeen*e.sent.rate(now/1000, 300_000)))
}

// drain waits for the queue to go, and sets the target by what comes out of it.
func (e *Estimator) drain(now, newest, th int64) {
	c := &e.ctl
	if rate, ours := c.pressed.rate(); ours {
		c.limit, c.limitAt = rate, now
		if now-c.chainAt < 1500*millisecond {
			c.series = min(c.series, rate) // the path has become slower; who gives way to a rival does so for long
		}
		e.set(min(backoff*rate, max(e.target, c.cutRate)))
	}
	// Where only audio leaves, each packet should find less of a queue than the one before.
	if e.delay.at(0).sent > (c.heldAt+heldProof)/1000 {
		if newest > c.deepest-50_000 && c.deepest < hopeless {
			e.meetRival(now)
			return
		}
	} else {
		c.deepest = max(c.deepest, newest)
	}
	if max(newest, e.inQueue(now)) < max(th, drained) || e.flight.waiting == 0 || now-c.heldAt > heldAtMost {
		e.release(now)
	}
}

// release lets media leave again.
func (e *Estimator) release(now int64) {
	c := &e.ctl
	c.held = false
	c.cutAt, c.grewAt = now, now
	e.delay.forget()
}

// await ends a doubt and a hold that no feedback ends: without sound nothing leaves meanwhile that there could be any on. It returns
// when to look again.
func (e *Estimator) await(now int64) (next int64) {
	c := &e.ctl
	next = never
	if c.doubt {
		if end := c.doubtAt + e.response() + e.interval; now >= end {
			c.doubt = false
		} else {
			next = end
		}
	}
	if c.held {
		told := max(c.heldAt, e.feedbackAt) + e.response() + e.interval + 1000*e.delay.newest() // when what is under way was told of
		if end := min(c.heldAt+heldAtMost, told); now >= end {
			e.release(now)
		} else {
			next = min(next, end)
		}
	}
	return next
}

// foresee ends a hold when what was seen of our own queue says that it is gone by the time at which what leaves now gets there: the
// feedback that shows it is late by a queue and a round trip, in which the path would stand idle. It returns when to look again.
func (e *Estimator) foresee(now int64) int64 {
	c := &e.ctl
	rate, ours := c.pressed.rate()
	if !c.held || !ours || c.chain {
		return never
	}
	sent := e.delay.lastSent * 1000
	trip := max(e.rtt, e.path)
	// When the newest packet that is known to have arrived was through, at the latest; and what has left since is behind it.
	empty := sent + e.delay.newest()*1000 + trip + int64(float64(e.flight.waiting)*8e9/rate)
	if e.loss.lastAt > c.heldAt {
		empty = min(empty, c.heldAt+c.deepest*1000+trip) // it was full, and what found it so is not in it
	}
	at := empty - foreseen*1000
	if now < at {
		return at
	}
	e.release(now)
	return never
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
	e.reduce(now, acked)
}

// reduce goes below the rate at which packets came lately. If that is the rate at which they left, what we send is not what fills
// the queue, and says little of what we could: then it is a step down and no more.
func (e *Estimator) reduce(now int64, seen float64) {
	c := &e.ctl
	c.chain = c.cutAt != 0 && now-c.cutAt < cutChain
	if sent := e.sent.rate(now/1000, 475_000); c.chain && c.low < hopeless && !e.draining(now) && sent < 0.4*c.series {
		e.meetRival(now) // all that was given up has been taken
		return
	}
	to := backoff * seen
	if seen > 0.9*e.sent.rate(now/1000, 300_000) {
		to = max(to, backoff*e.target)
	}
	acked := e.acked.rate(e.clock, 300_000)
	if c.cutAt == 0 || now-c.cutAt > 2*second {
		c.cutRate = e.target // what a better measure may bring back
	}
	if !c.chain {
		c.chainAt = now
		c.series = acked
	}
	c.cutAt, c.grewAt = now, now
	e.set(min(e.target, to))
	e.probe.overuse(now, e.target)
}

// judgeRival finds out whose queue it is: one that stands although we have sent less for a while is not ours.
func (e *Estimator) judgeRival(now, low, th int64) {
	c := &e.ctl
	if c.rivalry {
		if low >= quiet+int64(4*e.delay.jitter) {
			c.emptyAt = now
		}
		// Our own queue, once the other has gone, is emptied by the first loss. One that is deeper than any that a rival
		// makes us share is no life either.
		if now-c.emptyAt > 2*second || low > hopeless {
			c.rivalry = false
		}
		return
	}
	if low < th {
		c.clearAt = now
		return
	}
	// A queue of ours that we have left alone for so long is gone.
	if now-c.clearAt > rivalPatience && low < hopeless && e.sent.rate(now/1000, 475_000) < 0.75*c.series && !e.draining(now) {
		e.meetRival(now)
	}
}

// draining says that more of ours arrives than leaves: there is a queue of ours, and it is going.
func (e *Estimator) draining(now int64) bool {
	return e.acked.rate(e.clock, 450_000) > 1.1*e.sent.rate(now/1000, 475_000)
}

// meetRival takes up again some of what was given up for a queue that is not ours.
func (e *Estimator) meetRival(now int64) {
	c := &e.ctl
	c.held, c.rivalry = false, true
	c.emptyAt, c.lostAt, c.grewAt = now, now, now
	e.set(max(e.target, min(0.6*c.series, 1.5*e.acked.rate(e.clock, 450_000)+100_000)))
}

// compete shares a queue with a flow that fills it: a little more each round trip, a quarter less for a loss, as such a flow does.
func (e *Estimator) compete(now int64) {
	c := &e.ctl
	wait := max(e.rtt, 10*millisecond) + 1000*c.low
	if e.loss.recent(now) && now-c.lostAt > wait {
		c.lostAt, c.grewAt = now, now
		e.set(0.75 * min(e.target, 1.1*e.acked.rate(e.clock, 450_000)))
		return
	}
	// While nobody fills the queue it may have been us: slowly, and then not at all, until it is clear.
	if empty := now - c.emptyAt; empty > second {
		c.grewAt = now
		return
	} else if empty > 0 {
		wait = max(wait, 150*millisecond)
	}
	// The next layer may be more than half as much again, and there are no probes in somebody else's queue.
	to := e.target + e.packetPer(wait)*e.since(now)
	e.set(max(e.target, min(to, e.probe.want)))
	e.raise(to)
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

// span measures how fast some packets left and came.
type span struct {
	sent, last int64 // when the first and the last left, microseconds
	came, till int64 // and came
	bytes      int   // behind the first
	some       bool
}

func (s *span) add(sent, arrival int64, size int) {
	if !s.some {
		*s = span{sent: sent, last: sent, came: arrival, till: arrival, some: true}
		return
	}
	s.last, s.till, s.bytes = max(s.last, sent), max(s.till, arrival), s.bytes+size
}

// rate is how fast they came, in bit/s; ours says that it is slower than they left, so that it is all that the path has for us.
func (s *span) rate() (rate float64, ours bool) {
	took := s.till - s.came
	if took < 60_000 || s.bytes < 2000 {
		return 0, false
	}
	return float64(s.bytes) * 8e6 / float64(took), 10*took > 11*(s.last-s.sent)
}
