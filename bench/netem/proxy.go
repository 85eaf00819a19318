package netem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/run"
)

// Config says where a proxy stands.
type Config struct {
	// Listen is where clients send to; port 0: any free one. With an address of all zeros answers come from whichever address the
	// kernel prefers, so name one. The zero value is any port of 127.0.0.1.
	Listen netip.AddrPort
	// To is the server, of either family.
	To netip.AddrPort
	// Seed is of all chance.
	Seed uint64
	// Up and Down are what the lines do from the beginning.
	Up, Down Impairment
	// Interval is that of the series of the statistics; 0: 100 ms.
	Interval time.Duration
	// MaxClients bounds the sockets to the server, one for each address of a client; 0: 1024. When all are taken, the one that was
	// silent for longest is given up if that was a minute or more, else the newcomer is not served.
	MaxClients int
}

// Defaults and sizes.
const (
	defaultInterval   = 100 * time.Millisecond
	leastInterval     = time.Millisecond
	defaultMaxClients = 1024
	silence           = time.Minute
	bufferSize        = 4 << 20 // what sockets ask of the kernel
	backlog           = 4096    // datagrams between the readers and the lines
	maxDatagram       = 65535
)

// Proxy is running. Its methods may be called from any goroutine.
type Proxy struct {
	cfg    Config
	socket *net.UDPConn
	addr   netip.AddrPort
	start  time.Time
	work   *run.Group

	came  chan datagram
	asked chan func()
	once  sync.Once

	// Below: the goroutine of loop alone.
	lines   [2]*Link[datagram]
	clients map[netip.AddrPort]*client
	steps   []Step
	began   time.Duration // of the timeline
	failed  uint64        // refused by the kernel, or from a client too many
}

// client is an address that has sent something, and the socket in its place towards the server.
type client struct {
	addr   netip.AddrPort
	socket *net.UDPConn
	heard  time.Duration
}

// datagram is a packet within the proxy. Those from a new client have none yet.
type datagram struct {
	at        time.Duration
	direction Direction
	from      netip.AddrPort // of Up
	client    *client
	data      []byte
}

// Report is what the proxy has done.
type Report struct {
	Elapsed time.Duration `json:"elapsed"`
	Clients int           `json:"clients"`
	Failed  uint64        `json:"failed"` // packets that the proxy itself could not take or pass on; nothing of the model
	Up      Stats         `json:"up"`
	Down    Stats         `json:"down"`
}

// New starts a proxy.
func New(cfg Config) (*Proxy, error) {
	cfg.Interval = cmp.Or(cfg.Interval, defaultInterval)
	cfg.MaxClients = cmp.Or(cfg.MaxClients, defaultMaxClients)
	switch {
	case !cfg.To.IsValid() || cfg.To.Port() == 0:
		return nil, fmt.Errorf("netem: server %v: want an address and a port", cfg.To)
	case cfg.Interval < leastInterval:
		return nil, fmt.Errorf("netem: interval %v: %v at least", cfg.Interval, leastInterval)
	case cfg.MaxClients < 0:
		return nil, fmt.Errorf("netem: %d clients", cfg.MaxClients)
	}
	if err := errors.Join(cfg.Up.Validate(), cfg.Down.Validate()); err != nil {
		return nil, err
	}
	if !cfg.Listen.IsValid() {
		cfg.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.Listen))
	if err != nil {
		return nil, fmt.Errorf("netem: %w", err)
	}
	grow(socket)
	p := &Proxy{
		cfg: cfg, socket: socket, addr: plain(socket.LocalAddr().(*net.UDPAddr).AddrPort()), start: time.Now(),
		work: run.NewGroup(context.Background()),
		came: make(chan datagram, backlog), asked: make(chan func()),
		clients: make(map[netip.AddrPort]*client),
	}
	for _, d := range Directions {
		p.lines[d] = NewLink[datagram](d.seed(cfg.Seed), cfg.Interval)
		p.lines[d].Set(0, [...]Impairment{cfg.Up, cfg.Down}[d])
	}
	p.work.Go("lines", p.loop)
	p.work.Go("clients", func(ctx context.Context) error {
		p.read(ctx, socket, func(from netip.AddrPort) datagram { return datagram{direction: Up, from: from} })
		return nil
	})
	return p, nil
}

// grow asks for room in the kernel; how much it grants decides how late the proxy may be, not whether it works.
func grow(s *net.UDPConn) {
	_ = s.SetReadBuffer(bufferSize)
	_ = s.SetWriteBuffer(bufferSize)
}

// plain is an address without the clothes of IPv6 around IPv4.
func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Addr is where clients send to.
func (p *Proxy) Addr() netip.AddrPort { return p.addr }

// Set changes what a direction does from now on, and ends a timeline that is playing.
func (p *Proxy) Set(d Direction, im Impairment) error {
	if err := im.Validate(); err != nil {
		return err
	}
	return p.ask(func() {
		p.steps = nil
		p.lines[d].Set(p.now(), im)
	})
}

// Seed begins all chance anew with another seed, so that a timeline that is played next can be repeated whatever was before it.
func (p *Proxy) Seed(seed uint64) error {
	return p.ask(func() {
		for d, l := range p.lines {
			l.Seed(Direction(d).seed(seed))
		}
	})
}

