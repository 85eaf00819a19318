package sfu

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/internal/rtp"
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
type Endpoint struct {
	node *Node
	e    *endpoint
}

// Participant returns who it is.
func (e *Endpoint) Participant() ParticipantID { return e.e.id }

func (e *Endpoint) do(ctx context.Context, f func(e *endpoint, now int64) error) error {
	return e.node.shard.do(ctx, func(now int64) error {
		switch {
		case e.e.closed:
			return ErrClosed
		case e.e.conf.away:
			return ErrAway
		}
		return f(e.e, now)
	})
}

// Publish announces a publication. An offer with a section for it follows.
func (e *Endpoint) Publish(ctx context.Context, p Publish) (TrackID, error) {
	var id TrackID
	err := e.do(ctx, func(e *endpoint, now int64) error {
		var err error
		if id, err = e.publish(p); err != nil {
			return err
		}
		e.dirty = true
		e.offer(now)
		return nil
	})
	return id, err
}

// Tracks returns the endpoint's own publications by their source.
func (e *Endpoint) Tracks(ctx context.Context) (map[Source]TrackID, error) {
	out := make(map[Source]TrackID)
	err := e.do(ctx, func(e *endpoint, _ int64) error {
		for _, p := range e.own {
			out[p.source] = p.id
		}
		return nil
	})
	return out, err
}

// Unpublish ends a publication. Its section stays in the offers, inactive, for the next one of its kind.
func (e *Endpoint) Unpublish(ctx context.Context, id TrackID) error {
	return e.do(ctx, func(e *endpoint, now int64) error {
		p := e.ownTrack(id)
		if p == nil {
			return ErrNotFound
		}
		e.unpublish(p, now)
		e.dirty = true
		e.offer(now)
		return nil
	})
}

// Subscribe asks for tracks of others. They are bound to free slots as soon as there are any; EventSlots says which.
func (e *Endpoint) Subscribe(ctx context.Context, ids []TrackID) error {
	return e.do(ctx, func(e *endpoint, now int64) error {
		for _, id := range ids {
			p := e.conf.publications[id]
			if p == nil || p.owner == e {
				return fmt.Errorf("%w: %s", ErrNotFound, id)
			}
		}
		for _, id := range ids {
			if !e.wantsTrack(id) {
				e.wants = append(e.wants, id)
			}
		}
		e.bind(now)
		return nil
	})
}

// Unsubscribe frees the slots of tracks that are not wanted any more. Unknown ones are passed over: the publisher may have been
// quicker.
func (e *Endpoint) Unsubscribe(ctx context.Context, ids []TrackID) error {
	return e.do(ctx, func(e *endpoint, now int64) error {
		for _, id := range ids {
			e.wants = slices.DeleteFunc(e.wants, func(w TrackID) bool { return w == id })
			for _, s := range e.sections {
				if s.leg != nil && s.shows != nil && s.shows.id == id {
					e.free(s, now)
				}
			}
		}
		e.bind(now)
		return nil
	})
}

// SetMuted mutes or unmutes one of the endpoint's own tracks: nothing of it is forwarded while it is muted.
func (e *Endpoint) SetMuted(ctx context.Context, id TrackID, muted bool) error {
	return e.do(ctx, func(e *endpoint, now int64) error {
		p := e.ownTrack(id)
		if p == nil {
			return ErrNotFound
		}
		p.muted = muted
		if p.media != nil {
			p.media.SetMuted(muted, now)
		}
		return nil
	})
}

// Answer takes the client's answer to the outstanding offer.
func (e *Endpoint) Answer(ctx context.Context, number int, a Answer) error {
	return e.do(ctx, func(e *endpoint, now int64) error { return e.answer(number, a, now) })
}

// Restart gives the endpoint new ICE credentials and offers them: the client's network changed (RFC 8445 §9). Media goes on over
// the old path until a new one is found.
func (e *Endpoint) Restart(ctx context.Context) error {
	return e.do(ctx, func(e *endpoint, now int64) error {
		if e.state == StateFailed { // consent is gone, and with it the right to send there
			return fmt.Errorf("%w: the transport has failed", ErrClosed)
		}
		e.restart, e.dirty = true, true
		e.offer(now)
		return nil
	})
}

