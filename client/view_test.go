package client_test

import (
	"context"
	"sync/atomic"
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

// Loss on the way to a receiver is bad for that one alone; on the way from a publisher it is for everybody, the publisher included. Row C5.
func TestQuality(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	var deaf, mute atomic.Bool
	some := func(on *atomic.Bool) func(b []byte) bool {
		return func(b []byte) bool {
			h := header(b)
			return h != nil && on.Load() && h.SequenceNumber%5 < 2
		}
	}
	ann := m.join("Ann", with(publish(microphone), socket(t, nil, some(&mute))))
	bob := m.join("Bob", with(auto, socket(t, some(&deaf), nil)))
	cid := m.join("Cid", auto)
	track := ann.Local(wire.Microphone)
	talk(t, track, nil)
	for _, c := range []*member{bob, cid} {
		s := c.stream(wire.Microphone)
		read(t, s, 10)
		go func() {
			for range s.Packets() {
			}
		}()
	}
	hears := func(c *member, want wire.Grade) {
		t.Helper()
		event(c, func(q *wire.Quality) bool {
			return len(q.Tracks) == 1 && q.Tracks[0] == wire.TrackQuality{Track: track.ID(), Grade: want}
		})
	}
	deaf.Store(true)
	hears(bob, wire.GradePoor)
	deaf.Store(false)
	hears(bob, wire.GradeGood)
	for _, c := range []*member{ann, cid} {
		for len(c.Events()) > 0 {
			if q, ok := (<-c.Events()).(*wire.Quality); ok {
				t.Errorf("told of a loss that is Bob's: %+v", q)
			}
		}
	}
	mute.Store(true)
	for _, c := range []*member{ann, bob, cid} {
		hears(c, wire.GradePoor)
	}
	if scores := m.node.Scores(); scores[0].Kind != sfu.Audio || scores[0].Slot || scores[0].Counts[0] == 0 || scores[1].Counts[0] == 0 {
		t.Errorf("histograms %+v", scores)
	}
}
