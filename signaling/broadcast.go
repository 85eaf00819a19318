package signaling

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// A broadcast is what viewers without a seat are shown of a room: one picture and the sound that belongs to it, chosen here.
//
// A stream that came by WHIP and is live is shown whole, the newest before older ones, so that a publisher who starts anew is followed
// at once. Without one it is the meeting that is shown: the newest shared screen, or the camera of who spoke last, or a host's, or the
// first; with everybody's microphone. What is chosen changes without a word to the viewers' clients.
//
// Nobody is watched in secret: as long as there are viewers, the broadcast has a seat of its own in the roster. A host who removes it
// sends the viewers away, and no more are let in while the meeting lasts.
type broadcast struct {
	seat *Session
	kick chan struct{} // holds one element when there may be something else to show
	quit chan struct{} // closed for the director to end …
	over chan struct{} // … and by it

	// Guarded by the room's lock.
	viewers map[sfu.ParticipantID]*viewer
	picture string // the track that is shown
}

// viewer is one of them.
type viewer struct {
	id       sfu.ParticipantID
	gone     chan struct{}
	cast     *broadcast
	endpoint Endpoint        // guarded by the room's lock; nil until it has joined
	ended    bool            // guarded by the room's lock
	shown    map[string]bool // the director's
}

// broadcastName is what the roster calls it.
const broadcastName = "Broadcast"

// Watch lets a viewer that offers see the room's broadcast.
func (s *Service) Watch(ctx context.Context, r StreamRequest) (*Stream, *sfu.Offer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p, ice, err := s.admitStream(ctx, &r, s.cfg.Streams.View)
	if err != nil {
		return nil, nil, err
	}
	room, v, refusal := s.admitViewer(p)
	if refusal != nil {
		return nil, nil, refusal
	}
	endpoint, answer, err := s.cfg.Media.JoinOffered(ctx, room.id, sfu.OfferedJoin{Participant: v.id, Offer: r.Offer})
	if err != nil {
		room.dismiss(s, v)
		return nil, nil, s.public(err, "take the offer")
	}
	if !room.seat(v, endpoint) {
		s.releaseViewer(v, endpoint)
		return nil, nil, refuse(wire.RoomClosed, "the broadcast was ended", "")
	}
	s.counters.views.Add(1)
	s.log.Info("signaling: viewer came", slog.String("room", room.id), slog.String("viewer", string(v.id)),
		slog.String("token", p.ID), slog.String("client", r.Client), slog.String("remote", r.Remote))
	return &Stream{
		svc: s, id: string(v.id), ice: ice, endpoint: endpoint, done: v.gone, close: func() { room.dismiss(s, v) },
	}, answer, nil
}

// admitViewer reserves a place, and begins the broadcast for the first one.
func (s *Service) admitViewer(p Principal) (*room, *viewer, *wire.Error) {
	r, refusal := s.enter(p.Room)
	if refusal != nil {
		return nil, nil, refusal
	}
	if _, refusal = s.enter(p.Room); refusal != nil { // for the broadcast's seat
		s.exit(r)
		return nil, nil, refusal
	}
	v := &viewer{id: sfu.ParticipantID(id.New("v_")), gone: make(chan struct{}), shown: map[string]bool{}}
	b, fresh, refusal := r.reserveViewer(s, v)
	if !fresh {
		s.exit(r)
	}
	if refusal != nil {
		s.exit(r)
		return nil, nil, refusal
	}
	s.viewers.Add(1)
	if fresh {
		s.register(b.seat)
		go r.conduct(s, b) // waited for by the end of the seat
	}
	return r, v, nil
}

func (r *room) reserveViewer(s *Service, v *viewer) (b *broadcast, fresh bool, refusal *wire.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, false, refuse(wire.RoomClosed, "the room was closed", "open a new meeting")
	case r.unwatched:
		return nil, false, refuse(wire.RoomClosed, "a host has ended the broadcast", "")
	case r.cast != nil && len(r.cast.viewers) >= s.cfg.Viewers:
		return nil, false, &wire.Error{Code: wire.RoomFull, Message: "there are too many viewers", Hint: "try again later", RetryAfterMs: 10000}
	}
	if b = r.cast; b == nil {
		b = &broadcast{
			kick: make(chan struct{}, 1), quit: make(chan struct{}), over: make(chan struct{}), viewers: map[sfu.ParticipantID]*viewer{},
		}
		b.seat = s.direct(r, Principal{Room: r.id, Role: wire.RoleParticipant}, broadcastName, &StreamRequest{Client: "whep"})
		b.seat.broadcast = b
		b.seat.seated = true
		r.cast, fresh = b, true
		r.members[b.seat.participant] = b.seat
		r.seated = append(r.seated, b.seat)
		r.report(b.seat, &wire.Joined{Participant: b.seat.describe()})
	}
	b.viewers[v.id], v.cast = v, b
	return b, fresh, nil
}

// seat lets a viewer be shown what there is. It fails when the viewer was sent away meanwhile.
func (r *room) seat(v *viewer, e Endpoint) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.ended {
		return false
	}
	v.endpoint = e
	r.recast()
	return true
}

// recast has the director look again. The room's lock is held.
func (r *room) recast() {
	if r.cast == nil {
		return
	}
	select {
	case r.cast.kick <- struct{}{}:
	default:
	}
}

