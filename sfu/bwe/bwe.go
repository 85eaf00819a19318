// Package bwe estimates what one receiver's path can carry, and shares it out between the streams that the receiver is sent.
//
// It owns two things. Estimator, one for each receiving session, learns from feedback on the arrival of what was sent
// (transport-wide feedback, or RFC 8888), and where a receiver has neither from its own estimate (REMB) or from the losses in
// its reports. Allocate, a pure function, turns an estimate into one choice for each stream.
//
// Estimator promises: a queue that builds up is answered within one feedback, by a lower Target and, when it is deep, by
// Congested; a path that gives no delay but loses packets at random is not taken for a full one; the target never rises
// without packets that arrived at that rate. A node mostly sends less than the path could carry, because layers are steps:
// while it does, the target stays where it was proven, and probes (Want, Probe) prove more before a layer is switched up.
//
// It works on the delay in one direction against the lowest of the last seconds, rather than on its slope alone: the least of
// several packets is free of jitter, and a level cannot be missed by a feedback that was lost. When backing off does not drain
// the queue, it is somebody else's; then delay is put aside and loss decides, so that a greedy flow does not starve us.
//
// Nothing here does I/O, reads a clock, takes a lock or allocates per packet: the record of what is in flight grows by
// doubling to what the path needs, and stays. Time is handed in, as monotonic nanoseconds. It does not pace and does not make
// probes' packets: the sender does, by PacingRate and Probe.
//
// The life of an Estimator:
//
//	e := bwe.New(bwe.Config{})
//	e.Sent(seq, size, bwe.NoProbe, now)     // each packet, as it leaves
//	e.TransportFeedback(twcc, now)          // each feedback, as it comes
//	next := e.Tick(now)                     // when next has come, and after feedback
//	e.Want(upgrade, now)                    // what Allocate says that the next step needs
//	for p, ok := e.Probe(now); ok; …        // each time the pacer runs, behind the media
//	bwe.Allocate(e.Target(), …)             // when Target has moved
package bwe

import "math"

const (
	millisecond int64 = 1e6
	second      int64 = 1e9

	never = int64(math.MaxInt64)
)

// Config is what an estimator starts from. The zero value is ready to use.
type Config struct {
	// Start is the estimate before anything is known, 300 kbit/s if zero; Min and Max bound it, 50 kbit/s and 30 Mbit/s.
	Start, Min, Max uint64
	// Streams says that the receiver names packets by stream (RFC 8888): packets are told by SentStream.
	Streams bool
}

// Estimator follows the path to one receiver.
type Estimator struct {
	cfg Config

	target  float64 // bit/s
	cap     float64 // limit set by the receiver (REMB), +Inf if it sets none
	capAt   int64
	started bool
	now     int64 // newest time handed in

	flight flight
	keys   []key // beside flight.ring, if Config.Streams

	sent  meter // what was sent, by our clock
	acked meter // what arrived, by the receiver's clock
	delay delay
	loss  loss
	probe prober
	ctl   control

	feedbacks  uint64
	feedbackAt int64 // last
	interval   int64 // between feedbacks, smoothed
	rtt        int64 // least age of the newest packet of a feedback, recent
	told       int64 // newest number that this feedback is the first to tell of, 0: none
	path       int64 // round trip that others measured
	reportAt   int64 // last receiver report that was acted on
	clock      int64 // newest arrival, in microseconds on the receiver's clock
	ticks      int64 // the same in its ticks, unwrapped
	clockSet   bool
}

// New makes an estimator.
func New(cfg Config) *Estimator {
	if cfg.Start == 0 {
		cfg.Start = 300_000
	}
	if cfg.Min == 0 {
		cfg.Min = 50_000
	}
	if cfg.Max == 0 {
		cfg.Max = 30_000_000
	}
	cfg.Max = max(cfg.Max, cfg.Min)
	cfg.Start = min(max(cfg.Start, cfg.Min), cfg.Max)
	e := &Estimator{cfg: cfg, target: float64(cfg.Start), cap: math.Inf(1)}
	e.delay.reset()
	return e
}

// Sent notes a packet as it leaves: its transport-wide sequence number, its size with headers, and the probe that it is of, or
// NoProbe. Numbers go up by one; a number that is left out never counts as lost.
func (e *Estimator) Sent(seq uint16, size int, probe ProbeID, now int64) {
	e.start(now)
	e.put(e.flight.extend(seq), size, probe, now)
}

// SentStream notes a packet as it leaves, for a receiver that names it by stream and sequence number (RFC 8888).
func (e *Estimator) SentStream(ssrc uint32, seq uint16, size int, probe ProbeID, now int64) {
	e.start(now)
	ext := e.flight.next
	e.put(ext, size, probe, now)
	if len(e.keys) != len(e.flight.ring) {
		e.keys = regrow(e.keys, len(e.flight.ring), ext)
	}
	e.keys[uint64(ext)%uint64(len(e.keys))] = key{ssrc: ssrc, seq: seq}
}

