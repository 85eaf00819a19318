package mux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

// preSkipSeconds is what ffprobe adds to a file's duration: it counts the samples that no player shows.
const preSkipSeconds = float64(preSkip) / OpusRate

// opusPackets encodes a tone of the given seconds and returns its packets of 20 ms.
func opusPackets(t testing.TB, seconds string, channels string) [][]byte {
	t.Helper()
	file := tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration="+seconds,
		"-ac", channels, "-c:a", "libopus", "-application", "voip", "-b:a", "32k", "-f", "ogg", "-")
	var out [][]byte
	for _, p := range oggPages(t, file) {
		out = append(out, p.packets...)
	}
	return out[2:] // without the headers
}

type oggPage struct {
	kind     byte
	granule  int64
	sequence uint32
	packets  [][]byte
}

// oggPages reads a file and checks every page: nothing between them, numbers in order, checksums right.
func oggPages(t testing.TB, b []byte) []oggPage {
	t.Helper()
	var pages []oggPage
	for len(b) > 0 {
		if len(b) < oggHeader || string(b[:5]) != "OggS\x00" {
			t.Fatalf("no page at page %d: %x", len(pages), b[:min(len(b), 16)])
		}
		segments := int(b[26])
		body := oggHeader + segments
		p := oggPage{kind: b[5], granule: int64(binary.LittleEndian.Uint64(b[6:])), sequence: binary.LittleEndian.Uint32(b[18:])}
		if int(p.sequence) != len(pages) {
			t.Fatalf("page %d has number %d", len(pages), p.sequence)
		}
		at := body
		for i := range segments {
			n := int(b[oggHeader+i])
			if n < 255 {
				p.packets = append(p.packets, b[body:at+n])
				body = at + n
			}
			at += n
		}
		page := bytes.Clone(b[:at])
		copy(page[22:26], []byte{0, 0, 0, 0})
		if sum := oggChecksum(page); sum != binary.LittleEndian.Uint32(b[22:]) {
			t.Fatalf("page %d: checksum %08x", len(pages), sum)
		}
		pages, b = append(pages, p), b[at:]
	}
	return pages
}

// The file lasts as long as what was written, gaps and all, and decodes to the samples that its positions promise.
func TestOgg(t *testing.T) {
	packets := opusPackets(t, "3", "1")[:150]
	for _, tt := range []struct {
		name    string
		skip    func(i int) bool
		shift   func(i int) int64
		seconds float64
	}{
		{"whole", func(int) bool { return false }, func(int) int64 { return 0 }, 3},
		{"losses", func(i int) bool { return i%10 > 6 }, func(int) int64 { return 0 }, 0},
		{"a mute of five minutes", func(int) bool { return false }, func(i int) int64 {
			if i >= 50 {
				return 300 * OpusRate
			}
			return 0
		}, 303},
		{"a gap of 7.5 ms more", func(i int) bool { return i == 20 }, func(i int) int64 {
			if i > 20 {
				return 360
			}
			return 0
		}, 3.0075},
		{"clocks that drift", func(int) bool { return false }, func(i int) int64 { return int64(i) % 3 }, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m memory
			o, err := NewOgg(&m, 77, 2)
			if err != nil {
				t.Fatal(err)
			}
			end := int64(0)
			for i, p := range packets {
				if tt.skip(i) {
					continue
				}
				at := int64(i)*960 + tt.shift(i)
				if err := o.Write(at, p); err != nil {
					t.Fatal(err)
				}
				end = at + 960
			}
			if d := end - o.End(); d < 0 || d >= minOpusFrame {
				t.Errorf("the end is at %d, want %d", o.End(), end)
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			pages := oggPages(t, m.b)
			if pages[0].kind != oggFirst || pages[len(pages)-1].kind != oggLast || len(pages[0].packets) != 1 || len(pages[1].packets) != 1 {
				t.Error("headers or end of stream are not where they belong")
			}
			sum, last := int64(0), int64(0)
			for i, p := range pages[2:] {
				for _, b := range p.packets {
					n, ok := OpusSamples(b)
					if !ok {
						t.Fatalf("page %d has a packet that is no Opus: %x", i, b)
					}
					sum += int64(n)
				}
				if p.kind != oggLast && p.granule != sum {
					t.Fatalf("page %d ends at %d, its samples at %d", i, p.granule, sum)
				}
				last = p.granule
			}
			if last != o.End()+preSkip || last > sum {
				t.Errorf("the stream ends at %d, want %d", last, o.End()+preSkip)
			}
			if tt.seconds == 0 {
				tt.seconds = float64(end) / OpusRate
			}
			p := ffprobe(t, m.b, "t.ogg")
			if math.Abs(p.Duration-preSkipSeconds-tt.seconds) > 0.0025 || p.Codec != "opus" {
				t.Errorf("%+v, want %v s", p, tt.seconds)
			}
			if tt.seconds < 400 {
				path := writeTemp(t, m.b, "t.ogg")
				raw := tool(t, "ffmpeg", "-v", "error", "-xerror", "-i", path, "-f", "s16le", "-ac", "1", "-")
				if got := float64(len(raw)) / 2 / OpusRate; math.Abs(got-tt.seconds) > 0.0025 {
					t.Errorf("decoded are %v s, want %v", got, tt.seconds)
				}
			}
		})
	}
}

