package rtp

// Extend takes a 16-bit sequence number to 64 bits: to the number nearest to highest, the
// highest extended one so far (RFC 3550 A.1, without its probation). It may lie below zero when
// packets older than the very first arrive; start at 1<<16 or higher where that matters.
func Extend(highest int64, seq uint16) int64 {
	return highest + int64(int16(seq-uint16(highest)))
}

// SeqNewer says whether sequence number a comes after b, the nearer way round.
func SeqNewer(a, b uint16) bool {
	return int16(a-b) > 0
}
