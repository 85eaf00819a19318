package record_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/sotto-edge/sotto/internal/mux/muxtest"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/record"
	"github.com/sotto-edge/sotto/sfu/tap"
)

const (
	sec = int64(1e9)
	ms  = int64(1e6)
	fps = muxtest.FPS
)

// epoch is the zero of the packet clock of tests.
var epoch = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// encoded is made once for all tests.
var encoded *muxtest.Signal

func newSignal(t testing.TB) *muxtest.Signal {
	t.Helper()
	if encoded == nil {
		encoded = muxtest.NewSignal(t)
	}
	return encoded
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
func (s *stream) pictures(sig *muxtest.Signal, from, to int64) {
	for i, f := range sig.Frames {
		if at := int64(i) * sec / fps; at >= from && at < to {
			s.send(at, f, f[0]&1 == 0)
		}
	}
}

func (s *stream) sounds(sig *muxtest.Signal, from, to int64) {
	for i, p := range sig.Sounds {
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
	<-rec.Done()
	path := filepath.Join(dir, rec.ID())
	m, err := record.ReadManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, m
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
