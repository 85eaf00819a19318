package stun

import (
	"crypto/md5"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// vectorPassword is the password of the short-term vectors (RFC 5769 §2).
const vectorPassword = "VOkJxbRl1RmTxUk/WvJxBt"

// unhex decodes hex digits laid out as the RFC prints them.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// The sample messages of RFC 5769.
var (
	vectorRequest = unhex( // §2.1
		`00010058 2112a442 b7e7a701 bc34d686 fa87dfae
		80220010 5354554e 20746573 7420636c 69656e74
		00240004 6e0001ff
		80290008 932ff9b1 51263b36
		00060009 6576746a 3a683676 59202020
		00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
		80280004 e57a3bcf`)
	vectorResponse4 = unhex( // §2.2
		`0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
		8022000b 74657374 20766563 746f7220
		00200008 0001a147 e112a643
		00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
		80280004 c07d4c96`)
	vectorResponse6 = unhex( // §2.3
		`01010048 2112a442 b7e7a701 bc34d686 fa87dfae
		8022000b 74657374 20766563 746f7220
		00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
		00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
		80280004 c8fb0b4c`)
	vectorLongTerm = unhex( // §2.4
		`00010060 2112a442 78ad3433 c6ad72c0 29da412e
		00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
		0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
		0014000b 6578616d 706c652e 6f726700
		00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666`)
)

func parse(t *testing.T, b []byte) *Message {
	t.Helper()
	m := new(Message)
	if err := m.Parse(b); err != nil {
		t.Fatalf("Parse(%x): %v", b, err)
	}
	return m
}

func TestVectorRequest(t *testing.T) {
	m := parse(t, vectorRequest)
	if m.Type != BindingRequest || m.Tx != TxID(unhex("b7e7a701 bc34d686 fa87dfae")) {
		t.Errorf("type %#x, transaction %x", m.Type, m.Tx)
	}
	if v, ok := m.Software(); !ok || string(v) != "STUN test client" {
		t.Errorf("Software() = %q, %t", v, ok)
	}
	if v, ok := m.Username(); !ok || string(v) != "evtj:h6vY" {
		t.Errorf("Username() = %q, %t", v, ok)
	}
	if v, ok := m.Priority(); !ok || v != 0x6e0001ff {
		t.Errorf("Priority() = %#x, %t", v, ok)
	}
	if v, ok := m.ICEControlled(); !ok || v != 0x932ff9b151263b36 {
		t.Errorf("ICEControlled() = %#x, %t", v, ok)
	}
	if _, ok := m.ICEControlling(); ok {
		t.Error("ICEControlling() found one")
	}
	if !m.HasIntegrity() || !m.HasFingerprint() {
		t.Error("integrity or fingerprint not seen")
	}
	if !m.CheckIntegrity(NewKey(vectorPassword)) {
		t.Error("integrity does not verify")
	}
	if m.CheckIntegrity(NewKey("VOkJxbRl1RmTxUk/WvJxBT")) {
		t.Error("integrity verifies under another password")
	}
	if got := m.UnknownRequired(nil); len(got) != 0 {
		t.Errorf("UnknownRequired() = %v", got)
	}
}

func TestVectorResponse(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"IPv4", vectorResponse4, "192.0.2.1:32853"},
		{"IPv6", vectorResponse6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, tt.raw)
			if m.Type != BindingSuccess {
				t.Errorf("type %#x", m.Type)
			}
			if a, ok := m.XORMappedAddress(); !ok || a.String() != tt.want {
				t.Errorf("XORMappedAddress() = %v, %t; want %s", a, ok, tt.want)
			}
			if v, ok := m.Software(); !ok || string(v) != "test vector" {
				t.Errorf("Software() = %q, %t", v, ok)
			}
			if !m.HasFingerprint() || !m.CheckIntegrity(NewKey(vectorPassword)) {
				t.Error("does not verify")
			}
		})
	}
}

// The long-term vector is here for its non-ASCII username and for HMAC without a fingerprint;
// deriving its key (RFC 8489 §9.2.2) is not this package's business.
func TestVectorLongTerm(t *testing.T) {
	m := parse(t, vectorLongTerm)
	if v, ok := m.Username(); !ok || string(v) != "\u30DE\u30C8\u30EA\u30C3\u30AF\u30B9" {
		t.Errorf("Username() = %q, %t", v, ok)
	}
	if v, ok := m.Attr(AttrRealm); !ok || string(v) != "example.org" {
		t.Errorf("realm %q, %t", v, ok)
	}
	if v, ok := m.Attr(AttrNonce); !ok || string(v) != "f//499k954d6OL34oL9FSTvy64sA" {
		t.Errorf("nonce %q, %t", v, ok)
	}
	if m.HasFingerprint() {
		t.Error("a fingerprint out of nowhere")
	}
	key := md5.Sum([]byte("\u30DE\u30C8\u30EA\u30C3\u30AF\u30B9:example.org:TheMatrIX"))
	if !m.CheckIntegrity(NewKey(string(key[:]))) {
		t.Error("integrity does not verify")
	}
}

// The builder writes the vectors byte for byte, but for their padding, which is blanks there.
func TestVectorRebuilt(t *testing.T) {
	m := parse(t, vectorResponse6)
	addr := netip.MustParseAddrPort("[2001:db8:1234:5678:11:2233:4455:6677]:32853")
	b := Append(nil, BindingSuccess, m.Tx)
	b.Software("test vector ")
	b.XORMappedAddress(addr)
	got := b.End(NewKey(vectorPassword), true)
	want := append([]byte(nil), vectorResponse6...)
	want[HeaderLen+3] = 12 // the padding blank counted as text
	reparsed := parse(t, got)
	// Only what depends on that length may differ: integrity and fingerprint.
	if string(got[:reparsed.integrity+attrHeader]) != string(want[:m.integrity+attrHeader]) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if !reparsed.CheckIntegrity(NewKey(vectorPassword)) {
		t.Error("integrity does not verify")
	}
}
