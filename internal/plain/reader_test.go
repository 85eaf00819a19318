package plain_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/plain"
)

// packed has one field of each that a Reader reads.
type packed struct {
	A    uint8
	B    uint16
	C    uint32
	D    uint64 // of six bytes
	E    uint64
	Yes  bool
	Name string
	Addr netip.Addr
	Raw  string // of three bytes
}

func (p *packed) append(b []byte) []byte {
	b = append(b, p.A)
	b = binary.BigEndian.AppendUint16(b, p.B)
	b = binary.BigEndian.AppendUint32(b, p.C)
	b = plain.AppendUint(b, 6, p.D)
	b = binary.BigEndian.AppendUint64(b, p.E)
	b = plain.AppendBool(b, p.Yes)
	b = plain.AppendName(b, p.Name)
	b = plain.AppendAddr(b, p.Addr)
	return append(b, p.Raw...)
}

func readPacked(r *plain.Reader) packed {
	return packed{
		A: r.Uint8(), B: r.Uint16(), C: r.Uint32(), D: r.Uint(6), E: r.Uint64(), Yes: r.Bool(), Name: r.Name(), Addr: r.Addr(),
		Raw: string(r.Take(3)),
	}
}

func packedSample() packed {
	return packed{
		A: 0x01, B: 0x0203, C: 0x04050607, D: 0x08090a0b0c0d, E: 0x0e0f101112131415, Yes: true, Name: "n",
		Addr: netip.MustParseAddr("198.18.0.1"), Raw: "raw",
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestReaderReadsWhatIsAppended(t *testing.T) {
	in := packedSample()
	b := in.append(nil)
	want := "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x01\x00n\x04\xc6\x12\x00\x01raw"
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Errorf("the form has changed: %s", d)
	}
	r := plain.Read(append(b, "rest"...))
	if d := cmp.Diff(in, readPacked(&r), sameAddr); d != "" {
		t.Error(d)
	}
	if got := string(r.Rest()); got != "rest" || !r.OK() {
		t.Errorf("left %q, error %v", got, r.Err())
	}
	if err := r.End(); !errors.Is(err, plain.ErrMalformed) {
		t.Errorf("End with something left: %v", err)
	}
}

func TestReaderAddresses(t *testing.T) {
	for text, back := range map[string]string{
		"198.18.0.1": "198.18.0.1", "2001:db8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1", "::ffff:198.18.0.1": "198.18.0.1",
	} {
		r := plain.Read(plain.AppendAddr(nil, netip.MustParseAddr(text)))
		if got := r.Addr(); got != netip.MustParseAddr(back) || r.End() != nil {
			t.Errorf("%s: read %s, error %v", text, got, r.End())
		}
	}
	r := plain.Read(plain.AppendAddr(nil, netip.Addr{}))
	if got := r.Addr(); got.IsValid() || r.End() != nil {
		t.Errorf("none: read %s, error %v", got, r.End())
	}
	mapped := netip.MustParseAddr("::ffff:198.18.0.1").As16()
	for name, b := range map[string][]byte{"of five bytes": {5, 1, 2, 3, 4, 5}, "mapped": append([]byte{16}, mapped[:]...)} {
		r := plain.Read(b)
		if got := r.Addr(); got.IsValid() || !errors.Is(r.Err(), plain.ErrMalformed) {
			t.Errorf("%s: read %s, error %v", name, got, r.Err())
		}
	}
}

func TestReaderNames(t *testing.T) {
	for _, n := range []int{1, 255, 256} {
		name := strings.Repeat("x", n)
		r := plain.Read(plain.AppendName(nil, name))
		if got := r.Name(); got != name || r.End() != nil {
			t.Errorf("%d bytes: read %d, error %v", n, len(got), r.End())
		}
	}
}

// After the first error every field is zero, however much there still is to read.
func TestReaderStopsAtTheFirstError(t *testing.T) {
	r := plain.Read([]byte{2, 1, 1, 1, 1, 1, 1, 1, 1})
	if r.Bool() || r.OK() || !errors.Is(r.Err(), plain.ErrMalformed) {
		t.Fatalf("a bool of 2: %v", r.Err())
	}
	if r.Uint8() != 0 || r.Uint32() != 0 || r.Bool() || r.Name() != "" || r.Addr().IsValid() || r.Take(0) != nil || len(r.Rest()) != 0 {
		t.Error("read on after the error")
	}
	whole := func() []byte { s := packedSample(); return s.append(nil) }()
	for n := range whole {
		r := plain.Read(whole[:n])
		readPacked(&r)
		if !errors.Is(r.End(), plain.ErrMalformed) {
			t.Fatalf("cut after %d bytes: read without an error", n)
		}
	}
	r = plain.Read([]byte{1, 2})
	if r.Take(-1) != nil || r.OK() {
		t.Error("took a negative number of bytes")
	}
}

func FuzzPacked(f *testing.F) {
	in := packedSample()
	f.Add(in.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := plain.Read(b)
		p := readPacked(&r)
		if !r.OK() {
			return
		}
		if again := append(p.append(nil), r.Rest()...); !bytes.Equal(again, b) {
			t.Errorf("read and written again it differs:\n%x\n%x", b, again)
		}
	})
}
