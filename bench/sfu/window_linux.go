package sfu

import (
	"context"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/quantile"
)

// Times of the measure.
const (
	grace     = time.Second // after it, for repairs to arrive
	lookEvery = time.Second // /proc counts in hundredths
)

// window is the measure itself.
func (r *run) window(ctx context.Context, result *Result, profile bool) (err error) {
	r.pool.Quiet(true)
	r.quiet.Store(r.load.idle)
	if err := r.pause(ctx, r.load.warmup); err != nil {
		return err
	}
	if err := r.aim(ctx); err != nil {
		return err
	}
	result.VideoBitrate, result.load = r.load.bitrate, r.load
	r.tell("measuring for %s", r.load.duration)
	for _, v := range r.present() {
		v.measure(true)
	}
	if profile {
		if err := r.server.Profile(); err != nil {
			return err
		}
	}
	loadBefore, err := proc.Of(0)
	if err != nil {
		return err
	}
	busyBefore, err := proc.Busy()
	if err != nil {
		return err
	}
	begin := time.Now()
	for _, l := range r.lines {
		if err := l.begin(begin, r.load.duration); err != nil {
			return err
		}
	}
	first := r.totals()
	if err := r.look(result, begin, first); err != nil {
		return err
	}
	last := first
	for left := r.load.duration; left > 0; left = r.load.duration - time.Since(begin) {
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
	busyAfter, err := proc.Busy()
	if err != nil {
		return err
	}
	if profile {
		if err := r.server.Profile(); err != nil {
			return err
		}
	}
	for _, v := range r.present() {
		v.measure(false)
	}
	if err := r.pause(ctx, grace); err != nil { // media goes on, so that the last packets of the window can be repaired too
		return err
	}
	var lost uint64
	for i, v := range r.present() {
		missing := v.seat.Receiving().Lost(first.each[i], last.each[i])
		lost += missing
		if v.line != nil {
			v.line.lost = missing
		}
		if missing == 0 {
			result.ReceiversWhole++
		}
		v.mu.Lock()
		result.latencies = append(result.latencies, v.latencies...)
		result.stays = append(result.stays, v.stays...)
		result.sounds = append(result.sounds, v.sounds...)
		v.mu.Unlock()
		if n := v.seat.Receiving().Missed(); n > 0 {
			r.tell("receiver %d: %d datagrams came too fast to be opened", i+1, n)
		}
	}
	for _, l := range r.lines {
		result.Lines = append(result.Lines, l.result())
	}
	result.lines = r.lines
	result.fill(first, last, lost, loadAfter.CPU()-loadBefore.CPU(), busyAfter-busyBefore)
	if r.load.idle {
		return nil
	}
	result.LoadReachedRatio = float64(result.PacketsSent) / (r.load.rate() * result.DurationSeconds)
	if result.LoadReachedRatio < reached {
		r.tell("only %s of the load was reached: the machine has other things to do", percent(result.LoadReachedRatio))
	}
	return nil
}

// Of the search for a load.
const (
	aimTries = 10
	aimLook  = 2 * time.Second
	aimNear  = 0.07
	aimLeast = 0.9 // of the load: with less, it is the generator that is at its end
)

// aim makes the pictures as large as it takes for the server to need that share of a core, or the generator all that it has.
func (r *run) aim(ctx context.Context) error {
	if r.load.aim == 0 {
		return nil
	}
	kept := r.load.bitrate // the last that the generator kept up with
	for range aimTries {
		from, err := proc.Of(r.server.PID())
		if err != nil {
			return err
		}
		begin, sent := time.Now(), r.totals().sent
		if err := r.pause(ctx, aimLook); err != nil {
			return err
		}
		to, err := proc.Of(r.server.PID())
		if err != nil {
			return err
		}
		took := time.Since(begin).Seconds()
		share := (to.CPU() - from.CPU()).Seconds() / took
		reached := float64(r.totals().sent-sent) / took / r.load.rate()
		r.tell("at %.2f Mbit/s each: %s of a core, %s of the load", float64(r.load.bitrate)/1e6, percent(share), percent(reached))
		off := r.load.aim / max(share, 0.01)
		switch {
		case off > 1-aimNear && off < 1+aimNear:
			return nil
		case reached < aimLeast && off > 1:
			r.load.bitrate = kept // more cannot be had: what is more than that only queues
			r.rate.Store(int64(kept))
			return r.pause(ctx, aimLook)
		}
		kept = r.load.bitrate
		r.load.bitrate = int(float64(r.load.bitrate) * min(2, max(0.5, off)))
		r.rate.Store(int64(r.load.bitrate))
		if err := r.pause(ctx, aimLook/2); err != nil {
			return err
		}
	}
	return nil
}

// look notes how the server fares.
func (r *run) look(result *Result, begin time.Time, t totals) error {
	m, err := r.moment(begin, t)
	result.timeline = append(result.timeline, m)
	return err
}

func (r *run) moment(begin time.Time, t totals) (moment, error) {
	u, err := proc.Of(r.server.PID())
	return moment{at: time.Since(begin), server: u, packets: t.Packets}, err
}

// watch notes how the server fares until the returned function is called, which returns what was noted.
func (r *run) watch(begin time.Time) (stop func() ([]moment, error)) {
	var list []moment
	var failed error
	end, done := make(chan struct{}), make(chan struct{})
	look := func() {
		if failed != nil {
			return
		}
		m, err := r.moment(begin, r.totals())
		list, failed = append(list, m), err
	}
	look()
	go func() { // awaited by stop
		defer close(done)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-end:
				if len(list) > 0 && time.Since(begin)-list[len(list)-1].at > lookEvery/2 {
					look()
				}
				return
			}
		}
	}()
	return func() ([]moment, error) {
		close(end)
		<-done
		return list, failed
	}
}

