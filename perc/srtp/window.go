package srtp

const (
	windowLen   = 512
	windowWords = windowLen / 64
)

// window remembers which of the newest 512 indices have been seen or used
// (RFC 3711 §3.3.2). Whatever is older counts as seen. The bits are a ring:
// index i has bit i mod 512, so that advancing by one touches one bit.
type window struct {
	top  uint64 // the highest index marked
	any  bool   // whether top means anything yet
	bits [windowWords]uint64
}

// seen reports whether i is marked or too old to tell.
func (w *window) seen(i uint64) bool {
	if !w.any || i > w.top {
		return false
	}
	return w.top-i >= windowLen || w.bits[i/64%windowWords]&(1<<(i%64)) != 0
}

// mark marks i, which must not have been seen.
func (w *window) mark(i uint64) {
	switch {
	case !w.any:
		w.any, w.top = true, i
	case i > w.top && i-w.top >= windowLen:
		clear(w.bits[:])
		w.top = i
	case i > w.top:
		for j := w.top + 1; j < i; j++ {
			w.bits[j/64%windowWords] &^= 1 << (j % 64)
		}
		w.top = i
	}
	w.bits[i/64%windowWords] |= 1 << (i % 64)
}

// fill marks i and everything below it.
func (w *window) fill(i uint64) {
	w.any, w.top = true, i
	for k := range w.bits {
		w.bits[k] = ^uint64(0)
	}
}

// guess extends a received sequence number to the 48-bit index nearest to
// the highest one seen, RFC 3711 §3.3.1 and Appendix A. Before the first
// packet the roll-over counter is zero.
//
// Where the RFC would step back before roll-over counter zero there is no
// packet to be found; the only index that exists is taken instead, as
// libsrtp and pion do, so that a sender who starts with a jump is followed.
func (w *window) guess(seq uint16) uint64 {
	if !w.any {
		return uint64(seq)
	}
	roc, last := w.top>>16, uint16(w.top)
	switch {
	case last < 1<<15 && seq > last && seq-last > 1<<15:
		if roc > 0 {
			roc--
		}
	case last >= 1<<15 && last-1<<15 > seq:
		roc++
	}
	return roc<<16 | uint64(seq)
}
