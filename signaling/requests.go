package signaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/sdp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// handle executes one request of the session, unless it was executed before: then its reply is sent again.
func (sess *Session) handle(l *Link, f wire.Frame) {
	if !sess.limiter.Allow() {
		l.reply(f.ID, &wire.Failure{Error: wire.Error{
			Code: wire.RateLimited, Message: "too many requests", Hint: "send fewer, and this one again later",
			RetryAfterMs: max(1, 1000/sess.svc.cfg.RequestsPerSecond),
		}})
		l.strike()
		return
	}
	// The connection before this one may still be at a request; it is at most requestTimeout away from its end.
	sess.turn <- struct{}{}
	defer func() { <-sess.turn }()

	frame, refusal := sess.executed(l, f.ID)
	switch {
	case refusal != nil:
		l.reply(f.ID, &wire.Failure{Error: *refusal})
		return
	case frame != nil:
		l.push(frame)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	reply, err := sess.execute(ctx, f.Request)
	if err != nil {
		reply = &wire.Failure{Error: *err}
	}
	frame, ok := sess.svc.encode(f.ID, reply)
	if !ok {
		return
	}
	sess.room.mu.Lock()
	if _, isPing := f.Request.(*wire.Ping); !isPing {
		sess.replies.add(f.ID, sess.events.last, frame)
	}
	l.push(frame) // dropped if another connection has taken over: it asks again
	sess.room.mu.Unlock()
	if _, leaves := f.Request.(*wire.Leave); leaves {
		sess.end(ending{reason: wire.LeftLeave, code: wire.CloseNormal, text: "left"})
	}
}

// executed looks a request up among the executed ones.
func (sess *Session) executed(l *Link, id int64) ([]byte, *wire.Error) {
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if sess.ended || sess.link != l {
		return nil, sessionGone()
	}
	frame, spent := sess.replies.find(id)
	if spent {
		return nil, refuse(wire.Conflict, fmt.Sprintf("id %d was used long ago", id), "number requests upwards")
	}
	return frame, nil
}

func (sess *Session) execute(ctx context.Context, r wire.Request) (wire.Reply, *wire.Error) {
	switch r := r.(type) {
	case *wire.Publish:
		return sess.publish(ctx, r)
	case *wire.Unpublish:
		return sess.unpublish(ctx, r)
	case *wire.Subscribe:
		return sess.subscribe(ctx, r)
	case *wire.Unsubscribe:
		return sess.unsubscribe(ctx, r)
	case *wire.View:
		return sess.view(ctx, r)
	case *wire.Data:
		return sess.openData(ctx)
	case *wire.Answer:
		return sess.answer(ctx, r)
	case *wire.Mute:
		return sess.mute(ctx, r)
	case *wire.Moderate:
		return sess.moderate(ctx, r)
	case *wire.RecordStart:
		return sess.record(ctx)
	case *wire.RecordStop:
		return sess.stopRecording(ctx)
	case *wire.Chat:
		return sess.chat(r)
	case *wire.Restart:
		return sess.restart(ctx)
	case *wire.Ping:
		return sess.ping(r)
	case *wire.Leave:
		return &wire.LeaveOK{}, nil
	}
	return nil, refuse(wire.Conflict, "this connection has joined already", "open another one for another session")
}

// codecs are what may be asked for, by the kind of media; the first is the default.
var codecs = map[sfu.Kind][]string{sfu.Audio: {"opus"}, sfu.Video: {"vp8", "vp9", "h264", "av1"}}

// publications checks what a client wants to publish beside the tracks that it has.
func publications(list []wire.Publication, have []*wire.Track) ([]sfu.Publish, *wire.Error) {
	if len(list)+len(have) > wire.MaxPublications {
		return nil, refuse(wire.TooMany, fmt.Sprintf("%d tracks, %d are allowed", len(list)+len(have), wire.MaxPublications), "unpublish some first")
	}
	used := map[wire.Source]bool{}
	for _, t := range have {
		used[t.Source] = true
	}
	publish := make([]sfu.Publish, 0, len(list))
	for _, p := range list {
		source := sfu.Source(p.Source)
		if used[p.Source] {
			return nil, refuse(wire.Conflict, "a second track of source "+string(p.Source), "unpublish the first one before")
		}
		used[p.Source] = true
		codec := strings.ToLower(p.Codec)
		if codec != "" && !slices.Contains(codecs[source.Kind()], codec) {
			return nil, refuse(wire.UnsupportedCodec, fmt.Sprintf("codec %q is not supported for %s", p.Codec, p.Source),
				"use one of "+strings.Join(codecs[source.Kind()], ", "))
		}
		if p.Simulcast && source.Kind() != sfu.Video {
			return nil, refuse(wire.BadRequest, "simulcast is for pictures, not for "+string(p.Source), "")
		}
		publish = append(publish, sfu.Publish{Source: source, Codec: codec, Simulcast: p.Simulcast, Muted: p.Muted, Encrypted: p.Encrypted})
	}
	return publish, nil
}

func newTrack(id sfu.TrackID, p sfu.Publish) *wire.Track {
	t := &wire.Track{
		ID: string(id), Source: wire.Source(p.Source), Kind: wire.Kind(p.Source.Kind().String()), Codec: p.Codec,
		Muted: p.Muted, Simulcast: p.Simulcast, Encrypted: p.Encrypted,
	}
	if t.Codec == "" {
		t.Codec = codecs[p.Source.Kind()][0]
	}
	return t
}

// media returns the endpoint for a request that needs it.
func (sess *Session) media() (Endpoint, *wire.Error) {
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if sess.ended {
		return nil, sessionGone()
	}
	return sess.endpoint, nil
}

func (sess *Session) publish(ctx context.Context, r *wire.Publish) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	if len(r.Publications) == 0 {
		return nil, refuse(wire.BadRequest, "field publications is empty", "")
	}
	sess.room.mu.Lock()
	publish, refusal := publications(r.Publications, sess.tracks)
	sess.room.mu.Unlock()
	if refusal != nil {
		return nil, refusal
	}
	ok := &wire.PublishOK{}
	var tracks []*wire.Track
	for _, p := range publish {
		id, err := endpoint.Publish(ctx, p)
		if err != nil { // all or nothing
			for _, t := range tracks {
				if err := endpoint.Unpublish(ctx, sfu.TrackID(t.ID)); err != nil {
					_ = sess.svc.public(err, "take back a publication")
				}
			}
			return nil, sess.svc.public(err, "publish")
		}
		tracks = append(tracks, newTrack(id, p))
		ok.Tracks = append(ok.Tracks, wire.OwnTrack{Source: wire.Source(p.Source), Track: string(id)})
	}
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if sess.ended {
		return nil, sessionGone()
	}
	sess.room.recast()
	for _, t := range tracks {
		sess.addTrack(t)
		sess.room.report(nil, &wire.TrackAdded{Participant: string(sess.participant), Track: *t})
	}
	return ok, nil
}

