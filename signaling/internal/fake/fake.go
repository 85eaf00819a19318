// Package fake is a media side for tests of the signaling: it makes offers, takes answers and binds slots as package sfu does, without
// a packet. Events come on the goroutine of the call that causes them, so that tests see them in a fixed order.
package fake

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu"
)

// Media holds the endpoints of all conferences. Set Observer before the first Join.
type Media struct {
	Observer interface{ Event(sfu.Event) }

	mu        sync.Mutex
	endpoints map[sfu.ParticipantID]*Endpoint
	tracks    int
	recording map[string]string // by conference: who began it
	fail      map[string]error
	block     map[string]chan struct{}
	blocked   chan string
}

// New returns a Media.
func New() *Media {
	return &Media{
		endpoints: map[sfu.ParticipantID]*Endpoint{}, recording: map[string]string{}, fail: map[string]error{}, block: map[string]chan struct{}{},
		blocked: make(chan string, 16),
	}
}

// Fail makes calls of that method fail; nil lets them pass again.
func (m *Media) Fail(method string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail[method] = err
}

// Block makes calls of that method wait until the function returned is called. Each call that waits says so on Blocked.
func (m *Media) Block(method string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{})
	m.block[method] = c
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.block, method)
		close(c)
	}
}

// Blocked gives the name of each method that began to wait.
func (m *Media) Blocked() <-chan string { return m.blocked }

// enter is the head of every call.
func (m *Media) enter(ctx context.Context, method string) error {
	m.mu.Lock()
	wait, err := m.block[method], m.fail[method]
	m.mu.Unlock()
	if wait != nil {
		m.blocked <- method
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// Open returns how many endpoints are not closed.
func (m *Media) Open() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.endpoints)
}

// Endpoint returns a participant's endpoint, nil if there is none.
func (m *Media) Endpoint(p string) *Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.endpoints[sfu.ParticipantID(p)]
}

// Join makes an endpoint and its first offer.
func (m *Media) Join(ctx context.Context, conference string, o sfu.JoinOptions) (*Endpoint, error) {
	if err := m.enter(ctx, "Join"); err != nil {
		return nil, err
	}
	e := &Endpoint{media: m, conference: conference, id: o.Participant, own: map[sfu.TrackID]*publication{}, changed: make(chan struct{}, 1)}
	m.mu.Lock()
	for _, p := range o.Publish {
		e.publish(p)
	}
	for _, k := range []sfu.Kind{sfu.Audio, sfu.Video} {
		e.sections = append(e.sections, sfu.Section{
			MID: strconv.Itoa(len(e.sections)), Kind: k, Direction: sfu.SendOnly, Codecs: codecs(k), SSRC: uint32(len(e.sections) + 1),
			CNAME: "c", StreamID: "s",
		})
	}
	m.endpoints[o.Participant] = e
	m.mu.Unlock()
	e.offer()
	return e, nil
}

// JoinOffered makes the endpoint of a client that offers. It takes every section.
func (m *Media) JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (*Endpoint, *sfu.Offer, error) {
	if err := m.enter(ctx, "JoinOffered"); err != nil {
		return nil, nil, err
	}
	e := &Endpoint{media: m, conference: conference, id: o.Participant, own: map[sfu.TrackID]*publication{}, changed: make(chan struct{}, 1), outstanding: true}
	m.mu.Lock()
	for i, cs := range o.Offer.Sections {
		if i < len(o.Sources) && o.Sources[i] != "" {
			e.publish(sfu.Publish{Source: o.Sources[i]})
		} else {
			e.sections = append(e.sections, sfu.Section{Kind: cs.Kind, Direction: sfu.SendOnly, SSRC: uint32(i + 1), CNAME: "c"})
		}
		e.sections[i].MID, e.sections[i].Codecs = cs.MID, cs.Codecs
	}
	m.endpoints[o.Participant] = e
	answer := e.describe()
	m.mu.Unlock()
	return e, answer, nil
}

