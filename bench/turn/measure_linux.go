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

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/proc"
)

// Times of a run.
const (
	settling = 500 * time.Millisecond // before memory is read
	warmUp   = 100 * time.Millisecond // of each window
)

// together is how many clients allocate at once.
const together = 16

// run is one measure from its first process to its last.
type run struct {
	command  *Command
	subjects []subject
	place    *place
	result   *Result
	tell     func(format string, args ...any)
	window   uint32
}

func measure(ctx context.Context, c *Command, subjects []subject, tell func(format string, args ...any)) (*Result, error) {
	p, err := newPlace(c.Loopback, !c.Offloads)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.server == nil && !c.Loopback {
		tell("over loopback: %v", netns.Possible())
	}
	r := &run{
		command: c, subjects: subjects, place: p, tell: tell,
		result: &Result{
			Bench: "turn", Machine: proc.Here(), Namespaces: p.server != nil, Offloads: c.Offloads, Clients: c.Clients, Rate: c.Rate, Runs: c.Runs, Allocations: c.Allocations,
			Servers: make([]Server, len(subjects)), Loads: []Load{},
		},
	}
	for i, s := range subjects {
		r.result.Servers[i].Server = s.name
		if c.Allocations > 0 {
			if err := r.memory(ctx, i); err != nil {
				return nil, err
			}
		}
	}
	for _, family := range c.Families {
		if err := r.relay(ctx, family); err != nil {
			return nil, err
		}
	}
	return r.result, nil
}

// start starts a server, over one family.
func (r *run) start(ctx context.Context, family string, i int) (addresses, *server, error) {
	a := r.place.addresses(family)
	s, err := start(ctx, r.place, a, r.subjects[i], i)
	if err != nil {
		return a, nil, err
	}
	r.result.Servers[i].Engine = s.engine
	r.tell("%s, engine %s, %s: process %d", r.subjects[i].name, s.engine, family, s.PID)
	return a, s, nil
}

