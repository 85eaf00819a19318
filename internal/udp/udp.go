// Package udp owns one UDP socket of a shard: datagrams in by the batch, datagrams out
// by the batch, and the shard's sleep between the two.
//
// What can wait ([Socket.ReceiveAside]) has a queue of its own, where the system can keep it apart: feedback on arrivals, reports of
// who only receives, checks of connectivity and their answers. It is half of all datagrams of a large meeting and nearly all of one where
// nobody speaks; nothing hangs on a few milliseconds more of it, and a sleeping thread is costly to wake.
//
// It promises that a reply can leave from the very address that was asked (the local
// address is part of every [Path]), that nothing on the way allocates, that one bad
// destination never holds up the datagrams to others, and that whatever was lost is
// counted. On Linux it is recvmmsg and sendmmsg with segmentation offload in both
// directions where the kernel has it (detected once, given up where a path refuses it);
// elsewhere a portable stand-in does the same over net.UDPConn, only slower.
//
// It does not know what is in a datagram beyond [Classify] and what can wait looks like from outside, keeps no table of peers,
// runs no goroutine, and reads the clock only to tell how long a datagram has waited. A Socket belongs to one thread; only Wake, Post,
// Stats, Features and LocalAddr may be called from others.
package udp

import (
	"net/netip"
	"sync/atomic"
)

// Path is one way between a peer and this host. It is comparable, and IPv4 addresses in
// it are always plain, never mapped into IPv6.
type Path struct {
	Remote netip.AddrPort
	// Local is the address of this host that the peer sent to. A datagram sent with it
	// leaves from it; the zero Addr leaves the choice to the routing table.
	Local netip.Addr
	// Way is what carries it, where that is not the socket.
	Way Way
}

// Way is what carries datagrams between a peer and this host. A Socket knows only Wire; the others are told apart by whoever has them.
type Way uint8

// The ways of a Path.
const (
	Wire   Way = iota // the socket
	Inside            // a relay in this process, which has the remote address
	Stream            // a TCP connection (RFC 6544)
	Ways              // how many there are
)

// Datagram is one received datagram. Data is valid until the next Receive, as long as the
// Socket is in use, and may be modified in place.
type Datagram struct {
	Data []byte
	Path Path
	// Waited is how long it has been here, in nanoseconds, where it was let wait (ReceiveAside); else 0.
	Waited int64
}

// Config says how to listen. The zero value is any port on every address.
type Config struct {
	// Listen is the address to bind. An unspecified address of either family (or the
	// zero Addr) is one socket for both families where the host has IPv6.
	Listen netip.AddrPort
	// ReceiveBuffer and SendBuffer are the kernel's queues in bytes; 0 is 4 MiB. What
	// was granted is in Features.
	ReceiveBuffer, SendBuffer int
	// NoGSO and NoGRO turn segmentation offload off though the kernel has it.
	NoGSO, NoGRO bool
}

// defaultBuffer holds 50 ms at 650 Mbit/s: longer than a shard is ever busy with a batch.
const defaultBuffer = 4 << 20

// maxDatagram is the most that a UDP datagram carries over IPv4 or IPv6.
const maxDatagram = 65535 - 8

// Family is what a socket can reach.
type Family uint8

// The families of a socket.
const (
	IPv4 Family = iota + 1
	IPv6
	DualStack
)

func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	case DualStack:
		return "dual-stack"
	}
	return "unknown"
}

// Features is what the kernel granted.
type Features struct {
	Family Family
	GSO    bool // runs of equal datagrams leave as one; false from the first refusal on
	GRO    bool // runs of equal datagrams arrive as one
	// Aside says that what can wait has a queue of its own; without one it comes with everything else.
	Aside bool
	// LocalAddr says that Path.Local of received datagrams is known.
	LocalAddr bool
	// ReceiveBuffer and SendBuffer are the effective sizes, comparable to Config's; 0
	// when the system does not tell.
	ReceiveBuffer, SendBuffer int
}

// Stats is a snapshot of a socket's counters since it was opened.
type Stats struct {
	ReceivedDatagrams, ReceivedBytes uint64
	SentDatagrams, SentBytes         uint64
	// ReceiveCalls, SendCalls and WaitCalls count system calls.
	ReceiveCalls, SendCalls, WaitCalls uint64
	// GROSegments and GSOSegments are the datagrams that came and left in runs of two
	// or more, out of the totals above.
	GROSegments, GSOSegments uint64
	// GSORefusals counts runs that the kernel refused and that then went out singly.
	GSORefusals uint64
	// SendErrors counts datagrams that the kernel or the path refused, SendDrops those
	// that found the send buffer full.
	SendErrors, SendDrops uint64
	// ReceiveErrors counts failed receive calls, ReceiveDrops the datagrams that found the
	// receive buffer full (as of the latest datagram received), Truncated those that
	// were too large for a packet buffer and were thrown away.
	ReceiveErrors, ReceiveDrops, Truncated uint64
}

// counters is Stats as it is kept: written by the owner, read by anyone.
type counters struct {
	receivedDatagrams, receivedBytes       atomic.Uint64
	sentDatagrams, sentBytes               atomic.Uint64
	receiveCalls, sendCalls, waitCalls     atomic.Uint64
	groSegments, gsoSegments               atomic.Uint64
	gsoRefusals                            atomic.Uint64
	sendErrors, sendDrops                  atomic.Uint64
	receiveErrors, receiveDrops, truncated atomic.Uint64
}

func (c *counters) snapshot() Stats {
	return Stats{
		ReceivedDatagrams: c.receivedDatagrams.Load(),
		ReceivedBytes:     c.receivedBytes.Load(),
		SentDatagrams:     c.sentDatagrams.Load(),
		SentBytes:         c.sentBytes.Load(),
		ReceiveCalls:      c.receiveCalls.Load(),
		SendCalls:         c.sendCalls.Load(),
		WaitCalls:         c.waitCalls.Load(),
		GROSegments:       c.groSegments.Load(),
		GSOSegments:       c.gsoSegments.Load(),
		GSORefusals:       c.gsoRefusals.Load(),
		SendErrors:        c.sendErrors.Load(),
		SendDrops:         c.sendDrops.Load(),
		ReceiveErrors:     c.receiveErrors.Load(),
		ReceiveDrops:      c.receiveDrops.Load(),
		Truncated:         c.truncated.Load(),
	}
}

// listenError says which step of Listen failed. (Spelt out because the packet path
// imports no fmt.)
type listenError struct {
	op   string
	addr netip.AddrPort
	err  error
}

func (e *listenError) Error() string {
	return "udp: " + e.op + " " + e.addr.String() + ": " + e.err.Error()
}

func (e *listenError) Unwrap() error { return e.err }

// wildcard says whether ap is to be bound on every address of both families.
func wildcard(ap netip.AddrPort) bool {
	return !ap.Addr().IsValid() || ap.Addr().Unmap().IsUnspecified()
}

// unmap makes an IPv4 address plain.
func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
