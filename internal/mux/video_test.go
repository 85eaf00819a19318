package mux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtp "github.com/pion/rtp"

	"github.com/sotto-edge/sotto/internal/rtp"
)

var videoCodecs = []rtp.Codec{rtp.VP8, rtp.VP9, rtp.H264, rtp.AV1}

// What goes through packets into a file shows the same pictures as the encoder's own file, to the last pixel.
func TestVideo(t *testing.T) {
	for _, c := range videoCodecs {
		t.Run(c.String(), func(t *testing.T) {
			v := encode(t, c)
			file, name, dropped := record(t, v, nil)
			if dropped != 0 {
				t.Errorf("%d dropped", dropped)
			}
			got := ffprobe(t, file, name)
			want := probe{
				Format: "matroska,webm", Codec: map[rtp.Codec]string{rtp.VP8: "vp8", rtp.VP9: "vp9", rtp.H264: "h264", rtp.AV1: "av1"}[c],
				Width: testWidth, Height: testHeight, Duration: got.Duration, Packets: testRate * testSeconds, Decoded: testRate * testSeconds,
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if math.Abs(got.Duration-testSeconds) > 0.002 {
				t.Errorf("it lasts %v s", got.Duration)
			}
			if d := cmp.Diff(pictures(t, v.source, "source"+v.ext), pictures(t, file, name)); d != "" {
				t.Error("other pictures:", d)
			}
		})
	}
}

// After a loss nothing is written before the next key frame, and what is written decodes without a complaint.
func TestVideoLoss(t *testing.T) {
	for _, c := range videoCodecs {
		t.Run(c.String(), func(t *testing.T) {
			v := encode(t, c)
			clean := pictures(t, v.source, "source"+v.ext)
			for seed := range uint64(4) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				lost := make([]bool, len(v.frames))
				file, name, dropped := record(t, v, func(_ int, p *pionrtp.Packet) bool {
					if rnd.IntN(150) != 0 {
						return true
					}
					lost[int(p.Timestamp)*testRate/90000] = true
					return false
				})
				var want []string
				whole := true
				for i, h := range clean {
					if i%testRate == 0 {
						whole = true
					}
					if whole = whole && !lost[i]; whole {
						want = append(want, h)
					}
				}
				got := pictures(t, file, name)
				if !slices.Equal(got, want) {
					t.Errorf("seed %d: %d pictures, want %d", seed, len(got), len(want))
				}
				if dropped == 0 && slices.Contains(lost, true) {
					t.Errorf("seed %d: nothing counted", seed)
				}
			}
		})
	}
}

// A file that was cut anywhere plays up to the cut, less what was in memory.
func TestVideoCut(t *testing.T) {
	v := encode(t, rtp.VP8)
	file, name, _ := record(t, v, nil)
	cues := bytes.LastIndex(file, appendID(nil, idCues))
	for _, at := range []int{cues, cues - 1, cues * 2 / 3, cues / 2} {
		cut := bytes.Clone(file[:at])
		// The head as it is before Close.
		m := memory{b: cut}
		place := bytes.Index(cut, appendID(nil, idSegment)) + 4
		_, _ = m.WriteAt(appendSize8(nil, unknownSize), int64(place))
		_, _ = m.WriteAt(appendVoid(nil, seekRoom), int64(place)+8)
		p := ffprobe(t, cut, name)
		least := (at*testRate*testSeconds/cues - testRate) // a cluster is a second
		if p.Decoded < least || p.Decoded == 0 {
			t.Errorf("cut at %d of %d: %d pictures, want at least %d", at, cues, p.Decoded, least)
		}
	}
}

