package layer

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// facts is the part of an Info that users see.
type facts struct {
	Key, Start, End, Switch bool
	Spatial, Temporal       uint8
}

func (in *Info) facts() facts {
	return facts{in.Key, in.Start, in.End, in.Switch, in.Spatial, in.Temporal}
}

func TestNonSymmetric(t *testing.T) {
	// The table of appendix A.8.2 for n = 5.
	for want, code := range []struct{ bits, v int }{{2, 0}, {2, 1}, {2, 2}, {3, 6}, {3, 7}} {
		b, _ := appendBits(nil, 0, uint32(code.v), code.bits)
		r := bitReader{b: b}
		if got := r.nonSymmetric(5); int(got) != want || r.at != code.bits || r.bad {
			t.Errorf("ns(5) of %0*b = %d over %d bits, want %d", code.bits, code.v, got, r.at, want)
		}
	}
	r := bitReader{b: []byte{0xff}}
	if r.read(9) != 0 || !r.bad {
		t.Error("read over the end unnoticed")
	}
}

func TestParsePayloads(t *testing.T) {
	tests := []struct {
		name    string
		codec   rtp.Codec
		payload string
		marker  bool
		want    facts
		layers  Layers
	}{
		// RFC 7741 §4.6: a key frame in one packet, as a decoder without the extension sees it.
		{"vp8 plain key", rtp.VP8, "1000", true, facts{Key: true, Start: true, End: true, Switch: true}, Layers{1, 1}},
		{"vp8 plain inter", rtp.VP8, "1001", false, facts{Start: true}, Layers{1, 1}},
		{"vp8 second partition", rtp.VP8, "1100", false, facts{}, Layers{1, 1}},
		{"vp8 15 bit id, tl0, tid 2, sync, keyidx", rtp.VP8, "90f0" + "8123" + "44" + "a5" + "01", true, facts{Start: true, End: true, Switch: true, Temporal: 2}, Layers{1, 3}},
		{"vp8 7 bit id, tid 1", rtp.VP8, "80a0" + "11" + "40" + "01", false, facts{Temporal: 1}, Layers{1, 2}},
		{"vp8 cut off", rtp.VP8, "90f081", true, facts{End: true}, Layers{}},
		{"empty", rtp.VP8, "", false, facts{}, Layers{}},
		// RFC 9628 §4.2.
		{"vp9 flexible key", rtp.VP9, "bc" + "8123" + "00" + "82", false, facts{Key: true, Start: true, End: true, Switch: true}, Layers{1, 1}},
		{"vp9 flexible, layer 1 of a key picture", rtp.VP9, "bc" + "8123" + "03", true, facts{Start: true, End: true, Switch: true, Spatial: 1}, Layers{2, 1}},
		{"vp9 flexible inter, two differences", rtp.VP9, "f8" + "8123" + "34" + "0306", false, facts{Start: true, Switch: true, Spatial: 2, Temporal: 1}, Layers{3, 2}},
		{"vp9 not flexible, temporal 2", rtp.VP9, "e4" + "8123" + "40" + "09", false, facts{End: true, Temporal: 2}, Layers{1, 3}},
		{"vp9 four differences", rtp.VP9, "f8" + "8123" + "34" + "03030303", false, facts{}, Layers{}},
		{"av1 key", rtp.AV1, "1800", false, facts{Key: true, Start: true}, Layers{1, 1}},
		{"av1 inter", rtp.AV1, "1000", true, facts{Start: true, End: true}, Layers{1, 1}},
		{"h264 idr", rtp.H264, "6588", true, facts{Key: true, Start: true, End: true}, Layers{1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			in := p.Parse(tt.codec, nil, unhex(t, tt.payload), tt.marker)
			if diff := cmp.Diff(tt.want, in.facts()); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.layers, p.Layers()); diff != "" {
				t.Errorf("Layers (-want +got):\n%s", diff)
			}
		})
	}
}

