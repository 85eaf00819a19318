package client

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// roster is who is in the room, kept up to date by the events.
type roster struct {
	self *wire.JoinOK

	mu     sync.Mutex
	people []wire.Participant
	record wire.RecordingState
	fresh  []string      // tracks of others that have come and are not subscribed to yet
	wake   chan struct{} // something is fresh
}

func newRoster(joined *wire.JoinOK) *roster {
	r := &roster{self: joined, record: joined.Recording, wake: make(chan struct{}, 1)}
	for _, p := range joined.Roster {
		r.joined(p)
	}
	return r
}

func (r *roster) snapshot() []wire.Participant {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.people)
	for i := range out {
		out[i].Tracks = slices.Clone(out[i].Tracks)
	}
	return out
}

func (r *roster) recorded() wire.RecordingState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record
}

// track returns a track by its id.
func (r *roster) track(id string) (wire.Track, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.people {
		for _, t := range p.Tracks {
			if t.ID == id {
				return t, true
			}
		}
	}
	return wire.Track{}, false
}

// apply follows an event.
func (r *roster) apply(e wire.Event) {
	switch e := e.(type) {
	case *wire.Joined:
		r.joined(e.Participant)
	case *wire.Updated:
		r.joined(e.Participant)
	case *wire.Recording:
		r.mu.Lock()
		r.record = e.Recording
		r.mu.Unlock()
	case *wire.Left:
		r.mu.Lock()
		r.people = slices.DeleteFunc(r.people, func(p wire.Participant) bool { return p.ID == e.Participant })
		r.mu.Unlock()
	case *wire.TrackAdded:
		r.change(e.Participant, func(p *wire.Participant) {
			p.Tracks = append(slices.DeleteFunc(p.Tracks, func(t wire.Track) bool { return t.ID == e.Track.ID }), e.Track)
			r.welcome(p.ID, e.Track)
		})
	case *wire.TrackRemoved:
		r.change(e.Participant, func(p *wire.Participant) {
			p.Tracks = slices.DeleteFunc(p.Tracks, func(t wire.Track) bool { return t.ID == e.Track })
		})
	case *wire.TrackMuted:
		r.changeTrack(e.Participant, e.Track, func(t *wire.Track) { t.Muted = e.Muted })
	case *wire.TrackLive:
		r.changeTrack(e.Participant, e.Track, func(t *wire.Track) { t.Live = true })
	}
}

// joined puts a participant in, in place of an older state.
func (r *roster) joined(p wire.Participant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Tracks = slices.Clone(p.Tracks)
	known := map[string]bool{}
	if i := slices.IndexFunc(r.people, func(o wire.Participant) bool { return o.ID == p.ID }); i >= 0 {
		for _, t := range r.people[i].Tracks {
			known[t.ID] = true
		}
		r.people[i] = p
	} else {
		r.people = append(r.people, p)
	}
	for _, t := range p.Tracks {
		if !known[t.ID] {
			r.welcome(p.ID, t)
		}
	}
}

// change works on one participant, with the lock held.
func (r *roster) change(id string, f func(p *wire.Participant)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.people {
		if r.people[i].ID == id {
			f(&r.people[i])
		}
	}
}

func (r *roster) changeTrack(participant, track string, f func(t *wire.Track)) {
	r.change(participant, func(p *wire.Participant) {
		for i := range p.Tracks {
			if p.Tracks[i].ID == track {
				f(&p.Tracks[i])
			}
		}
	})
}

// welcome notes a new track of somebody else. The lock is held.
func (r *roster) welcome(participant string, t wire.Track) {
	if participant == r.self.Participant {
		return
	}
	r.fresh = append(r.fresh, t.ID)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *roster) takeFresh() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.fresh
	r.fresh = nil
	return fresh
}

// subscribeAll subscribes to whatever comes: tracks that come while a request is under way go into the next one.
func (c *Client) subscribeAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.room.wake:
		}
		if fresh := c.room.takeFresh(); len(fresh) > 0 {
			if _, err := c.Subscribe(ctx, fresh...); err != nil && ctx.Err() == nil {
				c.log.Warn("client: subscribe", slog.Any("error", err), slog.Int("tracks", len(fresh)))
			}
		}
	}
}
