package srtp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestKeystreamIsCTR compares with cipher.NewCTR at the counter of RFC 3711
// §4.1.1, at lengths around every border, in place and not, and looks for
// writes beyond the end.
func TestKeystreamIsCTR(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		key, salt := randomBytes(rng, 16), [maxSaltLen]byte(randomBytes(rng, maxSaltLen))
		ssrc, index := rng.Uint32(), rng.Uint64()&maxIndex
		if round%4 == 0 { // the counter before the first one borrows from bit 16
			salt[12], salt[13] = byte(index>>8), byte(index)
		}
		n := round % 300
		if round%3 == 0 {
			n = rng.IntN(4000)
		}

		var iv [aes.BlockSize]byte
		copy(iv[:], salt[:])
		binary.BigEndian.PutUint32(iv[4:], binary.BigEndian.Uint32(iv[4:])^ssrc)
		binary.BigEndian.PutUint64(iv[8:], binary.BigEndian.Uint64(iv[8:])^index<<16)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		src := randomBytes(rng, n)
		want := make([]byte, n)
		cipher.NewCTR(block, iv[:]).XORKeyStream(want, src)

		k, err := newKeystream(key, &salt, true)
		if err != nil {
			t.Fatal(err)
		}
		behind := []byte("behind the packet")
		out := append(make([]byte, n), behind...)
		k.xor(out[:n], src, ssrc, index)
		if !bytes.Equal(out[:n], want) {
			t.Fatalf("length %d: wrong key stream", n)
		}
		if !bytes.Equal(out[n:], behind) {
			t.Fatalf("length %d: written beyond the end", n)
		}
		copy(out, src)
		k.xor(out[:n], out[:n], ssrc, index)
		if !bytes.Equal(out[:n], want) || !bytes.Equal(out[n:], behind) {
			t.Fatalf("length %d: wrong in place", n)
		}
	}
}

func TestInverse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	one := element{hi: 1 << 63}
	for range 200 {
		a := element{rng.Uint64(), rng.Uint64()}
		if got := a.mul(a.inverse()); got != one {
			t.Fatalf("%x * 1/%x = %x", a, a, got)
		}
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
