package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/internal/redact"
)

// NonceLife is how long a nonce is good for (RFC 8656 §5 wants an hour at most).
const NonceLife = time.Hour

// Features are what a nonce says of the server (RFC 8489 §9.2).
type Features uint32

// The features, by their bit (RFC 8489 §18.1).
const (
	PasswordAlgorithms Features = 1 << 0
	UsernameAnonymity  Features = 1 << 1
)

// cookie begins a nonce that carries features (RFC 8489 §9.2).
const cookie = "obMatJos2"

// A nonce is short, because it is most of what strangers are answered: seconds since 1970 until the year 2106, and a MAC that is
// guessed on line only, and is no credential.
const (
	nonceTime = 4
	nonceMAC  = 8
)

// Nonces makes nonces and knows its own again. It keeps a key and nothing else, so that a flood of requests costs no memory, and a
// stale nonce is told before any user is looked up. It may be used by many goroutines.
type Nonces struct {
	redact.Guard
	key      *[32]byte
	features Features
}

// NewNonces draws a key. Nonces of another are not known: a restart makes clients ask once more.
func NewNonces(f Features) *Nonces {
	n := &Nonces{key: new([32]byte), features: f}
	_, _ = rand.Read(n.key[:]) // never fails; crypto/rand ends the program instead
	return n
}

// New returns a nonce of the time now.
func (n *Nonces) New(now time.Time) string {
	var b [nonceTime + nonceMAC]byte
	binary.BigEndian.PutUint32(b[:], uint32(now.Unix()))
	n.mac(b[:nonceTime], b[nonceTime:])
	f := [4]byte{}
	binary.BigEndian.PutUint32(f[:], uint32(n.features))
	return cookie + base64.StdEncoding.EncodeToString(f[1:]) + base64.RawURLEncoding.EncodeToString(b[:])
}

// Fresh says whether the nonce is one of these and not too old.
func (n *Nonces) Fresh(nonce string, now time.Time) bool {
	const features = 4 // characters
	rest, ok := strings.CutPrefix(nonce, cookie)
	if !ok || len(rest) < features {
		return false
	}
	var b [nonceTime + nonceMAC]byte
	encoded := rest[features:]
	if len(encoded) != base64.RawURLEncoding.EncodedLen(len(b)) || strings.ContainsAny(encoded, "\r\n") {
		return false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(encoded)); err != nil {
		return false
	}
	var want [nonceMAC]byte
	n.mac(b[:nonceTime], want[:])
	if !hmac.Equal(want[:], b[nonceTime:]) {
		return false
	}
	f := [4]byte{}
	binary.BigEndian.PutUint32(f[:], uint32(n.features))
	if rest[:features] != base64.StdEncoding.EncodeToString(f[1:]) {
		return false // somebody between wants the client to do with less (RFC 8489 §9.2.4)
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint32(b[:])), 0))
	return age >= -time.Second && age <= NonceLife
}

func (n *Nonces) mac(text, out []byte) {
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(text)
	copy(out, mac.Sum(nil))
}