// While the disk is full pages are lost; the next page fills what is missing, so that what comes later stands where it belongs.
func TestOggDiskFull(t *testing.T) {
	packets := opusPackets(t, "6", "1")
	var m memory
	o, err := NewOgg(&m, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, p := range packets {
		m.full = i >= 100 && i < 200
		if err := o.Write(int64(i)*960, p); err != nil {
			if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			failed++
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if failed == 0 {
		t.Error("no write failed")
	}
	want := float64(len(packets)*960) / OpusRate
	if p := ffprobe(t, m.b, "t.ogg"); math.Abs(p.Duration-preSkipSeconds-want) > 0.0025 {
		t.Errorf("it lasts %v s, want %v", p.Duration, want)
	}
	oggPages(t, m.b)
}

// A file that was cut plays up to its last whole page.
func TestOggCut(t *testing.T) {
	packets := opusPackets(t, "5", "1")
	var m memory
	o, err := NewOgg(&m, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		if err := o.Write(int64(i)*960, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, cut := range []int{0, 1, 20, 500} {
		if p := ffprobe(t, m.b[:len(m.b)-cut], "t.ogg"); p.Duration < 3.9 || p.Duration > 5.01 {
			t.Errorf("without its last %d bytes it lasts %v s", cut, p.Duration)
		}
	}
}

func TestOpusSamples(t *testing.T) {
	for _, tt := range []struct {
		name    string
		packet  []byte
		samples int
		ok      bool
	}{
		{"nothing", nil, 0, false},
		{"celt 20 ms", []byte{0xfc, 1, 2}, 960, true},
		{"silk 60 ms, no data", []byte{0x18}, 2880, true},
		{"hybrid 10 ms", []byte{0x60, 1}, 480, true},
		{"celt 2.5 ms", []byte{0x80, 1}, 120, true},
		{"two equal", []byte{0xf9, 1, 2}, 1920, true},
		{"two equal of odd length", []byte{0xf9, 1, 2, 3}, 1920, false},
		{"two of different length", []byte{0xfa, 1, 2, 3}, 1920, true},
		{"two, the first too long", []byte{0xfa, 9, 2, 3}, 1920, false},
		{"three", []byte{0xfb, 3, 1, 2, 3}, 2880, true},
		{"three of no equal length", []byte{0xfb, 3, 1, 2}, 2880, false},
		{"none", []byte{0xfb, 0}, 0, false},
		{"no count", []byte{0xfb}, 0, false},
		{"above 120 ms", []byte{0xfb, 7}, 0, false},
		{"variable", []byte{0xfb, 0x82, 1, 9, 8}, 1920, true},
		{"variable, cut off", []byte{0xfb, 0x82, 5, 9, 8}, 1920, false},
		{"padded", []byte{0xfb, 0x41, 2, 7, 0, 0}, 960, true},
		{"padded with more than there is", []byte{0xfb, 0x41, 3, 7}, 960, false},
		{"padded by 254 and more", append([]byte{0xfb, 0x41, 255, 1, 7}, make([]byte, 255)...), 960, true},
	} {
		n, ok := OpusSamples(tt.packet)
		if ok != tt.ok || ok && n != tt.samples {
			t.Errorf("%s: %d %t", tt.name, n, ok)
		}
	}
}

// Every configuration is concealed by packets that last what they should.
func TestConcealment(t *testing.T) {
	for toc := range 256 {
		frame := opusFrameSize(byte(toc))
		for count := 1; count*frame <= maxOpusDuration; count++ {
			p := concealment(nil, byte(toc), count)
			if n, ok := OpusSamples(p); !ok || n != count*frame || p[0]&^3 != byte(toc)&^3 {
				t.Fatalf("%02x, %d frames: %x lasts %d", toc, count, p, n)
			}
		}
		s := shortest(byte(toc))
		if n, ok := OpusSamples([]byte{s}); !ok || n != minOpusFrame || s&4 != byte(toc)&4 {
			t.Fatalf("%02x: the shortest frame %02x lasts %d", toc, s, n)
		}
	}
}

// FuzzOgg writes any packets at any positions: the file stays one of whole pages whose positions are right.
func FuzzOgg(f *testing.F) {
	f.Add([]byte{0, 3, 0xfc, 1, 2, 2, 4, 0xfb, 3, 1, 2, 3, 1, 1, 0x18})
	f.Add(append([]byte{9, 255}, make([]byte, 255)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var m memory
		o, err := NewOgg(&m, 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for len(in) >= 2 {
			n := min(int(in[1]), len(in)-2)
			at += int64(int8(in[0])) * 480
			m.full = in[0] == 99
			_ = o.Write(at, in[2:2+n])
			in = in[2+n:]
		}
		m.full = false
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		pages := oggPages(t, m.b[:o.Written()])
		for i, p := range pages[2:] {
			for _, b := range p.packets {
				n, ok := OpusSamples(b)
				if !ok && len(b) > 0 {
					t.Fatalf("%x is no Opus packet", b)
				}
				sum += int64(n)
			}
			if p.granule > sum || p.kind != oggLast && p.granule != sum {
				t.Fatalf("page %d is at %d of %d", i, p.granule, sum)
			}
		}
	})
}
