package srtp

import (
	"math/rand/v2"
	"testing"
)

// TestWindowAgainstModel compares with a set of all indices marked.
func TestWindowAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		var w window
		marked := map[uint64]bool{}
		var top uint64
		at := rng.Uint64N(1 << 20)
		for range 3000 {
			switch rng.IntN(50) {
			case 0:
				at += rng.Uint64N(1500)
			default:
				at += rng.Uint64N(3)
			}
			i := at - min(at, rng.Uint64N(600))
			want := marked[i] || len(marked) > 0 && i+windowLen <= top
			if got := w.seen(i); got != want {
				t.Fatalf("index %d below top %d: seen %v, want %v", i, top, got, want)
			}
			if !want {
				w.mark(i)
				marked[i] = true
				top = max(top, i)
			}
		}
	}
}

func TestGuess(t *testing.T) {
	for _, c := range []struct {
		top  uint64
		seq  uint16
		want uint64
	}{
		{0x0_0010, 0x0011, 0x0_0011},
		{0x0_ffff, 0x0000, 0x1_0000},
		{0x1_0000, 0xffff, 0x0_ffff},
		{0x1_7fff, 0xffff, 0x1_ffff}, // 2^15 ahead is still ahead
		{0x1_7ffe, 0xffff, 0x0_ffff},
		{0x1_8000, 0x0000, 0x1_0000}, // and 2^15 back is still back
		{0x1_8001, 0x0000, 0x2_0000},
		{0x0_0010, 0xfff0, 0x0_fff0}, // there is no roll-over counter -1
		{0xffff_ffff_fff0, 0x0001, 0x1_0000_0000_0001},
	} {
		w := window{any: true, top: c.top}
		if got := w.guess(c.seq); got != c.want {
			t.Errorf("after %x, sequence %x: %x, want %x", c.top, c.seq, got, c.want)
		}
	}
	if got := new(window).guess(0xfff0); got != 0xfff0 {
		t.Errorf("first packet: %x", got)
	}

	rng := rand.New(rand.NewPCG(7, 8))
	for range 100_000 {
		w := window{any: true, top: 1<<16 + rng.Uint64N(1<<40)}
		index := w.top - (1<<15 - 1) + rng.Uint64N(1<<16-1)
		if got := w.guess(uint16(index)); got != index {
			t.Fatalf("after %x, index %x: guessed %x", w.top, index, got)
		}
	}
}
