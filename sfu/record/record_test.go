package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/mux/muxtest"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/record"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// A flash and a beep that began together lie together, by the manifest, within 40 ms (they do within one picture and one sound),
// though the two tracks begin at different times, with random timestamps, and their packets are delayed differently.
func TestSync(t *testing.T) {
	sig := newSignal(t)
	for _, tt := range []struct {
		name          string
		reports       bool
		lateAudio     int64 // how much later the sound arrives than the picture
		bound         float64
		participantAt int64 // sender's clock less ours
	}{
		{"by sender reports", true, 300 * ms, 0.04, -3600 * sec},
		{"by arrival", false, 0, 0.04, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRecorder(t, record.Config{Directory: dir})
			rec := start(t, r, record.Options{Conference: "c", By: "p1"})
			base := int64(time.Since(epoch)) // packets of now
			opts := func(id, source string, k rtp.Kind) record.TrackOptions {
				return record.TrackOptions{ID: id, Participant: "../../etc/p1", Name: "Ann/../", Source: source, Kind: k, Epoch: epoch}
			}
			v := newStream(rec.Add(opts("t1", "camera", rtp.KindVideo)), rtp.VP8, base)
			a := newStream(rec.Add(opts("t2", "microphone", rtp.KindAudio)), rtp.Opus, base+tt.lateAudio)
			clock := epoch.UnixNano() + base + tt.participantAt
			v.ntp, a.ntp = clock, clock
			v.pictures(sig, 0, 3*sec)
			a.sounds(sig, 700*ms, 3*sec)
			if tt.reports {
				v.report(2 * sec)
				a.report(2500 * ms)
			}
			v.pictures(sig, 3*sec, 5*sec)
			a.sounds(sig, 3*sec, 5*sec)
			path, m := finish(t, dir, rec)

			if len(m.Tracks) != 2 || m.State != record.StateFinished || m.Reason != record.Stopped {
				t.Fatalf("%+v", m)
			}
			var at [2]float64
			for i, tr := range m.Tracks {
				if len(tr.Files) != 1 || tr.Files[0].Opaque || len(tr.Gaps) != 0 || tr.Lost != 0 {
					t.Fatalf("track %d: %+v", i, tr)
				}
				file := filepath.Join(path, tr.Files[0].Name)
				want, begins := 5.0, muxtest.Flash
				if tr.Kind == "audio" {
					want, begins = 4.3, muxtest.Beep
				}
				p := muxtest.NewProbe(t, file)
				if math.Abs(p.Duration-want) > 0.01 || math.Abs(tr.Files[0].DurationSeconds-want) > 0.01 {
					t.Errorf("%s lasts %v s, by the manifest %v, want %v", file, p.Duration, tr.Files[0].DurationSeconds, want)
				}
				at[i] = tr.OffsetSeconds + begins(t, file)
			}
			t.Logf("flash at %.3f s, beep at %.3f s", at[0], at[1])
			if d := math.Abs(at[0] - at[1]); d > tt.bound {
				t.Errorf("flash at %v, beep at %v", at[0], at[1])
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 1 || entries[0].Name() != m.ID {
				t.Errorf("%v in the directory", entries)
			}
			var names []string
			files, _ := os.ReadDir(path)
			for _, f := range files {
				names = append(names, f.Name())
				if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v %v", f.Name(), info.Mode(), err)
				}
			}
			if d := cmp.Diff([]string{"001-video.webm", "002-audio.ogg", "manifest.json"}, names); d != "" {
				t.Error(d)
			}
		})
	}
}

