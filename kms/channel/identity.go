package channel

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sotto-edge/sotto/internal/plain"
	"github.com/sotto-edge/sotto/internal/redact"
	"github.com/sotto-edge/sotto/internal/token"
)

// MaxValidity is how long a statement may be good for: so long can somebody who has stolen the static keys, but not the
// certificate's, pose as the KMS.
const MaxValidity = 92 * 24 * time.Hour

// IdentityConfig is what a KMS is known by.
type IdentityConfig struct {
	Domain string        // the mail domain, in lower case; the host in key URLs
	Seed   token.Seed    // the static keys come from it
	Chain  [][]byte      // DER, leaf first: certifies Signer for Domain
	Signer crypto.Signer // ECDSA P-256 or P-384, Ed25519, or RSA; used once
	From   time.Time
	Until  time.Time
	Suites []Suite // [all]
}

// Identity is a KMS to its clients: static keys, and a statement of the public ones that the certificate's key has signed.
type Identity struct {
	redact.Guard
	hash  [32]byte
	until time.Time
	frame []byte
	keys  *staticKeys
}

type staticKeys struct{ private map[Suite]hpke.PrivateKey }

// NewIdentity derives the static keys and signs the statement.
func NewIdentity(cfg IdentityConfig) (*Identity, error) {
	if len(cfg.Suites) == 0 {
		cfg.Suites = Suites()
	}
	if len(cfg.Chain) == 0 || len(cfg.Chain) > maxChain {
		return nil, fmt.Errorf("channel: identity: 1 to %d certificates are needed", maxChain)
	}
	leaf, err := x509.ParseCertificate(cfg.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("channel: identity: %w", err)
	}
	if !slices.Contains(leaf.DNSNames, cfg.Domain) {
		return nil, fmt.Errorf("%w: the certificate is for %v, not %s", ErrDomain, leaf.DNSNames, cfg.Domain)
	}
	if known, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !known.Equal(cfg.Signer.Public()) {
		return nil, errors.New("channel: identity: the key is not the certificate's")
	}
	s := statement{domain: cfg.Domain, from: cfg.From.Unix(), until: cfg.Until.Unix()}
	if s.until <= s.from || s.until-s.from > int64(MaxValidity/time.Second) {
		return nil, fmt.Errorf("channel: identity: a statement is good for at most %v", MaxValidity)
	}
	keys := &staticKeys{private: map[Suite]hpke.PrivateKey{}}
	for _, suite := range cfg.Suites {
		kem := suite.kem()
		if kem == nil {
			return nil, fmt.Errorf("%w: %d", ErrSuite, suite)
		}
		ikm := cfg.Seed.Derive("kms static " + suite.String()).Key()
		private, err := kem.DeriveKeyPair(ikm[:])
		clear(ikm[:])
		if err != nil {
			return nil, fmt.Errorf("channel: identity: %w", err)
		}
		keys.private[suite] = private
		s.keys = append(s.keys, statedKey{suite, private.PublicKey().Bytes()})
	}
	text := s.append(nil)
	signature, err := sign(cfg.Signer, signed(text))
	if err != nil {
		return nil, err
	}
	frame := identityFrame{text, cfg.Chain, signature}
	return &Identity{
		hash: sha256.Sum256(text), until: cfg.Until.Truncate(time.Second), frame: frame.append(nil), keys: keys,
	}, nil
}

// Frame returns the frame that answers Identify. It is not secret.
func (i *Identity) Frame() []byte { return slices.Clone(i.frame) }

// Hash names the statement.
func (i *Identity) Hash() [32]byte { return i.hash }

// Until returns when the statement ends.
func (i *Identity) Until() time.Time { return i.until }

// statement is what the certificate's key signs.
type statement struct {
	domain      string
	from, until int64 // seconds since 1970
	keys        []statedKey
}

type statedKey struct {
	suite  Suite
	public []byte
}

// signed is what the signature is over: the statement, told from everything else that the same key might sign.
func signed(text []byte) []byte { return append([]byte(label+"identity\x00"), text...) }

func (s *statement) append(b []byte) []byte {
	b = append(b, Version)
	b = plain.AppendName(b, s.domain)
	b = binary.BigEndian.AppendUint64(b, uint64(s.from))
	b = binary.BigEndian.AppendUint64(b, uint64(s.until))
	b = append(b, byte(len(s.keys)))
	for _, k := range s.keys {
		b = binary.BigEndian.AppendUint16(b, uint16(k.suite))
		b = appendBytes(b, k.public)
	}
	return b
}

func parseStatement(text []byte) (statement, error) {
	r := plain.Read(text)
	r.Require(r.Uint8() == Version)
	s := statement{domain: r.Name(), from: int64(r.Uint64()), until: int64(r.Uint64())}
	r.Require(s.from >= 0 && s.until > s.from)
	for range r.Uint8() {
		k := statedKey{Suite(r.Uint16()), takeBytes(&r)}
		r.Require(!slices.ContainsFunc(s.keys, func(o statedKey) bool { return o.suite == k.suite }))
		if r.OK() {
			s.keys = append(s.keys, k)
		}
	}
	if r.End() != nil {
		return statement{}, ErrMalformed
	}
	return s, nil
}

