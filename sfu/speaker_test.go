package sfu

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The speaker is news for the whole conference, once a change, and nobody is one when the speaker leaves. Levels and time are
// handed in here, as a shard's notice brings them; that packets carry them is shown in sfu/forward.
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
	c := ends["a"].e.conf
	now := int64(1e15) // the real clock stays out of this
	hear := func(who ParticipantID) {
		var levels []level
		for id, e := range ends {
			l := level{conf: c, id: e.e.speakerID, loud: 127, at: now}
			if id == who {
				l.loud, l.voice = 20, true
			}
			levels = append(levels, l)
		}
		c.hear(levels)
	}
	talk := func(who ParticipantID, span int64) {
		for end := now + span; now < end; now += 20 * ms {
			hear(who)
			c.findSpeaker(now)
		}
	}
	talk("", 500*ms)
	talk("a", 1000*ms)
	talk("b", 60*ms) // a cough
	talk("a", 500*ms)
	talk("b", 1500*ms)
	c.hear([]level{{conf: c, id: ends["b"].e.speakerID, remove: true}})
	delete(ends, "b")
	talk("", 3000*ms)
	for end := now + speakerSilence; c.findSpeaker(now); now += 100 * ms {
		if now > end {
			t.Fatal("looks for a speaker where nobody is heard")
		}
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
