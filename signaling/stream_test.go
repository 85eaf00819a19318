package signaling

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// code is that of a refusal.
func code(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// soundAndPicture is an offer of one section each.
func soundAndPicture(d sfu.Direction) sfu.ClientOffer {
	o := sfu.ClientOffer{}
	for i, k := range []sfu.Kind{sfu.Audio, sfu.Video} {
		name := []string{"opus", "VP8"}[i]
		o.Sections = append(o.Sections, sfu.ClientSection{Kind: k, AnswerSection: sfu.AnswerSection{
			MID: name, Direction: d, Codecs: []sfu.Codec{{PayloadType: 96, Name: name}},
		}})
	}
	return o
}

func (w *world) stream(d sfu.Direction, change ...func(*StreamRequest)) (*Stream, error) {
	r := StreamRequest{Room: w.room, Caller: Caller{Loopback: true}, Remote: "198.18.0.9:1", Client: "test", Offer: soundAndPicture(d)}
	for _, f := range change {
		f(&r)
	}
	open := w.svc.Ingest
	if d == sfu.RecvOnly {
		open = w.svc.Watch
	}
	st, _, err := open(w.t.Context(), r)
	return st, err
}

// ingest publishes, and what it publishes is live.
func (w *world) ingest(name string) *Stream {
	w.t.Helper()
	st, err := w.stream(sfu.SendOnly, func(r *StreamRequest) { r.Name = name })
	if err != nil {
		w.t.Fatal(err)
	}
	w.live(st.ID())
	return st
}

// live has the first packets of everything that a participant publishes arrive.
func (w *world) live(participant string) {
	w.t.Helper()
	for _, t := range w.tracksOf(participant) {
		w.media.Endpoint(participant).Live(t)
	}
}

// tracksOf returns the ids of a participant's tracks, or of those of some sources.
func (w *world) tracksOf(participant string, sources ...wire.Source) (out []string) {
	w.t.Helper()
	info, _ := w.svc.Room(w.room)
	for _, p := range info.Participants {
		for _, t := range p.Tracks {
			if p.ID == participant && (len(sources) == 0 || slices.Contains(sources, t.Source)) {
				out = append(out, t.ID)
			}
		}
	}
	return out
}

func (w *world) watch() (*Stream, *fake.Endpoint) {
	w.t.Helper()
	st, err := w.stream(sfu.RecvOnly)
	if err != nil {
		w.t.Fatal(err)
	}
	return st, w.media.Endpoint(st.ID())
}

// shows waits until the viewer is shown these tracks and no others.
func (w *world) shows(e *fake.Endpoint, what string, tracks ...string) {
	w.t.Helper()
	slices.Sort(tracks)
	var got []string
	deadline := time.After(10 * time.Second)
	for {
		got = got[:0]
		for _, t := range e.Shown() {
			got = append(got, string(t))
		}
		slices.Sort(got)
		if slices.Equal(got, tracks) {
			return
		}
		select {
		case <-e.Changed():
		case <-deadline:
			w.t.Fatalf("%s: shows %v, want %v", what, got, tracks)
		}
	}
}

func (w *world) roster() string {
	info, _ := w.svc.Room(w.room)
	var names []string
	for _, p := range info.Participants {
		name := p.Name
		if !p.Connected {
			name += " (away)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

func TestBroadcastOfAMeeting(t *testing.T) {
	w := newWorld(t, nil)
	_, view := w.watch()
	w.shows(view, "nobody is there")
	ann := w.member("Ann", false, mic, camera)
	hal := w.member("Hal", true, mic, camera)
	bob := w.member("Bob", false, mic, camera)
	of := func(c *client, sources ...wire.Source) []string { return w.tracksOf(c.join.Participant, sources...) }
	sound := slices.Concat(of(ann, wire.Microphone), of(hal, wire.Microphone), of(bob, wire.Microphone))
	w.shows(view, "nothing is live", sound...)
	w.live(ann.join.Participant)
	w.shows(view, "the only picture", append(of(ann, wire.Camera), sound...)...)
	w.live(hal.join.Participant)
	w.live(bob.join.Participant)
	ann.endpoint().Speak(bob.join.Participant)
	w.shows(view, "who speaks", append(of(bob, wire.Camera), sound...)...)
	ann.endpoint().Speak("")
	if ok, isOK := ann.ask(&wire.Publish{Publications: []wire.Publication{{Source: wire.Screen}}}).(*wire.PublishOK); !isOK {
		t.Fatalf("publish: %+v", ok)
	}
	w.live(ann.join.Participant)
	w.shows(view, "a screen", append(of(ann, wire.Screen), sound...)...)
	ann.ask(&wire.Unpublish{Tracks: of(ann, wire.Screen)})
	w.shows(view, "who spoke last", append(of(bob, wire.Camera), sound...)...)
	bob.ask(&wire.Mute{Track: of(bob, wire.Camera)[0], Muted: true})
	w.shows(view, "a host", append(of(hal, wire.Camera), sound...)...)
	ann.ask(&wire.Leave{})
	w.shows(view, "those who stay", slices.Concat(of(hal, wire.Camera, wire.Microphone), of(bob, wire.Microphone))...)
	if got := w.roster(); got != "Broadcast,Hal,Bob" {
		t.Errorf("roster %s", got)
	}
}

func TestBroadcastOfAStream(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.member("Ann", false, mic, camera)
	w.live(ann.join.Participant)
	_, view := w.watch()
	first := w.ingest("One")
	w.shows(view, "the stream, and nothing of the meeting", w.tracksOf(first.ID())...)
	second, err := w.stream(sfu.SendOnly, func(r *StreamRequest) { r.Name = "Two" })
	if err != nil {
		t.Fatal(err)
	}
	w.shows(view, "one that is not live yet", w.tracksOf(first.ID())...)
	w.live(second.ID())
	w.shows(view, "the newest", w.tracksOf(second.ID())...)
	if got := w.roster(); got != "Ann,Broadcast,One,Two" {
		t.Errorf("roster %s", got)
	}
	w.media.Endpoint(second.ID()).State(sfu.StateFailed)
	<-second.Done()
	w.shows(view, "the one that is left", w.tracksOf(first.ID())...)
	first.Close()
	first.Close()
	w.shows(view, "the meeting", w.tracksOf(ann.join.Participant)...)
}

func TestViewersComeAndGo(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Viewers = 2 })
	one, e := w.watch()
	two, _ := w.watch()
	if _, err := w.stream(sfu.RecvOnly); code(err) != wire.RoomFull {
		t.Errorf("one too many: %v", err)
	}
	if st := w.svc.Stats(); st.Viewers != 2 || st.Views != 2 || w.roster() != "Broadcast" {
		t.Errorf("%+v, roster %s", st, w.roster())
	}
	if _, err := one.Restart(t.Context(), sfu.ICEParams{Ufrag: "new"}); err != nil || !slices.Contains(e.Calls(), "RestartOffered new") {
		t.Errorf("restart: %v, calls %v", err, e.Calls())
	}
	one.Close()
	one.Close()
	<-one.Done()
	w.media.Endpoint(two.ID()).State(sfu.StateClosed) // its goodbye
	<-two.Done()
	if st := w.svc.Stats(); st.Viewers != 0 {
		t.Errorf("%+v", st)
	}
	w.media.Fail("JoinOffered", errors.New("a fault"))
	if _, err := w.stream(sfu.RecvOnly); code(err) != wire.Internal {
		t.Errorf("media fails: %v", err)
	}
	if _, err := w.stream(sfu.SendOnly); code(err) != wire.Internal {
		t.Errorf("media fails: %v", err)
	}
	w.media.Fail("JoinOffered", nil)
	three, _ := w.watch() // the broadcast begins anew
	if w.roster() != "Broadcast" {
		t.Errorf("roster %s", w.roster())
	}
	if err := w.svc.CloseRoom(t.Context(), w.room); err != nil {
		t.Fatal(err)
	}
	<-three.Done()
	for _, d := range []sfu.Direction{sfu.RecvOnly, sfu.SendOnly} {
		if _, err := w.stream(d); code(err) != wire.RoomClosed {
			t.Errorf("%v of a closed room: %v", d, err)
		}
	}
}

func TestHostEndsTheBroadcast(t *testing.T) {
	w := newWorld(t, nil)
	hal := w.member("Hal", true)
	st, _ := w.watch()
	info, _ := w.svc.Room(w.room)
	seat := info.Participants[1].ID
	if p := see[*wire.Joined](hal).Participant; p.ID != seat || !p.Broadcast || len(p.Tracks) != 0 {
		t.Errorf("the seat of the broadcast: %+v", p)
	}
	if _, ok := hal.ask(&wire.Moderate{Participant: seat, Action: wire.ActionRemove}).(*wire.ModerateOK); !ok {
		t.Fatal("not removed")
	}
	<-st.Done()
	if _, err := w.stream(sfu.RecvOnly); code(err) != wire.RoomClosed {
		t.Errorf("another viewer: %v", err)
	}
	live := w.ingest("Live") // publishing is another thing …
	if _, ok := hal.ask(&wire.Moderate{Participant: live.ID(), Action: wire.ActionMute}).(*wire.ModerateOK); !ok {
		t.Error("a stream is not muted")
	}
	if tracks := w.tracksOf(live.ID(), wire.Microphone); !w.media.Endpoint(live.ID()).Muted(tracks[0]) {
		t.Error("still heard")
	}
	if _, ok := hal.ask(&wire.Moderate{Participant: live.ID(), Action: wire.ActionRemove}).(*wire.ModerateOK); !ok {
		t.Error("a stream is not removed")
	}
	<-live.Done()
}

func TestSourcesOfAnOffer(t *testing.T) {
	o := soundAndPicture(sfu.SendOnly)
	o.Sections = append(o.Sections, o.Sections...)
	o.Sections = append(o.Sections, o.Sections[0], sfu.ClientSection{Kind: sfu.Video, AnswerSection: sfu.AnswerSection{Direction: sfu.RecvOnly}})
	if got := sources(o.Sections, false); !slices.Equal(got, []sfu.Source{sfu.Microphone, sfu.Camera, sfu.ScreenAudio, sfu.Screen, "", ""}) {
		t.Errorf("%v", got)
	}
	if got := sources(o.Sections[:2], true); !slices.Equal(got, []sfu.Source{sfu.ScreenAudio, sfu.Screen}) {
		t.Errorf("%v of a screen", got)
	}
}

func TestStreamsNeedLeave(t *testing.T) {
	w := newWorld(t, nil)
	for _, d := range []sfu.Direction{sfu.RecvOnly, sfu.SendOnly} {
		if _, err := w.stream(d, func(r *StreamRequest) { r.Caller = Caller{} }); code(err) != wire.Unauthorized {
			t.Errorf("from elsewhere: %v", err)
		}
		if _, err := w.stream(d, func(r *StreamRequest) { r.Caller = Caller{Bearer: "x"} }); code(err) != wire.Unauthorized {
			t.Errorf("where no tokens are taken: %v", err)
		}
	}
}
