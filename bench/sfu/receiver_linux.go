package sfu

import (
	"context"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/sink"
	"github.com/sotto-edge/sotto/bench/internal/target"
)

// receiver is one participant that listens to everybody in the room.
type receiver struct {
	seat  target.Seat
	began time.Time
	turns *sink.Turns
	left  *departures
	line  *line // that it is behind; nil: none

	mu        sync.Mutex
	measuring bool
	latencies []float64 // publisher's stack to receiver's socket
	stays     []float64 // publisher's kernel to receiver's socket
	sounds    []float64 // those of sound
}

// opened takes what pion has decrypted: the samples, for their time stamps, and repairs.
func (r *receiver) opened(p target.Packet) {
	at, ok := r.seat.Receiving().Opened(p.SSRC, p.SequenceNumber, p.Repaired, p.Arrived.UnixNano())
	said, stamped := stamp(p.Payload)
	if r.line != nil && stamped && p.PayloadType != soundType {
		when := at
		if !ok {
			when = p.Arrived.UnixNano()
		}
		r.line.take(p.Packet, when, said.layer)
	}
	if !ok || !stamped {
		return
	}
	sent := said.at
	left, known := r.left.of(said.number)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.measuring {
		return
	}
	r.latencies = append(r.latencies, float64(at-sent)/1e9)
	if known && r.line == nil { // a line is no server
		r.stays = append(r.stays, float64(at-left)/1e9)
		if p.PayloadType == soundType {
			r.sounds = append(r.sounds, float64(at-left)/1e9)
		}
	}
}

func (r *receiver) measure(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measuring = on
}

func (r *receiver) state() sink.State { return r.seat.Receiving().State() }

// Intervals of what receivers tell the server.
const (
	feedbackRound = 10 // a receiver is due every tenth tick
	feedbackTick  = 10 * time.Millisecond
	reportEvery   = int(time.Second / feedbackTick)
)

// talk sends the RTCP of all receivers, in turn: arrivals ten times a second, as browsers do, a report each second, and requests for
// lost packets at once.
func talk(ctx context.Context, receivers func() []*receiver) {
	tick := time.NewTicker(feedbackTick)
	defer tick.Stop()
	buffer := make([]byte, 0, 4096)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now().UnixNano()
		for i, r := range receivers() {
			b := r.seat.Receiving().AppendRTCP(buffer[:0], now, i%feedbackRound == n%feedbackRound, i%reportEvery == n%reportEvery)
			if len(b) > 0 {
				_ = r.seat.WriteRTCP(b) // not connected yet, or not any more
			}
		}
	}
}
