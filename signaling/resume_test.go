package signaling

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// A connection that comes back in time finds the same seat, no new offer, and every event that it missed.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.member("Ada", false, mic), w.member("Bo", false)
		a.forget()
		b.forget()
		seen := a.seq
		a.disconnect()
		if p := see[*wire.Updated](b).Participant; p.ID != a.join.Participant || p.Connected {
			t.Errorf("updated %+v", p)
		}
		for i := range 3 {
			must[*wire.ChatOK](b, &wire.Chat{Text: fmt.Sprint("line ", i)})
		}
		a.endpoint().Live(a.join.Tracks[0].Track)
		a.endpoint().Demand(a.join.Tracks[0].Track, 1)
		time.Sleep(window - time.Millisecond)
		again := a.resume(seen)
		for i := range 3 {
			if e := see[*wire.ChatLine](again); e.Text != fmt.Sprint("line ", i) {
				t.Errorf("line %d: %+v", i, e)
			}
		}
		see[*wire.TrackLive](again)
		if d := see[*wire.Demand](again); d.Track != a.join.Tracks[0].Track || d.Layers != 1 {
			t.Errorf("demand %+v", d)
		}
		unseen[*wire.Offer](again)
		if p := see[*wire.Updated](b).Participant; !p.Connected {
			t.Errorf("updated %+v", p)
		}
		unseen[*wire.Left](b)
		time.Sleep(2 * window)
		synctest.Wait()
		must[*wire.PingOK](again, &wire.Ping{})
		if st := w.svc.Stats(); st.Resumes != 1 || st.Expired != 0 || w.media.Open() != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// Who answers an offer has had it, and what came before it: none of that is kept.
func TestAnswerAcknowledges(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", false, mic)
	offer := see[*wire.Offer](a)
	seen := a.seq
	early := a.resume(0) // nothing is acknowledged yet: the offer comes again
	if again := see[*wire.Offer](early); again.SDP != offer.SDP {
		t.Errorf("offer %+v", again)
	}
	must[*wire.AnswerOK](early, &wire.Answer{Number: offer.Number, SDP: fake.AnswerTo(offer.SDP)})
	late := early.resume(seen)
	unseen[*wire.Offer](late)
	w.connect().refused(wire.SessionGone, late.resumption(0))
}

func TestSeatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.member("Ada", false), w.member("Bo", false)
		a.disconnect()
		// Coming and going again starts the window anew.
		time.Sleep(window - time.Millisecond)
		again := a.resume(0)
		again.disconnect()
		time.Sleep(window - time.Millisecond)
		synctest.Wait()
		unseen[*wire.Left](b)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if e := see[*wire.Left](b); e.Participant != a.join.Participant || e.Reason != wire.LeftExpired {
			t.Errorf("left %+v", e)
		}
		if a.endpoint() != nil {
			t.Error("the endpoint lives on")
		}
		w.connect().refused(wire.SessionGone, a.resumption(0))
		if st := w.svc.Stats(); st.Expired != 1 || st.Sessions != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestResumeRefusals(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", false)
	a.drain()
	c := w.connect()
	wrong := a.resumption(0)
	wrong.ResumeToken = "wrong"
	c.refused(wire.SessionGone, wrong)
	c.refused(wire.BadRequest, a.resumption(a.seq+1))
	c.refused(wire.BadRequest, a.resumption(-1))
	must[*wire.PingOK](a, &wire.Ping{}) // a's connection is untouched by all of it
}

// A second connection takes the seat over; the first is told so and can do nothing any more.
func TestTakeOver(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	a.drain()
	b.forget()
	second := a.resume(a.seq)
	a.drain()
	if a.closing == nil || a.closing.Code != wire.CloseTakenOver {
		t.Errorf("closing %+v", a.closing)
	}
	a.send(&wire.Chat{Text: "ghost"})
	a.disconnect()
	unseen[*wire.Updated](b) // never was it disconnected
	unseen[*wire.ChatLine](b)
	must[*wire.ChatOK](second, &wire.Chat{Text: "me"})
	if e := see[*wire.ChatLine](b); e.Text != "me" {
		t.Errorf("chat %+v", e)
	}
	second.refused(wire.Conflict, second.resumption(0))
}

// A request that was executed is not executed again when it comes again: its reply does.
func TestRequestsAreExecutedOnce(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	first := must[*wire.ChatOK](a, &wire.Chat{Text: "once"})
	id := a.id
	a.refused(wire.NotFound, &wire.Unpublish{Tracks: []string{"t99"}})
	b.forget()
	a.disconnect()
	again := a.resume(a.seq)
	again.sendAs(id, &wire.Chat{Text: "once"})
	again.sendAs(id+1, &wire.Unpublish{Tracks: []string{"t99"}})
	again.drain()
	if diff := cmp.Diff(first, again.replies[id]); diff != "" {
		t.Errorf("reply (-first +again):\n%s", diff)
	}
	if f, ok := again.replies[id+1].(*wire.Failure); !ok || f.Error.Code != wire.NotFound {
		t.Errorf("reply %+v", again.replies[id+1])
	}
	unseen[*wire.ChatLine](b)
}

