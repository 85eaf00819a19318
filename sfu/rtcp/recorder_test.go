package rtcp_test

import (
	"testing"

	pion "github.com/pion/rtcp"
	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

const ms = int64(1e6)

func ticks(now int64) uint32 { return uint32(now / 250_000) }

// TestRecorderHistories plays whole histories at a recorder (losses, reordering, duplicates, jumps in the numbers and in
// time, feedback at any moment and of any size), reads the feedback with pion/rtcp, and holds it against what was put in.
func TestRecorderHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			r        rtcp.TWCCRecorder
			now      = rapid.Int64Range(0, 1<<52).Draw(t, "start")
			highest  = int64(1)<<16 | int64(rapid.Uint16().Draw(t, "first"))
			arrivals = map[int64]uint32{}
			told     = map[int64]bool{}
			count    uint8
			end      = highest // behind the last number a feedback told of
		)
		receive := func(ext int64) {
			r.Received(uint16(ext), now)
			if _, ok := arrivals[ext]; !ok && highest-ext < 512 {
				arrivals[ext] = ticks(now)
			}
			highest = max(highest, ext)
		}
		feedback := func() {
			for r.Pending() {
				limit := rapid.IntRange(320, 3000).Draw(t, "limit")
				b := r.Append(nil, 11, 22, limit)
				if len(b) > limit || len(b) == 0 {
					t.Fatalf("%d bytes at a limit of %d", len(b), limit)
				}
				ps, err := pion.Unmarshal(b)
				if err != nil {
					t.Fatalf("pion cannot read % x: %v", b, err)
				}
				for _, p := range ps {
					f := p.(*pion.TransportLayerCC)
					if f.FbPktCount != count || f.SenderSSRC != 11 || f.MediaSSRC != 22 || f.MarshalSize() > 1200 {
						t.Fatalf("feedback %+v of %d bytes, want number %d", f.Header, f.MarshalSize(), count)
					}
					count++
					base := highest + int64(int16(f.BaseSequenceNumber-uint16(highest)))
					if base > end && r.Skipped == 0 {
						t.Fatalf("feedback from %d on, the last ended at %d", base, end)
					}
					for i, got := range pionFates(f) {
						ext := base + int64(i)
						want, ok := arrivals[ext]
						if got.received != ok || got.arrival != want {
							t.Fatalf("packet %d: %+v, want %v %d", ext, got, ok, want)
						}
						told[ext] = true
						end = ext + 1
					}
				}
			}
		}
		receive(highest)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				feedback()
			case 1: // the network is gone for a while
				now += rapid.Int64Range(0, 20_000).Draw(t, "pause") * ms
			case 2: // losses
				highest += int64(rapid.IntRange(1, 900).Draw(t, "lost"))
				receive(highest + 1)
			case 3:
				receive(highest - int64(rapid.IntRange(0, 520).Draw(t, "late")))
			case 4: // many more losses than the window holds
				if rapid.IntRange(0, 3).Draw(t, "big") == 0 {
					highest += int64(rapid.IntRange(2000, 32_000).Draw(t, "lost"))
					receive(highest + 1)
				}
			default:
				for range rapid.IntRange(1, 200).Draw(t, "burst") {
					now += rapid.Int64Range(0, 30*ms).Draw(t, "gap")
					receive(highest + 1)
				}
			}
		}
		feedback()
		if r.Pending() {
			t.Fatal("still pending")
		}
		missed := 0
		for ext := range arrivals {
			if !told[ext] {
				missed++
			}
		}
		if uint64(missed) > r.Skipped {
			t.Fatalf("%d packets no feedback told of, %d skipped", missed, r.Skipped)
		}
	})
}

func TestRecorderWritesRunsSmall(t *testing.T) {
	var r rtcp.TWCCRecorder
	now := 3 * int64(1e9)
	for i := range 400 {
		r.Received(uint16(65400+i), now)
		now += ms / 4
	}
	b := r.Append(nil, 1, 2, 1200)
	// 20 bytes of header, one run, a delta of one byte each, filled to words.
	if want := (20 + 2 + 400 + 3) / 4 * 4; len(b) != want || r.Pending() {
		t.Errorf("%d bytes, want %d; pending %v", len(b), want, r.Pending())
	}
	if b = r.Append(b[:0], 1, 2, 1200); len(b) != 0 {
		t.Errorf("nothing new makes % x", b)
	}
}

func TestRecorderReportsLatePacketsAfterwards(t *testing.T) {
	var r rtcp.TWCCRecorder
	now := int64(1e9)
	for _, seq := range []uint16{65534, 65535, 1} {
		r.Received(seq, now)
	}
	r.Append(nil, 1, 2, 1200)
	r.Received(0, now+5*ms)
	p := pionOne[*pion.TransportLayerCC](t, r.Append(nil, 1, 2, 1200))
	got := pionFates(p)
	if len(got) != 2 || got[0] != (fate{0, true, ticks(now + 5*ms)}) || got[1] != (fate{1, true, ticks(now)}) {
		t.Errorf("late packet reported as %+v", got)
	}
}

func TestRecorderTooSmallLimit(t *testing.T) {
	var r rtcp.TWCCRecorder
	r.Received(1, 0)
	if b := r.Append(nil, 1, 2, 100); len(b) != 0 || r.Pending() {
		t.Errorf("a limit of 100 makes % x, pending %v", b, r.Pending())
	}
	r.Received(2, 0)
	if p := pionOne[*pion.TransportLayerCC](t, r.Append(nil, 1, 2, 1200)); p.BaseSequenceNumber != 2 {
		t.Errorf("the next feedback starts at %d", p.BaseSequenceNumber)
	}
}