func (sess *Session) unpublish(ctx context.Context, r *wire.Unpublish) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	for _, id := range r.Tracks {
		if refusal := sess.own(id); refusal != nil {
			return nil, refusal
		}
	}
	for _, id := range r.Tracks {
		sess.room.mu.Lock()
		have := sess.track(id) != nil // named twice: gone by now
		sess.room.mu.Unlock()
		if !have {
			continue
		}
		if err := endpoint.Unpublish(ctx, sfu.TrackID(id)); err != nil {
			return nil, sess.svc.public(err, "unpublish")
		}
		sess.room.mu.Lock()
		sess.tracks = slices.DeleteFunc(sess.tracks, func(t *wire.Track) bool { return t.ID == id })
		delete(sess.room.owners, id)
		sess.room.recast()
		sess.room.report(nil, &wire.TrackRemoved{Participant: string(sess.participant), Track: id})
		sess.room.mu.Unlock()
	}
	return &wire.UnpublishOK{}, nil
}

// own checks that a track is the session's.
func (sess *Session) own(id string) *wire.Error {
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	switch owner, _ := sess.room.track(id); owner {
	case sess:
		return nil
	case nil:
		return refuse(wire.NotFound, "there is no such track", "")
	default:
		return refuse(wire.Forbidden, "the track is somebody else's", "hosts use moderate")
	}
}

func (sess *Session) subscribe(ctx context.Context, r *wire.Subscribe) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	ok := &wire.SubscribeOK{}
	var ids []sfu.TrackID
	sess.room.mu.Lock()
	for _, id := range r.Tracks {
		switch owner, _ := sess.room.track(id); owner {
		case nil:
			ok.Missing = append(ok.Missing, id)
		case sess:
			refusal = refuse(wire.BadRequest, "one cannot subscribe to an own track", "")
		default:
			ids = append(ids, sfu.TrackID(id))
		}
	}
	sess.room.mu.Unlock()
	if refusal != nil {
		return nil, refusal
	}
	if len(ids) == 0 {
		return ok, nil
	}
	err := endpoint.Subscribe(ctx, ids)
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.NotFound {
		return sess.subscribeEach(ctx, endpoint, ids, ok)
	}
	if err != nil {
		return nil, sess.svc.public(err, "subscribe")
	}
	return ok, nil
}

