package sfu

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/bench/internal/child"
	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// receiver is one participant that listens to everybody.
type receiver struct {
	sink  *sink
	seat  *client.Client
	began time.Time
	work  sync.WaitGroup

	mu        sync.Mutex
	measuring bool
	latencies []float64
}

// joins takes a seat and subscribes to every track there is.
func join(ctx context.Context, c *Command, s *child.Server, room wire.Meeting, all *sinks, n int, tracks []string) (*receiver, error) {
	server, err := netip.ParseAddrPort(s.Media)
	if err != nil {
		return nil, fmt.Errorf("bench: media port: %w", err)
	}
	r := &receiver{began: time.Now()}
	if r.sink, err = all.open(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), server.Port()), uint32(n)+1); err != nil {
		return nil, err
	}
	r.seat, err = client.Join(ctx, client.Config{
		URL: s.URL, Room: room.Room, Name: fmt.Sprintf("Receiver %d", n+1), TLS: s.TLS, Conn: r.sink, NoFeedback: true,
		Profiles: []dtls.SRTPProtectionProfile{c.profile()},
	})
	if err != nil {
		_ = r.sink.Close()
		return nil, fmt.Errorf("bench: receiver %d: %w", n+1, err)
	}
	r.work.Go(r.open)
	if _, err := r.seat.Subscribe(ctx, tracks...); err != nil {
		_ = r.close()
		return nil, fmt.Errorf("bench: receiver %d: %w", n+1, err)
	}
	return r, nil
}

func (r *receiver) close() error {
	err := r.seat.Close()
	r.work.Wait()
	return err
}

// open reads what pion has decrypted: the samples, for their time stamps, and repairs.
func (r *receiver) open() {
	for s := range r.seat.Streams() {
		r.work.Go(func() {
			for p := range s.Packets() {
				r.opened(p)
			}
		})
	}
}

func (r *receiver) opened(p client.Packet) {
	r.sink.mu.Lock()
	at, ok := r.sink.account.arrival(p.SSRC, p.SequenceNumber)
	if p.Repaired {
		r.sink.account.repairedBy(p.SSRC, p.SequenceNumber, p.Arrived.UnixNano())
	}
	r.sink.mu.Unlock()
	sent, stamped := stamp(p.Payload)
	if p.Repaired || !ok || !stamped {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.measuring {
		r.latencies = append(r.latencies, float64(at-sent)/1e9)
	}
}

func (r *receiver) measure(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measuring = on
}

// state is what a receiver has seen so far.
type state struct {
	packets, bytes, duplicates, repaired uint64
	first, picture                       int64
	streams                              int
	highest                              map[uint32]int64
}

func (r *receiver) state() state {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	a := &r.sink.account
	return state{a.packets, a.bytes, a.duplicates, a.repaired, a.first, a.picture, len(a.streams), a.highest()}
}

func (r *receiver) lost(from, to map[uint32]int64) uint64 {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	return r.sink.account.lost(from, to)
}

// Intervals of what receivers tell the server.
const (
	feedbackRound = 10 // a receiver is due every tenth tick
	feedbackTick  = 10 * time.Millisecond
	reportEvery   = time.Second / feedbackTick
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
		for i, r := range receivers() {
			now := time.Now().UnixNano()
			r.sink.mu.Lock()
			b := r.sink.account.requests(buffer[:0], now)
			if i%feedbackRound == n%feedbackRound {
				b = r.sink.account.feedback(b)
			}
			if i%int(reportEvery) == n%int(reportEvery) {
				b = r.sink.account.report(b, now)
			}
			r.sink.mu.Unlock()
			if len(b) > 0 {
				packet := rtcp.RawPacket(b)
				_ = r.seat.WriteRTCP(&packet) // not connected yet, or not any more
			}
		}
	}
}
