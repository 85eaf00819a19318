package bwe_test

import (
	"testing"

	"github.com/sotto-edge/sotto/sfu/bwe"
)

// media sends at a rate for a while, 20 ms a packet.
func media(e *bwe.Estimator, rate int, from, d int64, seq *uint16) int64 {
	for now := from; now < from+d; now += 20 * ms {
		*seq++
		e.Sent(*seq, rate/8/50, bwe.NoProbe, now)
	}
	return from + d
}

// TestREMB is a receiver that estimates itself and reports no packets.
func TestREMB(t *testing.T) {
	e := bwe.New(bwe.Config{})
	var seq uint16
	now := media(e, 300_000, second, second, &seq)
	e.REMB(2_000_000, now)
	if got := e.Target(); got != 2_000_000 {
		t.Errorf("target %d, told 2000000", got)
	}
	e.REMB(400_000, now+second)
	if got := e.Target(); got != 400_000 {
		t.Errorf("target %d, told 400000", got)
	}
	e.REMB(5_000_000, now+20*second)
	if got := e.Target(); got != 400_000 {
		t.Errorf("target %d without a packet sent for long", got)
	}
}

// TestREMBBounds bounds what feedback on packets has found.
func TestREMBBounds(t *testing.T) {
	w := newWorld(1)
	l := w.newLink(20e6, 200*ms, 20*ms)
	c := w.newCall(l, 20*ms)
	w.run(3 * second)
	if got := c.est.Target(); got < 2e6 {
		t.Fatalf("target %d", got)
	}
	c.onTick = func() {
		if w.now%(100*ms) == 0 {
			c.est.REMB(800_000, w.now)
		}
	}
	w.run(3 * second)
	if got := c.est.Target(); got > 800_000 || c.layer != 1 {
		t.Logf("target %d, layer %d", got, c.layer)
		t.Error("the receiver's own bound does not hold")
	}
	c.onTick = nil
	if took, ok := w.until(20*second, func() bool { return c.layer == 2 }); !ok {
		t.Errorf("still at layer %d after %d s", c.layer, took/second)
	}
}

// TestReceiverReports is a receiver that reports nothing but losses.
func TestReceiverReports(t *testing.T) {
	e := bwe.New(bwe.Config{})
	var seq uint16
	now := second
	report := func(n int, fraction uint8, rate int) {
		for range n {
			now = media(e, rate, now, second, &seq)
			e.ReceiverReport(fraction, now)
		}
	}
	report(30, 0, 300_000)
	if got := e.Target(); got < 350_000 || got > 450_000 {
		t.Errorf("after half a minute without loss the target is %d, with 300 kbit/s sent", got)
	}
	report(60, 0, 300_000)
	if got := e.Target(); got > 450_000 {
		t.Errorf("target %d, with 300 kbit/s sent", got)
	}
	before := e.Target()
	report(5, 13, 300_000)
	if got := e.Target(); got != before {
		t.Errorf("5 %% of loss move the target from %d to %d", before, got)
	}
	report(5, 77, 300_000)
	if got := e.Target(); got > before/2 {
		t.Errorf("30 %% of loss for five seconds leave a target of %d", got)
	}
}

// TestNobodyAnswers sends to a receiver that is silent from the start: no probe but the first two.
func TestNobodyAnswers(t *testing.T) {
	w := newWorld(1)
	c := w.newCall(w.newLink(20e6, 200*ms, 20*ms), 20*ms)
	c.backLoss = func() bool { return true }
	w.run(10 * second)
	if got := c.est.Target(); got != 300_000 {
		t.Errorf("target %d", got)
	}
	if c.probeBytes == 0 || c.probeBytes > 10_000 {
		t.Errorf("%d bytes of probes", c.probeBytes)
	}
}

// TestSequenceWraps runs over the end of the numbers many times; there is no seam.
func TestSequenceWraps(t *testing.T) {
	w := newWorld(3)
	c := w.newCall(w.newLink(20e6, 200*ms, 20*ms), 20*ms)
	w.run(3 * second)
	c.minTarget, c.held = c.est.Target(), 0
	w.run(600 * second)
	if c.minTarget < 2e6 || c.held != 0 || c.layer != 2 {
		t.Errorf("target as low as %d, held for %d ms, layer %d", c.minTarget, c.held/ms, c.layer)
	}
}

// TestGapInNumbers leaves numbers out, as when a packet could not be sent. They are no losses.
func TestGapInNumbers(t *testing.T) {
	w := newWorld(3)
	c := w.newCall(w.newLink(20e6, 200*ms, 20*ms), 20*ms)
	c.onTick = func() {
		if w.rng.IntN(20) == 0 {
			c.seq++
		}
	}
	w.run(20 * second)
	c.seq += 30_000
	w.run(20 * second)
	if c.layer != 2 || c.est.Loss() != 0 {
		t.Errorf("layer %d, %.2f lost", c.layer, c.est.Loss())
	}
}
