// Package rtp gives views of RTP packets and writes their headers.
//
// It owns the fixed header of RFC 3550 §5.1, both forms of header extension of RFC 8285, the
// few extension values the packet path reads itself, the RTX payload of RFC 4588, sequence
// number arithmetic, and for each codec the answer to one question: does a key frame start
// here.
//
// It promises that no input makes it read out of bounds or allocate, and that views alias the
// packet they were parsed from.
//
// It holds no stream state, knows no payload types by number, and looks into payloads no
// further than the codec's payload descriptor and the header byte behind it, because
// everything later may be encrypted end to end. RTCP is package sfu/rtcp.
package rtp

import "encoding/binary"

// FixedHeaderLen is the length of the header without CSRCs and extension (RFC 3550 §5.1).
const FixedHeaderLen = 12

const (
	version       = 2
	flagPadding   = 0x20
	flagExtension = 0x10
	maskCSRCCount = 0x0f
	flagMarker    = 0x80
	maskPT        = 0x7f
)

// Header is a view of the header of one packet (RFC 3550 §5.1). It aliases the packet.
type Header struct {
	Marker         bool
	Padding        bool // the last byte of the packet counts padding bytes: see PaddingLen
	PayloadType    uint8
	SequenceNumber uint16
	ExtProfile     uint16 // "defined by profile" of the extension, 0 without one
	Timestamp      uint32
	SSRC           uint32
	HeaderLen      int // with CSRCs and extension: the payload begins here

	ext []byte // the extension's content, behind profile and length
}

// Parse makes h a view over the RTP packet b. It is false, and h is empty, when b does not
// hold a whole header. The payload may be empty; whether it is encrypted does not matter.
func (h *Header) Parse(b []byte) bool {
	*h = Header{}
	if len(b) < FixedHeaderLen || b[0]>>6 != version {
		return false
	}
	n := FixedHeaderLen + 4*int(b[0]&maskCSRCCount)
	var profile uint16
	var ext []byte
	if b[0]&flagExtension != 0 { // RFC 3550 §5.3.1
		if len(b) < n+4 {
			return false
		}
		profile = binary.BigEndian.Uint16(b[n:])
		words := int(binary.BigEndian.Uint16(b[n+2:]))
		n += 4
		if len(b) < n+4*words {
			return false
		}
		ext = b[n : n+4*words : n+4*words]
		n += 4 * words
	} else if len(b) < n {
		return false
	}
	*h = Header{
		Marker:         b[1]&flagMarker != 0,
		Padding:        b[0]&flagPadding != 0,
		PayloadType:    b[1] & maskPT,
		SequenceNumber: binary.BigEndian.Uint16(b[2:]),
		ExtProfile:     profile,
		Timestamp:      binary.BigEndian.Uint32(b[4:]),
		SSRC:           binary.BigEndian.Uint32(b[8:]),
		HeaderLen:      n,
		ext:            ext,
	}
	return true
}

// PaddingLen returns how many bytes of padding end the decrypted packet b, whose header is h:
// 0 without padding, -1 when the count is malformed (RFC 3550 §5.1).
func PaddingLen(b []byte, h *Header) int {
	if !h.Padding {
		return 0
	}
	if len(b) <= h.HeaderLen {
		return -1
	}
	n := int(b[len(b)-1])
	if n == 0 || n > len(b)-h.HeaderLen {
		return -1
	}
	return n
}

// AppendHeader writes a fixed header without padding and CSRCs. With extension, the caller
// goes on with BeginExtensions.
func AppendHeader(dst []byte, marker bool, pt uint8, seq uint16, ts, ssrc uint32, extension bool) []byte {
	first, second := byte(version<<6), pt&maskPT
	if extension {
		first |= flagExtension
	}
	if marker {
		second |= flagMarker
	}
	return append(dst, first, second,
		byte(seq>>8), byte(seq),
		byte(ts>>24), byte(ts>>16), byte(ts>>8), byte(ts),
		byte(ssrc>>24), byte(ssrc>>16), byte(ssrc>>8), byte(ssrc))
}

// IsRTCP tells RTCP from RTP on a shared port: RTCP packet types 192 to 223 are the payload
// types 64 to 95 with a marker, which RTP may not use then (RFC 5761 §4).
func IsRTCP(b []byte) bool {
	return len(b) >= 2 && b[1] >= 192 && b[1] <= 223
}
