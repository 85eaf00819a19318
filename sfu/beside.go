package sfu

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/sotto-edge/sotto/internal/offheap"
	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/spsc"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Carrier takes datagrams to clients by another way than the socket. Send copies b and must not block: what cannot go is lost. One
// goroutine calls it.
type Carrier interface{ Send(p udp.Path, b []byte) }

// Carry says who takes what goes out by a way, with Config.Beside.
func (n *Node) Carry(w udp.Way, c Carrier) { n.carriers[w].Store(&c) }

// Deliver takes a datagram that came by another way than the socket, as if it had come from p.Remote; it copies it. Answers go to the
// Carrier of p.Way. False: there is no room, and it is lost. Any goroutine may call it, with Config.Beside.
func (n *Node) Deliver(p udp.Path, b []byte) bool {
	s := n.places.address(p.Remote)
	if s == nil {
		s = n.shards[0] // which hands it on to whose session it is
	}
	if !s.inlet.put(p, b) {
		return false
	}
	if s.asleep.Load() != 0 {
		s.sock.Wake()
	}
	return true
}

// carry gives the carriers what goes by their ways until the node closes.
func (n *Node) carry() {
	defer n.helpers.Done()
	for {
		from, d := n.carried.next()
		if d == nil {
			return
		}
		if c := n.carriers[d.path.Way].Load(); c != nil {
			(*c).Send(d.path, d.data[:d.size])
		}
		from.ring.Pop()
	}
}

func (n *Node) openBeside() {
	if n.cfg.Beside {
		n.carried = newOutbound(len(n.shards))
		for _, s := range n.shards {
			s.inlet = &inlet{chute: newChute()}
		}
	}
	if n.cfg.Relay {
		n.relayed = newOutbound(len(n.shards))
	}
}

// besideDrops returns how many datagrams of a shard were lost between it and others for want of room.
func (s *shard) besideDrops() (lost uint64) {
	if n := s.node; n.carried != nil {
		lost += n.carried.from[s.index].dropped.Load() + s.inlet.chute.dropped.Load()
	}
	if n := s.node; n.relayed != nil {
		lost += n.relayed.from[s.index].dropped.Load()
	}
	return lost
}

// chute carries datagrams from one goroutine to one other. What finds it full is lost and counted.
type chute struct {
	ring    *spsc.Ring[slip]
	dropped atomic.Uint64
}

type slip struct {
	path udp.Path
	size int
	data *[pktbuf.Size]byte
}

// chuteRoom is how many datagrams may be under way: a hundred clients' media of some tens of milliseconds.
const chuteRoom = 1024

func newChute() *chute {
	c := &chute{ring: spsc.New[slip](chuteRoom)}
	room := offheap.Bytes(c, c.ring.Cap()*pktbuf.Size)
	for i, d := range c.ring.Slots() {
		d.data = (*[pktbuf.Size]byte)(room[i*pktbuf.Size:])
	}
	return c
}

func (c *chute) put(p udp.Path, b []byte) bool {
	d := c.ring.Slot()
	if d == nil || len(b) > len(d.data) {
		c.dropped.Add(1)
		return false
	}
	d.path, d.size = p, copy(d.data[:], b)
	c.ring.Push()
	return true
}

// Take implements transport.Relay.
func (c *chute) Take(d *udp.Datagram) bool { return c.put(d.Path, d.Data) }

// inlet is what any goroutine has for one shard. Its methods may be called on nil, where nothing comes.
type inlet struct {
	mu    sync.Mutex // among those who put
	chute *chute

	one [1]udp.Datagram // what the Mux is given at a time
}

func (i *inlet) put(p udp.Path, b []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.chute.put(p, b) {
		return false
	}
	i.chute.ring.Publish()
	return true
}

func (i *inlet) empty() bool { return i == nil || i.chute.ring.Empty() }

// receive gives up to limit datagrams to the shard's Mux and returns how many there were.
func (i *inlet) receive(m *transport.Mux, limit int, now int64) int {
	if i == nil {
		return 0
	}
	for n := range limit {
		d := i.chute.ring.Front()
		if d == nil {
			return n
		}
		i.one[0] = udp.Datagram{Data: d.data[:d.size:d.size], Path: d.path}
		m.Receive(i.one[:], now)
		i.chute.ring.Pop()
	}
	return limit
}

// outbound is what all shards have for one goroutine beside them.
type outbound struct {
	from   []*chute
	came   chan struct{} // has one in it when the reader is to look again
	asleep atomic.Bool
	closed chan struct{}
	once   sync.Once
	turn   int // the reader's: whose it is
}

func newOutbound(shards int) *outbound {
	o := &outbound{came: make(chan struct{}, 1), closed: make(chan struct{})}
	for range shards {
		o.from = append(o.from, newChute())
	}
	return o
}

// publish shows the reader what a shard has put. The shard's thread calls it.
func (o *outbound) publish(shard int) {
	if o == nil || !o.from[shard].ring.Publish() || !o.asleep.Load() {
		return
	}
	select {
	case o.came <- struct{}{}:
	default:
	}
}

// next waits for a datagram. It is the reader's until he pops it from its ring; nil: there are no more.
func (o *outbound) next() (*chute, *slip) {
	for {
		if c, d := o.look(); d != nil {
			return c, d
		}
		// Who publishes looks at asleep afterwards: one of the two sees the other.
		o.asleep.Store(true)
		c, d := o.look()
		if d == nil {
			select {
			case <-o.came:
			case <-o.closed:
				return nil, nil
			}
		}
		o.asleep.Store(false)
		if d != nil {
			return c, d
		}
	}
}

func (o *outbound) look() (*chute, *slip) {
	for range o.from {
		c := o.from[o.turn]
		o.turn = (o.turn + 1) % len(o.from)
		if d := c.ring.Front(); d != nil {
			return c, d
		}
	}
	return nil, nil
}

func (o *outbound) close() {
	if o != nil {
		o.once.Do(func() { close(o.closed) })
	}
}

// gate is a shard's output by all ways.
type gate struct {
	*udp.Socket
	beside *chute
	last   []byte
}

// Reserve implements transport.Output.
func (g *gate) Reserve(n int) []byte {
	g.last = g.Socket.Reserve(n)
	return g.last
}

// Commit implements transport.Output.
func (g *gate) Commit(n int, p udp.Path) {
	if p.Way != udp.Wire {
		g.beside.put(p, g.last[:n]) // counted when it is lost
		n = 0
	}
	g.Socket.Commit(n, p)
}

// RelayPort is the media port as a TURN server uses it, with Config.Relay: it reads what is TURN, and writes from any goroutine.
type RelayPort struct{ node *Node }

// RelayPort returns the port. One goroutine may read from it.
func (n *Node) RelayPort() RelayPort { return RelayPort{n} }

// Read waits for a datagram; net.ErrClosed: there will be none.
func (r RelayPort) Read(b []byte) (int, udp.Path, error) {
	from, d := r.node.relayed.next()
	if d == nil {
		return 0, udp.Path{}, net.ErrClosed
	}
	n, p := copy(b, d.data[:d.size]), d.path
	from.ring.Pop()
	return n, p, nil
}

// Write sends a datagram without the shards.
func (r RelayPort) Write(b []byte, to udp.Path) error { return r.node.shards[0].sock.Post(b, to) }

// LocalAddr is the address of the media port.
func (r RelayPort) LocalAddr() netip.AddrPort { return r.node.LocalAddr() }

// Close ends reading. The media port goes on.
func (r RelayPort) Close() error {
	r.node.relayed.close()
	return nil
}
