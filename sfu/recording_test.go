package sfu_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/record"
)

func recorder(t testing.TB, dir string) func(*sfu.Config) {
	t.Helper()
	r, err := record.New(record.Config{Directory: dir, MinFree: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return func(c *sfu.Config) { c.Recorder = r }
}

func (f *fixture) recording(active bool) *sfu.Recording {
	f.t.Helper()
	e := f.until("the recording", func(e sfu.Event) bool { return e.Type == sfu.EventRecording && e.Recording.Active == active })
	return e.Recording
}

func manifest(t testing.TB, dir, id string) record.Manifest {
	t.Helper()
	m, err := record.ReadManifest(filepath.Join(dir, id))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A recording takes in what is published already and what comes later, and is told of when it begins and ends.
func TestRecording(t *testing.T) {
	dir := t.TempDir()
	f := start(t, recorder(t, dir))
	room := f.node.Conference("room")
	if _, err := room.StartRecording(f.ctx, sfu.RecordOptions{}); !errors.Is(err, sfu.ErrNotFound) {
		t.Errorf("without a conference: %v", err)
	}
	ann := f.join("ann", sfu.Publish{Source: sfu.Microphone})
	ann.answer(1)
	if _, err := room.StopRecording(f.ctx); !errors.Is(err, sfu.ErrNotRecording) {
		t.Errorf("stop before start: %v", err)
	}
	state, err := room.StartRecording(f.ctx, sfu.RecordOptions{By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if e := f.recording(true); e.ID != state.ID || e.By != "ann" || e.StartedAt.IsZero() {
		t.Errorf("%+v", e)
	}
	if _, err := room.StartRecording(f.ctx, sfu.RecordOptions{}); !errors.Is(err, sfu.ErrRecording) {
		t.Errorf("twice: %v", err)
	}
	bob, err := room.Join(f.ctx, sfu.JoinOptions{Participant: "bob", Label: "Bob", Publish: []sfu.Publish{{Source: sfu.Camera, Simulcast: true}}})
	if err != nil {
		t.Fatal(err)
	}
	(&member{bob, f, "bob"}).answer(1)
	if s, err := room.Recording(f.ctx); err != nil || s.ID != state.ID {
		t.Errorf("%+v %v", s, err)
	}
	if err := ann.Unpublish(f.ctx, ann.track(sfu.Microphone)); err != nil {
		t.Fatal(err)
	}
	if _, err := room.StopRecording(f.ctx); err != nil {
		t.Fatal(err)
	}
	if e := f.recording(false); e.ID != state.ID || e.Reason != string(record.Stopped) {
		t.Errorf("%+v", e)
	}
	m := manifest(t, dir, state.ID)
	if m.Conference != "room" || m.By != "ann" || m.State != record.StateFinished || len(m.Tracks) != 2 {
		t.Fatalf("%+v", m)
	}
	for i, want := range []record.TrackEntry{{Participant: "ann", Source: "microphone"}, {Participant: "bob", Name: "Bob", Source: "camera"}} {
		if got := m.Tracks[i]; got.Participant != want.Participant || got.Name != want.Name || got.Source != want.Source || !got.Ended {
			t.Errorf("track %d: %+v", i, got)
		}
	}
}

// A recording ends with its conference, and with its node.
func TestRecordingEnds(t *testing.T) {
	dir := t.TempDir()
	f := start(t, recorder(t, dir))
	for _, end := range []struct {
		why record.Reason
		do  func(*member) error
	}{
		{record.Emptied, func(m *member) error { return m.Close() }},
		{record.Emptied, func(*member) error { return f.node.Conference("room").Close(f.ctx) }},
		{record.Shutdown, func(*member) error { return f.node.Close() }},
	} {
		f.mu.Lock()
		f.events = nil
		f.mu.Unlock()
		ann := f.join("ann", sfu.Publish{Source: sfu.Microphone})
		ann.answer(1)
		state, err := f.node.Conference("room").StartRecording(f.ctx, sfu.RecordOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := end.do(ann); err != nil {
			t.Fatal(err)
		}
		if e := f.recording(false); e.ID != state.ID || e.Reason != string(end.why) {
			t.Errorf("%+v", e)
		}
	}
}

// A disk without room is an answer of its own, and so is a node that does not record.
func TestRecordingRefused(t *testing.T) {
	f := start(t)
	f.join("ann")
	if _, err := f.node.Conference("room").StartRecording(f.ctx, sfu.RecordOptions{}); !errors.Is(err, sfu.ErrNoRecorder) {
		t.Errorf("%v", err)
	}
	r, err := record.New(record.Config{Directory: t.TempDir(), MinFree: 1 << 60}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g := start(t, func(c *sfu.Config) { c.Recorder = r })
	g.join("ann")
	if _, err := g.node.Conference("room").StartRecording(g.ctx, sfu.RecordOptions{}); !errors.Is(err, sfu.ErrTooMany) || !errors.Is(err, record.ErrNoRoom) {
		t.Errorf("%v", err)
	}
}
