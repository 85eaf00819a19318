package rtcp_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func TestReceptionExtendsAndTells(t *testing.T) {
	var r rtcp.Reception
	for _, c := range []struct {
		seq    uint16
		ext    int64
		status rtcp.Status
	}{
		{65530, 65530, rtcp.New},
		{65529, 65529, rtcp.Late}, // before the first
		{65533, 65533, rtcp.New},
		{65533, 65533, rtcp.Duplicate},
		{2, 65538, rtcp.New},
		{65535, 65535, rtcp.Late},
		{65535, 65535, rtcp.Duplicate},
		{65530, 65530, rtcp.Duplicate},
		{1, 65537, rtcp.Late},
		{10002, 75538, rtcp.New},
		{9491, 75027, rtcp.Late},      // 511 behind
		{9490, 75026, rtcp.Duplicate}, // 512 behind: too old to know
		{9999, 75535, rtcp.Late},
	} {
		if ext, status := r.Update(c.seq, 0, 90000, 0); ext != c.ext || status != c.status {
			t.Fatalf("packet %d: %d %d, want %d %d", c.seq, ext, status, c.ext, c.status)
		}
	}
	if ext := r.Extend(10003); ext != 75539 || r.Highest != 75538 {
		t.Errorf("extends 10003 to %d, highest now %d", ext, r.Highest)
	}
}

func TestReceptionRestart(t *testing.T) {
	var r rtcp.Reception
	for seq := uint16(30000); seq < 30100; seq++ {
		r.Update(seq, 0, 90000, 0)
	}
	r.Block(0)
	if _, s := r.Update(500, 0, 90000, 0); s != rtcp.Duplicate {
		t.Fatalf("a single packet from nowhere has status %d", s)
	}
	if ext, s := r.Update(501, 0, 90000, 0); s != rtcp.New || ext != 1<<16+501 || r.Restarts != 1 {
		t.Fatalf("the second of a restart: %d, status %d, %d restarts", ext, s, r.Restarts)
	}
	if ext, s := r.Update(502, 0, 90000, 0); s != rtcp.New || ext != 1<<16+502 {
		t.Fatalf("the third of a restart: %d, status %d", ext, s)
	}
	if b := r.Block(0); b.FractionLost != 0 || b.CumulativeLost > 0 {
		t.Errorf("a restart counts as loss: %+v", b)
	}
}

func TestReceptionRepaired(t *testing.T) {
	r := rtcp.Reception{SSRC: 1}
	r.Update(100, 0, 90000, 0)
	r.Update(103, 0, 90000, 0)
	if ext, s := r.Repaired(102); ext != 102 || s != rtcp.Late {
		t.Fatalf("repaired as %d, status %d", ext, s)
	}
	if _, s := r.Repaired(102); s != rtcp.Duplicate {
		t.Fatalf("a second repair has status %d", s)
	}
	if b := r.Block(0); b.CumulativeLost != 2 {
		t.Errorf("lost %d, want 2: a repair does not heal the path", b.CumulativeLost)
	}
	if _, s := r.Update(102, 0, 90000, 0); s != rtcp.Duplicate {
		t.Errorf("the original of a repaired packet has status %d", s)
	}
	if ext, s := r.Repaired(105); ext != 105 || s != rtcp.New {
		t.Errorf("a repair ahead of all: %d, status %d", ext, s)
	}
}

func TestReceptionBlock(t *testing.T) {
	r := rtcp.Reception{SSRC: 77}
	if b := r.Block(0); b != (rtcp.ReportBlock{SSRC: 77}) {
		t.Errorf("before the first packet: %+v", b)
	}
	for seq := range uint16(100) {
		if seq%4 != 1 {
			r.Update(seq, 0, 8000, 0)
		}
	}
	r.SenderReport(0x0123_4567_89ab_cdef, 1234, 5000*ms)
	got := r.Block(5500 * ms)
	want := rtcp.ReportBlock{
		SSRC: 77, FractionLost: 64, CumulativeLost: 25, HighestSequence: 99, LastSR: 0x4567_89ab, DelaySinceLastSR: 1 << 15,
	}
	if got != want {
		t.Errorf("block %+v, want %+v", got, want)
	}
	for seq := uint16(100); seq < 200; seq++ {
		r.Update(seq, 0, 8000, 0)
	}
	if got = r.Block(5500 * ms); got.FractionLost != 0 || got.CumulativeLost != 25 || got.HighestSequence != 199 {
		t.Errorf("the second block: %+v", got)
	}
	for range 40 {
		r.Update(199, 0, 8000, 0)
	}
	if got = r.Block(math.MaxInt64); got.CumulativeLost != -15 || got.FractionLost != 0 || got.DelaySinceLastSR != 65535<<16 {
		t.Errorf("with duplicates: %+v", got)
	}
}

