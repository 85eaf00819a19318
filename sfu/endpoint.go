package sfu

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Bounds of one endpoint. A section more costs a browser 25 ms at three and 300 ms at fifty (decision 2).
const (
	maxSections     = 50
	maxPublications = 8
	slotPool        = 3 // slots are made ahead, so many at a time
)

// Endpoint is one participant's media: what it publishes and the slots that it receives in.
type Endpoint struct{ e *endpoint }

// Participant returns who it is.
func (e *Endpoint) Participant() ParticipantID { return e.e.id }

// do runs f under the conference's lock. A caller whose ctx has ended by then gets nothing done.
func (e *Endpoint) do(ctx context.Context, f func(e *endpoint) error) error {
	c := e.e.conf
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.e.closed:
		return ErrClosed
	case c.away:
		return ErrAway
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return f(e.e)
}

// Publish announces a publication. An offer with a section for it follows.
func (e *Endpoint) Publish(ctx context.Context, p Publish) (TrackID, error) {
	var id TrackID
	err := e.do(ctx, func(e *endpoint) error {
		var err error
		if id, err = e.publish(p); err != nil {
			return err
		}
		e.dirty = true
		e.offer()
		return nil
	})
	return id, err
}

// Tracks returns the endpoint's own publications by their source.
func (e *Endpoint) Tracks(ctx context.Context) (map[Source]TrackID, error) {
	out := make(map[Source]TrackID)
	err := e.do(ctx, func(e *endpoint) error {
		for _, p := range e.own {
			out[p.source] = p.id
		}
		return nil
	})
	return out, err
}

// Unpublish ends a publication. Its section stays in the offers, inactive, for the next one of its kind.
func (e *Endpoint) Unpublish(ctx context.Context, id TrackID) error {
	return e.do(ctx, func(e *endpoint) error {
		p := e.ownTrack(id)
		if p == nil {
			return ErrNotFound
		}
		e.unpublish(p)
		e.dirty = true
		e.offer()
		return nil
	})
}

// Subscribe asks for tracks of others. They are bound to free slots as soon as there are any; EventSlots says which. Of more tracks than
// are worth sending at a time, those are bound that matter most, and others in their place when that changes.
func (e *Endpoint) Subscribe(ctx context.Context, ids []TrackID) error {
	return e.do(ctx, func(e *endpoint) error {
		for _, id := range ids {
			p := e.conf.publications[id]
			if p == nil || p.owner == e {
				return fmt.Errorf("%w: %s", ErrNotFound, id)
			}
		}
		for _, id := range ids {
			e.want(e.conf.publications[id])
		}
		e.bind()
		return nil
	})
}

// Unsubscribe frees the slots of tracks that are not wanted any more. Unknown ones are passed over: the publisher may have been
// quicker.
func (e *Endpoint) Unsubscribe(ctx context.Context, ids []TrackID) error {
	return e.do(ctx, func(e *endpoint) error {
		for _, id := range ids {
			if p := e.conf.publications[id]; p != nil && e.wantsTrack(p) {
				e.unwant(p)
			}
		}
		e.conf.settle(e.shard, e)
		return nil
	})
}

// SetViews says how tracks of others are shown; those that are not named stay as they were. A track that was never named is taken to
// be shown large.
func (e *Endpoint) SetViews(ctx context.Context, views []View) error {
	return e.do(ctx, func(e *endpoint) error {
		for _, v := range views {
			p := e.view(v)
			for _, s := range e.sections {
				if p != nil && s.shows == p && !s.rests {
					fv := e.viewOf(p)
					e.shard.post(func(now int64) { s.leg.SetView(fv, now) })
				}
			}
		}
		e.bind()
		return nil
	})
}

// view notes how the participant shows a track, and returns it; nil if it is not there: its publisher was quicker.
func (e *endpoint) view(v View) *publication {
	p := e.conf.publications[v.Track]
	if p == nil {
		return nil
	}
	if e.views == nil {
		e.views = make(map[TrackID]View)
	}
	e.views[v.Track] = v
	switch i := slices.Index(e.pinned, p); {
	case v.Pinned && i < 0:
		e.pinned = append(e.pinned, p)
	case !v.Pinned && i >= 0:
		e.pinned = slices.Delete(e.pinned, i, i+1)
	}
	return p
}

