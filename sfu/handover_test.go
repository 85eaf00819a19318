package sfu_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
)

// What was offered, published and wanted on one node goes on on the other: the outstanding offer is answered there, the numbers
// count on, sections and slots stay what they were.
func TestHandoverOfNegotiation(t *testing.T) {
	f, g := pair(t)
	a, b := f.join("a", mic, camera), f.join("b", mic)
	am, ac := a.track(sfu.Microphone), a.track(sfu.Camera)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{am, ac}); err != nil {
		t.Fatal(err)
	}
	o := b.answer(1)
	if _, err := b.Publish(f.ctx, screen); err != nil {
		t.Fatal(err)
	}
	outstanding := b.offer(2)
	a.answer(1)
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	a.offer(2)

	h, err := f.node.Conference("room").Export(f.ctx, sfu.Freeze)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(h.Expose()) { // no part of it is taken for the whole
		if _, err := g.node.Import(g.ctx, sfu.NewHandover(h.Expose()[:i]), sfu.ImportOptions{}); !errors.Is(err, sfu.ErrState) {
			t.Fatalf("%d of %d bytes: %v", i, len(h.Expose()), err)
		}
	}
	ends := g.takeOver(h)
	if len(ends) != 2 {
		t.Fatalf("%d endpoints", len(ends))
	}
	b2 := &member{ends["b"], g, "b"}
	if err := b2.Answer(g.ctx, 1, accept(o)); !errors.Is(err, sfu.ErrStaleOffer) {
		t.Error(err)
	}
	if err := b2.Answer(g.ctx, 2, accept(outstanding)); err != nil {
		t.Fatal(err)
	}
	if err := b2.Unpublish(g.ctx, b2.track(sfu.Screen)); err != nil {
		t.Fatal(err)
	}
	offers := g.all("b", sfu.EventOffer)
	if len(offers) != 1 || offers[0].Offer.Number != 3 || offers[0].Offer.Fingerprint != o.Fingerprint {
		t.Fatalf("%+v", offers)
	}
	for i, x := range offers[0].Offer.Sections[:len(o.Sections)] {
		if d := cmp.Diff(o.Sections[i], x); d != "" {
			t.Errorf("section %d: %s", i, d)
		}
	}
	if err := ends["a"].Unpublish(g.ctx, ac); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]sfu.TrackID{"1": am}, b2.slots()); d != "" {
		t.Error(d)
	}
	// The node that gave it away says so, and has nothing left when it ends it.
	if _, err := a.Publish(f.ctx, screen); !errors.Is(err, sfu.ErrAway) {
		t.Error(err)
	}
	if err := f.node.Conference("room").Close(f.ctx); err != nil {
		t.Error(err)
	}
	if err := g.node.Conference("room").Close(g.ctx); err != nil {
		t.Error(err)
	}
	for _, x := range []*fixture{f, g} {
		if st, err := x.node.Stats(x.ctx); err != nil || st.Endpoints != 0 || st.BuffersInUse != 0 {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

// A publication that took a section up while an offer was outstanding is not what the answer to that offer speaks of, on whichever
// node it arrives: it opens with the next one.
func TestHandoverOfLaterPublication(t *testing.T) {
	f, g := pair(t)
	a := f.join("a", mic)
	a.answer(1)
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	outstanding := a.offer(2)
	if err := a.Unpublish(f.ctx, a.track(sfu.Microphone)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(f.ctx, mic); err != nil {
		t.Fatal(err)
	}
	ends := f.handOver(g)
	codec := func() string {
		t.Helper()
		all, err := g.node.Conferences(g.ctx)
		if err != nil || len(all) != 1 || len(all[0].Endpoints) != 1 || len(all[0].Endpoints[0].Tracks) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0].Endpoints[0].Tracks[0].Codec // none before it is open
	}
	if err := ends["a"].Answer(g.ctx, 2, accept(outstanding)); err != nil {
		t.Fatal(err)
	}
	if got := codec(); got != "" {
		t.Errorf("opened as %q by the answer to an offer that was made before it", got)
	}
	offers := g.all("a", sfu.EventOffer)
	if len(offers) != 1 || offers[0].Offer.Number != 3 {
		t.Fatalf("%+v", offers)
	}
	if err := ends["a"].Answer(g.ctx, 3, accept(offers[0].Offer)); err != nil {
		t.Fatal(err)
	}
	if got := codec(); got != "opus" {
		t.Errorf("opened as %q by its own answer", got)
	}
}

// How receivers show a track goes along, and with it which layers are of use: the new node says it of its own accord.
func TestHandoverOfViews(t *testing.T) {
	f, g := pair(t)
	a := f.join("a", sfu.Publish{Source: sfu.Camera, Simulcast: true})
	a.answer(1)
	camera := a.track(sfu.Camera)
	b := f.join("b")
	b.answer(1)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{camera}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetViews(f.ctx, []sfu.View{{Track: camera, Width: 320, Height: 180, Pinned: true}, {Track: "gone"}}); err != nil {
		t.Fatal(err)
	}
	says := func(f *fixture, layers int) {
		t.Helper()
		f.until("demand", func(e sfu.Event) bool {
			return e.Type == sfu.EventDemand && e.Participant == "a" && e.Track == camera && e.Layers == layers
		})
	}
	says(f, 1)
	ends := f.handOver(g)
	says(g, 3) // until it is clear that it stays so
	says(g, 1)
	if err := ends["b"].SetViews(g.ctx, []sfu.View{{Track: camera, Width: 1280, Height: 720}}); err != nil {
		t.Fatal(err)
	}
	says(g, 3)
}
