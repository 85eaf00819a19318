package signaling

import (
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/sdp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Event implements sfu.Observer: what happens in a conference becomes events of the sessions. It does not block.
func (s *Service) Event(e sfu.Event) {
	r := s.room(e.Conference)
	if r == nil {
		return
	}
	if e.Type == sfu.EventOffer && e.Offer != nil {
		// Written before the lock is taken: it is the largest thing that is ever written.
		r.offered(e.Participant, e.Offer, describeOffer(e.Offer))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type == sfu.EventSpeaker {
		r.speaks(string(e.Speaker))
		return
	}
	if e.Type == sfu.EventRecording && e.Recording != nil {
		r.recorded(e.Recording)
		return
	}
	sess := r.members[e.Participant]
	if sess == nil && r.cast != nil && e.Type == sfu.EventState && e.State >= sfu.StateFailed {
		if v := r.cast.viewers[e.Participant]; v != nil {
			go r.dismiss(s, v) // waited for by the end of the broadcast, through its room
		}
		return
	}
	if sess == nil || sess.ended {
		return
	}
	switch e.Type {
	case sfu.EventSlots:
		sess.tell(describeSlots(e.Slots))
	case sfu.EventDemand:
		sess.tell(&wire.Demand{Track: string(e.Track), Layers: e.Layers})
	case sfu.EventQuality:
		sess.tell(describeQuality(e.Qualities))
	case sfu.EventData:
		sess.dataClosed(e.Data)
	case sfu.EventState:
		sess.tell(&wire.Media{State: wire.MediaState(e.State.String())})
		if e.State == sfu.StateFailed && sess.direct { // it has no way to restart that would need no consent
			go sess.end(ending{reason: wire.LeftExpired})
		}
		if e.State == sfu.StateClosed {
			// Not by this session, or it would have ended before: the client has closed its peer connection. Whether its connection
			// to us lives or may still be resumed, a transport that is closed never comes back, so this is how the client leaves.
			go sess.end(ending{reason: wire.LeftLeave, code: wire.CloseExpired, text: "media closed by the client"}) // waited for by Close, through gone
		}
	case sfu.EventTrackLive:
		if t := sess.track(string(e.Track)); t != nil && !t.Live {
			t.Live = true
			r.recast()
			r.report(nil, &wire.TrackLive{Participant: string(sess.participant), Track: t.ID})
		}
	}
}

func (r *room) offered(p sfu.ParticipantID, o *sfu.Offer, e *wire.Offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sess := r.members[p]
	if sess == nil || sess.ended {
		return
	}
	sess.offer, sess.answered = o, false
	sess.tell(e)
	sess.offerSeq = sess.events.last
}

// speaks notes who speaks. The room's lock is held.
func (r *room) speaks(participant string) {
	if participant == r.speaker || participant != "" && r.find(participant) == nil {
		return
	}
	r.speaker = participant
	if participant != "" {
		r.stage = participant
		r.recast()
	}
	r.broadcast(&wire.Speaker{Participant: participant})
}

func describeOffer(o *sfu.Offer) *wire.Offer {
	e := &wire.Offer{Number: o.Number, SDP: sdp.WriteOffer(*o), Sections: make([]wire.OfferSection, 0, len(o.Sections))}
	for _, s := range o.Sections {
		section := wire.OfferSection{MID: s.MID, Data: s.Data != 0 && !s.Rejected}
		if s.Direction == sfu.RecvOnly && !s.Rejected {
			section.Source, section.Track = wire.Source(s.Source), string(s.Track)
		}
		e.Sections = append(e.Sections, section)
	}
	return e
}

func describeSlots(list []sfu.Slot) *wire.Slots {
	e := &wire.Slots{Slots: make([]wire.Slot, 0, len(list))}
	for _, s := range list {
		e.Slots = append(e.Slots, wire.Slot{MID: s.MID, Track: string(s.Track), Participant: string(s.Participant)})
	}
	return e
}

func describeQuality(list []sfu.Quality) *wire.Quality {
	e := &wire.Quality{Tracks: make([]wire.TrackQuality, 0, len(list))}
	for _, q := range list {
		e.Tracks = append(e.Tracks, wire.TrackQuality{Track: string(q.Track), Grade: wire.Grade(q.Grade.String())})
	}
	return e
}
