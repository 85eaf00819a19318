package sfu

import (
	"context"
	"sort"

	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/speaker"
)

// Conference is a handle of one conference of a Node. It exists, with a room for state, from its first endpoint to its last.
type Conference struct {
	node *Node
	id   string
}

// ID returns the conference's id.
func (c *Conference) ID() string { return c.id }

// Join adds an endpoint. Its first offer comes as an event.
func (c *Conference) Join(ctx context.Context, opts JoinOptions) (*Endpoint, error) {
	var e *endpoint
	err := c.node.shard.do(ctx, func(now int64) error {
		s := c.node.shard
		conf := s.conferences[c.id]
		if conf == nil {
			conf = newConference(s, c.id)
		}
		var err error
		if e, err = conf.join(opts, now); err != nil {
			return err
		}
		s.conferences[c.id] = conf
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Endpoint{node: c.node, e: e}, nil
}

// Close ends the conference: every endpoint is closed.
func (c *Conference) Close(ctx context.Context) error {
	return c.node.shard.do(ctx, func(now int64) error {
		if conf := c.node.shard.conferences[c.id]; conf != nil {
			conf.close(now)
		}
		return nil
	})
}

// conference belongs to its shard's thread.
type conference struct {
	shard        *shard
	id           string
	endpoints    map[ParticipantID]*endpoint
	publications map[TrackID]*publication

	detector *speaker.Detector
	speakers map[uint64]*endpoint // by the id that the detector knows
	speakerN uint64

	away bool // another node has it: this one stands by for it, or has given it up. Nothing is said of it here.
}

// emit queues an event of the conference.
func (c *conference) emit(e Event) {
	if c.away {
		return
	}
	e.Conference = c.id
	c.shard.node.emit(e)
}

// freeze stops the conference for good: another node goes on with it.
func (c *conference) freeze() {
	c.away = true
	for _, e := range c.endpoints {
		e.sess.Freeze()
	}
}

// publication is what a participant publishes: it is asked for, then offered, then answered, and then has a forward.Track.
type publication struct {
	id        TrackID
	owner     *endpoint
	source    Source
	codecs    []Codec
	simulcast bool
	muted     bool
	section   *section
	media     *forward.Track // nil before the answer
}

func (c *conference) join(opts JoinOptions, now int64) (*endpoint, error) {
	if c.away {
		return nil, ErrAway
	}
	if _, ok := c.endpoints[opts.Participant]; ok {
		return nil, ErrConflict
	}
	if len(c.endpoints) >= c.shard.node.cfg.MaxEndpoints {
		return nil, ErrTooMany
	}
	e, err := newEndpoint(c, opts.Participant, now)
	if err != nil {
		return nil, err
	}
	for _, p := range opts.Publish {
		if _, err := e.publish(p); err != nil {
			e.sess.Close()
			e.peer.Close(now)
			delete(c.speakers, e.speakerID)
			for id, p := range c.publications {
				if p.owner == e {
					delete(c.publications, id)
				}
			}
			return nil, err
		}
	}
	c.endpoints[e.id] = e
	e.addSlots(Audio, slotPool)
	e.addSlots(Video, slotPool)
	e.dirty = true
	e.offer(now)
	return e, nil
}

func (c *conference) remove(e *endpoint, now int64) {
	if c.endpoints[e.id] != e {
		return
	}
	delete(c.endpoints, e.id)
	for id, p := range c.publications {
		if p.owner == e {
			delete(c.publications, id)
			c.unpublished(p, now)
		}
	}
	delete(c.speakers, e.speakerID)
	if len(c.endpoints) == 0 {
		delete(c.shard.conferences, c.id)
	}
}

func (c *conference) close(now int64) {
	for _, e := range c.endpoints {
		e.close(now)
	}
}

// unpublished frees the slots that showed p and lets those who wait have them.
func (c *conference) unpublished(p *publication, now int64) {
	var showing []*endpoint
	for _, e := range c.endpoints {
		if e.forget(p.id) {
			showing = append(showing, e)
		}
	}
	if p.media != nil {
		p.media.Close(now)
		p.media = nil
	}
	for _, e := range showing {
		e.bind(now)
	}
}

// published lets everybody who wants p have it.
func (c *conference) published(p *publication, now int64) {
	for _, e := range c.endpoints {
		if e.wantsTrack(p.id) {
			e.bind(now)
		}
	}
}

// findSpeaker looks who speaks and says so when that changed.
func (c *conference) findSpeaker(now int64) {
	if c.away {
		return
	}
	id, changed := c.detector.Tick(now)
	if !changed {
		return
	}
	ev := Event{Type: EventSpeaker}
	if e := c.speakers[id]; e != nil {
		ev.Speaker = e.id
	}
	c.emit(ev)
}

// ConferenceInfo describes a conference to operators.
type ConferenceInfo struct {
	ID        string
	Endpoints []EndpointInfo
}

// EndpointInfo describes an endpoint to operators.
type EndpointInfo struct {
	Participant ParticipantID
	State       State
	Cipher      string // SRTP protection profile; empty before the handshake
	RoundTripNS int64  // 0: not measured
	Tracks      []TrackInfo
	Slots       []SlotInfo
}

// TrackInfo describes a publication.
type TrackInfo struct {
	ID        TrackID
	Source    Source
	Codec     string
	Muted     bool
	Live      bool
	Receivers int
	Packets   uint64
	Bytes     uint64
	Forwarded uint64
	Layers    []LayerInfo
}

// LayerInfo describes one stream of a publication.
type LayerInfo struct {
	RID            string
	Packets, Bytes uint64
}

// SlotInfo describes a slot and how its receiver fares.
type SlotInfo struct {
	MID          string
	Track        TrackID
	Packets      uint32
	Lost         int32
	FractionLost uint8
}

// Conferences describes every conference, in the order of their ids.
func (n *Node) Conferences(ctx context.Context) ([]ConferenceInfo, error) {
	var out []ConferenceInfo
	err := n.shard.do(ctx, func(int64) error {
		for _, c := range n.shard.conferences {
			out = append(out, c.info())
		}
		return nil
	})
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, err
}

func (c *conference) info() ConferenceInfo {
	info := ConferenceInfo{ID: c.id}
	for _, e := range c.endpoints {
		info.Endpoints = append(info.Endpoints, e.info())
	}
	sort.Slice(info.Endpoints, func(i, j int) bool { return info.Endpoints[i].Participant < info.Endpoints[j].Participant })
	return info
}
