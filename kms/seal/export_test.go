package seal

import (
	"crypto/aes"
	"slices"
)

// Roots returns copies of the root keys, for tests that look for them.
func (b *Barrier) Roots() (out [][]byte) {
	for _, m := range b.roots {
		_ = m.use(func(k []byte) error {
			out = append(out, slices.Clone(k))
			return nil
		})
	}
	return out
}

// SealXAES is XAES-256-GCM with a nonce that a vector gives.
func SealXAES(key, nonce, plaintext, aad []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := gcm(block, nonce)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nonce[12:], plaintext, aad), nil
}
