// Package channel is the secure channel between a client and a KMS, through a relay that neither trusts (docs/kms-protocol.md §3).
//
// It owns the frames, the identity of a KMS, the handshake and the sealing of texts. It promises that a client ends up talking to
// the KMS that is certified for its mail domain or to nobody; that who has recorded everything and steals the static keys later opens
// nothing; that both hold for an attacker with a quantum computer under the hybrid suite (later theft and recording, not forged
// certificates); that texts arrive once, in order, in the direction in which they were sent, or not at all; and that its keys cannot
// be printed. It overwrites the keys it holds when they are done with; the private halves and key schedules inside the standard
// library it can only let go.
//
// It carries no texts, keeps no time but what it is handed, and does not know who the client is: that is said inside, over Binding.
package channel

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
)

// Errors that callers match.
var (
	ErrMalformed = errors.New("channel: malformed frame")
	ErrUntrusted = errors.New("channel: the identity is not certified by anybody trusted")
	ErrDomain    = errors.New("channel: the identity is of another domain")
	ErrStale     = errors.New("channel: the identity is out of date")
	ErrIdentity  = errors.New("channel: opened to an identity that is not held here")
	ErrSuite     = errors.New("channel: no such suite")
	ErrHandshake = errors.New("channel: the handshake failed")
	ErrReplayed  = errors.New("channel: a frame came again")
	ErrMissing   = errors.New("channel: a frame is missing before this one")
	ErrSealed    = errors.New("channel: a frame does not open")
	ErrSpent     = errors.New("channel: the session is over")
)

// Version of the protocol.
const Version = 1

// label separates this protocol's uses of keys and hashes from all others'.
const label = "sotto kms 1 "

// Suite is a set of algorithms. Both use HKDF-SHA256 and AES-256-GCM.
type Suite uint16

// The suites.
const (
	Hybrid Suite = 1 // MLKEM768-X25519 (0x647a): what every KMS has, and whoever can uses
	P256   Suite = 2 // DHKEM(P-256, HKDF-SHA256) (0x0010): for clients whose platform has no more
)

// Suites are all suites, the best first.
func Suites() []Suite { return []Suite{Hybrid, P256} }

// String returns the name that stands in audits.
func (s Suite) String() string {
	switch s {
	case Hybrid:
		return "MLKEM768X25519"
	case P256:
		return "P-256"
	}
	return fmt.Sprintf("suite %d", uint16(s))
}

// kem returns the suite's KEM, nil for a suite that is not known.
func (s Suite) kem() hpke.KEM {
	switch s {
	case Hybrid:
		return hpke.MLKEM768X25519()
	case P256:
		return hpke.DHKEM(ecdh.P256())
	}
	return nil
}
