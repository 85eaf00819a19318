package rtcp

import "encoding/binary"

// FormatCCFB is congestion control feedback of TypeTransportFeedback: RFC 8888 §3.1.
const FormatCCFB uint8 = 11

const (
	ccfbFixedLen  = headerLen + 4 + 4 // header, sender, report timestamp
	ccfbReportLen = 8                 // stream, first number, count
	ccfbMaxCount  = 16384             // RFC 8888 §3.1: more would be ambiguous
	ccfbReceived  = 1 << 15
	ccfbOffset    = 1<<13 - 1

	// CCFBTicks is the unit of arrival times: offsets are told in 1/1024 s, the report timestamp in 1/65536 s.
	CCFBTicks = 65536
)

// CCFB is feedback on the arrival of the packets of several streams by their own sequence numbers (RFC 8888 §3.1).
type CCFB struct {
	SenderSSRC uint32
	Timestamp  uint32 // when it was made, in 1/65536 s of the receiver's clock, wrapping
	reports    []byte
}

// CCFBReport is what a feedback says of one stream.
type CCFBReport struct {
	SSRC    uint32
	Begin   uint16 // first sequence number told of
	metrics []byte
}

// CCFBPacket is the fate of one packet.
type CCFBPacket struct {
	Sequence uint16
	Received bool
	// Timed says that Arrival is known: a packet that came more than eight seconds before the report, or after its
	// timestamp was taken, has none.
	Timed bool
	ECN   uint8
	// Arrival is in 1/65536 s on the receiver's clock and wraps: int32(a-b) is the difference between any two.
	Arrival uint32
}

// ParseCCFB reads congestion control feedback. All lengths are checked here.
func ParseCCFB(p Packet) (CCFB, bool) {
	if !p.is(TypeTransportFeedback, FormatCCFB) || len(p.raw) < ccfbFixedLen {
		return CCFB{}, false
	}
	b := p.raw[headerLen+4 : len(p.raw)-4]
	f := CCFB{SenderSSRC: p.SenderSSRC(), Timestamp: binary.BigEndian.Uint32(p.raw[len(p.raw)-4:]), reports: b}
	for len(b) > 0 {
		if len(b) < ccfbReportLen {
			return CCFB{}, false
		}
		n := int(binary.BigEndian.Uint16(b[6:]))
		if n > ccfbMaxCount || len(b) < ccfbReportSize(n) {
			return CCFB{}, false
		}
		b = b[ccfbReportSize(n):]
	}
	return f, true
}

// ccfbReportSize is the length of a report on n packets, which is filled up to whole words.
func ccfbReportSize(n int) int { return ccfbReportLen + 4*((n+1)/2) }

// Reports yields what is said of each stream.
func (f CCFB) Reports(yield func(CCFBReport) bool) {
	for b := f.reports; len(b) >= ccfbReportLen; {
		n := int(binary.BigEndian.Uint16(b[6:]))
		r := CCFBReport{SSRC: binary.BigEndian.Uint32(b), Begin: binary.BigEndian.Uint16(b[4:]), metrics: b[ccfbReportLen : ccfbReportLen+2*n]}
		if !yield(r) {
			return
		}
		b = b[ccfbReportSize(n):]
	}
}

// Find returns what is said of one packet; false if nothing is.
func (f CCFB) Find(ssrc uint32, seq uint16) (CCFBPacket, bool) {
	for b := f.reports; len(b) >= ccfbReportLen; {
		n := int(binary.BigEndian.Uint16(b[6:]))
		if binary.BigEndian.Uint32(b) == ssrc {
			if i := int(seq - binary.BigEndian.Uint16(b[4:])); i < n {
				return f.packet(seq, binary.BigEndian.Uint16(b[ccfbReportLen+2*i:])), true
			}
		}
		b = b[ccfbReportSize(n):]
	}
	return CCFBPacket{}, false
}

// Len is the number of packets that the report tells of.
func (r CCFBReport) Len() int { return len(r.metrics) / 2 }

// Packet returns the fate of the i-th packet of r, which is of f.
func (f CCFB) Packet(r CCFBReport, i int) CCFBPacket {
	return f.packet(r.Begin+uint16(i), binary.BigEndian.Uint16(r.metrics[2*i:]))
}

func (f CCFB) packet(seq, metric uint16) CCFBPacket {
	p := CCFBPacket{Sequence: seq}
	if metric&ccfbReceived == 0 {
		return p
	}
	p.Received, p.ECN = true, uint8(metric>>13&3)
	if offset := metric & ccfbOffset; offset < ccfbOffset-1 {
		p.Timed, p.Arrival = true, f.Timestamp-uint32(offset)<<6
	}
	return p
}

// AppendCCFB appends one feedback packet made at ts (1/65536 s) on one stream from begin on: the age of each packet when
// the report was made, in 1/1024 s, or a negative number for one that did not come.
func AppendCCFB(dst []byte, sender, ssrc, ts uint32, begin uint16, ages []int32) []byte {
	start := len(dst)
	ages = ages[:min(len(ages), ccfbMaxCount)]
	dst = appendHeader(dst, TypeTransportFeedback, FormatCCFB)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = binary.BigEndian.AppendUint16(dst, begin)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(ages)))
	for _, a := range ages {
		m := uint16(0)
		if a >= 0 {
			m = ccfbReceived | uint16(min(a, ccfbOffset-1))
		}
		dst = binary.BigEndian.AppendUint16(dst, m)
	}
	if len(ages)%2 != 0 {
		dst = append(dst, 0, 0)
	}
	dst = binary.BigEndian.AppendUint32(dst, ts)
	return setLength(dst, start)
}
