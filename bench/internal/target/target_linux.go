// Package target puts different media servers behind one face, so that one load generator can load them all: Sotto by its signaling,
// the plain pion SFU of bench/peer by its few HTTP requests, Janus by the videoroom API over WebSocket.
//
// It owns the servers' processes and the signaling with them. It promises that each server is a process of its own whose PID is the
// one to be measured, that it offers every server the same media over the same kind of socket, and that Stop returns when the process
// is gone. It measures nothing. Linux only.
package target

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/sink"
)

// Names of the servers.
const (
	Sotto     = "sotto"
	PlainPion = "plain-pion" // pion/webrtc with its default interceptors, a socket for each connection
	BarePion  = "bare-pion"  // without interceptors, one socket
	Janus     = "janus"      // two event loops, ICE-lite
)

// Config says which server to start, and how.
type Config struct {
	Name    string
	Binary  string // of Sotto, or of bench/peer; Janus is found by its name
	People  int    // in one room at most
	Profile string // file for a CPU profile of the server; empty: none can be taken
}

// Server is a media server, running.
type Server interface {
	// Open makes a room.
	Open(ctx context.Context) (Room, error)
	// Local is the address that its clients' sockets are on.
	Local() netip.Addr
	// PID is the process that does the work.
	PID() int
	// Profile begins or ends the CPU profile.
	Profile() error
	// Gone is closed when the process has ended.
	Gone() <-chan struct{}
	// Log returns the end of what it has logged.
	Log() string
	// Stop ends it.
	Stop() error
}

// Room is where what one publishes reaches the others.
type Room interface {
	// Join takes a seat. Media that is published may be written at once; it is lost until the connection stands.
	Join(ctx context.Context, s SeatConfig) (Seat, error)
}

// SeatConfig says who joins, and with what.
type SeatConfig struct {
	Name    string
	Publish Media
	Profile dtls.SRTPProtectionProfile
	Open    func() (*sink.Sink, error) // makes a socket
	Opened  func(Packet)               // is handed each packet that was decrypted, by several goroutines
	Turns   *sink.Turns                // counts the join, if not nil
}

// Media is what a seat publishes.
type Media struct{ Sound, Pictures, Simulcast bool }

// None says that nothing is published.
func (m Media) None() bool { return !m.Sound && !m.Pictures }

// Packet is one that pion has decrypted.
type Packet struct {
	*rtp.Packet
	Arrived  time.Time
	Repaired bool
}

// Seat is one participant.
type Seat interface {
	// Connected waits until what is published reaches the server.
	Connected(ctx context.Context) error
	// Sound and Pictures are what is published; nil: it is not.
	Sound() Outlet
	Pictures() Outlet
	// Receive asks for everything that others have published in the room so far, and returns how many streams that is.
	Receive(ctx context.Context) (streams int, err error)
	// Sending and Receiving are its sockets, which may be one; nil: there is none yet.
	Sending() *sink.Sink
	Receiving() *sink.Sink
	// WriteRTCP tells the server about what is received.
	WriteRTCP(b []byte) error
	// Close leaves. It closes the sockets.
	Close() error
}

// Outlet takes the packets of one published track.
type Outlet interface {
	WriteLayer(layer int, p *rtp.Packet) error
	KeyFrames() <-chan struct{}
}

// Start starts a server.
func Start(ctx context.Context, c Config) (Server, error) {
	switch c.Name {
	case Sotto, "":
		return startSotto(ctx, c)
	case PlainPion, BarePion:
		return startPion(ctx, c)
	case Janus:
		return startJanus(ctx, c)
	}
	return nil, fmt.Errorf("bench: no server is called %q", c.Name)
}

// Missing says what has to be installed or done before a server can be started; nil: nothing.
func Missing(name string) error {
	if name != Janus {
		return nil
	}
	if _, err := exec.LookPath("janus"); err != nil {
		return fmt.Errorf("bench: Janus is not installed (apt-get install janus): %w", err)
	}
	return netns.Possible()
}
