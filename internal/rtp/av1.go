package rtp

// keyFrameAV1: the aggregation header says that a coded video sequence starts in this packet
// (https://aomediacodec.github.io/av1-rtp-spec/ §4.4): N is set, and the first element is not
// the rest of an earlier one (Z).
func keyFrameAV1(b []byte) bool {
	const z, n = 0x80, 0x08
	return len(b) > 1 && b[0]&(z|n) == n
}