// subscribeEach is for when a track ended between the roster and the conference: the others must not suffer.
func (sess *Session) subscribeEach(ctx context.Context, endpoint Endpoint, ids []sfu.TrackID, ok *wire.SubscribeOK) (wire.Reply, *wire.Error) {
	for _, id := range ids {
		err := endpoint.Subscribe(ctx, []sfu.TrackID{id})
		var e *wire.Error
		switch {
		case err == nil:
		case errors.As(err, &e) && e.Code == wire.NotFound:
			ok.Missing = append(ok.Missing, string(id))
		default:
			return nil, sess.svc.public(err, "subscribe")
		}
	}
	return ok, nil
}

func (sess *Session) unsubscribe(ctx context.Context, r *wire.Unsubscribe) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	ids := make([]sfu.TrackID, len(r.Tracks))
	for i, id := range r.Tracks {
		ids[i] = sfu.TrackID(id)
	}
	if err := endpoint.Unsubscribe(ctx, ids); err != nil {
		return nil, sess.svc.public(err, "unsubscribe")
	}
	return &wire.UnsubscribeOK{}, nil
}

func (sess *Session) view(ctx context.Context, r *wire.View) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	views := make([]sfu.View, 0, len(r.Views))
	for i, v := range r.Views {
		if v.Width < 0 || v.Height < 0 || v.Width > wire.MaxPixels || v.Height > wire.MaxPixels {
			return nil, refuse(wire.BadRequest, fmt.Sprintf("field views[%d]: %d x %d is no size of a picture on a screen", i, v.Width, v.Height), "")
		}
		views = append(views, sfu.View{Track: sfu.TrackID(v.Track), Width: v.Width, Height: v.Height, Pinned: v.Pinned})
	}
	if r.Videos < 0 {
		return nil, refuse(wire.BadRequest, fmt.Sprintf("field videos: %d is no number of pictures", r.Videos), "")
	}
	if err := endpoint.SetViews(ctx, views); err != nil {
		return nil, sess.svc.public(err, "take the views")
	}
	if r.Videos > 0 {
		if err := endpoint.SetVideos(ctx, r.Videos); err != nil {
			return nil, sess.svc.public(err, "bound the pictures")
		}
	}
	return &wire.ViewOK{}, nil
}

func (sess *Session) answer(ctx context.Context, r *wire.Answer) (wire.Reply, *wire.Error) {
	sess.room.mu.Lock()
	endpoint, offer, answered, ended := sess.endpoint, sess.offer, sess.answered, sess.ended
	sess.room.mu.Unlock()
	switch {
	case ended:
		return nil, sessionGone()
	case offer == nil || r.Number != offer.Number || answered:
		return nil, refuse(wire.StaleOffer, fmt.Sprintf("offer %d is not outstanding", r.Number), "answer the newest offer")
	}
	a, err := sdp.ParseAnswer(r.SDP)
	if err != nil {
		return nil, refuse(wire.BadRequest, "field sdp: "+strings.TrimPrefix(err.Error(), "sdp: "), "send the answer as the browser made it")
	}
	if err := endpoint.Answer(ctx, r.Number, a); err != nil {
		return nil, sess.svc.public(err, "take the answer")
	}
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if sess.offer == offer { // else the next one has come already
		sess.answered = true
		sess.offer = &sfu.Offer{Number: offer.Number} // the rest, and the event with its text, is large and done with
		sess.events.forget(sess.offerSeq)
	}
	sess.settle(offer, &a)
	return &wire.AnswerOK{}, nil
}

// settle puts what an answer has decided about own tracks into the roster. The room's lock is held.
func (sess *Session) settle(o *sfu.Offer, a *sfu.Answer) {
	changed := false
	for i := range min(len(o.Sections), len(a.Sections)) {
		t := sess.track(string(o.Sections[i].Track))
		if t == nil || a.Sections[i].Rejected || len(a.Sections[i].Codecs) == 0 {
			continue
		}
		codec, simulcast := firstCodec(a.Sections[i].Codecs), len(a.Sections[i].RIDs) > 1
		changed = changed || codec != t.Codec || simulcast != t.Simulcast
		t.Codec, t.Simulcast = codec, simulcast
	}
	if changed {
		sess.room.report(nil, &wire.Updated{Participant: sess.describe()})
	}
}

// firstCodec names what is sent, which may be wrapped into redundancy.
func firstCodec(list []sfu.Codec) string {
	for _, c := range list {
		if name := strings.ToLower(c.Name); name != "red" {
			return name
		}
	}
	return codecs[sfu.Audio][0]
}

func (sess *Session) mute(ctx context.Context, r *wire.Mute) (wire.Reply, *wire.Error) {
	if refusal := sess.own(r.Track); refusal != nil {
		return nil, refusal
	}
	if refusal := sess.setMuted(ctx, []string{r.Track}, r.Muted, string(sess.participant)); refusal != nil {
		return nil, refusal
	}
	return &wire.MuteOK{}, nil
}