// StartRecording notes that a conference is recorded.
func (m *Media) StartRecording(ctx context.Context, conference, by string) error {
	if err := m.enter(ctx, "StartRecording"); err != nil {
		return err
	}
	m.mu.Lock()
	m.recording[conference] = by
	m.mu.Unlock()
	m.Observer.Event(sfu.Event{Conference: conference, Type: sfu.EventRecording, Recording: &sfu.Recording{Active: true, By: by, StartedAt: time.UnixMilli(1000)}})
	return nil
}

// StopRecording ends it.
func (m *Media) StopRecording(ctx context.Context, conference string) error {
	if err := m.enter(ctx, "StopRecording"); err != nil {
		return err
	}
	m.EndRecording(conference, "stopped")
	return nil
}

// EndRecording ends a conference's recording for a reason of package record.
func (m *Media) EndRecording(conference, reason string) {
	m.mu.Lock()
	by := m.recording[conference]
	delete(m.recording, conference)
	m.mu.Unlock()
	m.Observer.Event(sfu.Event{Conference: conference, Type: sfu.EventRecording, Recording: &sfu.Recording{By: by, StartedAt: time.UnixMilli(1000), Reason: reason}})
}

type publication struct {
	sfu.Publish
	section int
}

// Endpoint is one participant's.
type Endpoint struct {
	media      *Media
	conference string
	id         sfu.ParticipantID
	changed    chan struct{}

	// Guarded by the Media's lock.
	own         map[sfu.TrackID]*publication
	sections    []sfu.Section
	slots       []sfu.TrackID
	number      int
	outstanding bool
	dirty       bool
	restarts    int
	calls       []string
	answers     []sfu.Answer
}

// Calls returns what was asked of the endpoint.
func (e *Endpoint) Calls() []string {
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	return slices.Clone(e.calls)
}

// Muted says whether an own track is muted.
func (e *Endpoint) Muted(t string) bool {
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	p := e.own[sfu.TrackID(t)]
	return p != nil && p.Muted
}

// Encrypted says whether an own track was published as encrypted end to end.
func (e *Endpoint) Encrypted(t string) bool {
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	p := e.own[sfu.TrackID(t)]
	return p != nil && p.Encrypted
}

func (e *Endpoint) call(ctx context.Context, method string, what ...any) error {
	if err := e.media.enter(ctx, method); err != nil {
		return err
	}
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	e.calls = append(e.calls, strings.TrimSpace(method+" "+fmt.Sprintln(what...)))
	return nil
}

func codecs(k sfu.Kind) []sfu.Codec {
	if k == sfu.Audio {
		return []sfu.Codec{{PayloadType: 111, Name: "opus", ClockRate: 48000, Channels: 2}}
	}
	return []sfu.Codec{{PayloadType: 96, Name: "VP8", ClockRate: 90000, RTX: 97}}
}

func (e *Endpoint) publish(p sfu.Publish) sfu.TrackID {
	e.media.tracks++
	id := sfu.TrackID("t" + strconv.Itoa(e.media.tracks))
	s := sfu.Section{
		MID: strconv.Itoa(len(e.sections)), Kind: p.Source.Kind(), Direction: sfu.RecvOnly, Source: p.Source, Track: id,
		Codecs: codecs(p.Source.Kind()),
	}
	if p.Simulcast {
		s.RIDs = []string{"q", "h", "f"}
	}
	e.own[id] = &publication{p, len(e.sections)}
	e.sections = append(e.sections, s)
	e.dirty = true
	return id
}

func (e *Endpoint) offer() {
	e.media.mu.Lock()
	if e.outstanding {
		e.media.mu.Unlock()
		return
	}
	e.number++
	e.outstanding, e.dirty = true, false
	o := e.describe()
	e.media.mu.Unlock()
	e.event(sfu.Event{Type: sfu.EventOffer, Offer: o})
}

// describe is called with the Media's lock held.
func (e *Endpoint) describe() *sfu.Offer {
	return &sfu.Offer{
		Number: e.number, ICE: e.ice(), Sections: slices.Clone(e.sections),
		Fingerprint: sfu.Fingerprint{Algorithm: "sha-256", Value: strings.TrimSuffix(strings.Repeat("AB:", 32), ":")},
	}
}

