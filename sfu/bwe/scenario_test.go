package bwe_test

import (
	"fmt"
	"testing"
)

// seeds runs a scenario ten times; nine must hold.
func seeds(t *testing.T, scenario func(w *world) (figures string, ok bool)) {
	t.Helper()
	held := 0
	for seed := uint64(1); seed <= 10; seed++ {
		figures, ok := scenario(newWorld(seed))
		mark := "    "
		if ok {
			held++
		} else {
			mark = "MISS"
		}
		t.Logf("%s seed %2d: %s", mark, seed, figures)
	}
	if held < 9 {
		t.Errorf("%d of 10 hold, want 9", held)
	}
}

func kbit(bps uint64) string { return fmt.Sprintf("%d kbit/s", bps/1000) }

// until runs until f, for d at most, and returns how long it took.
func (w *world) until(d int64, f func() bool) (int64, bool) {
	for from := w.now; w.now < from+d; w.run(ms) {
		if f() {
			return w.now - from, true
		}
	}
	return d, f()
}

func TestStart(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(20e6, 200*ms, 20*ms)
		c := w.newCall(l, 20*ms, lowRate, midRate, highRate, 5_000_000)
		top, _ := w.until(5*second, func() bool { return c.layer >= 2 })
		five, ok := w.until(2*second-top, func() bool { return c.est.Target() >= 5e6 })
		w.run(2 * second)
		return fmt.Sprintf("1.5 Mbit/s sent after %d ms, 5 Mbit/s proven after %d ms, queue at most %d ms", top/ms, (top+five)/ms, l.peak/ms),
			ok && top < second && l.peak < 60*ms && c.layer == 3
	})
}

// TestBottleneckAppearsAndClears cuts a path from 20 Mbit/s to 300 kbit/s under a layer of 1.5 Mbit/s, with room for two seconds of
// queue. The queue grows by more than four seconds a second until the receiver's next feedback (every 50 ms) can tell of it and
// has come back: about 300 ms of queue stand by then on a path of 10 ms, whoever the sender is, and 400 ms on one of 40 ms.
func TestBottleneckAppearsAndClears(t *testing.T) {
	for _, oneWay := range []int64{5 * ms, 20 * ms} {
		t.Run(fmt.Sprintf("round trip of %d ms", 2*oneWay/ms), func(t *testing.T) {
			var sum int64
			seeds(t, func(w *world) (string, bool) {
				l := w.newLink(20e6, 2*second, oneWay)
				c := w.newCall(l, oneWay)
				w.run(10*second + w.rng.Int64N(100*ms))
				if c.layer != 2 {
					return "never at the top", false
				}
				l.peak = 0
				l.setRate(300_000, 2*second)
				down, _ := w.until(5*second, func() bool { return c.switchTo < 2 })
				low, _ := w.until(5*second, func() bool { return c.layer == 0 })
				w.run(10*second - down - low)
				peak := l.peak
				sum += peak
				l.peak = 0
				w.run(10 * second)
				later := l.peak
				target, layer := c.est.Target(), c.layer
				l.setRate(20e6, 2*second)
				up, ok := w.until(15*second, func() bool { return c.layer == 2 })
				return fmt.Sprintf("down decided after %d ms, low after %d ms, queue at most %d ms (later %d), held %d ms at most, target %s, top again after %d ms",
						down/ms, (low+down)/ms, peak/ms, later/ms, c.longest/ms, kbit(target), up/ms),
					ok && down <= 150*ms && low+down < 500*ms && peak <= 600*ms && later < 150*ms && layer == 0 && target < 400_000 && up < 10*second
			})
			mean := sum / 10
			t.Logf("queue at most %d ms in the mean", mean/ms)
			if mean > 450*ms {
				t.Error("the queue is deeper than feedback makes it")
			}
		})
	}
}

// TestLossIsNoLimit loses at random; there is no queue.
func TestLossIsNoLimit(t *testing.T) {
	for _, share := range []float64{0.02, 0.05, 0.08} {
		t.Run(fmt.Sprintf("%.0f %%", 100*share), func(t *testing.T) {
			seeds(t, func(w *world) (string, bool) {
				l := w.newLink(10e6, 200*ms, 20*ms)
				c := w.newCall(l, 20*ms)
				w.run(5 * second)
				l.loss = func() bool { return w.rng.Float64() < share }
				c.minTarget = c.est.Target()
				w.run(60 * second)
				return fmt.Sprintf("target %s, least %s, layer %d, loss measured %.1f %%", kbit(c.est.Target()), kbit(c.minTarget), c.layer, 100*c.est.Loss()),
					c.minTarget > audioRate+midRate && c.layer == 2
			})
		})
	}
}

