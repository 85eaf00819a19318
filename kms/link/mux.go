package link

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/plain"
)

// Messages of a Mux: a kind, the number of a channel, and in muxFrame a frame.
const (
	muxOpen  = 1
	muxFrame = 2
	muxClose = 3

	muxHeader = 5
)

const (
	// queued is how many frames wait in a channel for who reads it. One that has more is closed: it must not hold up the others.
	queued = 32
	// patience bounds one write to the line.
	patience = 10 * time.Second
	// maxChannels is how many channels there are on a line.
	maxChannels = 1 << 16
)

// ErrClosed is the end of a Mux or of one of its channels.
var ErrClosed = errors.New("link: closed")

// Mux has many connections over one. The relay opens them, one for each client, and the KMS, which has dialled, accepts them.
type Mux struct {
	line   Conn
	ctx    context.Context
	cancel context.CancelFunc
	accept chan *Channel // nil on the side that opens

	mu       sync.Mutex
	next     uint32
	channels map[uint32]*Channel
}

// NewMux returns the Mux over a line. Run has to run for it to do anything.
func NewMux(line Conn, accepts bool) *Mux {
	m := &Mux{line: line, channels: map[uint32]*Channel{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if accepts {
		m.accept = make(chan *Channel, queued)
	}
	return m
}

// Run reads the line until it ends, or the context does, and closes everything.
func (m *Mux) Run(ctx context.Context) error {
	defer m.end()
	for {
		message, err := m.line.Receive(ctx)
		if err != nil {
			return err
		}
		r := plain.Read(message)
		kind, number := r.Uint8(), r.Uint32()
		if !r.OK() || kind < muxOpen || kind > muxClose || kind != muxFrame && len(r.Rest()) > 0 {
			return plain.ErrMalformed
		}
		if err := m.take(kind, number, r.Rest()); err != nil {
			return err
		}
	}
}

func (m *Mux) take(kind uint8, number uint32, frame []byte) error {
	m.mu.Lock()
	c := m.channels[number]
	if kind == muxOpen {
		if m.accept == nil || c != nil || len(m.channels) >= maxChannels {
			m.mu.Unlock()
			return plain.ErrMalformed
		}
		c = m.add(number)
		m.mu.Unlock()
		select {
		case m.accept <- c:
		default: // more are opened than anybody takes
			return c.Close()
		}
		return nil
	}
	m.mu.Unlock()
	switch {
	case c == nil: // closed here, which the other side does not know yet
	case kind == muxClose:
		c.finish()
	default:
		select {
		case c.in <- frame:
		default:
			return c.Close()
		}
	}
	return nil
}

// add is called with mu held.
func (m *Mux) add(number uint32) *Channel {
	c := &Channel{m: m, number: number, in: make(chan []byte, queued), done: make(chan struct{})}
	m.channels[number] = c
	return c
}

func (m *Mux) end() {
	m.cancel()
	_ = m.line.Close()
	m.mu.Lock()
	left := make([]*Channel, 0, len(m.channels))
	for _, c := range m.channels {
		left = append(left, c)
	}
	m.mu.Unlock()
	for _, c := range left {
		c.finish()
	}
}

// Open returns a new channel.
func (m *Mux) Open() (*Channel, error) {
	m.mu.Lock()
	if m.ctx.Err() != nil || len(m.channels) >= maxChannels {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	for m.next++; m.channels[m.next] != nil; {
		m.next++
	}
	c := m.add(m.next)
	m.mu.Unlock()
	if err := m.write(muxOpen, c.number, nil); err != nil {
		c.finish()
		return nil, err
	}
	return c, nil
}

// Accept returns the next channel that the other side has opened.
func (m *Mux) Accept(ctx context.Context) (*Channel, error) {
	select {
	case c := <-m.accept:
		return c, nil
	case <-m.ctx.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Done is closed when the line has ended.
func (m *Mux) Done() <-chan struct{} { return m.ctx.Done() }

// write does not take a channel's context: one that ended amid a write would end the line for all.
func (m *Mux) write(kind byte, number uint32, frame []byte) error {
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	message := make([]byte, 0, muxHeader+len(frame))
	message = binary.BigEndian.AppendUint32(append(message, kind), number)
	return m.line.Send(ctx, append(message, frame...))
}

// Channel is one connection of a Mux.
type Channel struct {
	m      *Mux
	number uint32
	in     chan []byte
	done   chan struct{}
	once   sync.Once
}

// Receive implements Conn. What came before the end is still received.
func (c *Channel) Receive(ctx context.Context) ([]byte, error) {
	select {
	case frame := <-c.in:
		return frame, nil
	default:
	}
	select {
	case frame := <-c.in:
		return frame, nil
	case <-c.done:
		select {
		case frame := <-c.in:
			return frame, nil
		default:
			return nil, io.EOF
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Send implements Conn.
func (c *Channel) Send(ctx context.Context, frame []byte) error {
	select {
	case <-c.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	if len(frame) > MaxFrame-muxHeader {
		return ErrTooLong
	}
	return c.m.write(muxFrame, c.number, frame)
}

// Close implements Conn.
func (c *Channel) Close() error {
	if c.finish() && c.m.ctx.Err() == nil {
		return c.m.write(muxClose, c.number, nil)
	}
	return nil
}

// finish ends the channel on this side and says whether that was news.
func (c *Channel) finish() (news bool) {
	c.once.Do(func() {
		news = true
		c.m.mu.Lock()
		delete(c.m.channels, c.number)
		c.m.mu.Unlock()
		close(c.done)
	})
	return news
}
