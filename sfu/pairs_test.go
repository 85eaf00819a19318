package sfu_test

import (
	"slices"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
)

// The sound and the picture of one participant play in slots of one MediaStream, however people come, go and come back, so that
// browsers play them in step; no offer is needed for that.
func TestPairs(t *testing.T) {
	f := start(t)
	viewer := f.join("viewer")
	o := viewer.answer(1)
	stream := map[string]string{}
	of := map[string][]sfu.Kind{}
	for _, s := range o.Sections {
		stream[s.MID] = s.StreamID
		of[s.StreamID] = append(of[s.StreamID], s.Kind)
	}
	for id, kinds := range of {
		slices.Sort(kinds)
		if !slices.Equal(kinds, []sfu.Kind{sfu.Audio, sfu.Video}) {
			t.Errorf("stream %s is of %v", id, kinds)
		}
	}
	type person struct {
		*member
		tracks []sfu.TrackID
	}
	come := func(id sfu.ParticipantID, order ...sfu.Publish) person {
		t.Helper()
		m := f.join(id, order...)
		m.answer(1)
		p := person{member: m}
		for _, x := range order {
			p.tracks = append(p.tracks, m.track(x.Source))
		}
		for _, id := range p.tracks {
			if err := viewer.Subscribe(f.ctx, []sfu.TrackID{id}); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	together := func(people ...person) {
		t.Helper()
		at := map[sfu.TrackID]string{}
		for mid, track := range viewer.slots() {
			at[track] = stream[mid]
		}
		for _, p := range people {
			for _, id := range p.tracks[1:] {
				if a, b := at[p.tracks[0]], at[id]; a == "" || a != b {
					t.Errorf("tracks of %s are in %q and %q", p.id, a, b)
				}
			}
		}
	}
	a, b := come("a", mic, camera), come("b", camera, mic)
	only := come("only", camera)
	together(a, b)
	if err := only.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	c, d := come("c", camera, mic), come("d", mic, camera)
	together(b, c, d)
	if err := viewer.Unsubscribe(f.ctx, []sfu.TrackID{c.tracks[1], d.tracks[0], b.tracks[0]}); err != nil {
		t.Fatal(err)
	}
	if err := viewer.Subscribe(f.ctx, []sfu.TrackID{b.tracks[0], d.tracks[0], c.tracks[1]}); err != nil {
		t.Fatal(err)
	}
	together(b, c, d)
	viewer.offer(1)
}
