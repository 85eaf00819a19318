// Package muxtest makes media for tests of recordings, and looks at recordings as players do: with ffmpeg and ffprobe. Tests that
// need them are skipped where they are not installed (scripts/deps.sh).
package muxtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Tool runs a program and returns what it printed.
func Tool(t testing.TB, name string, args ...string) []byte {
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
	return append(stdout.Bytes(), stderr.Bytes()...)
}

// What a Signal is like.
const (
	FPS     = 30
	Seconds = 5
	FlashAt = 2 // seconds
)

// Signal is five seconds of picture and sound in which a flash and a beep begin together: VP8 with a key frame twice a second, and
// Opus in packets of 20 ms.
type Signal struct{ Frames, Sounds [][]byte }

// NewSignal encodes a Signal.
func NewSignal(t testing.TB) *Signal {
	t.Helper()
	s := new(Signal)
	at, length, fps := strconv.Itoa(FlashAt), strconv.Itoa(Seconds), strconv.Itoa(FPS)
	ivf := Tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i",
		"color=black:size=160x120:rate="+fps+":duration="+length+",drawbox=color=white:t=fill:enable='gte(t,"+at+")'",
		"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-g", strconv.Itoa(FPS/2), "-b:v", "200k", "-f", "ivf", "-")
	for b := ivf[32:]; len(b) >= 12; {
		n := int(binary.LittleEndian.Uint32(b))
		s.Frames = append(s.Frames, b[12:12+n])
		b = b[12+n:]
	}
	ogg := Tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*1000*t)*gte(t,"+at+")':s=48000:d="+length,
		"-c:a", "libopus", "-application", "voip", "-b:a", "32k", "-page_duration", "1", "-f", "ogg", "-")
	for b := ogg; len(b) >= 27; { // a packet a page
		n := 0
		for _, x := range b[27 : 27+int(b[26])] {
			n += int(x)
		}
		head := 27 + int(b[26])
		if p := b[head : head+n]; !bytes.HasPrefix(p, []byte("Opus")) {
			s.Sounds = append(s.Sounds, p)
		}
		b = b[head+n:]
	}
	s.Sounds = s.Sounds[:Seconds*50] // one more flushes the encoder
	if len(s.Frames) != Seconds*FPS {
		t.Fatalf("%d frames", len(s.Frames))
	}
	return s
}

// Probe is what ffprobe says of a file with one stream.
type Probe struct {
	Codec    string
	Duration float64
	Frames   int
}

// NewProbe opens a file and decodes all of it.
func NewProbe(t testing.TB, path string) Probe {
	t.Helper()
	out := Tool(t, "ffprobe", "-v", "error", "-count_frames", "-show_format", "-show_streams", "-of", "json", path)
	var v struct {
		Format struct {
			Duration string `json:"duration"`
		} `json:"format"`
		Streams []struct {
			Codec  string `json:"codec_name"`
			Frames string `json:"nb_read_frames"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &v); err != nil || len(v.Streams) != 1 {
		t.Fatalf("ffprobe %s: %v %s", path, err, out)
	}
	p := Probe{Codec: v.Streams[0].Codec}
	p.Duration, _ = strconv.ParseFloat(v.Format.Duration, 64) // absent: 0, which no test takes
	p.Frames, _ = strconv.Atoi(v.Streams[0].Frames)
	return p
}

var (
	blackEnd   = regexp.MustCompile(`black_end:([0-9.]+)`)
	silenceEnd = regexp.MustCompile(`silence_end: ([0-9.]+)`)
)

// Flash returns when the picture of a file becomes white, in seconds.
func Flash(t testing.TB, path string) float64 {
	t.Helper()
	return onset(t, path, blackEnd, "-vf", "blackdetect=d=0.1:pix_th=0.3")
}

// Beep returns when the sound of a file begins, in seconds.
func Beep(t testing.TB, path string) float64 {
	t.Helper()
	return onset(t, path, silenceEnd, "-af", "silencedetect=n=-30dB:d=0.1")
}

func onset(t testing.TB, path string, pattern *regexp.Regexp, filter ...string) float64 {
	t.Helper()
	m := pattern.FindSubmatch(Tool(t, "ffmpeg", append(append([]string{"-hide_banner", "-i", path}, filter...), "-f", "null", "-")...))
	if m == nil {
		t.Fatalf("no onset in %s", path)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
