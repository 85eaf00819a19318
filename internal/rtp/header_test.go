package rtp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pion "github.com/pion/rtp"
)

func TestParseRefuses(t *testing.T) {
	whole := AppendHeader(nil, true, 96, 1, 2, 3, false)
	for _, tt := range []struct {
		name string
		raw  []byte
	}{
		{"empty", nil},
		{"short", whole[:11]},
		{"version 0", append([]byte{0x00}, whole[1:]...)},
		{"version 1", append([]byte{0x40}, whole[1:]...)},
		{"version 3", append([]byte{0xc0}, whole[1:]...)},
		{"CSRC cut off", append(append([]byte{0x81}, whole[1:]...), 0, 0, 0)},
		{"fifteen CSRCs missing", append([]byte{0x8f}, whole[1:]...)},
		{"extension without head", append(append([]byte{0x90}, whole[1:]...), 0xbe, 0xde, 0)},
		{"extension cut off", append(append([]byte{0x90}, whole[1:]...), 0xbe, 0xde, 0, 1, 0, 0, 0)},
		{"extension of 256 KiB", append(append([]byte{0x90}, whole[1:]...), 0xbe, 0xde, 0xff, 0xff)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Header{SSRC: 7, ExtProfile: profileOneByte, ext: []byte{0x10, 1}}
			if h.Parse(tt.raw) {
				t.Error("parsed")
			}
			if diff := cmp.Diff(Header{}, h, cmp.AllowUnexported(Header{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	for _, marker := range []bool{false, true} {
		for _, extension := range []bool{false, true} {
			b := AppendHeader([]byte("before"), marker, 127, 0xfedc, 0xfedcba98, 0x89abcdef, extension)
			if extension {
				w := BeginExtensions(b)
				b = w.End()
			}
			var h Header
			if !h.Parse(b[len("before"):]) {
				t.Fatalf("%x does not parse", b)
			}
			want := Header{
				Marker: marker, PayloadType: 127, SequenceNumber: 0xfedc, Timestamp: 0xfedcba98,
				SSRC: 0x89abcdef, HeaderLen: FixedHeaderLen,
			}
			if extension {
				want.ExtProfile = profileOneByte
				want.HeaderLen += 4
			}
			if diff := cmp.Diff(want, h, cmpopts.IgnoreUnexported(Header{})); diff != "" {
				t.Error(diff)
			}
		}
	}
	// A payload type of eight bits must not become a marker.
	if b := AppendHeader(nil, false, 0xff, 0, 0, 0, false); b[1] != 0x7f {
		t.Errorf("second byte %#x", b[1])
	}
}

func TestPaddingLen(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload []byte
		padding bool
		want    int
	}{
		{"none", []byte{1, 2, 3}, false, 0},
		{"none and empty", nil, false, 0},
		{"one", []byte{1, 2, 1}, true, 1},
		{"two", []byte{1, 0, 2}, true, 2},
		{"all", []byte{0, 0, 3}, true, 3},
		{"too much", []byte{0, 0, 4}, true, -1},
		{"zero", []byte{1, 2, 0}, true, -1},
		{"announced, not there", nil, true, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(AppendHeader(nil, false, 96, 1, 2, 3, false), tt.payload...)
			if tt.padding {
				b[0] |= flagPadding
			}
			var h Header
			if !h.Parse(b) {
				t.Fatal("does not parse")
			}
			if got := PaddingLen(b, &h); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestIsRTCP(t *testing.T) {
	for second := range 256 {
		want := second >= 192 && second <= 223
		if got := IsRTCP([]byte{0x80, byte(second)}); got != want {
			t.Errorf("%d: %t", second, got)
		}
	}
	if IsRTCP(nil) || IsRTCP([]byte{0x80}) {
		t.Error("RTCP in less than two bytes")
	}
}

// comparePion checks that pion reads from b what we do. Pion takes other versions of RTP; we
// take a header whose extension block is malformed inside, as RFC 8285 §4.2 asks.
func comparePion(t *testing.T, b []byte) {
	t.Helper()
	var h Header
	ok := h.Parse(b)
	var theirs pion.Header
	n, err := theirs.Unmarshal(b)
	if err != nil {
		if ok && theirs.ExtensionProfile != profileOneByte && theirs.ExtensionProfile != profileTwoByte {
			t.Fatalf("%x: we take it, pion says %v", b, err)
		}
		return
	}
	if ok != (theirs.Version == version) {
		t.Fatalf("%x: parsed %t, version %d", b, ok, theirs.Version)
	}
	if !ok {
		return
	}
	want := Header{
		Marker: theirs.Marker, Padding: theirs.Padding, PayloadType: theirs.PayloadType,
		SequenceNumber: theirs.SequenceNumber, Timestamp: theirs.Timestamp, SSRC: theirs.SSRC,
		HeaderLen: n,
	}
	if theirs.Extension {
		want.ExtProfile = theirs.ExtensionProfile
	}
	if diff := cmp.Diff(want, h, cmpopts.IgnoreUnexported(Header{})); diff != "" {
		t.Fatalf("%x: %s", b, diff)
	}
	if h.ExtProfile == profileOneByte || h.ExtProfile == profileTwoByte {
		ids := theirs.GetExtensionIDs()
		var got []uint8
		for id := range h.Extensions {
			got = append(got, id)
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Fatalf("%x: %s", b, diff)
		}
		for _, id := range ids {
			v, there := h.Extension(id), theirs.GetExtension(id)
			if v == nil || !bytes.Equal(v, there) {
				t.Fatalf("%x: extension %d: %x, pion %x", b, id, v, there)
			}
		}
	}
	var p pion.Packet
	pad := PaddingLen(b, &h)
	switch err := p.Unmarshal(b); {
	case err != nil && pad >= 0:
		t.Fatalf("%x: padding %d, pion %v", b, pad, err)
	case err == nil && int(p.PaddingSize) != pad:
		t.Fatalf("%x: padding %d, pion %d", b, pad, p.PaddingSize)
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Headers that pion writes are read alike; headers without CSRCs are also written alike.
func TestHeaderLikePion(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		theirs := pion.Header{
			Version: 2, Marker: r.IntN(2) == 0, PayloadType: uint8(r.IntN(128)),
			SequenceNumber: uint16(r.Uint32()), Timestamp: r.Uint32(), SSRC: r.Uint32(),
		}
		twoByte := r.IntN(2) == 0
		for range r.IntN(6) {
			id, n := uint8(1+r.IntN(14)), 1+r.IntN(16)
			if twoByte {
				id, n = uint8(1+r.IntN(255)), r.IntN(256)
			}
			if err := theirs.SetExtension(id, randomBytes(r, n)); err != nil {
				// Pion fixes the form at the first element; such a header is not comparable.
				continue
			}
		}
		raw, err := theirs.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		ours := AppendHeader(nil, theirs.Marker, theirs.PayloadType, theirs.SequenceNumber, theirs.Timestamp, theirs.SSRC, theirs.Extension)
		if theirs.Extension {
			w := BeginExtensions(ours)
			for _, id := range theirs.GetExtensionIDs() {
				w.Add(id, theirs.GetExtension(id))
			}
			ours = w.End()
		}
		// Pion stays in the two-byte form it began with even if nothing needs it.
		if !theirs.Extension || ours[FixedHeaderLen] == raw[FixedHeaderLen] {
			if !bytes.Equal(ours, raw) {
				t.Fatalf("ours %x\npion %x", ours, raw)
			}
		}
		comparePion(t, ours)

		for range r.IntN(3) {
			theirs.CSRC = append(theirs.CSRC, r.Uint32())
		}
		if raw, err = theirs.Marshal(); err != nil {
			t.Fatal(err)
		}
		payload := randomBytes(r, r.IntN(20))
		raw = append(raw, payload...)
		if r.IntN(3) == 0 {
			raw[0] |= flagPadding
			raw[len(raw)-1] = byte(r.IntN(24))
		}
		comparePion(t, raw)
		raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
		comparePion(t, raw[:len(raw)-r.IntN(len(raw))])
	}
}
