package record_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/mux/muxtest"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/record"
)

// On a disk that is full for a while the recording loses what it cannot write, says so, and goes on when there is room.
func TestDiskFull(t *testing.T) {
	sig := newSignal(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no small file system here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	r := newRecorder(t, record.Config{Directory: dir, Interval: time.Millisecond})
	t.Cleanup(func() { _ = r.Close() })
	o := make(owner, 1)
	rec := start(t, r, record.Options{Owner: o})
	a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	until := func(what string, ok func(record.Info) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(rec.Info()); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, rec.Info())
			}
		}
	}
	play := func(from, to int64) {
		t.Helper()
		a.sounds(sig, from, to)
		v.pictures(sig, from, to)
		until("not all is taken", func(i record.Info) bool { return i.Packets == a.put+v.put })
	}
	play(0, 1500*ms)
	until("nothing is written", func(i record.Info) bool { return i.Bytes > 2000 })
	fill := filepath.Join(dir, "filler")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	// Files grow by pages of 4 KiB here: what a second takes is less, so that it takes more of them to fail.
	for i := range int64(10) {
		a.start, a.ts = sec+i*5*sec, uint32(i*5*48000)
		v.start, v.ts = sec+i*5*sec, uint32(i*5*90000)
		play(1500*ms, 5*sec)
	}
	until("nothing is lost", func(i record.Info) bool { return i.Lost > 0 })
	if err := errors.Join(f.Close(), os.Remove(fill)); err != nil {
		t.Fatal(err)
	}
	a.start, a.ts = 51*sec, 50*48000
	v.start, v.ts = 51*sec, 50*90000
	play(0, 5*sec)
	path, m := finish(t, dir, rec)
	gaps := 0
	for _, tr := range m.Tracks {
		for _, g := range tr.Gaps {
			if g.Reason == record.GapDisk {
				gaps++
			}
		}
		if tr.NotWritten == 0 {
			continue
		}
		if p := muxtest.NewProbe(t, filepath.Join(path, tr.Files[0].Name)); math.Abs(p.Duration-55) > 0.5 {
			t.Errorf("%s: %+v", tr.Kind, p)
		}
	}
	if gaps == 0 {
		t.Errorf("no gap in the manifest: %+v %+v", m.Tracks[0], m.Tracks[1])
	}
	select {
	case why := <-o: // the free space is looked at each second, so that it may have been seen
		if why != record.DiskFull {
			t.Errorf("given up by %q", why)
		}
	default:
	}
}
