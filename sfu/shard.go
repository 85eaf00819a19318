package sfu

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
)

// shard is one goroutine with its socket and everything that packets on it touch. Its fields below the queue belong to it; the rest
// of the program reaches them by post, call and do.
type shard struct {
	node  *Node
	index int
	sock  *udp.Socket
	dtls  *handshake.Pool
	// Links to and from the other shards, by their index; nil at its own.
	out, in []*forward.Link
	inlet   *inlet // of what comes by other ways than the socket; nil: nothing does

	asleep atomic.Int64 // since when it waits, 0: it does not
	waited atomic.Int64 // how long it has waited, all in all
	born   int64

	mu      sync.Mutex
	queue   []func(now int64)
	stopped bool

	pool   *pktbuf.Pool
	mux    *transport.Mux
	router *forward.Router
	heard  []level // since the last time control was told
	tellAt int64   // when it is told again

	media    uint64 // packets that have come in
	mediaAt  int64  // when the last did, or what is for another shard crossed
	lookedAt int64  // when nothing was left of what can wait
	found    bool   // there was something of it until then
	part     bool   // and this is what is left
	pressing bool   // it cannot wait now
	seeking  bool   // a session is about to find its way, and Node.unsettled has it
}

// open makes what the shard needs besides its socket.
func (s *shard) open(cands []transport.Candidate, cert tls.Certificate) error {
	cfg := &s.node.cfg
	s.pool = pktbuf.NewPool(cfg.Buffers)
	s.router = forward.New(forward.Config{Observer: s, Pool: s.pool, Epoch: rtcp.NTP(s.node.epoch)})
	var err error
	if s.dtls, err = handshake.NewPool(handshake.Config{Post: s.reply, Certificate: cert}); err != nil {
		return err
	}
	tc := transport.Config{
		Node: cfg.NodeID, Secret: cfg.Secret, Candidates: cands, Pool: s.pool, MaxSessions: cfg.MaxSessions, Rand: rand.Reader,
	}
	if len(s.node.shards) > 1 {
		tc.Neighbours = &neighbours{shard: s, known: make(map[netip.AddrPort]*shard)}
	}
	var out transport.Output = s.sock
	if s.node.carried != nil {
		out = &gate{Socket: s.sock, beside: s.node.carried.from[s.index]}
	}
	if s.node.relayed != nil {
		tc.Relay = s.node.relayed.from[s.index]
	}
	s.mux, err = transport.NewMux(tc, out, s.router, s.dtls)
	return err
}

// batchSize is how many datagrams, and how many parcels of each other shard, are taken in before what they cause goes out.
const batchSize = 64

// What can wait (udp.Socket.ReceiveAside) is looked at when the thread is awake for something else, but not more often than every
// asideLeast, and at the latest after asidePatience: the shard with fifty receivers is told of arrivals 500 times a second, and each time
// it would be woken for that alone. While there is no media it is looked at on multiples of transport.Grain, when timers are due too: a hundred who
// only sit there are a hundred reports and fifty checks a second. What comes after a while of nothing wakes the thread, and so does
// everything while a session is about to find its way, on whichever shard.
const (
	asideLeast    = int64(2 * time.Millisecond)
	asidePatience = int64(25 * time.Millisecond)
	asideMost     = 4 * batchSize // in one go
)

// run is the shard's thread: a batch in, from the network and from other shards, what is for those handed over at once, everything
// else that it causes out, then the timers, then sleep until there is more.
func (s *shard) run() {
	defer s.node.threads.Done()
	batch := make([]udp.Datagram, batchSize)
	slept := int64(0) // when, if it did since the last round
	for {
		n := s.sock.Receive(batch)
		now := s.node.now()
		if slept != 0 {
			s.asleep.Store(0)
			s.waited.Add(now - slept)
			slept = 0
		}
		if n > 0 {
			s.mux.Receive(batch[:n], now)
		}
		n += s.aside(batch, now)
		n += s.inlet.receive(s.mux, batchSize, now)
		for _, l := range s.in {
			if l != nil {
				if k := l.Receive(s.router, s.mux, batchSize, now); k > 0 {
					n += k
					s.mediaAt = now
				}
			}
		}
		if in := s.mux.Media(); in != s.media {
			s.media, s.mediaAt = in, now
		}
		if n > 0 {
			s.publish() // before this shard's own sending, so that others work beside it
			s.router.Flush(now)
		}
		stop := s.commands(now)
		s.timers(now)
		s.seek()
		s.publish()
		s.sock.Flush()
		if stop {
			break
		}
		if n == 0 {
			slept = s.wait()
		}
	}
	_ = s.sock.Close()
}

