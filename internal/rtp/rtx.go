package rtp

import "encoding/binary"

// OSNLen is the length of the original sequence number that begins an RTX payload
// (RFC 4588 §4).
const OSNLen = 2

// OSN reads the original sequence number from an RTX payload (RFC 4588 §4). It is false for a
// payload too short to hold one: senders probe for bandwidth with such packets. Padding does
// not count as payload.
func OSN(payload []byte) (seq uint16, ok bool) {
	if len(payload) < OSNLen {
		return 0, false
	}
	return binary.BigEndian.Uint16(payload), true
}

// StripRTX turns the decrypted RTX packet b back into the original in place: payload type, SSRC
// and sequence number as given and as found, payload without the original sequence number
// (RFC 4588 §4). It returns the packet, which begins where b does and is OSNLen shorter, and
// brings h up to date. It is false, and nothing is touched, when there is no original inside.
// Padding, if any, stays.
func StripRTX(b []byte, h *Header, pt uint8, ssrc uint32) ([]byte, bool) {
	pad := PaddingLen(b, h)
	if pad < 0 {
		return b, false
	}
	seq, ok := OSN(b[h.HeaderLen : len(b)-pad])
	if !ok {
		return b, false
	}
	h.PayloadType, h.SequenceNumber, h.SSRC = pt&maskPT, seq, ssrc
	b[1] = b[1]&flagMarker | h.PayloadType
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	// The payload moves and not the shorter header, because the packet's buffer can give back
	// bytes only at its end.
	copy(b[h.HeaderLen:], b[h.HeaderLen+OSNLen:])
	return b[:len(b)-OSNLen], true
}

// AppendRTX writes an RTX payload: the sequence number and the payload of the original packet
// (RFC 4588 §4).
func AppendRTX(dst []byte, osn uint16, payload []byte) []byte {
	dst = append(dst, byte(osn>>8), byte(osn))
	return append(dst, payload...)
}
