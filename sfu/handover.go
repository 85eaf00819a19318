package sfu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sotto-edge/sotto/internal/plain"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/speaker"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// ErrState is the error of a hand-over that this version cannot read.
var ErrState = errors.New("sfu: unreadable hand-over")

// handoverVersion is the first byte of a Handover.
const handoverVersion = 7

// Handover is a conference in bytes: all that another node needs to go on with it, hop-by-hop keys included. It cannot be printed
// or marshalled by accident; Expose gives the bytes to whoever carries them to the node that takes over.
type Handover struct{ b []byte }

// NewHandover takes bytes that came from Expose.
func NewHandover(b []byte) Handover { return Handover{b} }

// Expose returns the bytes. They open and forge the media of every session of the conference.
func (h Handover) Expose() []byte { return h.b }

// String hides the bytes.
func (Handover) String() string { return "handover(redacted)" }

// GoString hides the bytes.
func (Handover) GoString() string { return "handover(redacted)" }

// MarshalText refuses: what carries keys is carried on purpose.
func (Handover) MarshalText() ([]byte, error) { return nil, transport.ErrSecret }

// MarshalJSON refuses.
func (Handover) MarshalJSON() ([]byte, error) { return nil, transport.ErrSecret }

// MarshalBinary refuses.
func (Handover) MarshalBinary() ([]byte, error) { return nil, transport.ErrSecret }

// HandoverMode says what becomes of the conference on the node that writes it down.
type HandoverMode uint8

// The modes of Export.
const (
	// Copy leaves it running: the other node stands by, and takes over if this one dies. It must skip the numbers that this node
	// may use until then.
	Copy HandoverMode = iota
	// Freeze stops it: nothing is sent or received any more, not even when it is closed, and no event comes of it. The other node
	// goes on with the very next number.
	Freeze
)

// conferenceState is what a Handover contains.
type conferenceState struct {
	ID        string
	SpeakerN  uint64
	Endpoints []endpointState
}

type endpointState struct {
	ID          ParticipantID
	Session     transport.SessionID
	State       State
	SpeakerID   uint64
	Answers     bool
	Number      int
	Offered     int
	Outstanding bool
	Dirty       bool
	Restart     bool
	Certificate Fingerprint // ours, as it was offered
	Transport   []byte
	Ufrag, Pwd  string // the client's
	Algorithm   string
	Fingerprint string
	Peer        forward.PeerState
	Own         []publicationState
	Sections    []sectionState
	Wants       []TrackID
	Views       []View // of tracks that are there, pinned ones first, in their order
	Videos      int
}

type publicationState struct {
	ID        TrackID
	Source    Source
	Codecs    []string
	Simulcast bool
	Encrypted bool
	Muted     bool
	Open      bool
	Track     forward.TrackState
}

type sectionState struct {
	MID    string
	Kind   Kind
	Source Source
	Own    int // place in Own, -1: none
	Slot   bool
	Agreed bool
	Later  bool
	Shows  TrackID
	Leg    forward.LegState
}

