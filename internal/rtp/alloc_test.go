package rtp

import "testing"

// The whole life of a header on the packet path allocates nothing.
func TestNoAllocation(t *testing.T) {
	in := packet(profileOneByte, 0x10, 'a', 0x32, 1, 2, 3, 0x60, 0x85)
	two := packet(profileTwoByte, 1, 1, 'a', 15, 2, 'b', 'c')
	dst := make([]byte, 0, 1500)
	rtx := AppendRTX(nil, 5, []byte("payload"))
	vp9 := []byte{0xab, 0x80, 0x01, 0x00, 0x05, 0x18, 1, 64, 0, 180, 1, 0x14, 1, 0x82}
	codecs := []Codec{Unknown, Opus, VP8, VP9, H264, AV1}
	sum := 0
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"read", func() {
			for _, b := range [][]byte{in, two} {
				var h Header
				if IsRTCP(b) || !h.Parse(b) {
					t.Fatal("does not parse")
				}
				for id, v := range h.Extensions {
					sum += int(id) + len(v)
				}
				level, _, _ := ParseAudioLevel(h.Extension(6))
				sum += int(level) + PaddingLen(b, &h)
			}
		}},
		{"write", func() {
			now := AbsSendTime(1234567890)
			w := BeginExtensions(AppendHeader(dst, true, 96, 1, 2, 3, true))
			w.Add(5, now[:])
			w.Add(1, []byte("v0"))
			sum += len(w.End())
		}},
		{"write in the two-byte form", func() {
			w := BeginExtensions(AppendHeader(dst, true, 96, 1, 2, 3, true))
			w.Add(1, []byte("v0"))
			w.Add(8, vp9)
			w.Add(16, nil)
			sum += len(w.End())
		}},
		{"wrap and strip", func() {
			b := AppendRTX(AppendHeader(dst, false, 97, 1, 2, 3, false), 5, rtx)
			var h Header
			if !h.Parse(b) {
				t.Fatal("does not parse")
			}
			b, ok := StripRTX(b, &h, 96, 4)
			if !ok {
				t.Fatal("does not strip")
			}
			sum += len(b)
		}},
		{"key frames", func() {
			for _, c := range codecs {
				if KeyFrame(c, vp9) {
					sum++
				}
			}
		}},
		{"codec", func() { sum += int(ParseCodec("video/AV1")) }},
		{"sequence", func() { sum += int(Extend(int64(sum), 7)) & 1 }},
	} {
		if n := testing.AllocsPerRun(200, tt.do); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	in := packet(profileOneByte, 0x10, 'a', 0x32, 1, 2, 3, 0x60, 0x85)
	b.ReportAllocs()
	for b.Loop() {
		var h Header
		if !h.Parse(in) || h.Extension(6) == nil {
			b.Fatal("does not parse")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	dst := make([]byte, 0, 64)
	mid, seq := []byte("v0"), []byte{1, 2}
	b.ReportAllocs()
	for b.Loop() {
		now := AbsSendTime(1234567890)
		w := BeginExtensions(AppendHeader(dst, true, 96, 1, 2, 3, true))
		w.Add(1, mid)
		w.Add(4, seq)
		w.Add(5, now[:])
		w.End()
	}
}
