package signaling

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func TestJoin(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", true)
	if a.join.Role != wire.RoleHost || a.join.Room != w.room || len(a.join.Roster) != 1 || a.join.ResumeWindowMs != 30000 || a.join.HeartbeatMs != 10000 {
		t.Errorf("join.ok %+v", a.join)
	}
	want := wire.Limits{
		FrameBytes: 65536, ChatBytes: 2048, NameChars: 64, RequestsPerSecond: 50, RequestBurst: 100, QueuedEvents: 1024,
		Participants: 100, Publications: 8,
	}
	if diff := cmp.Diff(want, a.join.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	offer := see[*wire.Offer](a)
	if offer.Number != 1 || !strings.HasPrefix(offer.SDP, "v=0\r\n") || len(offer.Sections) != 2 || offer.Sections[0].Track != "" {
		t.Errorf("offer %+v", offer)
	}

	b := w.member(" Bo ", false, mic, camera)
	if b.join.Role != wire.RoleParticipant || len(b.join.Tracks) != 2 || b.join.Tracks[1].Source != wire.Camera {
		t.Errorf("join.ok %+v", b.join)
	}
	tracks := b.join.Tracks
	roster := []wire.Participant{
		{ID: a.join.Participant, Name: "Ada", Role: wire.RoleHost, Tracks: []wire.Track{}, Connected: true},
		{ID: b.join.Participant, Name: "Bo", Role: wire.RoleParticipant, Connected: true, Tracks: []wire.Track{
			{ID: tracks[0].Track, Source: wire.Microphone, Kind: wire.KindAudio, Codec: "opus"},
			{ID: tracks[1].Track, Source: wire.Camera, Kind: wire.KindVideo, Codec: "vp8", Simulcast: true},
		}},
	}
	if diff := cmp.Diff(roster, b.join.Roster); diff != "" {
		t.Errorf("roster (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(roster[1], see[*wire.Joined](a).Participant); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
	unseen[*wire.Joined](b)
	sections := see[*wire.Offer](b).Sections
	if diff := cmp.Diff(wire.OfferSection{MID: "1", Source: wire.Camera, Track: tracks[1].Track}, sections[1]); diff != "" {
		t.Errorf("section (-want +got):\n%s", diff)
	}
	b.refused(wire.Conflict, &wire.Join{Version: 1, Token: "x", Name: "x"})
	if st := w.svc.Stats(); st.Rooms != 1 || st.Sessions != 2 || st.Links != 2 || st.Joins != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestJoinRefusals(t *testing.T) {
	now := time.Now()
	w := newWorld(t, func(c *Config) { c.Participants = 1 })
	w.tokens.Now = func() time.Time { return now }
	good := w.joinToken(false)
	other, err := w.svc.OpenMeeting(t.Context(), Caller{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	closed, err := w.svc.JoinToken(t.Context(), other.Room, wire.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.svc.CloseRoom(t.Context(), other.Room); err != nil {
		t.Fatal(err)
	}
	c := w.connect()
	c.refused(wire.BadRequest, &wire.Ping{})
	c.refused(wire.UnsupportedVersion, &wire.Join{Version: 2, Token: good, Name: "x"})
	c.refused(wire.UnsupportedVersion, &wire.Resume{Version: 2})
	c.refused(wire.Unauthorized, &wire.Join{Version: 1, Token: "st1.a.b", Name: "x"})
	c.refused(wire.Unauthorized, &wire.Join{Version: 1, Token: w.host, Name: "x"})
	c.refused(wire.RoomClosed, &wire.Join{Version: 1, Token: closed.Token, Name: "x"})
	c.refused(wire.BadRequest, &wire.Join{Version: 1, Token: good, Name: " \t"})
	c.refused(wire.BadRequest, &wire.Join{Version: 1, Token: good, Name: "a\u202eb"})
	c.refused(wire.TooLarge, &wire.Join{Version: 1, Token: good, Name: strings.Repeat("é", 65)})
	c.refused(wire.UnsupportedCodec, &wire.Join{Version: 1, Token: good, Name: "x", Publish: []wire.Publication{{Source: wire.Microphone, Codec: "vp8"}}})
	c.refused(wire.SessionGone, &wire.Resume{Version: 1, Session: "s_x", ResumeToken: "x"})
	w.media.Fail("Join", errors.New("no memory"))
	c.refused(wire.Internal, &wire.Join{Version: 1, Token: good, Name: "x"})
	w.media.Fail("Join", nil)
	w.media.Fail("Tracks", &wire.Error{Code: wire.TooMany, Message: "m"})
	c.refused(wire.TooMany, &wire.Join{Version: 1, Token: good, Name: "x"})
	w.media.Fail("Tracks", nil)
	if st := w.svc.Stats(); st.Rooms != 0 || st.Sessions != 0 || w.media.Open() != 0 {
		t.Errorf("refused joins left something: %+v, %d endpoints", st, w.media.Open())
	}
	// The same connection may still join: each refusal left it as it was.
	must[*wire.JoinOK](c, &wire.Join{Version: 1, Token: good, Name: strings.Repeat("é", 64)})
	d := w.connect()
	d.refused(wire.RoomFull, &wire.Join{Version: 1, Token: good, Name: "x"})
	now = now.Add(SeatLife)
	d.refused(wire.TokenExpired, &wire.Join{Version: 1, Token: good, Name: "x"})
}

func TestTokenName(t *testing.T) {
	w := newWorld(t, nil)
	reply, err := w.svc.JoinToken(t.Context(), strings.ToUpper(w.room), wire.TokenRequest{Name: " Grace "})
	if err != nil {
		t.Fatal(err)
	}
	c := w.connect()
	ok := must[*wire.JoinOK](c, &wire.Join{Version: 1, Token: reply.Token, Name: "Mallory"})
	if ok.Roster[0].Name != "Grace" {
		t.Errorf("name %q", ok.Roster[0].Name)
	}
}

func TestMeetingsAndTokens(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	opener, expires, err := w.tokens.IssueOpener(time.Hour)
	if err != nil || time.Until(expires) > time.Hour {
		t.Fatal(err, expires)
	}
	for _, c := range []struct {
		caller Caller
		code   wire.Code
	}{
		{Caller{Loopback: true}, ""},
		{Caller{Bearer: "owner"}, ""},
		{Caller{Bearer: opener}, ""},
		{Caller{}, wire.Unauthorized},
		{Caller{Bearer: "owneR"}, wire.Unauthorized},
		{Caller{Bearer: w.host}, wire.Unauthorized},
		{Caller{Loopback: true, Bearer: "wrong"}, wire.Unauthorized}, // a wrong token is an error, whoever shows it
	} {
		m, err := w.svc.OpenMeeting(ctx, c.caller)
		if c.code == "" {
			if err != nil || m.Room == "" || m.HostToken == "" {
				t.Errorf("%+v: %+v, %v", c.caller, m, err)
			}
		} else if !errors.Is(err, &wire.Error{Code: c.code}) {
			t.Errorf("%+v: %v, want %s", c.caller, err, c.code)
		}
	}
	for _, c := range []struct {
		room string
		r    wire.TokenRequest
		code wire.Code
		role wire.Role
	}{
		{w.room, wire.TokenRequest{}, "", wire.RoleParticipant},
		{w.room, wire.TokenRequest{HostToken: w.host}, "", wire.RoleHost},
		{w.room, wire.TokenRequest{HostToken: opener}, wire.Unauthorized, ""},
		{w.room, wire.TokenRequest{Name: "a\x00"}, wire.BadRequest, ""},
		{"aaaaa-aaaaa-aaaaa-aaaaa-aaaaaa", wire.TokenRequest{}, wire.NotFound, ""},
	} {
		reply, err := w.svc.JoinToken(ctx, c.room, c.r)
		if c.code == "" {
			if err != nil || reply.Role != c.role {
				t.Errorf("%+v: %+v, %v", c.r, reply, err)
			}
			if left := time.Until(time.UnixMilli(reply.ExpiresAt)); left > SeatLife || left < SeatLife-2*time.Second {
				t.Errorf("token lives %v", left)
			}
		} else if !errors.Is(err, &wire.Error{Code: c.code}) {
			t.Errorf("%+v: %v, want %s", c.r, err, c.code)
		}
	}
	watch, err := w.svc.WatchToken(ctx, w.room, wire.WatchRequest{HostToken: w.host})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(time.UnixMilli(watch.ExpiresAt)); left > ViewLife || left < ViewLife-2*time.Second {
		t.Errorf("a token to watch lives %v", left)
	}
	if p, err := w.tokens.View(ctx, watch.Token, w.room); err != nil || p.Role != wire.RoleParticipant {
		t.Errorf("to watch: %+v, %v", p, err)
	}
	for what, use := range map[string]func(context.Context, string, string) (Principal, error){
		"publish": w.tokens.Ingest,
		"join":    func(ctx context.Context, text, _ string) (Principal, error) { return w.tokens.Seat(ctx, text) },
	} {
		if p, err := use(ctx, watch.Token, w.room); !errors.Is(err, &wire.Error{Code: wire.Unauthorized}) {
			t.Errorf("a token to watch lets %s: %+v, %v", what, p, err)
		}
	}
	for _, host := range []string{"", "x", opener, watch.Token} {
		if reply, err := w.svc.WatchToken(ctx, w.room, wire.WatchRequest{HostToken: host}); !errors.Is(err, &wire.Error{Code: wire.Unauthorized}) {
			t.Errorf("host token %q: %+v, %v", host, reply, err)
		}
	}
	second, err := w.svc.OpenMeeting(ctx, Caller{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.JoinToken(ctx, second.Room, wire.TokenRequest{HostToken: w.host}); !errors.Is(err, &wire.Error{Code: wire.Forbidden}) {
		t.Errorf("the host token of another room: %v", err)
	}
	if _, err := w.svc.WatchToken(ctx, second.Room, wire.WatchRequest{HostToken: w.host}); !errors.Is(err, &wire.Error{Code: wire.Forbidden}) {
		t.Errorf("the host token of another room: %v", err)
	}
}

func TestAdministration(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", true), w.member("Bo", false, mic)
	rooms := w.svc.Rooms()
	if len(rooms) != 1 || rooms[0].ID != w.room || len(rooms[0].Participants) != 2 || rooms[0].Participants[0].Remote != "198.18.0.9:1234" {
		t.Errorf("rooms %+v", rooms)
	}
	if _, ok := w.svc.Room("x"); ok {
		t.Error("an unknown room")
	}
	for _, c := range [][2]string{{"x", b.join.Participant}, {w.room, "x"}} {
		if err := w.svc.Remove(c[0], c[1]); !errors.Is(err, &wire.Error{Code: wire.NotFound}) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if err := w.svc.Remove(w.room, b.join.Participant); err != nil {
		t.Fatal(err)
	}
	if r := see[*wire.Removed](b).Reason; r != wire.RemovedByAdmin {
		t.Errorf("reason %s", r)
	}
	if b.closing == nil || b.closing.Code != wire.CloseRemoved {
		t.Errorf("closing %+v", b.closing)
	}
	if left := see[*wire.Left](a); left.Participant != b.join.Participant || left.Reason != wire.LeftRemoved {
		t.Errorf("left %+v", left)
	}
	if err := w.svc.CloseRoom(t.Context(), w.room); err != nil {
		t.Fatal(err)
	}
	if r := see[*wire.Removed](a).Reason; r != wire.RemovedClosed {
		t.Errorf("reason %s", r)
	}
	if err := w.svc.CloseRoom(t.Context(), w.room); !errors.Is(err, &wire.Error{Code: wire.RoomClosed}) {
		t.Errorf("closing it again: %v", err)
	}
	if st := w.svc.Stats(); st.Sessions != 0 || st.Rooms != 0 {
		t.Errorf("stats %+v", st)
	}
}

// A room that is closed while somebody waits for the media side lets nobody in.
func TestCloseRoomWhileJoining(t *testing.T) {
	w := newWorld(t, nil)
	release := w.media.Block("Tracks")
	c := w.connect()
	frame, err := wire.EncodeRequest(1, &wire.Join{Version: 1, Token: w.joinToken(false), Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	through := make(chan struct{})
	go func() {
		defer close(through)
		c.link.Receive(t.Context(), frame)
	}()
	<-w.media.Blocked()
	if err := w.svc.CloseRoom(t.Context(), w.room); err != nil {
		t.Fatal(err)
	}
	release()
	<-through
	c.drain()
	if f, ok := c.replies[1].(*wire.Failure); !ok || f.Error.Code != wire.RoomClosed {
		t.Errorf("reply %+v", c.replies[1])
	}
}

func TestStop(t *testing.T) {
	w := newWorld(t, nil)
	a, idle := w.member("Ada", true), w.connect()
	w.svc.Stop("upgrade", 1500*time.Millisecond)
	w.svc.Stop("again", 0)
	if e := see[*wire.Closing](a); e.Reason != "upgrade" || e.RetryAfterMs != 1500 {
		t.Errorf("closing %+v", e)
	}
	idle.drain()
	for _, c := range []*client{a, idle} {
		if c.closing == nil || c.closing.Code != wire.CloseGoingAway {
			t.Errorf("closing %+v", c.closing)
		}
	}
	if _, err := w.svc.Connect("x"); !errors.Is(err, &wire.Error{Code: wire.TooMany}) {
		t.Errorf("connecting to a stopping server: %v", err)
	}
	unseen[*wire.Left](a)
}

// Close waits for the front doors, and ends seats whose connection is lost.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.member("Ada", true), w.member("Bo", false)
		b.disconnect()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_ = w.svc.Close()
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed although a connection is there")
		default:
		}
		a.disconnect()
		<-closed
		if w.media.Open() != 0 {
			t.Errorf("%d endpoints", w.media.Open())
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Links, c.WaitingLinks = 3, 2 })
	a, b := w.connect(), w.connect()
	if _, err := w.svc.Connect("x"); !errors.Is(err, &wire.Error{Code: wire.TooMany}) {
		t.Errorf("a third that waits: %v", err)
	}
	must[*wire.JoinOK](a, &wire.Join{Version: 1, Token: w.joinToken(false), Name: "x"})
	w.connect()
	if _, err := w.svc.Connect("x"); !errors.Is(err, &wire.Error{Code: wire.TooMany}) {
		t.Errorf("a fourth: %v", err)
	}
	b.disconnect()
	b.link.Disconnect() // a second time does nothing
	w.connect()
}

func TestLateJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		late, joined := w.connect(), w.member("x", false)
		time.Sleep(15*time.Second + time.Millisecond)
		synctest.Wait()
		late.drain()
		joined.drain()
		if late.closing == nil || late.closing.Code != wire.CloseViolation {
			t.Errorf("closing %+v", late.closing)
		}
		if joined.closing != nil {
			t.Errorf("closing %+v", joined.closing)
		}
	})
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}, nil); err == nil {
		t.Error("a Service without media")
	}
}

func TestMediaEvents(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("Ada", true, mic), w.member("Bo", false)
	a.forget()
	b.forget()
	track := a.join.Tracks[0].Track

	a.endpoint().Live(track)
	a.endpoint().Live(track)
	a.endpoint().Live("t99")
	for _, c := range []*client{a, b} {
		if e := see[*wire.TrackLive](c); e.Track != track || e.Participant != a.join.Participant {
			t.Errorf("trackLive %+v", e)
		}
		unseen[*wire.TrackLive](c)
	}

	a.endpoint().State(sfu.StateDisconnected)
	if s := see[*wire.Media](a).State; s != wire.MediaDisconnected {
		t.Errorf("state %s", s)
	}
	unseen[*wire.Media](b)

	a.endpoint().Demand(track, 2)
	if d := see[*wire.Demand](a); d.Track != track || d.Layers != 2 {
		t.Errorf("demand %+v", d)
	}
	unseen[*wire.Demand](b) // nobody else's business
	b.endpoint().Quality(sfu.Quality{Track: sfu.TrackID(track), Grade: sfu.Poor}, sfu.Quality{Track: "t9", Grade: sfu.Good})
	want := []wire.TrackQuality{{Track: track, Grade: wire.GradePoor}, {Track: "t9", Grade: wire.GradeGood}}
	if diff := cmp.Diff(want, see[*wire.Quality](b).Tracks); diff != "" {
		t.Errorf("quality (-want +got):\n%s", diff)
	}
	unseen[*wire.Quality](a)

	for _, p := range []string{a.join.Participant, a.join.Participant, "p_unknown"} {
		b.endpoint().Speak(p)
	}
	if p := see[*wire.Speaker](b).Participant; p != a.join.Participant {
		t.Errorf("speaker %s", p)
	}
	unseen[*wire.Speaker](b)
	late := w.member("Cy", false)
	if p := see[*wire.Speaker](late).Participant; p != a.join.Participant {
		t.Errorf("speaker for a latecomer %s", p)
	}
	if !late.join.Roster[0].Tracks[0].Live {
		t.Error("the track is not live in the roster")
	}
	must[*wire.LeaveOK](a, &wire.Leave{})
	if p := see[*wire.Speaker](b).Participant; p != "" {
		t.Errorf("speaker %s although gone", p)
	}
	w.svc.Event(sfu.Event{Conference: "unknown", Type: sfu.EventSpeaker})
	w.svc.Event(sfu.Event{Conference: w.room, Type: sfu.EventSlots, Participant: "p_unknown"})
	w.svc.Event(sfu.Event{Conference: w.room, Type: sfu.EventOffer, Participant: "p_unknown", Offer: &sfu.Offer{}})
}

// A client that closes its peer connection has left, and gets its seat back neither by its connection nor by another.
func TestMediaClosedByClient(t *testing.T) {
	for name, connected := range map[string]bool{"connected": true, "within the resume window": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				a, b := w.member("Ada", true), w.member("Bo", false)
				endpoint := b.endpoint()
				if !connected {
					b.disconnect()
					time.Sleep(window / 2)
				}
				endpoint.State(sfu.StateClosed)
				synctest.Wait()
				if connected {
					if s := see[*wire.Media](b).State; s != wire.MediaClosed {
						t.Errorf("state %s", s)
					}
					if b.closing == nil || b.closing.Code != wire.CloseExpired {
						t.Errorf("closing %+v", b.closing)
					}
				}
				if l := see[*wire.Left](a); l.Reason != wire.LeftLeave || l.Participant != b.join.Participant {
					t.Errorf("left %+v", l)
				}
				if b.endpoint() != nil {
					t.Error("the endpoint lives on")
				}
				w.connect().refused(wire.SessionGone, b.resumption(0))
				time.Sleep(2 * window)
				synctest.Wait()
				unseen[*wire.Left](a)
				if st := w.svc.Stats(); st.Expired != 0 || st.Sessions != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestAnswer(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("Ada", true, camera)
	watcher := w.member("Bo", false)
	first := see[*wire.Offer](a)
	answer := fake.AnswerTo(first.SDP)
	a.refused(wire.StaleOffer, &wire.Answer{Number: 2, SDP: answer})
	a.refused(wire.StaleOffer, &wire.Answer{Number: 0, SDP: answer})
	if m := a.refused(wire.BadRequest, &wire.Answer{Number: 1, SDP: strings.Replace(answer, "a=ice-ufrag:abcd", "a=ice-ufrag:a", 1)}); !strings.Contains(m, "line 5") {
		t.Errorf("message %q does not name the line", m)
	}
	w.media.Fail("Answer", &wire.Error{Code: wire.BadRequest, Message: "does not fit"})
	a.refused(wire.BadRequest, &wire.Answer{Number: 1, SDP: answer})
	w.media.Fail("Answer", nil)
	must[*wire.AnswerOK](a, &wire.Answer{Number: 1, SDP: answer})
	if s := see[*wire.Media](a).State; s != wire.MediaConnected {
		t.Errorf("state %s", s)
	}
	a.refused(wire.StaleOffer, &wire.Answer{Number: 1, SDP: answer})

	must[*wire.RestartOK](a, &wire.Restart{})
	second := see[*wire.Offer](a)
	if second.Number != 2 || second.SDP == first.SDP {
		t.Errorf("offer %d after a restart", second.Number)
	}
	// The client may agree to less than was asked: the roster says what came out of it.
	watcher.forget()
	must[*wire.AnswerOK](a, &wire.Answer{Number: 2, SDP: strings.NewReplacer("a=simulcast:send q;h;f\r\n", "", "a=rid:h send\r\n", "", "a=rid:f send\r\n", "").Replace(fake.AnswerTo(second.SDP))})
	if p := see[*wire.Updated](watcher).Participant; p.Tracks[0].Simulcast {
		t.Errorf("updated %+v", p)
	}
}

func TestErrorsAreLoggedNotShown(t *testing.T) {
	w := newWorld(t, nil)
	e := w.svc.public(fmt.Errorf("secret path: %w", os.ErrNotExist), "do it")
	if e.Code != wire.Internal || strings.Contains(e.Message, "secret") {
		t.Errorf("%+v", e)
	}
}
