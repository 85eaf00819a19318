package forward

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/history"
	"github.com/sotto-edge/sotto/sfu/layer"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// MaxLayers is the number of simulcast layers of one track.
const MaxLayers = 3

// TrackConfig says what a publisher sends in one receiving section of the offer.
type TrackConfig struct {
	MID    string
	Kind   rtp.Kind
	Codecs []CodecMap
	RIDs   []string // simulcast, from the lowest resolution to the highest; empty: one stream
	SSRCs  []uint32 // streams named in the answer, in the order of RIDs
	RTX    uint32   // retransmission stream of SSRCs[0] named in the answer; 0: none
	Muted  bool
	// Speaker hears the track's audio levels, nil if nobody does; SpeakerID is what it knows the publisher by.
	Speaker   Speakers
	SpeakerID uint64
	// User is the owner's: it finds its own record of the track by it.
	User any
}

// Speakers hears how loud publishers are. speaker.Detector is one.
type Speakers interface {
	Level(id uint64, level uint8, voice bool, now int64)
	Remove(id uint64)
}

// Track is one publication: the streams of one section of its publisher, and the legs that show it.
type Track struct {
	User any

	peer  *Peer
	up    uplink
	kind  rtp.Kind
	codec rtp.Codec
	known atomic.Uint32 // codec, for those on other threads
	muted bool
	live  bool

	layers  []*Layer // lowest resolution first
	legs    []*Leg
	mirrors []*Mirror // on other shards
	tap     *Tap      // nil: nobody records it

	speaker   Speakers
	speakerID uint64
	forwarded uint64
	sizes     int   // layers that have been received at some time, those below included
	demand    int   // the highest layer that is of use to anybody, as its publisher was told
	lowerAt   int64 // when it is to be told that less will do; 0: it is not
}

// uplink is what the publisher's section promised.
type uplink struct {
	mid    string
	codecs []CodecMap
	rids   []string
	ssrcs  []uint32
	rtx    uint32
}

func (u *uplink) codec(pt uint8) (rtp.Codec, bool) {
	for _, m := range u.codecs {
		if m.PayloadType == pt {
			return m.Codec, true
		}
	}
	return 0, false
}

// repairOf returns the payload type of the media that retransmission format pt carries.
func (u *uplink) repairOf(pt uint8) (uint8, bool) {
	for _, m := range u.codecs {
		if m.RTX != 0 && m.RTX == pt {
			return m.PayloadType, true
		}
	}
	return 0, false
}

// NewTrack adds a publication to p.
func (p *Peer) NewTrack(cfg TrackConfig) *Track {
	n := max(1, min(len(cfg.RIDs), MaxLayers))
	t := &Track{User: cfg.User, peer: p, kind: cfg.Kind, muted: cfg.Muted, speaker: cfg.Speaker, speakerID: cfg.SpeakerID}
	t.up = uplink{mid: cfg.MID, codecs: cfg.Codecs, rids: cfg.RIDs, ssrcs: cfg.SSRCs, rtx: cfg.RTX}
	if len(cfg.Codecs) > 0 {
		t.setCodec(cfg.Codecs[0].Codec)
	}
	for i := range n {
		t.layers = append(t.layers, &Layer{peer: p, track: t, index: i, pending: make([]packet, 0, 64)})
	}
	t.demand = n - 1
	p.tracks = append(p.tracks, t)
	return t
}

// Codec returns what the publisher sends; before its first packet, what it will most likely send. Unlike all else of a Track it may
// be called from any goroutine.
func (t *Track) Codec() rtp.Codec { return rtp.Codec(t.known.Load()) }

func (t *Track) setCodec(c rtp.Codec) {
	if c == rtp.RED {
		c = rtp.Opus // with something around it, which receivers need not know
	}
	t.codec = c
	t.known.Store(uint32(c))
}

// Live says whether a packet has arrived.
func (t *Track) Live() bool { return t.live }

// Legs returns the number of receivers.
func (t *Track) Legs() int { return len(t.legs) }

