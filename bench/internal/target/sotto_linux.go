package target

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	place
}

// place is where an appliance is found, by its own process or another.
type place struct {
	url   string
	tls   *tls.Config
	media netip.AddrPort
}

// ticket is a room of an appliance in words.
type ticket struct{ URL, Cert, Media, Room, Host string }

// Ticket says in words how another process gets into a room of Sotto, with Enter.
func Ticket(r Room) (string, error) {
	own, ok := r.(*sottoRoom)
	if !ok || own.cert == "" {
		return "", errors.New("bench: rooms of this server are for one process")
	}
	text, err := json.Marshal(ticket{URL: own.at.url, Cert: own.cert, Media: own.at.media.String(), Room: own.meeting.Room, Host: own.meeting.HostToken})
	return string(text), err
}

// Enter is the room that a ticket is for, and the address for sockets of its clients.
func Enter(words string) (Room, netip.Addr, error) {
	var t ticket
	err := json.Unmarshal([]byte(words), &t)
	if err != nil {
		return nil, loopback, fmt.Errorf("bench: ticket: %w", err)
	}
	at := place{url: t.URL}
	if at.tls, err = child.Trust(t.Cert); err != nil {
		return nil, loopback, err
	}
	if at.media, err = netip.ParseAddrPort(t.Media); err != nil {
		return nil, loopback, fmt.Errorf("bench: ticket: %w", err)
	}
	return &sottoRoom{at: at, meeting: wire.Meeting{Room: t.Room, HostToken: t.Host}, tracks: map[string]string{}}, loopback, nil
}

// Published returns what was published in a room of Sotto by seats of this process: tracks, and whose they are.
func Published(r Room) map[string]string {
	own, ok := r.(*sottoRoom)
	if !ok {
		return nil
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	return maps.Clone(own.tracks)
}

// Announce tells a room of what another process has published there.
func Announce(r Room, tracks map[string]string) {
	if own, ok := r.(*sottoRoom); ok {
		own.mu.Lock()
		defer own.mu.Unlock()
		maps.Copy(own.tracks, tracks)
	}
}

// Client is the participant behind a seat of Sotto; nil: it is another server's.
func Client(s Seat) *client.Client {
	if own, ok := s.(*sottoSeat); ok {
		return own.client
	}
	return nil
}

// Metrics reads what Sotto says of itself, by the names of its metrics without labels; nil: it is another server.
func Metrics(ctx context.Context, s Server) (map[string]float64, error) {
	if own, ok := s.(*sotto); ok {
		return own.Server.Metrics(ctx)
	}
	return nil, nil
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
	return &sotto{s, place{url: s.URL, tls: s.TLS, media: netip.AddrPortFrom(loopback, media.Port())}}, nil
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
	return &sottoRoom{at: s.place, cert: s.Cert, meeting: m, tracks: map[string]string{}}, nil
}

type sottoRoom struct {
	at      place
	cert    string // file; empty: the room was entered with a ticket
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
	if err := k.Connect(r.at.media, offered); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	own := client.Config{
		URL: r.at.url, Room: r.meeting.Room, Name: cfg.Name, TLS: r.at.tls, Conn: k, NoFeedback: true,
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
