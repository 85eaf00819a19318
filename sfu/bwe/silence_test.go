package bwe_test

import (
	"testing"

	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// Where there is no sound, nothing leaves while the path is taken for full, and so there is nothing that a feedback could be on. When
// what was under way is lost, no feedback ends that.
func TestNothingEndsIt(t *testing.T) {
	e := bwe.New(bwe.Config{Start: 3_000_000})
	var rec rtcp.TWCCRecorder
	now, seq := second, uint16(0)
	report := func() {
		for it := rtcp.NewIterator(rec.Append(nil, 1, 2, 1100)); it.Next(); {
			if f, ok := rtcp.ParseTWCC(it.Packet); ok {
				e.TransportFeedback(f, now)
			}
		}
		e.Tick(now)
	}
	for i := range 1000 {
		e.Sent(seq, 1200, bwe.NoProbe, now)
		rec.Received(seq, now+10*ms)
		seq++
		now += 5 * ms
		if i%10 == 9 {
			report()
		}
	}
	if e.Congested() {
		t.Fatal("a path without a queue is full")
	}
	// Of the next burst only the first arrives.
	e.Sent(seq, 1200, bwe.NoProbe, now)
	rec.Received(seq, now+10*ms)
	for range 40 {
		seq++
		now += 5 * ms
		e.Sent(seq, 1200, bwe.NoProbe, now)
	}
	report()
	if !e.Congested() {
		t.Fatal("what is missing raises no doubt")
	}
	until := now
	for e.Congested() && until-now < 10*second {
		until += 10 * ms
		e.Tick(until)
	}
	t.Logf("media waits for %d ms", (until-now)/ms)
	if until-now > 300*ms {
		t.Errorf("media waits for %d ms", (until-now)/ms)
	}
}
