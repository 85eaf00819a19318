package forward

import (
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// Mirror is a track of one shard as another one has it, for the legs there: each packet crosses once, however many legs show it.
// The legs see a Track like any other, with the publisher's numbers and a history of its own, so that what they have lost is sent
// again from where they are. What only the publisher can give (a key frame, a packet that was lost on the way here) goes back to
// the publisher's shard as the RTCP that it would be over a network.
//
// It has two owners. Beside what is fixed by NewMirror, track is the shard's that shows it, and closed with it; the publisher's
// shard knows the Mirror as an entry in its Track's list.
type Mirror struct {
	origin   *Track // the publisher's shard's
	down, up *Link  // from there, to there
	track    *Track // here
	closed   bool   // here
	demand   int    // the publisher's shard's: what is of use there
}

// NewMirror makes the mirror of origin on here. It touches neither shard, so that whoever brings the two together can call it; down is
// the link from origin's shard to here's, up the one back. What it shows is bound to its Track on here's thread, Close is called
// there; AddMirror and RemoveMirror of origin are called on origin's, AddMirror before the first leg is bound.
func NewMirror(origin *Track, here *Router, down, up *Link, muted bool) *Mirror {
	m := &Mirror{origin: origin, down: down, up: up}
	p := &Peer{router: here, mirror: m, timer: -1}
	m.track = p.NewTrack(TrackConfig{
		MID: origin.up.mid, Kind: origin.kind, Codecs: origin.up.codecs, RIDs: origin.up.rids, Muted: muted, User: origin.User,
	})
	m.track.setCodec(origin.Codec())
	return m
}

// Track returns the track that legs here show.
func (m *Mirror) Track() *Track { return m.track }

// Restore binds the layers to the publisher's streams as s has them, so that legs that are restored go on without a key frame.
func (m *Mirror) Restore(s TrackState) {
	for i, l := range s.Layers {
		if l.Bound && i < len(m.track.layers) {
			m.track.layers[i].bind(l.SSRC)
		}
	}
}

// Close lets go of what the mirror holds. Its legs are freed. What is still under way is dropped.
func (m *Mirror) Close(now int64) {
	p := m.track.peer
	m.closed = true
	m.track.Close(now)
	p.router.timers.remove(p)
}

// AddMirror sends the track's packets to m, too, from the next one on.
func (t *Track) AddMirror(m *Mirror) {
	t.mirrors = append(t.mirrors, m)
	m.demand = len(t.layers) - 1
	for _, l := range t.layers {
		m.report(l) // for lip sync from the first picture
	}
}

// RemoveMirror is the reverse of AddMirror.
func (t *Track) RemoveMirror(m *Mirror, now int64) {
	if i := slices.Index(t.mirrors, m); i >= 0 {
		t.mirrors = slices.Delete(t.mirrors, i, i+1)
		t.review(now)
	}
}

// watched says whether anybody shows the track, or records it.
func (t *Track) watched() bool { return len(t.legs) > 0 || len(t.mirrors) > 0 || t.tap != nil }

// The following run on the publisher's shard.

// packet sends a packet of l down. late says that it came by retransmission.
func (m *Mirror) packet(l *Layer, b []byte, ext int64, late bool) {
	p := m.down.parcel(parcelPacket, m)
	if p == nil {
		return
	}
	p.layer, p.ssrc, p.ext, p.late = uint8(l.index), l.ssrc, ext, late
	p.codec, p.ids = l.track.codec, l.peer.ext
	p.size = copy(p.data[:], b)
	m.down.ring.Push()
	m.down.Counters.Packets++
}

// report sends the publisher's clock down, if it is known.
func (m *Mirror) report(l *Layer) {
	rc := &l.reception
	if !l.bound || !rc.HasReport || !l.peer.clock.known {
		return
	}
	if p := m.down.parcel(parcelReport, m); p != nil {
		p.layer, p.ssrc, p.ntp, p.rtp, p.ext = uint8(l.index), l.ssrc, rc.SenderNTP+l.peer.clock.offset, rc.SenderRTP, rc.SenderAt
		m.down.ring.Push()
		m.down.Counters.Messages++
	}
}

// stopped says that the publisher pauses l.
func (m *Mirror) stopped(l *Layer) {
	if p := m.down.parcel(parcelStopped, m); p != nil {
		p.layer, p.ssrc = uint8(l.index), l.ssrc
		m.down.ring.Push()
		m.down.Counters.Messages++
	}
}

// asked answers a request of the mirror.
func (m *Mirror) asked(p *parcel, now int64) {
	if !slices.Contains(m.origin.mirrors, m) {
		return // it is gone, or the track is
	}
	switch p.kind {
	case parcelKey:
		m.origin.RequestKey(now)
		return
	case parcelDemand:
		m.demand = int(p.layer)
		m.origin.review(now)
		return
	}
	it := rtcp.NewIterator(p.data[:p.size])
	for it.Next() {
		l := m.origin.layerOf(it.MediaSSRC())
		if l == nil {
			continue
		}
		switch {
		case it.Type() == rtcp.TypePayloadFeedback && it.Format() == rtcp.FormatPLI:
			l.wantKey(now)
		case it.Type() == rtcp.TypeTransportFeedback && it.Format() == rtcp.FormatNACK && l.ring != nil:
			nack, _ := rtcp.ParseNACK(it.Packet)
			for seq := range nack.Seqs {
				ext := l.reception.Extend(seq)
				if b := l.ring.Get(ext); b != nil { // else it is being asked for here, too, and comes down when it comes
					m.packet(l, b.Bytes(), ext, true)
				}
			}
		}
	}
}

func (t *Track) layerOf(ssrc uint32) *Layer {
	for _, l := range t.layers {
		if l.bound && l.ssrc == ssrc {
			return l
		}
	}
	return nil
}

// The following run on the shard that shows the mirror.

// take takes in what came down.
func (m *Mirror) take(r *Router, p *parcel, now int64) {
	if m.closed || int(p.layer) >= len(m.track.layers) {
		return
	}
	l := m.track.layers[p.layer]
	switch p.kind {
	case parcelPacket:
		m.receive(r, l, p, now)
	case parcelReport:
		l.bind(p.ssrc)
		l.reception.SenderReport(p.ntp, p.rtp, p.ext)
		l.peer.clock.known = true // the times are by ours already
	case parcelStopped:
		if l.bound && l.ssrc == p.ssrc {
			l.stop(now)
		}
	}
}

func (m *Mirror) receive(r *Router, l *Layer, p *parcel, now int64) {
	t := m.track
	if t.muted || len(t.legs) == 0 {
		return
	}
	l.bind(p.ssrc)
	if l.ring != nil && l.ring.Has(p.ext) {
		return // asked for, and come twice
	}
	b := r.pool.Get()
	if b == nil {
		r.Counters.MirrorNoBuffer++
		return
	}
	defer b.Release()
	b.SetLen(copy(b.Tail(), p.data[:p.size]))
	var h rtp.Header
	if !h.Parse(b.Bytes()) {
		return // the publisher's shard has parsed it, so this does not happen
	}
	r.Counters.Mirrored++
	l.packets++
	l.bytes += uint64(p.size)
	l.heard(now)
	if l.peer.ext = p.ids; l.peer.timer < 0 {
		r.timers.sooner(l.peer, now+reportInterval) // a history that is not added to must still be let go
	}
	if t.codec != p.codec {
		t.setCodec(p.codec)
	}
	l.take(b, &h, p.ext, p.codec, p.late, now)
}

// send sends RTCP about a layer up; false if there is no room now.
func (m *Mirror) send(compound []byte) bool {
	p := m.up.parcel(parcelRequest, m)
	if p == nil {
		return false
	}
	p.size = copy(p.data[:], compound)
	m.up.ring.Push()
	m.up.Counters.Messages++
	return true
}

// requestKey asks for a key frame of whatever the publisher sends.
func (m *Mirror) requestKey() {
	if p := m.up.parcel(parcelKey, m); p != nil {
		m.up.ring.Push()
		m.up.Counters.Messages++
	}
}

// want says which layers are of use here.
func (m *Mirror) want(top int) {
	if p := m.up.parcel(parcelDemand, m); p != nil {
		p.layer = uint8(top)
		m.up.ring.Push()
		m.up.Counters.Messages++
	}
}
