package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/sotto-edge/sotto/internal/redact"
)

// Shares are Shamir's, over the scalars of ristretto255, whose arithmetic takes constant time. The sealing key is derived from the
// shared scalar, so that fewer shares than the threshold say nothing about it.
var field = group.Ristretto255

const (
	shareMark = "sotto-share-"
	setLen    = 4
	checkLen  = 4
	shareLen  = 1 + setLen + 2 + keyLen + checkLen
)

// Errors of shares.
var (
	ErrShare     = errors.New("seal: not a share: check each character")
	ErrOtherSet  = errors.New("seal: a share of another set: after a re-share the old ones open nothing")
	ErrDuplicate = errors.New("seal: this share is there already")
	ErrFewShares = errors.New("seal: not enough shares")
)

// Share is one person's part of a sealing key. It cannot be printed or marshalled.
type Share struct {
	redact.Guard
	s *shareBytes
}

type shareBytes struct {
	set       [setLen]byte // tells the shares of one sealing key from those of another
	threshold byte
	number    byte
	value     *[keyLen]byte
}

// Number says which of the shares it is, from 1.
func (s Share) Number() int { return int(s.s.number) }

// Text returns what its holder writes down.
func (s Share) Text() string {
	b := append([]byte{form}, s.s.set[:]...)
	b = append(b, s.s.threshold, s.s.number)
	b = append(b, s.s.value[:]...)
	sum := sha256.Sum256(b)
	defer clear(b)
	return shareMark + encoding.EncodeToString(append(b, sum[:checkLen]...))
}

// ParseShare reads what Text returns; case, spaces and line ends are forgiven.
func ParseShare(text string) (Share, error) {
	if len(text) > 1000 {
		return Share{}, ErrShare
	}
	text, ok := strings.CutPrefix(strings.ToLower(strings.Join(strings.Fields(text), "")), shareMark)
	b, err := encoding.DecodeString(text)
	if !ok || err != nil || len(b) != shareLen || encoding.EncodeToString(b) != text || b[0] != form {
		return Share{}, ErrShare
	}
	defer clear(b)
	rest := b[:shareLen-checkLen]
	if sum := sha256.Sum256(rest); string(sum[:checkLen]) != string(b[len(rest):]) {
		return Share{}, ErrShare
	}
	s := &shareBytes{set: [setLen]byte(rest[1:]), threshold: rest[1+setLen], number: rest[2+setLen], value: new([keyLen]byte)}
	copy(s.value[:], rest[3+setLen:])
	if s.threshold < 2 || s.number == 0 {
		return Share{}, ErrShare
	}
	return Share{s: s}, nil
}

// NewShares makes a fresh sealing key and the shares of it, of which a threshold opens. The Keeper is what the shares give together.
func NewShares(threshold, total int) (Keeper, []Share, error) {
	if threshold < 2 || total < threshold || total > 255 {
		return nil, nil, fmt.Errorf("seal: %d of %d shares: at least 2 must be needed, and not more than there are", threshold, total)
	}
	secret := field.RandomNonZeroScalar(rand.Reader)
	defer secret.SetUint64(0)
	var set [setLen]byte
	_, _ = rand.Read(set[:])
	var shares []Share
	for i, part := range secretsharing.New(rand.Reader, uint(threshold-1), secret).Share(uint(total)) {
		b, err := part.Value.MarshalBinary()
		if err != nil {
			return nil, nil, fmt.Errorf("seal: %w", err)
		}
		part.Value.SetUint64(0)
		value := [keyLen]byte(b)
		clear(b)
		shares = append(shares, Share{s: &shareBytes{set, byte(threshold), byte(i + 1), &value}})
	}
	k, err := fromScalar(secret, set)
	return k, shares, err
}

func fromScalar(secret group.Scalar, set [setLen]byte) (Keeper, error) {
	b, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, set[:], "sotto kms sealing key 1", keyLen)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	k, err := newSealing("shares "+hex.EncodeToString(set[:]), key)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Gathering is shares that come one by one. It is used by one goroutine.
type Gathering struct{ shares []Share }

// Add takes a share and says how many there are and are needed.
func (g *Gathering) Add(s Share) (have, need int, err error) {
	if s.s == nil {
		return len(g.shares), 0, ErrShare
	}
	if len(g.shares) > 0 {
		first := g.shares[0].s
		if first.set != s.s.set || first.threshold != s.s.threshold {
			return len(g.shares), int(first.threshold), ErrOtherSet
		}
	}
	if slices.ContainsFunc(g.shares, func(o Share) bool { return o.s.number == s.s.number }) {
		return len(g.shares), int(s.s.threshold), ErrDuplicate
	}
	g.shares = append(g.shares, s)
	return len(g.shares), int(s.s.threshold), nil
}

// Keeper returns what the shares give together; ErrFewShares when they give nothing yet. Whether they are the right ones is seen
// when they open something.
func (g *Gathering) Keeper() (Keeper, error) {
	if len(g.shares) == 0 {
		return nil, ErrFewShares
	}
	first := g.shares[0].s
	if have, need := len(g.shares), int(first.threshold); have < need {
		return nil, fmt.Errorf("%w: %d of %d", ErrFewShares, have, need)
	}
	var parts []secretsharing.Share
	for _, s := range g.shares {
		value := field.NewScalar()
		if err := value.UnmarshalBinary(s.s.value[:]); err != nil {
			return nil, fmt.Errorf("%w (number %d)", ErrShare, s.s.number)
		}
		parts = append(parts, secretsharing.Share{ID: field.NewScalar().SetUint64(uint64(s.s.number)), Value: value})
	}
	secret, err := secretsharing.Recover(uint(first.threshold-1), parts)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer secret.SetUint64(0)
	for _, p := range parts {
		p.Value.SetUint64(0)
	}
	return fromScalar(secret, first.set)
}

// Wipe overwrites the shares and forgets them.
func (g *Gathering) Wipe() {
	for _, s := range g.shares {
		clear(s.s.value[:])
	}
	g.shares = nil
}