// SetVideos says how many pictures the participant wants to be sent at a time, at most. The node has a bound of its own.
func (e *Endpoint) SetVideos(ctx context.Context, n int) error {
	return e.do(ctx, func(e *endpoint) error {
		e.videos = max(0, n)
		e.bind()
		return nil
	})
}

// viewOf says how e sees p.
func (e *endpoint) viewOf(p *publication) forward.View {
	v, ok := e.views[p.id]
	if !ok {
		v = View{Width: defaultWidth, Height: defaultHeight}
	}
	const most = 1 << 14 // pixels a side
	return forward.View{
		Pixels: uint32(max(0, min(v.Width, most)) * max(0, min(v.Height, most))),
		Pinned: v.Pinned, Screen: p.source == Screen,
	}
}

// What a track is taken to be shown at by who has not said so.
const (
	defaultWidth  = 1280
	defaultHeight = 720
)

// SetMuted mutes or unmutes one of the endpoint's own tracks: nothing of it is forwarded while it is muted.
func (e *Endpoint) SetMuted(ctx context.Context, id TrackID, muted bool) error {
	return e.do(ctx, func(e *endpoint) error {
		p := e.ownTrack(id)
		if p == nil {
			return ErrNotFound
		}
		if err := p.mute(muted); err != nil {
			return err
		}
		if p.source == Camera { // one that shows nothing needs no slot that another can use
			e.conf.rearrange(Video, 0)
		}
		return nil
	})
}

// Answer takes the client's answer to the outstanding offer.
func (e *Endpoint) Answer(ctx context.Context, number int, a Answer) error {
	return e.do(ctx, func(e *endpoint) error { return e.answer(number, a) })
}

// Restart gives the endpoint new ICE credentials and offers them: the client's network changed (RFC 8445 §9). Media goes on over
// the old path until a new one is found.
func (e *Endpoint) Restart(ctx context.Context) error {
	return e.do(ctx, func(e *endpoint) error {
		if e.state == StateFailed { // consent is gone, and with it the right to send there
			return fmt.Errorf("%w: the transport has failed", ErrClosed)
		}
		e.restart, e.dirty = true, true
		e.offer()
		return nil
	})
}

// Close ends the endpoint. It may be called twice.
func (e *Endpoint) Close() error {
	c := e.e.conf
	c.mu.Lock()
	defer c.leave()
	e.e.close()
	return nil
}

// endpoint is the conference's, under its lock, but for what sess and peer do: that is for the thread of its shard.
type endpoint struct {
	conf    *conference
	id      ParticipantID
	label   string
	shard   *shard
	session transport.SessionID
	sess    *transport.Session
	peer    *forward.Peer

	state     State
	closed    bool
	speakerID uint64
	local     transport.LocalParams

	sections []*section
	own      []*publication

	wants   [Video + 1]map[*publication]struct{}
	ready   [Video + 1]int   // of those, how many were answered
	views   map[TrackID]View // as the client has said …
	pinned  []*publication   // … and which of them are pinned, in the order of that
	videos  int              // most pictures at a time
	changed bool             // slots show something else than was said last
	due     bool             // … and it is to be said before long
	slotsAt int64            // when it was said last
	restN   uint64           // counts slots that came to rest

	told     map[TrackID]Grade // what the participant was told last of tracks that are not good
	restored bool              // another node has told things that are not known here

	data *data.Member // nil: it has not asked for data, or another node has brought it here

	answers     bool // the client has offered; there are no offers of ours
	number      int
	outstanding bool
	dirty       bool        // there is more to offer
	restart     bool        // with new credentials
	offered     int         // sections in the outstanding offer
	fingerprint Fingerprint // of the certificate that the client has met; it stays when another node goes on
	remote      transport.RemoteParams
	ssrcs       map[uint32]bool
}

