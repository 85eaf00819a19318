package sfu

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
)

// speakerInterval is how often the active speaker is looked for.
const speakerInterval = int64(100 * time.Millisecond)

// shard is one locked thread with its socket and everything that packets on it touch. Its fields below the queue belong to that
// thread; the rest of the program reaches them by do.
type shard struct {
	node       *Node
	sock       *udp.Socket
	candidates []Candidate
	epoch      time.Time // zero of the packet clock

	mu      sync.Mutex
	queue   []func(now int64)
	stopped bool

	pool        *pktbuf.Pool
	mux         *transport.Mux
	router      *forward.Router
	conferences map[string]*conference
	speakerAt   int64
}

// now reads the packet clock: monotonic nanoseconds, never 0.
func (s *shard) now() int64 { return int64(time.Since(s.epoch)) + 1 }

// start makes the shard over sock and starts its thread and the delivery of events.
func (n *Node) start(sock *udp.Socket) error {
	cands, err := candidates(&n.cfg, sock.LocalAddr())
	if err != nil {
		return err
	}
	s := &shard{node: n, sock: sock, epoch: time.Now(), conferences: make(map[string]*conference)}
	for _, c := range cands {
		s.candidates = append(s.candidates, Candidate{Addr: c.Addr, Priority: c.Priority, Foundation: c.Foundation})
	}
	s.pool = pktbuf.NewPool(n.cfg.Buffers)
	s.router = forward.New(forward.Config{Observer: s})
	if n.dtls, err = handshake.NewPool(handshake.Config{Post: s.post}); err != nil {
		return fmt.Errorf("sfu: dtls: %w", err)
	}
	secret := n.cfg.Secret
	if secret.IsZero() {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if secret, err = transport.NewUfragKey(b[:]); err != nil {
			n.dtls.Close()
			return err
		}
	}
	s.mux, err = transport.NewMux(transport.Config{
		Node: n.cfg.NodeID, Secret: secret, Candidates: cands, Pool: s.pool, MaxSessions: n.cfg.MaxSessions, Rand: rand.Reader,
	}, sock, s.router, n.dtls)
	if err != nil {
		_ = n.dtls.Close()
		return err
	}
	n.shard = s
	n.threads.Add(2)
	go n.deliver()
	go s.run()
	return nil
}

// run is the shard's thread: a batch in, everything it causes out, then the timers, then sleep until there is more.
func (s *shard) run() {
	defer s.node.threads.Done()
	runtime.LockOSThread()
	batch := make([]udp.Datagram, 64)
	for {
		n := s.sock.Receive(batch)
		now := s.now()
		if n > 0 {
			s.mux.Receive(batch[:n], now)
			s.router.Flush(now)
		}
		stop := s.commands(now)
		s.timers(now)
		s.sock.Flush()
		if stop {
			break
		}
		if n == 0 {
			s.sock.Wait(s.sleep())
		}
	}
	_ = s.sock.Close()
	s.node.mail.close()
}

// timers does what is due.
func (s *shard) timers(now int64) {
	if s.mux.NextDeadline() <= now {
		s.mux.Tick(now)
	}
	if s.router.NextDeadline() <= now {
		s.router.Tick(now)
	}
	if s.speakerAt <= now {
		s.speakerAt = now + speakerInterval
		for _, c := range s.conferences {
			c.findSpeaker(now)
		}
	}
}

// sleep returns how long nothing is due; negative: for ever.
func (s *shard) sleep() time.Duration {
	next := min(s.mux.NextDeadline(), s.router.NextDeadline())
	if len(s.conferences) > 0 {
		next = min(next, s.speakerAt)
	}
	if next == math.MaxInt64 {
		return -1
	}
	return max(0, time.Duration(next-s.now()))
}

// commands runs what was posted. It returns true when the shard is to end.
func (s *shard) commands(now int64) bool {
	for {
		s.mu.Lock()
		q := s.queue
		s.queue = nil
		stop := s.stopped
		s.mu.Unlock()
		if len(q) == 0 {
			return stop
		}
		s.mux.Tick(now) // commands act at this moment, not at that of the last packet
		for _, f := range q {
			f(now)
		}
	}
}

