package sfu_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
)

func TestSubscribe(t *testing.T) {
	f := start(t)
	a, b := f.join("a", mic, camera), f.join("b", mic)
	am, ac := a.track(sfu.Microphone), a.track(sfu.Camera)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{am, "t0"}); !errors.Is(err, sfu.ErrNotFound) {
		t.Error(err)
	}
	if err := b.Subscribe(f.ctx, []sfu.TrackID{b.track(sfu.Microphone)}); !errors.Is(err, sfu.ErrNotFound) {
		t.Error(err)
	}
	// Wanted before it is offered, before either has answered: bound when both have.
	if err := b.Subscribe(f.ctx, []sfu.TrackID{am, ac, am}); err != nil {
		t.Fatal(err)
	}
	a.answer(1)
	if s := b.slots(); len(s) != 0 {
		t.Errorf("slots %v", s)
	}
	b.answer(1)
	if d := cmp.Diff(map[string]sfu.TrackID{"1": am, "4": ac}, b.slots()); d != "" {
		t.Error(d)
	}
	for _, s := range b.f.all("b", sfu.EventSlots)[0].Slots {
		if s.Track != "" && s.Participant != "a" {
			t.Errorf("%+v", s)
		}
	}
	if err := b.Unsubscribe(f.ctx, []sfu.TrackID{am, "t0"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]sfu.TrackID{"4": ac}, b.slots()); d != "" {
		t.Error(d)
	}
	infos, err := f.node.Conferences(f.ctx)
	if err != nil || len(infos) != 1 || len(infos[0].Endpoints) != 2 || infos[0].Endpoints[0].Tracks[1].Receivers != 1 || infos[0].Endpoints[1].Slots[0].MID != "4" {
		t.Errorf("%+v, %v", infos, err)
	}
	if err := a.Unpublish(f.ctx, ac); err != nil {
		t.Fatal(err)
	}
	if s := b.slots(); len(s) != 0 {
		t.Errorf("slots %v", s)
	}
	b.offer(1)
}

// Slots grow in threes, with one offer for as many as are missing, to fifty sections at most; what finds none waits for one.
func TestSlotGrowth(t *testing.T) {
	f := start(t, func(c *sfu.Config) { c.Loudest = 100 })
	b := f.join("b")
	b.answer(1)
	var tracks []sfu.TrackID
	for i := range 35 {
		a := f.join(sfu.ParticipantID(fmt.Sprint("a", i)), mic, music)
		a.answer(1)
		tracks = append(tracks, a.track(sfu.Microphone), a.track(sfu.ScreenAudio))
	}
	if err := b.Subscribe(f.ctx, tracks[:7]); err != nil {
		t.Fatal(err)
	}
	if s := b.slots(); len(s) != 3 {
		t.Errorf("%d slots in use", len(s))
	}
	o := b.offer(2)
	if n := count(o, sfu.Audio, sfu.SendOnly); n != 9 {
		t.Errorf("%d slots offered", n)
	}
	if err := b.Subscribe(f.ctx, tracks[7:9]); err != nil { // there is room for these in what was offered
		t.Fatal(err)
	}
	b.answer(2)
	b.offer(2)
	if s := b.slots(); len(s) != 9 {
		t.Errorf("%d slots in use", len(s))
	}
	if err := b.Subscribe(f.ctx, tracks); err != nil {
		t.Fatal(err)
	}
	o = b.answer(3)
	if len(o.Sections) != 50 || count(o, sfu.Video, sfu.SendOnly) != 3 {
		t.Errorf("%d sections", len(o.Sections))
	}
	b.offer(3)
	if s := b.slots(); len(s) != 47 {
		t.Errorf("%d slots in use", len(s))
	}
	if _, err := b.Publish(f.ctx, mic); !errors.Is(err, sfu.ErrTooMany) {
		t.Error(err)
	}
	if err := b.Unsubscribe(f.ctx, tracks[:30]); err != nil {
		t.Fatal(err)
	}
	if s := b.slots(); len(s) != 40 {
		t.Errorf("%d slots in use", len(s))
	}
	b.offer(3)
}

