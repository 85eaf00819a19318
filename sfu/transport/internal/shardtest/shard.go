// Package shardtest runs a transport over a real loopback socket, with a client to talk
// to it. It is for tests only.
//
// It owns a Shard (socket, Mux, handshake pool and the goroutine that serves them) and a
// Peer (a UDP socket that answers ICE checks and carries DTLS and SRTP). Both end with
// the test. Nothing here sleeps: who waits, waits for a condition, with a deadline.
package shardtest

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
)

// Patience is how long a test waits for what should take milliseconds.
const Patience = 20 * time.Second

// Config is what tests change.
type Config struct {
	Node      uint16
	Priority  uint32 // of the candidate; 0 for that of a host
	Handler   transport.Handler
	Handshake handshake.Config // Post is set by New
}

// Shard is one Mux with its socket and thread.
type Shard struct {
	Pool *handshake.Pool

	sock  *udp.Socket
	mux   *transport.Mux
	addr  netip.AddrPort
	epoch time.Time

	mu      sync.Mutex
	queue   []func(m *transport.Mux, now int64)
	stopped bool
	done    chan struct{}
	once    sync.Once
}

// New starts a shard on a port of its own of 127.0.0.1.
func New(t testing.TB, cfg Config) *Shard {
	t.Helper()
	sock, err := udp.Listen(udp.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := transport.NewUfragKey([]byte("the key of a cluster of tests"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Shard{sock: sock, addr: sock.LocalAddr(), epoch: time.Now(), done: make(chan struct{})}
	cfg.Handshake.Post = s.Post
	if s.Pool, err = handshake.NewPool(cfg.Handshake); err != nil {
		t.Fatal(err)
	}
	if cfg.Priority == 0 {
		cfg.Priority = 2130706431
	}
	s.mux, err = transport.NewMux(transport.Config{
		Node: cfg.Node, Secret: key, Pool: pktbuf.NewPool(256),
		Candidates: []transport.Candidate{{Addr: s.addr, Priority: cfg.Priority}},
	}, sock, cfg.Handler, s.Pool)
	if err != nil {
		t.Fatal(err)
	}
	go s.run()
	t.Cleanup(s.Stop)
	return s
}

// Addr is where the shard listens.
func (s *Shard) Addr() netip.AddrPort { return s.addr }

// Post queues f for the shard's goroutine.
func (s *Shard) Post(f func(m *transport.Mux, now int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.queue = append(s.queue, f)
		s.sock.Wake() // under the lock: the socket is not closed before stopped is seen
	}
}

// Do runs f on the shard's goroutine and waits for it. On a stopped shard nothing
// happens.
func (s *Shard) Do(f func(m *transport.Mux, now int64)) {
	ran := make(chan struct{})
	s.Post(func(m *transport.Mux, now int64) {
		f(m, now)
		close(ran)
	})
	select {
	case <-ran:
	case <-s.done:
	}
}

// Until waits for a condition that is asked on the shard's goroutine.
func (s *Shard) Until(t testing.TB, what string, cond func(m *transport.Mux, now int64) bool) {
	t.Helper()
	Until(t, what, func() (ok bool) {
		s.Do(func(m *transport.Mux, now int64) { ok = cond(m, now) })
		return ok
	})
}

// Stop ends the shard as a crash would: nothing is said to anybody.
func (s *Shard) Stop() {
	s.once.Do(func() {
		s.mu.Lock()
		s.stopped = true
		s.queue = nil
		s.sock.Wake()
		s.mu.Unlock()
		<-s.done
		_ = s.Pool.Close()
	})
}

func (s *Shard) run() {
	defer close(s.done)
	defer func() { _ = s.sock.Close() }()
	batch := make([]udp.Datagram, 64)
	for {
		n := s.sock.Receive(batch)
		now := s.now()
		s.mux.Receive(batch[:n], now)
		s.mux.Tick(now)
		s.mu.Lock()
		queue, stopped := s.queue, s.stopped
		s.queue = nil
		s.mu.Unlock()
		for _, f := range queue {
			f(s.mux, now)
		}
		if stopped {
			return
		}
		s.sock.Flush()
		if n == 0 && len(queue) == 0 {
			wait := time.Duration(-1)
			if next := s.mux.NextDeadline(); next != transport.Never {
				wait = max(0, time.Duration(next-s.now()))
			}
			s.sock.Wait(wait)
		}
	}
}

func (s *Shard) now() int64 { return int64(time.Since(s.epoch)) + 1 }

// Until waits for a condition. It asks again every few milliseconds.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for: %s", Patience, what)
		}
	}
}
