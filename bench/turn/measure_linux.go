package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/proc"
)

// Times of a run.
const (
	settling = 500 * time.Millisecond // before memory is read
	warmUp   = 200 * time.Millisecond // of each window
)

// together is how many clients allocate at once.
const together = 16

// run is one measure from its first process to its last.
type run struct {
	command *Command
	binary  string
	place   *place
	result  *Result
	tell    func(format string, args ...any)
	window  uint32
}

func measure(ctx context.Context, c *Command, binary string, tell func(format string, args ...any)) (*Result, error) {
	p, err := newPlace(c.Loopback)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.server == nil && !c.Loopback {
		tell("over loopback: %v", netns.Possible())
	}
	r := &run{
		command: c, binary: binary, place: p, tell: tell,
		result: &Result{Bench: "turn", Machine: proc.Here(), Server: c.Target, Namespaces: p.server != nil, Clients: c.Clients, Windows: []Window{}},
	}
	if c.Allocations > 0 {
		if err := r.memory(ctx); err != nil {
			return nil, err
		}
	}
	for _, family := range c.Families {
		if err := r.relay(ctx, family); err != nil {
			return nil, err
		}
	}
	return r.result, nil
}

// with calls f with a server and a socket of the peer's, over one family.
func (r *run) with(ctx context.Context, family string, f func(a addresses, s *server, peer *net.UDPConn) error) (err error) {
	a := r.place.addresses(family)
	s, err := start(ctx, r.place, a, r.command.Target, r.binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	r.result.Engine = s.engine
	r.tell("%s, engine %s, %s: process %d", r.command.Target, s.engine, family, s.PID)
	var conn net.PacketConn
	in(r.place.peer, func() {
		conn, err = (&net.ListenConfig{Control: control}).ListenPacket(ctx, "udp", netip.AddrPortFrom(a.peer, 0).String())
	})
	if err != nil {
		return fmt.Errorf("bench: the peer's socket: %w", err)
	}
	defer conn.Close()
	return f(a, s, conn.(*net.UDPConn))
}

// occupy gives clients an allocation and a channel each.
func (r *run) occupy(ctx context.Context, a addresses, s *server, peer *net.UDPConn, n int) (seats []*seat, err error) {
	seats = make([]*seat, n)
	defer func() {
		if err != nil {
			leave(seats)
		}
	}()
	for i := range seats {
		if seats[i], err = newSeat(r.place, a, i, s.at); err != nil {
			return nil, err
		}
	}
	to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	todo := make(chan *seat)
	var work sync.WaitGroup
	var mu sync.Mutex
	for range together {
		work.Go(func() {
			for s := range todo {
				if e := s.allocate(to); e != nil {
					mu.Lock()
					err = errors.Join(err, e)
					mu.Unlock()
				}
			}
		})
	}
	for _, s := range seats {
		mu.Lock()
		failed := err
		mu.Unlock()
		if failed != nil || ctx.Err() != nil {
			break
		}
		todo <- s
	}
	close(todo)
	work.Wait()
	return seats, errors.Join(err, ctx.Err())
}

func leave(seats []*seat) {
	for _, s := range seats {
		if s != nil {
			s.close()
		}
	}
}

// memory makes many allocations, for what one takes.
func (r *run) memory(ctx context.Context) error {
	return r.with(ctx, r.command.Families[0], func(a addresses, s *server, peer *net.UDPConn) error {
		n := r.command.Allocations
		// The first few bring what a server makes but once.
		first, err := r.occupy(ctx, a, s, peer, together)
		if err != nil {
			return err
		}
		defer leave(first)
		before, ran, err := r.rest(ctx, s)
		if err != nil {
			return err
		}
		begin := time.Now()
		seats, err := r.occupy(ctx, a, s, peer, n)
		if err != nil {
			return err
		}
		defer leave(seats)
		took := time.Since(begin)
		after, ranThen, err := r.rest(ctx, s)
		if err != nil {
			return err
		}
		r.result.Allocations, r.result.RSS = n, before.RSS
		r.result.AllocationsPerSecond = float64(n) / took.Seconds()
		r.result.RSSPerAllocation = float64(after.RSS-before.RSS) / float64(n)
		r.result.ServerCPUNSPerAllocation = float64(ranThen-ran) / float64(n)
		return nil
	})
}

// rest lets the server come to rest and reads what it holds.
func (r *run) rest(ctx context.Context, s *server) (proc.Usage, time.Duration, error) {
	wait := time.NewTimer(settling)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.Gone():
		return proc.Usage{}, 0, errors.New("bench: the server has ended: " + s.Log())
	case <-ctx.Done():
		return proc.Usage{}, 0, fmt.Errorf("bench: %w", ctx.Err())
	}
	u, err := proc.Of(s.PID)
	if err != nil {
		return u, 0, err
	}
	ran, err := proc.Ran(s.PID)
	return u, ran, err
}

