package stun

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// raw lays out a message by hand, so that it may be as wrong as a test wants.
type raw []byte

func newRaw(typ Type) raw {
	return binary.BigEndian.AppendUint32(raw{byte(typ >> 8), byte(typ), 0, 0}, magicCookie)
}

func (r raw) tx() raw { return append(r, "0123456789ab"...) }

func (r raw) attr(t AttrType, v ...byte) raw {
	r = binary.BigEndian.AppendUint16(r, uint16(t))
	r = binary.BigEndian.AppendUint16(r, uint16(len(v)))
	r = append(r, v...)
	for len(r)%4 != 0 {
		r = append(r, 0xff) // padding may be anything, RFC 8489 §14
	}
	binary.BigEndian.PutUint16(r[2:], uint16(len(r)-HeaderLen))
	return r
}

func (r raw) integrity(password string) raw {
	k := NewKey(password)
	k.s.digest(r)
	return r.attr(AttrMessageIntegrity, k.s.sum[:]...)
}

func (r raw) fingerprint() raw {
	r = r.attr(AttrFingerprint, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(r[len(r)-4:], crc32.ChecksumIEEE(r[:len(r)-8])^fingerprintXOR)
	return r
}

func request() raw { return newRaw(BindingRequest).tx() }

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"empty", nil, ErrShort},
		{"half a header", request()[:19], ErrShort},
		{"top bits", append([]byte{0x40}, request()[1:]...), ErrHeader},
		{"RFC 3489 without cookie", make([]byte, HeaderLen), ErrHeader},
		{"length not of four", append(func() raw { r := request(); r[3] = 2; return r }(), 0, 0), ErrHeader},
		{"cut off", request().attr(AttrPriority, 1, 2, 3, 4)[:24], ErrShort},
		{"bytes behind", append(request().attr(AttrPriority, 1, 2, 3, 4), 0, 0, 0, 0), ErrLength},
		{"attribute too long", func() raw { r := request().attr(AttrPriority, 1, 2, 3, 4); r[23] = 5; return r }(), ErrAttribute},
		{"attribute far too long", func() raw { r := request().attr(AttrPriority, 1, 2, 3, 4); r[22], r[23] = 255, 255; return r }(), ErrAttribute},
		{"short integrity", request().attr(AttrMessageIntegrity, make([]byte, 16)...), ErrAttribute},
		{"long integrity", request().attr(AttrMessageIntegrity, make([]byte, 24)...), ErrAttribute},
		{"short SHA-256 integrity", request().attr(AttrMessageIntegritySHA256, make([]byte, 12)...), ErrAttribute},
		{"long SHA-256 integrity", request().attr(AttrMessageIntegritySHA256, make([]byte, 36)...), ErrAttribute},
		{"odd SHA-256 integrity", request().attr(AttrMessageIntegritySHA256, make([]byte, 18)...), ErrAttribute},
		{"short fingerprint", request().attr(AttrFingerprint, 1, 2), ErrAttribute},
		{"wrong fingerprint", request().attr(AttrFingerprint, 1, 2, 3, 4), ErrFingerprint},
		{"attribute behind fingerprint", request().fingerprint().attr(AttrPriority, 1, 2, 3, 4), ErrFingerprint},
		{"second fingerprint", func() raw {
			r := request().fingerprint().attr(AttrFingerprint, 0, 0, 0, 0)
			binary.BigEndian.PutUint32(r[24:], crc32.ChecksumIEEE(r[:20])^fingerprintXOR)
			return r
		}(), ErrAttribute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := *parse(t, vectorRequest)
			err := m.Parse(tt.raw)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if m.raw != nil || m.Type != 0 || m.HasIntegrity() || m.UseCandidate() {
				t.Error("something is left after an error")
			}
		})
	}
}

