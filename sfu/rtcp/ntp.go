package rtcp

import (
	"math/bits"
	"time"
)

// ntpEra is the start of NTP's time (RFC 3550 §4): 1900, in seconds before 1970.
const ntpEra = 2208988800

// NTP returns a time as NTP counts, in 2^-32 s since 1900, modulo 2^64.
func NTP(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEra)<<32 + uint64(t.Nanosecond())<<32/uint64(second)
}

// NTPMiddle returns the middle 32 bits of an NTP time, in 1/65536 s, by which report blocks name a sender report (RFC 3550
// §6.4.1).
func NTPMiddle(ntp uint64) uint32 {
	return uint32(ntp >> 16)
}

// rtpTime is the moment now on a clock of the given rate, modulo 2^32. The product passes 64 bits within days, so it is
// taken in 128.
func rtpTime(now int64, rate uint32) uint32 {
	hi, lo := bits.Mul64(uint64(now), uint64(rate))
	q, _ := bits.Div64(hi%uint64(second), lo, uint64(second))
	return uint32(q)
}
