//go:build !cgo || !linux

package main

import (
	"errors"

	"github.com/sotto-edge/sotto/kms/seal"
)

type module struct{ seal.Module }

func open(string, string, string, string, bool) (*module, error) {
	return nil, errors.New("built without cgo, which PKCS#11 needs: CGO_ENABLED=1 go build ./cmd/sotto-hsm")
}

func (*module) close() {}