// A request that is under way when its connection breaks goes on, and the next connection gets its reply.
func TestRequestUnderWay(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	a.forget()
	b.forget()
	seen := a.seq
	release := w.media.Block("Publish")
	frame, err := wire.EncodeRequest(77, &wire.Publish{Publications: []wire.Publication{mic}})
	if err != nil {
		t.Fatal(err)
	}
	var through sync.WaitGroup
	through.Go(func() { a.link.Receive(t.Context(), frame) })
	<-w.media.Blocked()
	again := a.resume(seen)
	through.Go(func() { again.link.Receive(t.Context(), frame) })
	release()
	through.Wait()
	again.drain()
	ok, is := again.replies[77].(*wire.PublishOK)
	if !is {
		t.Fatalf("reply %+v", again.replies[77])
	}
	if e := see[*wire.TrackAdded](b); e.Track.ID != ok.Tracks[0].Track {
		t.Errorf("trackAdded %+v", e)
	}
	unseen[*wire.TrackAdded](b)
	if calls := a.endpoint().Calls(); !slices.Equal(calls, []string{"Publish microphone"}) {
		t.Errorf("calls %v", calls)
	}
}

// The reply of a request so old that it is forgotten cannot be told; executing it again would be worse.
func TestForgottenReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := w.member("Ada", false)
		first := a.id + 1
		for range keptReplies + 1 {
			must[*wire.UnsubscribeOK](a, &wire.Unsubscribe{Tracks: []string{}})
			time.Sleep(20 * time.Millisecond)
		}
		for id, want := range map[int64]string{first: "error", first + 1: "unsubscribe.ok"} {
			delete(a.replies, id)
			a.sendAs(id, &wire.Unsubscribe{Tracks: []string{}})
			a.drain()
			if k := a.replies[id].Kind(); k != want {
				t.Errorf("id %d: %s, want %s", id, k, want)
			}
		}
	})
}

// A client that reads too slowly is cut, can resume, and loses nothing.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.QueuedEvents = 16 })
	a, b := w.member("Ada", false), w.member("Bo", false, mic)
	a.forget()
	seen := a.seq
	for i := range 18 {
		must[*wire.MuteOK](b, &wire.Mute{Track: b.join.Tracks[0].Track, Muted: i%2 == 0})
	}
	a.drain()
	if a.closing == nil || a.closing.Code != wire.CloseSlow || a.seq != seen {
		t.Errorf("closing %+v", a.closing)
	}
	if n := w.svc.Stats().Slow; n != 1 {
		t.Errorf("%d slow", n)
	}
	again := a.resume(seen)
	again.drain()
	if again.closing != nil || again.seq < seen+18 {
		t.Errorf("seq %d after %d, closing %+v", again.seq, seen, again.closing)
	}
	a.disconnect()
	must[*wire.PingOK](again, &wire.Ping{})
}

// What is not kept any more cannot be resumed: the seat is given up rather than left as a ghost.
func TestResumeWithGap(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.QueuedEvents = 4 })
	a, b := w.member("Ada", false), w.member("Bo", false, mic)
	a.drain()
	seen := a.seq
	a.disconnect()
	for i := range 9 {
		must[*wire.MuteOK](b, &wire.Mute{Track: b.join.Tracks[0].Track, Muted: i%2 == 0})
	}
	w.connect().refused(wire.SessionGone, a.resumption(seen))
	if e := see[*wire.Left](b); e.Participant != a.join.Participant || e.Reason != wire.LeftExpired {
		t.Errorf("left %+v", e)
	}
}

// What the client has acknowledged is forgotten.
func TestPingForgets(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", false)
	a.drain()
	must[*wire.PingOK](a, &wire.Ping{LastSeq: a.seq})
	must[*wire.PingOK](a, &wire.Ping{LastSeq: a.seq + 5}) // nonsense, ignored
	seen := a.seq
	a.disconnect()
	again := a.resume(seen)
	again.drain()
	again.disconnect()
	w.connect().refused(wire.SessionGone, a.resumption(0))
}