// captured are descriptors that a browser sent for AV1 L3T3 while its highest spatial layer was off: a key picture, the next two
// pictures, of which some frames take two packets, and then some with nothing but the mandatory fields.
var captured = []struct {
	hex  string
	want facts
	refs []uint16
	// decode targets by rank: 3s+t
	present, begin, active uint64
}{
	{
		"c1017280081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a0941b820ac1282503157f974000ca864330e222222eca8655304224230eca877530077004200ef008601df010d",
		facts{Key: true, Start: true, End: true, Switch: true},
		nil, 0o777, 0o777, 0o777,
	},
	{"86017340fc", facts{Start: true, Switch: true, Spatial: 1}, []uint16{1}, 0o770, 0o770, 0o077},
	{"46017340fc", facts{End: true, Switch: true, Spatial: 1}, []uint16{1}, 0o770, 0o770, 0o077},
	{"c3017540fc", facts{Start: true, End: true, Temporal: 2}, []uint16{3}, 0o444, 0, 0o077},
	{"88017640fc", facts{Start: true, Spatial: 1, Temporal: 2}, []uint16{3, 1}, 0o440, 0, 0o077},
	{"48017640fc", facts{End: true, Spatial: 1, Temporal: 2}, []uint16{3, 1}, 0o440, 0, 0o077},
	{"c2017840fc", facts{Start: true, End: true, Switch: true, Temporal: 1}, []uint16{6}, 0o666, 0o004, 0o077},
	{"860173", facts{Start: true, Switch: true, Spatial: 1}, []uint16{1}, 0o770, 0o770, 0o077},
	{"0b0174", facts{Spatial: 2, Switch: true}, []uint16{1}, 0o700, 0o700, 0o077},
	{"c30175", facts{Start: true, End: true, Temporal: 2}, []uint16{3}, 0o444, 0, 0o077},
}

func TestParseCaptured(t *testing.T) {
	var p Parser
	for _, tt := range captured {
		in := p.Parse(rtp.AV1, unhex(t, tt.hex), []byte{0x10, 0x00}, false)
		if in.unknown {
			t.Fatalf("%.6s: not understood", tt.hex)
		}
		if diff := cmp.Diff(tt.want, in.facts()); diff != "" {
			t.Errorf("%.6s (-want +got):\n%s", tt.hex, diff)
		}
		if got := in.refs[:in.nrefs]; !slices.Equal(got, tt.refs) {
			t.Errorf("%.6s refers to %v, want %v", tt.hex, got, tt.refs)
		}
		if in.present != tt.present || in.begin != tt.begin || in.active != tt.active {
			t.Errorf("%.6s: present %o, begin %o, active %o; want %o, %o, %o", tt.hex, in.present, in.begin, in.active, tt.present, tt.begin, tt.active)
		}
		if int(in.used) > 4*len(tt.hex) || int(in.used) <= 4*len(tt.hex)-8 {
			t.Errorf("%.6s: read %d bits of %d", tt.hex, in.used, 4*len(tt.hex))
		}
	}
	if got, want := p.Layers(), (Layers{3, 3}); got != want {
		t.Errorf("layers %v, want %v", got, want)
	}
	if got, want := p.Size(), (Size{480, 270}); got != want {
		t.Errorf("size %v, want %v", got, want)
	}
}

// The size of H264 is in its parameter sets, also when the key frame that needs them comes in packets of its own.
func TestSizeOfH264(t *testing.T) {
	var p Parser
	set := []byte{
		0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
	}
	for _, payload := range [][]byte{{0x41, 0x9a}, set, {0x68, 0xce, 0x3c, 0x80}, {0x65, 0x88, 0x84, 0x00, 0x10}} {
		p.Parse(rtp.H264, nil, payload, false)
	}
	if got, want := p.Size(), (Size{1280, 720}); got != want {
		t.Errorf("size %v, want %v", got, want)
	}
}
