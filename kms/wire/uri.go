package wire

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// ID is a UUID (RFC 9562). It is written in lower case with hyphens, and in no other way.
type ID [16]byte

// NewID returns a random ID, version 4.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails; crypto/rand ends the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

const idLen = 36

// hyphens are where a UUID has them.
var hyphens = [...]int{8, 13, 18, 23}

// ParseID reads what String writes.
func ParseID(s string) (ID, bool) {
	var id ID
	if len(s) != idLen {
		return ID{}, false
	}
	for _, i := range hyphens {
		if s[i] != '-' {
			return ID{}, false
		}
	}
	if _, err := hex.Decode(id[:], []byte(strings.ReplaceAll(s, "-", ""))); err != nil || id.String() != s {
		return ID{}, false
	}
	return id, true
}

// String returns the one spelling of the ID.
func (id ID) String() string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Kind says what an object is; it is the first element of the path of its URI.
type Kind string

// The kinds of objects.
const (
	Keys           Kind = "keys"
	Resources      Kind = "resources"
	Authorizations Kind = "authorizations"
)

const scheme = "kms://"

// URI names an object and the KMS that holds it: kms://example.org/keys/5210…. Knowing one opens nothing.
type URI struct {
	Host string
	Kind Kind
	ID   ID
}

// NewURI returns a fresh name for an object of a KMS.
func NewURI(host string, kind Kind) URI { return URI{host, kind, NewID()} }

// ParseURI reads what String writes.
func ParseURI(s string) (URI, bool) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return URI{}, false
	}
	host, rest, _ := strings.Cut(rest, "/")
	kind, rest, _ := strings.Cut(rest, "/")
	id, ok := ParseID(rest)
	if !ok || !ValidHost(host) || !Kind(kind).valid() {
		return URI{}, false
	}
	return URI{host, Kind(kind), id}, true
}

func (k Kind) valid() bool { return k == Keys || k == Resources || k == Authorizations }

// String returns the one spelling of the URI, "" for the zero one.
func (u URI) String() string {
	if u == (URI{}) {
		return ""
	}
	return scheme + u.Host + "/" + string(u.Kind) + "/" + u.ID.String()
}

// ValidHost says whether s is the name of a KMS: a domain name in lower case, internationalised ones in their ASCII form (RFC 5890
// §2.3.2.1), without port or closing dot.
func ValidHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
