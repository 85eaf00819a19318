package bwe

// ProbeID tells the packets of one probe from all others.
type ProbeID uint8

// NoProbe is the ProbeID of what is sent for its own sake.
const NoProbe ProbeID = 0

// Probe is what should leave now, behind the media, as padding or as packets sent again.
type Probe struct {
	ID    ProbeID
	Rate  uint64 // that is tried, bit/s, media included
	Bytes int    // due now
}

const (
	probeQuantum  = 5 * millisecond  // how often the sender comes round
	probeTime     = 30 * millisecond // that a probe lasts at least
	probeBytes    = 3000             // and how large it is at least
	probeTimeout  = 200 * millisecond
	probeBurst    = 2500 // microseconds: what leaves within is one burst
	probeFirst    = 3    // times the start is tried first
	probeRound    = 2.5  // and what was proven, in each further round at the start
	blurring      = 8000 // microseconds between delays
	probeStart    = 6e6  // bit/s that are tried for at the start, once anything is wanted
	probeUp       = 3.2  // times the target at most, in a probe for an upgrade
	probeSoon     = 200 * millisecond
	probeUse      = 1500 * millisecond
	probeRetry    = second
	probeRetryMax = 4 * second
	probeCalm     = second // after a queue, and a second more for each Mbit/s
	unanswered    = 2      // probes into silence; a receiver that has not answered reports nothing
)

// prober runs one probe at a time and measures it by itself: how fast it left, how fast it came.
type prober struct {
	want    float64
	initial bool // in the doubling at the start
	again   bool // in which one probe has failed

	nextAt   int64
	retry    int64
	provenAt int64 // last success
	tried    uint8 // before any feedback

	id      ProbeID
	active  bool // is leaving
	pending bool // has left, or part of it, and is not judged
	rate    float64
	startAt int64
	doneAt  int64
	shadow  int64 // until when its queue may be seen

	// What left, in microseconds and bytes.
	bytes, sent         int
	firstSent, lastSent int64
	firstLast           int64 // end of the first burst
	firstBytes          int
	burstSent           int64
	burstBytes          int
	got, gotFirst, lost int
	firstGot, lastGot   int64
	headLeast, endLeast int64 // delay in its first and last third
}

func (p *prober) first(now int64) {
	p.initial, p.retry, p.nextAt = true, probeRetry, now
}

// Want says that an upgrade to this rate, everything together, is plausible: it is probed for. 0 ends that.
func (e *Estimator) Want(bps uint64, now int64) {
	e.now = max(e.now, now)
	e.probe.want = float64(min(bps, e.cfg.Max))
}

// Probe says what should be sent now beyond the media, to try a higher rate. The sender calls it each time that its pacer has
// run, every 5 ms while a probe lasts (Tick says so), and tells what it sends by Sent with the probe's ID. Of a session whose
// receiver reports no packets it is not to be called.
func (e *Estimator) Probe(now int64) (Probe, bool) {
	e.start(now)
	p := &e.probe
	if !p.active && !e.beginProbe(e.now) {
		return Probe{}, false
	}
	if e.now-p.startAt > probeTimeout+p.length() {
		e.abandonProbe(e.now)
		return Probe{}, false
	}
	due := int(p.rate/8*float64(e.now-p.startAt+probeQuantum)/float64(second)) - p.sent
	if due = min(due, p.bytes-p.sent); due <= 0 {
		return Probe{}, false
	}
	return Probe{ID: p.id, Rate: uint64(p.rate), Bytes: due}, true
}

// length is how long the probe lasts.
func (p *prober) length() int64 { return int64(float64(p.bytes) * 8 / p.rate * float64(second)) }

// goal is the rate that the next probe tries, 0 if none is due.
func (e *Estimator) goal() float64 {
	p := &e.probe
	top := min(float64(e.cfg.Max), e.bound())
	if p.initial && p.want > e.target {
		times := probeRound
		if e.feedbacks == 0 {
			times = probeFirst
		}
		if top = min(top, max(probeStart, 1.1*p.want)); e.target < top {
			return min(times*e.target, top)
		}
	}
	if top = min(top, 1.1*p.want); p.want > e.target && top > e.target {
		return min(probeUp*e.target, top)
	}
	return 0
}

func (e *Estimator) beginProbe(now int64) bool {
	p := &e.probe
	if p.pending || now < p.nextAt || !e.calm(now) {
		return false
	}
	if e.feedbacks == 0 {
		if p.tried >= unanswered {
			return false
		}
		p.tried++
	}
	if !p.initial && now-p.provenAt < probeUse && e.underused(now) {
		return false // what was proven last is to be used first: others may have need of the rest
	}
	rate := e.goal()
	if rate == 0 {
		return false
	}
	id := p.id + 1
	if id == NoProbe {
		id++
	}
	// Jitter blurs a short probe.
	length := probeTime + int64(1500*e.spread())
	p.id, p.rate, p.startAt, p.active = id, rate, now, true
	p.bytes = max(probeBytes, int(rate/8*float64(length)/float64(second)))
	p.sent, p.burstBytes, p.got, p.gotFirst, p.lost = 0, 0, 0, 0, 0
	p.headLeast, p.endLeast = unknownBase, unknownBase
	return true
}

// calm says that nothing speaks against more.
func (e *Estimator) calm(now int64) bool {
	c := &e.ctl
	return !c.held && !c.stalled && !c.rivalry && e.delay.low() < e.threshold() && e.loss.askedAt == 0 &&
		e.loss.ratio(now) <= max(lossMinimum, 1.5*e.loss.inherent+0.03)
}

