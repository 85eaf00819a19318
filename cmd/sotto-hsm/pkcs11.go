//go:build cgo && linux

package main

/*
#cgo LDFLAGS: -ldl
#include "pkcs11.h"
#include <stdlib.h>
*/
import "C"

import (
	"crypto/rand"
	"fmt"
	"sync"
	"unsafe"

	"github.com/sotto-edge/sotto/kms/seal"
)

// module is the key in the module.
type module struct {
	mu   sync.Mutex
	name string
}

// failed is the error of a call of the library: which, and its CKR code (PKCS#11 v2.40 base, appendix B).
func failed(what string, rv C.ulong) error {
	return fmt.Errorf("%s: CKR 0x%x", what, uint64(rv))
}

func open(library, token, pin, label string, create bool) (*module, error) {
	text := func(s string) *C.char { return C.CString(s) }
	lib, tok, secret, key := text(library), text(token), text(pin), text(label)
	defer C.free(unsafe.Pointer(lib))
	defer C.free(unsafe.Pointer(tok))
	defer C.free(unsafe.Pointer(key))
	defer func() {
		clear(unsafe.Slice((*byte)(unsafe.Pointer(secret)), len(pin)))
		C.free(unsafe.Pointer(secret))
	}()
	var what *C.char
	made := C.int(0)
	if create {
		made = 1
	}
	if rv := C.hsm_open(lib, tok, secret, key, made, &what); rv != 0 {
		return nil, failed(C.GoString(what), rv)
	}
	return &module{name: token + "/" + label}, nil
}

func (m *module) close() { C.hsm_close() }

// ID implements seal.Module.
func (m *module) ID() string { return m.name }

const (
	ivLen  = 12
	tagLen = 16
)

// Wrap implements seal.Module. The nonce is random: a root key is wrapped when it is made and at a re-share, which is seldom.
func (m *module) Wrap(key, place []byte) ([]byte, error) {
	if len(key) != seal.KeyLen || len(place) == 0 {
		return nil, fmt.Errorf("%d bytes are no key", len(key))
	}
	box := make([]byte, ivLen+len(key)+tagLen)
	_, _ = rand.Read(box[:ivLen])
	return box, m.crypt(1, box[:ivLen], place, key, box[ivLen:])
}

// Unwrap implements seal.Module.
func (m *module) Unwrap(box, place []byte) ([]byte, error) {
	if len(box) != ivLen+seal.KeyLen+tagLen || len(place) == 0 {
		return nil, seal.ErrDamaged
	}
	key := make([]byte, seal.KeyLen+tagLen) // some libraries want room for the tag
	if err := m.crypt(0, box[:ivLen], place, box[ivLen:], key); err != nil {
		clear(key)
		return nil, err
	}
	return key[:seal.KeyLen], nil
}

func (m *module) crypt(encrypt C.int, iv, place, in, out []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := func(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(&b[0])) }
	n := C.ulong(len(out))
	want := C.ulong(len(in) + tagLen)
	if encrypt == 0 {
		want = C.ulong(len(in) - tagLen)
	}
	var what *C.char
	rv := C.hsm_crypt(encrypt, at(iv), C.ulong(len(iv)), at(place), C.ulong(len(place)), at(in), C.ulong(len(in)), at(out), &n, &what)
	switch {
	case rv != 0 && C.hsm_damaged(rv) != 0:
		return seal.ErrDamaged
	case rv != 0:
		return failed(C.GoString(what), rv)
	case n != want:
		return fmt.Errorf("the module returned %d bytes, not %d", n, want)
	}
	return nil
}