// section is one m-line. Its direction never changes: it receives one source, or is a slot.
type section struct {
	mid    string
	kind   Kind
	source Source       // receiving
	pub    *publication // receiving; nil: inactive
	data   bool         // for data channels; it has no kind
	agreed bool         // the client has answered it
	later  bool         // receiving: pub came after the outstanding offer, whose answer does not speak of it

	slot   bool // sending
	pair   int  // one slot of sound and one of pictures have the same, and are of one MediaStream
	shows  *publication
	rests  bool               // nothing is sent: who is shown does not speak
	restN  uint64             // grows with each time
	codecs []forward.CodecMap // that the client takes in the slot
	ssrc   uint32
	rtx    uint32
	leg    *forward.Leg // the shard's, made there
	fares  *received    // how what it shows fares; nil: that is not known
}

// begin opens the endpoint on a shard, with what it publishes from the start and its first slots.
func (e *endpoint) begin(opts JoinOptions) error {
	for _, p := range opts.Publish {
		if _, err := e.publish(p); err != nil {
			return err
		}
	}
	legs := append(e.newSlots(Audio, slotPool), e.newSlots(Video, slotPool)...)
	err := e.open(token(10), func(int64) error {
		legs.open(e)
		return nil
	})
	if err != nil || !opts.Data || e.conf.node.cfg.NoData {
		return err
	}
	if err = e.openData(); err != nil {
		e.shard.post(func(now int64) {
			e.peer.Close(now)
			e.sess.Close()
		})
		e.conf.node.displace(e)
	}
	return err
}

// open makes the endpoint's session on a shard, and calls f there for what belongs to it. It leaves nothing when that fails.
func (e *endpoint) open(cname string, f func(now int64) error) error {
	e.session = transport.SessionID(random64())
	if err := e.conf.node.place(e); err != nil {
		return err
	}
	ssrc := e.newSSRC()
	err := e.shard.call(func(now int64) error {
		sess, err := e.shard.mux.Open(e.session, now)
		if err != nil {
			return fmt.Errorf("sfu: %w", err)
		}
		e.sess, e.local = sess, sess.Local()
		e.peer = e.shard.router.NewPeer(sess, ssrc, cname, e)
		if err = f(now); err != nil {
			e.peer.Close(now)
			sess.Close()
		}
		return err
	})
	if err != nil {
		e.conf.node.displace(e)
	}
	return err
}

func (e *endpoint) close() {
	if e.closed {
		return
	}
	e.closed = true
	e.closeData()
	e.conf.remove(e)
	e.own = nil
	for _, s := range e.sections {
		if s.shows != nil && !s.rests {
			s.shows.leave(e.shard)
		}
		s.shows = nil
	}
	e.shard.post(func(now int64) {
		e.peer.Close(now)
		e.sess.Close()
	})
	e.conf.node.displace(e)
	if e.state != StateClosed {
		e.state = StateClosed
		e.conf.emit(Event{Participant: e.id, Type: EventState, State: StateClosed})
	}
}

func (e *endpoint) publish(p Publish) (TrackID, error) {
	kind := p.Source.Kind()
	if kind == 0 {
		return "", fmt.Errorf("%w: source %q", ErrNotFound, p.Source)
	}
	if e.answers {
		return "", fmt.Errorf("%w: what the client sends stands in its offer", ErrConflict)
	}
	for _, o := range e.own {
		if o.source == p.Source {
			return "", ErrConflict
		}
	}
	if len(e.own) >= maxPublications {
		return "", ErrTooMany
	}
	codecs, err := publishCodecs(&p)
	if err != nil {
		return "", err
	}
	pub := &publication{
		id: TrackID("t" + token(10)), owner: e, source: p.Source, codecs: codecs, muted: p.Muted, encrypted: p.Encrypted,
		simulcast: p.Simulcast && kind == Video && p.Source == Camera,
	}
	for _, s := range e.sections { // a section that once carried the same is taken up again
		if !s.slot && !s.data && s.pub == nil && s.source == p.Source {
			pub.section = s
			s.pub, s.agreed, s.later = pub, false, e.outstanding
		}
	}
	if pub.section == nil {
		if len(e.sections) >= maxSections {
			return "", ErrTooMany
		}
		pub.section = &section{mid: strconv.Itoa(len(e.sections)), kind: kind, source: p.Source, pub: pub}
		e.sections = append(e.sections, pub.section)
	}
	e.own = append(e.own, pub)
	e.conf.publications[pub.id] = pub
	return pub.id, nil
}

