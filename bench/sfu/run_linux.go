package sfu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/bench/internal/child"
	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Times of a run.
const (
	joinLimit = 30 * time.Second
	settling  = time.Second // before memory is read
	grace     = time.Second // after the measure, for repairs to arrive
	lookEvery = time.Second // /proc counts in hundredths
	pollEvery = time.Millisecond
)

// run is one measure from its first process to its last.
type run struct {
	c      *Command
	tell   func(format string, args ...any)
	server *child.Server
	room   wire.Meeting
	sinks  *sinks

	publishers []*publisher
	tracks     []string
	stop       context.CancelFunc // of everything in work
	work       sync.WaitGroup
	failed     chan error

	mu        sync.Mutex
	receivers []*receiver
}

func measure(ctx context.Context, c *Command, binary string, tell func(format string, args ...any)) (_ *Result, err error) {
	r := &run{c: c, tell: tell, failed: make(chan error, maxPeople)}
	if r.server, err = child.Start(ctx, binary); err != nil {
		return nil, err
	}
	r.sinks = newSinks()
	var working context.Context
	working, r.stop = context.WithCancel(ctx)
	defer func() { err = errors.Join(err, r.close()) }()
	tell("server: process %d, media at %s", r.server.PID, r.server.Media)
	if r.room, err = client.OpenMeeting(ctx, r.server.URL, r.server.TLS, ""); err != nil {
		return nil, fmt.Errorf("bench: open a meeting: %w", err)
	}
	result := &Result{
		Bench: "sfu", Machine: proc.Here(), Publishers: c.Publishers, Receivers: c.Receivers, VideoBitrate: c.VideoBitrate, FPS: c.FPS,
		Audio: c.Audio, Paced: c.Paced, SRTP: map[string]string{"gcm": "AEAD_AES_128_GCM", "cm": "AES128_CM_HMAC_SHA1_80"}[c.SRTP],
	}
	if err := r.publish(working); err != nil {
		return nil, err
	}
	before, err := r.rest(ctx)
	if err != nil {
		return nil, err
	}
	r.work.Go(func() { talk(working, r.present) })
	if err := r.receive(ctx, result); err != nil {
		return nil, err
	}
	joined, err := r.rest(ctx)
	if err != nil {
		return nil, err
	}
	result.RSS = joined.RSS
	result.RSSPerLeg = float64(joined.RSS-before.RSS) / float64(c.Receivers)
	meanwhile := r.totals().packets
	if err := r.window(ctx, result); err != nil {
		return nil, err
	}
	forwarding := float64(meanwhile) * result.ServerCPUNSPerPacket / 1e9
	result.JoinCPU = ((joined.CPU() - before.CPU()).Seconds() - forwarding) / float64(c.Receivers)
	return result, nil
}

// close ends everybody, then the server.
func (r *run) close() error {
	r.stop()
	r.work.Wait()
	var leaving sync.WaitGroup
	for _, p := range r.publishers {
		leaving.Go(func() { _ = p.seat.Close() })
	}
	for _, v := range r.present() {
		leaving.Go(func() { _ = v.close() })
	}
	leaving.Wait()
	r.sinks.close()
	return r.server.Stop()
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
	return proc.Of(r.server.PID)
}

// publish lets the publishers join, and begin.
func (r *run) publish(ctx context.Context) error {
	joining, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	for i := range r.c.Publishers {
		seat, err := client.Join(joining, client.Config{
			URL: r.server.URL, Room: r.room.Room, Name: fmt.Sprintf("Publisher %d", i+1), TLS: r.server.TLS,
			Publish: r.c.publications(), Profiles: []dtls.SRTPProtectionProfile{r.c.profile()},
		})
		if err != nil {
			return fmt.Errorf("bench: publisher %d: %w", i+1, err)
		}
		p := &publisher{c: r.c, seat: seat}
		r.publishers = append(r.publishers, p)
		if err := seat.Connected(joining); err != nil {
			return fmt.Errorf("bench: publisher %d: %w", i+1, err)
		}
		for _, v := range r.c.publications() {
			r.tracks = append(r.tracks, seat.Local(v.Source).ID())
		}
		phase := time.Duration(i) * 7 * time.Millisecond
		r.work.Go(func() {
			if err := p.run(ctx, phase); err != nil {
				r.failed <- err
			}
		})
	}
	r.tell("%d publishing", r.c.Publishers)
	return nil
}

// receive lets the receivers join, a few at once, and waits until each has every track.
func (r *run) receive(ctx context.Context, result *Result) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit+time.Duration(r.c.Receivers)*time.Second)
	defer cancel()
	numbers := make(chan int)
	var joining sync.WaitGroup
	for range min(r.c.Joining, r.c.Receivers) {
		joining.Go(func() {
			for n := range numbers {
				if err := r.arrive(ctx, n); err != nil {
					r.failed <- err
					cancel()
				}
			}
		})
	}
	for n := range r.c.Receivers {
		select {
		case numbers <- n:
		case <-ctx.Done():
		}
		if (n+1)%10 == 0 {
			r.tell("%d of %d receiving", n+1, r.c.Receivers)
		}
	}
	close(numbers)
	joining.Wait()
	select {
	case err := <-r.failed:
		return err
	default:
	}
	for _, v := range r.present() {
		st := v.state()
		result.joins = append(result.joins, float64(st.first-v.began.UnixNano())/1e9)
		if r.c.VideoBitrate > 0 {
			result.pictures = append(result.pictures, float64(st.picture-v.began.UnixNano())/1e9)
		}
	}
	result.JoinP50, result.JoinP99 = result.joins.At(0.5), result.joins.At(0.99)
	result.FirstPictureP50, result.FirstPictureP99 = result.pictures.At(0.5), result.pictures.At(0.99)
	return nil
}

