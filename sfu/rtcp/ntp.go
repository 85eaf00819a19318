package rtcp

import "math/bits"

// ntpEpoch is the number of seconds from the NTP epoch, 1900, to the Unix epoch.
const ntpEpoch = 2208988800

// NTPTime turns nanoseconds since the Unix epoch into the 32.32 fixed point of sender reports (RFC 3550 §4). It wraps in
// 2036, as the format does.
func NTPTime(unixNano int64) uint64 {
	s, ns := unixNano/second, unixNano%second
	if ns < 0 {
		s, ns = s-1, ns+second
	}
	return uint64(s+ntpEpoch)<<32 | uint64(ns)<<32/uint64(second)
}

// NTPMiddle returns the middle 32 bits, in 1/65536 s, by which report blocks name a sender report (RFC 3550 §6.4.1).
func NTPMiddle(ntp uint64) uint32 {
	return uint32(ntp >> 16)
}

// RoundTrip computes the round-trip time in nanoseconds from a block that answers one of our own sender reports, and the
// NTP time at which the block came (RFC 3550 §6.4.1, figure 2). It answers false when the block answers none, and when
// the result is negative or above a minute, which only a wrong clock or a wrong peer produces.
func RoundTrip(r ReportBlock, ntp uint64) (int64, bool) {
	if r.LastSR == 0 {
		return 0, false
	}
	d := int32(NTPMiddle(ntp) - r.LastSR - r.DelaySinceLastSR)
	if d < 0 || d > 60<<16 {
		return 0, false
	}
	return int64(d) * second >> 16, true
}

// rtpTime is the moment now on a clock of the given rate, modulo 2^32. The product passes 64 bits within days, so it is
// taken in 128.
func rtpTime(now int64, rate uint32) uint32 {
	hi, lo := bits.Mul64(uint64(now), uint64(rate))
	q, _ := bits.Div64(hi%uint64(second), lo, uint64(second))
	return uint32(q)
}
