package sink

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// who makes the next message.
type side uint8

const (
	client side = iota
	server
)

// Turns shares the time of a join out: what passes before a message belongs to the side that sends it. Both connections of a join
// are counted together, the signaling's and the media's, so that the shares add up to the whole. A message of the server that comes
// while the client works takes the time until then away from the client: the server's share is an upper bound. Its clock is the
// wall's, which the kernel stamps datagrams with.
type Turns struct {
	mu    sync.Mutex
	last  int64
	ended bool
	share [2]time.Duration
}

// NewTurns begins with the client's turn.
func NewTurns() *Turns { return &Turns{last: time.Now().UnixNano()} }

// Server returns the server's share, Client the client's.
func (t *Turns) Server() time.Duration { return t.of(server) }

// Client returns the client's share.
func (t *Turns) Client() time.Duration { return t.of(client) }

func (t *Turns) of(s side) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.share[s]
}

// message counts one.
func (t *Turns) message(at int64, by side) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || at <= t.last { // a datagram that is read later than it came
		return
	}
	t.share[by] += time.Duration(at - t.last)
	t.last = at
}

// datagram counts one of the media's socket. The first of media ends the join: when it comes is the publisher's affair.
func (t *Turns) datagram(b []byte, at int64, by side) {
	if len(b) > 1 && b[0]>>6 == 2 && !rtp.IsRTCP(b) {
		t.mu.Lock()
		t.ended = true
		t.mu.Unlock()
		return
	}
	t.message(at, by)
}

// Dial connects as net.Dialer does, and counts what passes.
func (t *Turns) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	t.message(time.Now().UnixNano(), server) // it has accepted
	return turning{c, t}, nil
}

// turning is a connection that is counted.
type turning struct {
	net.Conn
	turns *Turns
}

// Read implements net.Conn.
func (c turning) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.turns.message(time.Now().UnixNano(), server)
	}
	return n, err
}

// Write implements net.Conn.
func (c turning) Write(b []byte) (int, error) {
	c.turns.message(time.Now().UnixNano(), client)
	return c.Conn.Write(b)
}
