package signaling

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/signaling/wire"
)

func recording(c *Config) { c.Recorder = c.Media.(media).Media }

// A host begins and ends a recording; everybody is told, who comes later sees it at once, and who was away hears of it.
func TestRecord(t *testing.T) {
	w := newWorld(t, recording)
	host, guest := w.member("Ann", true), w.member("Bob", false)
	if !host.join.CanRecord || host.join.Recording != (wire.RecordingState{}) {
		t.Errorf("before: %+v", host.join)
	}
	guest.disconnect() // and is away
	must[*wire.RecordStartOK](host, &wire.RecordStart{})
	active := wire.RecordingState{Active: true, Since: 1000, By: host.join.Participant}
	if e := see[*wire.Recording](host); e.Recording != active {
		t.Errorf("the host is told %+v", e)
	}
	guest = guest.resume(guest.seq)
	if e := see[*wire.Recording](guest); e.Recording != active {
		t.Errorf("who was away is told %+v", e)
	}
	late := w.member("Cat", false)
	if d := cmp.Diff(active, late.join.Recording); d != "" {
		t.Error(d)
	}
	must[*wire.RecordStopOK](host, &wire.RecordStop{})
	over := active
	over.Active, over.Ended = false, wire.RecordingStopped
	for _, c := range []*client{host, guest, late} {
		if e := see[*wire.Recording](c); e.Recording != over {
			t.Errorf("at the end %+v", e)
		}
	}
}

// Only hosts record, and only where the operator allows it.
func TestRecordRefused(t *testing.T) {
	w := newWorld(t, recording)
	host, guest := w.member("Ann", true), w.member("Bob", false)
	guest.refused(wire.Forbidden, &wire.RecordStart{})
	must[*wire.RecordStartOK](host, &wire.RecordStart{})
	guest.refused(wire.Forbidden, &wire.RecordStop{})
	w.media.Fail("StartRecording", refuse(wire.Conflict, "twice", ""))
	host.refused(wire.Conflict, &wire.RecordStart{})
	w.media.Fail("StopRecording", errors.New("a fault"))
	host.refused(wire.Internal, &wire.RecordStop{})

	w = newWorld(t, nil)
	host = w.member("Ann", true)
	if host.join.CanRecord {
		t.Error("it is offered where nobody records")
	}
	host.refused(wire.Forbidden, &wire.RecordStart{})
	host.refused(wire.Conflict, &wire.RecordStop{})
	unseen[*wire.Recording](host)
}

// A recording that ends by itself is everybody's news, with its reason; the administrator's is nobody's in particular.
func TestRecordEnds(t *testing.T) {
	w := newWorld(t, recording)
	guest := w.member("Bob", false)
	for reason, want := range map[string]wire.RecordingEnd{
		"limit": wire.RecordingFull, "disk-full": wire.RecordingFull, "disk-error": wire.RecordingFailed, "moved": wire.RecordingFailed,
	} {
		if err := w.svc.StartRecording(t.Context(), w.room); err != nil {
			t.Fatal(err)
		}
		if e := see[*wire.Recording](guest); !e.Recording.Active || e.Recording.By != "" {
			t.Errorf("%+v", e)
		}
		w.media.EndRecording(w.room, reason)
		if e := see[*wire.Recording](guest); e.Recording.Active || e.Recording.Ended != want {
			t.Errorf("%s: %+v", reason, e)
		}
	}
	if err := w.svc.StartRecording(t.Context(), w.room); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.StopRecording(t.Context(), w.room); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{
		func() error { return w.svc.StartRecording(t.Context(), "nowhere") }, func() error { return w.svc.StopRecording(t.Context(), "nowhere") },
	} {
		if err := f(); !errors.Is(err, &wire.Error{Code: wire.NotFound}) {
			t.Errorf("a room that is not there: %v", err)
		}
	}
}
