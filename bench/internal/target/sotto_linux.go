package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/bench/internal/child"
	"github.com/sotto-edge/sotto/bench/internal/sink"
	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// offered is what Sotto's offers always say: every client is offered the same numbers.
var offered = sink.Layout{Transport: 4, Sound: soundType, Repair: 97}

// sotto is the appliance, running.
type sotto struct {
	*child.Server
	media netip.AddrPort
}

func startSotto(ctx context.Context, c Config) (Server, error) {
	s, err := child.Start(ctx, child.Options{Binary: c.Binary, People: c.People, Profile: c.Profile})
	if err != nil {
		return nil, err
	}
	media, err := netip.ParseAddrPort(s.Media)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: media port: %w", err), s.Stop())
	}
	return &sotto{s, netip.AddrPortFrom(loopback, media.Port())}, nil
}

// PID implements Server.
func (s *sotto) PID() int { return s.Process.PID }

// Local implements Server.
func (s *sotto) Local() netip.Addr { return loopback }

// Profile implements Server.
func (s *sotto) Profile() error { return s.Signal(syscall.SIGUSR2) }

// Open implements Server.
func (s *sotto) Open(ctx context.Context) (Room, error) {
	m, err := client.OpenMeeting(ctx, s.URL, s.TLS, "")
	if err != nil {
		return nil, fmt.Errorf("bench: open a meeting: %w", err)
	}
	return &sottoRoom{server: s, meeting: m, tracks: map[string]string{}}, nil
}

type sottoRoom struct {
	server  *sotto
	meeting wire.Meeting

	mu     sync.Mutex
	tracks map[string]string // who publishes each
}

// Join implements Room.
func (r *sottoRoom) Join(ctx context.Context, cfg SeatConfig) (Seat, error) {
	k, err := cfg.Open()
	if err != nil {
		return nil, err
	}
	k.Watch(cfg.Turns)
	if err := k.Connect(r.server.media, offered); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	own := client.Config{
		URL: r.server.URL, Room: r.meeting.Room, Name: cfg.Name, TLS: r.server.TLS, Conn: k, NoFeedback: true,
		Profiles: []dtls.SRTPProtectionProfile{cfg.Profile},
	}
	if cfg.Turns != nil {
		own.Dial = cfg.Turns.Dial
	}
	if cfg.Publish.Sound {
		own.Publish = append(own.Publish, client.Publication{Source: wire.Microphone})
	}
	if cfg.Publish.Pictures {
		own.Publish = append(own.Publish, client.Publication{Source: wire.Camera, Codec: "vp8", Simulcast: cfg.Publish.Simulcast})
	}
	seat, err := client.Join(ctx, own)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %s: %w", cfg.Name, err), k.Close())
	}
	s := &sottoSeat{room: r, client: seat, sink: k, publish: cfg.Publish}
	s.work.Go(func() { s.read(cfg.Opened) })
	r.mu.Lock()
	for _, p := range own.Publish {
		r.tracks[seat.Local(p.Source).ID()] = seat.Participant()
	}
	r.mu.Unlock()
	return s, nil
}

// sottoSeat is a participant: one connection for both directions.
type sottoSeat struct {
	room    *sottoRoom
	client  *client.Client
	sink    *sink.Sink
	publish Media
	work    sync.WaitGroup
}

func (s *sottoSeat) read(opened func(Packet)) {
	for stream := range s.client.Streams() {
		s.work.Go(func() {
			for p := range stream.Packets() {
				if opened != nil {
					opened(Packet{p.Packet, p.Arrived, p.Repaired})
				}
			}
		})
	}
}

// Connected implements Seat.
func (s *sottoSeat) Connected(ctx context.Context) error {
	if err := s.client.Connected(ctx); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// Sound implements Seat.
func (s *sottoSeat) Sound() Outlet {
	if !s.publish.Sound {
		return nil
	}
	return s.client.Local(wire.Microphone)
}

// Pictures implements Seat.
func (s *sottoSeat) Pictures() Outlet {
	if !s.publish.Pictures {
		return nil
	}
	return s.client.Local(wire.Camera)
}

// Receive implements Seat.
func (s *sottoSeat) Receive(ctx context.Context) (int, error) {
	var list []string
	s.room.mu.Lock()
	for t, owner := range s.room.tracks {
		if owner != s.client.Participant() {
			list = append(list, t)
		}
	}
	s.room.mu.Unlock()
	missing, err := s.client.Subscribe(ctx, list...)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	if len(missing) > 0 {
		return 0, fmt.Errorf("bench: %d of %d tracks are not in the room any more", len(missing), len(list))
	}
	return len(list), nil
}

// Sending implements Seat.
func (s *sottoSeat) Sending() *sink.Sink { return s.sink }

// Receiving implements Seat.
func (s *sottoSeat) Receiving() *sink.Sink { return s.sink }

// WriteRTCP implements Seat.
func (s *sottoSeat) WriteRTCP(b []byte) error {
	p := rtcp.RawPacket(b)
	return s.client.WriteRTCP(&p)
}

// Close implements Seat.
func (s *sottoSeat) Close() error {
	err := s.client.Close()
	s.work.Wait()
	return err
}
