package rtp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func withExtension(dst []byte, marker bool, pt uint8, seq uint16, ssrc uint32) []byte {
	w := BeginExtensions(AppendHeader(dst, marker, pt, seq, 9000, ssrc, true))
	w.Add(1, []byte("v0"))
	return w.End()
}

// What was wrapped comes out as it went in.
func TestRTXRoundTrip(t *testing.T) {
	for _, marker := range []bool{false, true} {
		for _, payload := range []string{"", "p", "a payload of some length"} {
			original := append(withExtension(nil, marker, 96, 0xfffe, 0xaaaa), payload...)
			rtx := AppendRTX(withExtension(nil, marker, 97, 7, 0xbbbb), 0xfffe, []byte(payload))
			var h Header
			h.Parse(rtx)
			got, ok := StripRTX(rtx, &h, 96, 0xaaaa)
			if !ok || !bytes.Equal(got, original) {
				t.Errorf("got  %x %t\nwant %x", got, ok, original)
			}
			var want Header
			want.Parse(original)
			if diff := cmp.Diff(want, h, cmp.AllowUnexported(Header{})); diff != "" {
				t.Error(diff)
			}
			if string(h.Extension(1)) != "v0" {
				t.Errorf("extension %q", h.Extension(1))
			}
		}
	}
}

func TestRTXPadding(t *testing.T) {
	rtx := AppendRTX(withExtension(nil, false, 97, 7, 0xbbbb), 3, []byte("payload\x00\x00\x03"))
	rtx[0] |= flagPadding
	var h Header
	h.Parse(rtx)
	got, ok := StripRTX(rtx, &h, 96, 0xaaaa)
	if !ok || PaddingLen(got, &h) != 3 || string(got[h.HeaderLen:len(got)-3]) != "payload" {
		t.Errorf("got %q %t", got, ok)
	}
}

// Probes are RTX packets of padding alone; nothing is inside and nothing is touched.
func TestRTXProbes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload []byte
		padding bool
	}{
		{"empty", nil, false},
		{"half a sequence number", []byte{1}, false},
		{"all padding", []byte{0, 0, 0, 4}, true},
		{"half a sequence number and padding", []byte{1, 0, 0, 3}, true},
		{"malformed padding", []byte{1, 2, 3, 200}, true},
		{"no padding", []byte{1, 2, 3, 0}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(withExtension(nil, false, 97, 7, 0xbbbb), tt.payload...)
			if tt.padding {
				b[0] |= flagPadding
			}
			before := append([]byte(nil), b...)
			var h, unchanged Header
			h.Parse(b)
			unchanged.Parse(before)
			got, ok := StripRTX(b, &h, 96, 0xaaaa)
			if ok || !bytes.Equal(got, before) {
				t.Errorf("got %x %t", got, ok)
			}
			if diff := cmp.Diff(unchanged, h, cmp.AllowUnexported(Header{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOSN(t *testing.T) {
	if seq, ok := OSN([]byte{0x12, 0x34, 0}); !ok || seq != 0x1234 {
		t.Errorf("got %#x %t", seq, ok)
	}
}
