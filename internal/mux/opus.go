package mux

// OpusRate is the rate that Opus counts samples at in RTP and Ogg, whatever the coder works at (RFC 7587 §4.1, RFC 7845 §4).
const OpusRate = 48000

const (
	maxOpusFrame    = 1275 // bytes (RFC 6716 §3.4, R2)
	maxOpusDuration = 5760 // samples: 120 ms (R5)
	minOpusFrame    = 120  // samples: 2.5 ms
)

// opusFrameSize returns the samples of one frame by the configuration in a TOC byte (RFC 6716 §3.1, table 2).
func opusFrameSize(toc byte) int {
	c := toc >> 3
	switch {
	case c < 12: // SILK: 10, 20, 40, 60 ms
		return []int{480, 960, 1920, 2880}[c&3]
	case c < 16: // hybrid: 10, 20 ms
		return []int{480, 960}[c&1]
	}
	return minOpusFrame << (c & 3) // CELT: 2.5, 5, 10, 20 ms
}

// OpusSamples returns the duration of an Opus packet in samples at 48 kHz. It is false for what no Opus encoder writes
// (RFC 6716 §3.4, rules R1 to R7).
func OpusSamples(b []byte) (int, bool) {
	if len(b) < 1 {
		return 0, false
	}
	frame, rest := opusFrameSize(b[0]), b[1:]
	switch b[0] & 3 {
	case 0:
		return frame, len(rest) <= maxOpusFrame
	case 1:
		return 2 * frame, len(rest)%2 == 0 && len(rest)/2 <= maxOpusFrame
	case 2:
		n, used := opusLength(rest)
		return 2 * frame, used > 0 && used+n <= len(rest) && len(rest)-used-n <= maxOpusFrame
	}
	if len(rest) < 1 {
		return 0, false
	}
	count := int(rest[0] & 0x3f)
	samples := count * frame
	if count == 0 || samples > maxOpusDuration {
		return 0, false
	}
	return samples, opusFrames(rest[1:], count, rest[0]&0x80 != 0, rest[0]&0x40 != 0)
}

// opusFrames checks the lengths in a packet of code 3 (RFC 6716 §3.2.5).
func opusFrames(rest []byte, count int, variable, padded bool) bool {
	if padded {
		pad := 0
		for more := true; more; {
			if len(rest) < 1 {
				return false
			}
			n := int(rest[0])
			rest = rest[1:]
			if more = n == 255; more {
				n = 254
			}
			pad += n
		}
		if pad > len(rest) {
			return false
		}
		rest = rest[:len(rest)-pad]
	}
	if !variable {
		return len(rest)%count == 0 && len(rest)/count <= maxOpusFrame
	}
	sum := 0
	for range count - 1 {
		n, used := opusLength(rest)
		if used == 0 {
			return false
		}
		rest = rest[used:]
		sum += n
	}
	return sum <= len(rest) && len(rest)-sum <= maxOpusFrame
}

// opusLength reads the length of a frame (RFC 6716 §3.2.1); used is 0 when it is cut off.
func opusLength(b []byte) (n, used int) {
	switch {
	case len(b) >= 1 && b[0] < 252:
		return int(b[0]), 1
	case len(b) >= 2:
		return int(b[1])*4 + int(b[0]), 2
	}
	return 0, 0
}

// concealment appends a packet of count frames without data in the configuration of toc, which makes a decoder conceal them
// (RFC 7845 §4.1).
func concealment(dst []byte, toc byte, count int) []byte {
	toc &^= 3
	if count == 1 {
		return append(dst, toc)
	}
	return append(dst, toc|3, byte(count))
}

// shortest is the TOC byte of a single frame of 2.5 ms, as near to toc as there is one: in the CELT modes, of the same bandwidth
// (RFC 6716 §3.1; medium band has none and becomes narrow).
func shortest(toc byte) byte {
	band := byte(0) // narrow, wide, super-wide, full
	switch c := toc >> 3; {
	case c < 8:
	case c < 12:
		band = 1
	case c < 14:
		band = 2
	case c < 16:
		band = 3
	default:
		band = (c - 16) >> 2
	}
	return (16+4*band)<<3 | toc&4
}
