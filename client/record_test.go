package client_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/internal/mux/muxtest"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/record"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// newRecordingServer is a server whose operator allows recordings.
func newRecordingServer(t *testing.T) (*server, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := record.New(record.Config{Directory: dir, MinFree: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	s := newServer(t, func(c *signaling.Config) { c.Recorder = c.Media.(*signaling.NodeMedia) }, func(c *sfu.Config) { c.Recorder = r })
	return s, dir
}

// play sends units of media in real time, each when it is due since start; seal may change them.
func play(ctx context.Context, t *testing.T, track *client.LocalTrack, start time.Time, units [][]byte, each time.Duration, seal func([]byte) []byte) {
	t.Helper()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, u := range units {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(time.Until(start.Add(time.Duration(i+1) * each)))
		if seal != nil {
			u = seal(u)
		}
		if err := track.WriteFrame(u, each); err != nil && ctx.Err() == nil {
			t.Errorf("write: %v", err)
		}
	}
}

// recorded has Ann, a host, send the test signal, sealed or not, while the meeting is recorded, and returns the recording.
func recorded(t *testing.T, sig *muxtest.Signal, picture, sound func([]byte) []byte) (path string, m record.Manifest) {
	t.Helper()
	s, dir := newRecordingServer(t)
	meet := s.open(t)
	ann := meet.join("Ann", with(publish(microphone, camera), meet.host))
	bob := meet.join("Bob", nil)
	if err := bob.StartRecording(t.Context()); !errors.Is(err, &wire.Error{Code: wire.Forbidden}) {
		t.Errorf("a guest records: %v", err)
	}
	must(t, "record", ann.StartRecording)
	if e := event[*wire.Recording](bob, nil); !e.Recording.Active || e.Recording.By != ann.Participant() || !bob.Recording().Active {
		t.Errorf("Bob is told %+v", e)
	}
	eventually(t, "tracks", func() bool {
		return ann.Local(wire.Microphone).Layers() > 0 && ann.Local(wire.Camera).Layers() > 0
	})
	must(t, "media", ann.Connected) // what is written sooner is lost
	start, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		play(t.Context(), t, ann.Local(wire.Camera), start, sig.Frames, time.Second/muxtest.FPS, picture)
	}()
	play(t.Context(), t, ann.Local(wire.Microphone), start, sig.Sounds, 20*time.Millisecond, sound)
	<-done
	must(t, "stop", ann.StopRecording)
	if e := event(bob, func(e *wire.Recording) bool { return !e.Recording.Active }); e.Recording.Ended != wire.RecordingStopped {
		t.Errorf("at the end Bob is told %+v", e)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	path = filepath.Join(dir, list[0].Name())
	if m, err = record.ReadManifest(path); err != nil {
		t.Fatal(err)
	}
	if m.State != record.StateFinished || m.By != ann.Participant() || len(m.Tracks) != 2 {
		t.Fatalf("%+v", m)
	}
	for _, tr := range m.Tracks {
		if tr.Participant != ann.Participant() || tr.Name != "Ann" || len(tr.Files) != 1 {
			t.Fatalf("%+v", tr)
		}
	}
	return path, m
}

// What a client sends is in files that ffprobe opens, as long as it lasted, and a flash and a beep that were sent together lie
// together within 40 ms. Row C8, as far as tracks by themselves go.
func TestRecord(t *testing.T) {
	t.Parallel()
	sig := muxtest.NewSignal(t)
	path, m := recorded(t, sig, nil, nil)
	var at [2]float64
	for _, tr := range m.Tracks {
		f := tr.Files[0]
		file := filepath.Join(path, f.Name)
		p := muxtest.NewProbe(t, file)
		if f.Opaque || math.Abs(p.Duration-muxtest.Seconds) > 0.1 || math.Abs(f.DurationSeconds-muxtest.Seconds) > 0.1 {
			t.Errorf("%s: %+v, the manifest says %v s", f.Name, p, f.DurationSeconds)
		}
		if tr.Sync != record.SyncReports {
			t.Errorf("%s is placed by %s", f.Name, tr.Sync)
		}
		if tr.Kind == "video" {
			at[0] = tr.OffsetSeconds + muxtest.Flash(t, file)
			if p.Frames != len(sig.Frames) {
				t.Errorf("%d pictures of %d", p.Frames, len(sig.Frames))
			}
		} else {
			at[1] = tr.OffsetSeconds + muxtest.Beep(t, file)
		}
	}
	t.Logf("flash at %.3f s, beep at %.3f s, apart %.1f ms", at[0], at[1], 1000*(at[1]-at[0]))
	if math.Abs(at[0]-at[1]) > 0.04 {
		t.Errorf("flash at %v s, beep at %v s", at[0], at[1])
	}
}

// Media that is encrypted end to end is recorded as it came: no file holds any of what was said.
func TestRecordEncrypted(t *testing.T) {
	t.Parallel()
	sig := muxtest.NewSignal(t)
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	seal := func(keep func([]byte) int) func([]byte) []byte { // as encryption in a browser does, some bytes left clear
		stream := cipher.NewCTR(block, make([]byte, 16))
		return func(b []byte) []byte {
			out := bytes.Clone(b)
			k := min(keep(b), len(b))
			stream.XORKeyStream(out[k:], b[k:])
			return append(out, make([]byte, 16)...)
		}
	}
	path, m := recorded(t, sig,
		seal(func(b []byte) int {
			if b[0]&1 == 0 {
				return 10 // the header of a key frame
			}
			return 1
		}),
		seal(func([]byte) int { return 0 }))
	files, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(path, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, plain := range append(sig.Frames[1:], sig.Sounds...) {
			if len(plain) >= 28 && bytes.Contains(text, plain[12:28]) {
				t.Fatalf("%s holds plaintext", f.Name())
			}
		}
	}
	for _, tr := range m.Tracks {
		if f := tr.Files[0]; !f.Opaque || f.Format != record.FormatRTPDump || f.Bytes < 5000 {
			t.Errorf("%s: %+v", tr.Kind, f)
		}
	}
}
