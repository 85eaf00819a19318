package handshake

import (
	"net"
	"os"
	"sync"
	"time"
)

// queueLen bounds the datagrams that wait for an association. A flight of a client
// with a large certificate takes four or five.
const queueLen = 32

// packetConn is the net.PacketConn that pion/dtls sees: it reads from a bounded queue
// and writes by posting to the packet thread.
type packetConn struct {
	in     chan []byte
	send   func([]byte)
	closed chan struct{}
	once   sync.Once
	read   deadline

	mu      sync.Mutex // the last of what went either way
	lastIn  []byte
	lastOut []byte
	late    [][]byte     // taken from the queue by a reader that had been silenced meanwhile
	further func([]byte) // gets those of them that come after unheard; nil before
}

func newPacketConn(send func([]byte)) *packetConn {
	c := &packetConn{
		in:     make(chan []byte, queueLen),
		send:   send,
		closed: make(chan struct{}),
	}
	c.read.expired = make(chan struct{})
	return c
}

// deliver queues a copy of a datagram; false if there is no room.
func (c *packetConn) deliver(b []byte) bool {
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

// ReadFrom implements net.PacketConn.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	expired := c.read.wait()
	select {
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	default:
	}
	select {
	case d := <-c.in:
		if c.tooLate(d) {
			return 0, nil, net.ErrClosed
		}
		return copy(b, d), addr{}, nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. Where datagrams go is the Mux's business.
func (c *packetConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	d := append([]byte(nil), b...)
	c.mu.Lock()
	c.lastOut = d
	c.mu.Unlock()
	c.send(d)
	return len(b), nil
}

// silence ends reading and writing. Closing the dtls.Conn then is heard by nobody.
func (c *packetConn) silence() { _ = c.Close() }

// lastWritten is the last datagram written.
func (c *packetConn) lastWritten() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastOut
}

// tooLate notes a datagram that a reader has taken from the queue, and says whether the
// dtls.Conn was silenced before: then it is not its any more.
func (c *packetConn) tooLate(d []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
	default:
		c.lastIn = d
		return false
	}
	if c.further != nil {
		go c.further(d) // its owner may be waiting for this reader to end
	} else {
		c.late = append(c.late, d)
	}
	return true
}

// unheard returns what the dtls.Conn may not have dealt with when it was silenced: the
// datagram that it had read last, and then what waits in the queue. What a reader that
// does not know of the end yet takes from there is passed to further.
func (c *packetConn) unheard(further func([]byte)) (lastRead []byte, queued [][]byte) {
	c.mu.Lock()
	lastRead, queued, c.further = c.lastIn, c.late, further
	c.mu.Unlock()
	for {
		select {
		case d := <-c.in:
			queued = append(queued, d)
		default:
			return lastRead, queued
		}
	}
}

// Close implements net.PacketConn.
func (c *packetConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *packetConn) LocalAddr() net.Addr { return addr{} }

// SetDeadline implements net.PacketConn.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.read.set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn. Writing never blocks.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

// deadline is a point in time that can be moved while others wait for it.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the time has come
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer has fired: let it finish
	}
	d.timer = nil
	select {
	case <-d.expired:
		d.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	expired := d.expired
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(expired) })
	} else {
		close(expired)
	}
}

// addr stands for the client, whose address only the Mux knows.
type addr struct{}

func (addr) Network() string { return "udp" }
func (addr) String() string  { return "session" }
