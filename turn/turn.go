// Package turn is the TURN server: RFC 8656 over UDP, TCP, TLS and DTLS, with TCP allocations (RFC 6062).
//
// pion/turn keeps allocations, permissions and channels. In front of it stands a stage of this package, which authenticates every
// request, checks every peer, and hands on only what it has signed itself: what a stranger writes never gets further, and what the
// library lacks is done here. Who relays the packets of a bound channel is the business of an [Offloader]; the server relays
// whatever that does not take.
//
// It promises that permissions, lifetimes, quotas and limits hold whoever relays; that a flow is taken from the Offloader before the
// server forgets it; and that Close returns when everything it opened is closed. It opens no listener by itself: cmd hands it the
// sockets, its own and those of ports that carry other things beside TURN.
package turn

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
	"github.com/sotto-edge/sotto/turn/relay"
)

// Flow is one channel of one allocation: what a packet in either direction is turned into.
type Flow = relay.Flow

// Counters is payload that was relayed.
type Counters = relay.Counters

// ErrUnsupported is what an Offloader answers to a flow that it leaves to the server.
var ErrUnsupported = relay.ErrUnsupported

// Offloader relays flows without the server, which calls it from one goroutine at a time and never under a lock of the library's. One
// that has Reconcile([]Flow) is told every ten seconds which flows live; one that has EngineOf(Flow) string, who has a flow.
type Offloader interface {
	// Add begins to relay a flow; ErrUnsupported: the server goes on relaying it.
	Add(Flow) error
	// Remove ends it, before the server forgets it.
	Remove(Flow)
	// Count returns what has been relayed since Add, from the client and to it.
	Count(Flow) (up, down Counters, ok bool)
	// Engine is the name of what relays: "xdp", "tcx", "batch" or "none".
	Engine() string
	Close() error
}

// NoOffloader leaves all flows to the server.
type NoOffloader struct{}

// Add implements Offloader.
func (NoOffloader) Add(Flow) error { return ErrUnsupported }

// Remove implements Offloader.
func (NoOffloader) Remove(Flow) {}

// Count implements Offloader.
func (NoOffloader) Count(Flow) (up, down Counters, ok bool) { return Counters{}, Counters{}, false }

// Engine implements Offloader.
func (NoOffloader) Engine() string { return "none" }

// Close implements Offloader.
func (NoOffloader) Close() error { return nil }

// Guard keeps strangers from the server's UDP ports. It is told of the 5-tuples that have an allocation, one goroutine at a time.
type Guard interface {
	Admit(client, server netip.AddrPort) error
	Forget(client, server netip.AddrPort) error
}

// Socket is a UDP port that carries TURN. One goroutine reads; any may write.
type Socket interface {
	// Read waits for a datagram. net.ErrClosed ends the server's interest.
	Read(b []byte) (int, udp.Path, error)
	Write(b []byte, to udp.Path) error
	LocalAddr() netip.AddrPort
	Close() error
}

// Media is the media port of this very process, which relayed datagrams reach without a socket. Deliver copies b and does not block;
// false: the datagram is lost. What comes back is for FromMedia.
type Media interface {
	Deliver(from, to netip.AddrPort, b []byte) bool
}

// Transport is how a client speaks to the server.
type Transport string

// The transports.
const (
	UDP  Transport = "udp"
	TCP  Transport = "tcp"
	TLS  Transport = "tls"
	DTLS Transport = "dtls"
)

// Listener accepts clients. What it accepts is ready but for the handshake of a *tls.Conn or *dtls.Conn.
type Listener struct {
	net.Listener
	Transport Transport
}

// Limits bounds what is taken. Zero is the default in brackets, a negative number no limit.
type Limits struct {
	Allocations     int     // at once [10000]
	UserAllocations int     // of one user [20]
	UserBytes       float64 // per second, of all allocations of one user, in both directions together [no limit]
	RealmBytes      float64 // per second, of all users of the realm [no limit]
	Permissions     int     // of one allocation; as many channels [64]
	Connections     int     // over TCP, TLS and DTLS at once [20000]
	// SourceRequests and Requests bound what is answered per second to those who have not authenticated, of one source and of all
	// [20, 5000].
	SourceRequests, Requests float64
}

