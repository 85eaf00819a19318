package sfu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/sink"
	"github.com/sotto-edge/sotto/bench/internal/target"
)

// Times of a run.
const (
	joinLimit = 30 * time.Second
	settling  = time.Second // before memory is read
	pollEvery = time.Millisecond
	costLook  = 2 * time.Second
)

// elsewhere runs the command in a network namespace when the server needs one, and says whether that is done.
func (c *Command) elsewhere() (bool, error) {
	if c.Target != target.Janus {
		return false, nil
	}
	if err := target.Missing(c.Target); err != nil {
		return false, err
	}
	return netns.Enter()
}

// run is one measure from its first process to its last.
type run struct {
	load   load
	tell   func(format string, args ...any)
	server target.Server
	rooms  []target.Room
	pool   *sink.Pool
	left   departures
	rate   atomic.Int64 // of each one's pictures
	quiet  atomic.Bool  // publishers send nothing

	publishers []*publisher
	apart      *publishers        // in a process of their own; nil: there is none
	waiting    []*receiver        // who publish, and will receive
	lines      []*line            // of the receivers, in their order
	stop       context.CancelFunc // of everything in work
	work       sync.WaitGroup
	failed     chan error

	mu        sync.Mutex
	seats     []target.Seat
	receivers []*receiver
}

func measure(ctx context.Context, l load, s subject, tell func(format string, args ...any)) (_ *Result, err error) {
	r := &run{load: l, tell: tell, failed: make(chan error, l.rooms*(l.people()+1))}
	r.rate.Store(int64(l.bitrate))
	r.server, err = target.Start(ctx, target.Config{Name: s.name, Binary: s.binary, People: l.people() + 1, Profile: s.profile})
	if err != nil {
		return nil, err
	}
	r.pool = sink.NewPool(l.sampled())
	var working context.Context
	working, r.stop = context.WithCancel(ctx)
	defer func() { err = errors.Join(err, r.close()) }()
	tell("%s: process %d", s.name, r.server.PID())
	result := newResult(l, s.name)
	if result.Loopback, err = r.loopback(); err != nil {
		return nil, err
	}
	if l.apart {
		err = r.publishApart(ctx, s.command)
	} else {
		err = r.publish(ctx, working)
	}
	if err != nil {
		return nil, err
	}
	before, err := r.rest(ctx)
	if err != nil {
		return nil, err
	}
	r.work.Go(func() { talk(working, r.present) })
	profiled := s.profile != ""
	ofJoins := profiled && l.over > 0 // they are what a storm is about
	if err := r.profiling(ofJoins, func() error { return r.receive(ctx, result) }); err != nil {
		return nil, err
	}
	joined, err := r.rest(ctx)
	if err != nil {
		return nil, err
	}
	result.RSS = joined.RSS
	result.RSSPerLeg = float64(joined.RSS-before.RSS) / float64(l.legs())
	meanwhile := r.totals().Packets
	cost := 0.0
	if l.idle { // nothing is forwarded in the window
		if cost, err = r.cost(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.window(ctx, result, profiled && !ofJoins); err != nil {
		return nil, err
	}
	if !l.idle {
		cost = result.ServerCPUNSPerPacket
	}
	forwarding := float64(meanwhile) * cost / 1e9
	result.JoinCPU = max(0, ((joined.CPU()-before.CPU()).Seconds()-forwarding)/float64(l.legs()))
	return result, nil
}

// profiling does f, and lets the server take a profile meanwhile if on.
func (r *run) profiling(on bool, f func() error) error {
	if !on {
		return f()
	}
	if err := r.server.Profile(); err != nil {
		return err
	}
	return errors.Join(f(), r.server.Profile())
}

// close ends everybody, then the server.
func (r *run) close() error {
	r.leave()
	var err error
	if r.apart != nil {
		err = r.apart.stop()
	}
	return errors.Join(err, r.server.Stop())
}

// leave ends everybody who is here.
func (r *run) leave() {
	r.stop()
	r.work.Wait()
	r.mu.Lock()
	seats := r.seats
	r.mu.Unlock()
	var leaving sync.WaitGroup
	for _, s := range seats {
		leaving.Go(func() { _ = s.Close() })
	}
	leaving.Wait()
	for _, l := range r.lines {
		_ = l.close() // its sockets are all that it has
	}
	r.pool.Close()
}

func (r *run) loopback() (float64, error) {
	took, err := r.pool.Loopback(r.server.Local())
	return took.Seconds(), err
}

func (r *run) present() []*receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.receivers[:len(r.receivers):len(r.receivers)]
}

// pause waits, unless something fails first.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case err := <-r.failed:
		return err
	case <-r.server.Gone():
		return errors.New("bench: the server has ended: " + r.server.Log())
	case <-ctx.Done():
		return fmt.Errorf("bench: %w", ctx.Err())
	}
}