func (e *endpoint) unpublish(p *publication) {
	e.own = slices.DeleteFunc(e.own, func(o *publication) bool { return o == p })
	p.section.pub, p.section.agreed = nil, false
	delete(e.conf.publications, p.id)
	e.conf.unpublished(p)
}

func (e *endpoint) ownTrack(id TrackID) *publication {
	for _, p := range e.own {
		if p.id == id {
			return p
		}
	}
	return nil
}

// ownSource returns what e publishes of a source, or nil.
func (e *endpoint) ownSource(s Source) *publication {
	for _, p := range e.own {
		if p.source == s {
			return p
		}
	}
	return nil
}

func (e *endpoint) wantsTrack(p *publication) bool {
	_, ok := e.wants[p.source.Kind()][p]
	return ok
}

// want adds p to what is wanted.
func (e *endpoint) want(p *publication) {
	k := p.source.Kind()
	if e.wantsTrack(p) {
		return
	}
	if e.wants[k] == nil {
		e.wants[k] = make(map[*publication]struct{})
	}
	e.wants[k][p] = struct{}{}
	if p.media != nil {
		e.ready[k]++
	}
}

// unwant strikes p from what is wanted.
func (e *endpoint) unwant(p *publication) {
	k := p.source.Kind()
	delete(e.wants[k], p)
	if p.media != nil {
		e.ready[k]--
	}
}

// newLegs are legs to be made on the shard's thread for new slots.
type newLegs []newLeg

type newLeg struct {
	slot *section
	cfg  forward.LegConfig
}

// newLegFor describes the leg of a new slot.
func newLegFor(s *section) newLeg {
	r := random64()
	return newLeg{s, forward.LegConfig{
		MID: s.mid, Kind: s.kind, SSRC: s.ssrc, RTXSSRC: s.rtx, Start: uint16(r & 0x7fff), Timestamp: uint32(r >> 32),
	}}
}

func (l newLegs) open(e *endpoint) {
	for _, x := range l {
		x.slot.leg = e.peer.NewLeg(x.cfg)
	}
}

// newSlots makes n more slots, as far as sections go. They are in the next offer.
func (e *endpoint) newSlots(k Kind, n int) (legs newLegs) {
	pair := 0
	for _, s := range e.sections {
		if s.slot && s.kind == k {
			pair++
		}
	}
	for i := range min(n, maxSections-len(e.sections)) {
		s := &section{mid: strconv.Itoa(len(e.sections)), kind: k, slot: true, pair: pair + i, ssrc: e.newSSRC()}
		if k == Video {
			s.rtx = e.newSSRC()
		}
		legs = append(legs, newLegFor(s))
		e.sections = append(e.sections, s)
	}
	return legs
}

// mates are the sources that belong together: browsers play what is in one MediaStream in step.
var mates = map[Source]Source{Microphone: Camera, Camera: Microphone, Screen: ScreenAudio, ScreenAudio: Screen}

// suits says how well s would do for p by what its pair shows: what belongs to p best, something else of all things worst.
func (e *endpoint) suits(s *section, p *publication) int {
	for _, o := range e.sections {
		if !o.slot || o.kind == s.kind || o.pair != s.pair || o.shows == nil {
			continue
		}
		if o.shows.owner == p.owner && o.shows.source == mates[p.source] {
			return 2
		}
		return 0
	}
	return 1
}

