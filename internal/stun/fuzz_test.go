package stun

import (
	"bytes"
	"encoding/base64"
	"testing"
)

// FuzzParse feeds anything to the parser. What it takes must be readable in full, must be read
// alike by pion, and must not verify under a key nobody used.
func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{vectorRequest, vectorResponse4, vectorResponse6, vectorLongTerm} {
		f.Add(b)
	}
	for _, s := range browserMessages {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(request().attr(0x0003).attr(AttrErrorCode, 0, 0, 4, 20).attr(AttrUnknownAttributes, 0, 1, 0, 2)))
	f.Add([]byte(request().attr(AttrMessageIntegritySHA256, make([]byte, 32)...).integrity("pw").attr(0x0003).fingerprint()))
	key := NewKey("a password of the fuzz test alone")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := append([]byte(nil), b...)
		var m Message
		err := m.Parse(b)
		m.Username()
		m.Software()
		m.XORMappedAddress()
		m.Priority()
		m.ICEControlled()
		m.ICEControlling()
		m.UseCandidate()
		m.Nomination()
		m.ErrorCode()
		if n := len(m.UnknownAttributes(nil)); n > maxUnknown {
			t.Fatalf("%d unknown attributes", n)
		}
		if n := len(m.UnknownRequired(nil)); n > maxUnknown {
			t.Fatalf("%d unknown required attributes", n)
		}
		if m.CheckIntegrity(key) {
			t.Fatal("verifies under a key nobody used")
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the message was changed")
		}
		if err == nil {
			comparePion(t, b)
		}
	})
}

// FuzzBuild writes a message of whatever it is given and reads it back.
func FuzzBuild(f *testing.F) {
	f.Add("remote:local", "sotto", "Role Conflict", "password", uint16(487), uint64(1<<63), true)
	f.Add("", "", "", "", uint16(0), uint64(0), false)
	f.Fuzz(func(t *testing.T, username, software, reason, password string, code uint16, number uint64, fingerprint bool) {
		k := NewKey(password)
		b := Append(nil, BindingError, TxID{1})
		b.Username(username)
		b.Software(software)
		b.ErrorCode(int(code), reason)
		b.ICEControlled(number)
		b.Priority(uint32(number))
		out := b.End(k, fingerprint)
		m := parse(t, out)
		if !m.CheckIntegrity(k) || m.HasFingerprint() != fingerprint {
			t.Fatalf("%x does not verify", out)
		}
		if v, ok := m.Username(); !ok || string(v) != username[:min(len(username), maxText)] {
			t.Fatalf("username %q", v)
		}
		if v, ok := m.Software(); !ok || string(v) != software[:min(len(software), maxText)] {
			t.Fatalf("software %q", v)
		}
		if v, ok := m.ICEControlled(); !ok || v != number {
			t.Fatalf("tie-breaker %d", v)
		}
		if v, ok := m.ErrorCode(); code >= 300 && code < 700 && (!ok || v != int(code)) {
			t.Fatalf("code %d, want %d", v, code)
		}
		comparePion(t, out)
	})
}
