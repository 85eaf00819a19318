package channel

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/sotto-edge/sotto/internal/plain"
)

// MaxFrame is how many bytes a frame may have.
const MaxFrame = 200 << 10

// Kind is what a frame is: its first byte.
type Kind uint8

// The kinds. A client sends KindIdentify, KindOpen and KindData, a KMS the others and KindData.
const (
	KindIdentify Kind = 1 // which KMS is this?
	KindIdentity Kind = 2 // this one
	KindOpen     Kind = 3 // handshake, first half
	KindAccept   Kind = 4 // handshake, second half
	KindData     Kind = 5 // a sealed text
	KindReset    Kind = 6 // the session is not known, or no more; anybody can say so
)

// KindOf returns the kind of a frame, 0 for what is none.
func KindOf(frame []byte) Kind {
	if len(frame) == 0 || len(frame) > MaxFrame || frame[0] > byte(KindReset) {
		return 0
	}
	return Kind(frame[0])
}

// ID names a session. It is not secret.
type ID [16]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Reason says why there is no session. It comes unsealed and unproved: it ends a session, as cutting the line would, and no more.
type Reason uint8

// The reasons.
const (
	ReasonUnknown  Reason = 1 // no such session: the KMS has started again, or another node answers
	ReasonIdentity Reason = 2 // opened to an identity that is not held any more: ask for the new one
	ReasonVersion  Reason = 3 // version or suite not spoken here
	ReasonRefused  Reason = 4 // a frame was refused
	ReasonExpired  Reason = 5 // the session has lasted long enough, or its token has
	ReasonBusy     Reason = 6 // too many sessions; try again later
)

// String says it in words.
func (r Reason) String() string {
	names := [...]string{"", "session not known", "identity not held any more", "version or suite not spoken", "frame refused", "session expired", "too many sessions"}
	if r == 0 || int(r) >= len(names) {
		return "no reason that is known"
	}
	return names[r]
}

// Identify returns the frame that asks a KMS for its identity.
func Identify() []byte { return []byte{byte(KindIdentify)} }

// Reset returns the frame that ends a session.
func Reset(id ID, why Reason) []byte {
	return append(append([]byte{byte(KindReset)}, id[:]...), byte(why))
}

// ParseReset reads what Reset returns.
func ParseReset(frame []byte) (ID, Reason, error) {
	r := plain.Read(frame)
	r.Require(Kind(r.Uint8()) == KindReset)
	id := r.Take(len(ID{}))
	why := Reason(r.Uint8())
	if r.End() != nil {
		return ID{}, 0, ErrMalformed
	}
	return ID(id), why, nil
}

// identityFrame is the statement of a KMS, who certifies it and the proof.
type identityFrame struct {
	statement []byte
	chain     [][]byte // DER, leaf first
	signature []byte
}

// Limits of an identity.
const (
	maxChain     = 5
	maxStatement = 8 << 10
)

func (f *identityFrame) append(b []byte) []byte {
	b = append(b, byte(KindIdentity))
	b = appendBytes(b, f.statement)
	b = append(b, byte(len(f.chain)))
	for _, c := range f.chain {
		b = appendBytes(b, c)
	}
	return appendBytes(b, f.signature)
}

func parseIdentityFrame(frame []byte) (identityFrame, error) {
	var f identityFrame
	if len(frame) > MaxFrame {
		return f, ErrMalformed
	}
	r := plain.Read(frame)
	r.Require(Kind(r.Uint8()) == KindIdentity)
	f.statement = takeBytes(&r)
	r.Require(len(f.statement) <= maxStatement)
	n := int(r.Uint8())
	r.Require(n >= 1 && n <= maxChain)
	for range n {
		if r.OK() {
			f.chain = append(f.chain, takeBytes(&r))
		}
	}
	f.signature = takeBytes(&r)
	if r.End() != nil {
		return identityFrame{}, ErrMalformed
	}
	return f, nil
}

// openFrame begins a handshake. Its header, up to the identity, is bound to what is sealed.
type openFrame struct {
	version  uint8
	suite    Suite
	identity [32]byte
	enc      []byte
	sealed   []byte // the client's ephemeral public key
}

func (f *openFrame) header() []byte {
	b := []byte{byte(KindOpen), f.version}
	b = binary.BigEndian.AppendUint16(b, uint16(f.suite))
	return append(b, f.identity[:]...)
}

func (f *openFrame) append(b []byte) []byte {
	b = append(b, f.header()...)
	b = appendBytes(b, f.enc)
	return appendBytes(b, f.sealed)
}

func parseOpenFrame(frame []byte) (openFrame, error) {
	var f openFrame
	r := plain.Read(frame)
	r.Require(Kind(r.Uint8()) == KindOpen)
	f.version = r.Uint8()
	f.suite = Suite(r.Uint16())
	copy(f.identity[:], r.Take(len(f.identity)))
	f.enc = takeBytes(&r)
	f.sealed = takeBytes(&r)
	if r.End() != nil {
		return openFrame{}, ErrMalformed
	}
	return f, nil
}

// acceptFrame answers it. The proof is over everything before it.
type acceptFrame struct {
	session ID
	enc     []byte
	confirm [32]byte
}

func (f *acceptFrame) unconfirmed(b []byte) []byte {
	b = append(b, byte(KindAccept))
	b = append(b, f.session[:]...)
	return appendBytes(b, f.enc)
}

func parseAcceptFrame(frame []byte) (acceptFrame, error) {
	var f acceptFrame
	r := plain.Read(frame)
	r.Require(Kind(r.Uint8()) == KindAccept)
	copy(f.session[:], r.Take(len(f.session)))
	f.enc = takeBytes(&r)
	copy(f.confirm[:], r.Take(len(f.confirm)))
	if r.End() != nil {
		return acceptFrame{}, ErrMalformed
	}
	return f, nil
}

// dataHeaderLen is kind, session and counter.
const dataHeaderLen = 1 + len(ID{}) + 8

func appendDataHeader(b []byte, id ID, counter uint64) []byte {
	b = append(b, byte(KindData))
	b = append(b, id[:]...)
	return binary.BigEndian.AppendUint64(b, counter)
}

// DataSession returns the session of a data frame, for whoever has several.
func DataSession(frame []byte) (ID, bool) {
	if KindOf(frame) != KindData || len(frame) < dataHeaderLen {
		return ID{}, false
	}
	return ID(frame[1:]), true
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

func takeBytes(r *plain.Reader) []byte { return r.Take(int(r.Uint16())) }