// arrive lets one receiver join.
func (r *run) arrive(ctx context.Context, n int) error {
	v, err := join(ctx, r.c, r.server, r.room, r.sinks, n, r.tracks)
	if err != nil {
		return err
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
			return fmt.Errorf("bench: receiver %d has %d of %d tracks: %w", n+1, v.state().streams, len(r.tracks), ctx.Err())
		}
		if v.state().streams == len(r.tracks) {
			return nil
		}
	}
}

// totals is the sum over all receivers.
type totals struct {
	state
	sent uint64
	each []map[uint32]int64
}

func (r *run) totals() totals {
	var t totals
	for _, v := range r.present() {
		st := v.state()
		t.packets += st.packets
		t.bytes += st.bytes
		t.duplicates += st.duplicates
		t.repaired += st.repaired
		t.each = append(t.each, st.highest)
	}
	for _, p := range r.publishers {
		t.sent += p.sent.Load()
	}
	return t
}

// window is the measure itself.
func (r *run) window(ctx context.Context, result *Result) error {
	r.sinks.quiet.Store(true)
	if err := r.pause(ctx, r.c.Warmup); err != nil {
		return err
	}
	r.tell("measuring for %s", r.c.Duration)
	for _, v := range r.present() {
		v.measure(true)
	}
	load, err := proc.Of(0)
	if err != nil {
		return err
	}
	begin := time.Now()
	first := r.totals()
	if err := r.look(result, begin, first); err != nil {
		return err
	}
	last := first
	for left := r.c.Duration; left > 0; left = r.c.Duration - time.Since(begin) {
		if left >= 2*lookEvery {
			left = lookEvery // the last look is between one and two of them long
		}
		if err := r.pause(ctx, left); err != nil {
			return err
		}
		last = r.totals()
		if err := r.look(result, begin, last); err != nil {
			return err
		}
	}
	loadAfter, err := proc.Of(0)
	if err != nil {
		return err
	}
	for _, v := range r.present() {
		v.measure(false)
	}
	if err := r.pause(ctx, grace); err != nil { // media goes on, so that the last packets of the window can be repaired too
		return err
	}
	var lost uint64
	for i, v := range r.present() {
		lost += v.lost(first.each[i], last.each[i])
		v.mu.Lock()
		result.latencies = append(result.latencies, v.latencies...)
		v.mu.Unlock()
		if n := v.sink.lost.Load(); n > 0 {
			r.tell("receiver %d: %d datagrams came too fast to be opened", i+1, n)
		}
	}
	result.fill(first, last, lost, loadAfter.CPU()-load.CPU())
	result.LoadReachedRatio = float64(result.PacketsSent) / (r.c.rate() * result.DurationSeconds)
	if result.LoadReachedRatio < 0.95 {
		r.tell("only %s of the load was reached: the machine has other things to do", percent(result.LoadReachedRatio))
	}
	return nil
}

// look notes how the server fares.
func (r *run) look(result *Result, begin time.Time, t totals) error {
	u, err := proc.Of(r.server.PID)
	if err != nil {
		return err
	}
	result.timeline = append(result.timeline, moment{at: time.Since(begin), server: u, packets: t.packets})
	return nil
}

// fill works the figures out.
func (result *Result) fill(first, last totals, lost uint64, load time.Duration) {
	from, to := result.timeline[0], result.timeline[len(result.timeline)-1]
	took := (to.at - from.at).Seconds()
	packets := float64(last.packets - first.packets)
	cpu := to.server.CPU() - from.server.CPU()

	result.DurationSeconds = took
	result.PacketsSent = last.sent - first.sent
	result.PacketsForwarded = last.packets - first.packets
	result.PacketsForwardedPerSecond = packets / took
	result.BitsForwardedPerSecond = 8 * float64(last.bytes-first.bytes) / took
	result.ServerCPURatio = cpu.Seconds() / took
	result.LoadCPURatio = load.Seconds() / took
	if packets > 0 {
		result.ServerCPUNSPerPacket = float64(cpu) / packets
		result.ServerUserNSPerPacket = float64(to.server.User-from.server.User) / packets
		result.ServerSystemNSPerPacket = float64(to.server.System-from.server.System) / packets
		result.LossRatio = float64(lost) / (packets + float64(lost))
	}
	result.PacketsLost = lost
	result.PacketsRepaired = last.repaired - first.repaired
	result.PacketsDuplicate = last.duplicates - first.duplicates
	result.LatencySamples = len(result.latencies)
	result.LatencyP50, result.LatencyP99, result.LatencyMax = result.latencies.At(0.5), result.latencies.At(0.99), result.latencies.Max()
}
