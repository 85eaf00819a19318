// Package forward is the fan-out of the media path: it takes the decrypted packets of a shard's sessions, finds the publication
// each belongs to, and sends it, rewritten, into every leg that shows that publication. It owns what is between: the reception
// state of published streams, the history they are repaired from, the numbering of every leg, and the RTCP of both sides.
//
// It promises that a leg's sequence numbers, timestamps and SSRC go on without a break whatever publication or layer it shows,
// that a duplicate is never forwarded, and that nothing is allocated, locked or logged per packet.
//
// It does not know conferences, permissions or SDP: package sfu tells it which track a leg shows. Everything in it belongs to one
// shard and may be called from its thread only. Time is monotonic nanoseconds, handed in.
package forward

import (
	"math"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/layer"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Time spans of the media path, in nanoseconds.
const (
	millisecond = int64(1e6)
	second      = int64(1e9)

	reportInterval   = second            // sender and receiver reports (RFC 3550 §6.2, at the reduced minimum)
	feedbackInterval = 100 * millisecond // transport-wide feedback to publishers
	keyInterval      = 500 * millisecond // at most one key frame request a stream in this time
	keySpacing       = 100 * millisecond // but for a few that were not used before, which may come as close as this
	keySpares        = 2
	layerTimeout     = 1000 * millisecond // a simulcast layer without packets for so long is not chosen
	layerBehind      = 10                 // … or during so many pictures of a lower one,
	layerSilence     = 300 * millisecond  // and for this long
	keyPatience      = 3 * second         // a leg that waits for a key frame starts without one after this
	keyWish          = 3 * second         // a wish for a key frame is repeated for so long, unless it is renewed
	resendInterval   = 20 * millisecond   // a packet is not retransmitted twice in this time, if the round trip is unknown
	quantum          = 2 * millisecond    // the packets of a picture wait for each other so long at most
)

// Observer hears of what the owner of a Router cannot see from its own calls. It is called on the shard's thread and must not
// block.
type Observer interface {
	// Live is called when the first packet of a track has arrived.
	Live(t *Track)
	// Demand is called when another layer than before is the highest that any receiver can make use of.
	Demand(t *Track, top int)
	// State is called when a session's transport changes its state.
	State(p *Peer, st transport.State)
}

// Config is what a Router is made of.
type Config struct {
	Observer Observer
	// Pool is where packets of mirrored tracks go. It belongs to the same shard, and is needed only where there are others.
	Pool *pktbuf.Pool
	// MaxHistory is the number of packets kept of one stream for repair, a power of two. 0 means 1024.
	MaxHistory int
	// Epoch is the NTP time at which the packet clock was zero.
	Epoch uint64
}

// Counters of a Router: monotonic, written by the shard's thread.
type Counters struct {
	PacketsIn, BytesIn    uint64 // media packets accepted from publishers
	PacketsOut, BytesOut  uint64 // media packets sent into legs, retransmissions apart
	Retransmitted         uint64 // packets sent again on request
	Echoed                uint64 // and once more, on links that lose much
	RetransmitMissed      uint64 // requests for packets no longer in the history, or on a leg without RTX
	RetransmitHeld        uint64 // requests that waited for room on the receiver's link
	Recovered             uint64 // packets that came by retransmission from the publisher
	Duplicates            uint64 // packets dropped because they had come before (probes, mostly)
	Evened                uint64 // packets padded, to leave in one run with others of their picture
	Padding               uint64 // probes without content on a retransmission stream
	UnknownSSRC           uint64 // packets of a stream that belongs to no publication
	UnknownPayload        uint64 // packets with a payload type that was not negotiated
	Mirrored              uint64 // packets that came from another shard
	MirrorNoBuffer        uint64 // and found no buffer
	Muted                 uint64 // packets of a muted track, not forwarded
	Redundant             uint64 // packets of redundant sound (RFC 2198) that came
	Unpacked              uint64 // and packets of it sent into legs without the redundancy
	Late                  uint64 // packets too old for a leg's numbering
	Fillers               uint64 // empty packets in the place of some that came late and are not wanted
	Paced                 uint64 // packets that waited for room on their receiver's link
	PacerDropped          uint64 // packets that would have waited too long; the picture begins anew
	Probes                uint64 // packets sent again to try a higher rate
	SendErrors            uint64 // packets that the transport did not take
	KeyRequestsIn         uint64 // PLI and FIR of subscribers
	KeyRequestsOut        uint64 // PLI sent to publishers
	NACKsIn, NACKsOut     uint64 // sequence numbers asked for
	FeedbackIn            uint64 // feedback packets of subscribers on arrivals
	FeedbackOut           uint64 // and to publishers
	ReportsIn, ReportsOut uint64 // SR and RR packets
	MalformedRTCP         uint64
	IgnoredRTCP           uint64 // well-formed packets of types we have no use for
	ReceiverEstimates     uint64 // REMB packets
}

// Router forwards for all sessions of a shard. It implements transport.Handler.
type Router struct {
	obs        Observer
	pool       *pktbuf.Pool
	maxHistory int
	epoch      uint64 // NTP time at which the packet clock was zero

	peers  map[*Peer]struct{}
	dirty  []*Layer // layers with packets that wait to be forwarded
	heldTo int64    // when those of an unfinished picture are; math.MaxInt64: there are none
	timers timers
	layerN uint32

	scratch    []byte // RTCP is built here
	dependency []byte // and a dependency descriptor here

	// What layers are shared out by, a leg each; used by one peer at a time.
	streams []bwe.Stream
	offers  []bwe.Candidate
	targets []layer.Target
	offered []offered
	choice  []int

	seqs   []uint16
	budget int // packets that the compound at hand may still have sent again

	Counters Counters
}

// New returns a Router without peers.
func New(cfg Config) *Router {
	if cfg.MaxHistory == 0 {
		cfg.MaxHistory = 1024
	}
	return &Router{
		obs:        cfg.Observer,
		pool:       cfg.Pool,
		maxHistory: cfg.MaxHistory,
		epoch:      cfg.Epoch,
		heldTo:     math.MaxInt64,
		peers:      make(map[*Peer]struct{}),
		scratch:    make([]byte, 0, 2048),
		seqs:       make([]uint16, 0, 256),
	}
}

// RTP takes one authenticated packet. The buffer is borrowed: what is kept is retained.
func (r *Router) RTP(s *transport.Session, b *pktbuf.Buf, h *rtp.Header, _ uint64, now int64) {
	p, ok := s.User.(*Peer)
	if !ok {
		return
	}
	if id := p.ext.TransportCC; id != 0 { // of every packet, ours or not: the sender takes what is not reported for lost
		if v := h.Extension(id); len(v) == 2 {
			p.arrived(uint16(v[0])<<8|uint16(v[1]), now)
		}
	}
	in := p.inbound(h)
	if in == nil {
		r.Counters.UnknownSSRC++
		return
	}
	l := in.layer
	var ext int64
	var status rtcp.Status
	if in.repair {
		if !l.unwrap(b, h) {
			r.Counters.Padding++
			return
		}
		ext, status = l.reception.Repaired(h.SequenceNumber)
	} else {
		ext, status = l.reception.Update(h.SequenceNumber, h.Timestamp, l.track.codec.ClockRate(), now)
	}
	if status == rtcp.Duplicate {
		r.Counters.Duplicates++
		return
	}
	if in.repair {
		r.Counters.Recovered++
	}
	t := l.track
	codec, ok := t.up.codec(h.PayloadType)
	if !ok {
		r.Counters.UnknownPayload++
		if l.nack != nil {
			l.nack.Received(ext, now) // it is not missing
		}
		return
	}
	r.Counters.PacketsIn++
	r.Counters.BytesIn += uint64(len(b.Bytes()))
	l.packets++
	l.bytes += uint64(len(b.Bytes()))
	if status == rtcp.New { // a late one does not show that the stream goes on
		l.heard(now)
	}
	if !t.live {
		t.live = true
		r.obs.Live(t)
	}
	if t.codec != codec && codec != rtp.RED {
		t.setCodec(codec)
	}
	t.level(p, h, now)
	if t.muted {
		r.Counters.Muted++
	}
	if t.muted || !t.watched() {
		if l.nack != nil {
			l.nack.Reset() // nobody misses anything, and whoever comes begins anew
		}
		return
	}
	for _, m := range t.mirrors {
		m.packet(l, b.Bytes(), ext, in.repair)
	}
	l.take(b, h, ext, codec, in.repair, now)
}

// take keeps a packet that is to be forwarded with the batch at hand, and for repair. late says that it was missing.
func (l *Layer) take(b *pktbuf.Buf, h *rtp.Header, ext int64, codec rtp.Codec, late bool, now int64) {
	if l.ring != nil {
		l.nack.Received(ext, now)
		l.ring.Put(ext, b, now)
	}
	l.pace(h.Timestamp, now)
	if len(l.pending) == 0 {
		l.since, l.urgent = now, false
	}
	if r := l.peer.router; !l.dirty {
		l.dirty = true
		r.dirty = append(r.dirty, l)
	}
	l.urgent = l.urgent || late
	b.Retain()
	pkt := newPacket(b, h, ext, codec, &l.peer.ext)
	if codec == rtp.RED {
		l.peer.router.Counters.Redundant++
		pkt.unpack(&l.track.up)
	}
	if l.track.kind == rtp.KindVideo {
		pkt.info = l.parser.Parse(codec, pkt.dependency, pkt.content(), h.Marker)
		if pkt.info.Key {
			l.measure(now)
		}
	}
	if h.Marker {
		l.ended()
	}
	l.meter.add(pkt.info.Spatial, pkt.info.Temporal, len(b.Bytes()), now)
	l.pending = append(l.pending, pkt)
}

// Flush forwards what has come, leg by leg, so that what goes to one address leaves as one run. The packets of a picture wait for
// its last one, at most for a quantum, where they come close behind each other: a datagram that leaves with others costs a fraction
// of one that leaves alone. Sound never waits.
func (r *Router) Flush(now int64) {
	r.heldTo = math.MaxInt64
	kept := r.dirty[:0]
	for _, l := range r.dirty {
		if l.nack != nil {
			l.askMissing(now)
		}
		if l.unfinished(now) {
			r.heldTo = min(r.heldTo, l.since+quantum)
			kept = append(kept, l)
			continue
		}
		l.dirty = false
		l.flush(now)
	}
	clear(r.dirty[len(kept):]) // a layer left behind the end would keep its session's memory after both are gone
	r.dirty = kept
}

// State passes a change of a session's transport on to the owner.
func (r *Router) State(s *transport.Session, st transport.State, now int64) {
	p, ok := s.User.(*Peer)
	if !ok {
		return
	}
	if st == transport.StateConnected {
		p.reportAt = transport.Coarse(now + reportInterval - transport.Grain)
		r.timers.sooner(p, p.reportAt)
		for _, leg := range p.legs {
			leg.askKey(now)
		}
	}
	r.obs.State(p, st)
}

// NextDeadline returns the time of the next Tick that has something to do, or math.MaxInt64.
func (r *Router) NextDeadline() int64 { return min(r.timers.next(), r.heldTo) }

// Tick does what is due: feedback, reports, requests for what is missing.
func (r *Router) Tick(now int64) {
	if r.heldTo <= now {
		r.Flush(now)
	}
	for {
		p := r.timers.due(now)
		if p == nil {
			return
		}
		r.timers.set(p, p.tick(now))
	}
}