// seed is that of a direction, given the one of all.
func (d Direction) seed(all uint64) uint64 { return all<<1 | uint64(d) }

// Play plays a timeline from now on, in place of one that is playing.
func (p *Proxy) Play(steps []Step) error {
	for _, s := range steps {
		if err := s.Impairment.Validate(); err != nil {
			return err
		}
	}
	if !slices.IsSortedFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) }) {
		return errors.New("netem: the steps of a timeline are not in the order of time")
	}
	return p.ask(func() {
		p.steps, p.began = slices.Clone(steps), p.now()
		p.play(p.began)
	})
}

// Stats says what has passed so far; nothing after Close.
func (p *Proxy) Stats() Report {
	var out Report
	_ = p.ask(func() {
		now := p.now()
		out = Report{
			Elapsed: now, Clients: len(p.clients), Failed: p.failed,
			Up: p.lines[Up].Stats(now), Down: p.lines[Down].Stats(now),
		}
	})
	return out
}

// errClosed is what asking a closed proxy gives.
var errClosed = errors.New("netem: closed")

// Close ends the proxy; what is still on its way is lost.
func (p *Proxy) Close() error {
	p.once.Do(func() { _ = p.socket.Close() })
	if err := p.work.Stop(); err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	return nil
}

func (p *Proxy) now() time.Duration { return time.Since(p.start) }

// ask has f run by the owner of everything, and waits for it.
func (p *Proxy) ask(f func()) error {
	done := make(chan struct{})
	select {
	case p.asked <- func() { f(); close(done) }:
		<-done
		return nil
	case <-p.work.Context().Done():
		return errClosed
	}
}

// read brings what a socket receives to the lines, until it is closed.
func (p *Proxy) read(ctx context.Context, s *net.UDPConn, of func(netip.AddrPort) datagram) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // the server is not there, says ICMP: one error for a packet that was sent
		}
		d := of(from)
		d.at, d.data = p.now(), slices.Clone(buf[:n])
		select {
		case p.came <- d:
		case <-ctx.Done():
			return
		}
	}
}

// loop owns the lines and the clients.
func (p *Proxy) loop(ctx context.Context) error {
	defer func() {
		for _, c := range p.clients {
			_ = c.socket.Close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-p.asked:
			f()
		case d := <-p.came:
			p.take(d)
			for more := true; more; { // what came together goes together
				select {
				case d = <-p.came:
					p.take(d)
				default:
					more = false
				}
			}
		case <-timer.C:
		}
		timer.Reset(p.turn())
	}
}

// take hands a datagram to its line, at the time when it came.
func (p *Proxy) take(d datagram) {
	p.play(d.at)
	if d.direction == Up {
		if d.client = p.client(d.from, d.at); d.client == nil {
			p.failed++
			return
		}
	}
	p.lines[d.direction].Push(d.at, len(d.data), d)
}

// turn sends what has arrived, and says how long there is nothing to do.
func (p *Proxy) turn() time.Duration {
	now := p.now()
	p.play(now)
	next := now + silence
	for _, l := range p.lines {
		for d, ok := l.Pop(now); ok; d, ok = l.Pop(now) {
			p.send(d)
		}
		if at, ok := l.Next(); ok {
			next = min(next, at)
		}
	}
	if len(p.steps) > 0 {
		next = min(next, p.began+p.steps[0].At)
	}
	return max(0, next-p.now())
}

func (p *Proxy) send(d datagram) {
	var err error
	if d.direction == Up {
		_, err = d.client.socket.Write(d.data)
	} else {
		_, err = p.socket.WriteToUDPAddrPort(d.data, d.client.addr)
	}
	if err != nil {
		p.failed++
	}
}

// play takes the steps of the timeline whose time has come.
func (p *Proxy) play(now time.Duration) {
	for len(p.steps) > 0 && p.began+p.steps[0].At <= now {
		s := p.steps[0]
		p.steps = p.steps[1:]
		for _, d := range s.Directions {
			p.lines[d].Set(p.began+s.At, s.Impairment)
		}
	}
}

// client returns the one at an address, new if need be, or nil if there are too many.
func (p *Proxy) client(addr netip.AddrPort, now time.Duration) *client {
	if c := p.clients[addr]; c != nil {
		c.heard = now
		return c
	}
	if len(p.clients) >= p.cfg.MaxClients && !p.giveUp(now) {
		return nil
	}
	socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.cfg.To))
	if err != nil {
		return nil
	}
	grow(socket)
	c := &client{addr: addr, socket: socket, heard: now}
	p.clients[addr] = c
	p.work.Go("server", func(ctx context.Context) error {
		p.read(ctx, socket, func(netip.AddrPort) datagram { return datagram{direction: Down, client: c} })
		return nil
	})
	return c
}

// giveUp ends the client that was silent for longest, if it was for long.
func (p *Proxy) giveUp(now time.Duration) bool {
	var oldest *client
	for _, c := range p.clients {
		if oldest == nil || c.heard < oldest.heard {
			oldest = c
		}
	}
	if oldest == nil || now-oldest.heard < silence {
		return false
	}
	delete(p.clients, oldest.addr)
	return oldest.socket.Close() == nil
}
