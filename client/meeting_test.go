package client_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/client"
	irtp "github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// RTP goes from one client to another over the whole server, once with each protection profile: every packet, once, in order, under
// the slot's SSRC.
func TestForward(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for name, profile := range map[string]dtls.SRTPProtectionProfile{
		"AEAD_AES_128_GCM": dtls.SRTP_AEAD_AES_128_GCM, "AES128_CM_HMAC_SHA1_80": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
	} {
		t.Run(name, func(t *testing.T) {
			m := s.open(t)
			only := func(cfg *client.Config) { cfg.Profiles = []dtls.SRTPProtectionProfile{profile} }
			ann := m.join("Ann", with(publish(microphone, camera), only))
			bob := m.join("Bob", with(auto, only))
			talk(t, ann.Local(wire.Microphone), nil)
			talk(t, ann.Local(wire.Camera), nil)
			for _, who := range []*member{ann, bob} {
				if got := m.cipher(t, who.Participant()); got != "SRTP_"+name {
					t.Errorf("the server seals with %q, want %s", got, name)
				}
			}
			for source, clock := range map[wire.Source]uint32{wire.Microphone: audioClock, wire.Camera: videoClock} {
				stream := bob.stream(source)
				if stream.Participant != ann.Participant() || stream.Track.ID != ann.Local(source).ID() {
					t.Errorf("stream %+v is not that of Ann's %s", stream, source)
				}
				continuous(t, read(t, stream, 100), clock)
			}
		})
	}
}

// Both take GCM when neither is told what to take.
func TestPrefersGCM(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", nil)
	if got := m.cipher(t, ann.Participant()); got != "SRTP_AEAD_AES_128_GCM" {
		t.Errorf("the server seals with %q", got)
	}
}

// A muted track is not forwarded, although its owner goes on sending; afterwards it goes on with a key frame and without a gap.
func TestMute(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(camera))
	bob := m.join("Bob", auto)
	w := talk(t, ann.Local(wire.Camera), nil)
	stream := bob.stream(wire.Camera)
	before := read(t, stream, 20)
	continuous(t, before, videoClock)

	mute := func(muted bool) {
		t.Helper()
		must(t, "mute", func(ctx context.Context) error { return ann.Mute(ctx, ann.Local(wire.Camera), muted) })
		e := event[*wire.TrackMuted](bob, nil)
		if e.Muted != muted || e.By != ann.Participant() || e.Track != stream.Track.ID {
			t.Errorf("event %+v", e)
		}
	}
	mute(true)
	silenced := m.stats().Forward.Muted
	eventually(t, "packets to a muted track", func() bool { return m.stats().Forward.Muted > silenced+20 })
	last := before[len(before)-1]
	for len(stream.Packets()) > 0 { // what was on its way when the mute came
		last = receive(t, "packet", stream.Packets())
	}
	out := m.stats().Forward.PacketsOut
	eventually(t, "more packets to a muted track", func() bool { return m.stats().Forward.Muted > silenced+40 })
	if got := m.stats().Forward.PacketsOut; got != out {
		t.Errorf("%d packets of a muted track were forwarded", got-out)
	}

	asked := w.asked.Load()
	mute(false)
	after := read(t, stream, 20)
	continuous(t, after, videoClock)
	if !isKey(after[0]) || w.asked.Load() == asked {
		t.Errorf("does not go on with a key frame (%d asked for): %x", w.asked.Load()-asked, after[0].Payload)
	}
	if got := after[0].SequenceNumber; got != last.SequenceNumber+1 {
		t.Errorf("goes on with sequence number %d after %d", got, last.SequenceNumber)
	}
	if gap := int32(after[0].Timestamp - last.Timestamp); gap < 40*videoClock {
		t.Errorf("the timestamp went on by %d over the pause, want the time that passed", gap)
	}
}

// Who starts muted is heard after the first unmute only.
func TestStartMuted(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(client.Publication{Source: wire.Microphone, Muted: true}))
	bob := m.join("Bob", auto)
	talk(t, ann.Local(wire.Microphone), nil)
	eventually(t, "packets to a muted track", func() bool { return m.stats().Forward.Muted > 10 })
	if out := m.stats().Forward.PacketsOut; out != 0 {
		t.Errorf("%d packets forwarded", out)
	}
	if p := person(t, bob, "Ann"); !p.Tracks[0].Muted {
		t.Errorf("roster: %+v", p)
	}
	must(t, "unmute", func(ctx context.Context) error { return ann.Mute(ctx, ann.Local(wire.Microphone), false) })
	continuous(t, read(t, bob.stream(wire.Microphone), 10), audioClock)
}