// Close ends the endpoint. It may be called twice.
func (e *Endpoint) Close() error {
	err := e.node.shard.do(context.Background(), func(now int64) error {
		e.e.close(now)
		return nil
	})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// endpoint belongs to its shard's thread.
type endpoint struct {
	conf *conference
	id   ParticipantID
	sess *transport.Session
	peer *forward.Peer

	state     State
	closed    bool
	speakerID uint64

	sections []*section
	own      []*publication
	wants    []TrackID

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
	leg    *forward.Leg // sending
	shows  *publication
	ssrc   uint32
	rtx    uint32
	agreed bool // the client has answered it
	later  bool // receiving: pub came after the outstanding offer, whose answer does not speak of it
}

func newEndpoint(c *conference, id ParticipantID, now int64) (*endpoint, error) {
	s := c.shard
	sess, err := s.mux.Open(transport.SessionID(random64()), now)
	if err != nil {
		return nil, fmt.Errorf("sfu: %w", err)
	}
	e := &endpoint{conf: c, id: id, sess: sess, state: StateConnecting, ssrcs: make(map[uint32]bool)}
	fp := s.node.dtls.Fingerprint()
	e.fingerprint = Fingerprint{Algorithm: fp.Algorithm(), Value: fp.Value()}
	e.peer = s.router.NewPeer(sess, e.newSSRC(), token(10), e)
	c.speakerN++
	e.speakerID = c.speakerN
	c.speakers[e.speakerID] = e
	return e, nil
}

func (e *endpoint) close(now int64) {
	if e.closed {
		return
	}
	e.closed = true
	e.conf.remove(e, now)
	e.own = nil
	e.peer.Close(now)
	e.sess.Close()
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
	for _, o := range e.own {
		if o.source == p.Source {
			return "", ErrConflict
		}
	}
	if len(e.own) >= maxPublications {
		return "", ErrTooMany
	}
	codecs, err := publishCodecs(kind, p.Codec)
	if err != nil {
		return "", err
	}
	pub := &publication{
		id: TrackID("t" + token(10)), owner: e, source: p.Source, codecs: codecs, muted: p.Muted,
		simulcast: p.Simulcast && kind == Video && p.Source == Camera,
	}
	for _, s := range e.sections { // a section that once carried the same is taken up again
		if s.leg == nil && s.pub == nil && s.source == p.Source {
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

func (e *endpoint) unpublish(p *publication, now int64) {
	e.own = slices.DeleteFunc(e.own, func(o *publication) bool { return o == p })
	p.section.pub, p.section.agreed = nil, false
	delete(e.conf.publications, p.id)
	e.conf.unpublished(p, now)
}

func (e *endpoint) ownTrack(id TrackID) *publication {
	for _, p := range e.own {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (e *endpoint) wantsTrack(id TrackID) bool { return slices.Contains(e.wants, id) }

// addSlots makes n more slots, as far as sections go. They are in the next offer.
func (e *endpoint) addSlots(k Kind, n int) {
	for range n {
		if len(e.sections) >= maxSections {
			return
		}
		s := &section{mid: strconv.Itoa(len(e.sections)), kind: k, ssrc: e.newSSRC()}
		fk := rtp.KindAudio
		if k == Video {
			fk = rtp.KindVideo
			s.rtx = e.newSSRC()
		}
		r := random64()
		s.leg = e.peer.NewLeg(forward.LegConfig{
			MID: s.mid, Kind: fk, SSRC: s.ssrc, RTXSSRC: s.rtx, Start: uint16(r & 0x7fff), Timestamp: uint32(r >> 32),
		})
		e.sections = append(e.sections, s)
	}
}

// bind gives wanted tracks the free slots, makes more slots where there are too few, and says what changed.
func (e *endpoint) bind(now int64) {
	changed := false
	var short [Video + 1]int
	for _, id := range e.wants {
		p := e.conf.publications[id]
		if p == nil || p.media == nil || e.shown(p) {
			continue
		}
		fits, more := e.freeSlot(p)
		switch {
		case fits != nil:
			fits.shows = p
			fits.leg.Bind(p.media, now)
			changed = true
		case more:
			short[p.source.Kind()]++
		}
	}
	for k, n := range short {
		pending := 0
		for _, s := range e.sections {
			if s.leg != nil && int(s.kind) == k && !s.agreed {
				pending++
			}
		}
		if n > pending && len(e.sections) < maxSections {
			e.addSlots(Kind(k), (n-pending+slotPool-1)/slotPool*slotPool)
			e.dirty = true
		}
	}
	if changed {
		e.emitSlots()
	}
	e.offer(now)
}

// freeSlot finds a slot for p. more says that more slots would help: all that the client takes are in use. They do not where it
// takes none, or where one is free and does not take p's codec.
func (e *endpoint) freeSlot(p *publication) (fits *section, more bool) {
	refused, usable, free := false, false, false
	for _, s := range e.sections {
		if s.leg == nil || s.kind != p.source.Kind() || !s.agreed {
			continue
		}
		if !s.leg.Usable() {
			refused = true
			continue
		}
		usable = true
		if s.shows != nil {
			continue
		}
		if s.leg.Supports(p.media.Codec()) {
			return s, false
		}
		free = true
	}
	return nil, !free && (usable || !refused)
}

func (e *endpoint) shown(p *publication) bool {
	for _, s := range e.sections {
		if s.shows == p {
			return true
		}
	}
	return false
}

func (e *endpoint) free(s *section, now int64) {
	s.shows = nil
	s.leg.Bind(nil, now)
	e.emitSlots()
}

// forget drops a publication that ended. It returns true if a slot came free.
func (e *endpoint) forget(id TrackID) bool {
	e.wants = slices.DeleteFunc(e.wants, func(w TrackID) bool { return w == id })
	freed := false
	for _, s := range e.sections {
		if s.shows != nil && s.shows.id == id {
			s.shows = nil
			freed = true
		}
	}
	if freed {
		e.emitSlots()
	}
	return freed
}

func (e *endpoint) emitSlots() {
	ev := Event{Participant: e.id, Type: EventSlots}
	for _, s := range e.sections {
		if s.leg == nil || !s.agreed {
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

func (e *endpoint) info() EndpointInfo {
	info := EndpointInfo{Participant: e.id, State: e.state, RoundTripNS: e.peer.RoundTrip(), Cipher: e.sess.Cipher()}
	for _, p := range e.own {
		t := TrackInfo{ID: p.id, Source: p.source, Muted: p.muted}
		if m := p.media; m != nil {
			t.Codec, t.Live, t.Receivers = strings.ToLower(m.Codec().String()), m.Live(), m.Legs()
			t.Packets, t.Bytes, t.Forwarded = m.Stats()
			for _, l := range m.Layers() {
				t.Layers = append(t.Layers, LayerInfo{RID: l.RID, Packets: l.Packets, Bytes: l.Bytes})
			}
		}
		info.Tracks = append(info.Tracks, t)
	}
	for _, s := range e.sections {
		if s.leg == nil || s.shows == nil {
			continue
		}
		st := s.leg.Stats()
		info.Slots = append(info.Slots, SlotInfo{MID: s.mid, Track: s.shows.id, Packets: st.Packets, Lost: st.Lost, FractionLost: st.FractionLost})
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
