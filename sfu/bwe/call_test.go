package bwe_test

import (
	"math"

	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

const (
	audioRate = 40_000
	lowRate   = 150_000
	midRate   = 500_000
	highRate  = 1_500_000
	keyDelay  = 150 * ms // until the publisher's key frame is there
)

// call is one receiver of an audio track and a video track with layers, behind a link: the node's side with pacer, layer choice
// and probes as padding, and the receiver's with its feedback.
type call struct {
	w   *world
	l   *link
	est *bwe.Estimator

	rates    []uint64
	layer    int // sent, -1 none
	switchTo int
	switchAt int64

	seq      uint16
	ccfb     bool
	pacer    []int
	pacerAt  int64
	budget   float64
	audioAt  int64
	frameAt  int64
	tickAt   int64
	wasHeld  bool
	noProbes bool

	rec      rtcp.TWCCRecorder
	arrivals map[uint16]int64
	interval int64 // of feedback
	fbAt     int64
	back     int64
	backLoss func() bool
	backJit  int64

	// figures
	delivered  int
	video      int // bytes of media delivered
	longest    int64
	offered    int
	held       int64
	heldSince  int64
	probeBytes int
	minTarget  uint64
	onTick     func()
}

func (w *world) newCall(l *link, back int64, rates ...uint64) *call {
	if len(rates) == 0 {
		rates = []uint64{lowRate, midRate, highRate}
	}
	c := &call{
		w: w, l: l, est: bwe.New(bwe.Config{}), rates: rates, layer: -1, switchTo: -1, interval: 50 * ms, back: back,
		seq: uint16(w.rng.Uint32()), minTarget: math.MaxUint64,
	}
	// Nothing is in step with anything.
	c.audioAt, c.frameAt = w.now+w.rng.Int64N(20*ms), w.now+w.rng.Int64N(33*ms)
	c.fbAt = w.now + w.rng.Int64N(c.interval)
	w.steps = append(w.steps, c.step)
	return c
}

// streamsOf makes the receiver name packets by stream.
func (c *call) byStreams() {
	c.ccfb, c.est, c.arrivals = true, bwe.New(bwe.Config{Streams: true}), map[uint16]int64{}
}

func (c *call) step() {
	now := c.w.now
	if now >= c.audioAt {
		c.audioAt += 20 * ms
		c.send(audioRate/8/50, bwe.NoProbe, true)
	}
	if now >= c.frameAt {
		c.frameAt += 33 * ms
		c.frame(1)
	}
	if c.switchAt != 0 && now >= c.switchAt {
		c.switchAt, c.layer = 0, c.switchTo
		c.pacer = c.pacer[:0]
		c.frame(3) // key frame
	}
	if now >= c.tickAt {
		c.tickAt = min(c.est.Tick(now), now+100*ms)
		c.allocate()
	}
	if now >= c.pacerAt {
		c.pacerAt = now + 5*ms
		c.pace()
	}
	if now >= c.fbAt {
		c.fbAt += c.interval
		c.feedback()
	}
	if held := c.est.Congested(); held != c.wasHeld {
		c.wasHeld = held
		if held {
			c.heldSince = now
		} else {
			c.held += now - c.heldSince
			c.longest = max(c.longest, now-c.heldSince)
		}
	}
	c.minTarget = min(c.minTarget, c.est.Target())
	if c.onTick != nil {
		c.onTick()
	}
}

// frame makes the packets of one video frame.
func (c *call) frame(times float64) {
	if c.layer < 0 {
		return
	}
	size := int(times * float64(c.rates[c.layer]) / 8 * 0.033 * (0.75 + 0.5*c.w.rng.Float64()))
	c.offered += size
	for n := (size + 1199) / 1200; n > 0; n-- {
		p := size / n
		size -= p
		c.pacer = append(c.pacer, p)
	}
}

func (c *call) pace() {
	c.budget = min(c.budget, 0) + float64(c.est.PacingRate())/8*0.005
	if !c.est.Congested() {
		for len(c.pacer) > 0 && c.budget > 0 {
			c.send(c.pacer[0], bwe.NoProbe, true)
			c.budget -= float64(c.pacer[0])
			c.pacer = c.pacer[1:]
		}
	}
	if c.noProbes {
		return
	}
	for p, ok := c.est.Probe(c.w.now); ok; p, ok = c.est.Probe(c.w.now) {
		size := min(max(p.Bytes, 60), 1100)
		c.probeBytes += size
		c.send(size, p.ID, false)
	}
}

func (c *call) send(size int, probe bwe.ProbeID, media bool) {
	seq := c.seq
	c.seq++
	if c.ccfb {
		c.est.SentStream(77, seq, size, probe, c.w.now)
	} else {
		c.est.Sent(seq, size, probe, c.w.now)
	}
	c.l.send(size, func() {
		c.delivered += size
		if media {
			c.video += size
		}
		if c.ccfb {
			c.arrivals[seq] = c.w.now
		} else {
			c.rec.Received(seq, c.w.now)
		}
	})
}

// allocate chooses the layer.
func (c *call) allocate() {
	streams := []bwe.Stream{
		{Audio: true, Candidates: []bwe.Candidate{{Rate: audioRate}}},
		{Pixels: 4_000_000, Current: c.switchTo},
	}
	for i, r := range c.rates {
		streams[1].Candidates = append(streams[1].Candidates, bwe.Candidate{Rate: r, Pixels: uint32((i + 1) * 100_000), Frames: 30})
	}
	out := make([]int, 2)
	a := bwe.Allocate(c.est.Target(), streams, out)
	c.est.Want(a.Need, c.w.now)
	if out[1] != c.switchTo {
		c.switchTo = out[1]
		c.switchAt = c.w.now + keyDelay
		if out[1] < 0 {
			c.switchAt = c.w.now
		}
	}
}

func (c *call) feedback() {
	var compounds [][]byte
	if c.ccfb {
		if len(c.arrivals) == 0 {
			return
		}
		first, n := c.seq-512, 0
		for i := range uint16(512) {
			if _, ok := c.arrivals[first+i]; ok {
				first, n = first+i, int(512-i)
				break
			}
		}
		ages := make([]int32, 0, n)
		last := 0
		for i := range n {
			at, ok := c.arrivals[first+uint16(i)]
			if !ok {
				ages = append(ages, -1)
				continue
			}
			delete(c.arrivals, first+uint16(i))
			ages = append(ages, int32((c.w.now-at)*1024/second))
			last = i + 1
		}
		compounds = append(compounds, rtcp.AppendCCFB(nil, 1, 77, uint32(c.w.now*65536/second), first, ages[:last]))
	} else {
		for c.rec.Pending() {
			compounds = append(compounds, c.rec.Append(nil, 1, 2, 1100))
		}
	}
	if c.backLoss != nil && c.backLoss() {
		return
	}
	d := c.back
	if c.backJit > 0 {
		d += c.w.rng.Int64N(2 * c.backJit)
	}
	for _, b := range compounds {
		c.w.after(d, func() { c.hear(b) })
	}
}

func (c *call) hear(compound []byte) {
	for it := rtcp.NewIterator(compound); it.Next(); {
		if f, ok := rtcp.ParseTWCC(it.Packet); ok {
			c.est.TransportFeedback(f, c.w.now)
		}
		if f, ok := rtcp.ParseCCFB(it.Packet); ok {
			c.est.StreamFeedback(f, c.w.now)
		}
	}
	c.tickAt = c.w.now
}
