package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Curves of ProofKeys, as JWK names them.
const (
	curveEd25519 = "Ed25519" // RFC 8037 §2
	curveP256    = "P-256"   // RFC 7518 §6.2
)

// ProofKey is the public key by which a client proves that a token is its own: the token names its Thumbprint (RFC 7800 §3.1, `cnf`
// with `jkt`). It is comparable; the zero one is none.
type ProofKey struct {
	Curve string
	X, Y  [32]byte // Y is zero for Ed25519
}

// NewProofKey returns the proof key of an Ed25519 or ECDSA P-256 key.
func NewProofKey(public crypto.PublicKey) (ProofKey, error) {
	switch pub := public.(type) {
	case ed25519.PublicKey:
		return ProofKey{Curve: curveEd25519, X: [32]byte(pub)}, nil
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			break
		}
		point, err := pub.Bytes()
		if err != nil {
			return ProofKey{}, fmt.Errorf("token: proof key: %w", err)
		}
		return ProofKey{Curve: curveP256, X: [32]byte(point[1:33]), Y: [32]byte(point[33:])}, nil
	}
	return ProofKey{}, errors.New("token: proof key: want Ed25519 or P-256")
}

// Type returns the `kty` of the key, "" for a curve that is not known.
func (k ProofKey) Type() string {
	switch k.Curve {
	case curveEd25519:
		return "OKP"
	case curveP256:
		return "EC"
	}
	return ""
}

// Thumbprint returns the key's hash in base64url, RFC 7638 §3; "" for a curve that is not known.
func (k ProofKey) Thumbprint() string {
	var text string
	switch k.Type() {
	case "OKP":
		text = `{"crv":"` + k.Curve + `","kty":"OKP","x":"` + encoding.EncodeToString(k.X[:]) + `"}`
	case "EC":
		text = `{"crv":"` + k.Curve + `","kty":"EC","x":"` + encoding.EncodeToString(k.X[:]) + `","y":"` + encoding.EncodeToString(k.Y[:]) + `"}`
	default:
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return encoding.EncodeToString(sum[:])
}

// Verify checks a signature in the form of JWS (RFC 7518 §3.4, RFC 8037 §3.1), which is WebCrypto's too: 64 bytes.
func (k ProofKey) Verify(message, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	switch k.Curve {
	case curveEd25519:
		return ed25519.Verify(k.X[:], message, signature)
	case curveP256:
		point := append(append([]byte{4}, k.X[:]...), k.Y[:]...)
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return false
		}
		sum := sha256.Sum256(message)
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(pub, sum[:], r, s)
	}
	return false
}

// Prove signs a message so that Verify of the signer's ProofKey takes it.
func Prove(signer crypto.Signer, message []byte) ([]byte, error) {
	key, err := NewProofKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if key.Curve == curveEd25519 {
		return signer.Sign(rand.Reader, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	der, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("token: prove: %w", err)
	}
	var parts struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 {
		return nil, errors.New("token: prove: the signer does not sign as ECDSA does")
	}
	out := make([]byte, 64)
	parts.R.FillBytes(out[:32])
	parts.S.FillBytes(out[32:])
	return out, nil
}