// Config is what a Server is made of.
type Config struct {
	Auth  *auth.Authority
	Peers *policy.Peers
	// Realms are others than that of Auth.
	Realms []Realm

	Sockets   []Socket
	Listeners []Listener

	// Relay4 and Relay6 are the addresses that relayed ones are opened on; an invalid one: none of that family.
	Relay4, Relay6 netip.Addr
	// Public4 and Public6 are what clients are told instead, behind a NAT that keeps ports.
	Public4, Public6 netip.Addr
	// FirstPort and LastPort bound the ports of relayed addresses [49152, 65535] (RFC 8656 §7.2).
	FirstPort, LastPort uint16
	// Alternates are servers that clients are sent to when there is no room for another allocation (RFC 8489 §10).
	Alternates []netip.AddrPort
	// ListenPeers opens the UDP socket of a relayed address; nil: the system's. A data plane that reads them itself gives its own.
	ListenPeers func(netip.AddrPort) (net.PacketConn, error)

	Offloader Offloader // NoOffloader
	Guard     Guard     // none
	Media     Media     // nil: peers that are the media port are reached by the socket, as others
	Limits    Limits
	Log       *slog.Logger // none
}

func (c *Config) defaults() error {
	if c.Auth == nil || c.Peers == nil {
		return errors.New("turn: Auth and Peers must be set")
	}
	if !c.Relay4.IsValid() && !c.Relay6.IsValid() {
		return errors.New("turn: no address to relay from")
	}
	if c.FirstPort == 0 {
		c.FirstPort = 49152
	}
	if c.LastPort == 0 {
		c.LastPort = 65535
	}
	if c.FirstPort > c.LastPort {
		return errors.New("turn: the range of ports is empty")
	}
	if c.ListenPeers == nil {
		c.ListenPeers = func(a netip.AddrPort) (net.PacketConn, error) {
			return net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		}
	}
	if c.Offloader == nil {
		c.Offloader = NoOffloader{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Limits.defaults()
	names := map[string]bool{c.Auth.Realm(): true}
	for _, r := range c.Realms {
		if r.Auth == nil || r.Peers == nil || names[r.Auth.Realm()] {
			return errors.New("turn: a realm must have Auth and Peers of its own, and be there once")
		}
		names[r.Auth.Realm()] = true
	}
	return nil
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		v *int
		d int
	}{{&l.Allocations, 10000}, {&l.UserAllocations, 20}, {&l.Permissions, 64}, {&l.Connections, 20000}} {
		switch {
		case *d.v == 0:
			*d.v = d.d
		case *d.v < 0:
			*d.v = int(^uint(0) >> 1)
		}
	}
	if l.SourceRequests == 0 {
		l.SourceRequests = 20
	}
	if l.Requests == 0 {
		l.Requests = 5000
	}
}

// Allocation is one allocation as it is shown to the operator.
type Allocation struct {
	ID              string
	Transport       Transport
	Client, Server  netip.AddrPort
	Relayed         netip.AddrPort
	TCP             bool // relays connections (RFC 6062)
	Realm, User     string
	Created         time.Time
	Expires         time.Time // unless it is refreshed
	Mobile          bool      // moves with its client (RFC 8016)
	Permissions     []netip.Addr
	Channels        []Channel
	Up, Down        Counters
	OffloadedUp     Counters
	OffloadedDown   Counters
	DroppedPackets  uint64 // over the limit of its user
	RefusedByPolicy uint64 // packets to or from peers without permission
}

// Channel is a bound channel.
type Channel struct {
	Number    uint16
	Peer      netip.AddrPort
	Offloaded bool
	Engine    string // "server", or the offloader's name
}
