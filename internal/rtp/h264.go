package rtp

import "encoding/binary"

// NAL unit types (RFC 6184 §5.2, ITU-T H.264 table 7-1).
const (
	nalIDR   = 5
	nalSPS   = 7
	nalSTAPA = 24
	nalFUA   = 28
	maskNAL  = 0x1f
)

// keyFrameH264: the payload holds, or starts, a sequence parameter set or an IDR slice
// (RFC 6184 §5.6, §5.7.1, §5.8). Only NAL unit headers are read. A later IDR slice of the same
// picture looks the same, so ask when waiting for a start, not to count frames.
func keyFrameH264(b []byte) bool {
	if len(b) < 1 {
		return false
	}
	switch b[0] & maskNAL {
	case nalIDR, nalSPS:
		return true
	case nalSTAPA:
		for b = b[1:]; len(b) >= 3; {
			n := int(binary.BigEndian.Uint16(b))
			if n == 0 || n > len(b)-2 {
				return false
			}
			if t := b[2] & maskNAL; t == nalIDR || t == nalSPS {
				return true
			}
			b = b[2+n:]
		}
	case nalFUA:
		if len(b) < 2 || b[1]&0x80 == 0 { // S: the first fragment
			return false
		}
		t := b[1] & maskNAL
		return t == nalIDR || t == nalSPS
	}
	return false
}

// sizeH264 reads the first sequence parameter set that the payload holds as a whole (RFC 6184 §5.6, §5.7.1).
func sizeH264(b []byte) (width, height uint16) {
	if len(b) > 0 && b[0]&maskNAL == nalSTAPA {
		for b = b[1:]; len(b) >= 3; {
			n := int(binary.BigEndian.Uint16(b))
			if n == 0 || n > len(b)-2 {
				return 0, 0
			}
			if b[2]&maskNAL == nalSPS {
				b = b[2 : 2+n]
				break
			}
			b = b[2+n:]
		}
	}
	if len(b) == 0 || b[0]&(maskNAL|0x80) != nalSPS {
		return 0, 0
	}
	w, h, ok := SizeSPS(b)
	if !ok || w > largestSide || h > largestSide {
		return 0, 0
	}
	return uint16(w), uint16(h)
}
