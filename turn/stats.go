package turn

import "sync/atomic"

// counters are counted by whoever is at work.
type counters struct {
	sentAway                                             atomic.Uint64
	ended, moved, overflows                              atomic.Uint64
	created, deleted                                     atomic.Uint64
	malformed, strayIndications, strayChannelData        atomic.Uint64
	rateLimited, bindings                                atomic.Uint64
	unauthenticated, badCredentials, staleNonces         atomic.Uint64
	expired, unknownUsers, wrongPasswords, authenticated atomic.Uint64
	wrongCredentials, quota, forbidden, refused          atomic.Uint64
	overBandwidth, takenBack                             atomic.Uint64
	handshakes, connections, idle, bound                 atomic.Uint64
	sendErrors, receiveErrors                            atomic.Uint64
	full, notTaken, noInterface, lost, unguarded         atomic.Uint64
}

// Stats is a snapshot: int is a level of now, uint64 counts since the start.
type Stats struct {
	Allocations AllocationStats
	// Connections is how many clients are connected over TCP, TLS and DTLS.
	Connections int
	// Flows is how many channels the offloader relays.
	Flows     int
	Fallbacks FallbackStats
	// What was relayed, from clients and to them, by the server and by the offloader.
	Up, Down, OffloadedUp, OffloadedDown Traffic
	Requests                             RequestStats
	Auth                                 AuthStats
	Dropped                              DropStats
}

// Traffic is payload.
type Traffic struct{ Packets, Bytes uint64 }

// AllocationStats counts allocations, those of now by transport of the client and family of the relayed address.
type AllocationStats struct {
	Created, Deleted                uint64
	Ended                           uint64 // by the operator
	Moved                           uint64 // with their clients (RFC 8016)
	UDP, TCP, TLS, DTLS, IPv4, IPv6 int
}

// RequestStats counts what was asked for.
type RequestStats struct {
	Bindings uint64
	// ConnectionsBound counts connections to peers (RFC 6062).
	ConnectionsBound uint64
	// QuotaRefused and PeerForbidden count requests that were refused for the quota and for the peer's address.
	QuotaRefused, PeerForbidden uint64
	// SentAway counts clients that were sent to another server.
	SentAway uint64
}

// AuthStats counts requests by what became of their credentials.
type AuthStats struct {
	Authenticated uint64
	// None had no credentials yet, Incomplete only a part of them.
	None, Incomplete, StaleNonce, Expired, UnknownUser, WrongPassword, OtherUser uint64
}

// DropStats counts what was dropped, by the reason.
type DropStats struct {
	Malformed uint64
	// StrayIndications and StrayChannelData came from somebody without an allocation.
	StrayIndications, StrayChannelData uint64
	// RateLimited counts requests of sources that ask too often.
	RateLimited uint64
	// NoPermission counts packets to and from peers without permission.
	NoPermission uint64
	// OverBandwidth counts packets over a limit; FlowsTakenBack the flows taken from the offloader for that.
	OverBandwidth, FlowsTakenBack uint64
	// Connections that broke off in their handshake, found no room, or never got an allocation.
	FailedHandshakes, ConnectionsRefused, IdleConnections uint64
	SendErrors, ReceiveErrors                             uint64
	// Overflows counts frames for allocations of their own kind (both families, mobile) that found too many before them.
	Overflows uint64
}

// FallbackStats counts flows that the server relays because the offloader does not.
type FallbackStats struct {
	// Full: there was no room. NotTaken: it is none for the offloader, or its way is none. Lost: the offloader knew no more of it.
	Full, NotTaken, Lost uint64
	// GuardErrors counts clients that the guard could not be told of.
	GuardErrors uint64
}

// Stats returns the figures of now.
func (s *Server) Stats() Stats {
	c := &s.counters
	traffic := func(t *traffic) Traffic { return Traffic(t.read()) }
	out := Stats{
		Flows: int(s.offloaded.Load()),
		Up:    traffic(&s.relayed.up), Down: traffic(&s.relayed.down),
		OffloadedUp: traffic(&s.relayed.offloadedUp), OffloadedDown: traffic(&s.relayed.offloadedDown),
		Allocations: AllocationStats{Created: c.created.Load(), Deleted: c.deleted.Load(), Ended: c.ended.Load(), Moved: c.moved.Load()},
		Fallbacks:   FallbackStats{Full: c.full.Load(), NotTaken: c.notTaken.Load(), Lost: c.lost.Load(), GuardErrors: c.unguarded.Load()},
		Requests: RequestStats{
			Bindings: c.bindings.Load(), ConnectionsBound: c.bound.Load(), QuotaRefused: c.quota.Load(), PeerForbidden: c.forbidden.Load(), SentAway: c.sentAway.Load(),
		},
		Auth: AuthStats{
			Authenticated: c.authenticated.Load(), None: c.unauthenticated.Load(), Incomplete: c.badCredentials.Load(),
			StaleNonce: c.staleNonces.Load(), Expired: c.expired.Load(), UnknownUser: c.unknownUsers.Load(),
			WrongPassword: c.wrongPasswords.Load(), OtherUser: c.wrongCredentials.Load(),
		},
		Dropped: DropStats{
			Malformed: c.malformed.Load(), StrayIndications: c.strayIndications.Load(), StrayChannelData: c.strayChannelData.Load(),
			RateLimited: c.rateLimited.Load(), NoPermission: c.refused.Load(), OverBandwidth: c.overBandwidth.Load(),
			FlowsTakenBack: c.takenBack.Load(), FailedHandshakes: c.handshakes.Load(), ConnectionsRefused: c.connections.Load(),
			IdleConnections: c.idle.Load(), SendErrors: c.sendErrors.Load(), ReceiveErrors: c.receiveErrors.Load(), Overflows: c.overflows.Load(),
		},
	}
	s.mu.Lock()
	out.Connections = len(s.conns)
	s.mu.Unlock()
	for _, a := range s.table.all() {
		switch a.at().transport {
		case UDP:
			out.Allocations.UDP++
		case TCP:
			out.Allocations.TCP++
		case TLS:
			out.Allocations.TLS++
		case DTLS:
			out.Allocations.DTLS++
		}
		if a.relayed.Addr().Is4() {
			out.Allocations.IPv4++
		} else {
			out.Allocations.IPv6++
		}
	}
	return out
}