// aside takes in what could wait, if it is time, and returns how much.
func (s *shard) aside(batch []udp.Datagram, now int64) (n int) {
	if now < s.lookedAt+asideLeast && !s.pressing {
		return 0
	}
	for n < asideMost {
		got := s.sock.ReceiveAside(batch)
		if got == 0 {
			s.lookedAt, s.found = now, n > 0 || s.part
			s.part, s.pressing = false, false
			return n
		}
		s.mux.Receive(batch[:got], now)
		n += got
	}
	s.part = true
	return n
}

// seek tells the other shards that a session is about to find its way, or that none is any more. Until the kernel is told where a client
// belongs, what it sends may come to any socket, so that none of it may be let wait there. As with publish, one sees the other.
func (s *shard) seek() {
	u := s.mux.Unsettled()
	if u == s.seeking {
		return
	}
	if s.seeking = u; !u {
		s.node.unsettled.Add(-1)
		return
	}
	if s.node.unsettled.Add(1) > 1 {
		return
	}
	for _, o := range s.node.shards {
		if o != s && o.asleep.Load() != 0 {
			o.sock.Wake()
		}
	}
}

// publish hands over what there is for others, and wakes those that sleep.
func (s *shard) publish() {
	for i, l := range s.out {
		if l == nil || !l.Publish() {
			continue
		}
		if to := s.node.shards[i]; to.asleep.Load() != 0 {
			to.sock.Wake()
		}
	}
	s.node.carried.publish(s.index)
	s.node.relayed.publish(s.index)
}

// wait sleeps until there is something to do, and returns since when. Who publishes looks at asleep afterwards, and here the links
// are looked at after asleep is set: one of the two sees the other.
func (s *shard) wait() int64 {
	now := s.node.now()
	s.asleep.Store(now)
	idle := s.inlet.empty()
	for _, l := range s.in {
		idle = idle && (l == nil || l.Empty())
	}
	if idle {
		s.rest(now)
	}
	return now
}

// rest sleeps until something is due or comes.
func (s *shard) rest(now int64) {
	wait := s.sleep(now)
	quiet := now-s.mediaAt > asidePatience
	s.pressing = s.node.unsettled.Load() > 0 || quiet && !s.found
	if !s.pressing {
		look := s.lookedAt + asidePatience
		if quiet {
			look = transport.Coarse(now + 1)
		}
		if until := max(0, time.Duration(look-now)); wait < 0 || wait > until {
			wait = until
		}
	}
	s.sock.Heed(s.pressing)
	s.sock.Wait(wait)
}

// busy returns how long the thread has worked, in nanoseconds. It may be called from any goroutine.
func (s *shard) busy(now int64) int64 {
	b := now - s.born - s.waited.Load()
	if at := s.asleep.Load(); at != 0 {
		b -= now - at
	}
	return max(0, b)
}

// timers does what is due.
func (s *shard) timers(now int64) {
	if s.mux.NextDeadline() <= now {
		s.mux.Tick(now)
	}
	if s.router.NextDeadline() <= now {
		s.router.Tick(now)
	}
	if len(s.heard) > 0 && s.tellAt <= now {
		s.tell(now)
	}
}

// sleep returns how long nothing is due; negative: for ever.
func (s *shard) sleep(now int64) time.Duration {
	next := min(s.mux.NextDeadline(), s.router.NextDeadline())
	if len(s.heard) > 0 {
		next = min(next, s.tellAt)
	}
	if next == math.MaxInt64 {
		return -1
	}
	return max(0, time.Duration(next-now))
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

// post queues f for the shard's thread, behind what was queued before, and returns false after the shard's end.
func (s *shard) post(f func(now int64)) bool {
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

// reply queues the result of a handshake.
func (s *shard) reply(f func(m *transport.Mux, now int64)) {
	s.post(func(now int64) { f(s.mux, now) })
}

// call runs f on the shard's thread and waits for it. The thread waits for nobody, so call may be called under any lock.
func (s *shard) call(f func(now int64) error) error { return s.do(context.Background(), f) }

// finish is call for what cannot fail. After the shard's end it does nothing: all has ended with it.
func (s *shard) finish(f func(now int64)) {
	_ = s.call(func(now int64) error {
		f(now)
		return nil
	})
}

// do is call for those who may lose patience. When ctx ends before f has begun, f never runs; once begun it is waited for, so that
// what it writes is the caller's.
func (s *shard) do(ctx context.Context, f func(now int64) error) error {
	done := make(chan error, 1)
	var taken atomic.Bool // by the thread to run it, or by the caller who gives up
	if !s.post(func(now int64) {
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