func (s *conferenceState) code(c *plain.Coder) {
	version := uint8(handoverVersion)
	if plain.Int(c, &version); version != handoverVersion {
		c.Fail()
		return
	}
	plain.Text(c, &s.ID)
	plain.Int(c, &s.SpeakerN)
	plain.List(c, &s.Endpoints, func(c *plain.Coder, e *endpointState) {
		plain.Text(c, &e.ID)
		plain.Int(c, &e.Session)
		plain.Int(c, &e.State)
		plain.Int(c, &e.SpeakerID)
		c.Bool(&e.Answers)
		plain.Int(c, &e.Number)
		plain.Int(c, &e.Offered)
		c.Bool(&e.Outstanding)
		c.Bool(&e.Dirty)
		c.Bool(&e.Restart)
		plain.Text(c, &e.Certificate.Algorithm)
		plain.Text(c, &e.Certificate.Value)
		c.Blob(&e.Transport)
		plain.Text(c, &e.Ufrag)
		plain.Text(c, &e.Pwd)
		plain.Text(c, &e.Algorithm)
		plain.Text(c, &e.Fingerprint)
		e.Peer.Code(c)
		plain.List(c, &e.Own, func(c *plain.Coder, p *publicationState) {
			plain.Text(c, &p.ID)
			plain.Text(c, &p.Source)
			plain.List(c, &p.Codecs, plain.Text[string])
			c.Bool(&p.Simulcast)
			c.Bool(&p.Encrypted)
			c.Bool(&p.Muted)
			if c.Bool(&p.Open); p.Open {
				p.Track.Code(c)
			}
		})
		plain.List(c, &e.Sections, func(c *plain.Coder, x *sectionState) {
			plain.Text(c, &x.MID)
			plain.Int(c, &x.Kind)
			plain.Text(c, &x.Source)
			plain.Int(c, &x.Own)
			c.Bool(&x.Agreed)
			c.Bool(&x.Later)
			plain.Text(c, &x.Shows)
			if c.Bool(&x.Slot); x.Slot {
				x.Leg.Code(c)
			}
		})
		plain.List(c, &e.Wants, plain.Text[TrackID])
		plain.List(c, &e.Views, func(c *plain.Coder, v *View) {
			plain.Text(c, &v.Track)
			plain.Int(c, &v.Width)
			plain.Int(c, &v.Height)
			c.Bool(&v.Pinned)
		})
		plain.Int(c, &e.Videos)
	})
}

// Export writes the conference down for another node.
func (c *Conference) Export(ctx context.Context, mode HandoverMode) (Handover, error) {
	conf, err := c.node.enter(ctx, c.id, false)
	if err != nil {
		return Handover{}, err
	}
	defer conf.leave()
	st, err := conf.state(mode)
	if err != nil {
		return Handover{}, err
	}
	w := plain.NewWriter(nil)
	st.code(w)
	return Handover{w.Bytes()}, w.Err()
}

func (c *conference) state(mode HandoverMode) (conferenceState, error) {
	st := conferenceState{ID: c.id, SpeakerN: c.speakerN}
	if mode == Freeze { // all of them first: what one still sent would be missing from the others
		c.freeze()
	}
	err := c.shards(func(_ *shard, es []*endpoint, now int64) error {
		for _, e := range es {
			// What the transport says, not what control has heard of it yet. When it is over its participant can only join anew.
			if e.sess.State() < StateFailed {
				st.Endpoints = append(st.Endpoints, e.stateNow(now))
			}
		}
		return nil
	})
	return st, err
}

// stateNow is called on the shard's thread, with the conference's lock held.
func (e *endpoint) stateNow(now int64) endpointState {
	cp := e.sess.Checkpoint(now)
	es := endpointState{
		ID: e.id, Session: e.sess.ID(), State: e.state, SpeakerID: e.speakerID, Answers: e.answers, Number: e.number, Offered: e.offered,
		Outstanding: e.outstanding, Dirty: e.dirty, Restart: e.restart, Certificate: e.fingerprint, Transport: cp.Expose(), Ufrag: e.remote.Ufrag, Pwd: e.remote.Pwd,
		Algorithm: e.remote.Fingerprint.Algorithm(), Fingerprint: e.remote.Fingerprint.Value(), Peer: e.peer.State(), Videos: e.videos,
	}
	for _, wants := range e.wants {
		for p := range wants {
			es.Wants = append(es.Wants, p.id)
		}
	}
	slices.Sort(es.Wants)
	for _, p := range e.pinned {
		es.Views = append(es.Views, e.views[p.id])
	}
	for _, v := range e.views {
		if !v.Pinned {
			es.Views = append(es.Views, v)
		}
	}
	slices.SortFunc(es.Views[len(e.pinned):], func(a, b View) int { return cmp.Compare(a.Track, b.Track) })
	own := make(map[*publication]int)
	for _, p := range e.own {
		own[p] = len(es.Own)
		ps := publicationState{ID: p.id, Source: p.source, Simulcast: p.simulcast, Encrypted: p.encrypted, Muted: p.muted}
		for _, k := range p.codecs {
			ps.Codecs = append(ps.Codecs, k.Name)
		}
		if p.media != nil {
			ps.Open, ps.Track = true, p.media.State(now)
		}
		es.Own = append(es.Own, ps)
	}
	for _, s := range e.sections {
		x := sectionState{MID: s.mid, Kind: s.kind, Source: s.source, Own: -1, Slot: s.slot, Agreed: s.agreed, Later: s.later}
		if i, ok := own[s.pub]; ok && s.pub != nil {
			x.Own = i
		}
		if s.slot {
			x.Leg = s.leg.State(now)
			if s.shows != nil {
				x.Shows = s.shows.id
			}
		}
		es.Sections = append(es.Sections, x)
	}
	return es
}

