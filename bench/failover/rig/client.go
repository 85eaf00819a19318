package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/sotto-edge/sotto/client"
	irtp "github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// talker is a pion client in the meeting. It sends silence, and as its picture the first key frame that it got from somebody else, and
// watches what it receives.
type talker struct {
	*client.Client
	stop context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	slots []*slot
	from  netip.AddrPort // of the last media datagram
	ways  map[uint32]*way
	frame [][]byte // payloads of the packets of its picture
}

// way is where the packets of one stream come from.
type way struct {
	from  netip.AddrPort
	at    time.Time
	moved time.Duration // from the last packet of one node to the first of the next
}

// slot is what came of one track.
type slot struct {
	figures
	ssrc uint32
	high int64
	seen map[int64]bool
	last time.Time
}

// figures are what a client knows about one track that it receives.
type figures struct {
	Source   wire.Source `json:"source"`
	From     string      `json:"from"` // address of the last media datagram of the whole client
	Packets  int         `json:"packets"`
	Missing  int         `json:"missing"` // numbers that did not come, repairs counted as come
	Repaired int         `json:"repaired"`
	Jump     int64       `json:"jump"`     // the largest step of the numbering
	GapNS    int64       `json:"gap_ns"`   // the longest time without a packet
	MovedNS  int64       `json:"moved_ns"` // from the last packet of the first node to the first of the second
}

// tap notes where media comes from.
type tap struct {
	*net.UDPConn
	t *talker
}

func (w tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := w.UDPConn.ReadFrom(b)
	if err == nil && udp.Classify(b[:n]) == udp.KindRTP {
		w.t.note(b[:n], from.(*net.UDPAddr).AddrPort(), time.Now())
	}
	return n, from, err
}

func (t *talker) note(b []byte, from netip.AddrPort, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from = from
	if irtp.IsRTCP(b) || len(b) < 12 {
		return
	}
	ssrc := binary.BigEndian.Uint32(b[8:])
	w := t.ways[ssrc]
	if w == nil {
		w = &way{from: from}
		t.ways[ssrc] = w
	}
	if w.from != from {
		w.from, w.moved = from, now.Sub(w.at)
	}
	w.at = now
}

// join brings a talker in. Its socket is on the address that the media ports have, so that there is a way between them.
func join(ctx context.Context, cfg client.Config, at netip.Addr) (*talker, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	t := &talker{ways: make(map[uint32]*way)}
	cfg.Conn, cfg.AutoSubscribe = tap{conn, t}, true
	cfg.Publish = []client.Publication{{Source: wire.Microphone}, {Source: wire.Camera}}
	if t.Client, err = client.Join(ctx, cfg); err != nil {
		return nil, err
	}
	if err := t.Connected(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	talking, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.work.Go(func() { t.talk(talking) })
	t.work.Go(func() {
		for s := range t.Streams() {
			t.work.Go(func() { t.listen(s) })
		}
	})
	return t, nil
}

func (t *talker) close() {
	t.stop()
	_ = t.Close()
	t.work.Wait()
}

// talk sends silence in Opus every 20 ms, and its picture ten times a second.
func (t *talker) talk(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	camera, microphone := t.Local(wire.Camera), t.Local(wire.Microphone)
	pictures := uint16(0)
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h := rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960}
		_ = microphone.WriteRTP(&rtp.Packet{Header: h, Payload: []byte{0xf8, 0xff, 0xfe}})
		if n%5 != 0 {
			continue
		}
		t.mu.Lock()
		frame := t.frame
		t.mu.Unlock()
		for i, payload := range frame {
			h := rtp.Header{Version: 2, SequenceNumber: pictures, Timestamp: n * 1800, Marker: i == len(frame)-1}
			_ = camera.WriteRTP(&rtp.Packet{Header: h, Payload: payload})
			pictures++
		}
	}
}

// collector finds the first whole key frame of a stream.
type collector struct {
	ts    uint32
	next  uint16
	parts [][]byte
}

// take returns the payloads of the frame once it is there, each behind a descriptor without a picture id (RFC 7741 §4.2): the frame
// is sent many times.
func (c *collector) take(p client.Packet) [][]byte {
	var vp8 codecs.VP8Packet
	if _, err := vp8.Unmarshal(p.Payload); err != nil || len(vp8.Payload) == 0 {
		return nil
	}
	descriptor := byte(0)
	switch {
	case vp8.S == 1 && vp8.PID == 0 && vp8.Payload[0]&1 == 0:
		c.parts, c.ts, descriptor = nil, p.Timestamp, 0x10
	case len(c.parts) == 0 || p.Timestamp != c.ts || p.SequenceNumber != c.next:
		c.parts = nil
		return nil
	}
	c.next = p.SequenceNumber + 1
	c.parts = append(c.parts, append([]byte{descriptor}, vp8.Payload...))
	if p.Marker {
		return c.parts
	}
	return nil
}

func (t *talker) listen(in *client.Stream) {
	s := &slot{figures: figures{Source: in.Track.Source}, seen: make(map[int64]bool)}
	t.mu.Lock()
	t.slots = append(t.slots, s)
	t.mu.Unlock()
	var key collector
	var asked time.Time
	for p := range in.Packets() {
		t.mu.Lock()
		if t.frame == nil && in.Track.Source == wire.Camera && p.Arrived.Sub(asked) > time.Second {
			asked = p.Arrived
			_ = in.RequestKeyFrame() // if this one is lost too, there is another second
		}
		s.ssrc = p.SSRC
		s.take(p)
		if t.frame == nil && in.Track.Source == wire.Camera {
			t.frame = key.take(p)
		}
		t.mu.Unlock()
	}
}

// take notes one packet. A jump is no loss: nobody sent what is in it.
func (s *slot) take(p client.Packet) {
	ext := int64(p.SequenceNumber)
	if s.Packets > 0 {
		ext = irtp.Extend(s.high, p.SequenceNumber)
		s.GapNS = max(s.GapNS, int64(p.Arrived.Sub(s.last)))
		s.Jump = max(s.Jump, ext-s.high)
	}
	switch {
	case s.Packets == 0, ext > s.high+jump:
		s.high = ext
	case ext > s.high:
		s.Missing += int(ext - s.high - 1)
		s.high = ext
	case !s.seen[ext] && s.Missing > 0:
		s.Missing--
	}
	s.seen[ext] = true
	s.last = p.Arrived
	s.Packets++
	if p.Repaired {
		s.Repaired++
	}
}

// jump is more than any loss makes of the numbering.
const jump = 2000

func (t *talker) figures() []figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []figures
	for _, s := range t.slots {
		f := s.figures
		f.From = t.from.String()
		if w := t.ways[s.ssrc]; w != nil {
			f.MovedNS = int64(w.moved)
		}
		out = append(out, f)
		s.GapNS = 0 // from here on anew
	}
	return out
}
