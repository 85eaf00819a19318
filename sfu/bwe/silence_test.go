package bwe_test

import (
	"testing"

	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// Where there is no sound, nothing leaves while the path is taken for full, and so there is nothing that a feedback could be on. When
// what was under way is lost, no feedback ends that.
func TestNothingEndsIt(t *testing.T) {
	for name, c := range map[string]struct {
		waits func(i int64) int64 // how long the i-th of the last packets is under way; 0: for ever
		held  bool
		most  int64
	}{
		"all of a burst but the first is lost": {func(i int64) int64 { return []int64{10 * ms, 0}[min(i, 1)] }, false, 300 * ms},
		"a deep queue":                         {func(i int64) int64 { return 10*ms + i*8*ms }, true, 800 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			e := bwe.New(bwe.Config{Start: 3_000_000})
			var rec rtcp.TWCCRecorder
			now, seq := second, uint16(0)
			send := func(way int64) {
				e.Sent(seq, 1200, bwe.NoProbe, now)
				if way > 0 {
					rec.Received(seq, now+way)
				}
				seq++
				now += 5 * ms
			}
			report := func() {
				for it := rtcp.NewIterator(rec.Append(nil, 1, 2, 1100)); it.Next(); {
					if f, ok := rtcp.ParseTWCC(it.Packet); ok {
						e.TransportFeedback(f, now)
					}
				}
				e.Tick(now)
			}
			for i := range 1000 {
				send(10 * ms)
				if i%10 == 9 {
					report()
				}
			}
			if e.Congested() {
				t.Fatal("a path without a queue is full")
			}
			for i := range int64(40) {
				send(c.waits(i))
			}
			report()
			if !e.Congested() || e.Draining() != c.held {
				t.Fatalf("congested %t, draining %t", e.Congested(), e.Draining())
			}
			until := now
			for e.Congested() && until-now < 10*second {
				until += 10 * ms
				e.Tick(until)
			}
			t.Logf("media waits for %d ms", (until-now)/ms)
			if until-now > c.most {
				t.Errorf("media waits for %d ms", (until-now)/ms)
			}
		})
	}
}
