package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

// Everything is wrapped by XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived for each nonce, so that the 192
// random bits of a nonce may be drawn as often as there are keys to wrap. A box is a byte that names the form, the nonce, the
// ciphertext and its tag.
const (
	form     = 1
	nonceLen = 24
	tagLen   = 16
	boxLen   = 1 + nonceLen + keyLen + tagLen
)

// ErrDamaged is the error of what does not open: changed, cut, moved to another place, or wrapped by another key.
var ErrDamaged = errors.New("seal: does not open: damaged, from another place, or wrapped by another key")

// derive is the key derivation of XAES-256-GCM: NIST SP 800-108r1 in counter mode over CMAC, two blocks.
func derive(block cipher.Block, nonce []byte) (key [keyLen]byte) {
	var k1 [aes.BlockSize]byte
	block.Encrypt(k1[:], k1[:])
	var msb byte
	for i := len(k1) - 1; i >= 0; i-- {
		msb, k1[i] = k1[i]>>7, k1[i]<<1|msb
	}
	k1[len(k1)-1] ^= msb * 0b10000111
	for i := range byte(2) {
		half := key[int(i)*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, i + 1, 'X', 0})
		copy(half[4:], nonce[:12])
		for j := range half {
			half[j] ^= k1[j]
		}
		block.Encrypt(half, half)
	}
	return key
}

func gcm(block cipher.Block, nonce []byte) (cipher.AEAD, error) {
	key := derive(block, nonce)
	defer clear(key[:])
	inner, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCM(inner)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead, nil
}

// wrap returns a box with the key.
func wrap(block cipher.Block, key, aad []byte) ([]byte, error) {
	box := make([]byte, 1+nonceLen, boxLen)
	box[0] = form
	_, _ = rand.Read(box[1:])
	aead, err := gcm(block, box[1:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(box, box[1+12:1+nonceLen], key, aad), nil
}

// unwrap opens a box into the memory of a key, where nothing else is written.
func unwrap(block cipher.Block, into, box, aad []byte) error {
	if len(box) != boxLen || box[0] != form || len(into) != keyLen {
		return ErrDamaged
	}
	nonce := box[1:][:nonceLen]
	aead, err := gcm(block, nonce)
	if err != nil {
		return err
	}
	if _, err := aead.Open(into[:0], nonce[12:], box[1+nonceLen:], aad); err != nil {
		clear(into)
		return ErrDamaged
	}
	return nil
}

// under runs f with a cipher of a key, and overwrites what the cipher made of it: its first round keys are the key itself.
func under(key []byte, f func(cipher.Block) error) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	defer scrub(block)
	return f(block)
}

// scrub overwrites the numbers in a cipher, which has no method for it. Pointers are left to the collector.
func scrub(block cipher.Block) {
	if v := reflect.ValueOf(block); v.Kind() == reflect.Pointer {
		scrubValue(v.Elem())
	}
}

func scrubValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			scrubValue(v.Field(i))
		}
	case reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			clear(unsafe.Slice((*byte)(unsafe.Pointer(v.UnsafeAddr())), v.Type().Size()))
		}
	}
}

// place is what a box is bound to: the words that say where it belongs, each behind its length, so that no two lists of words are
// one text.
func place(words ...string) []byte {
	out := []byte("sotto kms 1")
	for _, w := range words {
		out = binary.BigEndian.AppendUint32(out, uint32(len(w)))
		out = append(out, w...)
	}
	return out
}
