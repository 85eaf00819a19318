package rtcp

import (
	"encoding/binary"
	"math/bits"
)

// NACK is a generic negative acknowledgement (RFC 4585 §6.2.1): packets of one stream to be sent again.
type NACK struct {
	SenderSSRC uint32
	MediaSSRC  uint32
	pairs      []byte
}

// ParseNACK reads a generic NACK.
func ParseNACK(p Packet) (NACK, bool) {
	if !p.is(TypeTransportFeedback, FormatNACK) || len(p.raw) < feedbackHeaderLen {
		return NACK{}, false
	}
	return NACK{SenderSSRC: p.SenderSSRC(), MediaSSRC: p.MediaSSRC(), pairs: p.raw[feedbackHeaderLen:]}, true
}

// Len is the number of sequence numbers that Seqs yields.
func (n NACK) Len() int {
	total := 0
	for b := n.pairs; len(b) >= 4; b = b[4:] {
		total += 1 + bits.OnesCount16(binary.BigEndian.Uint16(b[2:]))
	}
	return total
}

// Seqs yields the missing sequence numbers, in the order of the packet. A peer may repeat itself; the caller bounds what
// it does for one compound.
func (n NACK) Seqs(yield func(uint16) bool) {
	for b := n.pairs; len(b) >= 4; b = b[4:] {
		seq, mask := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if !yield(seq) {
			return
		}
		for ; mask != 0; mask &= mask - 1 {
			if !yield(seq + 1 + uint16(bits.TrailingZeros16(mask))) {
				return
			}
		}
	}
}

// AppendNACK appends requests for seqs, which are in ascending order modulo 2^16 (any other order is written correctly
// too, only longer). It appends nothing when there are none, and a second packet when one would pass 1200 bytes.
func AppendNACK(dst []byte, sender, media uint32, seqs []uint16) []byte {
	for len(seqs) > 0 {
		start := len(dst)
		dst = appendFeedbackHeader(dst, TypeTransportFeedback, FormatNACK, sender, media)
		for len(seqs) > 0 && len(dst)-start+4 <= maxPacketLen {
			first, mask := seqs[0], uint16(0)
			seqs = seqs[1:]
			for len(seqs) > 0 {
				d := seqs[0] - first
				if d > 16 {
					break
				}
				if d > 0 { // d == 0 is a repetition
					mask |= 1 << (d - 1)
				}
				seqs = seqs[1:]
			}
			dst = binary.BigEndian.AppendUint16(dst, first)
			dst = binary.BigEndian.AppendUint16(dst, mask)
		}
		dst = setLength(dst, start)
	}
	return dst
}