// freeSlot finds the best slot for p. more says that more slots would help: all that the client takes are in use. They do not where it
// takes none, or where one is free and does not take p's codec.
func (e *endpoint) freeSlot(p *publication) (fits *section, more bool) {
	refused, usable, free, best := false, false, false, -1
	for _, s := range e.sections {
		if !s.slot || s.kind != p.source.Kind() || !s.agreed {
			continue
		}
		if len(s.codecs) == 0 {
			refused = true
			continue
		}
		usable = true
		if s.shows != nil {
			continue
		}
		free = true
		if !s.takes(p.media.Codec()) {
			continue
		}
		if n := e.suits(s, p); n > best {
			fits, best = s, n
		}
	}
	return fits, !free && (usable || !refused)
}

// takes says whether the client takes c in the slot.
func (s *section) takes(c rtp.Codec) bool {
	return slices.ContainsFunc(s.codecs, func(m forward.CodecMap) bool { return m.Codec == c })
}

// forget drops a publication that ended, which may have been answered. Slots may have come free, or others have room for more.
func (e *endpoint) forget(p *publication, answered bool) (bind bool) {
	k := p.source.Kind()
	if e.wantsTrack(p) {
		delete(e.wants[k], p)
		if answered {
			e.ready[k]--
			bind = e.ready[k] == e.most(k)
		}
	}
	if _, ok := e.views[p.id]; ok {
		delete(e.views, p.id)
		e.pinned = slices.DeleteFunc(e.pinned, func(x *publication) bool { return x == p })
	}
	for _, s := range e.sections {
		if s.shows == p { // nothing is sent in it any more
			s.shows, s.rests = nil, false
			e.changed, bind = true, true
		}
	}
	return bind
}

// emitSlots says what all slots show.
func (e *endpoint) emitSlots() {
	e.changed, e.due = false, false
	ev := Event{Participant: e.id, Type: EventSlots}
	for _, s := range e.sections {
		if !s.slot || !s.agreed {
			continue
		}
		slot := Slot{MID: s.mid}
		if s.shows != nil {
			slot.Track, slot.Participant = s.shows.id, s.shows.owner.id
		}
		ev.Slots = append(ev.Slots, slot)
	}
	e.conf.emit(ev)
}

func (e *endpoint) newSSRC() uint32 {
	for {
		if v := uint32(random64()); v != 0 && !e.ssrcs[v] {
			e.ssrcs[v] = true
			return v
		}
	}
}

// info is called on the shard's thread, with the conference's lock held.
func (e *endpoint) info() EndpointInfo {
	info := EndpointInfo{Participant: e.id, State: e.state, RoundTripNS: e.peer.RoundTrip(), Cipher: e.sess.Cipher()}
	for _, p := range e.own {
		t := TrackInfo{ID: p.id, Source: p.source, Muted: p.muted}
		if m := p.media; m != nil {
			t.Codec, t.Live, t.Receivers = strings.ToLower(m.Codec().String()), m.Live(), p.receivers()
			t.Packets, t.Bytes, t.Forwarded = m.Stats()
			for _, l := range m.Layers() {
				t.Layers = append(t.Layers, LayerInfo{
					RID: l.RID, Packets: l.Packets, Bytes: l.Bytes,
					Spatial: int(l.Within.Spatial), Temporal: int(l.Within.Temporal), Width: int(l.Size.Width), Height: int(l.Size.Height),
				})
			}
		}
		info.Tracks = append(info.Tracks, t)
	}
	for _, s := range e.sections {
		if s.shows == nil {
			continue
		}
		st := s.leg.Stats()
		slot := SlotInfo{MID: s.mid, Track: s.shows.id, Resting: s.rests, Packets: st.Packets, Lost: st.Lost, FractionLost: st.FractionLost}
		if st.Sends.Stream >= 0 && s.kind == Video {
			slot.Sends = &SentLayers{Stream: int(st.Sends.Stream), Spatial: int(st.Sends.Spatial), Temporal: int(st.Sends.Temporal)}
		}
		info.Slots = append(info.Slots, slot)
	}
	return info
}

func random64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// token returns n random bytes as text.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}