// fill works the figures out.
func (result *Result) fill(first, last totals, lost uint64, load, busy time.Duration) {
	from, to := result.timeline[0], result.timeline[len(result.timeline)-1]
	took := (to.at - from.at).Seconds()
	packets := float64(last.Packets - first.Packets)
	cpu := to.server.CPU() - from.server.CPU()

	result.DurationSeconds = took
	result.PacketsSent = last.sent - first.sent
	result.PacketsForwarded = last.Packets - first.Packets
	result.PacketsForwardedPerSecond = packets / took
	result.BitsForwardedPerSecond = 8 * float64(last.Bytes-first.Bytes) / took
	result.ServerCPURatio = cpu.Seconds() / took
	result.LoadCPURatio = load.Seconds() / took
	result.OthersCPURatio = max(0, (busy-load-cpu).Seconds()/took)
	if packets > 0 {
		result.ServerCPUNSPerPacket = float64(cpu) / packets
		result.ServerUserNSPerPacket = float64(to.server.User-from.server.User) / packets
		result.ServerSystemNSPerPacket = float64(to.server.System-from.server.System) / packets
		result.LossRatio = float64(lost) / (packets + float64(lost))
	}
	result.PacketsLost = lost
	result.PacketsRepaired = last.Repaired - first.Repaired
	result.PacketsDuplicate = last.Duplicates - first.Duplicates
	result.LatencySamples = len(result.latencies)
	result.LatencyP50, result.LatencyP99, result.LatencyMax = result.latencies.At(0.5), result.latencies.At(0.99), result.latencies.Max()
	for _, stays := range []quantile.Samples{result.stays, result.sounds} {
		for i := range stays {
			stays[i] = max(0, stays[i]-result.Loopback)
		}
	}
	result.StaySamples = len(result.stays)
	result.StayP50, result.StayP99 = result.stays.At(0.5), result.stays.At(0.99)
	result.StaySoundP99 = result.sounds.At(0.99)
}