// A client that refuses slots is not offered more and more of them.
func TestSlotsRefused(t *testing.T) {
	f := start(t)
	a, b := f.join("a", camera), f.join("b")
	a.answer(1)
	o := b.offer(1)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Camera)}); err != nil {
		t.Fatal(err)
	}
	b.answer(1, func(a *sfu.Answer) {
		for i := range o.Sections {
			if o.Sections[i].Kind == sfu.Video {
				a.Sections[i] = sfu.AnswerSection{Rejected: true}
			}
		}
	})
	b.offer(1)
	// Another that has not the codec, likewise: its slots are free, more would be no better.
	c := f.join("c")
	if err := c.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Camera)}); err != nil {
		t.Fatal(err)
	}
	c.answer(1, func(a *sfu.Answer) {
		for i := range a.Sections {
			if len(a.Sections[i].Codecs) > 2 {
				a.Sections[i].Codecs = a.Sections[i].Codecs[2:3]
			}
		}
	})
	c.offer(1)
	if len(b.slots())+len(c.slots()) != 0 {
		t.Error("bound where it cannot be decoded")
	}
}

func TestConferenceEnds(t *testing.T) {
	f := start(t, func(c *sfu.Config) { c.MaxEndpoints, c.MaxSessions = 2, 4 })
	a, b := f.join("a", mic), f.join("b")
	conf := f.node.Conference("room")
	if _, err := conf.Join(f.ctx, sfu.JoinOptions{Participant: "a"}); !errors.Is(err, sfu.ErrConflict) {
		t.Error(err)
	}
	if _, err := conf.Join(f.ctx, sfu.JoinOptions{Participant: "c"}); !errors.Is(err, sfu.ErrTooMany) {
		t.Error(err)
	}
	// One that fails half-way leaves nothing, however often.
	for range 10 {
		_, err := f.node.Conference("other").Join(f.ctx, sfu.JoinOptions{Participant: "c", Publish: []sfu.Publish{mic, {Source: "nose"}}})
		if !errors.Is(err, sfu.ErrNotFound) {
			t.Error(err)
		}
	}
	a.answer(1)
	b.answer(1)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Microphone)}); err != nil {
		t.Fatal(err)
	}
	if len(b.slots()) != 1 {
		t.Error("not bound")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(b.slots()) != 0 {
		t.Error("a track without a publisher")
	}
	if _, err := a.Publish(f.ctx, mic); !errors.Is(err, sfu.ErrClosed) {
		t.Error(err)
	}
	a = f.join("a")
	if err := conf.Close(f.ctx); err != nil {
		t.Fatal(err)
	}
	st, err := f.node.Stats(f.ctx)
	if err != nil || st.Conferences != 0 || st.Endpoints != 0 || st.BuffersInUse != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, m := range []*member{a, b} {
		all := f.all(m.id, sfu.EventState)
		if last := all[len(all)-1]; last.State != sfu.StateClosed || last.Conference != "room" {
			t.Errorf("%+v", last)
		}
		if err := m.Answer(f.ctx, 1, sfu.Answer{}); !errors.Is(err, sfu.ErrClosed) {
			t.Error(err)
		}
	}
}

// What a cancelled caller asked for either has not happened or is his.
func TestCancelled(t *testing.T) {
	f := start(t)
	for i := range 200 {
		ctx, cancel := context.WithCancel(f.ctx)
		if i%2 == 0 {
			cancel()
		} else {
			go cancel()
		}
		e, err := f.node.Conference("room").Join(ctx, sfu.JoinOptions{Participant: "a"})
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
	}
	if st, err := f.node.Stats(f.ctx); err != nil || st.Endpoints != 0 {
		t.Errorf("%d endpoints that nobody owns, %v", st.Endpoints, err)
	}
}

