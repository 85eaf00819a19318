package rtcp_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func missing(g *rtcp.NACKGenerator, now, rtt int64) []uint16 {
	return g.Missing(now, rtt, make([]uint16, 0, 512))
}

func TestGeneratorGrace(t *testing.T) {
	var g rtcp.NACKGenerator
	g.Received(65534, 0)
	g.Received(65536, ms) // 65535 is missing
	if got := missing(&g, ms, 0); len(got) != 0 {
		t.Fatalf("%v asked for without a grace", got)
	}
	g.Received(65535, 2*ms) // it was only late
	g.Received(65537, 3*ms)
	if got := missing(&g, 100*ms, 0); len(got) != 0 || g.Next() != math.MaxInt64 {
		t.Fatalf("%v asked for, next at %d, though nothing is missing", got, g.Next())
	}

	g.Received(65539, 101*ms)
	g.Received(65540, 102*ms)
	if got := missing(&g, 102*ms, 0); !slices.Equal(got, []uint16{2}) {
		t.Fatalf("asked for %v at the second packet behind the gap, want 2", got)
	}

	g.Received(65542, 103*ms) // and a gap behind which nothing comes
	if got := missing(&g, 112*ms, 1000*ms); len(got) != 0 {
		t.Fatalf("%v asked for early", got)
	}
	if got := missing(&g, 113*ms, 1000*ms); !slices.Equal(got, []uint16{5}) {
		t.Fatalf("asked for %v after the grace time, want 5", got)
	}
	if g.Recovered != 0 || g.Requested != 2 {
		t.Errorf("recovered %d, requested %d", g.Recovered, g.Requested)
	}
}

func TestGeneratorRetries(t *testing.T) {
	for _, c := range []struct {
		name  string
		rtt   int64
		tries int
		first int64
	}{
		{"short round trip", 1 * ms, 10, 20 * ms},
		{"middling round trip", 80 * ms, 7, 90 * ms}, // the waits sum up to 270, 405, 608, 911 ms and more than a second
		{"long round trip", 200 * ms, 4, 225 * ms},
		{"absurd round trip", 3600_000 * ms, 1, 1000 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g rtcp.NACKGenerator
			g.Received(10, 0)
			g.Received(12, 0)
			g.Received(13, 0)
			var at []int64
			for g.Next() != math.MaxInt64 {
				now := g.Next()
				if got := missing(&g, now, c.rtt); len(got) != 0 {
					if !slices.Equal(got, []uint16{11}) {
						t.Fatalf("asked for %v", got)
					}
					at = append(at, now)
				}
			}
			if len(at) != c.tries || g.GaveUp != 1 {
				t.Fatalf("asked %d times at %v, want %d; gave up %d", len(at), at, c.tries, g.GaveUp)
			}
			for i := 1; i < len(at); i++ {
				wait := float64(c.first) * math.Pow(1.5, float64(max(0, i-3)))
				if got := at[i] - at[i-1]; math.Abs(float64(got)-wait) > 10 {
					t.Errorf("wait %d is %d ns, want %.0f", i, got, wait)
				}
			}
		})
	}
}

func TestGeneratorGivesUp(t *testing.T) {
	var g rtcp.NACKGenerator
	g.Received(0, 0)
	g.Received(1000, 0) // 999 missing, 256 of them remembered
	if g.GaveUp != 999-256 {
		t.Errorf("gave up %d of 999", g.GaveUp)
	}
	had := g.GaveUp
	g.Received(1001, 0)
	got := missing(&g, 0, 0)
	if uint64(len(got))+had != 999 || got[len(got)-1] != 999 || !slices.IsSorted(got) {
		t.Errorf("asks for %d after giving up %d", len(got), had)
	}
	for e := int64(1002); e < 1600; e++ {
		g.Received(e, ms)
	}
	if got = missing(&g, 30*ms, 0); len(got) != 0 || g.GaveUp != 999 {
		t.Errorf("asks for %d that are more than 512 behind, gave up %d", len(got), g.GaveUp)
	}
	g.Received(1601, 0)
	g.Reset()
	if g.Next() != math.MaxInt64 || g.GaveUp != 999 {
		t.Errorf("after a reset next at %d, gave up %d", g.Next(), g.GaveUp)
	}
	g.Received(5, 0)
	g.Received(7, 0)
	if got = missing(&g, 10*ms, 0); !slices.Equal(got, []uint16{6}) {
		t.Errorf("asks for %v after a reset", got)
	}
}

