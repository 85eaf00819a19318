package channel

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// vectors are published ones of what the channel is built from; each says where it is from.
type vectors struct {
	HPKE []struct {
		Source          string
		KEM, KDF, AEAD  uint16
		Info, IkmR      hexBytes
		SkRm, PkRm, Enc hexBytes
		Encryptions     []struct{ AAD, CT, PT hexBytes }
		Exports         []struct {
			Context hexBytes
			Length  int
			Value   hexBytes
		}
	}
	MLKEM768 []struct {
		Source         string
		Seed, EK, C, K hexBytes
	}
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// RFC 9180 appendix A.3 for P-256, and the vectors of its post-quantum draft for the hybrid.
func TestVectorsHPKE(t *testing.T) {
	kems := map[uint16]bool{}
	for _, v := range loadVectors(t).HPKE {
		t.Run(v.Source, func(t *testing.T) {
			for _, suite := range Suites() {
				kems[v.KEM] = kems[v.KEM] || suite.kem().ID() == v.KEM
			}
			kem, err := hpke.NewKEM(v.KEM)
			if err != nil {
				t.Fatal(err)
			}
			kdf, err := hpke.NewKDF(v.KDF)
			if err != nil {
				t.Fatal(err)
			}
			aead, err := hpke.NewAEAD(v.AEAD)
			if err != nil {
				t.Fatal(err)
			}
			private, err := kem.DeriveKeyPair(v.IkmR)
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := private.Bytes(); err != nil || !bytes.Equal(raw, v.SkRm) || !bytes.Equal(private.PublicKey().Bytes(), v.PkRm) {
				t.Fatalf("derived another key pair: %v", err)
			}
			r, err := hpke.NewRecipient(v.Enc, private, kdf, aead, v.Info)
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Encryptions) == 0 || len(v.Exports) == 0 {
				t.Fatal("the vector is empty")
			}
			for n, e := range v.Encryptions {
				if pt, err := r.Open(e.AAD, e.CT); err != nil || !bytes.Equal(pt, e.PT) {
					t.Errorf("encryption %d: %x, %v", n, pt, err)
				}
			}
			for n, e := range v.Exports {
				if got, err := r.Export(string(e.Context), e.Length); err != nil || !bytes.Equal(got, e.Value) {
					t.Errorf("export %d: %x, %v", n, got, err)
				}
			}
		})
	}
	for _, suite := range Suites() {
		if !kems[suite.kem().ID()] {
			t.Errorf("no vector for suite %s", suite)
		}
	}
}

// Known answers of FIPS 203 for ML-KEM-768; a ciphertext that is not for the key gives another secret, without an error.
func TestVectorsMLKEM(t *testing.T) {
	known := loadVectors(t).MLKEM768
	if len(known) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range known {
		t.Run(v.Source, func(t *testing.T) {
			private, err := mlkem.NewDecapsulationKey768(v.Seed)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(private.EncapsulationKey().Bytes(), v.EK) {
				t.Error("another encapsulation key")
			}
			if got, err := private.Decapsulate(v.C); err != nil || !bytes.Equal(got, v.K) {
				t.Errorf("secret %x, %v", got, err)
			}
			v.C[0] ^= 1
			if got, err := private.Decapsulate(v.C); err != nil || bytes.Equal(got, v.K) {
				t.Errorf("a bent ciphertext: %x, %v", got, err)
			}
		})
	}
}

// RFC 5869 appendix A.1 to A.3, with the library and with what the tests of this package derive by.
func TestVectorsHKDF(t *testing.T) {
	seq := func(from, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(from + i)
		}
		return b
	}
	for _, v := range []struct {
		name            string
		ikm, salt, info []byte
		prk, okm        string
	}{
		{
			"A.1", bytes.Repeat([]byte{0x0b}, 22), seq(0, 13), seq(0xf0, 10),
			"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
		},
		{
			"A.2", seq(0, 80), seq(0x60, 80), seq(0xb0, 80),
			"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
		},
		{
			"A.3", bytes.Repeat([]byte{0x0b}, 22), nil, nil,
			"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
		},
	} {
		prk, err := hkdf.Extract(sha256.New, v.ikm, v.salt)
		if err != nil || hex.EncodeToString(prk) != v.prk || hex.EncodeToString(mac(v.salt, v.ikm)) != v.prk {
			t.Errorf("%s: prk %x, %v", v.name, prk, err)
		}
		okm, err := hkdf.Expand(sha256.New, prk, string(v.info), len(v.okm)/2)
		if err != nil || hex.EncodeToString(okm) != v.okm {
			t.Errorf("%s: okm %x, %v", v.name, okm, err)
		}
		if first := mac(prk, v.info, []byte{1}); hex.EncodeToString(first) != v.okm[:64] {
			t.Errorf("%s: first block %x", v.name, first)
		}
	}
}
