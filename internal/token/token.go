// Package token makes and verifies the signed tokens that Sotto hands out: short texts that say what their bearer may do, for
// whom and until when.
//
// A token is "st1." then the claims and an Ed25519 signature over everything before it, both base64url. Whoever verifies needs
// the public key only, so a part that checks tokens cannot make them. The package promises that a token that verifies was signed
// by a known key for the audience asked for and has not expired; it keeps no record, so a token cannot be taken back before it
// expires: make them short-lived. It does not know what a room or a role means.
package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Audience says what a token is for; one made for another purpose does not verify.
type Audience string

// The audiences.
const (
	Join Audience = "join" // take a seat in a room
	Host Audience = "host" // get join tokens with the role of host
	Open Audience = "open" // open a meeting

	Ingest Audience = "ingest" // publish into a room over WHIP
	View   Audience = "view"   // watch a room over WHEP

	KMS   Audience = "kms"   // open a channel to the KMS of one's own domain
	Cloud Audience = "cloud" // use the services that see no content
)

// Errors that callers match.
var (
	ErrInvalid = errors.New("token: invalid")
	ErrExpired = errors.New("token: expired")

	// ErrAudience is an ErrInvalid: the token is good, but for something else.
	ErrAudience = fmt.Errorf("%w: wrong audience", ErrInvalid)
)

// MaxLen is the length of the longest token that is looked at.
const MaxLen = 2048

const prefix = "st1."

var encoding = base64.RawURLEncoding.Strict()

// Claims is what a token says.
type Claims struct {
	Audience Audience
	Room     string // canonical room id; empty where the audience needs none
	Role     string
	Name     string // the name its bearer goes by; may be empty
	ID       string // tells tokens apart in logs
	Expires  time.Time

	Subject string // whom it speaks for: the opaque id of a user or service account
	Domain  string // whose: the mail domain
	Service string // the type of a service account; empty for users
	Proof   string // thumbprint of the ProofKey that its bearer must prove to hold; empty: none
}

// payload is the form of the claims inside a token. Keys are fixed for ever; new ones may come.
type payload struct {
	Audience Audience `json:"aud"`
	Room     string   `json:"room,omitempty"`
	Role     string   `json:"role,omitempty"`
	Name     string   `json:"name,omitempty"`
	ID       string   `json:"jti,omitempty"`
	Expires  int64    `json:"exp"` // seconds since 1970
	Subject  string   `json:"sub,omitempty"`
	Domain   string   `json:"dom,omitempty"`
	Service  string   `json:"svc,omitempty"`
	Confirm  *confirm `json:"cnf,omitempty"`
}

// confirm is RFC 7800 §3.1 with the member of RFC 9449 §6.1.
type confirm struct {
	Thumbprint string `json:"jkt"`
}

// Signer makes tokens. It cannot be printed or marshalled.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner derives the key pair from a seed.
func NewSigner(seed Seed) *Signer {
	return &Signer{key: ed25519.NewKeyFromSeed(seed.b[:])}
}

// Sign returns the token for the claims. Expires is cut to whole seconds.
func (s *Signer) Sign(c Claims) (string, error) {
	if c.Audience == "" || c.Expires.IsZero() {
		return "", errors.New("token: sign: audience and expiry must be set")
	}
	p := payload{
		Audience: c.Audience, Room: c.Room, Role: c.Role, Name: c.Name, ID: c.ID, Expires: c.Expires.Unix(),
		Subject: c.Subject, Domain: c.Domain, Service: c.Service,
	}
	if c.Proof != "" {
		p.Confirm = &confirm{c.Proof}
	}
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("token: sign: %w", err)
	}
	signed := prefix + encoding.EncodeToString(text)
	token := signed + "." + encoding.EncodeToString(ed25519.Sign(s.key, []byte(signed)))
	if len(token) > MaxLen {
		return "", fmt.Errorf("token: sign: %d bytes are too many", len(token))
	}
	return token, nil
}

// Public returns the key that verifies this signer's tokens, for those who hold no secret.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Verifier returns the verifier for this signer's tokens.
func (s *Signer) Verifier() *Verifier { return NewVerifier(s.Public()) }

// Format keeps the key out of logs, whatever the verb.
func (s *Signer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// Verifier checks tokens.
type Verifier struct{ keys []ed25519.PublicKey }

// NewVerifier accepts the tokens of any of the keys: during a change of keys there is more than one.
func NewVerifier(keys ...ed25519.PublicKey) *Verifier { return &Verifier{keys: keys} }

// Verify returns the claims of a token for the audience. now is the time that expiry is judged by. The claims of an expired token
// are returned with ErrExpired; with ErrInvalid they are empty. The signature is checked before anything inside is looked at.
func (v *Verifier) Verify(token string, audience Audience, now time.Time) (Claims, error) {
	if len(token) > MaxLen {
		return Claims{}, fmt.Errorf("%w: too long", ErrInvalid)
	}
	signed, mark, ok := cutLast(token)
	// encoding/base64 skips line ends even when strict, which would give one token many spellings.
	if !ok || !strings.HasPrefix(signed, prefix) || strings.ContainsAny(token, "\r\n") {
		return Claims{}, fmt.Errorf("%w: not a token", ErrInvalid)
	}
	signature, err := encoding.DecodeString(mark)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return Claims{}, fmt.Errorf("%w: malformed signature", ErrInvalid)
	}
	if !v.signed([]byte(signed), signature) {
		return Claims{}, fmt.Errorf("%w: wrong signature", ErrInvalid)
	}
	text, err := encoding.DecodeString(signed[len(prefix):])
	if err != nil {
		return Claims{}, fmt.Errorf("%w: malformed claims", ErrInvalid)
	}
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return Claims{}, fmt.Errorf("%w: malformed claims", ErrInvalid)
	}
	if p.Audience != audience {
		return Claims{}, fmt.Errorf("%w: it is for %q, not %q", ErrAudience, p.Audience, audience)
	}
	c := Claims{
		Audience: p.Audience, Room: p.Room, Role: p.Role, Name: p.Name, ID: p.ID, Expires: time.Unix(p.Expires, 0),
		Subject: p.Subject, Domain: p.Domain, Service: p.Service,
	}
	if p.Confirm != nil {
		c.Proof = p.Confirm.Thumbprint
	}
	if !now.Before(c.Expires) {
		return c, fmt.Errorf("%w at %s", ErrExpired, c.Expires.UTC().Format(time.RFC3339))
	}
	return c, nil
}

func (v *Verifier) signed(text, signature []byte) bool {
	for _, k := range v.keys {
		if ed25519.Verify(k, text, signature) {
			return true
		}
	}
	return false
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
