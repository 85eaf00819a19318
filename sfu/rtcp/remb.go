package rtcp

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// rembName is the unique identifier "REMB".
const rembName = 0x52454d42

// REMB is a receiver's estimate of the bit rate it can take, over the streams it names
// (draft-alvestrand-rmcat-remb-03 §2.2). It is read and never made: where a peer can do transport-wide feedback the
// sender estimates, and a node that also sent REMB would have the two fight.
type REMB struct {
	SenderSSRC    uint32
	BitsPerSecond uint64 // the highest value when the peer's exponent passes 64 bits
	ssrcs         []byte
}

// ParseREMB reads a receiver's estimate. It answers false for other application-defined feedback.
func ParseREMB(p Packet) (REMB, bool) {
	const fixed = feedbackHeaderLen + 8
	if !p.is(TypePayloadFeedback, FormatREMB) || len(p.raw) < fixed || p.word(feedbackHeaderLen) != rembName {
		return REMB{}, false
	}
	w := binary.BigEndian.Uint32(p.raw[feedbackHeaderLen+4:])
	n := 4 * int(w>>24)
	if len(p.raw) < fixed+n {
		return REMB{}, false
	}
	exponent, mantissa := int(w>>18&0x3f), uint64(w&0x3ffff)
	rate := mantissa << exponent
	if bits.Len64(mantissa)+exponent > 64 {
		rate = math.MaxUint64
	}
	return REMB{SenderSSRC: p.SenderSSRC(), BitsPerSecond: rate, ssrcs: p.raw[fixed : fixed+n]}, true
}

// SSRCs yields the streams that share the rate.
func (r REMB) SSRCs(yield func(uint32) bool) {
	for s := r.ssrcs; len(s) >= 4; s = s[4:] {
		if !yield(binary.BigEndian.Uint32(s)) {
			return
		}
	}
}