// Stats returns what came in and what was sent on, in packets and bytes.
func (t *Track) Stats() (packetsIn, bytesIn, packetsOut uint64) {
	for _, l := range t.layers {
		packetsIn += l.packets
		bytesIn += l.bytes
	}
	return packetsIn, bytesIn, t.forwarded
}

// LayerStats are the figures of one simulcast layer.
type LayerStats struct {
	RID            string
	SSRC           uint32
	Packets, Bytes uint64
	LastAt         int64
	Within         layer.Layers // that the stream has of its own; 0 where nothing is known yet, and for sound
	Size           layer.Size   // of its largest pictures; zero where nothing told it
}

// Layers returns the figures of each layer, lowest resolution first.
func (t *Track) Layers() []LayerStats {
	out := make([]LayerStats, 0, len(t.layers))
	for i, l := range t.layers {
		st := LayerStats{
			SSRC: l.ssrc, Packets: l.packets, Bytes: l.bytes, LastAt: l.lastAt, Within: l.parser.Layers(), Size: l.parser.Size(),
		}
		if i < len(t.up.rids) {
			st.RID = t.up.rids[i]
		}
		out = append(out, st)
	}
	return out
}

// SetMuted stops or resumes forwarding at once. After a pause legs begin anew: the pause is no loss.
func (t *Track) SetMuted(muted bool, now int64) {
	if t.muted == muted {
		return
	}
	t.muted = muted
	if muted {
		for _, l := range t.layers {
			l.drop()
		}
		if t.tap != nil {
			t.tap.note(tap.Muted, now)
		}
		if t.speaker != nil {
			t.speaker.Remove(t.speakerID)
		}
		return
	}
	for _, leg := range t.legs {
		leg.restart(now)
	}
	if t.tap != nil {
		t.tap.note(tap.Unmuted, now)
	}
	if t.watched() {
		t.RequestKey(now)
	}
}

// RequestKey asks for a key frame of the layer that legs will start from.
func (t *Track) RequestKey(now int64) {
	if t.kind != rtp.KindVideo || t.muted {
		return
	}
	if l := t.best(now); l != nil {
		l.wantKey(now)
	} else if m := t.peer.mirror; m != nil {
		m.requestKey()
	}
}

// Close ends the publication: its legs are freed, its history let go.
func (t *Track) Close(now int64) {
	for len(t.legs) > 0 {
		t.legs[len(t.legs)-1].Bind(nil, now)
	}
	t.mirrors = nil
	t.Untap(now)
	if t.speaker != nil {
		t.speaker.Remove(t.speakerID)
	}
	for _, l := range t.layers {
		l.close()
		l.nack, l.ring = nil, nil // the peer remembers the layer by its streams, see again
	}
	for i, x := range t.peer.tracks {
		if x == t {
			t.peer.tracks = slices.Delete(t.peer.tracks, i, i+1)
			break
		}
	}
}

func (t *Track) removeLeg(l *Leg, now int64) {
	if i := slices.Index(t.legs, l); i >= 0 {
		t.legs = slices.Delete(t.legs, i, i+1)
		t.review(now)
	}
}

// best returns the highest layer that is being received, or nil.
func (t *Track) best(now int64) *Layer {
	for i := len(t.layers) - 1; i >= 0; i-- {
		if l := t.layers[i]; l.live(now) {
			return l
		}
	}
	return nil
}

// level feeds the speaker detection from the audio level extension (RFC 6464).
func (t *Track) level(p *Peer, h *rtp.Header, now int64) {
	if t.speaker == nil || t.muted || p.ext.AudioLevel == 0 {
		return
	}
	if level, voice, ok := rtp.ParseAudioLevel(h.Extension(p.ext.AudioLevel)); ok {
		t.speaker.Level(t.speakerID, level, voice, now)
	}
}