// The replies before an event that the client has seen are forgotten with it; what came after is still to be had.
func TestPingForgetsReplies(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	must[*wire.UnsubscribeOK](a, &wire.Unsubscribe{Tracks: []string{}})
	before := a.id
	a.drain()
	seen := a.seq
	must[*wire.ChatOK](b, &wire.Chat{Text: "seen"})
	a.drain()
	must[*wire.UnsubscribeOK](a, &wire.Unsubscribe{Tracks: []string{}})
	after := a.id
	must[*wire.PingOK](a, &wire.Ping{LastSeq: a.seq + 5}) // nonsense, ignored
	must[*wire.PingOK](a, &wire.Ping{LastSeq: seen})
	for _, step := range []struct {
		id   int64
		want string
	}{{before, "unsubscribe.ok"}, {after, "unsubscribe.ok"}, {0, ""}, {before, "error"}, {after, "unsubscribe.ok"}} {
		if step.id == 0 {
			must[*wire.PingOK](a, &wire.Ping{LastSeq: a.seq})
			continue
		}
		delete(a.replies, step.id)
		a.sendAs(step.id, &wire.Unsubscribe{Tracks: []string{}})
		a.drain()
		if k := a.replies[step.id].Kind(); k != step.want {
			t.Errorf("id %d: %s, want %s", step.id, k, step.want)
		}
	}
}

func TestEventLogBytes(t *testing.T) {
	l := eventLog{events: 1 << 20}
	body, err := wire.EncodeEvent(&wire.ChatLine{Text: string(make([]byte, 2048))})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 * queuedBytes / body.Len() {
		l.add(body)
	}
	if l.bytes > queuedBytes || l.bytes < queuedBytes/2 || len(l.kept)*body.Len() != l.bytes {
		t.Errorf("%d bytes in %d events", l.bytes, len(l.kept))
	}
}

// Random lives of many clients at once: nobody sees a gap, and nothing is left behind. The client harness checks every seq.
func TestManyClients(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("lives", func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.RequestBurst, c.Participants = 1000, 1000 })
		var all sync.WaitGroup
		for n := range 40 {
			tok := w.joinToken(n == 0)
			all.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				for range 5 {
					life(w, rng, tok)
				}
			})
		}
		all.Wait()
	})
	tick, late := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for runtime.NumGoroutine() > before { // those that have done their work may not have been seen off yet
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func life(w *world, rng *rand.Rand, tok string) {
	c := &client{w: w, replies: map[int64]wire.Reply{}}
	var err error
	if c.link, err = w.svc.Connect("x"); err != nil {
		w.t.Error(err)
		return
	}
	defer func() { c.disconnect() }()
	ok, is := c.ask(&wire.Join{Version: 1, Token: tok, Name: "n", Publish: []wire.Publication{mic}}).(*wire.JoinOK)
	if !is {
		w.t.Errorf("join: %+v", c.replies)
		return
	}
	c.join = ok
	for range 20 {
		switch rng.IntN(8) {
		case 0:
			c.ask(&wire.Publish{Publications: []wire.Publication{camera}})
		case 1:
			c.ask(&wire.Mute{Track: ok.Tracks[0].Track, Muted: rng.IntN(2) == 0})
		case 2:
			c.ask(&wire.Chat{Text: "x"})
		case 3:
			other := ok.Roster[rng.IntN(len(ok.Roster))]
			c.ask(&wire.Subscribe{Tracks: []string{other.Tracks[0].ID}})
		case 4:
			other := ok.Roster[rng.IntN(len(ok.Roster))]
			c.ask(&wire.Moderate{Action: wire.ActionMute, Participant: other.ID})
		case 5, 6:
			seen := c.seq
			if rng.IntN(2) == 0 {
				c.disconnect()
			}
			n := &client{w: w, id: c.id, seq: seen, join: ok, replies: map[int64]wire.Reply{}}
			if n.link, err = w.svc.Connect("x"); err != nil {
				w.t.Error(err)
				return
			}
			_, is := n.ask(c.resumption(seen)).(*wire.ResumeOK)
			c.disconnect()
			if c = n; !is {
				w.t.Errorf("resume: %+v", n.replies)
				return
			}
		case 7:
			c.ask(&wire.Ping{LastSeq: c.seq})
		}
	}
	if rng.IntN(2) == 0 {
		c.ask(&wire.Leave{})
	}
	if rng.IntN(2) == 0 {
		_ = w.svc.Remove(w.room, ok.Participant)
	}
}

func TestExpiryRacesResume(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			a := w.member("Ada", false)
			a.drain()
			a.disconnect()
			time.Sleep(window) // the timer fires in this very moment
			c := w.connect()
			c.seq = a.seq
			switch r := c.ask(a.resumption(a.seq)).(type) {
			case *wire.ResumeOK:
				synctest.Wait()
				c.join = a.join
				must[*wire.PingOK](c, &wire.Ping{})
			case *wire.Failure:
				if r.Error.Code != wire.SessionGone {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}
