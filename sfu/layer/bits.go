package layer

import "math/bits"

// bitReader reads unsigned numbers from high to low order. Reading over the end gives zeroes and is remembered.
type bitReader struct {
	b   []byte
	at  int // next bit
	bad bool
}

func (r *bitReader) read(n int) uint32 {
	if r.at+n > 8*len(r.b) {
		r.bad = true
		return 0
	}
	var v uint32
	for n > 0 {
		left := 8 - r.at&7 // in this byte
		take := min(left, n)
		v = v<<take | uint32(r.b[r.at>>3])>>(left-take)&(1<<take-1)
		r.at += take
		n -= take
	}
	return v
}

func (r *bitReader) flag() bool { return r.read(1) != 0 }

// nonSymmetric reads a number below n (appendix A.8.2, ns(n)).
func (r *bitReader) nonSymmetric(n uint32) uint32 {
	w := bits.Len32(n)
	m := uint32(1)<<w - n
	v := r.read(w - 1)
	if v < m {
		return v
	}
	return v<<1 - m + r.read(1)
}

// appendBits appends the low n bits of v to b, of which only the first used bits have a meaning, and returns both anew.
func appendBits(b []byte, used int, v uint32, n int) ([]byte, int) {
	for n > 0 {
		if used&7 == 0 {
			b = append(b, 0)
		}
		free := 8 - used&7
		take := min(free, n)
		b[len(b)-1] |= byte(v>>(n-take)&(1<<take-1)) << (free - take)
		used += take
		n -= take
	}
	return b, used
}
