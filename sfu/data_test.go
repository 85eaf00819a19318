package sfu_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/data"
)

func (f *fixture) joinWithData(id sfu.ParticipantID) *member {
	f.t.Helper()
	e, err := f.node.Conference("room").Join(f.ctx, sfu.JoinOptions{Participant: id, Publish: []sfu.Publish{mic}, Data: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return &member{e, f, id}
}

// shape is what an offer has the same for everybody who publishes the same.
func shape(o *sfu.Offer) []sfu.Section {
	out := make([]sfu.Section, 0, len(o.Sections))
	for _, s := range o.Sections {
		s.SSRC, s.RTXSSRC, s.CNAME, s.Track = 0, 0, "", ""
		out = append(out, s)
	}
	return out
}

// Who asks for data has one section more, at the end of the first offer; everybody else's offer is what it was.
func TestDataSection(t *testing.T) {
	f := start(t)
	without, with := f.join("a", mic).offer(1), f.joinWithData("b").offer(1)
	n := len(without.Sections)
	if len(with.Sections) != n+1 {
		t.Fatalf("%d sections, without data %d", len(with.Sections), n)
	}
	if d := cmp.Diff(shape(without), shape(with)[:n]); d != "" {
		t.Error(d)
	}
	if s := with.Sections[n]; s.Data != sfu.DataBytes || s.Rejected || s.Kind != 0 || s.Direction != sfu.Inactive {
		t.Errorf("section %+v", s)
	}
	none := start(t, func(c *sfu.Config) { c.NoData = true })
	m := none.joinWithData("a")
	if o := m.offer(1); len(o.Sections) != n {
		t.Errorf("where there is no data, %d sections of %d", len(o.Sections), n)
	}
	if err := m.MuteData(none.ctx, true); !errors.Is(err, sfu.ErrNotFound) {
		t.Errorf("mute: %v", err)
	}
}

// Sections that come later stand behind it.
func TestDataSectionStays(t *testing.T) {
	f := start(t)
	m := f.joinWithData("a")
	first := m.answer(1)
	if _, err := m.Publish(f.ctx, camera); err != nil {
		t.Fatal(err)
	}
	second := m.answer(2)
	if d := cmp.Diff(first.Sections, second.Sections[:len(first.Sections)]); d != "" {
		t.Error(d)
	}
	if len(second.Sections) != len(first.Sections)+1 {
		t.Errorf("%d sections after %d", len(second.Sections), len(first.Sections))
	}
}

// The association of data channels is not handed over: the participant is told, and the section is out of use in the next offer.
// What else was offered stays as it was.
func TestDataIsLostByHandover(t *testing.T) {
	for _, outstanding := range []bool{false, true} {
		f, g := pair(t)
		a := f.joinWithData("a")
		f.join("b", mic).answer(1)
		first := a.offer(1)
		if !outstanding {
			a.answer(1)
		}
		ends := f.handOver(g)
		if outstanding {
			if err := ends["a"].Answer(g.ctx, 1, accept(first)); err != nil {
				t.Fatal(err)
			}
			a2 := &member{ends["a"], g, "a"}
			if _, err := a2.Publish(g.ctx, camera); err != nil { // whatever is next
				t.Fatal(err)
			}
		}
		offers := g.all("a", sfu.EventOffer)
		if len(offers) != 1 || offers[0].Offer.Number != 2 {
			t.Fatalf("%d offers", len(offers))
		}
		last := len(first.Sections) - 1
		want := append([]sfu.Section(nil), first.Sections...)
		want[last].Rejected = true
		if d := cmp.Diff(want, offers[0].Offer.Sections[:last+1]); d != "" {
			t.Error(d)
		}
		events := g.all("a", sfu.EventData)
		if len(events) != 1 || *events[0].Data != (sfu.DataClosed{Member: "a", Reason: data.Moved}) {
			t.Errorf("told %+v", events)
		}
		if events := g.all("b", sfu.EventData); len(events) != 0 {
			t.Errorf("who has no data is told %+v", events)
		}
		if err := ends["a"].MuteData(g.ctx, true); !errors.Is(err, sfu.ErrNotFound) {
			t.Errorf("mute: %v", err)
		}
		if st, err := f.node.Stats(f.ctx); err != nil || st.Data.Members != 0 {
			t.Errorf("%+v, %v", st.Data, err)
		}
	}
}

// Data channels can be asked for later: the next offer has their section behind all others, which stay as they were. Asking twice
// changes nothing, and where there are none, or where they went with another node, it is refused.
func TestDataLater(t *testing.T) {
	f, g := pair(t)
	a := f.join("a", mic)
	first := a.answer(1)
	for range 2 {
		if err := a.OpenData(f.ctx); err != nil {
			t.Fatal(err)
		}
	}
	second := a.answer(2)
	n := len(first.Sections)
	if d := cmp.Diff(first.Sections, second.Sections[:n]); d != "" {
		t.Error(d)
	}
	if len(second.Sections) != n+1 || second.Sections[n].Data != sfu.DataBytes || second.Sections[n].Rejected {
		t.Fatalf("sections behind the first %d: %+v", n, second.Sections[n:])
	}
	if err := a.MuteData(f.ctx, true); err != nil {
		t.Error(err)
	}
	w, _ := f.offered("whip", clientOffer(sfu.SendOnly), whipSources...)
	if err := w.OpenData(f.ctx); !errors.Is(err, sfu.ErrConflict) {
		t.Errorf("a client that offers: %v", err)
	}
	if err := f.handOver(g)["a"].OpenData(g.ctx); !errors.Is(err, sfu.ErrConflict) {
		t.Errorf("handed over: %v", err)
	}
	none := start(t, func(c *sfu.Config) { c.NoData = true })
	if err := none.join("a").OpenData(none.ctx); !errors.Is(err, sfu.ErrNotFound) {
		t.Errorf("where there are none: %v", err)
	}
}
