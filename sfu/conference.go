package sfu

import (
	"context"
	"errors"
	"sort"
	"sync"

	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/record"
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
	conf, err := c.node.enter(ctx, c.id, true)
	if err != nil {
		return nil, err
	}
	defer conf.leave()
	e, err := conf.join(opts)
	if err != nil {
		return nil, err
	}
	return &Endpoint{e: e}, nil
}

// Close ends the conference: every endpoint is closed.
func (c *Conference) Close(ctx context.Context) error {
	conf, err := c.node.enter(ctx, c.id, false)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conf.leave()
	conf.close()
	return nil
}

// conference is what is true of a conference, whichever shards carry its media. Its lock covers all of it, the endpoints and
// publications included, but what is said to be a shard's.
type conference struct {
	node *Node
	id   string

	mu           sync.Mutex
	endpoints    map[ParticipantID]*endpoint
	publications map[TrackID]*publication

	detector speaker.Detector
	speakers map[uint64]*endpoint // by the id that the detector knows
	speakerN uint64
	heardAt  int64 // the last level
	lookedAt int64 // the last look for the speaker

	cast

	data *data.Room

	recording  *record.Recording // nil: nobody records
	recordedBy string            // who began the last one

	away bool // another node has it: this one stands by for it, or has given it up. Nothing is said of it here.
	over bool // it is in the node's table no more
}

func newConference(n *Node, id string) *conference {
	return &conference{
		node: n, id: id, endpoints: make(map[ParticipantID]*endpoint), publications: make(map[TrackID]*publication),
		speakers: make(map[uint64]*endpoint), cast: newCast(n), data: n.data.Room(id),
	}
}

// emit queues an event of the conference.
func (c *conference) emit(e Event) {
	if c.away {
		return
	}
	e.Conference = c.id
	c.node.mail.put(e)
}

// shards calls f on the thread of each shard with the endpoints that live there. The first error ends it.
func (c *conference) shards(f func(s *shard, es []*endpoint, now int64) error) error {
	on := make(map[*shard][]*endpoint)
	for _, e := range c.endpoints {
		on[e.shard] = append(on[e.shard], e)
	}
	for s, es := range on {
		if err := s.call(func(now int64) error { return f(s, es, now) }); err != nil {
			return err
		}
	}
	return nil
}

// freeze stops the conference for good: another node goes on with it.
func (c *conference) freeze() {
	c.away = true
	c.stopRecording(record.Moved)
	for _, e := range c.endpoints {
		e.closeData()
	}
	_ = c.shards(func(_ *shard, es []*endpoint, _ int64) error { // only a shard that has ended fails, and that one sends nothing
		for _, e := range es {
			e.sess.Freeze()
		}
		return nil
	})
}

// publication is what a participant publishes: it is asked for, then offered, then answered, and then has a forward.Track.
type publication struct {
	id        TrackID
	owner     *endpoint
	source    Source
	codecs    []Codec
	simulcast bool
	encrypted bool // end to end
	muted     bool
	live      bool
	levels    bool // a microphone whose publisher says how loud it is
	section   *section
	media     *forward.Track // nil before the answer; what it does is its shard's
	mirrors   map[*shard]*mirrored
	fares     *sent // nil: that is not known

	mark  uint64 // of the choice that it is in (cast)
	rests bool   // … as one that rests
}

func (c *conference) join(opts JoinOptions) (*endpoint, error) {
	e, err := c.admit(opts.Participant, opts.Label, func(e *endpoint) error { return e.begin(opts) })
	if err != nil {
		return nil, err
	}
	e.dirty = true
	e.offer()
	return e, nil
}

// admit takes a new endpoint in, which begin opens.
func (c *conference) admit(id ParticipantID, label string, begin func(e *endpoint) error) (*endpoint, error) {
	if c.away {
		return nil, ErrAway
	}
	if _, ok := c.endpoints[id]; ok {
		return nil, ErrConflict
	}
	if len(c.endpoints) >= c.node.cfg.MaxEndpoints {
		return nil, ErrTooMany
	}
	c.speakerN++
	e := &endpoint{
		conf: c, id: id, label: label, state: StateConnecting, ssrcs: make(map[uint32]bool), speakerID: c.speakerN,
		fingerprint: c.node.fingerprint, videos: c.node.cfg.Videos,
	}
	if err := begin(e); err != nil {
		for _, p := range e.own {
			delete(c.publications, p.id)
		}
		return nil, err
	}
	c.endpoints[e.id] = e
	c.speakers[e.speakerID] = e
	return e, nil
}

func (c *conference) remove(e *endpoint) {
	delete(c.endpoints, e.id)
	c.exeunt(e)
	c.detector.Remove(e.speakerID)
	for _, p := range e.own {
		delete(c.publications, p.id)
		c.unpublished(p)
	}
	delete(c.speakers, e.speakerID)
}

