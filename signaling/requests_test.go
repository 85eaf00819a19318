package signaling

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func TestPublish(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	must[*wire.AnswerOK](a, &wire.Answer{Number: 1, SDP: fake.AnswerTo(see[*wire.Offer](a).SDP)})
	ok := must[*wire.PublishOK](a, &wire.Publish{Publications: []wire.Publication{mic, {Source: wire.Screen, Codec: "AV1", Muted: true}}})
	if len(ok.Tracks) != 2 || ok.Tracks[0].Source != wire.Microphone || ok.Tracks[1].Source != wire.Screen {
		t.Fatalf("publish.ok %+v", ok)
	}
	want := wire.Track{ID: ok.Tracks[1].Track, Source: wire.Screen, Kind: wire.KindVideo, Codec: "av1", Muted: true}
	for _, c := range []*client{a, b} {
		if e := see[*wire.TrackAdded](c); e.Track.ID != ok.Tracks[0].Track {
			t.Errorf("trackAdded %+v", e)
		}
		if diff := cmp.Diff(&wire.TrackAdded{Participant: a.join.Participant, Track: want}, see[*wire.TrackAdded](c)); diff != "" {
			t.Errorf("trackAdded (-want +got):\n%s", diff)
		}
	}
	a.refused(wire.Conflict, &wire.Publish{Publications: []wire.Publication{{Source: wire.ScreenAudio}, mic}})
	a.refused(wire.BadRequest, &wire.Publish{Publications: []wire.Publication{}})
	a.refused(wire.BadRequest, &wire.Publish{Publications: []wire.Publication{{Source: "eyes"}}})
	a.refused(wire.BadRequest, &wire.Publish{Publications: []wire.Publication{{Source: wire.ScreenAudio, Simulcast: true}}})
	a.refused(wire.UnsupportedCodec, &wire.Publish{Publications: []wire.Publication{{Source: wire.Camera, Codec: "opus"}}})
	a.refused(wire.TooMany, &wire.Publish{Publications: slices.Repeat([]wire.Publication{mic}, 9)})
	a.refused(wire.TooMany, &wire.Publish{Publications: slices.Repeat([]wire.Publication{mic}, 7)})

	b.refused(wire.Forbidden, &wire.Unpublish{Tracks: []string{ok.Tracks[0].Track}})
	a.refused(wire.NotFound, &wire.Unpublish{Tracks: []string{"t99"}})
	twice := []string{ok.Tracks[0].Track, ok.Tracks[0].Track}
	must[*wire.UnpublishOK](a, &wire.Unpublish{Tracks: twice})
	if e := see[*wire.TrackRemoved](b); e.Track != ok.Tracks[0].Track || e.Participant != a.join.Participant {
		t.Errorf("trackRemoved %+v", e)
	}
	late := w.member("Cy", false)
	if diff := cmp.Diff([]wire.Track{want}, late.join.Roster[0].Tracks); diff != "" {
		t.Errorf("roster (-want +got):\n%s", diff)
	}
}

// What a publisher declares to be encrypted end to end is so for the media side, at the join and later, and for everybody.
func TestPublishEncrypted(t *testing.T) {
	w := newWorld(t, nil)
	b := w.member("Bo", false)
	a := w.member("Ada", false, wire.Publication{Source: wire.Microphone, Encrypted: true}, camera)
	later := must[*wire.PublishOK](a, &wire.Publish{Publications: []wire.Publication{{Source: wire.Screen, Encrypted: true}}}).Tracks[0].Track
	e := w.media.Endpoint(a.join.Participant)
	for id, want := range map[string]bool{a.join.Tracks[0].Track: true, a.join.Tracks[1].Track: false, later: true} {
		if got := e.Encrypted(id); got != want {
			t.Errorf("%s: encrypted %t, want %t", id, got, want)
		}
	}
	joined := see[*wire.Joined](b).Participant.Tracks
	if !joined[0].Encrypted || joined[1].Encrypted || !see[*wire.TrackAdded](b).Track.Encrypted {
		t.Errorf("told %+v", joined)
	}
}

// Publishing is all or nothing: what was made before the failure is taken back.
func TestPublishFails(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", false)
	a.forget()
	w.media.Fail("Publish", errors.New("out of sections"))
	a.refused(wire.Internal, &wire.Publish{Publications: []wire.Publication{mic}})
	w.media.Fail("Publish", nil)

	release := w.media.Block("Publish")
	frame, err := wire.EncodeRequest(50, &wire.Publish{Publications: []wire.Publication{mic, camera}})
	if err != nil {
		t.Fatal(err)
	}
	through := make(chan struct{})
	go func() {
		defer close(through)
		a.link.Receive(t.Context(), frame)
	}()
	<-w.media.Blocked()
	w.media.Fail("Unpublish", errors.New("cannot even take back"))
	release()
	<-through
	must[*wire.PublishOK](a, &wire.Publish{Publications: []wire.Publication{{Source: wire.Screen}}})
	if _, ok := a.replies[50].(*wire.PublishOK); !ok {
		t.Errorf("reply %+v", a.replies[50])
	}
}

