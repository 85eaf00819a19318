//go:build !linux

package relay

import (
	"net"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/udp"
)

// Batch relays by the batch, on Linux.
type Batch struct{}

// BatchStats counts what a Batch has done since its start.
type BatchStats struct{}

// NewBatch fails here.
func NewBatch(int) (*Batch, error) { return nil, ErrUnsupported }

// Add leaves every flow to the server.
func (*Batch) Add(Flow) error { return ErrUnsupported }

// Remove has nothing to end.
func (*Batch) Remove(Flow) {}

// Count knows no flow.
func (*Batch) Count(Flow) (up, down Counters, ok bool) { return Counters{}, Counters{}, false }

// Engine returns its name.
func (*Batch) Engine() string { return "none" }

// Stats has none.
func (*Batch) Stats() BatchStats { return BatchStats{} }

// Listen fails here.
func (*Batch) Listen(netip.AddrPort) (*Port, error) { return nil, ErrUnsupported }

// ListenPeers fails here.
func (*Batch) ListenPeers(netip.AddrPort) (net.PacketConn, error) { return nil, ErrUnsupported }

// Close has nothing to give back.
func (*Batch) Close() error { return nil }

// Port is a UDP port that clients send to.
type Port struct{}

// Read fails here.
func (*Port) Read([]byte) (int, udp.Path, error) { return 0, udp.Path{}, net.ErrClosed }

// Write fails here.
func (*Port) Write([]byte, udp.Path) error { return net.ErrClosed }

// LocalAddr is none.
func (*Port) LocalAddr() netip.AddrPort { return netip.AddrPort{} }

// Close has nothing to close.
func (*Port) Close() error { return nil }