// post queues f for the shard's thread. After the end it is dropped.
func (s *shard) post(f func(m *transport.Mux, now int64)) {
	s.enqueue(func(now int64) { f(s.mux, now) })
}

func (s *shard) enqueue(f func(now int64)) bool {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, f)
	s.mu.Unlock()
	s.sock.Wake()
	return true
}

// do runs f on the shard's thread and waits for it. When ctx ends before f has begun, f never runs; once begun it is waited for,
// so that what it writes is the caller's, and nothing it makes is without an owner.
func (s *shard) do(ctx context.Context, f func(now int64) error) error {
	done := make(chan error, 1)
	var taken atomic.Bool // by the thread to run it, or by the caller who gives up
	if !s.enqueue(func(now int64) {
		if !taken.Swap(true) {
			done <- f(now)
		}
	}) {
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if !taken.Swap(true) {
			return ctx.Err()
		}
		return <-done
	}
}

func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.sock.Wake()
}

// Live implements forward.Observer.
func (s *shard) Live(t *forward.Track) {
	p := t.User.(*publication)
	p.owner.conf.emit(Event{Participant: p.owner.id, Type: EventTrackLive, Track: p.id})
}

// State implements forward.Observer.
func (s *shard) State(p *forward.Peer, st transport.State) {
	e := p.User.(*endpoint)
	to, ok := states[st]
	if !ok || e.state == to {
		return
	}
	e.state = to
	e.conf.emit(Event{Participant: e.id, Type: EventState, State: to})
}

var states = map[transport.State]State{
	transport.StateConnecting:   StateConnecting,
	transport.StateConnected:    StateConnected,
	transport.StateDisconnected: StateDisconnected,
	transport.StateFailed:       StateFailed,
	transport.StateClosed:       StateClosed,
}

// candidates lists what clients are offered: public addresses first, then the machine's own, IPv6 before IPv4 (RFC 8421 §4),
// loopback only if there is nothing else; above all of them the standbys (decision 3: a client keeps a pair of higher priority
// alive without using it).
func candidates(cfg *Config, local netip.AddrPort) ([]transport.Candidate, error) {
	var own []netip.AddrPort
	for _, a := range cfg.Public {
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), local.Port())
		}
		own = append(own, a)
	}
	if !cfg.OnlyPublic || len(own) == 0 {
		if !local.Addr().IsUnspecified() {
			own = append(own, local)
		} else {
			addrs, err := hostAddresses()
			if err != nil {
				return nil, err
			}
			for _, a := range addrs {
				own = append(own, netip.AddrPortFrom(a, local.Port()))
			}
		}
	}
	var out []transport.Candidate
	seen := make(map[netip.AddrPort]bool)
	add := func(a netip.AddrPort, preference int, standby bool) {
		if seen[a] {
			return
		}
		seen[a] = true
		// RFC 8445 §5.1.2.1: type preference 126 of host candidates, component 1.
		prio := uint32(126)<<24 | uint32(preference)<<8 | 255
		out = append(out, transport.Candidate{Addr: a, Priority: prio, Standby: standby, Foundation: fmt.Sprint(len(out) + 1)})
	}
	const base = 32768
	for i, a := range own {
		add(a, base-i, false)
	}
	for i, a := range cfg.Standby {
		add(a, base+1+i, true)
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("sfu: the machine has no address to offer: set a public address")
	}
	return out, nil
}

// hostAddresses returns the addresses of the machine that a client can reach it at.
func hostAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("sfu: list addresses: %w", err)
	}
	var v6, v4, loop []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		switch ip := p.Addr().Unmap(); {
		case ip.IsLoopback():
			if ip.Is4() {
				loop = append(loop, ip)
			}
		case ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	if len(v6)+len(v4) == 0 {
		return loop, nil
	}
	return append(v6, v4...), nil
}
