package transport

import (
	"crypto/rand"
	"errors"
	"io"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
)

// Candidate is one address that an offer carries. Those of this node tell a Mux
// the local part of a pair's priority; those of a standby (Standby) are only
// passed on to whoever writes the offer.
type Candidate struct {
	Addr       netip.AddrPort
	Priority   uint32 // RFC 8445 §5.1.2
	Foundation string
	Standby    bool
	TCP        bool // clients connect to it (RFC 6544); else it is of UDP
}

// Config is everything a Mux needs to know. Secret and Pool are required.
type Config struct {
	// Node is this node's number in the cluster, part of every ufrag.
	Node uint16
	// Secret is the cluster's key for ufrag MACs. It must be the same on every
	// node that may restore a session of another.
	Secret UfragKey
	// Candidates are the addresses that offers carry.
	Candidates []Candidate
	// Pool is where decrypted RTP goes. It belongs to the same shard.
	Pool *pktbuf.Pool
	// MaxSessions bounds the table; 0 means 4096.
	MaxSessions int
	// PlainSTUNPerSecond bounds answers to Binding requests without USERNAME,
	// over all sources; 0 means 200, negative means none.
	PlainSTUNPerSecond int
	// ConnectTimeout is how many nanoseconds a session may take from SetRemote
	// to media; 0 means 30 s.
	ConnectTimeout int64
	// Neighbours are the other Muxes on the same port; nil means that there are none.
	Neighbours Neighbours
	// Relay takes what is TURN on this port; nil means that there is none.
	Relay Relay
	// Rand is the source of passwords, transaction ids and jitter; nil means
	// crypto/rand.
	Rand io.Reader
}

const (
	defaultMaxSessions    = 4096
	defaultPlainSTUN      = 200
	defaultConnectTimeout = 30 * second
)

