package rtp

import (
	"bytes"
	"testing"
)

// FuzzHeader feeds anything to the header view; what it takes is read alike by pion, and values
// lie inside of the header.
func FuzzHeader(f *testing.F) {
	f.Add(packet(profileOneByte, 0x10, 'a', 0x21, 'b', 'c', 0xf0, 0))
	f.Add(packet(profileTwoByte, 1, 1, 'a', 0, 200, 2, 'b', 'c'))
	f.Add(packet(profileOneByte, 0x01, 'x', 0x20))
	f.Add(packet(0x1234, 1, 2, 3))
	padded := append(AppendHeader(nil, true, 97, 65535, 1<<32-1, 1, false), 1, 2, 3, 2)
	padded[0] |= flagPadding | 0x01
	f.Add(padded)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := append([]byte(nil), b...)
		var h Header
		if ok := h.Parse(b); !ok && h.HeaderLen != 0 {
			t.Fatal("something is left after a refusal")
		}
		total := 0
		for id, v := range h.Extensions {
			if id == 0 || v == nil || h.Extension(id) == nil {
				t.Fatalf("element %d %x", id, v)
			}
			total += len(v)
		}
		if h.HeaderLen > len(b) || total > len(h.ext) {
			t.Fatalf("header of %d bytes with %d of values in %d", h.HeaderLen, total, len(b))
		}
		comparePion(t, b)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was changed")
		}
	})
}

// FuzzExtensionWriter writes elements cut out of the input and reads them back.
func FuzzExtensionWriter(f *testing.F) {
	f.Add([]byte{1, 2, 'a', 'b', 2, 1, 'c'})
	f.Add([]byte{1, 2, 'a', 'b', 15, 1, 'c', 3, 0})
	f.Add(append([]byte{1, 1, 'a', 2, 17}, "0123456789abcdefg"...))
	f.Fuzz(func(t *testing.T, in []byte) {
		w := BeginExtensions(AppendHeader(nil, false, 96, 1, 2, 3, true))
		var want []element
		for len(in) >= 2 && len(in) <= 2048 { // more than any datagram here holds
			id, n := in[0], min(int(in[1]), len(in)-2)
			v := in[2 : 2+n]
			in = in[2+n:]
			w.Add(id, v)
			if id != 0 {
				want = append(want, element{id, string(v)})
			}
		}
		b := w.End()
		h, got := elements(t, b)
		if h.HeaderLen != len(b) || len(got) != len(want) {
			t.Fatalf("%x: %d of %d elements", b, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("element %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// FuzzPayload feeds anything to the payload readers; descriptors are read alike by pion.
func FuzzPayload(f *testing.F) {
	f.Add([]byte{0x90, 0xf0, 0x81, 0x02, 7, 0x20, 0x00})
	f.Add([]byte{0xab, 0x80, 0x01, 0x00, 0x05, 0x18, 1, 64, 0, 180, 1, 0x14, 1, 0x82})
	f.Add([]byte{0xd8, 0x80, 0x01, 0x03, 0x03, 0x02})
	f.Add([]byte{0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce})
	f.Add([]byte{0x7c, 0x85, 0x88})
	f.Add(spsBaseline)
	f.Add(spsHigh)
	f.Add(append([]byte{0x78, 0, byte(len(spsFields))}, spsFields...))
	f.Add([]byte{0x18, 0x0a})
	f.Fuzz(func(t *testing.T, b []byte) {
		compareVP8(t, b)
		compareVP9(t, b)
		for c := range codecCount {
			KeyFrame(c, b)
			if w, h := PictureSize(c, b); w > largestSide || h > largestSide || (w == 0) != (h == 0) {
				t.Fatalf("%x: %d x %d", b, w, h)
			}
		}
	})
}

// FuzzRTX strips whatever it is given, and wraps and strips it again.
func FuzzRTX(f *testing.F) {
	f.Add(AppendRTX(withExtension(nil, true, 97, 7, 1), 3, []byte("payload")), uint16(3))
	f.Add(withExtension(nil, false, 97, 7, 1), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, osn uint16) {
		var h Header
		if !h.Parse(b) {
			return
		}
		n := len(b)
		payload := append([]byte(nil), b[h.HeaderLen:]...)
		got, ok := StripRTX(b, &h, 96, 4)
		if ok && (len(got) != n-OSNLen || !bytes.Equal(got[h.HeaderLen:], payload[OSNLen:])) {
			t.Fatalf("%x became %x", b, got)
		}
		if !ok && len(got) != n {
			t.Fatal("shortened without an original")
		}
		var again Header
		if !again.Parse(got) || ok && (again.PayloadType != 96 || again.SSRC != 4 || again.SequenceNumber != h.SequenceNumber) {
			t.Fatalf("%x does not parse alike", got)
		}

		wrapped := AppendRTX(withExtension(nil, true, 97, 7, 1), osn, payload)
		h.Parse(wrapped)
		got, ok = StripRTX(wrapped, &h, 96, 4)
		if !ok || h.SequenceNumber != osn || !bytes.Equal(got[h.HeaderLen:], payload) {
			t.Fatalf("%x does not come back", payload)
		}
	})
}