// rest lets the server come to rest and reads what it holds.
func (r *run) rest(ctx context.Context) (proc.Usage, error) {
	if err := r.pause(ctx, settling); err != nil {
		return proc.Usage{}, err
	}
	return proc.Of(r.server.PID())
}

// cost finds out what forwarding a packet costs now, in nanoseconds.
func (r *run) cost(ctx context.Context) (float64, error) {
	from, err := proc.Of(r.server.PID())
	if err != nil {
		return 0, err
	}
	before := r.totals().Packets
	if err := r.pause(ctx, costLook); err != nil {
		return 0, err
	}
	to, err := proc.Of(r.server.PID())
	if err != nil {
		return 0, err
	}
	return float64(to.CPU()-from.CPU()) / float64(max(1, r.totals().Packets-before)), nil
}

// seat lets somebody join, who stays to the end.
func (r *run) seat(ctx context.Context, at target.Room, local netip.Addr, name string, publish target.Media, v *receiver) (target.Seat, error) {
	s, err := r.join(ctx, at, local, name, publish, v)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.seats = append(r.seats, s)
	r.mu.Unlock()
	return s, nil
}

// join lets somebody join, whose seat is the caller's to close.
func (r *run) join(ctx context.Context, at target.Room, local netip.Addr, name string, publish target.Media, v *receiver) (target.Seat, error) {
	number := uint32(0)
	cfg := target.SeatConfig{
		Name: name, Publish: publish, Profile: r.load.profile(),
		Open: func() (*sink.Sink, error) {
			k, err := r.pool.Open(local, atomic.AddUint32(&number, 1))
			if err == nil && v != nil && v.line != nil {
				k.Via(v.line.open)
			}
			return k, err
		},
	}
	if v != nil {
		cfg.Opened, cfg.Turns = v.opened, v.turns
	}
	s, err := at.Join(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// publish opens the rooms and lets the publishers join, and begin.
func (r *run) publish(ctx, working context.Context) error {
	for i := range r.load.rooms {
		at, err := r.server.Open(ctx)
		if err != nil {
			return err
		}
		r.rooms = append(r.rooms, at)
		if err := r.occupy(ctx, working, at, r.server.Local(), i*r.load.publishers); err != nil {
			return err
		}
	}
	r.tell("%d publishing", len(r.publishers))
	return nil
}

// occupy lets the publishers of one room join, and begin.
func (r *run) occupy(ctx, working context.Context, at target.Room, local netip.Addr, first int) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit+time.Duration(r.load.publishers)*time.Second)
	defer cancel()
	media := target.Media{Sound: r.load.audio, Pictures: r.load.bitrate > 0, Simulcast: r.load.simulcast}
	for n := first; n < first+r.load.publishers; n++ {
		v := &receiver{left: &r.left}
		s, err := r.seat(ctx, at, local, fmt.Sprintf("Publisher %d", n+1), media, v)
		if err != nil {
			return err
		}
		v.seat = s
		if err := s.Connected(ctx); err != nil {
			return fmt.Errorf("publisher %d: %w", n+1, err)
		}
		if r.load.everybody {
			r.waiting = append(r.waiting, v)
		}
		p := &publisher{load: r.load, seat: s, left: &r.left, rate: &r.rate, quiet: &r.quiet}
		r.publishers = append(r.publishers, p)
		r.work.Go(func() {
			if err := p.run(working, time.Duration(n)*7*time.Millisecond); err != nil {
				r.failed <- err
			}
		})
	}
	return nil
}

// arrival is somebody who is about to receive.
type arrival struct {
	name string
	room target.Room
	line *line
	v    *receiver // who publishes already; nil: a new seat
}

// arrivals are all of them, in their order.
func (r *run) arrivals() []arrival {
	var list []arrival
	for _, v := range r.waiting {
		list = append(list, arrival{name: "publisher", v: v})
	}
	for n := range r.load.rooms * r.load.receivers {
		a := arrival{name: fmt.Sprintf("Receiver %d", n+1), room: r.rooms[n%len(r.rooms)]}
		if r.load.lines {
			a.line = &line{kind: lines[n%len(lines)], seed: uint64(n) + 1}
			r.lines = append(r.lines, a.line)
		}
		list = append(list, a)
	}
	return list
}

