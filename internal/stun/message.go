package stun

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
)

// What Parse refuses a datagram for. Callers count them; nobody is told.
var (
	ErrShort       = errors.New("stun: datagram shorter than its header says")
	ErrHeader      = errors.New("stun: not a STUN header")
	ErrLength      = errors.New("stun: message length does not match the datagram")
	ErrAttribute   = errors.New("stun: malformed attribute")
	ErrFingerprint = errors.New("stun: wrong fingerprint")
)

// maxUnknown bounds what one hostile request makes us list in an answer.
const maxUnknown = 16

// Message is a view over one received message (RFC 8489 §5). It aliases the bytes it was
// parsed from and is valid as long as they are.
type Message struct {
	Type Type
	Tx   TxID

	raw []byte
	// end is where the attributes end that may be trusted: at the first integrity attribute
	// or the fingerprint, whichever comes first (RFC 8489 §14.5, §14.6, §14.7).
	end int
	// Offsets of the attributes that close a message; 0 when absent.
	integrity, integritySHA256, fingerprint int
}

// Parse makes m a view over b, which must be exactly one message. It checks the header, that
// the attributes fill the message exactly, and the fingerprint if there is one. The
// integrity is not checked here: the key is known only after the username has been read.
//
// On error m holds nothing.
func (m *Message) Parse(b []byte) error {
	*m = Message{}
	if len(b) < HeaderLen {
		return ErrShort
	}
	if b[0]&0xc0 != 0 || binary.BigEndian.Uint32(b[4:]) != magicCookie {
		return ErrHeader
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n%4 != 0 {
		return ErrHeader
	}
	switch {
	case len(b) < HeaderLen+n:
		return ErrShort
	case len(b) > HeaderLen+n:
		return ErrLength
	}
	v := Message{
		Type: Type(binary.BigEndian.Uint16(b)),
		Tx:   TxID(b[8:HeaderLen]),
		raw:  b,
		end:  len(b),
	}
	if err := v.walk(); err != nil {
		return err
	}
	*m = v
	return nil
}

// walk checks the frame of every attribute, those to be ignored included: a message whose
// ignored part is malformed was not written by a peer worth answering.
func (m *Message) walk() error {
	b := m.raw
	for off := HeaderLen; off < len(b); {
		if m.fingerprint != 0 {
			return ErrAttribute // RFC 8489 §14.7: FINGERPRINT is the last attribute
		}
		if len(b)-off < attrHeader {
			return ErrAttribute
		}
		typ := AttrType(binary.BigEndian.Uint16(b[off:]))
		n := int(binary.BigEndian.Uint16(b[off+2:]))
		next := off + attrHeader + padded(n)
		if next > len(b) {
			return ErrAttribute
		}
		switch typ {
		case AttrMessageIntegrity:
			// Behind MESSAGE-INTEGRITY-SHA256 even this one is ignored (RFC 8489 §14.6).
			if m.integrity == 0 && m.integritySHA256 == 0 {
				if n != integrityLen {
					return ErrAttribute
				}
				m.integrity = off
				m.end = min(m.end, off)
			}
		case AttrMessageIntegritySHA256:
			if m.integritySHA256 == 0 {
				if n < integritySHA256Min || n > integritySHA256Max || n%4 != 0 {
					return ErrAttribute
				}
				m.integritySHA256 = off
				m.end = min(m.end, off)
			}
		case AttrFingerprint:
			if n != fingerprintLen {
				return ErrAttribute
			}
			if binary.BigEndian.Uint32(b[off+attrHeader:]) != crc32.ChecksumIEEE(b[:off])^fingerprintXOR {
				return ErrFingerprint
			}
			m.fingerprint = off
			m.end = min(m.end, off)
		}
		off = next
	}
	return nil
}

// Attr returns the value of the first attribute of that type. Attributes that RFC 8489 §14.5
// says to ignore are not found. The value aliases the message.
func (m *Message) Attr(t AttrType) ([]byte, bool) {
	off := 0
	switch t {
	case AttrMessageIntegrity:
		off = m.integrity
	case AttrMessageIntegritySHA256:
		off = m.integritySHA256
	case AttrFingerprint:
		off = m.fingerprint
	default:
		for o := HeaderLen; o < m.end; o = m.next(o) {
			if AttrType(binary.BigEndian.Uint16(m.raw[o:])) == t {
				off = o
				break
			}
		}
	}
	if off == 0 {
		return nil, false
	}
	return m.value(off), true
}

// HasIntegrity says whether there is a MESSAGE-INTEGRITY attribute to check. A request
// without one is answered 400, one that fails the check 401 (RFC 8489 §9.1.3).
func (m *Message) HasIntegrity() bool { return m.integrity != 0 }

// HasFingerprint says whether the message carries a fingerprint (then it is right). ICE
// peers always send one (RFC 8445 §7.1).
func (m *Message) HasFingerprint() bool { return m.fingerprint != 0 }

// CheckIntegrity verifies MESSAGE-INTEGRITY (RFC 8489 §14.5) in constant time. It is false
// when the attribute is absent.
func (m *Message) CheckIntegrity(k *Key) bool {
	if m.integrity == 0 {
		return false
	}
	return k.verify(m.raw[:m.integrity], m.value(m.integrity))
}

// Username returns the USERNAME: "<ufrag of the receiver>:<ufrag of the sender>" in an ICE
// check (RFC 8445 §7.2.2).
func (m *Message) Username() ([]byte, bool) { return m.Attr(AttrUsername) }

// Software returns the SOFTWARE text.
func (m *Message) Software() ([]byte, bool) { return m.Attr(AttrSoftware) }

// XORMappedAddress returns the address the peer saw us at (RFC 8489 §14.2). IPv4 addresses
// come unmapped.
func (m *Message) XORMappedAddress() (netip.AddrPort, bool) {
	v, ok := m.Attr(AttrXORMappedAddress)
	if !ok || len(v) < 4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ magicCookie>>16
	switch {
	case v[1] == familyIPv4 && len(v) == 8:
		a := [4]byte(v[4:])
		for i := range a {
			a[i] ^= m.raw[4+i]
		}
		return netip.AddrPortFrom(netip.AddrFrom4(a), port), true
	case v[1] == familyIPv6 && len(v) == 20:
		a := [16]byte(v[4:])
		for i := range a { // the cookie and the transaction id stand side by side in the header
			a[i] ^= m.raw[4+i]
		}
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}

// Priority returns the priority a peer-reflexive candidate would get (RFC 8445 §7.1.1).
func (m *Message) Priority() (uint32, bool) { return m.uint32(AttrPriority) }

// ICEControlling returns the tie-breaker of a peer that claims to control (RFC 8445 §7.1.3).
func (m *Message) ICEControlling() (uint64, bool) { return m.uint64(AttrICEControlling) }

// ICEControlled returns the tie-breaker of a peer that is controlled (RFC 8445 §7.1.3).
func (m *Message) ICEControlled() (uint64, bool) { return m.uint64(AttrICEControlled) }

// UseCandidate says whether the check nominates its pair (RFC 8445 §7.1.2).
func (m *Message) UseCandidate() bool {
	_, ok := m.Attr(AttrUseCandidate)
	return ok
}

// Nomination returns the nomination value; the highest one wins
// (draft-thatcher-ice-renomination).
func (m *Message) Nomination() (uint32, bool) { return m.uint32(AttrNomination) }

// ErrorCode returns the code of an error response, 300 to 699 (RFC 8489 §14.8).
func (m *Message) ErrorCode() (int, bool) {
	v, ok := m.Attr(AttrErrorCode)
	if !ok || len(v) < 4 {
		return 0, false
	}
	class, number := int(v[2]&0x07), int(v[3])
	if class < 3 || class > 6 || number > 99 {
		return 0, false
	}
	return class*100 + number, true
}

// UnknownAttributes appends to buf what the peer did not understand, from a 420 response
// (RFC 8489 §14.13), 16 types at most.
func (m *Message) UnknownAttributes(buf []AttrType) []AttrType {
	v, _ := m.Attr(AttrUnknownAttributes)
	for n := 0; len(v) >= 2 && n < maxUnknown; n++ {
		buf = append(buf, AttrType(binary.BigEndian.Uint16(v)))
		v = v[2:]
	}
	return buf
}

// UnknownRequired appends to buf the comprehension-required attributes that this package does
// not know, each once and 16 at most, so that a buf with that capacity never grows. A request
// that has any is answered 420 with this list (RFC 8489 §6.3.1).
func (m *Message) UnknownRequired(buf []AttrType) []AttrType {
	first := len(buf)
attributes:
	for off := HeaderLen; off < m.end; off = m.next(off) {
		t := AttrType(binary.BigEndian.Uint16(m.raw[off:]))
		if !t.required() || t.known() {
			continue
		}
		for _, seen := range buf[first:] {
			if seen == t {
				continue attributes
			}
		}
		if buf = append(buf, t); len(buf)-first == maxUnknown {
			break
		}
	}
	return buf
}

func (m *Message) uint32(t AttrType) (uint32, bool) {
	v, ok := m.Attr(t)
	if !ok || len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(v), true
}

func (m *Message) uint64(t AttrType) (uint64, bool) {
	v, ok := m.Attr(t)
	if !ok || len(v) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(v), true
}

// value returns the value of the attribute at off, which walk has checked.
func (m *Message) value(off int) []byte {
	n := int(binary.BigEndian.Uint16(m.raw[off+2:]))
	off += attrHeader
	return m.raw[off : off+n : off+n]
}

// next returns the offset of the attribute after the one at off.
func (m *Message) next(off int) int {
	return off + attrHeader + padded(int(binary.BigEndian.Uint16(m.raw[off+2:])))
}

// padded rounds up to the 32-bit boundary every attribute ends at (RFC 8489 §14).
func padded(n int) int { return (n + 3) &^ 3 }
