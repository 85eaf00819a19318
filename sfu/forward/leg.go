package forward

import (
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/layer"
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

	num       numbering
	sel       layer.Selector
	view      View
	fresh     bool  // nothing was chosen for it yet
	waits     int   // packets of it in the peer's pacer
	beginning bool  // a key frame that it begins with is among them
	keyed     int64 // number of the last one that it began with
	lastTS    uint32
	lastAt    int64
	repairSeq int64       // last number of the retransmission stream
	clock     int64       // clock rate of what was sent last
	waiting   int64       // since when it waits for a key frame; 0: it does not
	resent    *[64]resent // made when something is asked for again, which most legs never are

	// reports
	packets, octets uint32
	silence         silence
	srMid           uint32 // middle 32 bits of the NTP time in the last sender report
	srAt            int64
	rtt             int64
	lost            int32 // cumulative, as the receiver reports it
	fraction        uint8
	jitter          uint32
	resends         uint32 // packets sent once more because they were asked for
	keyRequests     uint32 // of the receiver
	lossyUntil      int64  // while it counts as losing so much that redundancy is worth its bytes
}

type resent struct {
	number int64
	at     int64
}

func newSelector() (s layer.Selector) {
	s.SetTarget(layer.None)
	return s
}

// NewLeg adds a leg to the receiver p. Its identity never changes; what it shows does.
func (p *Peer) NewLeg(cfg LegConfig) *Leg {
	start := int64(cfg.Start & 0x7fff)
	l := &Leg{
		peer: p, kind: cfg.Kind, mid: []byte(cfg.MID), ssrc: cfg.SSRC, rtx: cfg.RTXSSRC,
		num: numbering{highest: start}, sel: newSelector(), view: View{Pixels: unknownPixels}, lastTS: cfg.Timestamp, repairSeq: start,
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
		l.track.removeLeg(l, now)
	}
	l.peer.out.pace.drop(l, now)
	l.track = t
	l.restart(now)
	l.sel.SetTarget(layer.None)
	if t != nil {
		t.legs = append(t.legs, l)
		l.fresh = true
		t.review(now)
		l.askKey(now)
	}
}

// restart makes the leg begin anew with the next packet it can begin with.
func (l *Leg) restart(now int64) {
	l.num.reset()
	l.sel.Reset()
	l.waiting = now
}

// askKey asks the publisher for a key frame if the leg waits for one.
func (l *Leg) askKey(now int64) {
	if l.track == nil || l.kind != rtp.KindVideo {
		return
	}
	if l.num.layer == nil && l.sel.Target().Stream < 0 {
		l.track.RequestKey(now) // nothing is chosen yet: it will be of what there is
		return
	}
	if i, ok := l.sel.NeedsKey(); ok && i < len(l.track.layers) {
		l.track.layers[i].wantKey(now)
	}
}

// forward sends the packets of from that this leg shows.
func (l *Leg) forward(from *Layer, ps []packet, now int64) {
	if !l.peer.sess.Ready() || l.stream == nil && !l.open() {
		return
	}
	if l.kind == rtp.KindVideo {
		l.retarget(now)
	}
	for i := range ps {
		p := &ps[i]
		if l.shows(from) && l.num.jumps(p.ext) {
			l.restart(now)
		}
		v, stamp := l.choose(from, p, now)
		if l.kind == rtp.KindAudio || v == layer.Drop && l.waits == 0 || l.peer.out.pace.open(now) {
			l.apply(from, p, v, stamp, now)
			continue
		}
		l.peer.hold(queued{leg: l, from: from, id: from.id, p: *p, verdict: v, stamp: stamp, at: now}, now)
	}
}

// apply gives a packet of from its number, or none, and sends it.
func (l *Leg) apply(from *Layer, p *packet, v layer.Verdict, stamp layer.Stamp, now int64) {
	at := l.shows(from)
	switch {
	case v == layer.Begin || v == layer.Send && !at:
		l.start(from, p, stamp, now)
		l.send(p, stamp, now)
	case v == layer.Send:
		l.send(p, stamp, now)
	case at:
		l.leave(p, now)
	}
}

