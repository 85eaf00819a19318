package sfu

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/sink"
	"github.com/sotto-edge/sotto/bench/internal/target"
	"github.com/sotto-edge/sotto/bench/netem"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// soakSamples are taken of the appliance over the time of the soak.
const soakSamples = 40

// turmoil is what happens to a load while it is soaked.
type turmoil struct {
	*run
	t                             *testing.T
	visits, views, mutes, changes atomic.Int64
}

// each does something again and again, at random distances of every on average, until the context ends.
func (x *turmoil) each(ctx context.Context, seed uint64, every time.Duration, f func(context.Context, *rand.Rand) error) {
	x.work.Go(func() {
		r := rand.New(rand.NewPCG(11, seed))
		for wait(ctx, time.Duration(r.Int64N(int64(2*every)))) {
			if err := f(ctx, r); err != nil && ctx.Err() == nil {
				x.t.Error(err)
				return
			}
		}
	})
}

// visit is somebody who joins, publishes or not, is heard by some of those who are there, hears all of them, and leaves.
func (x *turmoil) visit(ctx context.Context, r *rand.Rand) error {
	joining, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	media := target.Media{}
	if r.IntN(2) == 0 {
		media = target.Media{Sound: true, Pictures: true, Simulcast: x.load.simulcast}
	}
	at := r.IntN(len(x.rooms))
	v := &receiver{left: &x.left}
	s, err := x.join(joining, x.rooms[at], x.server.Local(), "Visitor", media, v)
	if err != nil {
		return err
	}
	v.seat = s
	staying, leave := context.WithTimeout(ctx, time.Second+time.Duration(r.IntN(6000))*time.Millisecond)
	defer leave()
	var work sync.WaitGroup
	if !media.None() {
		p := &publisher{load: x.load, seat: s, left: &x.left, rate: &x.rate, quiet: &x.quiet}
		work.Go(func() { _ = p.run(staying, 0) }) // the connection ends under it
		for i, other := range x.receivers {
			if i%len(x.rooms) == at {
				_, _ = other.seat.Receive(joining) // some of the tracks are of visitors who have left
			}
		}
	}
	_, _ = s.Receive(joining)
	talk(staying, func() []*receiver { return []*receiver{v} })
	work.Wait()
	x.visits.Add(1)
	return s.Close()
}

// look has a receiver show what it is sent in other sizes: none, small, large.
func (x *turmoil) look(ctx context.Context, r *rand.Rand) error {
	v := x.receivers[r.IntN(len(x.receivers))]
	c := target.Client(v.seat)
	var views []wire.TrackView
	for _, p := range c.Roster() {
		for _, t := range p.Tracks {
			if t.Source == wire.Camera && p.ID != c.Participant() {
				size := []int{0, 160, 640, 1280}[r.IntN(4)]
				views = append(views, wire.TrackView{Track: t.ID, Width: size, Height: size * 9 / 16})
			}
		}
	}
	x.views.Add(1)
	if err := c.SetViews(ctx, views...); err != nil && !errors.Is(err, &wire.Error{Code: wire.NotFound}) {
		return fmt.Errorf("views: %w", err)
	}
	return nil
}

// mute has a publisher be silent, or show nothing, for a moment.
func (x *turmoil) mute(ctx context.Context, r *rand.Rand) error {
	c := target.Client(x.publishers[r.IntN(len(x.publishers))].seat)
	track := c.Local([]wire.Source{wire.Microphone, wire.Camera}[r.IntN(2)])
	x.mutes.Add(1)
	if err := c.Mute(ctx, track, true); err != nil {
		return fmt.Errorf("mute: %w", err)
	}
	wait(ctx, time.Duration(r.IntN(3000))*time.Millisecond)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinLimit)
	defer cancel()
	if err := c.Mute(ending, track, false); err != nil {
		return fmt.Errorf("unmute: %w", err)
	}
	return nil
}

// impair makes the line of a receiver another one: narrow, lossy, or good.
func (x *turmoil) impair(_ context.Context, r *rand.Rand) error {
	bad := netem.Impairment{Delay: lineDelay}
	switch r.IntN(4) {
	case 0:
		bad.Rate, bad.QueueTime = 300_000+r.Uint64N(2_000_000), lineQueue
	case 1:
		bad.Loss = 0.1 * r.Float64()
	case 2:
		bad.Jitter = 20 * time.Millisecond
	}
	x.changes.Add(1)
	return x.lines[r.IntN(len(x.lines))].proxy.Play([]netem.Step{{Directions: []netem.Direction{netem.Down}, Impairment: bad}})
}

// held is what the appliance holds at a moment.
type held struct{ rss, goroutines, files float64 }

func (x *turmoil) held(ctx context.Context) held {
	m, err := target.Metrics(ctx, x.server)
	if err != nil {
		x.t.Fatal(err)
	}
	return held{m["process_resident_memory_bytes"], m["go_goroutines"], m["process_open_fds"]}
}