// TestLossFromTheStart has to climb while it loses.
func TestLossFromTheStart(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(10e6, 200*ms, 20*ms)
		l.loss = func() bool { return w.rng.Float64() < 0.05 }
		c := w.newCall(l, 20*ms)
		took, ok := w.until(10*second, func() bool { return c.layer == 2 })
		w.run(10 * second)
		return fmt.Sprintf("top layer after %d ms, target %s", took/ms, kbit(c.est.Target())), ok && c.layer == 2
	})
}

// TestBurstLoss loses a fifth in runs of four for five seconds.
func TestBurstLoss(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(10e6, 200*ms, 20*ms)
		c := w.newCall(l, 20*ms)
		w.run(5 * second)
		before := c.est.Target()
		l.loss = bursts(w.rng, 0.2, 4)
		w.run(second)
		c.minTarget = c.est.Target()
		w.run(4 * second)
		least, layer := c.minTarget, c.layer
		l.loss = nil
		took, ok := w.until(10*second, func() bool { return c.layer == 2 && !c.est.Congested() })
		return fmt.Sprintf("target %s before, least %s, layer %d at the end of it, at the top %d ms after", kbit(before), kbit(least), layer, took/ms),
			ok && took < 2*second && least > audioRate+lowRate
	})
}

// TestPolicer drops what is above a rate, without a queue.
func TestPolicer(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(800_000, 10*ms, 20*ms)
		l.limit = 6000
		c := w.newCall(l, 20*ms)
		w.run(20 * second)
		sent, drops, got := int(c.seq), l.drops, c.delivered
		w.run(20 * second)
		lost := float64(l.drops-drops) / float64(uint16(int(c.seq)-sent))
		return fmt.Sprintf("target %s, layer %d, %d kbit/s arrive, %.1f %% lost", kbit(c.est.Target()), c.layer, (c.delivered-got)*8/20_000, 100*lost),
			c.layer == 1 && lost < 0.03
	})
}

// TestDeepQueue is a path with a second of queue: the limit must be found long before it is full.
func TestDeepQueue(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(1_200_000, second, 20*ms)
		c := w.newCall(l, 20*ms, 100_000, 200_000, 300_000, 450_000, 600_000, 800_000, 1_000_000, 1_300_000, 1_600_000, 2_000_000)
		var sum, n, worst int64
		w.run(5 * second)
		first := l.peak
		got := c.video
		c.onTick = func() {
			q := l.waits()
			sum, n, worst = sum+q, n+1, max(worst, q)
		}
		w.run(60 * second)
		return fmt.Sprintf("queue at most %d ms at the start, %d ms later, %d ms in the mean; %d of 1200 kbit/s used; target %s",
				first/ms, worst/ms, sum/n/ms, (c.video-got)*8/60_000, kbit(c.est.Target())),
			first < 300*ms && worst < 300*ms && sum/n < 60*ms && (c.video-got)*8/60 > 650_000
	})
}

// TestJitter delays each packet and each feedback by up to 60 ms, in order and out of it.
func TestJitter(t *testing.T) {
	for _, order := range []bool{true, false} {
		t.Run(fmt.Sprintf("in order %v", order), func(t *testing.T) {
			seeds(t, func(w *world) (string, bool) {
				l := w.newLink(20e6, 200*ms, 20*ms)
				l.jitter, l.order = 30*ms, order
				c := w.newCall(l, 20*ms)
				c.backJit = 30 * ms
				up, ok := w.until(10*second, func() bool { return c.layer == 2 })
				w.run(5 * second)
				c.minTarget, c.held, c.longest = c.est.Target(), 0, 0
				w.run(60 * second)
				return fmt.Sprintf("top layer after %d ms, target least %s, last %s, held %d ms of a minute, layer %d", up/ms, kbit(c.minTarget), kbit(c.est.Target()), c.held/ms, c.layer),
					ok && c.minTarget > audioRate+highRate && c.layer == 2 && c.held < second
			})
		})
	}
}

// TestReordering swaps packets without a delay that one could see.
func TestReordering(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(20e6, 200*ms, 20*ms)
		l.jitter = 4 * ms
		c := w.newCall(l, 20*ms)
		w.run(5 * second)
		c.minTarget, c.held = c.est.Target(), 0
		w.run(30 * second)
		return fmt.Sprintf("target least %s, held %d ms, loss measured %.2f %%", kbit(c.minTarget), c.held/ms, 100*c.est.Loss()),
			c.minTarget > audioRate+highRate && c.layer == 2 && c.held == 0
	})
}

