// Package rtcp reads and writes the RTCP packets that the media node speaks, and keeps the estimators behind them.
//
// It owns three things: views over received compounds (Iterator and the Parse functions), writers that append single
// packets to a caller's buffer (the Append functions), and the per-stream state that feedback is made of: Reception
// (loss, jitter, report blocks), NACKGenerator (which packets to ask for again, and when) and TWCCRecorder
// (transport-wide arrival times).
//
// It promises: nothing here does I/O, reads a clock, takes a lock or allocates per packet. Time is handed in, as
// monotonic nanoseconds; NTP time is handed in where a report needs it. A view refers to the bytes it was parsed from
// and is valid as long as they are. Every parser checks all lengths before it answers true, so that the iterators of a
// parsed view cannot run past the end.
//
// It does not encrypt (perc/srtp does), does not decide to whom feedback goes or how often (sfu does; docs/rtcp.md has
// the table), and does not estimate bandwidth. Of extended reports (RFC 3611) only what gives receivers the round trip
// time is read; APP packets can be seen through Packet but are not opened.
package rtcp

import "encoding/binary"

// Type is an RTCP packet type.
type Type uint8

// Packet types: RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §5.1.
const (
	TypeSenderReport      Type = 200
	TypeReceiverReport    Type = 201
	TypeSDES              Type = 202
	TypeBYE               Type = 203
	TypeAPP               Type = 204
	TypeTransportFeedback Type = 205
	TypePayloadFeedback   Type = 206
	TypeXR                Type = 207
)

// Feedback message types of TypeTransportFeedback: RFC 4585 §6.2, draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.
const (
	FormatNACK uint8 = 1
	FormatTWCC uint8 = 15
)

// Feedback message types of TypePayloadFeedback: RFC 4585 §6.3, RFC 5104 §4.3.1, draft-alvestrand-rmcat-remb-03 §2.2.
const (
	FormatPLI  uint8 = 1
	FormatFIR  uint8 = 4
	FormatREMB uint8 = 15 // "application layer feedback"; REMB is told apart by its name
)

const (
	version    = 2 << 6
	paddingBit = 1 << 5
	countMask  = 1<<5 - 1
	maxCount   = 31 // what five bits can say

	headerLen         = 4
	feedbackHeaderLen = headerLen + 8
	maxPacketLen      = 1200 // no single packet is made longer: it must cross every path in one datagram

	millisecond int64 = 1e6
	second      int64 = 1e9
)

// Packet is a view over one packet of a compound, padding taken off. The zero Packet has no bytes and type 0.
type Packet struct {
	raw []byte
}

// Type says what the packet is.
func (p Packet) Type() Type {
	if len(p.raw) < headerLen {
		return 0
	}
	return Type(p.raw[1])
}

// Count is the five-bit field of the header, read as a number of report blocks or sources (RFC 3550 §6.4.1).
func (p Packet) Count() int {
	return int(p.Format())
}

// Format is the same field read as a feedback message type (RFC 4585 §6.1).
func (p Packet) Format() uint8 {
	if len(p.raw) < headerLen {
		return 0
	}
	return p.raw[0] & countMask
}

// Body is what stands behind the four bytes of the header.
func (p Packet) Body() []byte {
	if len(p.raw) < headerLen {
		return nil
	}
	return p.raw[headerLen:]
}

// SenderSSRC is the first word of the body, which in every type but SDES and BYE is the sender. It is 0 when absent.
func (p Packet) SenderSSRC() uint32 {
	return p.word(headerLen)
}

// MediaSSRC is the second word of the body, which in feedback messages is the stream they speak of. It is 0 when absent.
func (p Packet) MediaSSRC() uint32 {
	return p.word(headerLen + 4)
}

func (p Packet) word(at int) uint32 {
	if len(p.raw) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(p.raw[at:])
}

func (p Packet) is(t Type, format uint8) bool {
	return len(p.raw) >= headerLen && Type(p.raw[1]) == t && p.raw[0]&countMask == format
}

// Iterator walks the packets of a compound:
//
//	for it := rtcp.NewIterator(compound); it.Next(); {
//		switch it.Type() {
//		case rtcp.TypeBYE:
//			bye, ok := rtcp.ParseBYE(it.Packet)
//
// It takes compounds and reduced-size packets alike (RFC 5506 §3.4.1), and padding on any packet of a compound, not only
// on the last as RFC 3550 §6.4.1 wants: transport-wide feedback is padded wherever it stands.
type Iterator struct {
	Packet
	rest      []byte
	malformed bool
}

// NewIterator starts a walk over compound, which must be decrypted and authenticated already.
func NewIterator(compound []byte) Iterator {
	return Iterator{rest: compound}
}

// Next moves on to the next packet. It answers false at the end and at the first packet whose header lies.
func (it *Iterator) Next() bool {
	it.Packet = Packet{}
	if len(it.rest) == 0 || it.malformed {
		return false
	}
	b := it.rest
	if len(b) < headerLen || b[0]&0xc0 != version {
		it.malformed = true
		return false
	}
	n := headerLen + 4*int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		it.malformed = true
		return false
	}
	it.rest = b[n:]
	end := n
	if b[0]&paddingBit != 0 {
		// The last octet counts the padding, itself included. RFC 3550 §6.4.1 wants whole words, but libwebrtc pads
		// transport-wide feedback by the one to three bytes that are left of the last.
		pad := int(b[n-1])
		if n == headerLen || pad == 0 || pad > n-headerLen {
			it.malformed = true
			return false
		}
		end -= pad
	}
	it.Packet = Packet{raw: b[:end]}
	return true
}

// Malformed reports whether the walk ended before the end of the compound.
func (it *Iterator) Malformed() bool {
	return it.malformed
}

// appendHeader appends a header whose length field is still to be set by setLength.
func appendHeader(dst []byte, t Type, count uint8) []byte {
	return append(dst, version|count&countMask, byte(t), 0, 0)
}

// setLength writes the length of the packet that began at start and ends with dst.
func setLength(dst []byte, start int) []byte {
	binary.BigEndian.PutUint16(dst[start+2:], uint16((len(dst)-start)/4-1))
	return dst
}

func appendFeedbackHeader(dst []byte, t Type, format uint8, sender, media uint32) []byte {
	dst = appendHeader(dst, t, format)
	dst = binary.BigEndian.AppendUint32(dst, sender)
	return binary.BigEndian.AppendUint32(dst, media)
}