// dismiss lets a viewer go, and ends the broadcast with the last one. The first call counts; later ones return at once.
func (r *room) dismiss(s *Service, v *viewer) {
	r.mu.Lock()
	if v.ended {
		r.mu.Unlock()
		return
	}
	v.ended = true
	endpoint := v.endpoint
	v.endpoint = nil
	r.mu.Unlock()
	if endpoint != nil {
		s.releaseViewer(v, endpoint)
	}
	b := v.cast
	r.mu.Lock()
	delete(b.viewers, v.id)
	last := len(b.viewers) == 0 && r.cast == b
	if last {
		r.cast = nil
	}
	r.mu.Unlock()
	s.viewers.Add(-1)
	close(v.gone)
	s.exit(r)
	if last {
		b.seat.end(ending{reason: wire.LeftLeave})
	}
}

func (s *Service) releaseViewer(v *viewer, e Endpoint) {
	if err := e.Close(); err != nil {
		s.log.Error("signaling: close an endpoint", slog.String("viewer", string(v.id)), slog.Any("error", err))
	}
}

// finish sends all viewers away and waits for the director. It is the end of the broadcast's seat.
func (b *broadcast) finish(r *room, s *Service) {
	r.mu.Lock()
	viewers := make([]*viewer, 0, len(b.viewers))
	for _, v := range b.viewers {
		viewers = append(viewers, v)
	}
	r.mu.Unlock()
	for _, v := range viewers {
		r.dismiss(s, v)
		<-v.gone // somebody else may be at it
	}
	close(b.quit)
	<-b.over
}

// conduct is the director: it shows every viewer what is to be seen, and again when that changes.
func (r *room) conduct(s *Service, b *broadcast) {
	defer close(b.over)
	for {
		select {
		case <-b.quit:
			return
		case <-b.kick:
		}
		type show struct {
			v *viewer
			e Endpoint
		}
		var shows []show
		r.mu.Lock()
		picture, tracks := r.program(b)
		for _, v := range b.viewers {
			if v.endpoint != nil {
				shows = append(shows, show{v, v.endpoint})
			}
		}
		r.mu.Unlock()
		for _, x := range shows {
			if err := x.v.show(x.e, picture, tracks); err != nil {
				_ = s.public(err, "show the broadcast")
			}
		}
	}
}

// program chooses the picture and all tracks that are shown. The room's lock is held.
func (r *room) program(b *broadcast) (picture string, tracks []string) {
	find := func(m *Session, sources ...wire.Source) *wire.Track {
		for _, source := range sources {
			for _, t := range m.tracks {
				if t.Source == source && t.Live && !t.Muted {
					return t
				}
			}
		}
		return nil
	}
	for i := len(r.seated) - 1; i >= 0; i-- { // a stream
		m := r.seated[i]
		if !m.direct || find(m, wire.Camera, wire.Screen, wire.Microphone, wire.ScreenAudio) == nil {
			continue
		}
		for _, t := range m.tracks {
			if t.Kind == wire.KindVideo && picture == "" {
				picture = t.ID
				tracks = append(tracks, t.ID)
			}
			if t.Kind == wire.KindAudio {
				tracks = append(tracks, t.ID)
			}
		}
		b.picture = picture
		return picture, tracks
	}
	var screen, stage, before, host, first *wire.Track
	for _, m := range r.seated {
		if t := find(m, wire.Screen); t != nil {
			screen = t // the newest participant's
		}
		t := find(m, wire.Camera)
		switch {
		case t == nil:
		case string(m.participant) == r.stage:
			stage = t
		case t.ID == b.picture:
			before = t
		case host == nil && m.principal.Role == wire.RoleHost:
			host = t
		case first == nil:
			first = t
		}
		for _, t := range m.tracks {
			if t.Kind == wire.KindAudio {
				tracks = append(tracks, t.ID)
			}
		}
	}
	for _, t := range []*wire.Track{screen, stage, before, host, first} {
		if t != nil {
			picture = t.ID
			tracks = append(tracks, t.ID)
			break
		}
	}
	b.picture = picture
	return picture, tracks
}

// show lets the viewer have these tracks and no others.
func (v *viewer) show(e Endpoint, picture string, tracks []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	var off []sfu.TrackID
	for t := range v.shown {
		if !slices.Contains(tracks, t) {
			off = append(off, sfu.TrackID(t))
			delete(v.shown, t)
		}
	}
	if len(off) > 0 {
		if err := e.Unsubscribe(ctx, off); err != nil {
			return ended(err)
		}
	}
	for _, t := range tracks {
		if v.shown[t] {
			continue
		}
		id := sfu.TrackID(t)
		if t == picture { // before it is bound, so that it begins at the size that it is shown at
			if err := e.SetViews(ctx, []sfu.View{{Track: id, Width: 1920, Height: 1080, Pinned: true}}); err != nil {
				return ended(err)
			}
		}
		switch err := ended(e.Subscribe(ctx, []sfu.TrackID{id})); {
		case err != nil:
			return err
		default:
			v.shown[t] = true
		}
	}
	return nil
}

// ended takes away what is no fault: the track, or the viewer, was quicker.
func ended(err error) error {
	var e *wire.Error
	if errors.As(err, &e) && (e.Code == wire.NotFound || e.Code == wire.SessionGone) {
		return nil
	}
	return err
}
