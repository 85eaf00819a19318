package failover

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
)

// Join implements signaling.Media: people join at whichever node has the conference.
func (l *Lab) Join(ctx context.Context, conference string, o sfu.JoinOptions) (signaling.Endpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	node := l.first
	if l.over {
		node = l.second
	}
	e, err := node.Conference(conference).Join(ctx, o)
	if err != nil {
		return nil, err
	}
	return l.take(ctx, conference, o.Participant, e), nil
}

// JoinOffered implements signaling.Media.
func (l *Lab) JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (signaling.Endpoint, *sfu.Offer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	node := l.first
	if l.over {
		node = l.second
	}
	e, answer, err := node.Conference(conference).JoinOffered(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	return l.take(ctx, conference, o.Participant, e), answer, nil
}

// take gives an endpoint its seat. The lock is held.
func (l *Lab) take(ctx context.Context, conference string, p sfu.ParticipantID, e *sfu.Endpoint) *seat {
	s := &seat{lab: l, conference: conference}
	s.e.Store(e)
	if l.seats[conference] == nil {
		l.seats[conference] = make(map[sfu.ParticipantID]*seat)
	}
	l.seats[conference][p] = s
	l.copy(ctx, conference)
	return s
}

// seat is the endpoint of one participant, wherever it is.
type seat struct {
	lab        *Lab
	conference string
	e          atomic.Pointer[sfu.Endpoint]
}

// do calls the endpoint, and once more where the conference went to if it changed hands meanwhile. Then it copies what changed.
func (s *seat) do(ctx context.Context, f func(e *sfu.Endpoint) error) error {
	e := s.e.Load()
	err := f(e)
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	if now := s.e.Load(); now != e && (errors.Is(err, sfu.ErrAway) || errors.Is(err, sfu.ErrClosed)) {
		err = f(now)
	}
	s.lab.copy(ctx, s.conference)
	return err
}

// Tracks implements signaling.Endpoint, as do the methods below.
func (s *seat) Tracks(ctx context.Context) (out map[sfu.Source]sfu.TrackID, err error) {
	err = s.do(ctx, func(e *sfu.Endpoint) error { out, err = e.Tracks(ctx); return err })
	return out, err
}

func (s *seat) Publish(ctx context.Context, p sfu.Publish) (t sfu.TrackID, err error) {
	err = s.do(ctx, func(e *sfu.Endpoint) error { t, err = e.Publish(ctx, p); return err })
	return t, err
}

func (s *seat) Unpublish(ctx context.Context, t sfu.TrackID) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.Unpublish(ctx, t) })
}

func (s *seat) Subscribe(ctx context.Context, t []sfu.TrackID) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.Subscribe(ctx, t) })
}

func (s *seat) Unsubscribe(ctx context.Context, t []sfu.TrackID) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.Unsubscribe(ctx, t) })
}

func (s *seat) SetViews(ctx context.Context, v []sfu.View) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.SetViews(ctx, v) })
}

func (s *seat) SetVideos(ctx context.Context, n int) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.SetVideos(ctx, n) })
}

func (s *seat) SetMuted(ctx context.Context, t sfu.TrackID, muted bool) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.SetMuted(ctx, t, muted) })
}

func (s *seat) OpenData(ctx context.Context) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.OpenData(ctx) })
}

func (s *seat) MuteData(ctx context.Context, muted bool) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.MuteData(ctx, muted) })
}

func (s *seat) Answer(ctx context.Context, number int, a sfu.Answer) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.Answer(ctx, number, a) })
}

func (s *seat) Restart(ctx context.Context) error {
	return s.do(ctx, func(e *sfu.Endpoint) error { return e.Restart(ctx) })
}

func (s *seat) RestartOffered(ctx context.Context, p sfu.ICEParams) (out sfu.ICEParams, err error) {
	err = s.do(ctx, func(e *sfu.Endpoint) error { out, err = e.RestartOffered(ctx, p); return err })
	return out, err
}

func (s *seat) Close() error {
	s.lab.mu.Lock() // the endpoint of a node that has given the conference up would say yes and mean nothing
	defer s.lab.mu.Unlock()
	err := s.e.Load().Close()
	s.lab.copy(context.Background(), s.conference)
	return err
}

// observed is an event and where it came from.
type observed struct {
	sfu.Event
	first bool
}

// from is the observer of one node.
type from struct {
	lab   *Lab
	first bool
}

// Event implements sfu.Observer.
func (f from) Event(e sfu.Event) { f.lab.relay.put(observed{e, f.first}) }

// relay is an unbounded queue of events: an observer must not block, and a copy does.
type relay struct {
	mu     sync.Mutex
	cond   *sync.Cond
	events []observed
	closed bool
}

func (r *relay) init() { r.cond = sync.NewCond(&r.mu) }

func (r *relay) put(e observed) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.cond.Signal()
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cond.Signal()
}

// run delivers events until the relay is closed and empty.
func (r *relay) run(f func(observed)) {
	for {
		r.mu.Lock()
		for len(r.events) == 0 && !r.closed {
			r.cond.Wait()
		}
		batch := r.events
		r.events = nil
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, e := range batch {
			f(e)
		}
	}
}
