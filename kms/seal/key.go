package seal

import (
	"crypto/rand"
	"crypto/subtle"

	"github.com/sotto-edge/sotto/internal/redact"
)

// keyLen is the length of every key here: AES-256.
const keyLen = 32

// KeyLen is the length of the keys that are handed out.
const KeyLen = keyLen

// Key is an unwrapped key on its way to who may have it. It cannot be printed or marshalled; copies share the bytes, so that Wipe
// reaches all of them.
type Key struct {
	redact.Guard
	k *keyBytes
}

// keyBytes has the bytes behind one more pointer: fmt follows the first of a field that is not exported.
type keyBytes struct{ b *[keyLen]byte }

// RandomKey returns a fresh key.
func RandomKey() Key {
	k := Key{k: &keyBytes{new([keyLen]byte)}}
	_, _ = rand.Read(k.k.b[:]) // never fails; crypto/rand ends the program instead
	return k
}

// Expose returns the bytes themselves, not a copy; nil if there are none.
func (k Key) Expose() []byte {
	if k.k == nil {
		return nil
	}
	return k.k.b[:]
}

// Copy returns the key with bytes of its own.
func (k Key) Copy() Key {
	if k.k == nil {
		return k
	}
	b := *k.k.b
	return Key{k: &keyBytes{&b}}
}

// Equal compares in constant time.
func (k Key) Equal(o Key) bool { return subtle.ConstantTimeCompare(k.Expose(), o.Expose()) == 1 }

// Wipe overwrites the bytes.
func (k Key) Wipe() { clear(k.Expose()) }