// shows says whether the leg's current span is of from, as it is bound now.
func (l *Leg) shows(from *Layer) bool { return l.num.shows(from) }

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

// choose says what becomes of p. Key frames are read from clear bytes; should a codec hide them, the leg starts without after a
// while rather than never.
func (l *Leg) choose(from *Layer, p *packet, now int64) (layer.Verdict, layer.Stamp) {
	if l.kind == rtp.KindAudio {
		if l.shows(from) {
			return layer.Send, layer.Stamp{}
		}
		return layer.Begin, layer.Stamp{}
	}
	if l.num.layer != nil && l.num.layer.index == from.index && !l.shows(from) {
		l.restart(now) // the layer has another stream
	}
	v, stamp := l.sel.Select(from.index, &p.info)
	if v != layer.Drop {
		return v, stamp
	}
	wants, ok := l.sel.NeedsKey()
	if !ok || wants != from.index {
		return v, stamp
	}
	from.wantKey(now)
	if at := l.num.layer; at != nil && l.shows(at) && at.live(now) {
		l.waiting = 0 // there is a picture; the better one can wait for its key frame
		return v, stamp
	}
	if l.waiting == 0 {
		l.waiting = now
	}
	if now-l.waiting > keyPatience {
		blind := p.info
		blind.Key, blind.Start = true, true
		v, stamp = l.sel.Select(from.index, &blind)
	}
	return v, stamp
}

// start begins a new span with p: the numbers go on where they stopped, the timestamp as far as the clock has gone since.
func (l *Leg) start(from *Layer, p *packet, stamp layer.Stamp, now int64) {
	clock := int64(p.codec.ClockRate())
	ts := l.lastTS
	if l.lastAt != 0 {
		gap := (now - l.lastAt) * clock / second
		if gap < clock/100 {
			gap = clock / 100
		}
		ts += uint32(gap)
	}
	l.clock, l.waiting = clock, 0
	if p.info.Key {
		l.keyed = l.num.highest + 1
	}
	l.num.begin(from, p.ext, ts-p.h.Timestamp, stamp)
}

// send sends p under the leg's next number.
func (l *Leg) send(p *packet, stamp layer.Stamp, now int64) {
	r := l.peer.router
	m, payload, ok := l.suit(p, now)
	if !ok {
		r.Counters.UnknownPayload++
		return
	}
	inOrder := p.ext > l.num.seen
	number, ts, ok := l.num.give(p.ext, stamp)
	if !ok {
		r.Counters.Late++
		return
	}
	ts += p.h.Timestamp
	if inOrder {
		l.lastTS, l.lastAt = ts, now
	}
	hdr := l.peer.sess.ReserveRTP(maxHeader + len(payload))[:0]
	hdr = l.appendHeader(hdr, p, m.PayloadType, l.ssrc, uint16(number), ts, stamp, now)
	patch := stamp.Patch(&p.info, payload)
	patch.Apply(payload)
	err := l.peer.sess.SendRTP(l.stream, uint64(number), hdr, payload)
	patch.Undo(payload)
	if err != nil {
		r.Counters.SendErrors++
		return
	}
	l.packets++
	l.octets += uint32(len(payload))
	r.Counters.PacketsOut++
	r.Counters.BytesOut += uint64(len(hdr) + len(payload))
	if l.track != nil {
		l.track.forwarded++
	}
	l.peer.transmitted(l.ssrc, number, len(hdr)+len(payload), bwe.NoProbe, now)
}

// leave leaves p out. If it has come late its number is given already, and an empty packet goes in its place, so that the receiver
// does not ask for it for ever.
func (l *Leg) leave(p *packet, now int64) {
	number, ts, hole := l.num.leave(p.ext)
	if !hole {
		return
	}
	m, ok := l.codec(p.codec)
	if !ok {
		return
	}
	r := l.peer.router
	empty := packet{h: p.h, codec: p.codec}
	empty.h.Marker, empty.h.Padding = false, true
	hdr := l.peer.sess.ReserveRTP(maxHeader + 1)[:0]
	hdr = l.appendHeader(hdr, &empty, m.PayloadType, l.ssrc, uint16(number), ts+p.h.Timestamp, layer.Stamp{}, now)
	if l.peer.sess.SendRTP(l.stream, uint64(number), hdr, []byte{1}) != nil {
		r.Counters.SendErrors++
		return
	}
	r.Counters.Fillers++
	l.peer.transmitted(l.ssrc, number, len(hdr)+1, bwe.NoProbe, now)
}