// Whatever bit of a protected message changes, the change is noticed before anything depends
// on it: the message does not parse, or its integrity fails. The exception is the fingerprint,
// which is not protected and can only be made to vanish.
func TestEveryBitMatters(t *testing.T) {
	k := NewKey(vectorPassword)
	for _, vector := range [][]byte{vectorRequest, vectorResponse4, vectorResponse6} {
		b := append([]byte(nil), vector...)
		protected := parse(t, vector).fingerprint
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			var m Message
			if err := m.Parse(b); err == nil {
				if bit/8 < protected && m.CheckIntegrity(k) {
					t.Errorf("bit %d of %x can be changed", bit, vector)
				}
				if m.HasFingerprint() {
					t.Errorf("bit %d of %x is not covered by the fingerprint", bit, vector)
				}
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		for n := range len(b) {
			if new(Message).Parse(b[:n]) == nil {
				t.Errorf("%d of %d bytes parsed", n, len(b))
			}
		}
	}
}

// RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is ignored, but MESSAGE-INTEGRITY-SHA256 and
// FINGERPRINT.
func TestNothingBehindIntegrity(t *testing.T) {
	m := parse(t, request().
		attr(AttrUsername, []byte("a:b")...).
		integrity("pw").
		attr(AttrUsername, []byte("evil")...).
		attr(AttrUseCandidate).
		attr(AttrNomination, 0, 0, 0, 9).
		attr(AttrMessageIntegritySHA256, make([]byte, 32)...).
		attr(0x0042).
		fingerprint())
	if v, _ := m.Username(); string(v) != "a:b" {
		t.Errorf("Username() = %q", v)
	}
	if m.UseCandidate() {
		t.Error("an unprotected USE-CANDIDATE counts")
	}
	if _, ok := m.Nomination(); ok {
		t.Error("an unprotected nomination counts")
	}
	if got := m.UnknownRequired(nil); len(got) != 0 {
		t.Errorf("UnknownRequired() = %v", got)
	}
	if _, ok := m.Attr(AttrMessageIntegritySHA256); !ok {
		t.Error("MESSAGE-INTEGRITY-SHA256 is not found")
	}
	if v, ok := m.Attr(AttrMessageIntegrity); !ok || len(v) != integrityLen {
		t.Error("MESSAGE-INTEGRITY is not found")
	}
	if v, ok := m.Attr(AttrFingerprint); !ok || len(v) != fingerprintLen {
		t.Error("FINGERPRINT is not found")
	}
	if !m.CheckIntegrity(NewKey("pw")) {
		t.Error("integrity does not verify")
	}
}

// RFC 8489 §14.6: behind MESSAGE-INTEGRITY-SHA256 alone only FINGERPRINT counts, so that a
// SHA-1 attribute put there by somebody else proves nothing.
func TestNothingBehindSHA256Integrity(t *testing.T) {
	m := parse(t, request().
		attr(AttrMessageIntegritySHA256, make([]byte, 32)...).
		attr(AttrUseCandidate).
		integrity("pw"))
	if m.UseCandidate() || m.HasIntegrity() || m.CheckIntegrity(NewKey("pw")) {
		t.Error("something behind MESSAGE-INTEGRITY-SHA256 counts")
	}
}

func TestFirstAttributeCounts(t *testing.T) {
	m := parse(t, request().attr(AttrPriority, 0, 0, 0, 1).attr(AttrPriority, 0, 0, 0, 2))
	if p, ok := m.Priority(); !ok || p != 1 {
		t.Errorf("Priority() = %d, %t", p, ok)
	}
}

func TestGettersRefuseOddLengths(t *testing.T) {
	for n := range 24 {
		v := make([]byte, n)
		for i := range v {
			v[i] = 1
		}
		r := request()
		for _, typ := range []AttrType{AttrPriority, AttrNomination, AttrICEControlled, AttrICEControlling, AttrXORMappedAddress, AttrErrorCode} {
			r = r.attr(typ, v...)
		}
		m := parse(t, r)
		if _, ok := m.Priority(); ok != (n == 4) {
			t.Errorf("Priority of %d bytes: %t", n, ok)
		}
		if _, ok := m.Nomination(); ok != (n == 4) {
			t.Errorf("Nomination of %d bytes: %t", n, ok)
		}
		if _, ok := m.ICEControlled(); ok != (n == 8) {
			t.Errorf("ICEControlled of %d bytes: %t", n, ok)
		}
		if _, ok := m.ICEControlling(); ok != (n == 8) {
			t.Errorf("ICEControlling of %d bytes: %t", n, ok)
		}
		if _, ok := m.XORMappedAddress(); ok != (n == 8) { // family 1
			t.Errorf("XORMappedAddress of %d bytes: %t", n, ok)
		}
		if _, ok := m.ErrorCode(); ok { // class 1
			t.Errorf("ErrorCode of %d bytes: class 1", n)
		}
	}
}

func TestErrorCodeRange(t *testing.T) {
	for class := range 256 {
		for number := range 256 {
			m := parse(t, newRaw(BindingError).tx().attr(AttrErrorCode, 0, 0, byte(class), byte(number)))
			code, ok := m.ErrorCode()
			c := class & 7 // the five bits above are reserved, RFC 8489 §14.8
			if want := c >= 3 && c <= 6 && number <= 99; ok != want || ok && code != c*100+number {
				t.Fatalf("class %d number %d: %d, %t", class, number, code, ok)
			}
		}
	}
}

func TestUnknownRequired(t *testing.T) {
	m := parse(t, request().
		attr(0x0003).attr(0x8042).attr(AttrUsername, []byte("u")...).attr(0x0042, 1, 2, 3).attr(0x0003).
		attr(AttrMessageIntegritySHA256, make([]byte, 32)...))
	got := m.UnknownRequired([]AttrType{0x0003})
	if diff := cmp.Diff([]AttrType{0x0003, 0x0003, 0x0042}, got); diff != "" {
		t.Error(diff)
	}

	r := request()
	for i := range AttrType(100) {
		r = r.attr(0x0100 + i)
	}
	var buf [maxUnknown]AttrType
	if got := parse(t, r).UnknownRequired(buf[:0]); len(got) != maxUnknown || &got[0] != &buf[0] {
		t.Errorf("%d unknown attributes, or not in the buffer", len(got))
	}
}

func TestXORMappedAddressUnmaps(t *testing.T) {
	b := Append(nil, BindingSuccess, TxID{1})
	b.XORMappedAddress(netip.MustParseAddrPort("[::ffff:192.0.2.1]:7"))
	a, ok := parse(t, b.End(nil, false)).XORMappedAddress()
	if !ok || a != netip.MustParseAddrPort("192.0.2.1:7") {
		t.Errorf("got %v, %t", a, ok)
	}

	v := []byte{0, familyIPv6, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}
	r := request()
	for i := range 16 {
		v[4+i] ^= r[4+i]
	}
	a, ok = parse(t, r.attr(AttrXORMappedAddress, v...)).XORMappedAddress()
	if !ok || a.Addr() != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("got %v, %t", a, ok)
	}
}

func TestType(t *testing.T) {
	for _, tt := range []struct {
		typ Type
		cls Class
	}{
		{BindingRequest, ClassRequest},
		{BindingIndication, ClassIndication},
		{BindingSuccess, ClassSuccess},
		{BindingError, ClassError},
	} {
		if tt.typ.Method() != MethodBinding || tt.typ.Class() != tt.cls || NewType(MethodBinding, tt.cls) != tt.typ {
			t.Errorf("%#x: method %#x, class %d", tt.typ, tt.typ.Method(), tt.typ.Class())
		}
	}
	for typ := Type(0); typ < 0x4000; typ++ {
		if got := NewType(typ.Method(), typ.Class()); got != typ {
			t.Fatalf("%#x taken apart and put together is %#x", typ, got)
		}
	}
}