// Losses, mutes and a sender that stops its clock while muted: what is missing is in the manifest, and what comes after stands
// where it belongs.
func TestGaps(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir})
	rec := start(t, r, record.Options{Conference: "c"})
	a := newStream(rec.Add(record.TrackOptions{ID: "a", Source: "microphone", Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	v := newStream(rec.Add(record.TrackOptions{ID: "v", Source: "camera", Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	first := a.seq
	a.keep = func(seq int64) bool { return seq < first+50 || seq >= first+60 }
	a.sounds(sig, 0, 2*sec)
	a.note(tap.Muted, 2*sec) // muted for a minute, in which the sender's clock stands still
	a.note(tap.Unmuted, 62*sec)
	a.keep = nil
	a.start += 60 * sec
	a.sounds(sig, 2*sec, 5*sec)

	first = v.seq
	v.keep = func(seq int64) bool { return seq != first+20 } // one packet of a picture in the first second
	v.pictures(sig, 0, 5*sec)
	path, m := finish(t, dir, rec)

	at := m.Tracks[0]
	if at.Lost != 10 || len(at.Gaps) != 1 || at.Gaps[0].Packets != 10 || at.Gaps[0].Reason != record.GapLoss ||
		math.Abs(at.Gaps[0].AtSeconds-1) > 0.001 || math.Abs(at.Gaps[0].Seconds-0.2) > 0.001 {
		t.Errorf("gaps: %+v", at.Gaps)
	}
	if len(at.Mutes) != 1 || math.Abs(at.Mutes[0].Seconds-60) > 0.001 || math.Abs(at.Mutes[0].AtSeconds-2) > 0.02 {
		t.Errorf("mutes: %+v", at.Mutes)
	}
	file := filepath.Join(path, at.Files[0].Name)
	if p := muxtest.NewProbe(t, file); math.Abs(p.Duration-65) > 0.05 {
		t.Errorf("it lasts %v s", p.Duration)
	}
	if on := muxtest.Beep(t, file); math.Abs(on-62) > 0.05 {
		t.Errorf("the beep is at %v s", on)
	}
	vt := m.Tracks[1]
	if vt.Lost != 1 || len(vt.Gaps) != 1 || vt.Gaps[0].Seconds < 0.05 || vt.Gaps[0].Seconds > 1 {
		t.Errorf("%d packets of pictures lost, gaps %+v", vt.Lost, vt.Gaps)
	}
	if p := muxtest.NewProbe(t, filepath.Join(path, vt.Files[0].Name)); p.Frames >= 150 || p.Frames < 120 {
		t.Errorf("%d pictures", p.Frames)
	}
}

// What was said before a mute is on disk, however long the mute lasts.
func TestMuteSettles(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir, Interval: time.Millisecond})
	rec := start(t, r, record.Options{})
	a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	a.sounds(sig, 0, 700*ms)
	a.note(tap.Muted, 700*ms)
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if b, err := os.ReadFile(filepath.Join(dir, rec.ID(), "001-audio.ogg")); err == nil && bytes.Count(b, []byte("OggS")) == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no page of sound is written")
		}
	}
	finish(t, dir, rec)
}

// A packet that comes late is put where it belongs.
func TestReorder(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir})
	rec := start(t, r, record.Options{})
	v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	first := v.seq
	for i, f := range sig.Frames {
		late := func(seq int64) bool { return (seq-first)%7 != 3 }
		seq := v.seq
		v.keep = late
		v.send(int64(i)*sec/fps, f, f[0]&1 == 0)
		v.seq = seq
		v.keep = func(seq int64) bool { return !late(seq) }
		v.send(int64(i)*sec/fps, f, f[0]&1 == 0)
		// The payloader numbers its pictures by itself; nobody looks at that here.
	}
	path, m := finish(t, dir, rec)
	if tr := m.Tracks[0]; tr.Lost != 0 || tr.Late != 0 || len(tr.Gaps) != 0 {
		t.Errorf("%+v", tr)
	}
	if p := muxtest.NewProbe(t, filepath.Join(path, m.Tracks[0].Files[0].Name)); p.Frames != len(sig.Frames) {
		t.Errorf("%d pictures of %d", p.Frames, len(sig.Frames))
	}
}

