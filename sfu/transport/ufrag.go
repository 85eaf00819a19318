package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
)

// A ufrag of ours is 18 bytes in 24 characters of base64, all of which are
// ice-chars (RFC 8839 §5.4):
//
//	version(1) node(2) session(8) generation(1) mac(6)
//
// The MAC is a truncated HMAC-SHA256 over what stands before it. It is checked
// before any table is touched, so a guessed ufrag costs its sender a packet and
// this node a hash; and any member of the cluster can tell whose a packet is.
const (
	ufragVersion = 1
	ufragRaw     = 18
	ufragMAC     = 6
	ufragLen     = 24
)

// ufragDomain keeps these MACs apart from others under the same key.
var ufragDomain = []byte("sotto ufrag v1\x00")

// UfragKey is the key of the ufrag MACs. It can be copied but not printed,
// logged or marshalled; there is no way to get the bytes back.
type UfragKey struct {
	// A pointer, because fmt follows no pointer below the top level: even a verb
	// that has no method to ask prints an address.
	secret *[]byte
}

// ErrSecret is what every attempt to marshal a sealed type returns.
var ErrSecret = errors.New("transport: secrets are not marshalled")

// NewUfragKey makes a key of at least 16 secret bytes.
func NewUfragKey(secret []byte) (UfragKey, error) {
	if len(secret) < 16 {
		return UfragKey{}, errors.New("transport: ufrag key is shorter than 16 bytes")
	}
	b := append([]byte(nil), secret...)
	return UfragKey{secret: &b}, nil
}

// IsZero reports whether k is unset.
func (k UfragKey) IsZero() bool { return k.secret == nil }

// String hides the key.
func (k UfragKey) String() string { return "transport.UfragKey(redacted)" }

// GoString hides the key.
func (k UfragKey) GoString() string { return k.String() }

// MarshalText fails.
func (k UfragKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalJSON fails.
func (k UfragKey) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalBinary fails.
func (k UfragKey) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// ufragFields is what a ufrag says.
type ufragFields struct {
	node       uint16
	session    SessionID
	generation uint8
}

// ufragMAC state is reused: one hash per Mux.
type ufragCodec struct {
	mac hash.Hash
	buf [sha256.Size]byte
	raw [ufragRaw]byte
}

func newUfragCodec(k UfragKey) *ufragCodec {
	return &ufragCodec{mac: hmac.New(sha256.New, *k.secret)}
}

func (c *ufragCodec) sum(b []byte) []byte {
	c.mac.Reset()
	c.mac.Write(ufragDomain)
	c.mac.Write(b)
	return c.mac.Sum(c.buf[:0])[:ufragMAC]
}

// format makes the ufrag for f.
func (c *ufragCodec) format(f ufragFields) string {
	b := c.raw[:0]
	b = append(b, ufragVersion)
	b = binary.BigEndian.AppendUint16(b, f.node)
	b = binary.BigEndian.AppendUint64(b, uint64(f.session))
	b = append(b, f.generation)
	b = append(b, c.sum(b)...)
	return base64.StdEncoding.EncodeToString(b)
}

// parse checks the MAC of a ufrag; false for whatever is not one of the cluster's.
func (c *ufragCodec) parse(ufrag []byte) (ufragFields, bool) {
	if len(ufrag) != ufragLen {
		return ufragFields{}, false
	}
	n, err := base64.StdEncoding.Decode(c.raw[:], ufrag)
	if err != nil || n != ufragRaw || c.raw[0] != ufragVersion {
		return ufragFields{}, false
	}
	head, mac := c.raw[:ufragRaw-ufragMAC], c.raw[ufragRaw-ufragMAC:]
	if subtle.ConstantTimeCompare(c.sum(head), mac) != 1 {
		return ufragFields{}, false
	}
	return ufragFields{
		node:       binary.BigEndian.Uint16(head[1:]),
		session:    SessionID(binary.BigEndian.Uint64(head[3:])),
		generation: head[11],
	}, true
}