// Layer is one RTP stream of a track, with its retransmission stream.
type Layer struct {
	peer  *Peer
	track *Track
	index int
	id    uint32 // changes when the layer is bound to another SSRC
	bound bool
	ssrc  uint32
	rtx   uint32

	reception rtcp.Reception
	nack      *rtcp.NACKGenerator // nil for audio: a late sound is no use
	ring      *history.Ring       // nil for audio
	parser    layer.Parser
	pixels    uint32 // of its pictures; 0: not known
	meter     meter
	pending   []packet // to be forwarded
	dirty     bool     // it is in the router's list of layers with such
	urgent    bool     // one of them is late already
	since     int64    // when the first of them came
	gap       int64    // time between the packets of a picture, smoothed
	paceAt    int64    // when the last packet came
	paceTS    uint32   // its timestamp

	keyWanted bool
	keyUntil  int64 // when the wish is given up
	keyAt     int64 // last request
	keyDue    int64 // the next one, if one is wanted
	keySpare  int   // requests that may come sooner than the limit
	packets   uint64
	bytes     uint64
	silence   silence // of its reports
	lastAt    int64
	behind    int // pictures of a layer below since
	gaveUp    uint64
}

// bind makes the layer that of stream ssrc.
func (l *Layer) bind(ssrc uint32) {
	if l.bound && l.ssrc == ssrc {
		return
	}
	l.close()
	r := l.peer.router
	r.layerN++
	l.id, l.bound, l.ssrc = r.layerN, true, ssrc
	l.reception = rtcp.Reception{SSRC: ssrc}
	l.parser = layer.Parser{}
	l.meter.reset()
	if l.track.kind == rtp.KindVideo && l.nack == nil { // made once: a publisher that changes its SSRC all the time costs nothing
		l.nack = new(rtcp.NACKGenerator)
		l.ring = history.New(history.Config{MaxSlots: r.maxHistory})
	}
}

// live says whether the layer is being received. It is not when it has been silent for so many pictures of a layer below it: that
// is known sooner than by time alone, which must allow for the few pictures a second of a screen.
func (l *Layer) live(now int64) bool {
	silent := now - l.lastAt
	return l.bound && l.lastAt != 0 && silent < layerTimeout && (l.behind < layerBehind || silent < layerSilence)
}

// heard notes that the layer goes on. One that was not there before is a choice for every leg.
func (l *Layer) heard(now int64) {
	if !l.live(now) {
		if l.index >= l.track.sizes {
			l.track.sizes = l.index + 1
			l.track.review(now)
		}
		for _, leg := range l.track.legs {
			leg.fresh = true
		}
	}
	l.lastAt, l.behind = now, 0
}

// ended notes that a picture of the layer is complete: those above have had the time for one, too.
func (l *Layer) ended() {
	for _, above := range l.track.layers[l.index+1:] {
		if above.behind < layerBehind {
			above.behind++
		}
	}
}

// pace learns how close the packets of a picture come behind each other.
func (l *Layer) pace(ts uint32, now int64) {
	if ts == l.paceTS && l.paceAt != 0 {
		l.gap += (now - l.paceAt - l.gap) / 8
	}
	l.paceTS, l.paceAt = ts, now
}

// unfinished says whether the picture at hand is worth waiting for: its last packet is to come soon.
func (l *Layer) unfinished(now int64) bool {
	if l.track.kind != rtp.KindVideo || l.urgent || len(l.pending) == 0 || now-l.since >= quantum || l.gap > quantum/2 {
		return false
	}
	return !l.pending[len(l.pending)-1].h.Marker
}

// flush forwards what is pending.
func (l *Layer) flush(now int64) {
	for i := range l.pending {
		if l.pending[i].info.Key {
			l.keyWanted = false
		}
	}
	if l.track.kind == rtp.KindVideo {
		l.peer.router.Counters.Evened += even(l.pending)
	}
	for _, leg := range l.track.legs {
		leg.forward(l, l.pending, now)
	}
	if x := l.track.tap; x != nil {
		x.take(l, l.pending, now)
	}
	l.drop()
}

// drop lets go of what is pending.
func (l *Layer) drop() {
	for i := range l.pending {
		l.pending[i].buf.Release()
		l.pending[i] = packet{}
	}
	l.pending = l.pending[:0]
}