// sent counts a packet and returns the probe that it is part of.
func (p *prober) send(id ProbeID, size int, now int64) ProbeID {
	if !p.active {
		return NoProbe
	}
	us := now / 1000
	if p.sent == 0 {
		p.firstSent, p.burstSent, p.firstBytes = us, us, 0
	}
	if us-p.burstSent >= probeBurst {
		p.burstSent, p.burstBytes = us, 0
	}
	if us-p.firstSent < probeBurst {
		p.firstLast, p.firstBytes = us, p.firstBytes+size
	}
	p.lastSent = us
	p.sent += size
	p.burstBytes += size
	if p.sent >= p.bytes {
		p.active, p.pending, p.doneAt = false, true, now
	}
	return p.id
}

// arrived takes in a packet of a probe; all times are in microseconds.
func (p *prober) arrived(id ProbeID, sent, arrival int64, size int) {
	if id == NoProbe || id != p.id || p.sent == 0 {
		return
	}
	if p.got == 0 {
		p.firstGot, p.lastGot = arrival, arrival
	}
	if sent-p.firstSent < probeBurst {
		p.gotFirst += size
		p.firstGot = max(p.firstGot, arrival)
	}
	p.got += size
	p.lastGot = max(p.lastGot, arrival)
	third := p.length() / 3000
	if at := sent - p.firstSent; at < third {
		p.headLeast = min(p.headLeast, arrival-sent)
	} else if at > 2*third-probeBurst {
		p.endLeast = min(p.endLeast, arrival-sent)
	}
}

// missing takes in that a packet of a probe has not come.
func (p *prober) missing(id ProbeID, size int) {
	if id != NoProbe && id == p.id {
		p.lost += size
	}
}

// judge says what the probe has shown, once all of it has come or no more will come: the rate that got through, and whether
// that was all that was sent.
func (p *prober) judge(now, patience int64, spread float64) (rate float64, full, done bool) {
	if !p.pending || p.got+p.lost < p.sent && now-p.doneAt < patience {
		return 0, false, false
	}
	p.pending = false
	span, came := p.lastSent-p.firstLast, p.lastGot-p.firstGot
	if 10*p.got < 8*p.sent || span <= probeBurst || p.got <= p.gotFirst {
		return 0, false, true
	}
	// Both from the end of the first burst to the end of the last, so that bursts do not make either look faster.
	left := float64(p.sent-p.firstBytes) * 8e6 / float64(span)
	rate = float64(p.got-p.gotFirst) * 8e6 / float64(max(came, 1))
	if spread > blurring && p.headLeast != unknownBase && p.endLeast != unknownBase {
		// The same from the queue that it built: the least delay of several packets is not blurred by jitter as two ends are.
		queue, over := max(p.endLeast-p.headLeast, 0), 2*p.length()/3000
		rate = max(rate, left*float64(over)/float64(over+queue))
	}
	if full = rate > 0.9*left; full {
		return min(p.rate, float64(p.sent-p.burstBytes)*8e6/float64(max(p.burstSent-p.firstSent, 1))), true, true
	}
	return rate, false, true
}

// judgeProbe makes the target of what a probe has shown.
func (e *Estimator) judgeProbe(now int64) {
	p := &e.probe
	rate, full, done := p.judge(now, 2*e.rtt+2*e.interval, e.spread())
	if !done {
		return
	}
	p.shadow = now + e.response()
	switch {
	case 10*(p.got+p.lost) < 8*p.sent:
		p.nextAt = now // feedback was lost, and says nothing
	case full:
		p.retry, p.nextAt, p.provenAt = probeRetry, now, now
		e.set(max(e.target, rate))
		e.ctl.grewAt = now
		if rate > e.ctl.limit {
			e.ctl.limit = 0
		}
	case rate > 0:
		// The path is full at this rate.
		e.ctl.limit, e.ctl.limitAt = rate, now
		e.set(max(e.target, backoff*rate))
		e.probeFailed(now)
	default:
		e.probeFailed(now)
	}
}

func (e *Estimator) probeFailed(now int64) {
	p := &e.probe
	if p.initial && !p.again {
		p.again, p.nextAt = true, now+probeSoon // one that jitter has blurred must not cost a good path its start
		return
	}
	p.initial = false
	p.nextAt = now + p.retry
	p.retry = min(p.retry*3/2, probeRetryMax)
}

// abandonProbe gives up a probe that could not be sent or would lie.
func (e *Estimator) abandonProbe(now int64) {
	p := &e.probe
	if p.active {
		p.doneAt = now
	}
	p.active, p.pending = false, false
	p.nextAt = max(p.nextAt, now+p.retry)
}

// overuse takes in that a queue was seen: what is under way would be measured in it. Who has much waits longer before it asks for
// more, so that of two who share a path the smaller one comes first.
func (p *prober) overuse(now int64, target float64) {
	p.active, p.pending, p.initial = false, false, false
	p.nextAt = max(p.nextAt, now+probeCalm+min(int64(target/1e6*float64(second)), probeRetryMax))
}

// shadows says whether a queue of now may be that of a probe.
func (p *prober) shadows(now int64) bool { return p.active || p.pending || now < p.shadow }

// schedule returns when the prober has something to do.
func (e *Estimator) schedule(now int64) int64 {
	p := &e.probe
	switch {
	case p.active:
		return now + probeQuantum
	case p.pending:
		if now-p.doneAt > 2*e.rtt+2*e.interval+second {
			// No feedback told of it.
			p.pending = false
			if e.feedbacks > 0 {
				e.probeFailed(now)
			}
			return now + probeQuantum
		}
		return p.doneAt + 2*e.rtt + 2*e.interval + second + millisecond
	case e.goal() == 0 || e.feedbacks == 0 && p.tried >= unanswered:
		return never
	}
	return max(p.nextAt, now+probeQuantum)
}
