package plain

import (
	"encoding/binary"
	"net/netip"
)

// Reader takes fields off the front of a byte string: for forms that are packed tighter than a Coder's. It carries the first error:
// after a field that is not there or not right, every field is zero, so that a form is read in one go and judged once, at its end.
//
// What is written for it is written with encoding/binary, big-endian, and with the Append functions of this package.
type Reader struct {
	b   []byte
	err error
}

// Read returns a Reader of b.
func Read(b []byte) Reader { return Reader{b: b} }

// Rest returns what is left to read; nothing after an error.
func (r *Reader) Rest() []byte {
	if r.err != nil {
		return nil
	}
	return r.b
}

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// OK says that there was no error yet.
func (r *Reader) OK() bool { return r.err == nil }

// End returns the first error, or ErrMalformed if something is left to read.
func (r *Reader) End() error {
	r.Require(len(r.b) == 0)
	return r.err
}

// Require makes the Reader fail unless ok: for values that the form knows to be wrong.
func (r *Reader) Require(ok bool) {
	if !ok && r.err == nil {
		r.err = ErrMalformed
	}
}

// Take returns the next n bytes, which alias the input, or nil.
func (r *Reader) Take(n int) []byte {
	r.Require(n >= 0 && n <= len(r.b))
	if r.err != nil {
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Uint reads a number of n bytes, 8 at most.
func (r *Reader) Uint(n int) (v uint64) {
	for _, b := range r.Take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// Uint8 reads a byte.
func (r *Reader) Uint8() uint8 { return uint8(r.Uint(1)) }

// Uint16 reads two bytes.
func (r *Reader) Uint16() uint16 { return uint16(r.Uint(2)) }

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 { return uint32(r.Uint(4)) }

// Uint64 reads eight bytes.
func (r *Reader) Uint64() uint64 { return r.Uint(8) }

// Bool reads a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	v := r.Uint8()
	r.Require(v <= 1)
	return r.OK() && v == 1
}

// Name reads what AppendName wrote.
func (r *Reader) Name() string {
	n := int(r.Uint8()) + 1
	return string(r.Take(n))
}

// Addr reads what AppendAddr wrote. A form that AppendAddr does not give is refused.
func (r *Reader) Addr() netip.Addr {
	switch n := r.Uint8(); n {
	case 0:
	case 4, 16:
		a, _ := netip.AddrFromSlice(r.Take(int(n)))
		r.Require(a.IsValid() && !a.Is4In6())
		if r.OK() {
			return a
		}
	default:
		r.Require(false)
	}
	return netip.Addr{}
}

// AppendUint appends the n lowest bytes of v, for the sizes that encoding/binary does not have.
func AppendUint(dst []byte, n int, v uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return append(dst, b[8-n:]...)
}

// AppendBool appends v as a byte.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendName appends a string of 1 to 256 bytes behind a byte that holds its length less one.
func AppendName(dst []byte, v string) []byte {
	return append(append(dst, byte(len(v)-1)), v...)
}

// AppendAddr appends the length of a (0 if it is not valid) and its bytes, the zone left out.
func AppendAddr(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(dst, 0)
	}
	v := a.Unmap().AsSlice()
	return append(append(dst, byte(len(v))), v...)
}
