package wire

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"

	"github.com/sotto-edge/sotto/internal/redact"
)

// KeyLen is how many bytes a key has: 256 bits, for AES-256 and for derivation.
const KeyLen = 32

// Material is the bytes of a key. It cannot be printed or marshalled; copies share the bytes, so that Wipe reaches all of them.
type Material struct {
	redact.Guard
	m *material
}

// material has the bytes behind one more pointer: fmt follows the first of a field that is not exported.
type material struct{ key *[KeyLen]byte }

// NewMaterial copies the bytes of a key, which stay the caller's to wipe.
func NewMaterial(b []byte) (Material, error) {
	if len(b) != KeyLen {
		return Material{}, errors.New("wire: a key has 32 bytes")
	}
	key := [KeyLen]byte(b)
	return Material{m: &material{&key}}, nil
}

// RandomMaterial returns a fresh key.
func RandomMaterial() Material {
	var key [KeyLen]byte
	_, _ = rand.Read(key[:])
	return Material{m: &material{&key}}
}

// Expose returns the bytes themselves, not a copy, for the one who encrypts with them; nil if there are none.
func (m Material) Expose() []byte {
	if m.m == nil {
		return nil
	}
	return m.m.key[:]
}

// Equal compares in constant time. Two that have no bytes are equal.
func (m Material) Equal(o Material) bool {
	return subtle.ConstantTimeCompare(m.Expose(), o.Expose()) == 1
}

// Wipe overwrites the bytes of m and all its copies.
func (m Material) Wipe() { clear(m.Expose()) }

// Bearer is a token. It cannot be printed or marshalled; it is text, which cannot be wiped, and lives a few minutes only.
type Bearer struct {
	redact.Guard
	t *bearer
}

type bearer struct{ text *string }

// NewBearer returns the bearer with a text.
func NewBearer(text string) Bearer { return Bearer{t: &bearer{&text}} }

// Expose returns the text, "" if there is none.
func (b Bearer) Expose() string {
	if b.t == nil {
		return ""
	}
	return *b.t.text
}

// Equal says whether two are the same token.
func (b Bearer) Equal(o Bearer) bool {
	return subtle.ConstantTimeCompare([]byte(b.Expose()), []byte(o.Expose())) == 1
}