// A simulcast publisher goes over to another layer, with other timestamps: one file, without a jump.
func TestLayers(t *testing.T) {
	sig := newSignal(t)
	for _, reports := range []bool{false, true} {
		dir := t.TempDir()
		r := newRecorder(t, record.Config{Directory: dir})
		rec := start(t, r, record.Options{})
		v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
		v.ntp = epoch.UnixNano() + sec
		v.pictures(sig, 0, sec)
		if reports {
			v.report(sec / 2)
		}
		h := newStream(v.ring, rtp.VP8, sec)
		h.id, h.layer, h.seq, h.ts, h.ntp = 8, 1, 100, 777777, v.ntp
		if reports {
			h.report(sec / 2)
			h.start += 300 * ms // its packets take longer
		}
		h.pictures(sig, sec, 5*sec)
		path, m := finish(t, dir, rec)
		tr := m.Tracks[0]
		want := []record.LayerEntry{{AtSeconds: 0, Layer: 0}, {AtSeconds: 1, Layer: 1}}
		if len(tr.Layers) != 2 || math.Abs(tr.Layers[1].AtSeconds-1) > 0.02 || tr.Layers[1].Layer != 1 {
			t.Errorf("layers %+v, want %+v", tr.Layers, want)
		}
		file := filepath.Join(path, tr.Files[0].Name)
		if on := muxtest.Flash(t, file); math.Abs(on-muxtest.FlashAt) > 0.04 || len(tr.Files) != 1 {
			t.Errorf("reports %t: the flash is at %v s", reports, on)
		}
		if p := muxtest.NewProbe(t, file); p.Frames != len(sig.Frames) || math.Abs(p.Duration-5) > 0.05 {
			t.Errorf("%+v", p)
		}
	}
}

// In an end-to-end encrypted meeting, told or not, the files hold ciphertext as it came, and say so.
func TestOpaque(t *testing.T) {
	sig := newSignal(t)
	for _, of := range []struct{ meeting, tracks bool }{{true, false}, {false, true}, {false, false}} {
		told := of.meeting || of.tracks
		dir := t.TempDir()
		r := newRecorder(t, record.Config{Directory: dir})
		rec := start(t, r, record.Options{Encrypted: of.meeting})
		v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Encrypted: of.tracks, Epoch: epoch}), rtp.VP8, sec)
		a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Encrypted: of.tracks, Epoch: epoch}), rtp.Opus, sec)
		if told { // the bytes that encryption in the browser leaves clear look like VP8 and Opus
			v.mangle, a.mangle = scramble(14), scramble(1)
		} else {
			v.mangle, a.mangle = scramble(4), scramble(0)
		}
		v.pictures(sig, 0, 5*sec)
		a.sounds(sig, 0, 5*sec)
		path, m := finish(t, dir, rec)
		if m.Encrypted != of.meeting {
			t.Errorf("encrypted %t", m.Encrypted)
		}
		for _, tr := range m.Tracks {
			if len(tr.Files) != 1 || !tr.Files[0].Opaque || tr.Files[0].Format != record.FormatRTPDump {
				t.Fatalf("told %t, %s: %+v", told, tr.Kind, tr.Files)
			}
			b := read(t, filepath.Join(path, tr.Files[0].Name))
			packets := dumped(t, b)
			if uint64(len(packets)) != tr.Packets {
				t.Errorf("told %t, %s: %d packets in the file, %d came", told, tr.Kind, len(packets), tr.Packets)
			}
			for _, plain := range append(sig.Frames[1:], sig.Sounds...) {
				if len(plain) > 40 && bytes.Contains(b, plain[20:36]) {
					t.Fatal("plaintext in the file")
				}
			}
			if x := read(t, filepath.Join(path, tr.Files[0].Index)); len(x) == 0 || len(x)%16 != 0 {
				t.Errorf("an index of %d bytes", len(x))
			}
		}
	}
}

// A meeting that begins to encrypt in its middle: what could be read stays, and the rest goes into another file, as it came.
func TestTurnsOpaque(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir})
	rec := start(t, r, record.Options{})
	v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	v.pictures(sig, 0, 2*sec)
	v.mangle = scramble(4)
	v.pictures(sig, 2*sec, 5*sec)
	path, m := finish(t, dir, rec)
	f := m.Tracks[0].Files
	if len(f) != 2 || f[0].Opaque || !f[1].Opaque || f[1].OffsetSeconds < 2 || f[1].OffsetSeconds > 3.1 {
		t.Fatalf("%+v %+v", f[0], f[len(f)-1])
	}
	if p := muxtest.NewProbe(t, filepath.Join(path, f[0].Name)); p.Frames != 2*fps {
		t.Errorf("%d pictures", p.Frames)
	}
}

