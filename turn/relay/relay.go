// Package relay is TURN's data plane: engines that carry the packets of bound channels without the server.
//
// An engine is told of flows and forgets them when told to. It promises that what it relays is bit for bit what the server would have
// sent, that a flow is not relayed any more when Remove returns, and that whatever it is in doubt about reaches the server's sockets as
// if there were no engine. Permissions, lifetimes and quotas are the server's: an engine counts, and knows no time.
package relay

import (
	"errors"
	"fmt"
	"net/netip"
)

// Flow is one channel of one allocation: what a packet in either direction is turned into.
type Flow struct {
	Client, Server netip.AddrPort // 5-tuple of the client's side, UDP
	Relayed, Peer  netip.AddrPort // of the peer's side
	Channel        uint16
}

// Counters is payload that was relayed.
type Counters struct{ Packets, Bytes uint64 }

// ErrUnsupported is what an engine answers to a flow that it leaves to the server.
var ErrUnsupported = errors.New("relay: the flow is not offloaded")

// ErrFull is ErrUnsupported for the time being: there is no room for more flows.
var ErrFull = fmt.Errorf("%w: there is no room", ErrUnsupported)

// ErrInterface is ErrUnsupported because the kernel does not show what comes in by the interface of the flow.
var ErrInterface = fmt.Errorf("%w: its interface is not to be had", ErrUnsupported)

// Stats is what an engine in the kernel says of itself: int is a level of now, uint64 counts since the start.
type Stats struct {
	Interfaces int // that it is attached to
	Flows      int // that it was told of
	Stranded   int // of these, the flows whose way is lost: the server relays them meanwhile
	// Losses counts flows that were given back to the server because their way or their interface was lost, Returns those that have
	// come again.
	Losses, Returns uint64
	// Strays counts entries that belonged to no allocation, Gaps those that were missing; both were put right.
	Strays, Gaps uint64
}

// plain is the flow with IPv4 addresses in their short form; ok: its packets can be turned into each other in the kernel, which they
// cannot from one family to the other (RFC 8656 §14 has fragments and ICMP errors made there).
func (f Flow) plain() (out Flow, ok bool) {
	ok = true
	out.Channel = f.Channel
	for _, a := range []struct {
		from netip.AddrPort
		to   *netip.AddrPort
	}{{f.Client, &out.Client}, {f.Server, &out.Server}, {f.Relayed, &out.Relayed}, {f.Peer, &out.Peer}} {
		ip := a.from.Addr().Unmap()
		*a.to = netip.AddrPortFrom(ip, a.from.Port())
		ok = ok && ip.IsGlobalUnicast() && ip.Is4() == out.Client.Addr().Is4()
	}
	return out, ok
}