func (c *conference) close() {
	c.stopRecording(record.Emptied)
	for _, e := range c.endpoints {
		e.close()
	}
}

// unpublished frees the slots that showed p and lets those who wait have them.
func (c *conference) unpublished(p *publication) {
	answered := p.media != nil
	if answered {
		c.exit(p)
	}
	p.end() // before anybody is told: what comes in a slot after that is not of p
	var binds []*endpoint
	for _, e := range c.endpoints {
		if e.forget(p, answered) {
			binds = append(binds, e)
		}
	}
	c.settle(nil, binds...)
}

// published lets everybody who wants p, which has just been answered, have it.
func (c *conference) published(p *publication) {
	c.enter(p)
	var binds []*endpoint
	for _, e := range c.endpoints {
		if e.wantsTrack(p) {
			e.ready[p.source.Kind()]++
			binds = append(binds, e)
		}
	}
	c.settle(nil, binds...)
}

// wentLive says that the first packet of p has arrived.
func (c *conference) wentLive(p *publication) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.publications[p.id] == p && !p.live {
		p.live = true
		c.emit(Event{Participant: p.owner.id, Type: EventTrackLive, Track: p.id})
	}
}

// demanded says which layers of p are of use.
func (c *conference) demanded(p *publication, top int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.publications[p.id] == p {
		c.emit(Event{Participant: p.owner.id, Type: EventDemand, Track: p.id, Layers: top + 1})
	}
}

// moved takes the state of e's transport.
func (c *conference) moved(e *endpoint, to State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoints[e.id] == e && e.state != to {
		e.state = to
		c.emit(Event{Participant: e.id, Type: EventState, State: to})
	}
}

// hear takes levels in.
func (c *conference) hear(levels []level) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range levels {
		l := &levels[i]
		if l.remove || c.speakers[l.id] == nil {
			c.detector.Remove(l.id)
			continue
		}
		c.detector.Level(l.id, l.loud, l.voice, l.at)
		c.heardAt = max(c.heardAt, l.at)
	}
	c.lookedAt = 0 // look now
}

// findSpeaker looks who speaks and says so when that changed. It returns false when nothing can change before somebody is heard again.
func (c *conference) findSpeaker(now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return false
	case c.away:
		return now-c.heardAt < speakerSilence
	case now-c.lookedAt < speakerInterval/2:
		return true
	}
	c.lookedAt = now
	id, changed := c.detector.Tick(now)
	if changed {
		ev := Event{Type: EventSpeaker}
		if e := c.speakers[id]; e != nil {
			ev.Speaker = e.id
		}
		c.emit(ev)
	}
	c.perform(c.speakers[id], now)
	return id != 0 || now-c.heardAt < speakerSilence || len(c.late) > 0
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
	RID               string
	Packets, Bytes    uint64
	Spatial, Temporal int // layers that the stream has of its own (SVC), at least one of each; 0: nothing is known yet
	Width, Height     int // of its largest pictures; 0: nothing told it
}

// SlotInfo describes a slot and how its receiver fares.
type SlotInfo struct {
	MID          string
	Track        TrackID
	Resting      bool // nothing is sent: whose track it is does not speak
	Packets      uint32
	Lost         int32
	FractionLost uint8
	Sends        *SentLayers // of a picture that is sent
}

// SentLayers says what is sent of a picture: which simulcast stream, and up to which of its own layers, each from 0.
type SentLayers struct{ Stream, Spatial, Temporal int }

// Conferences describes every conference, in the order of their ids.
func (n *Node) Conferences(ctx context.Context) ([]ConferenceInfo, error) {
	var out []ConferenceInfo
	for _, c := range n.live() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		info, err := c.info()
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(info.Endpoints) > 0 {
			out = append(out, info)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

func (c *conference) info() (ConferenceInfo, error) {
	info := ConferenceInfo{ID: c.id}
	elsewhere := make(map[TrackID]uint64) // packets that mirrors have sent
	err := c.shards(func(s *shard, es []*endpoint, _ int64) error {
		for _, e := range es {
			info.Endpoints = append(info.Endpoints, e.info())
		}
		for id, p := range c.publications {
			if m := p.mirrors[s]; m != nil && m.mirror != nil {
				_, _, sent := m.track.Stats()
				elsewhere[id] += sent
			}
		}
		return nil
	})
	for _, e := range info.Endpoints {
		for i := range e.Tracks {
			e.Tracks[i].Forwarded += elsewhere[e.Tracks[i].ID]
		}
	}
	sort.Slice(info.Endpoints, func(i, j int) bool { return info.Endpoints[i].Participant < info.Endpoints[j].Participant })
	return info, err
}
