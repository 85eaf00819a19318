// Package plain turns plain state into bytes and back by one description: a function that names each field once, in order, and is
// run by a Coder that either writes or reads. What is written by a description is read by the same one; there is no second list
// of fields to forget one in.
//
// A Coder's numbers are big-endian and of fixed size, text and bytes carry a length, lists a count. Forms that are packed tighter
// are written by hand and read by a Reader, which the Coder reads with, too. Reading hostile bytes is safe: lengths are checked
// against what is left before anything is allocated, and the first error ends it.
//
// It does not know what it carries. Whoever puts keys through it wraps the bytes in a type that cannot be logged.
package plain

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is the error of bytes that do not have the form that is read.
var ErrMalformed = errors.New("plain: malformed state")

// Coder writes to or reads from a byte string.
type Coder struct {
	w       []byte
	r       Reader // carries the error of either way
	reading bool
}

// NewWriter returns a Coder that appends to dst.
func NewWriter(dst []byte) *Coder { return &Coder{w: dst} }

// NewReader returns a Coder that reads b.
func NewReader(b []byte) *Coder { return &Coder{r: Read(b), reading: true} }

// Reading says which way the Coder goes.
func (c *Coder) Reading() bool { return c.reading }

// Bytes returns what was written, or what is left to read.
func (c *Coder) Bytes() []byte {
	if c.reading {
		return c.r.Rest()
	}
	return c.w
}

// Err returns the first error.
func (c *Coder) Err() error { return c.r.Err() }

// End returns the first error, or ErrMalformed if something is left to read.
func (c *Coder) End() error { return c.r.End() }

// Fail makes the Coder fail: for values that the description knows to be wrong.
func (c *Coder) Fail() { c.r.Require(false) }

// Number is what the fixed-size fields hold.
type Number interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int8 | ~int32 | ~int64 | ~int
}

// Int codes v in eight bytes, whatever its size in memory. A value that does not fit the field it is read into is malformed.
func Int[T Number](c *Coder, v *T) {
	if !c.reading {
		c.w = binary.BigEndian.AppendUint64(c.w, uint64(*v))
		return
	}
	u := c.r.Uint64()
	c.r.Require(uint64(T(u)) == u)
	if c.r.OK() {
		*v = T(u)
	}
}

// Bool codes v.
func (c *Coder) Bool(v *bool) {
	if !c.reading {
		c.w = AppendBool(c.w, *v)
		return
	}
	if b := c.r.Bool(); c.r.OK() {
		*v = b
	}
}

// Text codes a string of at most 65535 bytes.
func Text[T ~string](c *Coder, v *T) {
	if !c.reading {
		if len(*v) > 65535 {
			c.Fail()
			return
		}
		c.w = binary.BigEndian.AppendUint16(c.w, uint16(len(*v)))
		c.w = append(c.w, *v...)
		return
	}
	if b := c.r.Take(int(c.r.Uint16())); c.r.OK() {
		*v = T(b)
	}
}

// Blob codes bytes. What is read aliases the input.
func (c *Coder) Blob(v *[]byte) {
	if !c.reading {
		c.w = binary.BigEndian.AppendUint32(c.w, uint32(len(*v)))
		c.w = append(c.w, *v...)
		return
	}
	if b := c.r.Take(int(c.r.Uint32())); c.r.OK() {
		*v = b
	}
}

// List codes a list, each element by each. Every element takes at least one byte, so that a count cannot promise more than there
// is to read.
func List[T any](c *Coder, v *[]T, each func(c *Coder, e *T)) {
	if !c.reading {
		c.w = binary.BigEndian.AppendUint32(c.w, uint32(len(*v)))
		for i := range *v {
			each(c, &(*v)[i])
		}
		return
	}
	n := c.r.Uint32()
	c.r.Require(uint64(n) <= uint64(len(c.r.Rest())))
	if !c.r.OK() {
		return
	}
	*v = nil
	for range n {
		var e T
		if each(c, &e); !c.r.OK() {
			return
		}
		*v = append(*v, e)
	}
}
