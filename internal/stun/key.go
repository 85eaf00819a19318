package stun

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash"
)

var errKeyMarshal = errors.New("stun: a key is not marshalled")

// Key is the HMAC-SHA1 key of a short-term credential, ready for use (RFC 8489 §9.1). It
// keeps scratch state, so it belongs to one goroutine at a time.
//
// It cannot be printed or marshalled by accident: the secret sits behind a pointer that no
// formatting verb follows, and every way of writing it says redacted or fails.
type Key struct {
	s *keyState
}

type keyState struct {
	mac  hash.Hash
	head [4]byte // type and length as they count for the HMAC
	sum  [integrityLen]byte
}

// NewKey makes the key of a password. ICE passwords are plain ASCII (RFC 8839 §5.4), for which
// the OpaqueString profile that RFC 8489 §9.1.1 asks for changes nothing.
func NewKey(password string) *Key {
	s := &keyState{mac: hmac.New(sha1.New, []byte(password))}
	// The first Reset after a Sum makes crypto/hmac keep its padded states; from then on it
	// neither allocates nor hashes the key again.
	s.mac.Sum(s.sum[:0])
	s.mac.Reset()
	return &Key{s: s}
}

// digest computes the HMAC of a message up to its integrity attribute, with the length field
// counting that attribute (RFC 8489 §14.5). The message itself is not touched.
func (s *keyState) digest(msg []byte) {
	copy(s.head[:2], msg)
	binary.BigEndian.PutUint16(s.head[2:], uint16(len(msg)-HeaderLen+attrHeader+integrityLen))
	s.mac.Reset()
	s.mac.Write(s.head[:])
	s.mac.Write(msg[len(s.head):])
	s.mac.Sum(s.sum[:0])
}

func (k *Key) verify(msg, want []byte) bool {
	k.s.digest(msg)
	return hmac.Equal(k.s.sum[:], want)
}

// String says redacted.
func (Key) String() string { return "stun.Key(redacted)" }

// GoString says redacted.
func (Key) GoString() string { return "stun.Key(redacted)" }

// MarshalText fails.
func (Key) MarshalText() ([]byte, error) { return nil, errKeyMarshal }

// MarshalJSON fails.
func (Key) MarshalJSON() ([]byte, error) { return nil, errKeyMarshal }

// MarshalBinary fails.
func (Key) MarshalBinary() ([]byte, error) { return nil, errKeyMarshal }