// ImportOptions say how a node takes a conference in.
type ImportOptions struct {
	// Skip is the number of packets that the other node may still send on each stream after it wrote the conference down: its
	// lease. 0 after Freeze.
	Skip uint64
}

// Standby is a conference that was taken in and waits: clients' checks are answered, nothing is forwarded. Its methods may be called
// from any goroutine, one at a time.
type Standby struct {
	node   *Node
	conf   *conference // nil: nothing is there
	active bool
}

// Import takes a conference in, to stand by for it. It is best done before a client gets its first offer, and again by Update after
// every change: clients check this node's candidate when they get it, and some never again.
func (n *Node) Import(ctx context.Context, h Handover, opts ImportOptions) (*Standby, error) {
	s := &Standby{node: n}
	return s, s.take(ctx, h, opts)
}

// Update takes a later Handover of the same conference in. What the clients' checks have found out meanwhile stays.
func (s *Standby) Update(ctx context.Context, h Handover, opts ImportOptions) error {
	return s.take(ctx, h, opts)
}

func (s *Standby) take(ctx context.Context, h Handover, opts ImportOptions) error {
	var st conferenceState
	r := plain.NewReader(h.b)
	st.code(r)
	if err := r.End(); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if s.active || s.conf != nil && s.conf.id != st.ID {
		return ErrConflict
	}
	c, err := s.node.enter(ctx, st.ID, true)
	if err != nil {
		return err
	}
	if c != s.conf && (len(c.endpoints) > 0 || c.away) {
		c.leave()
		return ErrConflict // the conference is here already
	}
	c.away, s.conf = true, c
	if err := c.restore(&st, opts); err != nil {
		c.close()
		c.leave()
		s.conf = nil
		return err
	}
	c.mu.Unlock()
	return nil
}

// Close forgets the conference: the other node has ended it. It does nothing after Activate.
func (s *Standby) Close(context.Context) error {
	if c := s.conf; c != nil && !s.active {
		c.mu.Lock()
		c.close()
		c.leave()
	}
	s.conf = nil
	return nil
}

// Activate makes the conference live here: the pair that each client keeps with this node is nominated, and publishers are asked
// for key frames. It returns the endpoints, for whoever serves their participants from now on.
func (s *Standby) Activate(ctx context.Context) (map[ParticipantID]*Endpoint, error) {
	c := s.conf
	if c == nil || s.active {
		return nil, ErrConflict
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, ErrClosed
	}
	s.active, c.away = true, false
	out := make(map[ParticipantID]*Endpoint)
	for _, e := range c.endpoints {
		out[e.id] = &Endpoint{e: e}
	}
	blind := make(map[*endpoint]error)
	err := c.shards(func(_ *shard, es []*endpoint, now int64) error {
		for _, e := range es {
			if err := e.sess.Activate(now); err != nil {
				blind[e] = err
			}
		}
		for _, e := range es {
			for _, p := range e.own {
				if len(p.mirrors) > 0 {
					p.media.RequestKey(now)
				}
				if p.simulcast && p.media != nil { // what the other node has said last is not known here
					c.emit(Event{Participant: e.id, Type: EventDemand, Track: p.id, Layers: p.media.Demand() + 1})
				}
			}
		}
		return nil
	})
	for _, e := range c.endpoints {
		e.loseData()
	}
	for e, err := range blind {
		s.node.log.Warn("client has not checked this node yet", "conference", c.id, "participant", e.id, "error", err)
	}
	return out, err
}