func (e *Endpoint) ice() sfu.ICEParams {
	return sfu.ICEParams{
		Ufrag: "ufrag" + strconv.Itoa(e.restarts), Pwd: "abcdefghijklmnopqrstuv",
		Candidates: []sfu.Candidate{{Addr: netip.MustParseAddrPort("198.18.0.1:5000"), Priority: 1, Foundation: "1"}},
	}
}

func (e *Endpoint) event(ev sfu.Event) {
	ev.Conference, ev.Participant = e.conference, e.id
	e.media.Observer.Event(ev)
}

// State reports a state of the transport.
func (e *Endpoint) State(s sfu.State) { e.event(sfu.Event{Type: sfu.EventState, State: s}) }

// Live reports the first packet of a track.
func (e *Endpoint) Live(t string) {
	e.event(sfu.Event{Type: sfu.EventTrackLive, Track: sfu.TrackID(t)})
}

// Speak reports who speaks in the endpoint's conference.
func (e *Endpoint) Speak(p string) {
	e.media.Observer.Event(sfu.Event{Conference: e.conference, Type: sfu.EventSpeaker, Speaker: sfu.ParticipantID(p)})
}

// Tracks returns the own tracks.
func (e *Endpoint) Tracks(ctx context.Context) (map[sfu.Source]sfu.TrackID, error) {
	if err := e.media.enter(ctx, "Tracks"); err != nil {
		return nil, err
	}
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	out := map[sfu.Source]sfu.TrackID{}
	for id, p := range e.own {
		out[p.Source] = id
	}
	return out, nil
}

// Publish adds a track.
func (e *Endpoint) Publish(ctx context.Context, p sfu.Publish) (sfu.TrackID, error) {
	if err := e.call(ctx, "Publish", p.Source); err != nil {
		return "", err
	}
	e.media.mu.Lock()
	id := e.publish(p)
	e.media.mu.Unlock()
	e.offer()
	return id, nil
}

// Unpublish ends a track.
func (e *Endpoint) Unpublish(ctx context.Context, t sfu.TrackID) error {
	if err := e.call(ctx, "Unpublish", t); err != nil {
		return err
	}
	e.media.mu.Lock()
	if p := e.own[t]; p != nil {
		e.sections[p.section].Direction, e.sections[p.section].Track = sfu.Inactive, ""
		delete(e.own, t)
	}
	e.media.mu.Unlock()
	e.offer()
	return nil
}

// Subscribe shows tracks in slots.
func (e *Endpoint) Subscribe(ctx context.Context, t []sfu.TrackID) error {
	if err := e.call(ctx, "Subscribe", t); err != nil {
		return err
	}
	e.media.mu.Lock()
	e.slots = append(e.slots, t...)
	e.media.mu.Unlock()
	e.bindings()
	return nil
}

// Unsubscribe frees slots.
func (e *Endpoint) Unsubscribe(ctx context.Context, t []sfu.TrackID) error {
	if err := e.call(ctx, "Unsubscribe", t); err != nil {
		return err
	}
	e.media.mu.Lock()
	e.slots = slices.DeleteFunc(e.slots, func(s sfu.TrackID) bool { return slices.Contains(t, s) })
	e.media.mu.Unlock()
	e.bindings()
	return nil
}

