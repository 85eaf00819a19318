// Package plain turns plain state into bytes and back by one description: a function that names each field once, in order, and is
// run by a Coder that either writes or reads. What is written by a description is read by the same one; there is no second list
// of fields to forget one in.
//
// Numbers are big-endian and of fixed size, text and bytes carry a length, lists a count. Reading hostile bytes is safe: lengths
// are checked against what is left before anything is allocated, and the first error ends it.
//
// It does not know what it carries. Whoever puts keys through it wraps the bytes in a type that cannot be logged.
package plain

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is the error of bytes that no Coder has written.
var ErrMalformed = errors.New("plain: malformed state")

// Coder writes to or reads from a byte string.
type Coder struct {
	b       []byte
	reading bool
	err     error
}

// NewWriter returns a Coder that appends to dst.
func NewWriter(dst []byte) *Coder { return &Coder{b: dst} }

// NewReader returns a Coder that reads b.
func NewReader(b []byte) *Coder { return &Coder{b: b, reading: true} }

// Reading says which way the Coder goes.
func (c *Coder) Reading() bool { return c.reading }

// Bytes returns what was written, or what is left to read.
func (c *Coder) Bytes() []byte { return c.b }

// Err returns the first error.
func (c *Coder) Err() error { return c.err }

// End returns the first error, or ErrMalformed if something is left to read.
func (c *Coder) End() error {
	if c.err == nil && c.reading && len(c.b) > 0 {
		c.err = ErrMalformed
	}
	return c.err
}

// Fail makes the Coder fail: for values that the description knows to be wrong.
func (c *Coder) Fail() {
	if c.err == nil {
		c.err = ErrMalformed
	}
}

// take returns the next n bytes to read, or nil after an error.
func (c *Coder) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.b) {
		c.Fail()
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// Number is what the fixed-size fields hold.
type Number interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int32 | ~int64 | ~int
}

// Int codes v in eight bytes, whatever its size in memory. A value that does not fit the field it is read into is malformed.
func Int[T Number](c *Coder, v *T) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint64(c.b, uint64(*v))
		return
	}
	b := c.take(8)
	if b == nil {
		return
	}
	u := binary.BigEndian.Uint64(b)
	if uint64(T(u)) != u {
		c.Fail()
		return
	}
	*v = T(u)
}

// Bool codes v.
func (c *Coder) Bool(v *bool) {
	if !c.reading {
		b := byte(0)
		if *v {
			b = 1
		}
		c.b = append(c.b, b)
		return
	}
	if b := c.take(1); b != nil {
		if b[0] > 1 {
			c.Fail()
			return
		}
		*v = b[0] == 1
	}
}

// Text codes a string of at most 65535 bytes.
func Text[T ~string](c *Coder, v *T) {
	if !c.reading {
		if len(*v) > 65535 {
			c.Fail()
			return
		}
		c.b = binary.BigEndian.AppendUint16(c.b, uint16(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	if n := c.take(2); n != nil {
		*v = T(c.take(int(binary.BigEndian.Uint16(n))))
	}
}

// Blob codes bytes. What is read aliases the input.
func (c *Coder) Blob(v *[]byte) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	if n := c.take(4); n != nil {
		*v = c.take(int(binary.BigEndian.Uint32(n)))
	}
}

// List codes a list, each element by each. Every element takes at least one byte, so that a count cannot promise more than there
// is to read.
func List[T any](c *Coder, v *[]T, each func(c *Coder, e *T)) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(*v)))
		for i := range *v {
			each(c, &(*v)[i])
		}
		return
	}
	b := c.take(4)
	if b == nil {
		return
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(c.b)) {
		c.Fail()
		return
	}
	*v = nil
	for range n {
		var e T
		if each(c, &e); c.err != nil {
			return
		}
		*v = append(*v, e)
	}
}