// restore builds what st describes in the place of what c is: sessions that are here already go on. When it fails the caller closes c.
func (c *conference) restore(st *conferenceState, opts ImportOptions) error {
	sessions := make(map[transport.SessionID]*endpoint)
	old := c.endpoints
	for _, p := range c.publications {
		p.end()
	}
	err := c.shards(func(_ *shard, es []*endpoint, now int64) error {
		for _, e := range es {
			e.peer.Close(now)
			sessions[e.sess.ID()] = e
		}
		return nil
	})
	for _, e := range old {
		e.closed = true // as an endpoint; what is left of it is its session
	}
	c.endpoints, c.publications = make(map[ParticipantID]*endpoint), make(map[TrackID]*publication)
	c.speakers, c.detector, c.speakerN = make(map[uint64]*endpoint), speaker.Detector{}, st.SpeakerN
	c.cast = newCast(c.node)
	defer func() { // those of participants who left, or all that are not used because of an error
		for _, e := range sessions {
			e.shard.post(func(int64) { e.sess.Close() })
			c.node.displace(e)
		}
	}()
	if err != nil {
		return err
	}
	for i := range st.Endpoints { // all tracks, then the legs that show them
		if err := c.restoreEndpoint(&st.Endpoints[i], sessions, opts); err != nil {
			return err
		}
	}
	tracks := make(map[*publication]*forward.TrackState)
	for i := range st.Endpoints {
		es := &st.Endpoints[i]
		for j, p := range c.endpoints[es.ID].own {
			tracks[p] = &es.Own[j].Track
		}
	}
	for i := range st.Endpoints {
		if err := c.restoreSections(&st.Endpoints[i], tracks, opts); err != nil {
			return err
		}
	}
	return nil
}

func (c *conference) restoreEndpoint(es *endpointState, sessions map[transport.SessionID]*endpoint, opts ImportOptions) error {
	if c.endpoints[es.ID] != nil {
		return ErrState
	}
	e := &endpoint{
		conf: c, id: es.ID, session: es.Session, state: es.State, speakerID: es.SpeakerID, answers: es.Answers, number: es.Number,
		outstanding: es.Outstanding, dirty: es.Dirty, restart: es.Restart, offered: es.Offered, fingerprint: es.Certificate, videos: es.Videos,
		ssrcs: make(map[uint32]bool), restored: true,
	}
	if es.Ufrag != "" {
		fp, err := transport.ParseFingerprint(es.Algorithm, es.Fingerprint)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		e.remote = transport.RemoteParams{Ufrag: es.Ufrag, Pwd: es.Pwd, Fingerprint: fp}
	}
	for i := range es.Own {
		ps := &es.Own[i]
		p := &publication{id: ps.ID, owner: e, source: ps.Source, simulcast: ps.Simulcast, encrypted: ps.Encrypted, muted: ps.Muted, live: ps.Track.Live}
		for _, name := range ps.Codecs {
			k, ok := codecByName(name)
			if !ok {
				return ErrState
			}
			p.codecs = append(p.codecs, k)
		}
		e.own = append(e.own, p)
	}
	was := sessions[es.Session]
	if was != nil {
		delete(sessions, es.Session)
		e.shard = was.shard
	} else if err := c.node.place(e); err != nil {
		return err
	}
	err := e.shard.call(func(now int64) error { return e.restore(es, was, opts, now) })
	if err != nil {
		c.node.displace(e)
		return err
	}
	c.endpoints[e.id] = e
	c.speakers[e.speakerID] = e
	for _, p := range e.own {
		c.publications[p.id] = p
		if p.media != nil {
			c.enter(p)
		}
	}
	return nil
}