// While the disk is full clusters are lost, and only those; the file goes on behind the last whole one.
func TestVideoDiskFull(t *testing.T) {
	v := encode(t, rtp.VP8)
	var m memory
	w, err := NewMatroska(&m, VideoConfig{Codec: rtp.VP8, Width: testWidth, Height: testHeight})
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, f := range v.frames {
		m.full = i > testRate && i <= 2*testRate // the flush that the second key frame after it causes
		if err := w.Write(int64(i)*1e9/testRate, f[0]&1 == 0, f); err != nil {
			if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			failed++
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := ffprobe(t, m.b, "t.webm")
	// The middle second is gone, and with it the key frame whose write failed.
	if failed != 1 || p.Decoded < testRate || p.Decoded >= len(v.frames)-testRate {
		t.Errorf("%d writes failed, %d pictures left", failed, p.Decoded)
	}
	if math.Abs(p.Duration-testSeconds) > 0.002 {
		t.Errorf("it lasts %v s", p.Duration)
	}
}

// The index leads to clusters, whatever their number, and stays small.
func TestCues(t *testing.T) {
	var m memory
	w, err := NewMatroska(&m, VideoConfig{Codec: rtp.VP8, Width: 2, Height: 2})
	if err != nil {
		t.Fatal(err)
	}
	const n = 3*maxCues + 7
	for i := range n {
		if err := w.Write(int64(i)*1e9, true, []byte{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(w.cues) >= maxCues || len(w.cues) < maxCues/4 {
		t.Errorf("%d cues", len(w.cues))
	}
	for i, c := range w.cues {
		b := m.b[w.segment+c.place:]
		if !bytes.HasPrefix(b, appendID(nil, idCluster)) {
			t.Fatalf("cue %d leads to %x", i, b[:8])
		}
		if i > 0 && c.at-w.cues[i-1].at < w.spacing/2 {
			t.Fatalf("cue %d comes %d ms after the one before", i, c.at-w.cues[i-1].at)
		}
	}
	if last := w.cues[len(w.cues)-1].at; last < (n-1)*1000-4*w.spacing {
		t.Errorf("the last cue is at %d ms", last)
	}
	if got := binary.BigEndian.Uint64(m.b[w.segment-8:]) &^ (1 << 56); int64(got) != int64(len(m.b))-w.segment {
		t.Errorf("the segment says %d bytes, has %d", got, int64(len(m.b))-w.segment)
	}
}

// What is encrypted behind the clear bytes is seen: at once where a whole frame is, in VP8 from the frame header.
func TestDoubtful(t *testing.T) {
	for _, c := range videoCodecs {
		t.Run(c.String(), func(t *testing.T) {
			v := encode(t, c)
			rnd := rand.New(rand.NewPCG(1, 2))
			scramble := func(b []byte) {
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
			}
			var doubtful, whole int
			d := NewDepacketizer(c, func(p *Picture) {
				whole++
				if p.Doubtful {
					doubtful++
				}
			})
			ext := int64(65500)
			for _, p := range v.packets() {
				ext = rtp.Extend(ext, p.SequenceNumber)
				p.Payload = bytes.Clone(p.Payload)
				switch c { // the clear part as encryption in the browser leaves it
				case rtp.VP8:
					var vd rtp.VP8Descriptor
					vd.Parse(p.Payload)
					clear := vd.Len
					if vd.StartPartition {
						clear++
						if rtp.KeyFrame(c, p.Payload) {
							clear += 9
						}
					}
					scramble(p.Payload[min(clear, len(p.Payload)):])
				case rtp.VP9:
					var vd rtp.VP9Descriptor
					vd.Parse(p.Payload)
					scramble(p.Payload[vd.Len:])
				case rtp.H264:
					if k := p.Payload[0] & 0x1f; k == nalFUA {
						scramble(p.Payload[2:])
					} else if k == nalSlice || k == nalIDR {
						scramble(p.Payload[1:])
					}
				case rtp.AV1:
					scramble(p.Payload[1:])
				}
				d.Push(ext, p.Timestamp, p.Marker, p.Payload)
			}
			if bad, good := doubtful+int(d.Malformed), whole-doubtful; bad < 2*good || bad == 0 {
				t.Errorf("%d pictures doubted, %d malformed, %d taken for good", doubtful, d.Malformed, good)
			}
		})
	}
}

// A VP9 picture of several spatial layers becomes a superframe (VP9 bitstream specification, annex B).
func TestSuperframe(t *testing.T) {
	base := []byte{0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x30, 1, 2, 3} // a key frame of 320x180
	var got []Picture
	d := NewDepacketizer(rtp.VP9, func(p *Picture) {
		q := *p
		q.Data = bytes.Clone(p.Data)
		got = append(got, q)
	})
	layer := func(sid byte, inter bool) []byte { // I 0, L, F 0, B, E
		x := sid << 1
		if inter {
			x |= 1
		}
		return []byte{0x2c, x, 0}
	}
	d.Push(1, 9, false, append(layer(0, false), base...))
	d.Push(2, 9, true, append(layer(1, true), 0x86, 5, 6, 7, 8))
	want := append(bytes.Clone(base), 0x86, 5, 6, 7, 8)
	want = append(want, 0xd9, 12, 0, 0, 0, 5, 0, 0, 0, 0xd9)
	if d := cmp.Diff([]Picture{{Data: want, Timestamp: 9, Key: true, Width: 320, Height: 180}}, got); d != "" {
		t.Error(d)
	}
}

// FuzzDepacketizer feeds any packets, in any order, to each depacketizer: no panic, no picture that was not whole, and none before
// a key frame.
func FuzzDepacketizer(f *testing.F) {
	f.Add(uint8(0), []byte{1, 0x80, 12, 0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0, 0})
	f.Add(uint8(1), []byte{1, 0x80, 16, 0x2c, 0, 0, 0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x30, 1, 2, 3, 1})
	f.Add(uint8(2), []byte{1, 0, 11, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 0, 1, 0, 3, 0x68, 0xce, 0x38, 1, 0x80, 4, 0x65, 0x88, 0x80, 0x10})
	f.Add(uint8(3), []byte{1, 0x80, 16, 0x18, 0x0a, 0x0b, 0, 0, 0, 0x24, 0xcf, 0x7f, 0x0d, 0xbf, 0xff, 0x30, 0x08, 0x32, 1})
	f.Add(uint8(2), []byte{1, 0x80, 8, 0x78, 0, 2, 0x67, 0x42, 0, 1, 0x65})
	f.Fuzz(func(t *testing.T, which uint8, in []byte) {
		c := videoCodecs[which%4]
		input, keyed := 0, false
		d := NewDepacketizer(c, func(p *Picture) {
			if !keyed && !p.Key {
				t.Fatal("a picture before the first key frame")
			}
			keyed = true
			if len(p.Data) == 0 || len(p.Data) > 3*input+64 {
				t.Fatalf("a picture of %d bytes from %d", len(p.Data), input)
			}
			if p.Key && !p.Doubtful && (p.Width <= 0 || p.Height <= 0) {
				t.Fatalf("a key frame of %dx%d", p.Width, p.Height)
			}
		})
		seq := int64(0)
		for len(in) >= 3 {
			n := min(int(in[2]), len(in)-3)
			seq += int64(int8(in[0]))
			payload := in[3 : 3+n]
			before := bytes.Clone(payload)
			input += n
			d.Push(seq, uint32(in[1]&0x7f), in[1]&0x80 != 0, payload)
			if !bytes.Equal(before, payload) {
				t.Fatal("the payload was changed")
			}
			in = in[3+n:]
		}
	})
}
