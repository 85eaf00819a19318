package sfu

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The speaker is news for the whole conference, once a change, and nobody is one when the speaker leaves. Levels and time are
// handed to the shard's thread here; that packets carry them there is shown in sfu/forward.
func TestSpeakerEvents(t *testing.T) {
	const ms = int64(1e6)
	var got []ParticipantID
	n, err := NewNode(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Observer: observe(func(e Event) {
		if e.Type == EventSpeaker && e.Conference == "room" && e.Participant == "" {
			got = append(got, e.Speaker)
		}
	})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	ends := make(map[ParticipantID]*Endpoint)
	for _, id := range []ParticipantID{"a", "b"} {
		if ends[id], err = n.Conference("room").Join(ctx, JoinOptions{Participant: id}); err != nil {
			t.Fatal(err)
		}
	}
	err = n.shard.do(ctx, func(now int64) error {
		n.shard.speakerAt = now + 1e15 // the real clock stays out of this
		c := n.shard.conferences["room"]
		talk := func(who ParticipantID, span int64) {
			for end := now + span; now < end; now += 20 * ms {
				for id, e := range ends {
					level := uint8(127)
					if id == who {
						level = 20
					}
					c.detector.Level(e.e.speakerID, level, id == who, now)
				}
				c.findSpeaker(now)
			}
		}
		talk("", 500*ms)
		talk("a", 1000*ms)
		talk("b", 60*ms) // a cough
		talk("a", 500*ms)
		talk("b", 1500*ms)
		c.detector.Remove(ends["b"].e.speakerID)
		delete(ends, "b")
		talk("", 3000*ms)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ParticipantID{"a", "b", ""}, got); d != "" {
		t.Error(d)
	}
}

// observe makes an Observer of a function.
type observe func(Event)

// Event implements Observer.
func (f observe) Event(e Event) { f(e) }
