package forward

import (
	"math"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// maxInbound bounds the streams that one session may bring.
const maxInbound = 64

// Peer is the media side of one session: what it sends, and the legs that it receives.
type Peer struct {
	User any // the owner's

	router *Router
	sess   *transport.Session // nil: mirror
	mirror *Mirror            // stands for the publisher of a track on another shard
	ext    Extensions
	stream bool // it tells of arrivals by stream (RFC 8888)

	tracks    []*Track
	in        []inbound
	legs      []*Leg
	localSSRC uint32 // sender of our feedback
	cname     string // of our SSRCs, all of them
	rtt       int64  // last measured, 0: unknown
	clock     clock  // of what it publishes
	asked     [2]reference

	transportSeq uint16             // transport-wide sequence number of what we send to it
	twcc         *rtcp.TWCCRecorder // made with the first packet: most peers only receive
	feedbackAt   int64              // when feedback is due; 0: nothing to report
	reportAt     int64
	out          sender

	timer    int // place in the router's heap, -1: not in it
	deadline int64
}

// inbound is one received stream.
type inbound struct {
	ssrc   uint32
	repair bool
	layer  *Layer // what it belongs to while layer.bound; what it belonged to, later
}

// NewPeer makes the media side of s. localSSRC names the sender of the feedback to it, cname ties that and the SSRC of every leg
// together (RFC 3550 §6.5.1).
func (r *Router) NewPeer(s *transport.Session, localSSRC uint32, cname string, user any) *Peer {
	p := &Peer{User: user, router: r, sess: s, localSSRC: localSSRC, cname: cname, timer: -1, in: make([]inbound, 0, 8)}
	s.User = p
	r.peers[p] = struct{}{}
	return p
}

// Session returns the transport.
func (p *Peer) Session() *transport.Session { return p.sess }

// CNAME returns the name that the node goes by to this peer.
func (p *Peer) CNAME() string { return p.cname }

// SetExtensions says which header extensions the session uses.
func (p *Peer) SetExtensions(e Extensions) { p.ext = e }

// SetStreamFeedback says whether the peer tells of arrivals by the numbers of each stream (RFC 8888).
func (p *Peer) SetStreamFeedback(on bool) { p.stream = on }

// RoundTrip returns the last measured round trip time in nanoseconds, 0 if none was: that of media reports, which a peer that
// receives nothing does not send, or else that of consent checks.
func (p *Peer) RoundTrip() int64 {
	if p.rtt != 0 {
		return p.rtt
	}
	if p.sess == nil {
		return 0
	}
	return p.sess.RTT()
}

// Close ends what the peer publishes and frees its legs. The session is the caller's to close.
func (p *Peer) Close(now int64) {
	for len(p.tracks) > 0 {
		p.tracks[len(p.tracks)-1].Close(now)
	}
	for len(p.legs) > 0 {
		p.legs[len(p.legs)-1].Close(now)
	}
	p.router.timers.remove(p)
	delete(p.router.peers, p)
	p.in = nil
	p.sess.User = nil
}

// send sends RTCP to the peer; false if its transport cannot.
func (p *Peer) send(compound []byte) bool {
	if p.mirror != nil {
		return p.mirror.send(compound)
	}
	if !p.ready() {
		return false
	}
	if p.sess.SendRTCP(compound) != nil {
		p.router.Counters.SendErrors++
		return false
	}
	return true
}

// ready says whether the peer can be sent anything.
func (p *Peer) ready() bool { return p.sess != nil && p.sess.Ready() }

// inbound finds the stream that a packet belongs to. A new stream says in its header extensions which section it is of
// (RFC 9143 §9.2) and which layer (RFC 8852); or the answer named it; or its payload type leaves no choice.
func (p *Peer) inbound(h *rtp.Header) *inbound {
	var was *inbound
	for i := range p.in {
		if in := &p.in[i]; in.ssrc == h.SSRC {
			if in.layer.bound {
				return in
			}
			was = in
		}
	}
	t, index, repair := p.match(h)
	if t == nil && was != nil {
		t, index, repair = p.again(was)
	}
	if t == nil || index >= len(t.layers) {
		return nil
	}
	l := t.layers[index]
	if repair && !l.bound {
		return nil // its own stream is not known yet; a probe, or it will come again
	}
	in := p.place(h.SSRC, l, repair)
	if in == nil {
		return nil
	}
	if repair {
		l.rtx = h.SSRC
	} else {
		l.bind(h.SSRC)
	}
	*in = inbound{ssrc: h.SSRC, repair: repair, layer: l}
	return in
}

// place finds the entry for a new stream of l: its own, that of the stream that it replaces, a fresh one, or that of a stream that
// ended.
func (p *Peer) place(ssrc uint32, l *Layer, repair bool) *inbound {
	var own, ended *inbound
	kept := p.in[:0]
	for _, in := range p.in {
		if in.layer == l && in.ssrc != ssrc && (!repair || in.repair) {
			continue // replaced; with a layer's stream goes what repaired it
		}
		kept = append(kept, in)
	}
	clear(p.in[len(kept):])
	p.in = kept
	for i := range p.in {
		switch in := &p.in[i]; {
		case in.ssrc == ssrc:
			own = in
		case !in.layer.bound && ended == nil:
			ended = in
		}
	}
	switch {
	case own != nil:
		return own
	case len(p.in) < maxInbound:
		p.in = append(p.in, inbound{})
		return &p.in[len(p.in)-1]
	}
	return ended
}

// again finds where a stream belongs whose publication has ended, when another has taken its section up. Senders name the section
// and the layer of a stream only until they know that they were understood, and do not begin anew with the next publication.
func (p *Peer) again(was *inbound) (t *Track, layer int, repair bool) {
	old := was.layer.track
	for _, t := range p.tracks {
		if t.up.mid != old.up.mid {
			continue
		}
		if len(t.up.rids) == 0 || len(old.up.rids) == 0 {
			return t, was.layer.index, was.repair
		}
		for i, rid := range t.up.rids {
			if rid == old.up.rids[was.layer.index] {
				return t, i, was.repair
			}
		}
	}
	return nil, 0, false
}

// match finds the track and layer of a stream that is not known yet.
func (p *Peer) match(h *rtp.Header) (t *Track, layer int, repair bool) {
	for _, t := range p.tracks {
		for i, ssrc := range t.up.ssrcs {
			if ssrc == h.SSRC {
				return t, i, false
			}
		}
		if t.up.rtx != 0 && t.up.rtx == h.SSRC {
			return t, 0, true
		}
	}
	if p.ext.MID != 0 {
		if mid := h.Extension(p.ext.MID); len(mid) > 0 {
			for _, t := range p.tracks {
				if t.up.mid == string(mid) {
					return t.matchLayer(p, h)
				}
			}
			return nil, 0, false
		}
	}
	for _, c := range p.tracks {
		_, media := c.up.codec(h.PayloadType)
		_, rep := c.up.repairOf(h.PayloadType)
		if !media && !rep {
			continue
		}
		if l := c.layers[0]; p.ext.MID != 0 && l.bound && (media || l.rtx != 0) {
			return nil, 0, false // it has its stream; another one would say that it takes over
		}
		if t != nil || len(c.up.rids) > 0 {
			return nil, 0, false // ambiguous
		}
		t, repair = c, rep
	}
	return t, 0, repair
}

// matchLayer finds the layer by rid or repaired-rid.
func (t *Track) matchLayer(p *Peer, h *rtp.Header) (*Track, int, bool) {
	_, repair := t.up.repairOf(h.PayloadType)
	if _, media := t.up.codec(h.PayloadType); !media && !repair {
		return nil, 0, false // a stream of something that was not agreed must not take a layer from its own
	}
	if len(t.up.rids) == 0 {
		return t, 0, repair
	}
	id := p.ext.RID
	if repair {
		id = p.ext.RepairedRID
	}
	if id == 0 {
		return nil, 0, false
	}
	rid := h.Extension(id)
	for i, r := range t.up.rids {
		if r == string(rid) {
			return t, i, repair
		}
	}
	return nil, 0, false
}

// arrived notes a packet by its transport-wide sequence number and makes feedback due within its interval.
func (p *Peer) arrived(seq uint16, now int64) {
	if p.twcc == nil {
		p.twcc = new(rtcp.TWCCRecorder)
	}
	p.twcc.Received(seq, now)
	if p.feedbackAt == 0 {
		p.feedbackAt = transport.Coarse(now + feedbackInterval - transport.Grain/2)
		p.router.timers.sooner(p, p.feedbackAt)
	}
}

// tick does what is due for the peer and returns its next deadline.
func (p *Peer) tick(now int64) int64 {
	next := int64(math.MaxInt64)
	if p.feedbackAt != 0 {
		if p.feedbackAt <= now {
			p.feedbackAt = 0
			p.sendFeedback()
		} else {
			next = p.feedbackAt
		}
	}
	next = min(next, p.sendEchoes(now), p.pump(now))
	if p.reportAt <= now {
		p.reportAt = transport.Coarse(now + reportInterval - transport.Grain)
		if !p.sendReports(now) {
			p.reportAt = now + reportInterval - now%reportInterval // all who have nothing to say wake the thread together
		}
	}
	next = min(next, p.reportAt)
	for _, t := range p.tracks {
		if t.lowerAt != 0 {
			if t.lowerAt <= now {
				t.review(now)
			} else {
				next = min(next, t.lowerAt)
			}
		}
		for _, l := range t.layers {
			if l.bound && l.nack != nil {
				next = min(next, l.tick(now))
			}
		}
	}
	return next
}
