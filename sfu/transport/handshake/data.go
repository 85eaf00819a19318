package handshake

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu/transport"
)

// dataQueue bounds the datagrams that wait to be opened, for those who have application data: 150 KB. What does not fit is lost,
// and SCTP sends it again.
const dataQueue = 128

// ErrData is what Data returns for a second user, or for a Pool that is closed.
var ErrData = errors.New("handshake: no application data")

// dataConn is a session's application data: one record each for what is read and what is written. The packet thread does no more
// than put a copy of a datagram into its queue; records are opened and sealed by whoever reads and writes.
type dataConn struct {
	pool *Pool
	id   transport.SessionID
	in   chan []byte
	over chan struct{}
	once sync.Once

	mu      sync.Mutex
	keys    *parked  // nil before the end of the handshake
	records [][]byte // opened, and not read yet
}

// Data returns the application data of a session, from the end of its handshake on: each Read returns what one record carries,
// each Write makes one. It may be asked for before the handshake, and has a queue of its own from then on. It ends with the
// association, or by Close, which leaves the association alone.
func (p *Pool) Data(id transport.SessionID) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.data[id] != nil {
		return nil, ErrData
	}
	c := &dataConn{pool: p, id: id, in: make(chan []byte, dataQueue), over: make(chan struct{})}
	if p.data == nil {
		p.data = make(map[transport.SessionID]*dataConn)
	}
	p.data[id] = c
	if k := p.parked[id]; k != nil {
		k.enliven()
		c.attach(k)
		k.data = c
	}
	return c, nil
}

// cut ends the application data of a session. The caller holds the Pool's lock.
func (p *Pool) cut(id transport.SessionID) {
	c := p.data[id]
	if c == nil {
		return
	}
	delete(p.data, id)
	if k := p.parked[id]; k != nil {
		k.data = nil
	}
	c.once.Do(func() { close(c.over) })
}

func (c *dataConn) attach(k *parked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = k
}

// deliver queues a copy of a datagram; false if there is no room.
func (c *dataConn) deliver(b []byte) bool {
	if len(c.in) == cap(c.in) {
		return false // before the copy is made
	}
	select {
	case c.in <- append([]byte(nil), b...):
		return true
	default:
		return false
	}
}

// early keeps what a record has carried that came during the handshake.
func (c *dataConn) early(plain []byte) {
	c.mu.Lock()
	c.records = append(c.records, plain)
	c.mu.Unlock()
	select {
	case c.in <- nil: // so that somebody looks
	default:
	}
}

// Read implements net.Conn. There is one reader.
func (c *dataConn) Read(b []byte) (int, error) {
	for {
		if n, ok := c.next(b); ok {
			return n, nil
		}
		select {
		case <-c.over:
			return 0, io.EOF
		case d := <-c.in:
			c.open(d)
		}
	}
}

func (c *dataConn) next(b []byte) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.records) == 0 {
		return 0, false
	}
	r := c.records[0]
	c.records = c.records[1:]
	return copy(b, r), true // what is longer than a packet of SCTP can be is none
}

// open does with a datagram what the packet thread does for others.
func (c *dataConn) open(datagram []byte) {
	c.mu.Lock()
	k := c.keys
	c.mu.Unlock()
	if k == nil || len(datagram) == 0 {
		return
	}
	var records [][]byte
	v := c.pool.receive(k, datagram, func(plain []byte) { records = append(records, plain) })
	c.mu.Lock()
	c.records = append(c.records, records...)
	c.mu.Unlock()
	if v == nothing {
		return
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.pool.parked[c.id] == k {
		c.pool.act(c.id, k, v)
	}
}

// Write implements net.Conn.
func (c *dataConn) Write(b []byte) (int, error) {
	select {
	case <-c.over:
		return 0, net.ErrClosed
	default:
	}
	c.mu.Lock()
	k := c.keys
	c.mu.Unlock()
	if k == nil {
		return len(b), nil // before the handshake: as lost as it would be on its way
	}
	record := k.record(typeData, b)
	if record == nil {
		return 0, net.ErrClosed
	}
	p, id := c.pool, c.id
	p.cfg.Post(func(m *transport.Mux, now int64) {
		if p.owner(id) == k {
			m.HandshakePacket(id, record, now)
		}
	})
	return len(b), nil
}

// Close implements net.Conn.
func (c *dataConn) Close() error {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.pool.data[c.id] == c {
		c.pool.cut(c.id)
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *dataConn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (c *dataConn) RemoteAddr() net.Addr { return addr{} }

// SetDeadline implements net.Conn. There are none: Close is how to end a Read, and Write never blocks.
func (c *dataConn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (c *dataConn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (c *dataConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
