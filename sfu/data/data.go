// Package data carries application data between the members of a conference: data channels (RFC 8831, RFC 8832) over SCTP over the
// DTLS that their media was agreed by.
//
// It owns the SCTP associations of those members who have asked for data, and the goroutines of these. What a member sends on a
// channel goes to every other member of the room, on a channel of its own with the same label and the same reliability, whose
// protocol names the sender: one channel for each channel that each other member has opened, made with the first message. Payloads
// are passed on as they are. It promises that neither packets of media nor a fast member wait for a slow one longer than
// Config.Patience, that what waits for a member is bounded, and that Hub.Close returns when all its goroutines are gone.
//
// What a receiver does not take in time is dealt with by the sender's choice of reliability. A channel that may lose messages loses
// its oldest ones. A reliable one holds the sender back, and when that has lasted for Config.Patience the receiver's channel is
// closed and both are told why.
//
// It knows no roles, stores nothing, and opens nothing that the members have sealed among themselves.
package data

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Hub is made of. The zero value has the defaults in brackets.
type Config struct {
	MessageBytes      int           // of one message [256 KiB]
	Channels          int           // that one member may have open [32]
	BytesPerSecond    int           // that one member may send, sustained [2 MiB]
	MessagesPerSecond int           // that one member may send, sustained [500]
	QueueBytes        int           // that wait for one receiver, in one reliable channel [1 MiB]; all together may be four times that
	LossyBytes        int           // that wait for one receiver, in one channel that may lose messages [256 KiB]
	Patience          time.Duration // for a receiver of a reliable channel [3 s]
}

// MessageBytes is the default of Config.MessageBytes.
const MessageBytes = 256 << 10

// Bounds that are nobody's choice.
const (
	maxLabel    = 128 // bytes
	maxProtocol = 64  // bytes, of the sender's
	maxStream   = 1023
	// Of an SCTP packet: with the record around it, it fits where media does.
	mtu = 1191
	// What SCTP itself holds of one channel before the rest waits here, where it can still be dropped.
	inFlight = 128 << 10
	// Of what a member sends, before it is read.
	receiveBuffer = 1 << 20
)

func (c *Config) defaults() {
	for _, n := range []struct {
		field *int
		value int
	}{
		{&c.MessageBytes, MessageBytes},
		{&c.Channels, 32},
		{&c.BytesPerSecond, 2 << 20},
		{&c.MessagesPerSecond, 500},
		{&c.QueueBytes, 1 << 20},
		{&c.LossyBytes, 256 << 10},
	} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Second
	}
}

// Reason says why a channel was closed, or not opened, by the server.
type Reason string

// The reasons.
const (
	Slow    Reason = "slow"      // its receiver did not take what came
	TooMany Reason = "too-many"  // the member has as many channels as it may have
	Refused Reason = "refused"   // its label or protocol is too long, or no text
	TooBig  Reason = "too-large" // a message on it was larger than it may be
	Moved   Reason = "moved"     // another node has the conference now: all channels are closed
)

// Closed says that a channel was closed by the server.
type Closed struct {
	Member string // whose channel it was; the one who is told
	From   string // whose messages it carried; the member itself for a channel of its own
	Label  string
	Reason Reason
}

// Stats count, but for the first two, from the start.
type Stats struct {
	Members, Channels                   int // of now: with an association, and that members have opened
	MessagesIn, BytesIn                 int64
	MessagesOut, BytesOut               int64
	Muted, Limited, Overrun, Oversized  int64 // messages dropped: of muted members, above the rate, for a slow receiver, too large for one
	ClosedSlow, ClosedTooBig, NotOpened int64 // channels
}

type counters struct {
	members, channels, messagesIn, bytesIn, messagesOut, bytesOut atomic.Int64
	muted, limited, overrun, oversized                            atomic.Int64
	closedSlow, closedTooBig, notOpened                           atomic.Int64
}

// Hub is the data of one node.
type Hub struct {
	cfg      Config
	tell     func(room string, c Closed)
	counters counters
	work     sync.WaitGroup
}

// NewHub returns a Hub. tell is called when the server has closed a channel; it must not block. The caller closes the Hub.
func NewHub(cfg Config, tell func(room string, c Closed)) *Hub {
	cfg.defaults()
	return &Hub{cfg: cfg, tell: tell}
}

// MessageBytes is the largest message that is taken.
func (h *Hub) MessageBytes() int { return h.cfg.MessageBytes }

// Close waits until the goroutines of all members are gone, who must have been closed before.
func (h *Hub) Close() { h.work.Wait() }

// Stats returns a snapshot.
func (h *Hub) Stats() Stats {
	c := &h.counters
	return Stats{
		Members: int(c.members.Load()), Channels: int(c.channels.Load()), MessagesIn: c.messagesIn.Load(), BytesIn: c.bytesIn.Load(),
		MessagesOut: c.messagesOut.Load(), BytesOut: c.bytesOut.Load(), Muted: c.muted.Load(), Limited: c.limited.Load(),
		Overrun: c.overrun.Load(), Oversized: c.oversized.Load(), ClosedSlow: c.closedSlow.Load(), ClosedTooBig: c.closedTooBig.Load(),
		NotOpened: c.notOpened.Load(),
	}
}

// Room is the data of one conference.
type Room struct {
	hub *Hub
	id  string

	mu      sync.Mutex
	members map[*Member]struct{} // with an association
}

// Room returns an empty room.
func (h *Hub) Room(id string) *Room {
	return &Room{hub: h, id: id, members: make(map[*Member]struct{})}
}

// Join begins the association of a member over conn, of which each Read and Write is one packet. The client begins the SCTP handshake,
// now or later. The member is the caller's to close.
func (r *Room) Join(id string, conn net.Conn) *Member {
	m := newMember(r, id, conn)
	r.hub.work.Go(m.run)
	return m
}

func (r *Room) add(m *Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[m] = struct{}{}
	r.hub.counters.members.Add(1)
}

func (r *Room) remove(m *Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.members[m]; ok {
		delete(r.members, m)
		r.hub.counters.members.Add(-1)
	}
}

// others returns everybody who is to have what m sends.
func (r *Room) others(m *Member) []*Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Member, 0, len(r.members))
	for o := range r.members {
		if o != m {
			out = append(out, o)
		}
	}
	return out
}
