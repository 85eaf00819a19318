package record_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/mux/muxtest"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/record"
)

const crashDirectory = "SOTTO_RECORD_CRASH_DIRECTORY"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirectory); dir != "" {
		recordForEver(dir)
	}
	os.Exit(m.Run())
}

// recordForEver records until it is killed; a line on stdout says that some seconds are in the rings.
func recordForEver(dir string) {
	r, err := record.New(record.Config{Directory: dir, MinFree: 1, Interval: time.Millisecond}, nil)
	if err != nil {
		panic(err)
	}
	rec, err := r.Start(record.Options{Conference: "c"})
	if err != nil {
		panic(err)
	}
	t := new(testing.T)
	sig := newSignal(t)
	v := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindVideo, Epoch: epoch}), rtp.VP8, sec)
	a := newStream(rec.Add(record.TrackOptions{Kind: rtp.KindAudio, Epoch: epoch}), rtp.Opus, sec)
	for round := int64(0); ; round++ {
		v.start, a.start = sec+5*round*sec, sec+5*round*sec
		v.ts, a.ts = uint32(5*round*90000), uint32(5*round*48000)
		v.pictures(sig, 0, 5*sec)
		a.sounds(sig, 0, 5*sec)
		for from := time.Now(); time.Since(from) < 20*time.Millisecond; { // the recorder has its own pace, a hundred times real time
		}
		fmt.Println(5 * (round + 1))
	}
}

// After kill -9 the files play up to the last second or so, the manifest is whole, and the next start says what happened.
func TestKill(t *testing.T) {
	newSignal(t) // skips where there is no ffmpeg
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDirectory+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, said := bufio.NewScanner(out), 0
	for said < 600 && lines.Scan() { // ten minutes of media, which take it a few seconds: the manifest is written every two
		_, _ = fmt.Sscan(lines.Text(), &said)
	}
	for id := ""; ; { // until the manifest knows both files
		if id == "" {
			if list, _ := filepath.Glob(filepath.Join(dir, "*")); len(list) > 0 {
				id = list[0]
			}
		}
		if m, err := record.ReadManifest(id); id != "" && err == nil && len(m.Tracks) == 2 && len(m.Tracks[0].Files) == 1 && len(m.Tracks[1].Files) == 1 {
			break
		}
		if !lines.Scan() {
			t.Fatal("it ended by itself")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	r := newRecorder(t, record.Config{Directory: dir})
	if r.Used() == 0 {
		t.Error("what is there is not counted")
	}
	list, _ := filepath.Glob(filepath.Join(dir, "*"))
	m, err := record.ReadManifest(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.State != record.StateInterrupted || m.Reason != record.Crash || m.EndedAt == nil {
		t.Errorf("%s by %q", m.State, m.Reason)
	}
	for _, tr := range m.Tracks {
		f := tr.Files[0]
		p := muxtest.NewProbe(t, filepath.Join(list[0], f.Name))
		if p.Duration < f.DurationSeconds-1.5 || p.Duration < 60 || p.Frames == 0 {
			t.Errorf("%s: %+v, the manifest says %v s", f.Name, p, f.DurationSeconds)
		}
	}
}
