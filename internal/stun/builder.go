package stun

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

const (
	familyIPv4 = 0x01 // RFC 8489 §14.1
	familyIPv6 = 0x02

	maxText = 763 // bytes of SOFTWARE and of a reason phrase, RFC 8489 §14.8, §14.14
)

// Builder writes one message behind what is already in a slice. Attributes stand in the order
// of the calls; End closes the message. A Builder is a plain value for one function.
type Builder struct {
	buf   []byte
	start int
}

// Append begins a message at the end of dst.
func Append(dst []byte, typ Type, tx TxID) Builder {
	b := Builder{buf: dst, start: len(dst)}
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(typ)&0x3fff)
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.BigEndian.AppendUint32(b.buf, magicCookie)
	b.buf = append(b.buf, tx[:]...)
	return b
}

// Username writes the USERNAME (RFC 8489 §14.3): "<ufrag of the receiver>:<ufrag of the
// sender>" in an ICE check.
func (b *Builder) Username(name string) { b.text(AttrUsername, name) }

// Software writes the SOFTWARE text (RFC 8489 §14.14).
func (b *Builder) Software(text string) { b.text(AttrSoftware, text) }

// XORMappedAddress writes where a request came from (RFC 8489 §14.2).
func (b *Builder) XORMappedAddress(a netip.AddrPort) {
	addr := a.Addr().Unmap()
	port := a.Port() ^ magicCookie>>16
	cookieAndTx := b.buf[b.start+4 : b.start+HeaderLen]
	if addr.Is4() {
		v := addr.As4()
		b.attr(AttrXORMappedAddress, 4+len(v))
		b.buf = append(b.buf, 0, familyIPv4, byte(port>>8), byte(port))
		for i, x := range v {
			b.buf = append(b.buf, x^cookieAndTx[i])
		}
		return
	}
	v := addr.As16()
	b.attr(AttrXORMappedAddress, 4+len(v))
	b.buf = append(b.buf, 0, familyIPv6, byte(port>>8), byte(port))
	for i, x := range v {
		b.buf = append(b.buf, x^cookieAndTx[i])
	}
}

// Priority writes the PRIORITY (RFC 8445 §7.1.1).
func (b *Builder) Priority(p uint32) {
	b.attr(AttrPriority, 4)
	b.buf = binary.BigEndian.AppendUint32(b.buf, p)
}

// ICEControlling writes the tie-breaker of the controlling agent (RFC 8445 §7.1.3).
func (b *Builder) ICEControlling(tieBreaker uint64) {
	b.attr(AttrICEControlling, 8)
	b.buf = binary.BigEndian.AppendUint64(b.buf, tieBreaker)
}

// ICEControlled writes the tie-breaker of the controlled agent (RFC 8445 §7.1.3).
func (b *Builder) ICEControlled(tieBreaker uint64) {
	b.attr(AttrICEControlled, 8)
	b.buf = binary.BigEndian.AppendUint64(b.buf, tieBreaker)
}

// UseCandidate nominates the pair the check is sent on (RFC 8445 §7.1.2).
func (b *Builder) UseCandidate() { b.attr(AttrUseCandidate, 0) }

// Nomination writes the nomination value (draft-thatcher-ice-renomination).
func (b *Builder) Nomination(n uint32) {
	b.attr(AttrNomination, 4)
	b.buf = binary.BigEndian.AppendUint32(b.buf, n)
}

// ErrorCode writes why a request is refused: a code of 300 to 699 and a phrase for people
// (RFC 8489 §14.8).
func (b *Builder) ErrorCode(code int, reason string) {
	reason = reason[:min(len(reason), maxText)]
	b.attr(AttrErrorCode, 4+len(reason))
	b.buf = append(b.buf, 0, 0, byte(code/100)&0x07, byte(code%100))
	b.buf = append(b.buf, reason...)
	b.pad(len(reason))
}

// UnknownAttributes lists what a 420 response is about (RFC 8489 §14.13), 16 types at most.
func (b *Builder) UnknownAttributes(types []AttrType) {
	types = types[:min(len(types), maxUnknown)]
	b.attr(AttrUnknownAttributes, 2*len(types))
	for _, t := range types {
		b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(t))
	}
	b.pad(2 * len(types))
}

// End closes the message with MESSAGE-INTEGRITY under k (none when nil; RFC 8489 §14.5) and a
// FINGERPRINT (RFC 8489 §14.7), and returns the whole extended slice.
func (b *Builder) End(k *Key, fingerprint bool) []byte {
	if k != nil {
		k.s.digest(b.buf[b.start:])
		b.attr(AttrMessageIntegrity, integrityLen)
		b.buf = append(b.buf, k.s.sum[:]...)
	}
	if fingerprint {
		// The checksum covers the header with the final length.
		b.setLength(attrHeader + fingerprintLen)
		sum := crc32.ChecksumIEEE(b.buf[b.start:]) ^ fingerprintXOR
		b.attr(AttrFingerprint, fingerprintLen)
		b.buf = binary.BigEndian.AppendUint32(b.buf, sum)
	}
	b.setLength(0)
	return b.buf
}

// attr writes the head of an attribute of n bytes.
func (b *Builder) attr(t AttrType, n int) {
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(t))
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(n))
}

// text writes an attribute of text, cut at what the RFC allows: ICE's own limits
// (RFC 8839 §5.4) lie below, so only a mistake is ever cut, and fails the peer's check.
func (b *Builder) text(t AttrType, s string) {
	s = s[:min(len(s), maxText)]
	b.attr(t, len(s))
	b.buf = append(b.buf, s...)
	b.pad(len(s))
}

// pad fills up to the 32-bit boundary behind a value of n bytes.
func (b *Builder) pad(n int) {
	for ; n%4 != 0; n++ {
		b.buf = append(b.buf, 0)
	}
}

// setLength writes the length field for what is there and more bytes to come.
func (b *Builder) setLength(more int) {
	binary.BigEndian.PutUint16(b.buf[b.start+2:], uint16(len(b.buf)-b.start-HeaderLen+more))
}
