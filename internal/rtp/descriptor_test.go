package rtp

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp/codecs"
)

func flag(x uint8) bool { return x != 0 }

func compareVP8(t *testing.T, b []byte) {
	t.Helper()
	var d VP8Descriptor
	ok := d.Parse(b)
	var theirs codecs.VP8Packet
	rest, err := theirs.Unmarshal(b)
	if ok != (err == nil) {
		t.Fatalf("%x: parsed %t, pion %v", b, ok, err)
	}
	if !ok {
		if d != (VP8Descriptor{}) {
			t.Fatalf("%x: left %+v", b, d)
		}
		return
	}
	want := VP8Descriptor{
		NonReference: flag(theirs.N), StartPartition: flag(theirs.S), Partition: theirs.PID,
		PictureID: theirs.PictureID, HasTL0PicIdx: flag(theirs.L), TL0PicIdx: theirs.TL0PICIDX,
		HasTID: flag(theirs.T), TID: theirs.TID, LayerSync: flag(theirs.Y),
		HasKeyIdx: flag(theirs.K), KeyIdx: theirs.KEYIDX, Len: len(b) - len(rest),
		PictureIDBits: d.PictureIDBits, // pion forgets the form
	}
	if d != want {
		t.Fatalf("%x: %s", b, cmp.Diff(want, d))
	}
	if flag(theirs.I) != (d.PictureIDBits != 0) || d.PictureID >= 1<<max(d.PictureIDBits, 1) {
		t.Fatalf("%x: picture id %d of %d bits", b, d.PictureID, d.PictureIDBits)
	}
}

func compareVP9(t *testing.T, b []byte) {
	t.Helper()
	var d VP9Descriptor
	ok := d.Parse(b)
	var theirs codecs.VP9Packet
	rest, err := theirs.Unmarshal(b)
	if err != nil && err.Error() == "too many spatial layers" {
		return // RFC 9628 has eight, pion stops at five
	}
	if ok != (err == nil) {
		t.Fatalf("%x: parsed %t, pion %v", b, ok, err)
	}
	if !ok {
		if d != (VP9Descriptor{}) {
			t.Fatalf("%x: left %+v", b, d)
		}
		return
	}
	want := VP9Descriptor{
		InterPicture: theirs.P, Flexible: theirs.F, StartFrame: theirs.B, EndFrame: theirs.E,
		NotReference: theirs.Z, PictureID: theirs.PictureID, HasLayers: theirs.L,
		TID: theirs.TID, SwitchingUp: theirs.U, SID: theirs.SID, InterLayer: theirs.D,
		TL0PicIdx: theirs.TL0PICIDX, HasStructure: theirs.V, Len: len(b) - len(rest),
		PictureIDBits: d.PictureIDBits, NumDifferences: uint8(len(theirs.PDiff)),
	}
	copy(want.Differences[:], theirs.PDiff)
	if theirs.V {
		want.SpatialLayers = theirs.NS + 1
		if theirs.Y {
			want.Width, want.Height = theirs.Width[theirs.NS], theirs.Height[theirs.NS]
		}
	}
	if d != want {
		t.Fatalf("%x: %s", b, cmp.Diff(want, d))
	}
	if theirs.I != (d.PictureIDBits != 0) || d.PictureID >= 1<<max(d.PictureIDBits, 1) {
		t.Fatalf("%x: picture id %d of %d bits", b, d.PictureID, d.PictureIDBits)
	}
}

func TestDescriptorsLikePion(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 100000 {
		b := randomBytes(r, 1+r.IntN(24))
		compareVP8(t, b)
		compareVP9(t, b)
	}
	// Every first two bytes, cut off everywhere.
	for i := range 1 << 16 {
		b := binary.BigEndian.AppendUint16(nil, uint16(i))
		b = append(b, 0xc1, 0x82, 0x43, 0x04, 0xff, 0x18)
		for n := range len(b) + 1 {
			compareVP8(t, b[:n:n])
			compareVP9(t, b[:n:n])
		}
	}
}

// Packets that pion's payloaders make begin a key frame exactly where they should.
func TestKeyFrameOfPionPayloads(t *testing.T) {
	key := append([]byte{0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00}, make([]byte, 3000)...)
	inter := append([]byte{0x11, 0x02, 0x00}, make([]byte, 3000)...)
	vp8 := &codecs.VP8Payloader{EnablePictureID: true}
	keyVP9 := append([]byte{0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x36}, make([]byte, 3000)...)
	interVP9 := append([]byte{0x86, 0x00, 0x40, 0x92, 0x88}, make([]byte, 3000)...)
	vp9 := &codecs.VP9Payloader{InitialPictureIDFn: func() uint16 { return 0x7ffe }}
	h264 := &codecs.H264Payloader{}
	annexB := func(nals ...[]byte) (b []byte) {
		for _, n := range nals {
			b = append(append(b, 0, 0, 0, 1), n...)
		}
		return b
	}
	slice := func(head byte) []byte {
		b := append([]byte{head}, make([]byte, 3000)...)
		for i := range b[1:] {
			b[1+i] = byte(i%250 + 1)
		}
		return b
	}
	av1 := &codecs.AV1Payloader{}
	obu := func(head byte, n int) []byte {
		b := []byte{head | 2, byte(n)&0x7f | 0x80, byte(n >> 7)}
		return append(b, make([]byte, n)...)
	}
	for _, tt := range []struct {
		name     string
		codec    Codec
		payloads [][]byte
		want     bool
	}{
		{"vp8 key", VP8, vp8.Payload(1200, key), true},
		{"vp8 inter", VP8, vp8.Payload(1200, inter), false},
		{"vp9 key", VP9, vp9.Payload(1200, keyVP9), true},
		{"vp9 inter", VP9, vp9.Payload(1200, interVP9), false},
		{"h264 key", H264, h264.Payload(1200, annexB([]byte{0x67, 0x42, 0xe0, 0x1f}, []byte{0x68, 0xce, 0x3c, 0x80}, slice(0x65))), true},
		{"h264 inter", H264, h264.Payload(1200, annexB(slice(0x41))), false},
		{"av1 key", AV1, av1.Payload(1200, append(obu(1<<3, 11), obu(6<<3, 3000)...)), true},
		{"av1 inter", AV1, av1.Payload(1200, obu(6<<3, 3000)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.payloads) < 2 {
				t.Fatalf("%d packets", len(tt.payloads))
			}
			if got := KeyFrame(tt.codec, tt.payloads[0]); got != tt.want {
				t.Errorf("first packet: %t", got)
			}
			for i, p := range tt.payloads[1:] {
				// An H264 payloader may send the parameter sets before the picture.
				if KeyFrame(tt.codec, p) && (tt.codec != H264 || !tt.want) {
					t.Errorf("packet %d begins a key frame", 1+i)
				}
			}
		})
	}
}
