package token

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const redacted = "redacted"

// Seed is a secret of 256 bits that keys are derived from. It cannot be printed or marshalled.
type Seed struct{ b [32]byte }

// NewSeed returns a random seed.
func NewSeed() Seed {
	var s Seed
	_, _ = rand.Read(s.b[:]) // never fails; crypto/rand ends the program instead
	return s
}

// LoadSeed reads the seed from a file, or makes one and keeps it there, readable by the owner only. Two processes that start
// together on one folder end up with one seed.
func LoadSeed(path string) (Seed, error) {
	text, err := loadOrCreate(path, func() string {
		s := NewSeed()
		return hex.EncodeToString(s.b[:])
	})
	if err != nil {
		return Seed{}, fmt.Errorf("token: seed: %w", err)
	}
	var s Seed
	if n, err := hex.Decode(s.b[:], []byte(text)); err != nil || n != len(s.b) || len(text) != 2*len(s.b) {
		return Seed{}, fmt.Errorf("token: seed: %s does not hold 64 hexadecimal digits; restore it or remove it to get a new one (links and tokens made before stop working)", path)
	}
	return s, nil
}

// Derive returns the seed for one purpose; seeds of different purposes say nothing about each other (RFC 5869).
func (s Seed) Derive(purpose string) Seed {
	b, err := hkdf.Key(sha256.New, s.b[:], nil, "sotto "+purpose, len(s.b))
	if err != nil {
		panic("token: derive: " + err.Error()) // only for lengths far above ours
	}
	return Seed{[32]byte(b)}
}

// Key returns the seed's bytes, for the one who uses it as a key.
func (s Seed) Key() [32]byte { return s.b }

// Format keeps the seed out of logs, whatever the verb.
func (s Seed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText refuses, and so do JSON and TOML with it.
func (s Seed) MarshalText() ([]byte, error) {
	return nil, errors.New("token: a seed is not marshalled")
}

// Bearer is an opaque secret that is compared, not verified: the owner's token. It cannot be printed by accident.
type Bearer struct{ sum [sha256.Size]byte }

// LoadBearer reads the token from a file, or makes one and keeps it there, readable by the owner only. The text is returned for
// printing it once; the Bearer holds its hash only.
func LoadBearer(path string) (Bearer, string, error) {
	text, err := loadOrCreate(path, func() string {
		s := NewSeed()
		return "so_" + hex.EncodeToString(s.b[:20])
	})
	if err != nil {
		return Bearer{}, "", fmt.Errorf("token: bearer: %w", err)
	}
	if len(text) < 16 {
		return Bearer{}, "", fmt.Errorf("token: bearer: %s holds %d characters, at least 16 are needed; remove it to get a new one", path, len(text))
	}
	return NewBearer(text), text, nil
}

// NewBearer returns the bearer for a text.
func NewBearer(text string) Bearer { return Bearer{sha256.Sum256([]byte(text))} }

// Matches says whether the text is the token, in constant time. The zero Bearer matches nothing.
func (b Bearer) Matches(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], b.sum[:]) == 1
}

// Format keeps the hash out of logs.
func (b Bearer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// loadOrCreate returns the text of a file of one line. An absent file is made whole or not at all: written aside, then linked to
// its name, which fails when somebody else was first.
func loadOrCreate(path string, fresh func() string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	aside, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(aside.Name())
	_, err = aside.WriteString(fresh() + "\n")
	if err == nil {
		err = aside.Sync()
	}
	if err := errors.Join(err, aside.Close()); err != nil {
		return "", err
	}
	if err := os.Link(aside.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	text, err = os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}
