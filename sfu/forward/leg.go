package forward

import (
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// LegConfig says what a leg is to its receiver: one sending section of the offer.
type LegConfig struct {
	MID     string
	Kind    rtp.Kind
	SSRC    uint32
	RTXSSRC uint32
	// Start is the first sequence number, below 2^15 so that a receiver that misses the first packets guesses the rollover
	// counter right (RFC 3711 §3.3.1). Timestamp is the first timestamp.
	Start     uint16
	Timestamp uint32
}

// CodecMap gives the payload types of one codec.
type CodecMap struct {
	Codec            rtp.Codec
	PayloadType, RTX uint8 // RTX 0: not negotiated
}

// span is a stretch of a leg's numbering that maps to one layer by one offset. The last few are kept: a request to send again
// names a number of the leg, and the packet is in the layer's history under the publisher's number.
type span struct {
	layer  *Layer
	id     uint32 // the layer's id when the span began: a layer that was bound anew answers no old request
	first  int64  // first extended number of the leg in this span
	offset int64  // leg's number less publisher's number
	ts     uint32 // leg's timestamp less publisher's
}

const spans = 4

// maxJump is the longest gap in a publisher's numbers that a leg takes over (RFC 3550 §A.1 has the same for a stream that started
// anew). A receiver that does not see a gap of half a cycle end can never open a packet of the leg again (RFC 3711 §3.3.1), and the
// leg outlives what it shows.
const maxJump = 3000

// Leg sends one track at a time to one receiver under a constant SSRC.
type Leg struct {
	peer   *Peer
	kind   rtp.Kind
	mid    []byte
	ssrc   uint32
	rtx    uint32
	codecs []CodecMap

	track  *Track
	stream *transport.Stream
	repair *transport.Stream

	// numbering
	layer     *Layer // nil: waits for a packet to start from
	layerID   uint32
	offset    int64  // leg's extended number less publisher's
	tsOffset  uint32 // leg's timestamp less publisher's
	first     int64  // leg's number at which the current span began
	highest   int64  // last number sent, or the one before the first
	lastTS    uint32
	lastAt    int64
	repairSeq int64 // last number of the retransmission stream
	clock     int64 // clock rate of what was sent last
	waiting   int64 // since when it waits for a key frame; 0: it does not
	spans     [spans]span
	spanN     int
	resent    [64]resent

	// reports
	packets, octets uint32
	srMid           uint32 // middle 32 bits of the NTP time in the last sender report
	srAt            int64
	rtt             int64
	lost            int32 // cumulative, as the receiver reports it
	fraction        uint8
	jitter          uint32
}

type resent struct {
	ext int64
	at  int64
}

// NewLeg adds a leg to the receiver p. Its identity never changes; what it shows does.
func (p *Peer) NewLeg(cfg LegConfig) *Leg {
	start := int64(cfg.Start & 0x7fff)
	l := &Leg{
		peer: p, kind: cfg.Kind, mid: []byte(cfg.MID), ssrc: cfg.SSRC, rtx: cfg.RTXSSRC,
		highest: start, lastTS: cfg.Timestamp, repairSeq: start,
	}
	p.legs = append(p.legs, l)
	return l
}

// MID returns the identification of the leg's section.
func (l *Leg) MID() string { return string(l.mid) }

// Kind returns what the leg can carry.
func (l *Leg) Kind() rtp.Kind { return l.kind }

// Track returns what the leg shows, or nil.
func (l *Leg) Track() *Track { return l.track }

// SetCodecs says which codecs the receiver takes on this leg. A leg without codecs sends nothing.
func (l *Leg) SetCodecs(m []CodecMap) { l.codecs = m }

// Usable says whether the receiver has accepted the leg.
func (l *Leg) Usable() bool { return len(l.codecs) > 0 }

// Supports says whether the receiver takes c on this leg.
func (l *Leg) Supports(c rtp.Codec) bool {
	_, ok := l.codec(c)
	return ok
}

func (l *Leg) codec(c rtp.Codec) (CodecMap, bool) {
	for _, m := range l.codecs {
		if m.Codec == c {
			return m, true
		}
	}
	return CodecMap{}, false
}

// Bind makes the leg show t from the next packet (audio) or key frame (video) on; nil frees it.
func (l *Leg) Bind(t *Track, now int64) {
	if l.track == t {
		return
	}
	if l.track != nil {
		l.track.removeLeg(l)
	}
	l.track = t
	l.restart(now)
	if t != nil {
		t.legs = append(t.legs, l)
		l.askKey(now)
	}
}

// restart makes the leg begin anew with the next packet it can begin with.
func (l *Leg) restart(now int64) {
	l.layer = nil
	l.waiting = now
}

// askKey asks the publisher for a key frame if the leg waits for one.
func (l *Leg) askKey(now int64) {
	if l.track != nil && l.kind == rtp.KindVideo && l.layer == nil {
		l.track.RequestKey(now)
	}
}

// forward sends the packets of from that this leg shows.
func (l *Leg) forward(from *Layer, ps []packet, now int64) {
	if !l.shows(from) && l.track.best(now) != from {
		return // another layer is shown, or should be
	}
	sess := l.peer.sess
	if !sess.Ready() {
		return
	}
	if l.stream == nil && !l.open() {
		return
	}
	for i := range ps {
		p := &ps[i]
		if l.shows(from) && p.ext+l.offset > l.highest+maxJump {
			l.restart(now)
		}
		if !l.shows(from) {
			if !l.canStart(p, now) {
				from.wantKey(now)
				continue
			}
			l.start(from, p, now)
		}
		l.send(p, now)
	}
}

// shows says whether the leg's current span is of from, as it is bound now.
func (l *Leg) shows(from *Layer) bool { return l.layer == from && l.layerID == from.id }

// open makes the leg's SRTP streams; they outlive every binding.
func (l *Leg) open() bool {
	s, err := l.peer.sess.Stream(l.ssrc)
	if err != nil {
		return false
	}
	if l.rtx != 0 {
		if l.repair, err = l.peer.sess.Stream(l.rtx); err != nil {
			return false
		}
	}
	l.stream = s
	return true
}

// canStart says whether a receiver can begin to decode at p. The key frame bit is read from clear bytes; should a codec hide it,
// the leg starts without after a while rather than never.
func (l *Leg) canStart(p *packet, now int64) bool {
	if l.kind == rtp.KindAudio || p.key {
		return true
	}
	if l.layer != nil && l.shows(l.layer) && l.layer.live(now) {
		l.waiting = 0 // there is a picture; the better one can wait for its key frame
		return false
	}
	if l.waiting == 0 {
		l.waiting = now
	}
	return now-l.waiting > keyPatience
}

// start begins a new span with p: the numbers go on where they stopped, the timestamp as far as the clock has gone since.
func (l *Leg) start(from *Layer, p *packet, now int64) {
	clock := int64(p.codec.ClockRate())
	ts := l.lastTS
	if l.lastAt != 0 {
		gap := (now - l.lastAt) * clock / second
		if gap < clock/100 {
			gap = clock / 100
		}
		ts += uint32(gap)
	}
	l.layer, l.layerID, l.clock, l.waiting = from, from.id, clock, 0
	l.first = l.highest + 1
	l.offset = l.first - p.ext
	l.tsOffset = ts - p.h.Timestamp
	l.spans[l.spanN%spans] = span{layer: from, id: from.id, first: l.first, offset: l.offset, ts: l.tsOffset}
	l.spanN++
}

func (l *Leg) send(p *packet, now int64) {
	r := l.peer.router
	ext := p.ext + l.offset
	if ext < l.first {
		r.Counters.Late++
		return
	}
	m, ok := l.codec(p.codec)
	if !ok {
		r.Counters.UnknownPayload++
		return
	}
	ts := p.h.Timestamp + l.tsOffset
	payload := p.payload()
	hdr := l.peer.sess.ReserveRTP(maxHeader + len(payload))[:0]
	hdr = l.appendHeader(hdr, p, m.PayloadType, l.ssrc, uint16(ext), ts, now)
	if err := l.peer.sess.SendRTP(l.stream, uint64(ext), hdr, payload); err != nil {
		r.Counters.SendErrors++
		return
	}
	if ext > l.highest {
		l.highest, l.lastTS, l.lastAt = ext, ts, now
	}
	l.packets++
	l.octets += uint32(len(payload))
	r.Counters.PacketsOut++
	r.Counters.BytesOut += uint64(len(hdr) + len(payload))
	l.track.forwarded++
}

// resend answers a request for the leg's number seq from the history, over the retransmission stream (RFC 4588). Without one the
// request cannot be met: the same index may not be sealed twice, and the header has changed since.
func (l *Leg) resend(seq uint16, now int64) {
	r := l.peer.router
	ext := rtp.Extend(l.highest, seq)
	sp := l.span(ext)
	if sp == nil || sp.layer == nil || l.repair == nil || sp.layer.ring == nil || sp.layer.id != sp.id || l.track == nil {
		r.Counters.RetransmitMissed++
		return
	}
	buf := sp.layer.ring.Get(ext - sp.offset)
	var h rtp.Header
	if buf == nil || !h.Parse(buf.Bytes()) {
		r.Counters.RetransmitMissed++
		return
	}
	codec, _ := sp.layer.track.up.codec(h.PayloadType) // the leg may show something else by now
	m, ok := l.codec(codec)
	if !ok || m.RTX == 0 {
		r.Counters.RetransmitMissed++
		return
	}
	wait := max(l.peer.RoundTrip(), resendInterval)
	again := &l.resent[uint64(ext)%uint64(len(l.resent))]
	if again.ext == ext && now-again.at < wait {
		return
	}
	*again = resent{ext: ext, at: now}

	p := newPacket(buf, &h, ext, codec, &sp.layer.peer.ext)
	l.repairSeq++
	size := maxHeader + 2 + len(p.payload())
	hdr := l.peer.sess.ReserveRTP(size)[:0]
	hdr = l.appendHeader(hdr, &p, m.RTX, l.rtx, uint16(l.repairSeq), h.Timestamp+sp.ts, now)

	// The original sequence number stands in front of the payload. It is put over the last two bytes of the stored header, which
	// are put back afterwards: the payload is sealed from where it lies.
	b := buf.Bytes()[h.HeaderLen-2:]
	keep := [2]byte{b[0], b[1]}
	b[0], b[1] = byte(seq>>8), byte(seq)
	err := l.peer.sess.SendRTP(l.repair, uint64(l.repairSeq), hdr, b)
	b[0], b[1] = keep[0], keep[1]
	if err != nil {
		r.Counters.SendErrors++
		return
	}
	r.Counters.Retransmitted++
}

// span finds the stretch of numbering that ext belongs to.
func (l *Leg) span(ext int64) *span {
	if ext > l.highest {
		return nil
	}
	for i := l.spanN - 1; i >= 0 && i >= l.spanN-spans; i-- {
		if s := &l.spans[i%spans]; ext >= s.first {
			return s
		}
	}
	return nil
}

// forget lets go of layers that ended or were bound anew: the leg outlives what it has shown.
func (l *Leg) forget() {
	for i := range l.spans {
		if s := &l.spans[i]; s.layer != nil && s.layer.id != s.id {
			s.layer = nil
		}
	}
}

// Close frees the leg and takes it from its receiver.
func (l *Leg) Close(now int64) {
	l.Bind(nil, now)
	for i, x := range l.peer.legs {
		if x == l {
			l.peer.legs = slices.Delete(l.peer.legs, i, i+1)
			break
		}
	}
	l.spans = [spans]span{}
}