// A change of codec begins another file.
func TestCodecChange(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir})
	rec := start(t, r, record.Options{})
	v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	v.pictures(sig, 0, sec)
	v.codec = rtp.H264 // whose packets these are not
	v.pictures(sig, sec, 2*sec)
	v.codec = rtp.VP8
	v.pictures(sig, 2*sec, 5*sec)
	path, m := finish(t, dir, rec)
	f := m.Tracks[0].Files
	if len(f) < 2 || f[0].Codec != "VP8" || f[len(f)-1].Codec != "VP8" || f[0].Name == f[len(f)-1].Name {
		t.Fatalf("%d files", len(f))
	}
	last := f[len(f)-1]
	if p := muxtest.NewProbe(t, filepath.Join(path, last.Name)); p.Frames != 3*fps || math.Abs(last.OffsetSeconds-2) > 0.01 {
		t.Errorf("%+v: %d pictures", last, p.Frames)
	}
}

// What a slow disk leaves in memory is bounded, and what found no room is counted.
func TestOverflow(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir, Interval: time.Hour}) // it does not come to empty the ring
	rec := start(t, r, record.Options{})
	a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	for i := range 2000 {
		a.send(int64(i)*20*ms, sig.Sounds[i%len(sig.Sounds)], false)
	}
	a.note(tap.Muted, 40*sec)
	_, m := finish(t, dir, rec)
	tr := m.Tracks[0]
	if tr.Overflow == 0 || tr.Packets+tr.Overflow != 2000 {
		t.Errorf("%d packets, %d found no room", tr.Packets, tr.Overflow)
	}
}

type owner chan record.Reason

func (o owner) RecordingFails(_ *record.Recording, why record.Reason) { o <- why }

// A recording that comes to the bound ends itself, and another one does not begin.
func TestLimit(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir, MaxBytes: 10_000, Interval: time.Millisecond})
	o := make(owner, 1)
	rec := start(t, r, record.Options{Owner: o})
	a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	a.sounds(sig, 0, 5*sec)
	if why := <-o; why != record.Limit {
		t.Errorf("it ends by %q", why)
	}
	rec.Finish(record.Limit)
	<-rec.Done()
	if _, err := r.Start(record.Options{}); !errors.Is(err, record.ErrNoRoom) {
		t.Errorf("another one: %v", err)
	}
	again := newRecorder(t, record.Config{Directory: dir, MaxBytes: 10_000})
	if _, err := again.Start(record.Options{}); !errors.Is(err, record.ErrNoRoom) {
		t.Errorf("after a restart: %v", err)
	}
}

// Close ends what goes on, twice without harm, and nothing begins afterwards.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	r := newRecorder(t, record.Config{Directory: dir})
	rec := start(t, r, record.Options{})
	rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch})
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	<-rec.Done()
	m, err := record.ReadManifest(filepath.Join(dir, rec.ID()))
	if err != nil || m.Reason != record.Shutdown || m.State != record.StateFinished || len(m.Tracks) != 1 {
		t.Errorf("%+v %v", m, err)
	}
	if _, err := r.Start(record.Options{}); !errors.Is(err, record.ErrClosed) {
		t.Errorf("another one: %v", err)
	}
}

// dumped reads an rtpdump file.
func dumped(t *testing.T, b []byte) (packets [][]byte) {
	t.Helper()
	head := strings.IndexByte(string(b), '\n') + 1 + 16
	for b = b[head:]; len(b) > 8; {
		n := int(binary.BigEndian.Uint16(b))
		packets = append(packets, b[8:n])
		b = b[n:]
	}
	return packets
}