// turnToMute returns what is to be muted, when nobody else is at it: the owner and hosts may be at once, and the media side and the
// roster have to say the same afterwards.
func (sess *Session) turnToMute(ctx context.Context) (endpoint Endpoint, done func(), refusal *wire.Error) {
	select {
	case sess.muting <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, sess.svc.public(ctx.Err(), "mute")
	}
	done = func() { <-sess.muting }
	if endpoint, refusal = sess.media(); refusal != nil {
		done()
		return nil, nil, refuse(wire.NotFound, "the participant is gone", "")
	}
	return endpoint, done, nil
}

// setMuted mutes or unmutes tracks of the session in somebody's name.
func (sess *Session) setMuted(ctx context.Context, tracks []string, muted bool, by string) *wire.Error {
	endpoint, done, refusal := sess.turnToMute(ctx)
	if refusal != nil {
		return refusal
	}
	defer done()
	for _, id := range tracks {
		if err := endpoint.SetMuted(ctx, sfu.TrackID(id), muted); err != nil {
			return sess.svc.public(err, "mute")
		}
		sess.room.mu.Lock()
		if t := sess.track(id); t != nil && t.Muted != muted {
			t.Muted = muted
			sess.room.recast()
			sess.room.broadcast(&wire.TrackMuted{Participant: string(sess.participant), Track: id, Muted: muted, By: by})
		}
		sess.room.mu.Unlock()
	}
	return nil
}

func (sess *Session) moderate(ctx context.Context, r *wire.Moderate) (wire.Reply, *wire.Error) {
	if err := sess.svc.cfg.Policy.Moderate(ctx, sess.principal); err != nil {
		return nil, sess.svc.public(err, "decide who may moderate")
	}
	target := sess.room.member(r.Participant)
	if target == nil {
		return nil, refuse(wire.NotFound, "there is no such participant", "")
	}
	if target == sess {
		return nil, refuse(wire.BadRequest, "one does not moderate oneself", "use mute, or leave")
	}
	if r.Action == wire.ActionRemove {
		target.end(ending{reason: wire.LeftRemoved, final: &wire.Removed{Reason: wire.RemovedByHost}, code: wire.CloseRemoved, text: "removed"})
		return &wire.ModerateOK{}, nil
	}
	if r.Action == wire.ActionMuteData || r.Action == wire.ActionUnmuteData {
		if refusal := target.muteData(ctx, r.Action == wire.ActionMuteData); refusal != nil {
			return nil, refusal
		}
		return &wire.ModerateOK{}, nil
	}
	sess.room.mu.Lock()
	var tracks []string
	for _, t := range target.tracks {
		if t.ID == r.Track || r.Track == "" && t.Kind == wire.KindAudio {
			tracks = append(tracks, t.ID)
		}
	}
	sess.room.mu.Unlock()
	if r.Track != "" && len(tracks) == 0 {
		return nil, refuse(wire.NotFound, "the participant has no such track", "")
	}
	if refusal := target.setMuted(ctx, tracks, true, string(sess.participant)); refusal != nil {
		return nil, refusal
	}
	return &wire.ModerateOK{}, nil
}

func (sess *Session) chat(r *wire.Chat) (wire.Reply, *wire.Error) {
	if strings.TrimSpace(r.Text) == "" {
		return nil, refuse(wire.BadRequest, "field text is empty", "")
	}
	for _, c := range r.Text {
		if unprintable(c) && c != '\n' && c != '\t' {
			return nil, refuse(wire.BadRequest, "field text holds a control character", "")
		}
	}
	if !sess.chatLimiter.Allow() {
		return nil, &wire.Error{
			Code: wire.RateLimited, Message: "too many lines of chat", Hint: "send it again later, under a new id",
			RetryAfterMs: 1000 / chatPerSecond,
		}
	}
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if sess.ended {
		return nil, sessionGone()
	}
	line := wire.ChatLine{
		ID: sess.room.nextLine(), From: string(sess.participant), Name: sess.name, Text: r.Text, At: time.Now().UnixMilli(),
	}
	sess.room.broadcast(&line)
	return &wire.ChatOK{ID: line.ID, At: line.At}, nil
}

func (sess *Session) restart(ctx context.Context) (wire.Reply, *wire.Error) {
	endpoint, refusal := sess.media()
	if refusal != nil {
		return nil, refusal
	}
	if err := endpoint.Restart(ctx); err != nil {
		return nil, sess.svc.public(err, "restart ICE")
	}
	return &wire.RestartOK{}, nil
}

func (sess *Session) ping(r *wire.Ping) (wire.Reply, *wire.Error) {
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	sess.events.forget(r.LastSeq)
	if r.LastSeq <= sess.events.last {
		sess.replies.forget(r.LastSeq)
	}
	return &wire.PingOK{}, nil
}