// tick does what is due for the layer and returns its next deadline.
func (l *Layer) tick(now int64) int64 {
	next := int64(math.MaxInt64)
	l.ring.Expire(now) // a stream that has stopped must not hold its buffers
	if l.track.muted || !l.track.watched() {
		l.nack.Reset()
		l.keyWanted = false
		return next
	}
	if at := l.nack.Next(); at <= now {
		l.askMissing(now)
	}
	if at := l.nack.Next(); at > now {
		next = at
	}
	if l.keyWanted && now >= l.keyUntil {
		l.keyWanted = false
	}
	if l.keyWanted {
		if now >= l.keyDue && !l.sendPLI(now) {
			l.keyDue = now + keyInterval // the transport is away
		}
		next = min(next, l.keyDue)
	}
	return next
}

// close lets go of what the layer holds and unbinds it.
func (l *Layer) close() {
	l.drop()
	if l.ring != nil {
		l.ring.Release()
		l.nack.Reset()
	}
	l.bound, l.lastAt, l.keyWanted = false, 0, false
	l.id, l.rtx = 0, 0
}

// unwrap turns a retransmission (RFC 4588 §4) into the packet that it carries, in place; false for padding, which probes are
// made of.
func (l *Layer) unwrap(b *pktbuf.Buf, h *rtp.Header) bool {
	pt, ok := l.track.up.repairOf(h.PayloadType)
	if !ok {
		return false
	}
	data := b.Bytes()
	if pad := rtp.PaddingLen(data, h); pad < 0 || len(data)-h.HeaderLen-pad <= rtp.OSNLen {
		return false
	}
	data, ok = rtp.StripRTX(data, h, pt, l.ssrc)
	if !ok {
		return false
	}
	b.SetLen(len(data))
	return h.Parse(b.Bytes())
}

// wantKey asks for a key frame now, or as soon as the rate limit allows.
func (l *Layer) wantKey(now int64) {
	if l.track.muted || !l.bound {
		return
	}
	if l.keyUntil = now + keyWish; !l.keyWanted {
		l.keyWanted, l.keyDue = true, l.keyAt+keyInterval
		if l.keyAt == 0 || l.keySpare > 0 {
			l.keyDue = l.keyAt + keySpacing
		}
	}
	if now >= l.keyDue {
		l.sendPLI(now)
		return
	}
	l.peer.router.timers.sooner(l.peer, l.keyDue)
}

// sendPLI asks for a key frame; false if the transport cannot.
func (l *Layer) sendPLI(now int64) bool {
	r := l.peer.router
	r.scratch = rtcp.AppendPLI(r.scratch[:0], l.peer.localSSRC, l.ssrc)
	if !l.peer.send(r.scratch) {
		return false
	}
	// Requests that were not made are spare, a few: many who come at the same moment need not wait for each other.
	l.keySpare = min(l.keySpare+int((now-l.keyAt)/keyInterval)-1, keySpares)
	l.keyAt, l.keyDue = now, now+keyInterval
	if l.peer.mirror == nil {
		r.Counters.KeyRequestsOut++
	}
	r.timers.sooner(l.peer, now+keyInterval)
	return true
}

// askMissing requests what is missing from the publisher; what cannot be had any more makes a key frame necessary.
func (l *Layer) askMissing(now int64) {
	r := l.peer.router
	r.seqs = l.nack.Missing(now, l.peer.RoundTrip(), r.seqs[:0])
	if len(r.seqs) > 0 {
		r.scratch = rtcp.AppendNACK(r.scratch[:0], l.peer.localSSRC, l.ssrc, r.seqs)
		if l.peer.send(r.scratch) && l.peer.mirror == nil {
			r.Counters.NACKsOut += uint64(len(r.seqs))
		}
	}
	if n := l.nack.GaveUp; n != l.gaveUp {
		l.gaveUp = n
		if l.track.watched() {
			l.wantKey(now)
		}
	}
	r.timers.sooner(l.peer, l.nack.Next())
}
