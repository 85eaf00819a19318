package stun

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/stun/v4"
)

// attribute is one attribute in a form both implementations can write.
type attribute struct {
	typ    AttrType
	text   string
	number uint64
	addr   netip.AddrPort
	types  []AttrType
}

func randomText(r *rand.Rand, limit int) string {
	b := make([]byte, r.IntN(limit))
	for i := range b {
		b[i] = byte('!' + r.IntN(90))
	}
	return string(b)
}

func randomAttribute(r *rand.Rand) attribute {
	a := attribute{text: randomText(r, 60), number: r.Uint64()}
	if port := uint16(r.Uint32()); r.IntN(2) == 0 {
		a.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(r.Uint32()), 1, 2, 3}), port)
	} else {
		a.addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(r.Uint32()), 15: 9}), port)
	}
	for range r.IntN(5) {
		a.types = append(a.types, AttrType(r.Uint32()))
	}
	all := []AttrType{
		AttrUsername, AttrSoftware, AttrXORMappedAddress, AttrPriority, AttrICEControlled,
		AttrICEControlling, AttrUseCandidate, AttrNomination, AttrErrorCode, AttrUnknownAttributes,
	}
	a.typ = all[r.IntN(len(all))]
	return a
}

func (a attribute) ours(b *Builder) {
	switch a.typ {
	case AttrUsername:
		b.Username(a.text)
	case AttrSoftware:
		b.Software(a.text)
	case AttrXORMappedAddress:
		b.XORMappedAddress(a.addr)
	case AttrPriority:
		b.Priority(uint32(a.number))
	case AttrICEControlled:
		b.ICEControlled(a.number)
	case AttrICEControlling:
		b.ICEControlling(a.number)
	case AttrUseCandidate:
		b.UseCandidate()
	case AttrNomination:
		b.Nomination(uint32(a.number))
	case AttrErrorCode:
		b.ErrorCode(300+int(a.number%400), a.text)
	case AttrUnknownAttributes:
		b.UnknownAttributes(a.types)
	}
}

func bigEndian(n uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[size-1-i] = byte(n)
		n >>= 8
	}
	return b
}

func (a attribute) theirs(m *pion.Message) error {
	switch a.typ {
	case AttrUsername:
		return pion.NewUsername(a.text).AddTo(m)
	case AttrSoftware:
		return pion.NewSoftware(a.text).AddTo(m)
	case AttrXORMappedAddress:
		return (&pion.XORMappedAddress{IP: net.IP(a.addr.Addr().AsSlice()), Port: int(a.addr.Port())}).AddTo(m)
	case AttrPriority, AttrNomination:
		m.Add(pion.AttrType(a.typ), bigEndian(a.number, 4))
	case AttrICEControlled, AttrICEControlling:
		m.Add(pion.AttrType(a.typ), bigEndian(a.number, 8))
	case AttrUseCandidate:
		m.Add(pion.AttrUseCandidate, nil)
	case AttrErrorCode:
		return pion.ErrorCodeAttribute{Code: pion.ErrorCode(300 + a.number%400), Reason: []byte(a.text)}.AddTo(m)
	case AttrUnknownAttributes:
		var u pion.UnknownAttributes
		for _, t := range a.types {
			u = append(u, pion.AttrType(t))
		}
		return u.AddTo(m)
	default:
		return fmt.Errorf("no attribute %#x", a.typ)
	}
	return nil
}

// Both implementations write the same bytes for the same message.
func TestBuildLikePion(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	types := []Type{BindingRequest, BindingIndication, BindingSuccess, BindingError}
	for i := range 5000 {
		typ := types[r.IntN(len(types))]
		var tx TxID
		for j := range tx {
			tx[j] = byte(r.Uint32())
		}
		password := randomText(r, 100)
		ours := Append(nil, typ, tx)
		theirs := new(pion.Message)
		theirs.Type.ReadValue(uint16(typ))
		theirs.TransactionID = tx
		theirs.WriteHeader()
		var attrs []attribute
		for range r.IntN(8) {
			a := randomAttribute(r)
			attrs = append(attrs, a)
			a.ours(&ours)
			if err := a.theirs(theirs); err != nil {
				t.Fatal(err)
			}
		}
		var k *Key
		if r.IntN(4) != 0 {
			k = NewKey(password)
			if err := pion.NewShortTermIntegrity(password).AddTo(theirs); err != nil {
				t.Fatal(err)
			}
		}
		fingerprint := r.IntN(4) != 0
		if fingerprint {
			if err := pion.Fingerprint.AddTo(theirs); err != nil {
				t.Fatal(err)
			}
		}
		got := ours.End(k, fingerprint)
		if !bytes.Equal(got, theirs.Raw) {
			t.Fatalf("message %d, %+v:\nours   %x\ntheirs %x", i, attrs, got, theirs.Raw)
		}
		comparePion(t, theirs.Raw)
		if k != nil && !parse(t, theirs.Raw).CheckIntegrity(k) {
			t.Fatalf("integrity of %x does not verify", theirs.Raw)
		}
		decoded := &pion.Message{Raw: got}
		if err := decoded.Decode(); err != nil {
			t.Fatal(err)
		}
		if k != nil {
			if err := pion.NewShortTermIntegrity(password).Check(decoded); err != nil {
				t.Fatalf("pion: %v", err)
			}
		}
		if fingerprint {
			if err := pion.Fingerprint.Check(decoded); err != nil {
				t.Fatalf("pion: %v", err)
			}
		}
	}
}