// resend answers a request for the leg's number seq, unless it is a copy of one just before. Who asks again after a round trip may do
// so sooner than that by our measure of it, which is another and lags: half of it tells the two apart.
func (l *Leg) resend(seq uint16, now int64) {
	r := l.peer.router
	number := l.num.extend(seq)
	wait := max(l.peer.RoundTrip()/2, resendInterval)
	if l.resent == nil {
		l.resent = new([64]resent)
	}
	last := &l.resent[uint64(number)%uint64(len(l.resent))]
	if last.number == number && now-last.at < wait {
		return
	}
	if l.beginning || number < l.keyed && l.peer.out.narrow(now) {
		r.Counters.RetransmitMissed++
		return // of the pictures before a key frame none is missed
	}
	if !l.peer.out.pace.affords(now) {
		r.Counters.RetransmitHeld++
		l.later(number, now)
		return
	}
	if l.repairNow(number, now) {
		l.echo(number, now)
	}
}

// repairNow sends what was asked for.
func (l *Leg) repairNow(number, now int64) bool {
	r := l.peer.router
	if !l.again(number, 0, bwe.NoProbe, now) {
		r.Counters.RetransmitMissed++
		return false
	}
	if l.resent == nil {
		l.resent = new([64]resent)
	}
	l.resent[uint64(number)%uint64(len(l.resent))] = resent{number: number, at: now}
	r.Counters.Retransmitted++
	l.resends++
	return true
}

// again sends a packet of the history once more, over the retransmission stream (RFC 4588). Without one it cannot be: the same
// index may not be sealed twice, and the header has changed since. One shorter than least is passed over.
func (l *Leg) again(number int64, least int, probe bwe.ProbeID, now int64) bool {
	r := l.peer.router
	sp := l.num.find(number)
	if sp == nil || sp.layer == nil || l.repair == nil || sp.layer.ring == nil || sp.layer.id != sp.id || l.track == nil {
		return false
	}
	buf := sp.layer.ring.Get(number - sp.offset)
	var h rtp.Header
	if buf == nil || len(buf.Bytes()) < least || !h.Parse(buf.Bytes()) {
		return false
	}
	codec, _ := sp.layer.track.up.codec(h.PayloadType) // the leg may show something else by now
	m, ok := l.codec(codec)
	if !ok || m.RTX == 0 {
		return false
	}
	p := newPacket(buf, &h, number, codec, &sp.layer.peer.ext)
	p.info = sp.layer.parser.Peek(codec, p.dependency, p.content(), h.Marker)
	l.repairSeq++
	size := maxHeader + rtp.OSNLen + len(p.payload())
	hdr := l.peer.sess.ReserveRTP(size)[:0]
	hdr = l.appendHeader(hdr, &p, m.RTX, l.rtx, uint16(l.repairSeq), h.Timestamp+sp.ts, sp.stamp, now)

	// The original sequence number stands in front of the payload. It is put over the last two bytes of the stored header, which
	// are put back afterwards: the payload is sealed from where it lies.
	payload := p.payload()
	patch := sp.stamp.Patch(&p.info, payload)
	patch.Apply(payload)
	b := buf.Bytes()[h.HeaderLen-rtp.OSNLen:]
	keep := [rtp.OSNLen]byte{b[0], b[1]}
	b[0], b[1] = byte(number>>8), byte(number)
	err := l.peer.sess.SendRTP(l.repair, uint64(l.repairSeq), hdr, b)
	b[0], b[1] = keep[0], keep[1]
	patch.Undo(payload)
	if err != nil {
		r.Counters.SendErrors++
		return false
	}
	l.peer.transmitted(l.rtx, l.repairSeq, len(hdr)+len(b), probe, now)
	return true
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
	l.num.spans, l.num.n = nil, 0
}
