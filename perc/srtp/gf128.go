package srtp

import "encoding/binary"

// element is an element of GF(2^128) as GHASH writes it (NIST SP 800-38D
// §6.3): the first bit of the first byte is the coefficient of x^0.
type element struct{ hi, lo uint64 }

func loadElement(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (a element) add(b element) element { return element{a.hi ^ b.hi, a.lo ^ b.lo} }

// timesX multiplies by x, without a branch on the secret operand.
func (a element) timesX() element {
	carry := -(a.lo & 1)
	return element{a.hi>>1 ^ carry&(0xe1<<56), a.lo>>1 | a.hi<<63}
}

// mul multiplies bit by bit. It runs when a context is made, never for a
// packet.
func (a element) mul(b element) element {
	var z element
	for _, w := range [2]uint64{a.hi, a.lo} {
		for i := 63; i >= 0; i-- {
			m := -(w >> i & 1)
			z.hi ^= b.hi & m
			z.lo ^= b.lo & m
			b = b.timesX()
		}
	}
	return z
}

// inverse is a^(2^128-2) by the addition chain of Itoh and Tsujii: with
// r(k) = a^(2^k-1), r(2k) = r(k)^(2^k) r(k) and r(k+1) = r(k)^2 a.
func (a element) inverse() element {
	r := a
	for _, k := range [...]int{1, 3, 7, 15, 31, 63} {
		s := r
		for range k {
			s = s.mul(s)
		}
		r = s.mul(r)        // r(2k)
		r = r.mul(r).mul(a) // r(2k+1)
	}
	return r.mul(r) // r(127)^2
}