// comparePion checks that pion reads from b what we do, if we read it at all: we are the
// stricter one.
func comparePion(t *testing.T, b []byte) {
	t.Helper()
	var m Message
	err := m.Parse(b)
	theirs := &pion.Message{Raw: append([]byte(nil), b...)}
	theirErr := theirs.Decode()
	if err != nil {
		return
	}
	if theirErr != nil {
		t.Fatalf("we take %x, pion says %v", b, theirErr)
	}
	if uint16(m.Type) != theirs.Type.Value() || m.Tx != theirs.TransactionID {
		t.Fatalf("%x: type %#x, pion %#x", b, m.Type, theirs.Type.Value())
	}
	if uint16(m.Type.Method()) != uint16(theirs.Type.Method) || byte(m.Type.Class()) != byte(theirs.Type.Class) {
		t.Fatalf("%x: method %#x class %d, pion %v", b, m.Type.Method(), m.Type.Class(), theirs.Type)
	}
	if m.HasFingerprint() {
		if err := pion.Fingerprint.Check(theirs); err != nil {
			t.Fatalf("%x: pion: %v", b, err)
		}
	}
	for typ := range 0x10000 {
		if typ > 0x100 && typ < 0x7ff0 || typ > 0x8100 && typ < 0xbff0 || typ > 0xc100 {
			continue // sample the space where attributes live, not all of it
		}
		if typ == 0x8020 || typ == int(AttrXORMappedAddress) {
			continue // pion takes the first, of a draft, for the second
		}
		ours, ok := m.Attr(AttrType(typ))
		attr, there := theirs.Attributes.Get(pion.AttrType(typ))
		if m.integritySHA256 != 0 && !there != !ok {
			// pion keeps what follows a SHA-256 integrity only if SHA-1 came before.
			continue
		}
		if ok != there || ok && !bytes.Equal(ours, attr.Value) {
			t.Fatalf("%x: attribute %#x: ours %x %t, pion %x %t", b, typ, ours, ok, attr.Value, there)
		}
	}
	if a, ok := m.XORMappedAddress(); ok {
		if v, _ := m.Attr(AttrXORMappedAddress); v[0] == 0 { // pion wants the reserved byte clear
			var x pion.XORMappedAddress
			if err := x.GetFrom(theirs); err == nil {
				ip, _ := netip.AddrFromSlice(x.IP)
				if want := netip.AddrPortFrom(ip.Unmap(), uint16(x.Port)); a != want {
					t.Fatalf("%x: address %v, pion %v", b, a, want)
				}
			}
		}
	}
	if code, ok := m.ErrorCode(); ok {
		var e pion.ErrorCodeAttribute
		if err := e.GetFrom(theirs); err != nil || int(e.Code) != code {
			t.Fatalf("%x: error %d, pion %d %v", b, code, e.Code, err)
		}
	}
	var u pion.UnknownAttributes
	if err := u.GetFrom(theirs); err == nil && len(u) <= maxUnknown {
		var want []AttrType
		for _, typ := range u {
			want = append(want, AttrType(typ))
		}
		if diff := cmp.Diff(want, m.UnknownAttributes(nil)); diff != "" {
			t.Fatalf("%x: %s", b, diff)
		}
	}
}

func TestTypeLikePion(t *testing.T) {
	for v := range uint16(0x4000) {
		var theirs pion.MessageType
		theirs.ReadValue(v)
		if m, c := Type(v).Method(), Type(v).Class(); uint16(m) != uint16(theirs.Method) || byte(c) != byte(theirs.Class) {
			t.Fatalf("%#x: method %#x class %d, pion %v", v, m, c, theirs)
		}
	}
}

// browserMessages are checks as browsers sent them to a public server: Chrome 55 with and without
// SOFTWARE, Firefox 50 with its fingerprint.
var browserMessages = []string{
	"AAEAACESpEJaU3lNekUycUIveEc=",
	"AAEACCESpEL/qLJHuDKc5PsGghOAKAAEqgN+GQ==",
	"AAEAGCESpEJraER2VEl6aWJ1ZGiALwARaHR0cHM6Ly9jeWRldi5ydS8AAAA=",
}

func TestBrowserMessages(t *testing.T) {
	for _, s := range browserMessages {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if m := parse(t, b); m.Type != BindingRequest || m.HasIntegrity() {
			t.Errorf("%s: type %#x", s, m.Type)
		}
		comparePion(t, b)
	}
}