// TestLostFeedback loses a third of the feedback, then all of it for two seconds.
func TestLostFeedback(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(20e6, 200*ms, 20*ms)
		c := w.newCall(l, 20*ms)
		share := 0.3
		c.backLoss = func() bool { return w.rng.Float64() < share }
		up, ok := w.until(10*second, func() bool { return c.layer == 2 })
		w.run(2 * second)
		c.minTarget, c.held, c.longest = c.est.Target(), 0, 0
		w.run(30 * second)
		least, held := c.minTarget, c.held
		share = 1
		w.run(3 * second)
		silent, congested := c.est.Target(), c.est.Congested()
		share = 0
		back, again := w.until(10*second, func() bool { return c.layer == 2 && !c.est.Congested() })
		return fmt.Sprintf("top layer after %d ms, target least %s, held %d ms of 30 s; %s after 3 s of silence, back after %d ms", up/ms, kbit(least), held/ms, kbit(silent), back/ms),
			ok && least > audioRate+highRate && held < 3*second && congested && silent < least && again && back < 3*second
	})
}

// TestTwoCalls lets two calls that want more than there is share a path; the second joins later.
func TestTwoCalls(t *testing.T) {
	steps := []uint64{100_000, 200_000, 300_000, 450_000, 600_000, 800_000, 1_000_000, 1_300_000, 1_600_000, 2_000_000, 2_500_000, 3_000_000}
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(2_500_000, 300*ms, 20*ms)
		a := w.newCall(l, 20*ms, steps...)
		w.run(10 * second)
		b := w.newCall(l, 20*ms, steps...)
		w.run(30 * second)
		fa, fb := a.video, b.video
		l.peak = 0
		var sum, n int64
		a.onTick = func() { sum, n = sum+l.waits(), n+1 }
		w.run(60 * second)
		ra, rb := float64(a.video-fa)*8/60, float64(b.video-fb)*8/60
		return fmt.Sprintf("%.0f and %.0f kbit/s, ratio %.2f, queue %d ms in the mean, %d at most", ra/1000, rb/1000, max(ra/rb, rb/ra), sum/n/ms, l.peak/ms),
			max(ra/rb, rb/ra) <= 2 && ra+rb > 1_400_000
	})
}

// TestGreedyRival shares with a flow that fills the queue and backs off for losses only.
func TestGreedyRival(t *testing.T) {
	steps := []uint64{100_000, 200_000, 300_000, 450_000, 600_000, 800_000, 1_000_000, 1_300_000, 1_600_000, 2_000_000, 2_500_000, 3_000_000}
	for _, queue := range []int64{60 * ms, 150 * ms, 300 * ms} {
		t.Run(fmt.Sprintf("queue of %d ms", queue/ms), func(t *testing.T) {
			seeds(t, func(w *world) (string, bool) {
				l := w.newLink(3_000_000, queue, 20*ms)
				c := w.newCall(l, 20*ms, steps...)
				w.run(5*second + w.rng.Int64N(second))
				rival := w.newTCP(l, 20*ms)
				w.run(20 * second)
				got, theirs := c.delivered, rival.delivered
				w.run(60 * second)
				ours, other := float64(c.delivered-got)*8/60, float64(rival.delivered-theirs)*8/60
				rival.stopped = true
				w.run(10 * second)
				var sum, n int64
				c.onTick = func() { sum, n = sum+l.waits(), n+1 }
				got = c.delivered
				w.run(20 * second)
				alone := float64(c.delivered-got) * 8 / 20
				return fmt.Sprintf("ours %.0f, theirs %.0f kbit/s, share %.2f; after it ended %.0f kbit/s, queue %d ms in the mean",
						ours/1000, other/1000, ours/(ours+other), alone/1000, sum/n/ms),
					ours/(ours+other) >= 1./3 && alone > 2_000_000 && sum/n < 80*ms
			})
		})
	}
}

// TestByStreams is the start and the bottleneck with feedback of RFC 8888.
func TestByStreams(t *testing.T) {
	seeds(t, func(w *world) (string, bool) {
		l := w.newLink(20e6, 2*second, 20*ms)
		c := w.newCall(l, 20*ms)
		c.byStreams()
		top, _ := w.until(5*second, func() bool { return c.layer == 2 })
		w.run(5 * second)
		l.peak = 0
		l.setRate(300_000, 2*second)
		w.run(10 * second)
		layer, target := c.layer, c.est.Target()
		l.setRate(20e6, 2*second)
		up, ok := w.until(15*second, func() bool { return c.layer == 2 })
		return fmt.Sprintf("top after %d ms, queue at most %d ms, layer %d, target %s, top again after %d ms", top/ms, l.peak/ms, layer, kbit(target), up/ms),
			ok && top < second && l.peak < 700*ms && layer == 0 && up < 10*second
	})
}
