package channel

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sotto-edge/sotto/internal/redact"
)

const (
	keyLen = 32
	ivLen  = 12
	tagLen = 16

	bindingLen = 32
)

// maxFrames is how many frames go in one direction of a session: AES-GCM would bear more (RFC 8446 §5.5), nobody needs it.
const maxFrames = 1 << 32

// direction tells what the client sends from what the KMS sends.
type direction uint8

const (
	toKMS direction = iota + 1
	toClient
)

func (d direction) String() string {
	if d == toKMS {
		return "to kms"
	}
	return "to client"
}

// Session is one side of an open channel. Seal and Open may run beside each other, but each by one goroutine at a time.
type Session struct {
	redact.Guard
	id      ID
	binding *[bindingLen]byte // behind a pointer, as all secrets here: fmt follows the first of a field that is not exported
	out, in *half
}

// half is one direction.
type half struct {
	id        ID
	direction direction
	secrets   *secrets // nil when it is over
	next      uint64
}

type secrets struct {
	aead cipher.AEAD
	iv   *[ivLen]byte
}

func newHalf(id ID, d direction, key, iv []byte) (*half, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	own := [ivLen]byte(iv)
	return &half{id: id, direction: d, secrets: &secrets{aead, &own}}, nil
}

// ID returns the name of the session, the same on both sides.
func (s *Session) ID() ID { return s.id }

// Binding is a value that only the two sides of this session have, and no other session: what a client signs to show that it is the
// one that a token was given to (RFC 9266 has the same for TLS).
func (s *Session) Binding() []byte { return slices.Clone(s.binding[:]) }

// ClientMessage is what a client signs with the key that its token names.
func ClientMessage(binding []byte) []byte { return append([]byte(label+"client\x00"), binding...) }

// Seal appends the frame of the next text to dst. What is between the length and the capacity of dst may be overwritten.
func (s *Session) Seal(dst, text []byte) ([]byte, error) {
	h := s.out
	if h.secrets == nil || h.next == maxFrames {
		return dst, ErrSpent
	}
	if dataHeaderLen+len(text)+tagLen > MaxFrame {
		return dst, fmt.Errorf("%w: a text of %d bytes", ErrMalformed, len(text))
	}
	begin := len(dst)
	dst = appendDataHeader(dst, h.id, h.next)
	nonce := h.nonce(h.next)
	dst = h.secrets.aead.Seal(dst, nonce[:], text, h.data(dst[begin:begin+dataHeaderLen]))
	h.next++
	return dst, nil
}

// Open appends the text in a frame to dst. Only the next frame of this session opens. A frame that is refused changes nothing, but
// on a line that keeps order it means that somebody interferes: end the session.
func (s *Session) Open(dst, frame []byte) ([]byte, error) {
	h := s.in
	if h.secrets == nil || h.next == maxFrames {
		return dst, ErrSpent
	}
	id, ok := DataSession(frame)
	if !ok || len(frame) < dataHeaderLen+tagLen {
		return dst, ErrMalformed
	}
	if id != h.id {
		return dst, fmt.Errorf("%w: it is of another session", ErrSealed)
	}
	switch counter := binary.BigEndian.Uint64(frame[dataHeaderLen-8:]); {
	case counter < h.next:
		return dst, ErrReplayed
	case counter > h.next:
		return dst, ErrMissing
	}
	nonce := h.nonce(h.next)
	out, err := h.secrets.aead.Open(dst, nonce[:], frame[dataHeaderLen:], h.data(frame[:dataHeaderLen]))
	if err != nil {
		return dst, ErrSealed
	}
	h.next++
	return out, nil
}

// Wipe ends the session on this side. It may be called twice, but not beside Seal or Open.
func (s *Session) Wipe() {
	clear(s.binding[:])
	for _, h := range []*half{s.out, s.in} {
		if h != nil && h.secrets != nil {
			clear(h.secrets.iv[:])
			h.secrets = nil
		}
	}
}

// nonce is made as in TLS, RFC 8446 §5.3.
func (h *half) nonce(counter uint64) [ivLen]byte {
	n := *h.secrets.iv
	low := n[ivLen-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^counter)
	return n
}

// data is what is authenticated beside the text: direction, kind, session and counter.
func (h *half) data(header []byte) []byte {
	b := make([]byte, 0, len(label)+len("frame\x00")+1+dataHeaderLen)
	b = append(b, label+"frame\x00"...)
	b = append(b, byte(h.direction))
	return append(b, header...)
}