// check fills in the defaults.
func (c *Config) check() error {
	switch {
	case c.Secret.IsZero():
		return errors.New("transport: config: no ufrag key")
	case c.Pool == nil:
		return errors.New("transport: config: no buffer pool")
	case c.MaxSessions < 0:
		return errors.New("transport: config: negative number of sessions")
	case c.ConnectTimeout < 0:
		return errors.New("transport: config: negative connect time-out")
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = defaultMaxSessions
	}
	if c.PlainSTUNPerSecond == 0 {
		c.PlainSTUNPerSecond = defaultPlainSTUN
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = defaultConnectTimeout
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Neighbours == nil {
		c.Neighbours = NoNeighbours{}
	}
	if c.Relay == nil {
		c.Relay = NoRelay{}
	}
	return nil
}

// Output is where datagrams go, by the way of their path. *udp.Socket is one that knows one way.
type Output interface {
	// Reserve returns n contiguous bytes, valid until the next Reserve.
	Reserve(n int) []byte
	// Commit queues the first n bytes of the last Reserve for p.
	Commit(n int, p udp.Path)
}

// Handler is told what came in. It is called on the shard's thread, from within
// Receive, Tick and the Handshake methods of Mux, and may call any method of any
// session, Close included.
type Handler interface {
	// RTP gets an authenticated, decrypted packet: header and payload in b, h a
	// view into it, index the 48-bit SRTP index. The reference to b is the
	// Mux's: a handler that keeps b retains it.
	RTP(s *Session, b *pktbuf.Buf, h *rtp.Header, index uint64, now int64)
	// RTCP gets an authenticated, decrypted compound; valid during the call.
	RTCP(s *Session, compound []byte, now int64)
	// State is called after each change of the session's state.
	State(s *Session, st State, now int64)
}

// Handshaker runs DTLS handshakes somewhere else. None of its methods may block.
// Results come back on the shard's thread through HandshakePacket, HandshakeDone,
// HandshakeFailed and HandshakeClosed of Mux.
type Handshaker interface {
	// Start begins a handshake as DTLS server, with a peer that must show a
	// certificate with that fingerprint. False means that there is no room now;
	// the ClientHello is then dropped, and the client will repeat it.
	Start(id SessionID, fp Fingerprint) bool
	// Deliver hands over one datagram from the peer; it must copy it.
	Deliver(id SessionID, datagram []byte)
	// End ends the handshake or the association, with a close_notify.
	End(id SessionID)
}

// NoHandshaker refuses every handshake: for a Mux that only restores sessions.
type NoHandshaker struct{}

// Start implements Handshaker.
func (NoHandshaker) Start(SessionID, Fingerprint) bool { return false }

// Deliver implements Handshaker.
func (NoHandshaker) Deliver(SessionID, []byte) {}

// End implements Handshaker.
func (NoHandshaker) End(SessionID) {}

// Neighbours are the Muxes of other shards with sockets on the same port. Which socket
// a datagram comes to is the kernel's choice, so what belongs to a session of a
// neighbour is handed on. It is asked only about what is nobody's here. Its methods are
// called on this Mux's thread and must not block.
type Neighbours interface {
	// Claim says that a session here is about to have the address. False means that
	// a neighbour's has it, which is then asked to Yield.
	Claim(a netip.AddrPort) bool
	// Release says that no session here has the address any more.
	Release(a netip.AddrPort)
	// PassAddress hands a datagram to whom its source address belongs, PassSession
	// to whom the session does; false when that is nobody. They copy it.
	PassAddress(d *udp.Datagram) bool
	PassSession(id SessionID, d *udp.Datagram) bool
}

// NoNeighbours is for a Mux that has its port to itself.
type NoNeighbours struct{}

// Claim implements Neighbours.
func (NoNeighbours) Claim(netip.AddrPort) bool { return true }

// Release implements Neighbours.
func (NoNeighbours) Release(netip.AddrPort) {}

// PassAddress implements Neighbours.
func (NoNeighbours) PassAddress(*udp.Datagram) bool { return false }

// PassSession implements Neighbours.
func (NoNeighbours) PassSession(SessionID, *udp.Datagram) bool { return false }

// Relay is a TURN server on the same port. Take hands a datagram over, which it copies, and must not block; false: it is lost.
type Relay interface{ Take(d *udp.Datagram) bool }

// NoRelay takes nothing.
type NoRelay struct{}

// Take implements Relay.
func (NoRelay) Take(*udp.Datagram) bool { return false }

// Keys is the result of a handshake (RFC 5764 §4.2).
type Keys struct {
	Local, Remote srtp.Keys
}

// SessionID names a session. It is unique in the cluster and not secret; draw it
// at random. It travels in the ufrag.
type SessionID uint64

// State is where a session stands.
type State uint8

// A session starts as StateConnecting, becomes StateConnected with its first
// nominated path and its keys, moves between that and StateDisconnected as the
// peer falls silent and comes back, and ends in StateFailed or StateClosed.
const (
	StateConnecting State = iota
	StateConnected
	StateDisconnected // nothing heard for five seconds
	StateFailed       // consent has expired or the handshake failed: nothing is sent any more
	StateClosed       // by Close or by the peer's close_notify
)

// String returns the word that signaling uses.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateDisconnected:
		return "disconnected"
	case StateFailed:
		return "failed"
	case StateClosed:
		return "closed"
	default:
		return "unknown"
	}
}

// LocalParams are the ICE credentials that an offer carries.
type LocalParams struct {
	Ufrag, Pwd string
}

// RemoteParams are what the answer carried.
type RemoteParams struct {
	Ufrag, Pwd  string
	Fingerprint Fingerprint
}

// Valid reports whether the credentials are well-formed (RFC 8839 §5.4).
func (p *RemoteParams) Valid() bool { return iceChars(p.Ufrag, 4) && iceChars(p.Pwd, 22) }

const (
	millisecond = int64(1e6)
	second      = int64(1e9)
)
