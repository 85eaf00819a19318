package mux

// bits reads a bit stream from its highest bit on. Beyond the end it reads zeros and remembers that it did.
type bits struct {
	b     []byte
	pos   int
	short bool
}

func (r *bits) u(n int) uint32 {
	var v uint32
	for range n {
		v <<= 1
		if r.pos>>3 >= len(r.b) {
			r.short = true
			continue
		}
		v |= uint32(r.b[r.pos>>3]>>(7-r.pos&7)) & 1
		r.pos++
	}
	return v
}

func (r *bits) flag() bool { return r.u(1) != 0 }

// ue reads an unsigned Exp-Golomb code (ITU-T H.264 §9.1), as AV1's uvlc is one, too.
func (r *bits) ue() uint32 {
	zeros := 0
	for !r.flag() {
		if zeros++; zeros > 31 || r.short {
			r.short = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.u(zeros)
}

// se reads a signed Exp-Golomb code (ITU-T H.264 §9.1.1).
func (r *bits) se() int32 {
	v := r.ue()
	if v&1 != 0 {
		return int32(v/2 + 1)
	}
	return -int32(v / 2)
}

// unescape takes the emulation prevention bytes out of the first bytes of a NAL unit (ITU-T H.264 §7.4.1), up to max of them.
func unescape(b []byte, limit int) []byte {
	out := make([]byte, 0, min(len(b), limit))
	zeros := 0
	for _, x := range b {
		if len(out) >= limit {
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
		out = append(out, x)
	}
	return out
}