func (e *Endpoint) bindings() {
	var slots []sfu.Slot
	e.media.mu.Lock()
	for i, t := range e.slots {
		slot := sfu.Slot{MID: strconv.Itoa(i), Track: t}
		for _, other := range e.media.endpoints {
			if other.own[t] != nil {
				slot.Participant = other.id
			}
		}
		slots = append(slots, slot)
	}
	e.media.mu.Unlock()
	e.event(sfu.Event{Type: sfu.EventSlots, Slots: slots})
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// SetVideos notes the bound.
func (e *Endpoint) SetVideos(ctx context.Context, n int) error {
	return e.call(ctx, "SetVideos", n)
}

// SetViews notes how tracks are shown.
func (e *Endpoint) SetViews(ctx context.Context, v []sfu.View) error {
	return e.call(ctx, "SetViews", v)
}

// Demand says how many layers of an own track are wanted.
func (e *Endpoint) Demand(t string, layers int) {
	e.event(sfu.Event{Type: sfu.EventDemand, Track: sfu.TrackID(t), Layers: layers})
}

// Quality says how tracks fare.
func (e *Endpoint) Quality(q ...sfu.Quality) {
	e.event(sfu.Event{Type: sfu.EventQuality, Qualities: q})
}

// SetMuted mutes an own track.
func (e *Endpoint) SetMuted(ctx context.Context, t sfu.TrackID, muted bool) error {
	if err := e.call(ctx, "SetMuted", t, muted); err != nil {
		return err
	}
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	if p := e.own[t]; p != nil {
		p.Muted = muted
	}
	return nil
}

// OpenData notes that the endpoint is to have data channels.
func (e *Endpoint) OpenData(ctx context.Context) error { return e.call(ctx, "OpenData") }

// MuteData notes that the endpoint's data was muted.
func (e *Endpoint) MuteData(ctx context.Context, muted bool) error {
	return e.call(ctx, "MuteData", muted)
}

// Answer takes an answer and makes the next offer if there is more to offer.
func (e *Endpoint) Answer(ctx context.Context, number int, a sfu.Answer) error {
	if err := e.call(ctx, "Answer", number); err != nil {
		return err
	}
	e.media.mu.Lock()
	first := len(e.answers) == 0
	e.answers = append(e.answers, a)
	e.outstanding = false
	more := e.dirty
	e.media.mu.Unlock()
	if first {
		e.State(sfu.StateConnected)
	}
	if more {
		e.offer()
	}
	return nil
}

// Restart makes an offer with new credentials.
func (e *Endpoint) Restart(ctx context.Context) error {
	if err := e.call(ctx, "Restart"); err != nil {
		return err
	}
	e.media.mu.Lock()
	e.restarts++
	e.dirty = true
	e.media.mu.Unlock()
	e.offer()
	return nil
}

// RestartOffered makes new credentials.
func (e *Endpoint) RestartOffered(ctx context.Context, p sfu.ICEParams) (sfu.ICEParams, error) {
	if err := e.call(ctx, "RestartOffered", p.Ufrag); err != nil {
		return sfu.ICEParams{}, err
	}
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	e.restarts++
	return e.ice(), nil
}

// Changed says that what is shown has changed since it was last read.
func (e *Endpoint) Changed() <-chan struct{} { return e.changed }

// Shown returns the tracks that it is subscribed to.
func (e *Endpoint) Shown() []sfu.TrackID {
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	return slices.Clone(e.slots)
}

// Close ends the endpoint.
func (e *Endpoint) Close() error {
	if err := e.call(context.Background(), "Close"); err != nil {
		return err
	}
	e.media.mu.Lock()
	defer e.media.mu.Unlock()
	delete(e.media.endpoints, e.id)
	return nil
}

// AnswerTo is the answer of a client that agrees to an offer.
func AnswerTo(offer string) string {
	const head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:active\r\n"
	out := strings.Builder{}
	out.WriteString(head)
	out.WriteString("a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("00:", 32), ":") + "\r\n")
	for line := range strings.SplitSeq(offer, "\r\n") {
		switch {
		case strings.HasPrefix(line, "a=group"), strings.HasPrefix(line, "m="), strings.HasPrefix(line, "a=mid"), strings.HasPrefix(line, "a=rtpmap"),
			strings.HasPrefix(line, "a=fmtp"), line == "a=rtcp-mux", line == "a=inactive":
			out.WriteString(line + "\r\n")
		case strings.HasPrefix(line, "a=rid:"), strings.HasPrefix(line, "a=simulcast:"):
			out.WriteString(strings.Replace(line, "recv", "send", 1) + "\r\n")
		case line == "a=recvonly":
			out.WriteString("a=sendonly\r\n")
		case line == "a=sendonly":
			out.WriteString("a=recvonly\r\n")
		}
	}
	return out.String()
}