// receive lets the receivers join, and waits until each has every stream.
func (r *run) receive(ctx context.Context, result *Result) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit+time.Duration(r.load.legs())*time.Second)
	defer cancel()
	list := r.arrivals()
	queue := make(chan arrival, len(list))
	workers := min(r.load.joining, len(list))
	if r.load.over > 0 {
		workers = len(list) // nobody waits for anybody
	}
	var joining sync.WaitGroup
	for range workers {
		joining.Go(func() {
			for a := range queue {
				if err := r.arrive(ctx, a); err != nil {
					r.failed <- err
					cancel()
				}
			}
		})
	}
	begin := time.Now()
	stop := func() ([]moment, error) { return nil, nil }
	if r.load.over > 0 {
		stop = r.watch(begin)
	}
	for n, a := range list {
		if r.load.over > 0 {
			due := time.NewTimer(time.Until(begin.Add(r.load.over * time.Duration(n) / time.Duration(len(list)))))
			select {
			case <-due.C:
			case <-ctx.Done():
			}
			due.Stop()
		}
		queue <- a
	}
	close(queue)
	joining.Wait()
	timeline, err := stop()
	select {
	case err := <-r.failed:
		return err
	default:
	}
	if err != nil {
		return err
	}
	r.tell("%d receiving", len(list))
	result.joined(r.present(), r.load.bitrate > 0)
	if r.load.over > 0 {
		result.storm = newStorm(r.present(), begin, timeline, r.load.bitrate > 0)
	}
	return nil
}

// arrive lets one receive.
func (r *run) arrive(ctx context.Context, a arrival) (err error) {
	v := a.v
	if v == nil {
		v = &receiver{began: time.Now(), turns: sink.NewTurns(), left: &r.left, line: a.line}
		if v.seat, err = r.seat(ctx, a.room, r.server.Local(), a.name, target.Media{}, v); err != nil {
			return err
		}
	} else {
		v.began = time.Now()
	}
	streams, err := v.seat.Receive(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	r.mu.Lock()
	r.receivers = append(r.receivers, v)
	r.mu.Unlock()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("bench: %s has %d of %d streams: %w", a.name, v.state().Streams, streams, ctx.Err())
		}
		if v.state().Streams >= streams {
			return nil
		}
	}
}

// totals is the sum over all receivers.
type totals struct {
	sink.State
	sent uint64
	each []map[uint32]int64
}

func (r *run) totals() totals {
	var t totals
	for _, v := range r.present() {
		st := v.state()
		t.Packets += st.Packets
		t.Bytes += st.Bytes
		t.Duplicates += st.Duplicates
		t.Repaired += st.Repaired
		t.each = append(t.each, st.Highest)
	}
	for _, p := range r.publishers {
		t.sent += p.sent.Load()
	}
	if r.apart != nil {
		t.sent += r.apart.sent()
	}
	return t
}

// newStorm takes when who had what.
func newStorm(all []*receiver, begin time.Time, timeline []moment, pictures bool) storm {
	s := storm{timeline: timeline}
	since := func(at int64) float64 { return float64(at-begin.UnixNano()) / 1e9 }
	for _, v := range all {
		st := v.state()
		s.asked = append(s.asked, since(v.began.UnixNano()))
		s.heard = append(s.heard, since(st.First))
		if pictures {
			s.seen = append(s.seen, since(st.Picture))
		}
	}
	return s
}

// joined takes what the joins have cost the receivers in time.
func (result *Result) joined(all []*receiver, pictures bool) {
	for _, v := range all {
		st := v.state()
		result.joins = append(result.joins, float64(st.First-v.began.UnixNano())/1e9)
		if pictures {
			result.pictures = append(result.pictures, float64(st.Picture-v.began.UnixNano())/1e9)
		}
		if v.turns != nil {
			result.shares = append(result.shares, v.turns.Server().Seconds())
			result.others = append(result.others, v.turns.Client().Seconds())
		}
	}
	result.JoinP50, result.JoinP99 = result.joins.At(0.5), result.joins.At(0.99)
	result.FirstPictureP50, result.FirstPictureP99 = result.pictures.At(0.5), result.pictures.At(0.99)
	result.JoinServerP50, result.JoinServerP99 = result.shares.At(0.5), result.shares.At(0.99)
	result.JoinClientP50 = result.others.At(0.5)
}