// TestReceptionJitter holds the integer arithmetic against the definition of RFC 3550 §6.4.1 in floating point.
func TestReceptionJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r rtcp.Reception
		rate := rapid.SampledFrom([]uint32{8000, 48000, 90000}).Draw(t, "rate")
		start := rapid.Int64Range(0, 1<<55).Draw(t, "start") // more than a year of uptime
		ts := rapid.Uint32().Draw(t, "timestamp")
		want, before := 0.0, 0.0
		for i := range rapid.IntRange(1, 300).Draw(t, "packets") {
			// One packet each 20 ms, each up to 50 ms late.
			late := rapid.Int64Range(0, 50*ms).Draw(t, "late")
			r.Update(uint16(i), ts+uint32(i)*rate/50, rate, start+int64(i)*20*ms+late)
			transit := float64(late) / 1e9 * float64(rate)
			if i > 0 {
				want += (math.Abs(transit-before) - want) / 16
			}
			before = transit
		}
		if got := float64(r.Jitter()); math.Abs(got-want) > 3 {
			t.Fatalf("jitter %v, want %v", got, want)
		}
	})
}

func TestReceptionJitterIgnoresAClockStep(t *testing.T) {
	var r rtcp.Reception
	r.Update(1, 0, 90000, 0)
	r.Update(2, 1<<30, 90000, 20*ms)
	r.Update(3, 1<<30+1800, 48000, 40*ms) // and a change of rate
	r.Update(4, 1<<30+3600, 0, 60*ms)     // and an unknown one
	if r.Jitter() != 0 {
		t.Errorf("jitter %d", r.Jitter())
	}
}

func TestReceptionState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rtcp.Reception{SSRC: rapid.Uint32().Draw(t, "ssrc")}
		seq := rapid.Uint16().Draw(t, "first")
		now := int64(1e15)
		update := func(r *rtcp.Reception, seq uint16, now int64) (int64, rtcp.Status) {
			return r.Update(seq, 0, 90000, now)
		}
		for range rapid.IntRange(0, 200).Draw(t, "packets") {
			seq += rapid.Uint16Range(0, 400).Draw(t, "step")
			update(&a, seq, now)
		}
		if rapid.Bool().Draw(t, "report") {
			a.SenderReport(rapid.Uint64().Draw(t, "ntp"), 5, now)
		}
		if rapid.Bool().Draw(t, "block") {
			a.Block(now)
		}
		// The other process's clock is elsewhere.
		const other = int64(7e12)
		state := a.AppendState(nil, now)
		b, rest, err := rtcp.RestoreReception(append(bytes.Clone(state), 1, 2, 3), other)
		if err != nil || !bytes.Equal(rest, []byte{1, 2, 3}) {
			t.Fatalf("%v, rest % x", err, rest)
		}
		if again := b.AppendState(nil, other); !bytes.Equal(again, state) {
			t.Fatal("the restored state writes another checkpoint")
		}
		for range 50 {
			seq += rapid.Uint16Range(0, 3).Draw(t, "step") - 1
			ea, sa := update(&a, seq, now)
			eb, sb := update(&b, seq, other)
			if ea != eb || sa != sb {
				t.Fatalf("packet %d: %d %d, restored %d %d", seq, ea, sa, eb, sb)
			}
		}
		ba, bb := a.Block(now+5*ms), b.Block(other+5*ms)
		ba.Jitter, bb.Jitter = 0, 0
		if ba != bb {
			t.Fatalf("block %+v, restored %+v", ba, bb)
		}
		if _, _, err := rtcp.RestoreReception(state[:len(state)-1], other); !errors.Is(err, rtcp.ErrState) {
			t.Fatalf("cut state: %v", err)
		}
		state[0]++
		if _, _, err := rtcp.RestoreReception(state, other); !errors.Is(err, rtcp.ErrState) {
			t.Fatalf("state of another version: %v", err)
		}
	})
}

func TestReceptionSeen(t *testing.T) {
	var r rtcp.Reception
	if r.Seen(0) {
		t.Error("a packet was seen before the first")
	}
	for _, seq := range []uint16{65534, 65535, 1, 500} {
		r.Update(seq, 0, 90000, 0)
	}
	for ext, want := range map[int64]bool{
		65533: false, 65534: true, 65535: true, 65536: false, 65537: true, 65536 + 500: true, 65536 + 501: false,
	} {
		if got := r.Seen(ext); got != want {
			t.Errorf("packet %d seen: %v, want %v", ext, got, want)
		}
	}
	r.Update(700, 0, 90000, 0)
	if r.Seen(65535) {
		t.Error("a packet behind the window is known")
	}
}

func TestNTPMiddle(t *testing.T) {
	if got := rtcp.NTPMiddle(0x0123_4567_89ab_cdef); got != 0x4567_89ab {
		t.Errorf("middle bits %x", got)
	}
}