// person returns somebody from the roster, as soon as they are in it.
func person(t *testing.T, m *member, name string) wire.Participant {
	t.Helper()
	var found wire.Participant
	eventually(t, name+" in the roster", func() bool {
		all := m.Roster()
		i := slices.IndexFunc(all, func(p wire.Participant) bool { return p.Name == name })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// A publisher who sends key frames on request only is asked for one by everybody who comes, and what they get begins with it.
func TestLateJoiner(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(camera))
	w := talk(t, ann.Local(wire.Camera), nil)
	eventually(t, "Ann's camera", func() bool { return w.sent.Load() > 50 })
	for _, name := range []string{"Bob", "Cat"} {
		asked := w.asked.Load()
		late := m.join(name, auto)
		packets := read(t, late.stream(wire.Camera), 20)
		continuous(t, packets, videoClock)
		if !isKey(packets[0]) {
			t.Errorf("%s's first packet begins no key frame", name)
		}
		if w.asked.Load() == asked {
			t.Errorf("nobody asked for a key frame for %s", name)
		}
	}
}

// The wish of a receiver reaches the publisher; many wishes are few requests.
func TestKeyFrameRequest(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(camera))
	bob := m.join("Bob", auto)
	w := talk(t, ann.Local(wire.Camera), nil)
	stream := bob.stream(wire.Camera)
	read(t, stream, 10)
	asked, sent := w.asked.Load(), m.stats().Forward.KeyRequestsOut
	for range 20 {
		if err := stream.RequestKeyFrame(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "key frame", stream.Packets(), isKey)
	eventually(t, "20 requests", func() bool { return m.stats().Forward.KeyRequestsIn >= 20 })
	if got := m.stats().Forward.KeyRequestsOut - sent; got < 1 || got > 3 {
		t.Errorf("20 requests became %d", got)
	}
	if w.asked.Load() == asked {
		t.Error("the publisher has heard nothing")
	}
}

// Tracks come and go: those who leave free their slots, which go on with others' tracks under the same SSRC and numbering; when
// there are too few, more are offered.
func TestSlots(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	bob := m.join("Bob", auto)
	var publishers []*member
	bySSRC := map[uint32]*client.Stream{}
	last := map[uint32]client.Packet{}
	for i := range 5 {
		p := m.join(string(rune('C'+i)), publish(camera))
		talk(t, p.Local(wire.Camera), func(w *talker) { w.from, w.base = uint16(1000*i), uint32(77777*i) })
		publishers = append(publishers, p)
	}
	for range publishers {
		s := bob.stream(wire.Camera)
		packets := read(t, s, 10)
		continuous(t, packets, videoClock)
		bySSRC[s.SSRC()], last[s.SSRC()] = s, packets[9]
	}
	if len(bySSRC) != 5 {
		t.Fatalf("five tracks in %d slots", len(bySSRC))
	}

	gone := publishers[0]
	must(t, "leave", gone.Leave)
	if e := event[*wire.Left](bob, nil); e.Participant != gone.Participant() || e.Reason != wire.LeftLeave {
		t.Errorf("event %+v", e)
	}
	var freed *client.Stream
	for _, s := range bySSRC {
		if s.Participant == gone.Participant() {
			freed = s
		}
	}
	for {
		p, ok := <-freed.Packets()
		if !ok {
			break
		}
		last[freed.SSRC()] = p
	}
	next := m.join("Next", publish(camera))
	talk(t, next.Local(wire.Camera), func(w *talker) { w.from, w.base = 40000, 1 })
	s := bob.stream(wire.Camera)
	if s.SSRC() != freed.SSRC() {
		t.Errorf("the track plays in a slot of its own although one was free")
	}
	// It begins with a key frame; before it may come what was still on its way of the old track.
	first := await(t, "key frame", s.Packets(), func(p client.Packet) bool {
		if !isKey(p) {
			last[s.SSRC()] = p
		}
		return isKey(p)
	})
	continuous(t, append([]client.Packet{first}, read(t, s, 9)...), videoClock)
	if before := last[s.SSRC()]; first.SequenceNumber != before.SequenceNumber+1 {
		t.Errorf("the slot goes on with number %d after %d", first.SequenceNumber, before.SequenceNumber)
	}
}

// A participant publishes, ends it, and publishes again in the same m-line; who subscribes by hand gets what they asked for.
func TestPublishAgain(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", nil)
	bob := m.join("Bob", nil)
	var old string
	for round, codec := range []string{"vp8", "vp8", "vp9"} {
		var track *client.LocalTrack
		must(t, "publish", func(ctx context.Context) error {
			var err error
			track, err = ann.Publish(ctx, client.Publication{Source: wire.Camera, Codec: codec})
			return err
		})
		added := event[*wire.TrackAdded](bob, nil)
		if added.Track.ID != track.ID() || added.Track.ID == old || added.Participant != ann.Participant() {
			t.Errorf("event %+v, want track %s", added, track.ID())
		}
		old = track.ID()
		must(t, "subscribe", func(ctx context.Context) error {
			missing, err := bob.Subscribe(ctx, track.ID(), "t_nobody's")
			if diff := cmp.Diff([]string{"t_nobody's"}, missing); diff != "" && err == nil {
				t.Errorf("missing: %s", diff)
			}
			return err
		})
		w := talk(t, track, func(w *talker) { w.codec = codec })
		stream := bob.stream(wire.Camera)
		continuous(t, read(t, stream, 10), videoClock)
		if round == 1 {
			must(t, "unsubscribe", func(ctx context.Context) error { return bob.Unsubscribe(ctx, track.ID()) })
			await(t, "end of the stream", drained(stream), func(struct{}) bool { return true })
		}
		w.quit()
		must(t, "unpublish", func(ctx context.Context) error { return ann.Unpublish(ctx, track) })
		if e := event[*wire.TrackRemoved](bob, nil); e.Track != old {
			t.Errorf("event %+v", e)
		}
		await(t, "end of the stream", drained(stream), func(struct{}) bool { return true })
	}
}

// Tracks that come and go faster than offers are answered leave the m-line to the last one.
func TestPublishQuickly(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann, bob := m.join("Ann", nil), m.join("Bob", auto)
	var last *client.LocalTrack
	for round := range 30 {
		if last != nil {
			must(t, "unpublish", func(ctx context.Context) error { return ann.Unpublish(ctx, last) })
		}
		must(t, "publish", func(ctx context.Context) error {
			var err error
			last, err = ann.Publish(ctx, client.Publication{Source: wire.Camera, Codec: []string{"vp8", "vp9", "h264"}[round%3]})
			return err
		})
	}
	talk(t, last, func(w *talker) { w.codec = "h264" })
	for {
		s := bob.stream(wire.Camera)
		if s.Track.ID != last.ID() {
			continue
		}
		continuous(t, read(t, s, 20), videoClock)
		return
	}
}

// drained says when a stream has ended.
func drained(s *client.Stream) <-chan struct{} {
	done := make(chan struct{}, 1)
	go func() {
		for range s.Packets() {
			continue
		}
		done <- struct{}{}
	}()
	return done
}

// Every codec is forwarded under its own payload type, and begins with what the server takes for a key frame.
func TestCodecs(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	for codec, pt := range map[string]uint8{"vp8": 96, "vp9": 98, "h264": 102, "av1": 45} {
		t.Run(codec, func(t *testing.T) {
			ann := m.join("Ann "+codec, publish(client.Publication{Source: wire.Camera, Codec: strings.ToUpper(codec)}))
			bob := m.join("Bob "+codec, nil)
			must(t, "subscribe", func(ctx context.Context) error {
				_, err := bob.Subscribe(ctx, ann.Local(wire.Camera).ID())
				return err
			})
			talk(t, ann.Local(wire.Camera), func(w *talker) { w.codec = codec })
			stream := bob.stream(wire.Camera)
			if got := person(t, bob, "Ann "+codec).Tracks[0].Codec; got != codec {
				t.Errorf("the roster says %s", got)
			}
			packets := read(t, stream, 20)
			continuous(t, packets, videoClock)
			for _, p := range packets {
				if p.PayloadType != pt {
					t.Fatalf("payload type %d, want %d", p.PayloadType, pt)
				}
			}
		})
	}
}

// What a client may not ask for is refused by name, and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(microphone))
	bob := m.join("Bob", nil)
	refused := func(what string, code wire.Code, err error) {
		t.Helper()
		if !errors.Is(err, &wire.Error{Code: code}) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	ctx := t.Context()
	refused("remove by a guest", wire.Forbidden, bob.Remove(ctx, ann.Participant()))
	refused("mute by a guest", wire.Forbidden, bob.MuteOther(ctx, ann.Participant(), ""))
	_, err := bob.Chat(ctx, "")
	refused("empty line", wire.BadRequest, err)
	_, err = bob.Chat(ctx, strings.Repeat("x", wire.MaxChatBytes+1))
	refused("long line", wire.TooLarge, err)
	if _, err := ann.Publish(ctx, microphone); err == nil {
		t.Error("a second microphone is published")
	}
	if _, err := ann.Publish(ctx, client.Publication{Source: wire.Camera, Codec: "opus"}); err == nil {
		t.Error("a picture in Opus is published")
	}
	_, err = client.Join(ctx, client.Config{URL: m.http.URL, TLS: m.tls, Room: "no-such-room", Name: "Eve"})
	refused("another room", wire.NotFound, err)
	_, err = client.Join(ctx, client.Config{URL: m.http.URL, TLS: m.tls, Token: "forged", Name: "Eve"})
	refused("forged token", wire.Unauthorized, err)
	_, err = client.Join(ctx, client.Config{URL: m.http.URL, TLS: m.tls, Room: m.Room, Name: "  "})
	refused("no name", wire.BadRequest, err)
	if _, err = client.Join(ctx, client.Config{URL: strings.Replace(m.http.URL, "https", "http", 1), Room: m.Room, Name: "Eve"}); err == nil {
		t.Error("joins without TLS")
	}
	if n := len(m.svc.Rooms()[0].Participants); n != 2 {
		t.Errorf("%d participants, want 2", n)
	}
}

// Chat goes to everybody, the sender included, in one order.
func TestChat(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann, bob := m.join("Ann", nil), m.join("Bob", nil)
	var want []string
	for i, from := range []*member{ann, bob, ann} {
		must(t, "chat", func(ctx context.Context) error {
			ok, err := from.Chat(ctx, strings.Repeat("こんにちは ", i+1))
			want = append(want, ok.ID)
			return err
		})
	}
	for _, who := range []*member{ann, bob} {
		var got []string
		for range want {
			e := event[*wire.ChatLine](who, nil)
			got = append(got, e.ID)
			if !strings.HasPrefix(e.Text, "こんにちは") || e.Name != "Ann" && e.Name != "Bob" {
				t.Errorf("line %+v", e)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines: %s", diff)
		}
	}
}

// A host mutes somebody, who may unmute again, and removes them.
func TestModeration(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	host := m.join("Host", m.host)
	ann := m.join("Ann", publish(microphone, camera))
	bob := m.join("Bob", auto)
	if host.Role() != wire.RoleHost || ann.Role() != wire.RoleParticipant {
		t.Errorf("roles %s, %s", host.Role(), ann.Role())
	}
	talk(t, ann.Local(wire.Microphone), nil)
	stream := bob.stream(wire.Microphone)
	read(t, stream, 10)
	must(t, "mute", func(ctx context.Context) error { return host.MuteOther(ctx, ann.Participant(), "") })
	for _, who := range []*member{ann, bob} {
		e := event[*wire.TrackMuted](who, nil)
		if !e.Muted || e.By != host.Participant() || e.Track != ann.Local(wire.Microphone).ID() {
			t.Errorf("event %+v", e)
		}
	}
	muted := m.stats().Forward.Muted
	eventually(t, "packets that are not forwarded", func() bool { return m.stats().Forward.Muted > muted+10 })
	must(t, "unmute", func(ctx context.Context) error { return ann.Mute(ctx, ann.Local(wire.Microphone), false) })
	for len(stream.Packets()) > 0 {
		receive(t, "packet", stream.Packets())
	}
	read(t, stream, 10)

	must(t, "remove", func(ctx context.Context) error { return host.Remove(ctx, ann.Participant()) })
	event[*wire.Removed](ann, nil)
	receive(t, "end of Ann", closing(ann))
	if err := ann.Err(); !errors.Is(err, client.ErrRemoved) {
		t.Errorf("Ann ends with %v", err)
	}
	if e := event[*wire.Left](bob, nil); e.Reason != wire.LeftRemoved {
		t.Errorf("event %+v", e)
	}
	if _, err := ann.Chat(t.Context(), "hello?"); !errors.Is(err, client.ErrRemoved) {
		t.Errorf("a removed client talks: %v", err)
	}
}

// closing turns Done into a message.
func closing(m *member) <-chan struct{} {
	ended := make(chan struct{}, 1)
	go func() {
		<-m.Done()
		ended <- struct{}{}
	}()
	return ended
}

// speak lets somebody send sound of a level, in -dBov, which may be changed.
func speak(t *testing.T, who *member, level uint32) *talker {
	t.Helper()
	track := who.Local(wire.Microphone)
	return talk(t, track, func(w *talker) {
		w.level.Store(level)
		w.dress = func(p *rtp.Packet) {
			ext := rtp.AudioLevelExtension{Level: uint8(w.level.Load()), Voice: true}
			b, err := ext.Marshal()
			if err == nil {
				err = p.SetExtension(track.ExtensionID(irtp.URIAudioLevel), b)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// The one who speaks louder and longer is the speaker; when all are silent, nobody is.
func TestSpeaker(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann, bob := m.join("Ann", publish(microphone)), m.join("Bob", publish(microphone))
	watch := m.join("Watch", nil)
	speak(t, ann, 80) // -80 dBov: as good as silent
	loud := speak(t, bob, 20)
	event(watch, func(e *wire.Speaker) bool { return e.Participant == bob.Participant() })
	loud.quit()
	speak(t, ann, 15).quit()
	event(watch, func(e *wire.Speaker) bool { return e.Participant == "" })
}

// Of more microphones than three the silent ones are not sent, and who begins to speak is, with about the first packet.
func TestLoudest(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	watch := m.join("Watch", auto)
	var talkers []*talker
	for i := range 5 {
		who := m.join("Talker "+strconv.Itoa(i), publish(microphone))
		talkers = append(talkers, speak(t, who, 127))
	}
	receivers := func() (sent, rest int) {
		infos, err := m.node.Conferences(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range infos[0].Endpoints {
			for _, s := range e.Slots {
				if s.Resting {
					rest++
				} else {
					sent++
				}
			}
		}
		return sent, rest
	}
	for range 5 {
		event[*wire.TrackLive](watch, nil)
	}
	eventually(t, "silence", func() bool { sent, _ := receivers(); return sent == 0 })
	ann := talkers[4] // the first three have slots from before there were more
	ann.level.Store(30)
	stream := await(t, "who speaks", watch.Streams(), func(s *client.Stream) bool { return s.Track.ID == ann.track.ID() })
	read(t, stream, 20)
	ann.level.Store(127)
	eventually(t, "rest", func() bool { sent, rest := receivers(); return sent == 0 && rest == 3 })
	for len(stream.Packets()) > 0 {
		receive(t, "packet", stream.Packets())
	}
	before := ann.sent.Load()
	eventually(t, "half a second of silence", func() bool { return ann.sent.Load() > before+50 })
	if n := len(stream.Packets()); n != 0 {
		t.Errorf("%d packets of a resting track", n)
	}
	before = ann.sent.Load()
	ann.level.Store(30)
	packets := read(t, stream, 20)
	continuous(t, packets, 480)
	first, _, _ := number(packets[0])
	t.Logf("the first packet that is heard is number %d of what is said", first-before)
	if first > before+20 {
		t.Errorf("the first %d packets are missing", first-before)
	}
}

// Everybody's roster is the same, whenever they came.
func TestRoster(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(microphone, client.Publication{Source: wire.Camera, Muted: true}))
	bob := m.join("Bob", publish(camera))
	must(t, "publish", func(ctx context.Context) error {
		_, err := ann.Publish(ctx, client.Publication{Source: wire.Screen})
		return err
	})
	must(t, "mute", func(ctx context.Context) error { return bob.Mute(ctx, bob.Local(wire.Camera), true) })
	talk(t, ann.Local(wire.Microphone), nil)
	event[*wire.TrackLive](bob, nil)
	late := m.join("Cat", nil)
	order := cmpopts.SortSlices(func(a, b wire.Track) bool { return a.ID < b.ID })
	want := late.Roster()
	for _, who := range []*member{ann, bob} {
		eventually(t, "the same roster", func() bool { return cmp.Equal(want, who.Roster(), order) })
	}
	if len(want) != 3 || len(want[0].Tracks) != 3 || !want[1].Tracks[0].Muted {
		t.Errorf("roster %+v", want)
	}
}

// A server that stops says so, and when to come back.
func TestServerStops(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", nil)
	m.svc.Stop("the server stops", 1500*time.Millisecond)
	if e := event[*wire.Closing](ann, nil); e.RetryAfterMs != 1500 {
		t.Errorf("event %+v", e)
	}
	receive(t, "end of Ann", closing(ann))
	if err := ann.Err(); !errors.Is(err, client.ErrStopping) {
		t.Errorf("Ann ends with %v", err)
	}
	if _, open := <-ann.Streams(); open {
		t.Error("streams come after the end")
	}
	if err := errors.Join(ann.Close(), ann.Close()); err != nil {
		t.Error(err)
	}
}

// A full room says so to the one who comes too late.
func TestFullRoom(t *testing.T) {
	t.Parallel()
	m := newServer(t, func(cfg *signaling.Config) { cfg.Participants = 1 }).open(t)
	m.join("Ann", nil)
	_, err := client.Join(t.Context(), client.Config{URL: m.http.URL, TLS: m.tls, Room: m.Room, Name: "Bob"})
	if !errors.Is(err, &wire.Error{Code: wire.RoomFull}) {
		t.Errorf("second seat of one: %v", err)
	}
}
