package forward

import (
	"math"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/layer"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

const (
	adaptInterval = 100 * millisecond // layers are shared out anew so often at most
	probePackets  = 32                // of a probe in one go

	// A link is judged by what it was seen to carry, so at first something must be sent: this long the lowest layer of everything
	// goes out, whatever the estimate says. A peer that has not reported by the end of it never will.
	settling = 2 * second

	// startRate is what a link is taken for before anything is known of it: room for a picture that one can make out, and sound.
	// openingRate is what may leave all the same while it settles: without something sent nothing becomes known.
	startRate   = 600_000
	openingRate = 2_000_000

	// leastRate is what every link is taken to carry: to leave out what costs so little helps nobody.
	leastRate = 150_000
)

// sender is what is known of the link to one peer, and what is done about it. A peer that says nothing of its link is sent at once
// all that it can show.
type sender struct {
	est     *bwe.Estimator // nil while the peer cannot report on what it gets
	since   int64          // when the first packet left under it
	heard   int64          // when the first report came; 0: there was none
	told    int64          // when the last one came
	pace    pacer
	probes  uint8  // packets of the history that the last probes have used
	adaptAt int64  // when layers may be shared out anew
	held    []echo // repairs that wait for room, the oldest first
	echoes  []echo // repairs that go a second time, the next one first
}

// View is how a receiver shows a leg.
type View struct {
	Pixels          uint32 // 0: not at all, and nothing is sent
	Pinned, Speaker bool
	Screen          bool
}

// unknownPixels is taken until the receiver has said how it shows a leg.
const unknownPixels = 1280 * 720

// SetView says how the receiver shows the leg. What is sent follows at once.
func (l *Leg) SetView(v View, now int64) {
	l.view = v
	if l.track == nil {
		return
	}
	l.track.review(now)
	l.peer.adapt(now)
	l.askKey(now)
}

// estimator returns the estimator of the peer's link, nil if the peer cannot report on it.
func (p *Peer) estimator() *bwe.Estimator {
	if p.out.est == nil && (p.ext.TransportCC != 0 || p.stream) {
		p.out.est = bwe.New(bwe.Config{Start: startRate})
	}
	return p.out.est
}

// Estimate returns what the peer's link is taken to carry, in bit/s, and 0 if nothing is known of it.
func (p *Peer) Estimate() uint64 {
	if p.out.est == nil {
		return 0
	}
	return p.out.est.Target()
}

// transmitted notes a packet that left as number of the stream ssrc, under the peer's current transport-wide number.
func (p *Peer) transmitted(ssrc uint32, number int64, size int, probe bwe.ProbeID, now int64) {
	if p.out.est == nil {
		return
	}
	if p.out.since == 0 {
		p.out.since = now
	}
	if p.stream {
		p.out.est.SentStream(ssrc, uint16(number), size, probe, now)
	} else {
		p.out.est.Sent(p.transportSeq, size, probe, now)
	}
	p.out.pace.spend(size)
}

// hold lets a packet wait until the link has room. What waits of a layer is given up when another one begins, and when there is no
// end of it the picture is given up until the next key frame.
func (p *Peer) hold(x queued, now int64) {
	if x.verdict == layer.Begin {
		p.router.Counters.PacerDropped += uint64(p.out.pace.drop(x.leg, now))
		p.out.forgetHeld(x.leg)
	}
	if p.out.pace.put(x, now) {
		p.router.Counters.Paced++
		p.router.timers.sooner(p, p.out.pace.next())
		return
	}
	p.router.Counters.PacerDropped += uint64(p.out.pace.drop(x.leg, now)) + 1
	x.leg.restart(now)
	x.leg.askKey(now)
}

// narrow says that what is sent now is at the cost of something else.
func (o *sender) narrow(now int64) bool {
	return o.est != nil && (o.pace.n > 0 || o.pace.opened != 0 && now-o.pace.opened < second || !o.pace.affords(now))
}

// onFeedback takes a report on the arrival of what was sent.
func (p *Peer) onFeedback(f rtcp.TWCC, now int64) {
	if p.out.est == nil || p.stream {
		return
	}
	p.out.est.TransportFeedback(f, now)
	p.reported(now)
}

// onStreamFeedback is onFeedback for a peer that tells of arrivals by stream.
func (p *Peer) onStreamFeedback(f rtcp.CCFB, now int64) {
	if p.out.est == nil || !p.stream {
		return
	}
	p.out.est.StreamFeedback(f, now)
	p.reported(now)
}

// reported acts on news of the link.
func (p *Peer) reported(now int64) {
	if p.out.told = now; p.out.heard == 0 {
		p.out.heard = now
	}
	if now >= p.out.adaptAt || p.out.est.Congested() {
		p.adapt(now)
		for _, l := range p.legs {
			if l.sel.Target() != layer.None {
				l.askKey(now) // not with its next packet, which may be a whole picture later
			}
		}
	}
	p.router.timers.sooner(p, p.pump(now))
}

// pump lets leave what may, and returns when to look again.
func (p *Peer) pump(now int64) int64 {
	o := &p.out
	if o.est == nil {
		return math.MaxInt64
	}
	if o.heard == 0 {
		return math.MaxInt64
	}
	next := o.est.Tick(now)
	// A peer that has not said anything for so long does not tell any more when the path is free.
	o.pace.set(o.est.PacingRate(), o.est.Congested() && now-o.told < settling, now)
	heldTo := p.sendHeld(now)
	for {
		x, ok := o.pace.take(now)
		if !ok {
			break
		}
		if x.id == x.from.id && p.sess.Ready() {
			x.leg.apply(x.from, &x.p, x.verdict, x.stamp, now)
		}
		x.p.buf.Release()
	}
	if o.pace.n == 0 {
		p.probe(now)
	}
	if next = max(next, now+millisecond); next > now+transport.Grain && next != math.MaxInt64 {
		next = transport.Coarse(next)
	}
	return min(next, heldTo, o.pace.next())
}

// probe sends what the estimator wants tried, behind the media.
func (p *Peer) probe(now int64) {
	for range probePackets {
		pr, ok := p.out.est.Probe(now)
		if !ok {
			return
		}
		l := p.proberLeg()
		if l == nil || !l.probe(pr.ID, now) {
			return
		}
	}
}

// proberLeg is the leg whose retransmission stream carries probes.
func (p *Peer) proberLeg() *Leg {
	for _, l := range p.legs {
		if l.repair != nil && l.track != nil && l.Usable() {
			return l
		}
	}
	return nil
}

// probe sends one packet of a probe: one of the history again, which the receiver drops as a duplicate, so that a probe is of the
// size of media; or padding, when nothing was sent of late.
func (l *Leg) probe(id bwe.ProbeID, now int64) bool {
	l.peer.out.probes++
	l.peer.router.Counters.Probes++
	for i := range int64(4) { // many small ones would cost the receiver more than they show
		number := l.num.highest - (int64(l.peer.out.probes)+i)%32
		if l.again(number, 2*len(padding), id, now) {
			return true
		}
	}
	return l.pad(id, now)
}

// pad sends a packet of nothing but padding (RFC 3550 §5.1) on the retransmission stream.
func (l *Leg) pad(id bwe.ProbeID, now int64) bool {
	m := l.codecs[0]
	if m.RTX == 0 {
		return false
	}
	l.repairSeq++
	empty := packet{h: rtp.Header{Padding: true}, codec: m.Codec}
	hdr := l.peer.sess.ReserveRTP(maxHeader + len(padding))[:0]
	hdr = l.appendHeader(hdr, &empty, m.RTX, l.rtx, uint16(l.repairSeq), l.lastTS, layer.Stamp{}, now)
	if l.peer.sess.SendRTP(l.repair, uint64(l.repairSeq), hdr, padding[:]) != nil {
		l.peer.router.Counters.SendErrors++
		return false
	}
	l.peer.transmitted(l.rtx, l.repairSeq, len(hdr)+len(padding), id, now)
	return true
}

// padding is the most that a packet can hold: its last byte counts it.
var padding = [255]byte{254: 255}

// retarget sees that what the leg is to have exists.
func (l *Leg) retarget(now int64) {
	t := l.sel.Target()
	if now >= l.peer.out.adaptAt || l.fresh || t.Stream >= 0 && !l.track.layers[t.Stream].live(now) {
		l.peer.adapt(now)
	}
}

// adapt shares the link out between the legs.
func (p *Peer) adapt(now int64) {
	p.out.adaptAt = now + adaptInterval
	r := p.router
	budget, settled := p.budget(now)
	r.streams, r.offers, r.targets, r.offered = r.streams[:0], r.offers[:0], r.targets[:0], r.offered[:0]
	for _, l := range p.legs {
		if l.track == nil || l.track.muted || !l.Usable() {
			continue
		}
		from := len(r.offers)
		s := bwe.Stream{Current: -1, Audio: l.kind == rtp.KindAudio}
		if s.Audio {
			r.offers = append(r.offers, bwe.Candidate{Rate: l.track.layers[0].meter.upTo(0, 0)})
			r.targets = append(r.targets, layer.Target{})
		} else {
			s.Pixels, s.Screen, s.Pinned, s.Speaker = l.view.Pixels, l.view.Screen, l.view.Pinned, l.view.Speaker
			l.candidates(now)
			for i, t := range r.targets[from:] {
				if t == l.sel.Target() {
					s.Current = i
				}
			}
		}
		if len(r.offers) == from {
			continue
		}
		r.streams = append(r.streams, s)
		r.offered = append(r.offered, offered{leg: l, from: from, to: len(r.offers)})
	}
	for i, o := range r.offered {
		r.streams[i].Candidates = r.offers[o.from:o.to] // not sooner: the list moves as it grows
	}
	for len(r.choice) < len(r.streams) {
		r.choice = append(r.choice, 0)
	}
	a := bwe.Allocate(budget, r.streams, r.choice[:len(r.streams)])
	draining := p.out.est != nil && p.out.est.Draining()
	if p.out.est != nil {
		p.out.est.Want(a.Need, now)
	}
	// While the link settles some more is shown than it is known to carry; later on one picture, if it is not much too large, rather
	// than none.
	shown := 0
	for i, o := range r.offered {
		if r.choice[i] >= 0 && o.leg.kind == rtp.KindVideo {
			shown++
		}
	}
	for i, o := range r.offered {
		if o.leg.kind == rtp.KindAudio {
			continue
		}
		o.leg.fresh = false
		c := r.choice[i]
		if lowest := r.offers[o.from].Rate; c < 0 && r.streams[i].Pixels > 0 &&
			(!settled && a.Used < openingRate || shown == 0 && 4*lowest < 5*budget || a.Used+lowest <= leastRate) {
			c = 0
			a.Used += min(lowest, openingRate/4) // it may not be known yet
			shown++
		}
		if c < 0 {
			o.leg.sel.SetTarget(layer.None)
			continue
		}
		t := r.targets[o.from+c]
		if draining {
			t.Temporal = 0 // it waits, and all that waits is in the way of the first that can be shown again
		}
		o.leg.sel.SetTarget(t)
	}
	clear(r.offered)
}

// budget is what the peer may be sent, in bit/s, and whether that rests on more than a guess.
func (p *Peer) budget(now int64) (bps uint64, settled bool) {
	est := p.estimator()
	switch o := &p.out; {
	case est == nil || o.heard == 0 && o.since != 0 && now-o.since > settling:
		return math.MaxInt64, true
	case o.heard == 0 || now-o.heard < settling:
		return est.Target(), false
	}
	return est.Target(), true
}

// offered is a leg's part of the lists that layers are shared out by.
type offered struct {
	leg      *Leg
	from, to int
}

// candidates lists what can be sent on the leg, in the order of rates: the temporal layers of the lowest picture, and each larger
// picture whole.
func (l *Leg) candidates(now int64) {
	r := l.peer.router
	t := l.track
	first, floor := true, uint64(0)
	for i, y := range t.layers {
		if !y.live(now) {
			continue
		}
		have := y.parser.Layers()
		spatial, temporal := int(max(have.Spatial, 1)), int(max(have.Temporal, 1))
		for s := range spatial {
			size := t.pixelsOf(i) >> (2 * (spatial - 1 - s))
			from := temporal - 1
			if first {
				from, first = 0, false
			}
			for k := from; k < temporal; k++ {
				rate := y.meter.upTo(uint8(s), uint8(k))
				if !y.meter.known {
					rate = uint64(2*size) >> (temporal - 1 - k)
				}
				if rate <= floor { // it costs nothing more than the one below, or is not sent
					rate = floor + 1
				}
				floor = rate
				r.offers = append(r.offers, bwe.Candidate{Rate: rate, Pixels: size, Frames: uint8(30 >> (temporal - 1 - k))})
				r.targets = append(r.targets, layer.Target{Stream: int8(i), Spatial: uint8(s), Temporal: uint8(k)})
			}
		}
	}
}