// relay measures all loads over one family.
func (r *run) relay(ctx context.Context, family string) error {
	return r.with(ctx, family, func(a addresses, s *server, peer *net.UDPConn) error {
		seats, err := r.occupy(ctx, a, s, peer, r.command.Clients)
		if err != nil {
			return err
		}
		defer leave(seats)
		fd, err := handle(peer)
		if err != nil {
			return fmt.Errorf("bench: the peer's socket: %w", err)
		}
		for _, order := range r.command.Orders {
			for _, direction := range r.command.Directions {
				for _, size := range r.command.Sizes {
					w := Window{Family: family, Direction: direction, Bytes: size, Order: order}
					if err := r.fill(ctx, &w, s, seats, fd); err != nil {
						return err
					}
					r.result.Windows = append(r.result.Windows, w)
					r.tell("%s %s: %.2f µs, %d of %d lost", family, w.label(), w.ServerCPUNSPerPacket/1e3, w.PacketsLost, w.PacketsSent)
				}
			}
		}
		return nil
	})
}

// used is what was used up to a moment.
type used struct {
	server    proc.Usage
	ran, ends time.Duration
	busy      time.Duration
}

func (r *run) used(s *server) (u used, err error) {
	var errs [4]error
	u.server, errs[0] = proc.Of(s.PID)
	u.ran, errs[1] = proc.Ran(s.PID)
	u.ends, errs[2] = proc.Ran(os.Getpid())
	u.busy, errs[3] = proc.Busy()
	return u, errors.Join(errs[:]...)
}

// fill measures one load.
func (r *run) fill(ctx context.Context, w *Window, s *server, seats []*seat, peer int) error {
	next := func() *load {
		r.window++
		return newLoad(r.window, w.Direction, w.Order, w.Bytes, r.command.Rate, seats, peer)
	}
	next().run(warmUp)
	l := next()
	from, err := r.used(s)
	if err != nil {
		return err
	}
	begin := time.Now()
	sending := l.run(r.command.Duration)
	took := time.Since(begin)
	to, err := r.used(s)
	if err != nil {
		return err
	}
	select {
	case <-s.Gone():
		return errors.New("bench: the server has ended: " + s.Log())
	case <-ctx.Done():
		return fmt.Errorf("bench: %w", ctx.Err())
	default:
	}
	if l.taken == 0 {
		return fmt.Errorf("bench: of %d packets (%s) none arrived", l.sent, w.label())
	}
	n := float64(l.taken)
	w.DurationSeconds = sending.Seconds()
	w.PacketsSent, w.PacketsRelayed, w.PacketsDisordered, w.PacketsBroken = l.sent, l.taken, l.behind, l.broken
	w.LoadReachedRatio = min(1, float64(l.sent)/(float64(r.command.Rate)*sending.Seconds()))
	w.PacketsPerSecond = n / sending.Seconds()
	w.PacketsLost = l.sent - min(l.sent, l.taken)
	w.LossRatio = float64(w.PacketsLost) / float64(l.sent)
	w.ServerCPUNSPerPacket = float64(to.ran-from.ran) / n
	if all := to.server.CPU() - from.server.CPU(); all > 0 {
		w.ServerSystemRatio = float64(to.server.System-from.server.System) / float64(all)
	}
	w.EndsCPUNSPerPacket = float64(to.ends-from.ends) / n
	w.OthersCPURatio = max(0, (to.busy-from.busy-(to.ran-from.ran)-(to.ends-from.ends)).Seconds()/took.Seconds())
	w.LatencyP50, w.LatencyP99 = l.latencies.At(0.5), l.latencies.At(0.99)
	return nil
}
