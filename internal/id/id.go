// Package id makes the identifiers that leave a process: random ones, and room ids that carry their own proof.
//
// A room id proves that a node with the room key made it, so a room needs no record: any node of a cluster that shares the key
// accepts the link, also after a restart. The proof is 48 bits, guessed online only; who may open a meeting is decided before an
// id is made, not by this package. It keeps no state.
package id

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// encoding is RFC 4648 §6 in lower case without padding: it survives being read aloud and typed.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// New returns a random identifier of 80 bits, such as "p_k3j5…", for what needs to be unique but not secret.
func New(prefix string) string { return prefix + random(10) }

// Secret returns a random string of 160 bits, for what must not be guessed.
func Secret() string { return random(20) }

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails; crypto/rand ends the program instead
	return encoding.EncodeToString(b)
}

const (
	roomRandom = 10
	roomMAC    = 6
	roomChars  = 26 // of 16 bytes
)

// roomGroups are the lengths of the groups that a room id is written in.
var roomGroups = [...]int{5, 5, 5, 5, 6}

// Rooms makes and checks room ids under one key.
type Rooms struct{ key []byte }

// NewRooms returns the maker for a key, which must be secret and is shared by the nodes of a cluster.
func NewRooms(key [32]byte) *Rooms { return &Rooms{key: key[:]} }

// New returns a fresh room id: 10 random bytes and 6 bytes of HMAC-SHA256 over them.
func (r *Rooms) New() string {
	b := make([]byte, roomRandom, roomRandom+roomMAC)
	_, _ = rand.Read(b)
	return group(encoding.EncodeToString(append(b, r.mac(b)...)))
}

// Parse returns the one proper spelling of a room id that this key has made: upper case, spaces at the ends and missing or
// additional hyphens are forgiven.
func (r *Rooms) Parse(s string) (string, bool) {
	if len(s) > 4*roomChars {
		return "", false
	}
	s = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), "-", "")
	if len(s) != roomChars {
		return "", false
	}
	b, err := encoding.DecodeString(s)
	if err != nil || encoding.EncodeToString(b) != s { // the last character has bits to spare
		return "", false
	}
	if !hmac.Equal(b[roomRandom:], r.mac(b[:roomRandom])) {
		return "", false
	}
	return group(s), true
}

func (r *Rooms) mac(b []byte) []byte {
	h := hmac.New(sha256.New, r.key)
	h.Write([]byte("sotto room 1\x00"))
	h.Write(b)
	return h.Sum(nil)[:roomMAC]
}

// Format keeps the key out of logs, whatever the verb.
func (r *Rooms) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("redacted")) }

func group(s string) string {
	var out strings.Builder
	for i, n := range roomGroups {
		if i > 0 {
			out.WriteByte('-')
		}
		out.WriteString(s[:n])
		s = s[n:]
	}
	return out.String()
}
