// Package bits reads what video codecs write bit by bit: fixed fields, flags, Exp-Golomb codes, and NAL units without the bytes that
// keep start codes out of them.
//
// It promises never to fail: beyond the end there are zeros, and the reader says so. It allocates nothing, and knows no syntax of any
// codec.
package bits

// Reader reads a bit stream from its highest bit on. Beyond the end it reads zeros and remembers that it did.
type Reader struct {
	B     []byte
	Pos   int // in bits
	Short bool
}

// U reads n bits, 32 at most.
func (r *Reader) U(n int) uint32 {
	var v uint32
	for range n {
		v <<= 1
		if r.Pos>>3 >= len(r.B) {
			r.Short = true
			continue
		}
		v |= uint32(r.B[r.Pos>>3]>>(7-r.Pos&7)) & 1
		r.Pos++
	}
	return v
}

// Flag reads one bit.
func (r *Reader) Flag() bool { return r.U(1) != 0 }

// UE reads an unsigned Exp-Golomb code (ITU-T H.264 §9.1), as AV1's uvlc is one, too.
func (r *Reader) UE() uint32 {
	zeros := 0
	for !r.Flag() {
		if zeros++; zeros > 31 || r.Short {
			r.Short = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.U(zeros)
}

// SE reads a signed Exp-Golomb code (ITU-T H.264 §9.1.1).
func (r *Reader) SE() int32 {
	v := r.UE()
	if v&1 != 0 {
		return int32(v/2 + 1)
	}
	return -int32(v / 2)
}

// Unescape appends the beginning of a NAL unit to dst without the emulation prevention bytes (ITU-T H.264 §7.4.1), up to limit bytes.
func Unescape(dst, b []byte, limit int) []byte {
	zeros := 0
	for _, x := range b {
		if limit <= 0 {
			break
		}
		if zeros >= 2 && x == 3 {
			zeros = 0
			continue
		}
		if x == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, x)
		limit--
	}
	return dst
}
