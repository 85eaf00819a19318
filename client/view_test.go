package client_test

import (
	"context"
	"testing"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// track returns what the server counts of a publication, and of the slot of a receiver that shows it.
func (m *meeting) track(owner, receiver, id string) (t sfu.TrackInfo, slot sfu.SlotInfo) {
	m.t.Helper()
	all, err := m.node.Conferences(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range all[0].Endpoints {
		for _, x := range e.Tracks {
			if string(e.Participant) == owner && string(x.ID) == id {
				t = x
			}
		}
		for _, x := range e.Slots {
			if string(e.Participant) == receiver && string(x.Track) == id {
				slot = x
			}
		}
	}
	return t, slot
}

// What a receiver shows decides which layer it gets, and which layers the publisher sends at all.
func TestViews(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(client.Publication{Source: wire.Camera, Simulcast: true}))
	bob := m.join("Bob", auto)
	track := ann.Local(wire.Camera)
	w := talk(t, track, func(w *talker) { w.layers.Store(3) })
	stream := bob.stream(wire.Camera)
	isLayer := func(want byte) func(client.Packet) bool {
		return func(p client.Packet) bool { _, layer, _ := number(p); return layer == want }
	}
	view := func(width, height int) {
		t.Helper()
		must(t, "view", func(ctx context.Context) error {
			return bob.SetViews(ctx, client.View{Track: track.ID(), Width: width, Height: height}, client.View{Track: "unknown"})
		})
	}
	demand := func(want int) {
		t.Helper()
		if d := event(ann, func(*wire.Demand) bool { return true }); d.Track != track.ID() || d.Layers != want {
			t.Fatalf("demand %+v, want %d layers", d, want)
		}
		if track.Wanted() != want {
			t.Fatalf("%d layers are wanted, want %d", track.Wanted(), want)
		}
	}
	await(t, "highest layer", stream.Packets(), isLayer(2))
	if track.Wanted() != 3 {
		t.Errorf("%d layers are wanted before anybody said so", track.Wanted())
	}

	view(320, 180)
	await(t, "lowest layer", stream.Packets(), isLayer(0))
	demand(1)
	eventually(t, "the upper layers to stop", func() bool {
		before, _ := m.track(ann.Participant(), bob.Participant(), track.ID())
		sent := w.sent.Load()
		eventually(t, "fifty pictures", func() bool { return w.sent.Load() > sent+50 })
		after, _ := m.track(ann.Participant(), bob.Participant(), track.ID())
		return after.Layers[0].Packets > before.Layers[0].Packets+20 &&
			after.Layers[1].Packets == before.Layers[1].Packets && after.Layers[2].Packets == before.Layers[2].Packets
	})

	view(640, 360)
	demand(2)
	await(t, "middle layer", stream.Packets(), isLayer(1))
	view(1280, 720)
	demand(3)
	await(t, "highest layer", stream.Packets(), isLayer(2))
	continuous(t, read(t, stream, 50), videoClock)

	view(0, 0)
	eventually(t, "nothing to be sent", func() bool {
		before, slot := m.track(ann.Participant(), bob.Participant(), track.ID())
		sent := w.sent.Load()
		eventually(t, "twenty pictures", func() bool { return w.sent.Load() > sent+20 })
		after, still := m.track(ann.Participant(), bob.Participant(), track.ID())
		return slot.Packets == still.Packets && after.Packets > before.Packets
	})
	if st := m.stats().Forward; st.NACKsOut != 0 {
		t.Errorf("the node misses %d packets of layers that stopped", st.NACKsOut)
	}
	view(320, 180)
	await(t, "lowest layer", stream.Packets(), isLayer(0))
}
