package forward

import (
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/layer"
	"github.com/sotto-edge/sotto/sfu/rtcp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// maxRTCP bounds a compound that we make, so that it passes every path.
const maxRTCP = 1100

// maxReport is what a report without blocks takes at most, with the name that goes with it and the answers behind the last one.
const maxReport = 140

// maxResend bounds what one compound may cost, however many requests are in it.
const maxResend = 64

// RTCP takes one authenticated compound.
func (r *Router) RTCP(s *transport.Session, compound []byte, now int64) {
	p, ok := s.User.(*Peer)
	if !ok {
		return
	}
	r.budget = maxResend
	it := rtcp.NewIterator(compound)
	for it.Next() {
		switch it.Type() {
		case rtcp.TypeSenderReport:
			r.Counters.ReportsIn++
			p.onSenderReport(it.Packet, now)
		case rtcp.TypeReceiverReport:
			r.Counters.ReportsIn++
			p.onReceiverReport(it.Packet, now)
		case rtcp.TypeTransportFeedback:
			p.onTransportFeedback(it.Packet, now)
		case rtcp.TypePayloadFeedback:
			p.onPayloadFeedback(it.Packet, now)
		case rtcp.TypeBYE:
			p.onGoodbye(it.Packet, now)
		case rtcp.TypeXR:
			p.onExtendedReport(it.Packet, now)
		case rtcp.TypeSDES:
			// the answer has said who it is
		default:
			r.Counters.IgnoredRTCP++
		}
	}
	if it.Malformed() {
		r.Counters.MalformedRTCP++
	}
}

func (p *Peer) onSenderReport(pkt rtcp.Packet, now int64) {
	sr, ok := rtcp.ParseSenderReport(pkt)
	if !ok {
		p.router.Counters.MalformedRTCP++
		return
	}
	if l := p.layer(sr.SSRC); l != nil {
		l.reception.SenderReport(sr.NTP, sr.RTPTime, now)
		p.clock.compare(sr.NTP, p.router.epoch+ntpOf(now))
		for _, m := range l.track.mirrors {
			m.report(l)
		}
		if x := l.track.tap; x != nil {
			x.report(l)
		}
	}
	p.onReportBlocks(sr.Blocks, now)
}

func (p *Peer) onReceiverReport(pkt rtcp.Packet, now int64) {
	rr, ok := rtcp.ParseReceiverReport(pkt)
	if !ok {
		p.router.Counters.MalformedRTCP++
		return
	}
	p.onReportBlocks(rr.Blocks, now)
}

// layer finds the layer of a media stream.
func (p *Peer) layer(ssrc uint32) *Layer {
	for i := range p.in {
		if in := &p.in[i]; in.ssrc == ssrc && !in.repair && in.layer.bound {
			return in.layer
		}
	}
	return nil
}

// leg finds the leg that sends the stream ssrc.
func (p *Peer) leg(ssrc uint32) *Leg {
	for _, l := range p.legs {
		if l.ssrc == ssrc {
			return l
		}
	}
	return nil
}

func (p *Peer) onReportBlocks(blocks rtcp.ReportBlocks, now int64) {
	for b := range blocks.All {
		l := p.leg(b.SSRC)
		if l == nil {
			continue
		}
		l.fraction, l.lost, l.jitter = b.FractionLost, b.CumulativeLost, b.Jitter
		if b.FractionLost >= redFraction {
			l.lossyUntil = now + redPatience
		}
		if p.out.est != nil && l.kind == rtp.KindVideo {
			p.out.est.ReceiverReport(b.FractionLost, now)
		}
		if b.LastSR != 0 && b.LastSR == l.srMid {
			delay := int64(b.DelaySinceLastSR) * second / 65536
			if rtt := p.sess.Arrived() - l.srAt - delay; rtt >= 0 && rtt < 10*second {
				l.rtt, p.rtt = rtt, rtt
			}
		}
	}
}

func (p *Peer) onTransportFeedback(pkt rtcp.Packet, now int64) {
	r := p.router
	switch pkt.Format() {
	case rtcp.FormatNACK:
		nack, ok := rtcp.ParseNACK(pkt)
		if !ok {
			r.Counters.MalformedRTCP++
			return
		}
		l := p.leg(nack.MediaSSRC)
		if l == nil {
			r.Counters.IgnoredRTCP++
			return
		}
		for seq := range nack.Seqs {
			r.Counters.NACKsIn++
			if r.budget--; r.budget >= 0 {
				l.resend(seq, now)
			}
		}
	case rtcp.FormatTWCC:
		r.Counters.FeedbackIn++
		f, ok := rtcp.ParseTWCC(pkt)
		if !ok {
			r.Counters.MalformedRTCP++
			return
		}
		p.onFeedback(f, now)
	case rtcp.FormatCCFB:
		r.Counters.FeedbackIn++
		f, ok := rtcp.ParseCCFB(pkt)
		if !ok {
			r.Counters.MalformedRTCP++
			return
		}
		p.onStreamFeedback(f, now)
	default:
		r.Counters.IgnoredRTCP++
	}
}

func (p *Peer) onPayloadFeedback(pkt rtcp.Packet, now int64) {
	r := p.router
	switch pkt.Format() {
	case rtcp.FormatPLI:
		r.Counters.KeyRequestsIn++
		p.onKeyRequest(pkt.MediaSSRC(), now)
	case rtcp.FormatFIR:
		fir, ok := rtcp.ParseFIR(pkt)
		if !ok {
			r.Counters.MalformedRTCP++
			return
		}
		for ssrc := range fir.Entries {
			r.Counters.KeyRequestsIn++
			p.onKeyRequest(ssrc, now)
		}
	case rtcp.FormatREMB:
		if remb, ok := rtcp.ParseREMB(pkt); ok {
			r.Counters.ReceiverEstimates++
			if p.out.est == nil { // a receiver without transport-wide feedback
				p.out.est = bwe.New(bwe.Config{Start: startRate})
			}
			p.out.est.REMB(remb.BitsPerSecond, now)
			p.reported(now)
		} else {
			r.Counters.IgnoredRTCP++
		}
	default:
		r.Counters.IgnoredRTCP++
	}
}

// onKeyRequest asks for a key frame of the layer that the leg shows. Requests of many legs become one.
func (p *Peer) onKeyRequest(ssrc uint32, now int64) {
	l := p.leg(ssrc)
	if l == nil || l.track == nil {
		return
	}
	l.keyRequests++
	if at := l.num.layer; at != nil && l.shows(at) {
		at.wantKey(now)
		return
	}
	l.track.RequestKey(now)
}

// onExtendedReport notes the reference time of a receiver, to be answered with the next report. libwebrtc names one SSRC for all it
// receives; should another name many, the latest are answered.
func (p *Peer) onExtendedReport(pkt rtcp.Packet, now int64) {
	t, ok := rtcp.ParseReferenceTime(pkt)
	if !ok {
		p.router.Counters.IgnoredRTCP++
		return
	}
	at := 0
	for i := range p.asked {
		if a := &p.asked[i]; a.at != 0 && a.ssrc == t.SSRC {
			at = i
			break
		}
		if p.asked[i].at < p.asked[at].at {
			at = i
		}
	}
	p.asked[at] = reference{ssrc: t.SSRC, middle: rtcp.NTPMiddle(t.NTP), at: now}
}

// reference is a receiver's reference time (RFC 3611 §4.4) that waits for an answer; at 0: none does.
type reference struct {
	ssrc   uint32
	middle uint32
	at     int64 // when it came
}

// appendAnswers appends the answers to what receivers asked since the last report.
func (p *Peer) appendAnswers(b []byte, now int64) []byte {
	var list [len(p.asked)]rtcp.DelaySinceRRTR
	n := 0
	for i := range p.asked {
		if a := &p.asked[i]; a.at != 0 {
			list[n] = rtcp.DelaySinceRRTR{SSRC: a.ssrc, Last: a.middle, Delay: now - a.at}
			n++
			*a = reference{}
		}
	}
	return rtcp.AppendDelaysSinceRRTR(b, p.localSSRC, list[:n])
}

// onGoodbye takes layers for stopped at once: libwebrtc says goodbye to a simulcast layer that it pauses. Legs that show them go on
// with the best one left, from its key frame, which is asked for. The publication is its owner's to end.
func (p *Peer) onGoodbye(pkt rtcp.Packet, now int64) {
	bye, ok := rtcp.ParseBYE(pkt)
	if !ok {
		p.router.Counters.MalformedRTCP++
		return
	}
	for ssrc := range bye.SSRCs {
		l := p.layer(ssrc)
		if l == nil {
			continue
		}
		l.stop(now)
		for _, m := range l.track.mirrors {
			m.stopped(l)
		}
	}
}

// stop takes the layer for one that is not received, until a newer packet comes.
func (l *Layer) stop(now int64) {
	l.lastAt, l.keyWanted = 0, false
	for _, leg := range l.track.legs {
		if leg.shows(l) {
			l.track.RequestKey(now)
			return
		}
	}
}

// sendFeedback reports the arrival of the peer's packets.
func (p *Peer) sendFeedback() {
	r := p.router
	media := uint32(0)
	if len(p.in) > 0 {
		media = p.in[0].ssrc
	}
	for p.twcc.Pending() {
		r.scratch = p.twcc.Append(r.scratch[:0], p.localSSRC, media, maxRTCP)
		if len(r.scratch) > 0 && p.send(r.scratch) {
			r.Counters.FeedbackOut++
		}
	}
}

// sendReports sends a sender report for each leg in use, and reception reports for what the peer sends. Of what has been silent since
// the report before the last nothing is said (RFC 3550 §6.4). It returns whether there was something.
func (p *Peer) sendReports(now int64) bool {
	if !p.ready() {
		return false
	}
	some := false
	r := p.router
	b := r.scratch[:0]
	for _, l := range p.legs {
		l.num.forget()
		ntp, ts, ok := l.clockNow(now)
		if !ok || l.silence.goesOn(uint64(l.packets)) {
			continue
		}
		some = true
		l.srMid, l.srAt = rtcp.NTPMiddle(ntp), now
		b = rtcp.AppendSenderReport(b, rtcp.SenderReport{SSRC: l.ssrc, NTP: ntp, RTPTime: ts, Packets: l.packets, Octets: l.octets}, nil)
		b = rtcp.AppendSDESCNAME(b, l.ssrc, p.cname)
		r.Counters.ReportsOut++
		if len(b) > maxRTCP-maxReport {
			p.send(b)
			b = b[:0]
		}
	}
	var blocks [31]rtcp.ReportBlock
	n := 0
	for i := range p.in {
		if in := &p.in[i]; !in.repair && in.layer.bound && n < len(blocks) && !in.layer.silence.goesOn(in.layer.packets) {
			blocks[n] = in.layer.reception.Block(now)
			n++
		}
	}
	if n > 0 {
		if len(b)+24*n > maxRTCP-maxReport {
			p.send(b)
			b = b[:0]
		}
		b = rtcp.AppendReceiverReport(b, p.localSSRC, blocks[:n])
		b = rtcp.AppendSDESCNAME(b, p.localSSRC, p.cname)
		r.Counters.ReportsOut++
	}
	if len(b) > 0 {
		p.send(p.appendAnswers(b, now))
	}
	r.scratch = b[:0]
	return some || n > 0
}

// silence tells whether a stream has been silent for two reports.
type silence struct {
	count   uint64 // packets at the last one
	reports uint8
}

// goesOn takes the packets of the stream so far.
func (s *silence) goesOn(count uint64) bool {
	if count != s.count {
		*s = silence{count: count}
	} else if s.reports < 2 {
		s.reports++
	}
	return s.reports == 2
}

// clockNow returns the NTP time and the leg's timestamp of this moment, by the publisher's last sender report: receivers align sound
// and picture of one publisher by it.
func (l *Leg) clockNow(now int64) (ntp uint64, ts uint32, ok bool) {
	if l.num.layer == nil || !l.shows(l.num.layer) || l.packets == 0 {
		return 0, 0, false
	}
	rc, c := &l.num.layer.reception, &l.num.layer.peer.clock
	if !rc.HasReport || !c.known {
		return 0, 0, false
	}
	gap := now - rc.SenderAt
	ntp = rc.SenderNTP + c.offset + ntpOf(gap)
	ts = rc.SenderRTP + uint32(gap*l.clock/second) + l.num.ts
	return ntp, ts, true
}

// Stats are a leg's figures, as its receiver reports them.
type Stats struct {
	Packets, Octets uint32
	Lost            int32 // negative when duplicates came
	FractionLost    uint8
	Jitter          uint32       // in units of the codec's clock
	RoundTrip       int64        // nanoseconds
	Sends           layer.Target // the layers that are sent; layer.None: nothing is
}

// Stats returns the figures of the leg.
func (l *Leg) Stats() Stats {
	return Stats{
		Packets: l.packets, Octets: l.octets, Lost: l.lost, FractionLost: l.fraction, Jitter: l.jitter, RoundTrip: l.rtt, Sends: l.sel.Current(),
	}
}
