package sfu

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/bench/internal/target"
)

// publisher is one participant that sends.
type publisher struct {
	load  load
	seat  target.Seat
	left  *departures
	rate  *atomic.Int64 // of pictures now, in bits a second
	quiet *atomic.Bool  // nothing is sent while it says so
	sent  atomic.Uint64
}

// Payload types that tell a sink's departures apart.
const (
	soundType   = 111
	pictureType = 96
)

// run sends until the context ends. Publishers begin at different phases, so that their pictures do not all leave at once.
func (p *publisher) run(ctx context.Context, phase time.Duration) error {
	if !wait(ctx, phase) {
		return nil
	}
	failed := make(chan error, 2)
	running := 0
	if out := p.seat.Sound(); out != nil {
		running++
		go func() { failed <- p.sound(ctx, out) }() // awaited below
	}
	if out := p.seat.Pictures(); out != nil {
		running++
		go func() { failed <- p.pictures(ctx, out) }()
	}
	var err error
	for range running {
		if e := <-failed; e != nil && err == nil {
			err = fmt.Errorf("bench: publish: %w", e)
		}
	}
	return err
}

func (p *publisher) sound(ctx context.Context, out target.Outlet) error {
	tick := time.NewTicker(audioEvery)
	defer tick.Stop()
	seq := uint16(0)
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if p.quiet.Load() {
			continue
		}
		payload := make([]byte, audioPayload)
		payload[0] = 0x78 // RFC 6716 §3.1: CELT, 20 ms
		h := rtp.Header{Version: 2, PayloadType: soundType, SequenceNumber: seq, Timestamp: n * audioClock}
		if err := p.write(ctx, out, 0, &rtp.Packet{Payload: payload, Header: h}); err != nil {
			return err
		}
		seq++
	}
}

func (p *publisher) pictures(ctx context.Context, out target.Outlet) error {
	frame := time.Second / time.Duration(p.load.fps)
	tick := time.NewTicker(frame)
	defer tick.Stop()
	seqs, key := make([]uint16, p.load.layers()), true
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if p.quiet.Load() {
			continue
		}
		select {
		case <-out.KeyFrames():
			key = true
		default:
		}
		left := frame / 2 // for pacing
		for layer := range seqs {
			packets, size := cut(p.load.layer(int(p.rate.Load()), layer), p.load.fps)
			gap := left / time.Duration(packets*(len(seqs)-layer))
			for i := range packets {
				if p.load.paced && (i > 0 || layer > 0) {
					left -= gap
					if !wait(ctx, gap) {
						return nil
					}
				}
				payload := make([]byte, size)
				describe(payload, i == 0, key)
				h := rtp.Header{
					Version: 2, PayloadType: pictureType, Marker: i == packets-1, SequenceNumber: seqs[layer],
					Timestamp: uint32(uint64(n) * videoClock / uint64(p.load.fps)),
				}
				if err := p.write(ctx, out, layer, &rtp.Packet{Payload: payload, Header: h}); err != nil {
					return err
				}
				seqs[layer]++
			}
		}
		key = false
	}
}

// wait waits; false: the context has ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *publisher) write(ctx context.Context, out target.Outlet, layer int, packet *rtp.Packet) error {
	number := p.left.number()
	putStamp(packet.Payload, time.Now(), number, uint8(layer))
	if err := out.WriteLayer(layer, packet); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// pion writes at once, in this goroutine, and no other writes this payload type.
	p.left.left(number, p.seat.Sending().Departure(packet.PayloadType))
	p.sent.Add(1)
	return nil
}
