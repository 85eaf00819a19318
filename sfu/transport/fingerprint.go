package transport

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"strings"
)

// Fingerprint is a certificate fingerprint as SDP carries it (RFC 8122 §5).
// The zero value matches nothing. Fingerprints are comparable and not secret.
type Fingerprint struct {
	hash fingerprintHash
	sum  [sha512.Size]byte
}

type fingerprintHash uint8

const (
	hashNone fingerprintHash = iota
	hashSHA256
	hashSHA384
	hashSHA512
)

var fingerprintHashes = [...]struct {
	name string
	size int
}{
	hashNone:   {"", 0},
	hashSHA256: {"sha-256", sha256.Size},
	hashSHA384: {"sha-384", sha512.Size384},
	hashSHA512: {"sha-512", sha512.Size},
}

// ErrFingerprint says that a fingerprint is not one, or uses a hash that is too
// weak (RFC 8122 §5 wants at least SHA-256).
var ErrFingerprint = errors.New("transport: bad or unsupported certificate fingerprint")

// ParseFingerprint reads the two words of an a=fingerprint line.
func ParseFingerprint(algorithm, value string) (Fingerprint, error) {
	var f Fingerprint
	for h := hashSHA256; int(h) < len(fingerprintHashes); h++ {
		if strings.EqualFold(algorithm, fingerprintHashes[h].name) {
			f.hash = h
		}
	}
	size := fingerprintHashes[f.hash].size
	if size == 0 || len(value) != 3*size-1 {
		return Fingerprint{}, ErrFingerprint
	}
	for i := range size {
		hi, lo := unhex(value[3*i]), unhex(value[3*i+1])
		if hi > 15 || lo > 15 || (i < size-1 && value[3*i+2] != ':') {
			return Fingerprint{}, ErrFingerprint
		}
		f.sum[i] = hi<<4 | lo
	}
	return f, nil
}

// FingerprintOf returns the SHA-256 fingerprint of a DER certificate.
func FingerprintOf(der []byte) Fingerprint {
	return fingerprintBy(hashSHA256, der)
}

func fingerprintBy(h fingerprintHash, der []byte) Fingerprint {
	f := Fingerprint{hash: h}
	switch h {
	case hashSHA256:
		s := sha256.Sum256(der)
		copy(f.sum[:], s[:])
	case hashSHA384:
		s := sha512.Sum384(der)
		copy(f.sum[:], s[:])
	case hashSHA512:
		f.sum = sha512.Sum512(der)
	}
	return f
}

// IsZero reports whether f is unset.
func (f Fingerprint) IsZero() bool { return f.hash == hashNone }

// Matches reports, in constant time, whether der is the certificate that f names.
func (f Fingerprint) Matches(der []byte) bool {
	if f.IsZero() {
		return false
	}
	g := fingerprintBy(f.hash, der)
	return subtle.ConstantTimeCompare(f.sum[:], g.sum[:]) == 1
}

// Algorithm returns the name of the hash, as in SDP.
func (f Fingerprint) Algorithm() string { return fingerprintHashes[f.hash].name }

// Value returns the hash in upper-case hex with colons, as in SDP.
func (f Fingerprint) Value() string {
	const digits = "0123456789ABCDEF"
	size := fingerprintHashes[f.hash].size
	if size == 0 {
		return ""
	}
	b := make([]byte, 0, 3*size)
	for _, x := range f.sum[:size] {
		b = append(b, digits[x>>4], digits[x&15], ':')
	}
	return string(b[:len(b)-1])
}

// String returns algorithm and value.
func (f Fingerprint) String() string { return f.Algorithm() + " " + f.Value() }

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	default:
		return 0xff
	}
}
