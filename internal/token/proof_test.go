package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The thumbprint of the Ed25519 key of RFC 8037 appendix A.3.
func TestThumbprintVector(t *testing.T) {
	k := ProofKey{Curve: curveEd25519}
	if _, err := encoding.Decode(k.X[:], []byte("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")); err != nil {
		t.Fatal(err)
	}
	if got, want := k.Thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
	if (ProofKey{}).Thumbprint() != "" || (ProofKey{Curve: "P-521"}).Thumbprint() != "" {
		t.Error("a key of no known curve has a thumbprint")
	}
}

func TestProve(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, signer := range []crypto.Signer{ed, ec} {
		k, err := NewProofKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		if seen[k.Thumbprint()] {
			t.Error("two keys have one thumbprint")
		}
		seen[k.Thumbprint()] = true
		mark, err := Prove(signer, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if !k.Verify([]byte("message"), mark) {
			t.Errorf("%s: an own signature is refused", k.Curve)
		}
		bent := append([]byte(nil), mark...)
		bent[40] ^= 1
		off := k
		off.X[0] ^= 1
		for name, ok := range map[string]bool{
			"another message":   k.Verify([]byte("massage"), mark),
			"a bent signature":  k.Verify([]byte("message"), bent),
			"a short signature": k.Verify([]byte("message"), mark[:63]),
			"another key":       off.Verify([]byte("message"), mark),
			"no key":            ProofKey{}.Verify([]byte("message"), mark),
		} {
			if ok {
				t.Errorf("%s: %s is taken", k.Curve, name)
			}
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prove(other, nil); err == nil {
		t.Error("a P-384 key proves")
	}
}

func TestClaimsOfAccounts(t *testing.T) {
	c := claims
	c.Audience, c.Subject, c.Domain, c.Service, c.Proof = KMS, "u_1", "example.org", "search", "kPrK"
	text := sign(t, c)
	got, err := signer.Verifier().Verify(text, KMS, start)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("claims (-signed +verified):\n%s", diff)
	}
	if _, err := signer.Verifier().Verify(text, Cloud, start); !errors.Is(err, ErrAudience) || !errors.Is(err, ErrInvalid) {
		t.Errorf("a token for the KMS passes for the cloud: %v", err)
	}
}
