package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Keeper wraps and unwraps root keys by what is kept apart from the database: shares, a file, a hardware module.
type Keeper interface {
	// ID names what it wraps by: the same text for the same shares or file, and nothing about them.
	ID() string
	// Wrap returns a box with the key, bound to a place.
	Wrap(key, place []byte) ([]byte, error)
	// Unwrap opens a box into the memory of a key, and writes it nowhere else. ErrDamaged when it does not open.
	Unwrap(into, box, place []byte) error
	// Close forgets. It may be called twice.
	Close() error
}

// sealing is a Keeper by a key in locked memory.
type sealing struct {
	id string
	m  *memory
}

// newSealing takes the key over: its bytes are cleared.
func newSealing(kind string, key []byte) (*sealing, error) {
	m, _, err := lock()
	if err != nil {
		clear(key)
		return nil, err
	}
	copy(m.b, key)
	clear(key)
	sum := sha256.New()
	sum.Write([]byte("sotto kms keeper 1\x00"))
	sum.Write(m.b)
	return &sealing{kind + " " + hex.EncodeToString(sum.Sum(nil)[:4]), m}, nil
}

func (s *sealing) ID() string { return s.id }

func (s *sealing) Wrap(key, place []byte) (box []byte, err error) {
	err = s.m.use(func(k []byte) error {
		return under(k, func(b cipher.Block) error {
			box, err = wrap(b, key, place)
			return err
		})
	})
	return box, err
}

func (s *sealing) Unwrap(into, box, place []byte) error {
	return s.m.use(func(k []byte) error {
		return under(k, func(b cipher.Block) error { return unwrap(b, into, box, place) })
	})
}

func (s *sealing) Close() error {
	s.m.wipe()
	return nil
}

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// fileMark begins the one line of a file with a sealing key.
const fileMark = "sotto-seal-key-1 "

// NewFile makes a file with a fresh sealing key, readable by its owner only. apart is the folder that it must not be in: who gets hold of
// the database must not get this along with it.
func NewFile(path, apart string) (Keeper, error) {
	if err := outside(path, apart); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	key := make([]byte, keyLen)
	_, _ = rand.Read(key)
	line := []byte(fileMark + encoding.EncodeToString(key) + "\n")
	_, err = f.Write(line)
	clear(line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		clear(key)
		return nil, errors.Join(fmt.Errorf("seal: %w", err), os.Remove(path))
	}
	return newSealing("file", key)
}

// OpenFile reads the file with a sealing key. It refuses one in the folder of the data, and one that others may read.
func OpenFile(path, apart string) (Keeper, error) {
	if err := outside(path, apart); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("seal: %s has mode %v: it must be a file that its owner alone can read (chmod 0400)", path, info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, 200))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer clear(text)
	rest, ok := strings.CutPrefix(strings.TrimSuffix(string(text), "\n"), fileMark)
	key, err := encoding.DecodeString(rest)
	if !ok || err != nil || len(key) != keyLen {
		return nil, fmt.Errorf("seal: %s is no file with a sealing key", path)
	}
	return newSealing("file", key)
}

// outside says whether a path is outside a folder, wherever links lead.
func outside(path, folder string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		dir = filepath.Dir(target)
	}
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if rel, err := filepath.Rel(folder, dir); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("seal: %s is in %s, beside the database that it is to protect: keep it somewhere else, on another disk at best", path, folder)
	}
	return nil
}