// TestSoakMedia: meetings with simulcast, half of the receivers behind lines that change, visitors who come and go, people who mute
// themselves and show others in other sizes. However long it takes, the appliance holds no more memory, goroutines and files, and
// seals no two packets under one index. SOTTO_SOAK gives a time, and with ten minutes and more the load takes 60 % of a core.
func TestSoakMedia(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while; without -short it runs")
	}
	lasts := 10 * time.Second
	if text := os.Getenv("SOTTO_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	l := load{
		scenario: "soak", rooms: 2, publishers: 3, receivers: 4, everybody: true, bitrate: 400_000, fps: 30, audio: true, simulcast: true, paced: true, lines: true,
		joining: 4, duration: lasts, srtp: "gcm",
	}
	if lasts >= 10*time.Minute {
		l.rooms, l.publishers, l.receivers, l.bitrate, l.aim = 6, 5, 6, 600_000, 0.6
	}
	if err := l.validate(); err != nil {
		t.Fatal(err)
	}
	x := &turmoil{t: t, run: &run{load: l, tell: t.Logf, failed: make(chan error, 1000)}}
	x.rate.Store(int64(l.bitrate))
	var err error
	if x.server, err = target.Start(t.Context(), target.Config{Binary: build(t, "../../cmd/sotto"), People: 4 * l.people()}); err != nil {
		t.Fatal(err)
	}
	x.pool = sink.NewPool(sink.SampleEvery)
	x.pool.Guard()
	working, stop := context.WithCancel(t.Context())
	x.stop = stop
	closed := sync.OnceValue(x.close)
	t.Cleanup(func() { _ = closed() })
	if err := x.publish(t.Context(), working); err != nil {
		t.Fatal(err)
	}
	x.work.Go(func() { talk(working, x.present) })
	result := newResult(l, target.Sotto)
	if err := x.receive(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	x.pool.Quiet(true)
	if err := x.aim(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.measureFor(working, lasts)
	if err := closed(); err != nil && !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

// measureFor lets the turmoil go on for so long, and judges.
func (x *turmoil) measureFor(ctx context.Context, lasts time.Duration) {
	t := x.t
	stirring, calm := context.WithCancel(ctx)
	defer calm()
	for i := range len(x.rooms) {
		x.each(stirring, uint64(i), 4*time.Second, x.visit)
	}
	x.each(stirring, 100, 500*time.Millisecond, x.look)
	x.each(stirring, 101, time.Second, x.mute)
	x.each(stirring, 102, time.Second, x.impair)

	before, err := proc.Of(x.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	from, began := x.totals(), time.Now()
	var samples []held
	for range soakSamples {
		if err := x.pause(t.Context(), lasts/soakSamples); err != nil {
			t.Fatal(err)
		}
		samples = append(samples, x.held(t.Context()))
	}
	after, err := proc.Of(x.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	took, to, indices := time.Since(began), x.totals(), x.pool.Indices()
	metrics, err := target.Metrics(t.Context(), x.server)
	if err != nil {
		t.Fatal(err)
	}
	calm()
	first, last := middle(samples[soakSamples/10:soakSamples*3/10]), middle(samples[soakSamples*8/10:])
	t.Logf("%s: %.1f %% of a core; %d packets arrived, %.0f a second, %d of them repaired; %d visits, %d changes of views, %d mutes, %d changes of lines",
		took.Round(time.Second), 100*(after.CPU()-before.CPU()).Seconds()/took.Seconds(), to.Packets-from.Packets,
		float64(to.Packets-from.Packets)/took.Seconds(), to.Repaired-from.Repaired, x.visits.Load(), x.views.Load(), x.mutes.Load(), x.changes.Load())
	t.Logf("indices %+v", indices)
	t.Logf("resident memory %.1f MB, then %.1f MB; goroutines %.0f, then %.0f; files %.0f, then %.0f",
		first.rss/1e6, last.rss/1e6, first.goroutines, last.goroutines, first.files, last.files)
	t.Logf("retransmitted %.0f, probes %.0f, paced %.0f, given up %.0f", metrics["sotto_sfu_forward_retransmitted_total"],
		metrics["sotto_sfu_forward_probes_total"], metrics["sotto_sfu_forward_paced_total"], metrics["sotto_sfu_forward_pacer_dropped_total"])

	if indices.Reused > 0 {
		t.Errorf("%d indices were used for two packets", indices.Reused)
	}
	if indices.Packets < 1000 || to.Packets-from.Packets < 1000 || x.views.Load() == 0 || x.mutes.Load() == 0 || x.changes.Load() == 0 {
		t.Error("that is no soak")
	}
	if lasts >= time.Minute { // before that it is still filling its pools
		if last.rss > 1.1*first.rss+4e6 {
			t.Errorf("resident memory has grown from %.1f to %.1f MB", first.rss/1e6, last.rss/1e6)
		}
		if x.visits.Load() == 0 || indices.Wraps == 0 && lasts >= 10*time.Minute {
			t.Error("nobody came, or no sequence number has gone round")
		}
	}
	// A visitor who is there takes a few; so does a request for metrics.
	slack := float64(10 + 6*len(x.rooms))
	if last.goroutines > first.goroutines+slack || last.files > first.files+slack {
		t.Errorf("goroutines %.0f, then %.0f; files %.0f, then %.0f", first.goroutines, last.goroutines, first.files, last.files)
	}
}

// middle is the median of each figure.
func middle(s []held) held {
	of := func(f func(held) float64) float64 {
		var all []float64
		for _, h := range s {
			all = append(all, f(h))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return held{of(func(h held) float64 { return h.rss }), of(func(h held) float64 { return h.goroutines }), of(func(h held) float64 { return h.files })}
}
