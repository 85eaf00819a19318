package rtp

import "encoding/binary"

// RFC 2198 §3: a block header is a bit that says whether another follows, the payload type, and of all but the last block the
// distance in time and the length.
const (
	redMore      = 0x80
	redBlockLen  = 4
	redLengthMax = 1<<10 - 1
)

// PrimaryRED finds the primary block in a payload of redundant audio data (RFC 2198), which is without padding: it begins at that
// offset and goes to the end. It fails unless everything in it is of payload type pt and the lengths fit: then it is no such
// payload, or one that is encrypted end to end.
func PrimaryRED(payload []byte, pt uint8) (offset int, ok bool) {
	redundant := 0
	for at := 0; at < len(payload); {
		if payload[at]&^redMore != pt {
			return 0, false
		}
		if payload[at]&redMore == 0 {
			offset = at + 1 + redundant
			return offset, offset < len(payload)
		}
		if at+redBlockLen > len(payload) {
			return 0, false
		}
		redundant += int(binary.BigEndian.Uint16(payload[at+2:])) & redLengthMax
		at += redBlockLen
	}
	return 0, false
}