// peer opens the peer's socket.
func (r *run) peer(ctx context.Context, a addresses) (c *net.UDPConn, err error) {
	in(r.place.peer, func() {
		var conn net.PacketConn
		if conn, err = (&net.ListenConfig{Control: control}).ListenPacket(ctx, "udp", netip.AddrPortFrom(a.peer, 0).String()); err == nil {
			c = conn.(*net.UDPConn)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("bench: the peer's socket: %w", err)
	}
	return c, nil
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
func (r *run) memory(ctx context.Context, i int) (err error) {
	a, s, err := r.start(ctx, r.command.Families[0], i)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	peer, err := r.peer(ctx, a)
	if err != nil {
		return err
	}
	defer peer.Close()
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
	seats, err := r.occupy(ctx, a, s, peer, r.command.Allocations)
	if err != nil {
		return err
	}
	defer leave(seats)
	took := time.Since(begin)
	after, ranThen, err := r.rest(ctx, s)
	if err != nil {
		return err
	}
	n := float64(r.command.Allocations)
	out := &r.result.Servers[i]
	out.RSS = before.RSS
	out.AllocationsPerSecond = n / took.Seconds()
	out.RSSPerAllocation = float64(after.RSS-before.RSS) / n
	out.ServerCPUNSPerAllocation = float64(ranThen-ran) / n
	r.tell("%s: %s an allocation", out.Server, kilobytes(out.RSSPerAllocation))
	return nil
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

// stage is a server with its clients and their peer.
type stage struct {
	*server
	seats []*seat
	peer  int
}

// relay measures all loads over one family, the servers taking turns.
func (r *run) relay(ctx context.Context, family string) (err error) {
	stages := make([]stage, len(r.subjects))
	for i := range stages {
		a, s, err := r.start(ctx, family, i)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Stop()) }()
		peer, err := r.peer(ctx, a)
		if err != nil {
			return err
		}
		seats, err := r.occupy(ctx, a, s, peer, r.command.Clients)
		if err != nil {
			return err
		}
		defer leave(seats)
		for _, s := range seats {
			if err := s.settle(); err != nil {
				return err
			}
		}
		fd, err := bare(peer)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		stages[i] = stage{s, seats, fd}
	}
	for _, order := range r.command.Orders {
		for _, direction := range r.command.Directions {
			for _, size := range r.command.Sizes {
				l := Load{Family: family, Direction: direction, Bytes: size, Order: order}
				if err := r.turns(ctx, &l, stages); err != nil {
					return err
				}
				r.result.Loads = append(r.result.Loads, l)
			}
		}
	}
	return nil
}

// turns measures one load on all servers, A B A B.
func (r *run) turns(ctx context.Context, l *Load, stages []stage) error {
	figures := make([][]Figures, len(stages))
	for range r.command.Runs {
		for i, s := range stages {
			f, err := r.fill(ctx, l, s)
			if err != nil {
				return err
			}
			f.Server = r.subjects[i].name
			figures[i] = append(figures[i], f)
			r.tell("%s, %s: %.2f µs, %d of %d lost", l.Label(), f.Server, f.ServerCPUNSPerPacket/1e3, f.PacketsLost, f.PacketsSent)
		}
	}
	for _, runs := range figures {
		l.Servers = append(l.Servers, summary(runs))
	}
	if len(stages) > 1 && l.Servers[1].ServerCPUNSPerPacket > 0 {
		own, other := &l.Servers[0], &l.Servers[1]
		l.Ratio = own.ServerCPUNSPerPacket / other.ServerCPUNSPerPacket
		l.WholeRatio = (own.ServerCPUNSPerPacket + own.EndsCPUNSPerPacket) / (other.ServerCPUNSPerPacket + other.EndsCPUNSPerPacket)
	}
	return nil
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

// fill measures one load on one server.
func (r *run) fill(ctx context.Context, l *Load, s stage) (f Figures, err error) {
	next := func() *load {
		r.window++
		return newLoad(r.window, l.Direction, l.Order, l.Bytes, r.command.Rate, s.seats, s.peer)
	}
	next().run(warmUp)
	w := next()
	from, err := r.used(s.server)
	if err != nil {
		return f, err
	}
	begin := time.Now()
	sending := w.run(r.command.Duration)
	took := time.Since(begin)
	to, err := r.used(s.server)
	if err != nil {
		return f, err
	}
	select {
	case <-s.Gone():
		return f, errors.New("bench: the server has ended: " + s.Log())
	case <-ctx.Done():
		return f, fmt.Errorf("bench: %w", ctx.Err())
	default:
	}
	if w.taken == 0 {
		return f, fmt.Errorf("bench: of %d packets (%s) none arrived", w.sent, l.Label())
	}
	n := float64(w.taken)
	f.DurationSeconds = sending.Seconds()
	f.PacketsSent, f.PacketsRelayed, f.PacketsDisordered, f.PacketsBroken = w.sent, w.taken, w.behind, w.broken
	f.LoadReachedRatio = min(1, float64(w.sent)/(float64(r.command.Rate)*sending.Seconds()))
	f.PacketsPerSecond = n / sending.Seconds()
	f.PacketsLost = w.sent - min(w.sent, w.taken)
	f.LossRatio = float64(f.PacketsLost) / float64(w.sent)
	f.ServerCPUNSPerPacket = float64(to.ran-from.ran) / n
	if all := to.server.CPU() - from.server.CPU(); all > 0 {
		f.ServerSystemRatio = float64(to.server.System-from.server.System) / float64(all)
	}
	f.EndsCPUNSPerPacket = float64(to.ends-from.ends) / n
	f.OthersCPURatio = max(0, (to.busy-from.busy-(to.ran-from.ran)-(to.ends-from.ends)).Seconds()/took.Seconds())
	f.LatencyP50, f.LatencyP99 = w.latencies.At(0.5), w.latencies.At(0.99)
	return f, nil
}