func TestSubscribe(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false, mic, camera), w.member("Bo", false)
	b.forget()
	sound, pictures := a.join.Tracks[0].Track, a.join.Tracks[1].Track
	ok := must[*wire.SubscribeOK](b, &wire.Subscribe{Tracks: []string{sound, "t99", pictures}})
	if diff := cmp.Diff([]string{"t99"}, ok.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	want := &wire.Slots{Slots: []wire.Slot{
		{MID: "0", Track: sound, Participant: a.join.Participant}, {MID: "1", Track: pictures, Participant: a.join.Participant},
	}}
	if diff := cmp.Diff(want, see[*wire.Slots](b)); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	a.refused(wire.BadRequest, &wire.Subscribe{Tracks: []string{sound}})
	b.refused(wire.TooMany, &wire.Subscribe{Tracks: slices.Repeat([]string{sound}, 65)})
	if ok := must[*wire.SubscribeOK](b, &wire.Subscribe{Tracks: []string{"t98"}}); len(ok.Missing) != 1 {
		t.Errorf("missing %v", ok.Missing)
	}

	// A track that ends between the roster and the conference is missing, and no fault.
	w.media.Fail("Subscribe", &wire.Error{Code: wire.NotFound, Message: "no such track"})
	if ok := must[*wire.SubscribeOK](b, &wire.Subscribe{Tracks: []string{sound, pictures}}); len(ok.Missing) != 2 {
		t.Errorf("missing %v", ok.Missing)
	}
	w.media.Fail("Subscribe", errors.New("broken"))
	b.refused(wire.Internal, &wire.Subscribe{Tracks: []string{sound}})
	w.media.Fail("Subscribe", nil)

	must[*wire.UnsubscribeOK](b, &wire.Unsubscribe{Tracks: []string{sound, "t99"}})
	if s := see[*wire.Slots](b).Slots; len(s) != 1 || s[0].Track != pictures {
		t.Errorf("slots %+v", s)
	}
	for _, method := range []string{"Unsubscribe", "Unpublish", "SetMuted", "Restart"} {
		w.media.Fail(method, errors.New("broken"))
	}
	b.refused(wire.Internal, &wire.Unsubscribe{Tracks: []string{sound}})
	a.refused(wire.Internal, &wire.Unpublish{Tracks: []string{sound}})
	a.refused(wire.Internal, &wire.Mute{Track: sound, Muted: true})
	a.refused(wire.Internal, &wire.Restart{})
	for _, method := range []string{"Unsubscribe", "Unpublish", "SetMuted", "Restart"} {
		w.media.Fail(method, nil)
	}
}

func TestView(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false, camera), w.member("Bo", false)
	pictures := a.join.Tracks[0].Track
	must[*wire.ViewOK](b, &wire.View{Views: []wire.TrackView{
		{Track: pictures, Width: 320, Height: 180, Pinned: true}, {Track: "t99"},
	}})
	calls := b.endpoint().Calls()
	if got, want := calls[len(calls)-1], "SetViews [{"+pictures+" 320 180 true} {t99 0 0 false}]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, v := range []wire.TrackView{{Width: -1, Height: 1}, {Width: 1, Height: -1}, {Width: 16385, Height: 1}, {Width: 1, Height: 16385}} {
		b.refused(wire.BadRequest, &wire.View{Views: []wire.TrackView{{Track: pictures, Width: 1, Height: 1}, v}})
	}
	b.refused(wire.TooMany, &wire.View{Views: make([]wire.TrackView, 65)})
	b.refused(wire.BadRequest, &wire.View{Views: []wire.TrackView{}, Videos: -1})
	if n := len(b.endpoint().Calls()); n != len(calls) {
		t.Errorf("%d calls for refused requests", n-len(calls))
	}
	w.media.Fail("SetViews", errors.New("broken"))
	b.refused(wire.Internal, &wire.View{})
	w.media.Fail("SetViews", nil)
	must[*wire.ViewOK](b, &wire.View{Views: []wire.TrackView{}, Videos: 9})
	calls = b.endpoint().Calls()
	if got, want := calls[len(calls)-1], "SetVideos 9"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	w.media.Fail("SetVideos", errors.New("broken"))
	b.refused(wire.Internal, &wire.View{Videos: 1})
	w.media.Fail("SetVideos", nil)
}

