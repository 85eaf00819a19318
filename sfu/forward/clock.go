package forward

// clockSlew is how far the offset of a publisher's clock may move at a report: what sound and picture are aligned by must not jump
// between the report on the one and that on the other.
const clockSlew = millisecond

// clock compares the clock of a publisher with the node's. Receivers are given all times by the node's clock, so that whatever plays
// in slots of one MediaStream is aligned, whoever it is of (RFC 3550 §6.5.1: one CNAME is one clock).
type clock struct {
	known  bool
	offset uint64 // to be added to the publisher's NTP time
}

// ntpOf is a time of the packet clock, or a span, as NTP counts: in 2^-32 s.
func ntpOf(ns int64) uint64 { return uint64(ns/second)<<32 + uint64(ns%second)<<32/uint64(second) }

// compare takes a sender report of the publisher. What it was under way for is in the offset, for all its streams alike.
func (c *clock) compare(ntp, here uint64) {
	diff := here - ntp
	limit := int64(ntpOf(clockSlew))
	switch off := int64(diff - c.offset); {
	case !c.known || off > 1<<32 || off < -1<<32: // more than a second: it was set
		c.known, c.offset = true, diff
	default:
		c.offset += uint64(min(max(off/8, -limit), limit))
	}
}