func TestGeneratorKeepsToTheRoomGiven(t *testing.T) {
	var g rtcp.NACKGenerator
	g.Received(0, 0)
	g.Received(10, 0)
	g.Received(11, 0)
	if got := g.Missing(0, 0, make([]uint16, 0, 4)); !slices.Equal(got, []uint16{1, 2, 3, 4}) {
		t.Fatalf("asks for %v", got)
	}
	if g.Next() != 0 {
		t.Fatalf("next at %d, although some are due", g.Next())
	}
	if got := g.Missing(0, 0, make([]uint16, 0, 9)); !slices.Equal(got, []uint16{5, 6, 7, 8, 9}) {
		t.Fatalf("asks for %v", got)
	}
}

// TestGeneratorOverALossyPath runs a stream over a simulated path that loses and reorders packets and requests, and
// holds the generator to its promises: it never asks for what arrived or was never sent, it does not ask twice within a
// round trip, and in the end every gap was closed or given up.
func TestGeneratorOverALossyPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type arrival struct {
			at, ext int64
		}
		var (
			g       rtcp.NACKGenerator
			rtt     = rapid.Int64Range(1, 300).Draw(t, "rtt") * ms
			loss    = rapid.IntRange(0, 40).Draw(t, "loss percent")
			reorder = rapid.Int64Range(0, 30).Draw(t, "reorder") * ms
			start   = rapid.Int64Range(0, 1<<17).Draw(t, "first")
			inLine  []arrival
			have    = map[int64]bool{}
			asked   = map[int64]int64{}
			highest = start
			sent    = start
		)
		lost := func() bool { return rapid.IntRange(0, 99).Draw(t, "fate") < loss }
		const total = 300
		inLine = append(inLine, arrival{0, start})
		for now := int64(0); now < 4000*ms; now += ms {
			if now%(5*ms) == 0 && sent < start+total {
				sent++
				if !lost() {
					inLine = append(inLine, arrival{now + rtt/2 + rapid.Int64Range(0, int64(reorder)).Draw(t, "jitter"), sent})
				}
			}
			rest := inLine[:0]
			for _, a := range inLine {
				if a.at > now {
					rest = append(rest, a)
					continue
				}
				have[a.ext] = true
				highest = max(highest, a.ext)
				g.Received(a.ext, now)
			}
			inLine = rest
			if g.Next() > now {
				continue
			}
			for _, seq := range missing(&g, now, rtt) {
				ext := highest + int64(int16(seq-uint16(highest)))
				if have[ext] || ext <= start || ext > sent {
					t.Fatalf("asks for %d: have it %v, sent up to %d", ext, have[ext], sent)
				}
				if last, ok := asked[ext]; ok && now-last < min(rtt, 1000*ms) {
					t.Fatalf("asks for %d after %d ms again", ext, (now-last)/ms)
				}
				asked[ext] = now
				if request, reply := lost(), lost(); !request && !reply {
					inLine = append(inLine, arrival{now + rtt, ext})
				}
			}
		}
		if g.Next() != math.MaxInt64 {
			t.Fatalf("gaps are left, next at %d", g.Next())
		}
		gaps := uint64(0)
		for ext := start; ext <= highest; ext++ {
			if !have[ext] {
				gaps++
			}
		}
		if gaps > g.GaveUp {
			t.Fatalf("%d gaps, gave up %d", gaps, g.GaveUp)
		}
		if loss == 0 && reorder == 0 && g.Requested != 0 {
			t.Fatalf("%d requests on a path that loses nothing", g.Requested)
		}
	})
}