func TestCloseWaits(t *testing.T) {
	before := runtime.NumGoroutine()
	f := start(t)
	a := f.join("a", mic)
	var running sync.WaitGroup
	for range 8 {
		running.Add(1)
		go func() {
			defer running.Done()
			for {
				if _, err := f.node.Stats(f.ctx); err != nil {
					if !errors.Is(err, sfu.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		}()
	}
	for range 2 {
		if err := f.node.Close(); err != nil {
			t.Error(err)
		}
	}
	running.Wait()
	if _, err := f.node.Conference("room").Join(f.ctx, sfu.JoinOptions{Participant: "z"}); !errors.Is(err, sfu.ErrClosed) {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	f.mu.Lock()
	last := f.events[len(f.events)-1]
	f.mu.Unlock()
	if last.State != sfu.StateClosed {
		t.Errorf("last event %+v", last)
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline.C:
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before: %s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		default:
			runtime.Gosched()
		}
	}
}

// TestManyCalls lets many participants come, publish, subscribe, answer and go at once.
func TestManyCalls(t *testing.T) {
	f := start(t)
	var all sync.WaitGroup
	for g := range 16 {
		all.Add(1)
		go func() {
			defer all.Done()
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			conf := f.node.Conference([]string{"x", "y"}[g%2])
			id := sfu.ParticipantID(fmt.Sprint("p", g))
			for range 10 {
				e, err := conf.Join(f.ctx, sfu.JoinOptions{Participant: id, Publish: []sfu.Publish{mic}})
				if err != nil {
					if !errors.Is(err, sfu.ErrConflict) && !errors.Is(err, sfu.ErrClosed) {
						t.Error(err)
					}
					continue
				}
				for range 20 {
					switch rnd.IntN(8) {
					case 0:
						_, _ = e.Publish(f.ctx, []sfu.Publish{camera, screen, music}[rnd.IntN(3)])
					case 1:
						own, _ := e.Tracks(f.ctx)
						for _, id := range own {
							_ = e.SetMuted(f.ctx, id, rnd.IntN(2) == 0)
						}
						_ = e.Unpublish(f.ctx, own[sfu.Camera])
					case 2:
						infos, _ := f.node.Conferences(f.ctx)
						for _, c := range infos {
							for _, x := range c.Endpoints {
								for _, tr := range x.Tracks {
									_ = e.Subscribe(f.ctx, []sfu.TrackID{tr.ID})
								}
							}
						}
					case 3:
						_ = e.Restart(f.ctx)
					case 4:
						if rnd.IntN(20) == 0 {
							_ = conf.Close(f.ctx)
						}
					default:
						f.mu.Lock()
						var o *sfu.Offer
						for _, ev := range f.events {
							if ev.Participant == id && ev.Type == sfu.EventOffer {
								o = ev.Offer
							}
						}
						f.mu.Unlock()
						if o == nil {
							continue
						}
						err := e.Answer(f.ctx, o.Number, accept(o, func(a *sfu.Answer) { a.ICE.Ufrag = strings.ReplaceAll(o.ICE.Ufrag, "=", "") }))
						if err != nil && !errors.Is(err, sfu.ErrStaleOffer) && !errors.Is(err, sfu.ErrClosed) && !errors.Is(err, sfu.ErrBadAnswer) {
							t.Error(err)
						}
					}
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if st, err := f.node.Stats(f.ctx); err != nil || st.Endpoints != 0 || st.Conferences != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	// Offers of one session are numbered without a gap, and one is outstanding at a time: checked by the order of their numbers.
	f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	last := make(map[sfu.ParticipantID]int)
	for _, e := range f.events {
		if e.Type != sfu.EventOffer {
			continue
		}
		if n := e.Offer.Number; n != 1 && n != last[e.Participant]+1 {
			t.Errorf("%s: offer %d after %d", e.Participant, n, last[e.Participant])
		}
		last[e.Participant] = e.Offer.Number
	}
}
