package mux

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// memory is a file in memory that can be full.
type memory struct {
	b    []byte
	full bool
}

var errFull = errors.New("no space left")

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if m.full { // half of it comes to the disk, as it does
		b = b[:len(b)/2]
	}
	if end := int(at) + len(b); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	copy(m.b[at:], b)
	if m.full {
		return len(b), errFull
	}
	return len(b), nil
}

func tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed (scripts/deps.sh)", name)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// probe is what ffprobe says of a file with one stream.
type probe struct {
	Format, Codec    string
	Width, Height    int
	Duration         float64
	Packets, Decoded int
}

func ffprobe(t testing.TB, data []byte, name string) probe {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "ffprobe", "-v", "error", "-count_packets", "-count_frames", "-show_format", "-show_streams", "-of", "json", path)
	var v struct {
		Format struct {
			Name     string `json:"format_name"`
			Duration string `json:"duration"`
		} `json:"format"`
		Streams []struct {
			Codec   string `json:"codec_name"`
			Width   int    `json:"width"`
			Height  int    `json:"height"`
			Packets string `json:"nb_read_packets"`
			Frames  string `json:"nb_read_frames"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &v); err != nil || len(v.Streams) != 1 {
		t.Fatalf("ffprobe: %v %s", err, out)
	}
	s := v.Streams[0]
	p := probe{Format: v.Format.Name, Codec: s.Codec, Width: s.Width, Height: s.Height}
	p.Duration, _ = strconv.ParseFloat(v.Format.Duration, 64)
	p.Packets, _ = strconv.Atoi(s.Packets)
	p.Decoded, _ = strconv.Atoi(s.Frames)
	return p
}

// pictures returns the hashes of what a decoder shows of a file; it fails if the decoder complains.
func pictures(t testing.TB, data []byte, name string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "ffmpeg", "-v", "error", "-xerror", "-err_detect", "explode", "-i", path, "-fps_mode", "passthrough", "-f", "framemd5", "-")
	var hashes []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), ","); len(f) == 6 && f[0][0] != '#' {
			hashes = append(hashes, strings.TrimSpace(f[5]))
		}
	}
	return hashes
}

const (
	testRate    = 15
	testSeconds = 3
	testWidth   = 320
	testHeight  = 180
)

// video is an encoded test picture, one element a frame, with a key frame each second.
type video struct {
	codec  rtp.Codec
	frames [][]byte
	source []byte // as the encoder's own container has it
	ext    string
}

// encoded keeps what was encoded: it takes longer than the tests.
var encoded = map[rtp.Codec]video{}

func encode(t testing.TB, c rtp.Codec) video {
	t.Helper()
	v, ok := encoded[c]
	if !ok {
		v = encodeAnew(t, c)
		encoded[c] = v
	}
	return v
}

func encodeAnew(t testing.TB, c rtp.Codec) video {
	t.Helper()
	args := []string{
		"-v", "error", "-f", "lavfi", "-i",
		"testsrc2=size=" + strconv.Itoa(testWidth) + "x" + strconv.Itoa(testHeight) + ":rate=" + strconv.Itoa(testRate) + ":duration=" + strconv.Itoa(testSeconds),
		"-pix_fmt", "yuv420p", "-g", strconv.Itoa(testRate), "-b:v", "400k",
	}
	v := video{codec: c, ext: ".ivf"}
	switch c {
	case rtp.VP8:
		args = append(args, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-f", "ivf", "-")
	case rtp.VP9:
		args = append(args, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-lag-in-frames", "0", "-f", "ivf", "-")
	case rtp.AV1:
		args = append(args, "-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-f", "ivf", "-")
	case rtp.H264:
		v.ext = ".h264"
		args = append(args, "-c:v", "libx264", "-profile:v", "baseline", "-tune", "zerolatency", "-x264-params", "aud=1:scenecut=0:sliced-threads=0", "-f", "h264", "-")
	}
	v.source = tool(t, "ffmpeg", args...)
	if c == rtp.H264 {
		aud := []byte{0, 0, 0, 1, 9}
		for _, au := range bytes.Split(v.source, aud)[1:] {
			v.frames = append(v.frames, append(bytes.Clone(aud), au...))
		}
	} else {
		for b := v.source[32:]; len(b) >= 12; {
			n := int(binary.LittleEndian.Uint32(b))
			v.frames = append(v.frames, b[12:12+n])
			b = b[12+n:]
		}
	}
	if len(v.frames) != testRate*testSeconds {
		t.Fatalf("%v: %d frames encoded", c, len(v.frames))
	}
	return v
}

// packets cuts the frames as a sender does.
func (v video) packets() []*pionrtp.Packet {
	var pay pionrtp.Payloader
	switch v.codec {
	case rtp.VP8:
		pay = &codecs.VP8Payloader{EnablePictureID: true}
	case rtp.VP9:
		pay = &codecs.VP9Payloader{}
	case rtp.AV1:
		pay = &codecs.AV1Payloader{}
	case rtp.H264:
		pay = &codecs.H264Payloader{}
	}
	var out []*pionrtp.Packet
	seq := uint16(65500) // wraps
	for i, f := range v.frames {
		parts := pay.Payload(500, f)
		for j, p := range parts {
			out = append(out, &pionrtp.Packet{
				Header:  pionrtp.Header{SequenceNumber: seq, Timestamp: uint32(i) * 90000 / testRate, Marker: j == len(parts)-1},
				Payload: p,
			})
			seq++
		}
	}
	return out
}

// record depacketizes and writes what keep lets through.
func record(t testing.TB, v video, keep func(i int, p *pionrtp.Packet) bool) (file []byte, name string, dropped uint64) {
	t.Helper()
	var m memory
	var w *Matroska
	d := NewDepacketizer(v.codec, func(p *Picture) {
		if p.Doubtful {
			t.Errorf("%v: the picture at %d is taken for encrypted", v.codec, p.Timestamp)
		}
		if w == nil {
			cfg := VideoConfig{Codec: v.codec, Width: p.Width, Height: p.Height, Private: p.Private}
			name = "t" + cfg.Extension()
			var err error
			if w, err = NewMatroska(&m, cfg); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Write(int64(p.Timestamp)*1e9/90000, p.Key, p.Data); err != nil {
			t.Fatal(err)
		}
	})
	ext := int64(65500)
	for i, p := range v.packets() {
		ext = rtp.Extend(ext, p.SequenceNumber)
		if keep == nil || keep(i, p) {
			d.Push(ext, p.Timestamp, p.Marker, p.Payload)
		}
	}
	if w == nil {
		t.Fatalf("%v: nothing came out", v.codec)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return m.b, name, d.Dropped
}