func (e *Estimator) start(now int64) {
	if !e.started {
		e.started = true
		e.flight.epoch = now
		e.probe.first(now)
	}
	e.now = max(e.now, now)
}

func (e *Estimator) put(ext int64, size int, probe ProbeID, now int64) {
	size = min(max(size, 0), math.MaxUint16)
	// Media that leaves while a probe does is part of it: together they are the rate that is tried.
	id := e.probe.send(probe, size, now)
	e.flight.put(ext, size, id, now, e.lifetime())
	e.sent.add(now/1000, size)
}

// lifetime is how long a packet's record is of use: a feedback may be late by a full queue.
func (e *Estimator) lifetime() int64 { return 3*e.rtt + 2*e.interval + 500*millisecond }

// REMB takes the receiver's own estimate. It bounds the target; and it is the target when there is no feedback on packets.
func (e *Estimator) REMB(bps uint64, now int64) {
	e.now = max(e.now, now)
	e.cap, e.capAt = float64(max(bps, e.cfg.Min)), now
	if e.cap < e.target || !e.hasFeedback(now) && e.sent.rate(e.now/1000, 500_000) > 0 {
		e.set(e.cap)
	}
}

// ReceiverReport takes the share of packets that one stream lost, in 1/256 (RFC 3550 §6.4.1). It counts when nothing better
// is known.
func (e *Estimator) ReceiverReport(fractionLost uint8, now int64) {
	e.now = max(e.now, now)
	if e.hasFeedback(now) || now-e.reportAt < 500*millisecond && e.reportAt != 0 {
		return
	}
	dt := float64(min(now-e.reportAt, second)) / float64(second)
	if e.reportAt == 0 {
		dt = 0
	}
	e.reportAt = now
	p := float64(fractionLost) / 256
	switch {
	case p > 0.1:
		e.set(e.target * (1 - p/2))
	case p < 0.02:
		// Proof is what is sent without loss; a quarter more may be tried.
		if sent := e.sent.rate(e.now/1000, 500_000); e.target < 1.25*sent {
			e.set(e.target * (1 + 0.08*dt))
		}
	}
}

// RoundTrip takes a round trip time that others measured, in nanoseconds.
func (e *Estimator) RoundTrip(rtt int64) {
	if rtt > 0 {
		e.path = rtt
	}
}

// Target is what may be sent, in bit/s, everything together.
func (e *Estimator) Target() uint64 { return uint64(e.target) }

// PacingRate is how fast what waits may leave, in bit/s: a frame is spread over less than its interval, but not sent as one
// burst. Audio need not wait.
func (e *Estimator) PacingRate() uint64 {
	if c := &e.ctl; c.held || c.rivalry || c.heldAt != 0 && e.now-c.heldAt < afterHold {
		return uint64(1.2 * e.target) // what has waited must not make the queue again
	}
	return uint64(2.5 * e.target)
}

// Congested says that a queue stands on the path, or that nothing is heard any more: what is not audio waits. It may be a doubt
// that ends with the next feedback: what waits is sent then, unless Target says that another layer is to go down at once.
func (e *Estimator) Congested() bool { return e.ctl.held || e.ctl.doubt || e.ctl.stalled }

// Draining says that a queue of ours is known to stand on the path, and that media waits until it is gone.
func (e *Estimator) Draining() bool { return e.ctl.held }

// Loss is the share of packets lost in the last second, 0 to 1.
func (e *Estimator) Loss() float64 { return e.loss.ratio(e.now) }

// Queue is how much longer than at best packets are under way now, in nanoseconds.
func (e *Estimator) Queue() int64 { return e.delay.low() * 1000 }

// Acknowledged is the rate at which packets arrived last, in bit/s.
func (e *Estimator) Acknowledged() uint64 { return uint64(e.acked.rate(e.clock, 500_000)) }

// hasFeedback says whether the receiver reports on packets. One that did so and fell silent does.
func (e *Estimator) hasFeedback(now int64) bool {
	return e.feedbacks > 0 && now-e.feedbackAt < 10*second
}

// set moves the target within its bounds.
func (e *Estimator) set(v float64) {
	e.target = min(max(min(v, e.bound()), float64(e.cfg.Min)), float64(e.cfg.Max))
}

// bound is what the receiver has said that it can take, while that is fresh.
func (e *Estimator) bound() float64 {
	if e.now-e.capAt < 10*second {
		return e.cap
	}
	return math.Inf(1)
}

// Tick does what time alone makes due and returns when to call it next: math.MaxInt64 while nothing is under way.
func (e *Estimator) Tick(now int64) (next int64) {
	e.now = max(e.now, now)
	if !e.started {
		return never
	}
	next = min(e.watch(e.now), e.foresee(e.now), e.await(e.now))
	return min(next, e.schedule(e.now))
}