func TestMute(t *testing.T) {
	w := newWorld(t, nil)
	host, a := w.member("Host", true), w.member("Ada", false, mic, camera)
	sound, pictures := a.join.Tracks[0].Track, a.join.Tracks[1].Track
	muted := func(track string, is bool, by string) {
		t.Helper()
		want := &wire.TrackMuted{Participant: a.join.Participant, Track: track, Muted: is, By: by}
		for _, c := range []*client{host, a} {
			if diff := cmp.Diff(want, see[*wire.TrackMuted](c)); diff != "" {
				t.Errorf("trackMuted (-want +got):\n%s", diff)
			}
		}
		if a.endpoint().Muted(track) != is {
			t.Errorf("track %s is muted in the conference: %v", track, !is)
		}
	}
	must[*wire.MuteOK](a, &wire.Mute{Track: pictures, Muted: true})
	muted(pictures, true, a.join.Participant)
	must[*wire.MuteOK](a, &wire.Mute{Track: pictures, Muted: true}) // no change, no event
	unseen[*wire.TrackMuted](host)

	must[*wire.ModerateOK](host, &wire.Moderate{Action: wire.ActionMute, Participant: a.join.Participant})
	muted(sound, true, host.join.Participant)
	must[*wire.MuteOK](a, &wire.Mute{Track: sound})
	muted(sound, false, a.join.Participant)
	must[*wire.MuteOK](a, &wire.Mute{Track: pictures})
	muted(pictures, false, a.join.Participant)
	must[*wire.ModerateOK](host, &wire.Moderate{Action: wire.ActionMute, Participant: a.join.Participant, Track: pictures})
	muted(pictures, true, host.join.Participant)

	host.refused(wire.Forbidden, &wire.Mute{Track: sound, Muted: true})
	host.refused(wire.NotFound, &wire.Mute{Track: "t99"})
	host.refused(wire.NotFound, &wire.Moderate{Action: wire.ActionMute, Participant: a.join.Participant, Track: "t99"})
	host.refused(wire.NotFound, &wire.Moderate{Action: wire.ActionMute, Participant: "p_x"})
	host.refused(wire.BadRequest, &wire.Moderate{Action: wire.ActionRemove, Participant: host.join.Participant})
	host.refused(wire.BadRequest, &wire.Moderate{Action: "ban", Participant: a.join.Participant})
	a.refused(wire.Forbidden, &wire.Moderate{Action: wire.ActionMute, Participant: host.join.Participant})
	if a.endpoint().Muted(sound) {
		t.Error("a refused request muted")
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t, nil)
	host, a, b := w.member("Host", true), w.member("Ada", false, mic), w.member("Bo", false)
	a.refused(wire.Forbidden, &wire.Moderate{Action: wire.ActionRemove, Participant: b.join.Participant})
	must[*wire.ModerateOK](host, &wire.Moderate{Action: wire.ActionRemove, Participant: a.join.Participant})
	if r := see[*wire.Removed](a).Reason; r != wire.RemovedByHost {
		t.Errorf("reason %s", r)
	}
	if a.closing == nil || a.closing.Code != wire.CloseRemoved {
		t.Errorf("closing %+v", a.closing)
	}
	for _, c := range []*client{host, b} {
		if e := see[*wire.Left](c); e.Participant != a.join.Participant || e.Reason != wire.LeftRemoved {
			t.Errorf("left %+v", e)
		}
	}
	if a.endpoint() != nil {
		t.Error("the endpoint lives on")
	}
	again := w.connect()
	again.refused(wire.SessionGone, a.resumption(0))
	// A request on the way when the seat was lost finds nothing, and changes nothing.
	if reply := a.ask(&wire.Chat{Text: "still here?"}); reply != nil {
		t.Errorf("reply %+v", reply)
	}
	unseen[*wire.ChatLine](host)
}

func TestChat(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	ok := must[*wire.ChatOK](a, &wire.Chat{Text: "こんにちは\n<b>"})
	want := &wire.ChatLine{ID: ok.ID, From: a.join.Participant, Name: "Ada", Text: "こんにちは\n<b>", At: ok.At}
	for _, c := range []*client{a, b} {
		if diff := cmp.Diff(want, see[*wire.ChatLine](c)); diff != "" {
			t.Errorf("chat (-want +got):\n%s", diff)
		}
	}
	if second := must[*wire.ChatOK](b, &wire.Chat{Text: strings.Repeat("x", wire.MaxChatBytes)}); second.ID == ok.ID {
		t.Error("two lines under one id")
	}
	a.refused(wire.TooLarge, &wire.Chat{Text: strings.Repeat("x", wire.MaxChatBytes+1)})
	a.refused(wire.BadRequest, &wire.Chat{Text: " \n"})
	a.refused(wire.BadRequest, &wire.Chat{Text: "a\u202eb"})
	a.refused(wire.BadRequest, &wire.Chat{Text: "a\x1b[31m"})
}

func TestChatRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := w.member("Ada", false)
		for range chatBurst {
			must[*wire.ChatOK](a, &wire.Chat{Text: "x"})
		}
		a.refused(wire.RateLimited, &wire.Chat{Text: "x"})
		must[*wire.PingOK](a, &wire.Ping{})
		time.Sleep(time.Second / chatPerSecond)
		must[*wire.ChatOK](a, &wire.Chat{Text: "x"})
	})
}

func TestLeave(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", false), w.member("Bo", false)
	must[*wire.LeaveOK](a, &wire.Leave{})
	if a.closing == nil || a.closing.Code != wire.CloseNormal {
		t.Errorf("closing %+v", a.closing)
	}
	if e := see[*wire.Left](b); e.Participant != a.join.Participant || e.Reason != wire.LeftLeave {
		t.Errorf("left %+v", e)
	}
	if a.endpoint() != nil {
		t.Error("the endpoint lives on")
	}
	w.connect().refused(wire.SessionGone, a.resumption(0))
}

// Each limit answers its code, and who goes on regardless is cut.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := w.member("Ada", false)
		for range 100 {
			must[*wire.PingOK](a, &wire.Ping{})
		}
		reply := a.ask(&wire.Ping{}).(*wire.Failure)
		if reply.Error.Code != wire.RateLimited || reply.Error.RetryAfterMs != 20 {
			t.Errorf("reply %+v", reply)
		}
		time.Sleep(20 * time.Millisecond)
		must[*wire.PingOK](a, &wire.Ping{})
		for range strikeBurst {
			a.ask(&wire.Ping{})
		}
		if a.closing == nil || a.closing.Code != wire.CloseViolation {
			t.Errorf("closing %+v", a.closing)
		}
		if n := w.svc.Stats().Violations; n != 1 {
			t.Errorf("%d violations", n)
		}
	})
}

func TestMalformedFrames(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", false)
	for i, text := range []string{"", "{", `{"id":7,"type":"fly"}`, `{"id":8,"type":"chat"}`, strings.Repeat(" ", wire.MaxFrameBytes+1)} {
		a.link.Receive(t.Context(), []byte(text))
		a.drain()
		want := map[int]struct {
			id   int64
			code wire.Code
		}{2: {7, wire.BadRequest}, 3: {8, wire.BadRequest}, 4: {0, wire.TooLarge}}[i]
		if want.code == "" {
			want.code = wire.BadRequest
		}
		if f, ok := a.replies[want.id].(*wire.Failure); !ok || f.Error.Code != want.code {
			t.Errorf("%.30q: %+v", text, a.replies)
		}
		delete(a.replies, want.id)
	}
	for range strikeBurst {
		a.link.Receive(t.Context(), []byte("x"))
	}
	a.drain()
	if a.closing == nil || a.closing.Code != wire.CloseViolation {
		t.Errorf("closing %+v", a.closing)
	}
}

// Data channels can be asked for after the join, by who may have some; everybody is told, once.
func TestDataLater(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DataBytes = 1000 })
	b := w.member("Bo", false)
	a := w.member("Ada", false)
	if d := see[*wire.Joined](b).Participant.Data; d != "" {
		t.Errorf("joined with %q", d)
	}
	must[*wire.DataOK](a, &wire.Data{})
	must[*wire.DataOK](a, &wire.Data{})
	if p := see[*wire.Updated](b).Participant; p.ID != a.join.Participant || p.Data != wire.DataOpen {
		t.Errorf("updated %+v", p)
	}
	unseen[*wire.Updated](b)
	if calls := w.media.Endpoint(a.join.Participant).Calls(); !slices.Contains(calls, "OpenData") {
		t.Errorf("calls %q", calls)
	}
	if late := w.member("Cy", false); late.join.Roster[1].Data != wire.DataOpen {
		t.Errorf("roster %+v", late.join.Roster)
	}
	w.media.Fail("OpenData", errors.New("broken"))
	b.refused(wire.Internal, &wire.Data{})

	none := newWorld(t, nil)
	none.member("Ada", false).refused(wire.Forbidden, &wire.Data{})
}
