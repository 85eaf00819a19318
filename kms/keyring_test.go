package kms_test

import (
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/keyring"
)

// What a server asks is what a keyring answers.
var (
	_ kms.Keys      = (*keyring.Keyring)(nil)
	_ kms.Resources = (*keyring.Keyring)(nil)
)
