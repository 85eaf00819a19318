package record_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/record"
	"github.com/sotto-edge/sotto/sfu/tap"
)

const (
	sec = int64(1e9)
	ms  = int64(1e6)

	flashAt = 2.0 // seconds into the test signal: a white picture and a beep
	fps     = 30
)

// epoch is the zero of the packet clock of tests.
var epoch = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

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
	return append(stdout.Bytes(), stderr.Bytes()...)
}

// signal is five seconds of picture and sound in which a flash and a beep begin together, two seconds in.
type signal struct{ frames, sounds [][]byte }

var testSignal = sync.OnceValue(func() *signal { return new(signal) })

func newSignal(t testing.TB) *signal {
	t.Helper()
	s := testSignal()
	if len(s.sounds) > 0 {
		return s
	}
	at := strconv.FormatFloat(flashAt, 'f', -1, 64)
	ivf := tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i",
		"color=black:size=160x120:rate="+strconv.Itoa(fps)+":duration=5,drawbox=color=white:t=fill:enable='gte(t,"+at+")'",
		"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-g", strconv.Itoa(fps), "-b:v", "200k", "-f", "ivf", "-")
	for b := ivf[32:]; len(b) >= 12; {
		n := int(binary.LittleEndian.Uint32(b))
		s.frames = append(s.frames, b[12:12+n])
		b = b[12+n:]
	}
	ogg := tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*1000*t)*gte(t,"+at+")':s=48000:d=5",
		"-c:a", "libopus", "-application", "voip", "-b:a", "32k", "-page_duration", "1", "-f", "ogg", "-")
	for b := ogg; len(b) >= 27; { // a packet a page
		n := 0
		for _, x := range b[27 : 27+int(b[26])] {
			n += int(x)
		}
		head := 27 + int(b[26])
		if p := b[head : head+n]; !bytes.HasPrefix(p, []byte("Opus")) {
			s.sounds = append(s.sounds, p)
		}
		b = b[head+n:]
	}
	// The encoder's delay is what a sender's timestamps do not know of: its first packets are of the time before.
	s.sounds = s.sounds[:250]
	if len(s.frames) != 5*fps {
		t.Fatalf("%d frames", len(s.frames))
	}
	return s
}

// stream puts the packets of one track into a ring.
type stream struct {
	ring   *tap.Ring
	codec  rtp.Codec
	id     uint32
	layer  uint8
	rate   int64
	seq    int64
	ts     uint32 // of media time 0
	ntp    int64  // sender's clock at media time 0, nanoseconds since 1970
	start  int64  // media time 0 on the packet clock
	pay    pionrtp.Payloader
	keep   func(seq int64) bool
	mangle func([]byte)
	put    uint64 // packets that found room
}

func newStream(ring *tap.Ring, c rtp.Codec, start int64) *stream {
	s := &stream{ring: ring, codec: c, id: 7, rate: 90000, seq: 65530, ts: 0xfffff000, start: start, pay: &codecs.VP8Payloader{EnablePictureID: true}}
	if c == rtp.Opus {
		s.rate, s.pay = 48000, &codecs.OpusPayloader{}
	}
	return s
}

// send sends one picture or sound of the given media time.
func (s *stream) send(at int64, data []byte, key bool) {
	parts := s.pay.Payload(300, data)
	for i, part := range parts {
		part = slices.Clone(part)
		if s.mangle != nil {
			s.mangle(part)
		}
		p := pionrtp.Packet{
			Header:  pionrtp.Header{Version: 2, Marker: i == len(parts)-1, PayloadType: 96, SequenceNumber: uint16(s.seq), Timestamp: s.ts + uint32(at*s.rate/sec), SSRC: 5},
			Payload: part,
		}
		b, _ := p.Marshal()
		if s.keep == nil || s.keep(s.seq) {
			if s.ring.Put(&tap.Record{
				Kind: tap.Packet, Codec: s.codec, Layer: s.layer, Key: key && i == 0, Stream: s.id, At: s.start + at + 10*ms, Sequence: s.seq, Data: b,
			}) {
				s.put++
			}
		}
		s.seq++
	}
}

