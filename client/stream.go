package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	irtcp "github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Stream is one track of somebody else, as long as it plays in one slot.
type Stream struct {
	// Track and Participant say what plays and whose it is, as it was when it began to play.
	Track       wire.Track
	Participant string
	// MID is the slot's m-line.
	MID string

	slot    *slot
	packets *queue[Packet]
}

// Packet is one RTP packet of a Stream. SSRC, sequence numbers and timestamps are those of the slot: they go on without a break
// when the slot shows another track.
type Packet struct {
	*rtp.Packet
	// Arrived is when the client had it in hand.
	Arrived time.Time
	// Repaired says that it came by retransmission (RFC 4588), out of order.
	Repaired bool
}

// Packets delivers the packets of the track. It is closed when the slot shows something else, or nothing. Who does not keep up
// loses the oldest: Dropped counts them. At a change of tracks, a packet or two may come under the other one: the signaling and
// the media do not travel together.
func (s *Stream) Packets() <-chan Packet { return s.packets.ch }

// Dropped returns how many packets were not read in time.
func (s *Stream) Dropped() int64 { return s.packets.dropped.Load() }

// SSRC returns the slot's SSRC, 0 before its first use.
func (s *Stream) SSRC() uint32 { return s.slot.ssrc.Load() }

// RequestKeyFrame asks for a key frame (RFC 4585 §6.3.1).
func (s *Stream) RequestKeyFrame() error {
	return s.slot.m.c.WriteRTCP(&rtcp.PictureLossIndication{MediaSSRC: s.SSRC()})
}

// Times and numbers of packets that come before the event that says what they are.
const (
	earlyPackets = 256
	earlyAge     = time.Second
)

// slot is one m-line in which the server sends.
type slot struct {
	m    *media
	mid  string
	ssrc atomic.Uint32

	mu     sync.Mutex
	bound  wire.Slot
	stream *Stream  // nil while nothing plays
	early  []Packet // of what will play

	reception irtcp.Reception
	nack      *irtcp.NACKGenerator // nil where nothing is asked for again
}

// bind follows a change of what plays.
func (s *slot) bind(to wire.Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound == to {
		return
	}
	s.bound = to
	if s.stream != nil {
		s.stream.packets.close()
		s.stream = nil
	}
	if to.Track == "" {
		s.early = nil
		return
	}
	track, ok := s.m.c.room.track(to.Track)
	if !ok {
		track.ID = to.Track
	}
	s.stream = &Stream{Track: track, Participant: to.Participant, MID: s.mid, slot: s, packets: newQueue[Packet](queuedPackets)}
	for _, p := range s.early {
		if time.Since(p.Arrived) < earlyAge {
			s.stream.packets.put(p)
		}
	}
	s.early = nil
	s.m.c.streams.put(s.stream)
}

func (s *slot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.packets.close()
		s.stream = nil
	}
}

// take passes a packet on, once: what is asked for twice may come twice.
func (s *slot) take(p Packet, clockRate uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.m.now()
	var ext int64
	var status irtcp.Status
	if p.Repaired {
		ext, status = s.reception.Repaired(p.SequenceNumber)
	} else {
		ext, status = s.reception.Update(p.SequenceNumber, p.Timestamp, clockRate, now)
	}
	if status == irtcp.Duplicate {
		return
	}
	if s.nack != nil {
		s.nack.Received(ext, now)
		if s.nack.Next() != math.MaxInt64 {
			select {
			case s.m.gaps <- struct{}{}:
			default:
			}
		}
	}
	switch {
	case s.stream != nil:
		s.stream.packets.put(p)
	case len(s.early) < earlyPackets:
		s.early = append(s.early, p)
	}
}

// hopeless is how many errors in a row end the reading of a slot.
const hopeless = 100

// read takes packets until the slot is closed.
func (s *slot) read(track *webrtc.TrackRemote) {
	if track.Kind() == webrtc.RTPCodecTypeVideo && !s.m.c.cfg.NoFeedback {
		s.mu.Lock()
		s.nack = new(irtcp.NACKGenerator)
		s.mu.Unlock()
	}
	errs := 0
	for {
		p, err := s.next(track)
		if err == nil {
			errs = 0
			s.take(p, track.Codec().ClockRate)
			continue
		}
		if errs++; errs > hopeless || errors.Is(err, io.EOF) {
			return
		}
	}
}

func (s *slot) next(track *webrtc.TrackRemote) (Packet, error) {
	b := make([]byte, receiveMTU)
	n, attributes, err := track.Read(b)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Packet: &rtp.Packet{}, Arrived: time.Now(), Repaired: attributes.Get(webrtc.AttributeRtxSsrc) != nil}
	if err := p.Unmarshal(b[:n:n]); err != nil {
		return Packet{}, fmt.Errorf("client: %w", err)
	}
	return p, nil
}

// now is monotonic nanoseconds, never 0.
func (m *media) now() int64 { return int64(time.Since(m.began)) + 1 }

// repair asks for lost packets when it is time to, for all slots.
func (m *media) repair(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	seqs := make([]uint16, 0, 128)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.gaps:
		case <-due.C:
		}
		m.mu.Lock()
		slots := make([]*slot, 0, len(m.slots))
		for _, s := range m.slots {
			slots = append(slots, s)
		}
		m.mu.Unlock()
		next := int64(math.MaxInt64)
		for _, s := range slots {
			next = min(next, s.ask(seqs))
		}
		if next != math.MaxInt64 {
			due.Reset(time.Duration(max(0, next-m.now())))
		}
	}
}

// ask requests what is due, and returns when there is more to do.
func (s *slot) ask(seqs []uint16) (next int64) {
	s.mu.Lock()
	if s.nack == nil {
		s.mu.Unlock()
		return math.MaxInt64
	}
	seqs = s.nack.Missing(s.m.now(), s.m.roundTrip(), seqs)
	next = s.nack.Next()
	s.mu.Unlock()
	if len(seqs) > 0 {
		err := s.m.c.WriteRTCP(&rtcp.TransportLayerNack{MediaSSRC: s.ssrc.Load(), Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)})
		if err != nil {
			s.m.c.log.Debug("client: ask for packets", slog.Any("error", err))
		}
	}
	return next
}

// roundTrip returns the last round trip time that ICE has measured, in nanoseconds; 0: none.
func (m *media) roundTrip() int64 {
	st, ok := m.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats()
	if !ok {
		return 0
	}
	return int64(st.CurrentRoundTripTime * float64(time.Second))
}
