package stun

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuilderRoundTrip(t *testing.T) {
	k := NewKey("pw")
	prefix := []byte("before")
	tx := TxID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	b := Append(append([]byte(nil), prefix...), BindingRequest, tx)
	b.Username("left:rig")
	b.Software("so")
	b.Priority(0x01020304)
	b.ICEControlling(1<<64 - 1)
	b.UseCandidate()
	b.Nomination(7)
	b.UnknownAttributes([]AttrType{1, 2, 3})
	b.ErrorCode(CodeRoleConflict, "Role Conflict")
	b.XORMappedAddress(netip.MustParseAddrPort("192.0.2.7:65535"))
	out := b.End(k, true)

	if !bytes.HasPrefix(out, prefix) {
		t.Fatalf("what stood before is gone: %q", out[:6])
	}
	m := parse(t, out[len(prefix):])
	if m.Type != BindingRequest || m.Tx != tx || !m.HasFingerprint() || !m.CheckIntegrity(k) || !m.UseCandidate() {
		t.Errorf("got %#x %x", m.Type, m.Tx)
	}
	if v, _ := m.Username(); string(v) != "left:rig" {
		t.Errorf("Username() = %q", v)
	}
	if v, _ := m.Software(); string(v) != "so" {
		t.Errorf("Software() = %q", v)
	}
	if v, _ := m.Priority(); v != 0x01020304 {
		t.Errorf("Priority() = %#x", v)
	}
	if v, _ := m.ICEControlling(); v != 1<<64-1 {
		t.Errorf("ICEControlling() = %#x", v)
	}
	if v, _ := m.Nomination(); v != 7 {
		t.Errorf("Nomination() = %d", v)
	}
	if v, _ := m.ErrorCode(); v != 487 {
		t.Errorf("ErrorCode() = %d", v)
	}
	if v, _ := m.XORMappedAddress(); v != netip.MustParseAddrPort("192.0.2.7:65535") {
		t.Errorf("XORMappedAddress() = %v", v)
	}
	if diff := cmp.Diff([]AttrType{1, 2, 3}, m.UnknownAttributes(nil)); diff != "" {
		t.Error(diff)
	}
	if _, ok := m.ICEControlled(); ok {
		t.Error("ICEControlled() found one")
	}
}

func TestBuilderWithoutTail(t *testing.T) {
	b := Append(nil, BindingIndication, TxID{})
	out := b.End(nil, false)
	if len(out) != HeaderLen {
		t.Fatalf("%d bytes", len(out))
	}
	m := parse(t, out)
	if m.HasIntegrity() || m.HasFingerprint() || m.CheckIntegrity(NewKey("pw")) {
		t.Error("integrity or fingerprint without asking")
	}
}

// Overlong texts and lists are cut instead of making a message nobody can read.
func TestBuilderCuts(t *testing.T) {
	b := Append(nil, BindingError, TxID{})
	b.Username(strings.Repeat("u", 1<<17))
	b.ErrorCode(CodeServerError, strings.Repeat("r", 1<<17))
	b.UnknownAttributes(make([]AttrType, 1<<17))
	m := parse(t, b.End(NewKey("pw"), true))
	if v, _ := m.Username(); len(v) != maxText {
		t.Errorf("username of %d bytes", len(v))
	}
	if v, _ := m.Attr(AttrErrorCode); len(v) != 4+maxText {
		t.Errorf("error of %d bytes", len(v))
	}
	if got := m.UnknownAttributes(nil); len(got) != maxUnknown {
		t.Errorf("%d unknown attributes", len(got))
	}
}

// The first byte of a message must keep its two top bits clear, or a demultiplexer takes it for
// something else (RFC 7983 §7).
func TestBuilderMasksType(t *testing.T) {
	b := Append(nil, 0xffff, TxID{})
	if out := b.End(nil, false); out[0] != 0x3f || out[1] != 0xff {
		t.Errorf("type %x", out[:2])
	}
}

// check is the message an ICE agent sends most.
func check(dst []byte, tx TxID, k *Key) []byte {
	b := Append(dst, BindingRequest, tx)
	b.Username("remoteufrag:localufrag")
	b.Priority(0x6e0001ff)
	b.ICEControlling(1<<64 - 1)
	b.UseCandidate()
	b.Nomination(2)
	return b.End(k, true)
}

func answer(dst []byte, m *Message, from netip.AddrPort, k *Key) []byte {
	b := Append(dst, BindingSuccess, m.Tx)
	b.XORMappedAddress(from)
	return b.End(k, true)
}

func TestNoAllocation(t *testing.T) {
	k := NewKey(vectorPassword)
	dst := make([]byte, 0, 512)
	from := netip.MustParseAddrPort("[2001:db8::1]:4242")
	var unknown [maxUnknown]AttrType
	refused := request().attr(0x0003).attr(0x0042)
	corrupt := append([]byte(nil), vectorRequest...)
	corrupt[len(corrupt)-1] ^= 1
	sum := 0
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"parse and check", func() {
			var m Message
			if m.Parse(vectorRequest) != nil || !m.CheckIntegrity(k) {
				t.Fatal("does not verify")
			}
			u, _ := m.Username()
			p, _ := m.Priority()
			c, _ := m.ICEControlled()
			sum += len(u) + int(p) + int(c)
		}},
		{"parse garbage", func() {
			var m Message
			if m.Parse(corrupt) == nil {
				t.Fatal("parsed")
			}
		}},
		{"append check", func() { sum += len(check(dst, TxID{1}, k)) }},
		{"answer", func() {
			var m Message
			if m.Parse(vectorRequest) != nil {
				t.Fatal("does not parse")
			}
			sum += len(answer(dst, &m, from, k))
		}},
		{"refuse", func() {
			var m Message
			if m.Parse(refused) != nil {
				t.Fatal("does not parse")
			}
			b := Append(dst, BindingError, m.Tx)
			b.ErrorCode(CodeUnknownAttribute, "Unknown Attribute")
			b.UnknownAttributes(m.UnknownRequired(unknown[:0]))
			sum += len(b.End(k, true))
		}},
	} {
		if n := testing.AllocsPerRun(200, tt.do); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
	_ = sum
}

func BenchmarkParseAndCheck(b *testing.B) {
	k := NewKey(vectorPassword)
	b.ReportAllocs()
	for b.Loop() {
		var m Message
		if m.Parse(vectorRequest) != nil || !m.CheckIntegrity(k) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkAppendCheck(b *testing.B) {
	k := NewKey(vectorPassword)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		check(dst, TxID{1}, k)
	}
}
