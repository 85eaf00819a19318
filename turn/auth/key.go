package auth

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/sotto-edge/sotto/internal/redact"
	"github.com/sotto-edge/sotto/internal/stun"
)

// Algorithm is how a password becomes a key (RFC 8489 §18.5).
type Algorithm uint16

// The algorithms.
const (
	MD5    Algorithm = 1
	SHA256 Algorithm = 2
)

// Key is the key of a long-term credential (RFC 8489 §9.2.2). It cannot be printed or marshalled: the bytes sit behind a pointer.
type Key struct {
	redact.Guard
	secret *secret
}

type secret struct{ b []byte }

// NewKey makes the key of a user's password.
func NewKey(user, realm, password string, a Algorithm) Key {
	text := []byte(user + ":" + realm + ":" + password)
	if a == SHA256 {
		sum := sha256.Sum256(text)
		return Key{secret: &secret{sum[:]}}
	}
	sum := md5.Sum(text)
	return Key{secret: &secret{sum[:]}}
}

// IsZero says whether there is no key at all.
func (k Key) IsZero() bool { return k.secret == nil }

// Integrity is which attribute proves that the bearer of a key wrote a message.
type Integrity uint8

// The attributes: MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.5, §14.6).
const (
	SHA1Integrity Integrity = iota
	SHA256Integrity
)

func (i Integrity) hash() (attr stun.AttrType, new func() hash.Hash, size int) {
	if i == SHA256Integrity {
		return stun.AttrMessageIntegritySHA256, sha256.New, sha256.Size
	}
	return stun.AttrMessageIntegrity, sha1.New, sha1.Size
}

// sum computes the HMAC over a message that an integrity attribute of size bytes is to follow.
func (k Key) sum(message []byte, i Integrity, size int) []byte {
	_, h, _ := i.hash()
	mac := hmac.New(h, k.secret.b)
	var head [4]byte
	copy(head[:2], message)
	binary.BigEndian.PutUint16(head[2:], uint16(len(message)-stun.HeaderLen+4+size))
	mac.Write(head[:])
	mac.Write(message[4:])
	return mac.Sum(nil)
}

// Seal appends the integrity attribute to a message and makes its length right.
func (k Key) Seal(message []byte, i Integrity) []byte {
	attr, _, size := i.hash()
	sum := k.sum(message, i, size)
	message = binary.BigEndian.AppendUint16(message, uint16(attr))
	message = binary.BigEndian.AppendUint16(message, uint16(size))
	message = append(message, sum...)
	binary.BigEndian.PutUint16(message[2:], uint16(len(message)-stun.HeaderLen))
	return message
}

// Opens says whether the integrity attribute of the message, which m is a view of, was made with this key. When both attributes are
// there the stronger one counts (RFC 8489 §9.2.4).
func (k Key) Opens(m *stun.Message, raw []byte) (Integrity, bool) {
	if k.IsZero() {
		return SHA1Integrity, false
	}
	for _, i := range []Integrity{SHA256Integrity, SHA1Integrity} {
		attr, _, _ := i.hash()
		got, ok := m.Attr(attr)
		if !ok {
			continue
		}
		at := offset(raw, attr)
		if at < 0 {
			return i, false
		}
		// RFC 8489 §14.6: the longer hash may be cut to a multiple of four, 16 bytes at least, which internal/stun has checked.
		return i, hmac.Equal(k.sum(raw[:at], i, len(got))[:len(got)], got)
	}
	return SHA1Integrity, false
}

// offset returns where the first attribute of that type begins in a message that has been parsed; -1 without one.
func offset(raw []byte, t stun.AttrType) int {
	for at := stun.HeaderLen; at+4 <= len(raw); {
		if stun.AttrType(binary.BigEndian.Uint16(raw[at:])) == t {
			return at
		}
		at += 4 + (int(binary.BigEndian.Uint16(raw[at+2:]))+3)&^3
	}
	return -1
}

// InnerKey draws the key that the server signs with towards the library, which wants to have it in the plain.
func InnerKey() (Key, []byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails; crypto/rand ends the program instead
	return Key{secret: &secret{b}}, b
}
