package rtcp

import "encoding/binary"

// Block types of extended reports: RFC 3611 §4.4, §4.5.
const (
	blockRRTR = 4
	blockDLRR = 5

	xrBlockHeaderLen = 4
	rrtrLen          = xrBlockHeaderLen + 8
	dlrrLen          = 12 // of one sub-block
)

// ReferenceTime is the moment at which a receiver sent its report (RFC 3611 §4.4). One that sends no media learns the round trip
// time from the answer to it, since it makes no sender reports that could be answered.
type ReferenceTime struct {
	SSRC uint32 // of the receiver
	NTP  uint64
}

// ParseReferenceTime reads the first receiver reference time block of an extended report; false if it has none.
func ParseReferenceTime(p Packet) (ReferenceTime, bool) {
	b := p.Body()
	if p.Type() != TypeXR || len(b) < 4 {
		return ReferenceTime{}, false
	}
	ssrc := binary.BigEndian.Uint32(b)
	for b = b[4:]; len(b) >= xrBlockHeaderLen; {
		n := xrBlockHeaderLen + 4*int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return ReferenceTime{}, false
		}
		if b[0] == blockRRTR && n == rrtrLen {
			return ReferenceTime{SSRC: ssrc, NTP: binary.BigEndian.Uint64(b[xrBlockHeaderLen:])}, true
		}
		b = b[n:]
	}
	return ReferenceTime{}, false
}

// DelaySinceRRTR answers one receiver's reference time (RFC 3611 §4.5).
type DelaySinceRRTR struct {
	SSRC  uint32 // of the receiver
	Last  uint32 // middle 32 bits of its reference time
	Delay int64  // since that came, in nanoseconds
}

// AppendDelaysSinceRRTR appends an extended report with one block that answers all of list. It appends nothing when there are none.
func AppendDelaysSinceRRTR(dst []byte, sender uint32, list []DelaySinceRRTR) []byte {
	if len(list) == 0 {
		return dst
	}
	start := len(dst)
	dst = appendHeader(dst, TypeXR, 0)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	dst = append(dst, blockDLRR, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(list)*dlrrLen/4))
	for _, d := range list {
		dst = binary.BigEndian.AppendUint32(dst, d.SSRC)
		dst = binary.BigEndian.AppendUint32(dst, d.Last)
		dst = binary.BigEndian.AppendUint32(dst, shortTime(d.Delay))
	}
	return setLength(dst, start)
}

// shortTime is a time span in 1/65536 s, as far as 32 bits hold it.
func shortTime(span int64) uint32 {
	span = min(max(span, 0), 65535*second)
	return uint32(span/second<<16 | span%second<<16/second)
}
