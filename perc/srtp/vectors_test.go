package srtp

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyDerivationRFC3711 is RFC 3711 §B.3.
func TestKeyDerivationRFC3711(t *testing.T) {
	testDerivation(t, "E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6",
		map[byte]string{
			labelRTPKey:  "C61E7A93744F39EE10734AFE3FF7A087",
			labelRTPSalt: "30CBBC08863D8C85D49DB34A9AE1",
			labelRTPAuth: `CEBE321F6FF7716B6FD4AB49AF256A15
				6D38BAA48F0A0ACF3C34E2359E6CDBCE
				E049646C43D9327AD175578EF7227098
				6371C10C9A369AC2F94A8C5FBCDDDC25
				6D6E919A48B610EF17C2041E47403576
				6B68642C59BBFC2F34DB60DBDFB2DC68`,
		})
}

// TestKeyDerivationRFC6188 is RFC 6188 §7.2: the same derivation with
// AES-256, which AEAD_AES_256_GCM uses.
func TestKeyDerivationRFC6188(t *testing.T) {
	testDerivation(t, "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6",
		"3b04803de51ee7c96423ab5b78d2",
		map[byte]string{
			labelRTPKey:  "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4",
			labelRTPSalt: "fa31791685ca444a9e07c6c64e93",
			labelRTPAuth: "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
		})
}

func testDerivation(t *testing.T, key, salt string, want map[byte]string) {
	block, err := aes.NewCipher(unhex(t, key))
	if err != nil {
		t.Fatal(err)
	}
	for label, w := range want {
		want := unhex(t, w)
		got := make([]byte, len(want))
		derive(got, block, (*[maxSaltLen]byte)(unhex(t, salt)), label)
		if !bytes.Equal(got, want) {
			t.Errorf("label %d: got %X, want %X", label, got, want)
		}
	}
}

// TestKeystreamRFC3711 is RFC 3711 §B.2, with its last blocks at the end of
// the segment.
func TestKeystreamRFC3711(t *testing.T) {
	salt := (*[maxSaltLen]byte)(unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD"))
	want := map[int]string{
		0x0000: "E03EAD0935C95E80E166B16DD92B4EB4",
		0x0001: "D23513162B02D0F72A43A2FE4A5F97AB",
		0x0002: "41E95B3BB0A2E8DD477901E4FCA894C0",
		0xfeff: "EC8CDF7398607CB0F2D21675EA9EA1E4",
		0xff00: "362B7C3C6773516318A077D7FC5073AE",
		0xff01: "6A2CC3787889374FBEB4C81B17BA6C44",
	}
	for _, long := range []bool{false, true} {
		k, err := newKeystream(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C"), salt, long)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 0xff02*aes.BlockSize)
		k.xor(b, b, 0, 0)
		for i, w := range want {
			if got := b[i*aes.BlockSize:][:aes.BlockSize]; !bytes.Equal(got, unhex(t, w)) {
				t.Errorf("bulk %v, block %04x: got %X, want %s", long, i, got, w)
			}
		}
	}
}

// rfc7714 holds the vectors of RFC 7714 §16 and §17. There the keys are
// session keys, and SRTP and SRTCP have the same.
var rfc7714 = []struct {
	profile              Profile
	key                  string
	rtp, rtcp, clearRTCP string
}{
	{
		profile: AEADAES128GCM,
		key:     "000102030405060708090a0b0c0d0e0f",
		// §16.1.1, §16.1.2
		rtp: `8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
			0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce`,
		// §17.1
		rtcp: `81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
			c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4`,
		// §17.3
		clearRTCP: `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
			deadbeef deadbeef deadbeef deadbeef deadbeef 841dd968 3dd78ec9 2ae58790 125f62b3 000005d4`,
	},
	{
		profile: AEADAES256GCM,
		key:     "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f",
		// §16.2.1, §16.2.2
		rtp: `8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
			9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13`,
		// §17.2
		rtcp: `81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
			a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4`,
		// §17.4
		clearRTCP: `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
			deadbeef deadbeef deadbeef deadbeef deadbeef 91db4afb feee5a97 8fab4393 ed2615fe 000005d4`,
	},
}

const (
	rfc7714RTP = `8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
		69736120 696e2070 61727465 73207472 6573`
	rfc7714RTCP = `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
		deadbeef deadbeef deadbeef deadbeef deadbeef`
	rfc7714Index     = 0xf17b
	rfc7714RTCPIndex = 0x5d4
)

func TestVectorsRFC7714(t *testing.T) {
	for _, v := range rfc7714 {
		t.Run(v.profile.String(), func(t *testing.T) {
			context := func(role Role) *Context {
				c := newTestContext(t, v.profile, role)
				var s session
				copy(s.key[:], unhex(t, v.key))
				copy(s.salt[:], "Quid pro quo")
				var err error
				if c.t, err = newSessionTransform(v.profile, &s, &s); err != nil {
					t.Fatal(err)
				}
				return c
			}
			sender, receiver := context(Sender), context(Receiver)
			rtp, rtcp := unhex(t, rfc7714RTP), unhex(t, rfc7714RTCP)

			got, err := sender.SealRTP(stream(t, sender, 0x5501a0b2), rfc7714Index, bytes.Clone(rtp[:12]), rtp[12:])
			check(t, "SealRTP", got, err, unhex(t, v.rtp))
			got, index, err := receiver.OpenRTP(nil, unhex(t, v.rtp), 12)
			check(t, "OpenRTP", got, err, rtp)
			if index != rfc7714Index {
				t.Errorf("OpenRTP: index %x", index)
			}

			sender.rtcpNext = rfc7714RTCPIndex
			got, err = sender.SealRTCP(nil, rtcp)
			check(t, "SealRTCP", got, err, unhex(t, v.rtcp))
			got, err = receiver.OpenRTCP(nil, unhex(t, v.rtcp))
			check(t, "OpenRTCP", got, err, rtcp)

			receiver = context(Receiver)
			clearRTCP := unhex(t, v.clearRTCP)
			got, err = receiver.OpenRTCP(nil, clearRTCP)
			check(t, "OpenRTCP, not encrypted", got, err, rtcp)
			check(t, "its input", clearRTCP, nil, unhex(t, v.clearRTCP))
			receiver = context(Receiver)
			clearRTCP[len(clearRTCP)-1]++
			if _, err := receiver.OpenRTCP(clearRTCP[:0], clearRTCP); !errors.Is(err, ErrAuth) {
				t.Errorf("OpenRTCP, not encrypted, wrong index: %v", err)
			}
		})
	}
}

func check(t *testing.T, what string, got []byte, err error, want []byte) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(want, got) { // cmp.Diff is for the message: it takes a while
		t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}