// restore makes the session, or takes over that of was, and the peer and its tracks, on the shard's thread. It leaves nothing when it
// fails.
func (e *endpoint) restore(es *endpointState, was *endpoint, opts ImportOptions, now int64) (err error) {
	cp := transport.NewCheckpoint(es.Transport)
	if was != nil {
		e.sess = was.sess
		err = e.sess.Update(cp, opts.Skip, now)
	} else {
		e.sess, err = e.shard.mux.Restore(cp, transport.RestoreOptions{Skip: opts.Skip, Standby: true}, now)
	}
	if err != nil {
		if was != nil {
			e.sess.Close()
		}
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	e.local = e.sess.Local()
	e.peer = e.shard.router.NewPeer(e.sess, es.Peer.LocalSSRC, es.Peer.CNAME, e)
	ok := true
	for i := range es.Own {
		ps, p := &es.Own[i], e.own[i]
		if !ps.Open || !ok {
			continue
		}
		cfg := forward.TrackConfig{User: p}
		if p.source == Microphone {
			cfg.Speaker, cfg.SpeakerID = newEar(e.shard, e.conf), e.speakerID
			p.levels = es.Peer.Extensions.AudioLevel != 0
		}
		p.media, ok = e.peer.RestoreTrack(ps.Track, cfg, now)
	}
	if !ok || !e.peer.Restore(es.Peer, uint16(opts.Skip)) {
		e.peer.Close(now)
		e.sess.Close()
		return ErrState
	}
	return nil
}

// restoreSections makes the sections of an endpoint, and its legs on the shard's thread. It leaves none when it fails: a section that
// shows something has a leg, always.
func (c *conference) restoreSections(es *endpointState, tracks map[*publication]*forward.TrackState, opts ImportOptions) error {
	e := c.endpoints[es.ID]
	if es.Offered < 0 || es.Offered > len(es.Sections) {
		return ErrState
	}
	sections := make([]*section, 0, len(es.Sections))
	homes := make([]*section, len(e.own))
	var pairs [Video + 1]int
	for _, x := range es.Sections {
		if x.Kind != Audio && x.Kind != Video && (x.Kind != 0 || x.Slot || x.Own >= 0) {
			return ErrState
		}
		sec := &section{mid: x.MID, kind: x.Kind, data: x.Kind == 0, source: x.Source, agreed: x.Agreed, later: x.Later, slot: x.Slot}
		if x.Slot {
			sec.pair = pairs[x.Kind]
			pairs[x.Kind]++
			if p := c.publications[x.Shows]; p != nil {
				if p.media == nil {
					return ErrState
				}
				sec.shows = p
			}
			sec.ssrc, sec.rtx, sec.codecs = x.Leg.SSRC, x.Leg.RTX, x.Leg.Codecs
		} else if x.Own >= 0 && x.Own < len(e.own) {
			if homes[x.Own] != nil {
				return ErrState
			}
			sec.pub, homes[x.Own] = e.own[x.Own], sec
		}
		sections = append(sections, sec)
	}
	for i, p := range e.own {
		if p.section = homes[i]; p.section == nil {
			return ErrState
		}
	}
	e.sections = sections
	for _, id := range es.Wants {
		if p := c.publications[id]; p != nil && p.owner != e {
			e.want(p)
		}
	}
	for _, v := range es.Views {
		e.view(v)
	}
	shown := make(map[*section]*mirrored)
	for _, sec := range sections {
		e.ssrcs[sec.ssrc], e.ssrcs[sec.rtx] = true, true
		if sec.shows != nil {
			shown[sec] = sec.shows.reach(e.shard)
		}
	}
	return e.shard.call(func(now int64) error {
		for i, sec := range e.sections {
			if !sec.slot {
				continue
			}
			var t *forward.Track
			if m := shown[sec]; m != nil {
				if t = m.track; m.mirror != nil {
					m.mirror.Restore(*tracks[sec.shows])
				}
			}
			sec.leg = e.peer.RestoreLeg(es.Sections[i].Leg, t, int64(opts.Skip), now)
			if t != nil {
				sec.leg.SetView(e.viewOf(sec.shows), now)
			}
		}
		return nil
	})
}

// codecByName finds a codec that this node offers.
func codecByName(name string) (Codec, bool) {
	for _, list := range [][]Codec{audioCodecs, videoCodecs} {
		for _, c := range list {
			if c.Name == name {
				return c, true
			}
		}
	}
	return Codec{}, false
}