// algorithm is the one that goes with a public key, so that a statement needs no word about it.
func algorithm(public any) (x509.SignatureAlgorithm, crypto.SignerOpts) {
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384
		}
	case ed25519.PublicKey:
		return x509.PureEd25519, crypto.Hash(0)
	case *rsa.PublicKey:
		return x509.SHA256WithRSAPSS, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	return x509.UnknownSignatureAlgorithm, nil
}

func sign(signer crypto.Signer, message []byte) ([]byte, error) {
	_, opts := algorithm(signer.Public())
	if opts == nil {
		return nil, errors.New("channel: sign: want ECDSA P-256 or P-384, Ed25519, or RSA")
	}
	if h := opts.HashFunc(); h != 0 {
		hash := h.New()
		hash.Write(message)
		message = hash.Sum(nil)
	}
	signature, err := signer.Sign(rand.Reader, message, opts)
	if err != nil {
		return nil, fmt.Errorf("channel: sign: %w", err)
	}
	return signature, nil
}

// Trust is whom a client believes.
type Trust struct {
	Domain string         // the mail domain of the user
	Roots  *x509.CertPool // who may certify a KMS for it; nil: whom this machine trusts
}

// Peer is a KMS whose identity was verified.
type Peer struct {
	domain string
	hash   [32]byte
	until  time.Time
	keys   map[Suite]hpke.PublicKey
}

// Domain returns the domain that the KMS is certified for.
func (p *Peer) Domain() string { return p.domain }

// Until returns when the identity has to be asked for again.
func (p *Peer) Until() time.Time { return p.until }

// Has says whether the KMS speaks a suite. A relay cannot take one away: the statement lists them.
func (p *Peer) Has(s Suite) bool { return p.keys[s] != nil }

// Verify checks an identity frame: the certificates against the roots and the domain (RFC 5280 §6, RFC 9525 §6.3 without wildcards),
// the signature, the domain again, and the times.
func (t Trust) Verify(frame []byte, now time.Time) (*Peer, error) {
	f, err := parseIdentityFrame(frame)
	if err != nil {
		return nil, err
	}
	leaf, err := t.Certified(f.chain, now)
	if err != nil {
		return nil, err
	}
	if scheme, _ := algorithm(leaf.PublicKey); leaf.CheckSignature(scheme, signed(f.statement), f.signature) != nil {
		return nil, fmt.Errorf("%w: the statement is not signed with the certificate's key", ErrUntrusted)
	}
	s, err := parseStatement(f.statement)
	if err != nil {
		return nil, err
	}
	if s.domain != t.Domain {
		return nil, fmt.Errorf("%w: %s, not %s", ErrDomain, s.domain, t.Domain)
	}
	if at := now.Unix(); at < s.from || at >= s.until || s.until-s.from > int64(MaxValidity/time.Second) {
		return nil, ErrStale
	}
	p := &Peer{s.domain, sha256.Sum256(f.statement), time.Unix(s.until, 0), map[Suite]hpke.PublicKey{}}
	for _, k := range s.keys {
		kem := k.suite.kem()
		if kem == nil {
			continue // of a later version
		}
		public, err := kem.NewPublicKey(k.public)
		if err != nil || !bytes.Equal(public.Bytes(), k.public) {
			return nil, fmt.Errorf("%w: a key of suite %s", ErrMalformed, k.suite)
		}
		p.keys[k.suite] = public
	}
	return p, nil
}

// Certified returns the first of the certificates if the roots certify it for exactly the domain.
func (t Trust) Certified(chain [][]byte, now time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, ErrMalformed
	}
	opts := x509.VerifyOptions{Roots: t.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	var leaf *x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if i == 0 {
			leaf = c
		} else {
			opts.Intermediates.AddCert(c)
		}
	}
	if _, err := leaf.Verify(opts); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if !slices.Contains(leaf.DNSNames, t.Domain) {
		return nil, fmt.Errorf("%w: certified for %q, not %s", ErrDomain, leaf.DNSNames, t.Domain)
	}
	return leaf, nil
}

// SignPeer signs what another KMS signs to show that it holds the key of its certificate, in place of a token.
func SignPeer(signer crypto.Signer, binding []byte) ([]byte, error) {
	return sign(signer, peerMessage(binding))
}

// VerifyPeer checks that a session is held by the KMS of the domain.
func (t Trust) VerifyPeer(chain [][]byte, binding, signature []byte, now time.Time) error {
	leaf, err := t.Certified(chain, now)
	if err != nil {
		return err
	}
	if scheme, _ := algorithm(leaf.PublicKey); leaf.CheckSignature(scheme, peerMessage(binding), signature) != nil {
		return fmt.Errorf("%w: the session is not signed with the certificate's key", ErrUntrusted)
	}
	return nil
}

func peerMessage(binding []byte) []byte { return append([]byte(label+"peer\x00"), binding...) }
