package sfu

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Shape of what is published.
const (
	maxPayload   = 1150 // of one packet of pictures
	audioPayload = 90
	audioEvery   = 20 * time.Millisecond
	audioClock   = 960   // 20 ms at 48 kHz
	videoClock   = 90000 // a second
)

// A stamp says when a packet was sent. It stands behind the payload descriptor.
const (
	stampAt   = 16
	stampSize = stampAt + 16
)

var stampMagic = [8]byte{'s', 'o', 't', 't', 'o', ' ', 't', ':'}

func putStamp(payload []byte, at time.Time) {
	copy(payload[stampAt:], stampMagic[:])
	binary.BigEndian.PutUint64(payload[stampAt+8:], uint64(at.UnixNano()))
}

// stamp returns when a packet was sent, in nanoseconds of the wall clock; false: it says nothing.
func stamp(payload []byte) (int64, bool) {
	if len(payload) < stampSize || [8]byte(payload[stampAt:stampAt+8]) != stampMagic {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(payload[stampAt+8:])), true
}

// publisher is one participant that sends.
type publisher struct {
	c    *Command
	seat *client.Client
	sent atomic.Uint64
}

// profile returns what -srtp stands for.
func (c *Command) profile() dtls.SRTPProtectionProfile {
	if c.SRTP == "cm" {
		return dtls.SRTP_AES128_CM_HMAC_SHA1_80
	}
	return dtls.SRTP_AEAD_AES_128_GCM
}

// publications are what each publisher sends.
func (c *Command) publications() []client.Publication {
	var list []client.Publication
	if c.Audio {
		list = append(list, client.Publication{Source: wire.Microphone})
	}
	if c.VideoBitrate > 0 {
		list = append(list, client.Publication{Source: wire.Camera, Codec: "vp8"})
	}
	return list
}

// run sends until the context ends. Publishers begin at different phases, so that their pictures do not all leave at once.
func (p *publisher) run(ctx context.Context, phase time.Duration) error {
	wait := time.NewTimer(phase)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil
	}
	failed := make(chan error, 2)
	running := 0
	if p.c.Audio {
		running++
		go func() { failed <- p.sound(ctx, p.seat.Local(wire.Microphone)) }() // awaited below
	}
	if p.c.VideoBitrate > 0 {
		running++
		go func() { failed <- p.pictures(ctx, p.seat.Local(wire.Camera)) }()
	}
	var err error
	for range running {
		if e := <-failed; e != nil && err == nil {
			err = fmt.Errorf("bench: publish: %w", e)
		}
	}
	return err
}

func (p *publisher) sound(ctx context.Context, t *client.LocalTrack) error {
	tick := time.NewTicker(audioEvery)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		payload := make([]byte, audioPayload)
		payload[0] = 0x78 // RFC 6716 §3.1: CELT, 20 ms
		if err := p.write(ctx, t, &rtp.Packet{Payload: payload, Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * audioClock}}); err != nil {
			return err
		}
	}
}

// cut returns into how many packets a picture goes, and how large each is.
func (c *Command) cut() (packets, size int) {
	size = c.VideoBitrate / 8 / c.FPS
	packets = (size + maxPayload - 1) / maxPayload
	return packets, max(size/packets, stampSize)
}

// rate returns how many packets all publishers should send in a second.
func (c *Command) rate() float64 {
	each := 0.0
	if c.Audio {
		each += float64(time.Second / audioEvery)
	}
	if c.VideoBitrate > 0 {
		packets, _ := c.cut()
		each += float64(packets * c.FPS)
	}
	return each * float64(c.Publishers)
}

func (p *publisher) pictures(ctx context.Context, t *client.LocalTrack) error {
	frame := time.Second / time.Duration(p.c.FPS)
	packets, size := p.c.cut()
	gap := frame / 2 / time.Duration(packets)

	tick := time.NewTicker(frame)
	defer tick.Stop()
	seq, key := uint16(0), true
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case <-t.KeyFrames():
			key = true
		default:
		}
		for i := range packets {
			if i > 0 && p.c.Paced {
				pause := time.NewTimer(gap)
				select {
				case <-pause.C:
				case <-ctx.Done():
					pause.Stop()
					return nil
				}
			}
			payload := make([]byte, size)
			describe(payload, i == 0, key)
			h := rtp.Header{Version: 2, Marker: i == packets-1, SequenceNumber: seq, Timestamp: uint32(uint64(n) * videoClock / uint64(p.c.FPS))}
			if err := p.write(ctx, t, &rtp.Packet{Payload: payload, Header: h}); err != nil {
				return err
			}
			seq++
		}
		key = false
	}
}

// describe begins a payload as VP8 does (RFC 7741 §4.2, §4.3).
func describe(payload []byte, first, key bool) {
	if !first {
		return
	}
	payload[0] = 0x10 // S: a partition begins
	if key {
		copy(payload[1:], []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a})
	} else {
		payload[1] = 0x11
	}
}

func (p *publisher) write(ctx context.Context, t *client.LocalTrack, packet *rtp.Packet) error {
	putStamp(packet.Payload, time.Now())
	if err := t.WriteRTP(packet); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	p.sent.Add(1)
	return nil
}