// report sends a sender report of the given media time.
func (s *stream) report(at int64) {
	ns := s.ntp + at
	ntp := uint64(ns/sec+2208988800)<<32 | uint64(ns%sec)<<32/uint64(sec)
	s.ring.Put(&tap.Record{Kind: tap.Report, Layer: s.layer, Stream: s.id, At: s.start + at + 10*ms, NTP: ntp, Sequence: int64(s.ts + uint32(at*s.rate/sec))})
}

func (s *stream) note(k tap.Kind, at int64) { s.ring.Put(&tap.Record{Kind: k, At: s.start + at}) }

// pictures and sounds send the part of the signal between two media times.
func (s *stream) pictures(sig *signal, from, to int64) {
	for i, f := range sig.frames {
		if at := int64(i) * sec / fps; at >= from && at < to {
			s.send(at, f, f[0]&1 == 0)
		}
	}
}

func (s *stream) sounds(sig *signal, from, to int64) {
	for i, p := range sig.sounds {
		if at := int64(i) * 20 * ms; at >= from && at < to {
			s.send(at, p, false)
		}
	}
}

func newRecorder(t testing.TB, cfg record.Config) *record.Recorder {
	t.Helper()
	if cfg.Directory == "" {
		cfg.Directory = t.TempDir()
	}
	cfg.MinFree = 1
	r, err := record.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func start(t testing.TB, r *record.Recorder, o record.Options) *record.Recording {
	t.Helper()
	rec, err := r.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func finish(t testing.TB, dir string, rec *record.Recording) (string, record.Manifest) {
	t.Helper()
	rec.Finish(record.Stopped)
	rec.Wait()
	path := filepath.Join(dir, rec.ID())
	m, err := record.ReadManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, m
}

type probe struct {
	Codec    string
	Duration float64
	Frames   int
	Start    float64
}

func ffprobe(t testing.TB, path string) probe {
	t.Helper()
	out := tool(t, "ffprobe", "-v", "error", "-count_frames", "-show_format", "-show_streams", "-of", "json", path)
	var v struct {
		Format struct {
			Duration string `json:"duration"`
			Start    string `json:"start_time"`
		} `json:"format"`
		Streams []struct {
			Codec  string `json:"codec_name"`
			Frames string `json:"nb_read_frames"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &v); err != nil || len(v.Streams) != 1 {
		t.Fatalf("ffprobe %s: %v %s", path, err, out)
	}
	p := probe{Codec: v.Streams[0].Codec}
	p.Duration, _ = strconv.ParseFloat(v.Format.Duration, 64)
	p.Start, _ = strconv.ParseFloat(v.Format.Start, 64)
	p.Frames, _ = strconv.Atoi(v.Streams[0].Frames)
	return p
}

var (
	blackEnd   = regexp.MustCompile(`black_end:([0-9.]+)`)
	silenceEnd = regexp.MustCompile(`silence_end: ([0-9.]+)`)
)

// onset returns when the flash or the beep begins in a file.
func onset(t testing.TB, path, kind string) float64 {
	t.Helper()
	var m [][]byte
	if kind == "video" {
		m = blackEnd.FindSubmatch(tool(t, "ffmpeg", "-hide_banner", "-i", path, "-vf", "blackdetect=d=0.1:pix_th=0.3", "-f", "null", "-"))
	} else {
		m = silenceEnd.FindSubmatch(tool(t, "ffmpeg", "-hide_banner", "-i", path, "-af", "silencedetect=n=-30dB:d=0.1", "-f", "null", "-"))
	}
	if m == nil {
		t.Fatalf("no onset in %s", path)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// scramble makes a payload ciphertext but for its first bytes.
func scramble(clear int) func([]byte) {
	rnd := rand.New(rand.NewPCG(1, 1))
	return func(b []byte) {
		for i := clear; i < len(b); i++ {
			b[i] = byte(rnd.Uint32())
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
