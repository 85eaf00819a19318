package history_test

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/sfu/history"
)

const ms = int64(time.Millisecond)

// put stores a packet that carries its own number, as the shard does: it gives its own reference back at once.
func put(r *history.Ring, p *pktbuf.Pool, ext, now int64) bool {
	b := p.Get()
	binary.BigEndian.PutUint64(b.Tail(), uint64(ext))
	b.SetLen(8)
	kept := r.Put(ext, b, now)
	b.Release()
	return kept
}

func has(t *testing.T, r *history.Ring, ext int64) {
	t.Helper()
	b := r.Get(ext)
	if b == nil {
		t.Errorf("packet %d is gone", ext)
		return
	}
	if got := int64(binary.BigEndian.Uint64(b.Bytes())); got != ext {
		t.Errorf("packet %d is %d", ext, got)
	}
}

func TestRingKeepsAndGivesBack(t *testing.T) {
	p := pktbuf.NewPool(4096)
	r := history.New(history.Config{Slots: 8, MaxSlots: 8})
	for ext := int64(65530); ext < 65542; ext++ { // across a wrap
		if !put(r, p, ext, 0) {
			t.Fatalf("packet %d not kept", ext)
		}
	}
	if r.Len() != 8 || p.InUse() != 8 {
		t.Errorf("%d held, %d buffers in use, want 8", r.Len(), p.InUse())
	}
	for ext := int64(65534); ext < 65542; ext++ {
		has(t, r, ext)
	}
	if r.Has(65533) || r.Has(65542) || r.Get(65533) != nil {
		t.Error("packets are held that should not be")
	}
	if put(r, p, 65540, 0) {
		t.Error("a duplicate was kept")
	}
	if put(r, p, 65533, 0) {
		t.Error("a packet below the window was kept")
	}
	if p.InUse() != 8 {
		t.Errorf("%d buffers in use after refusals, want 8", p.InUse())
	}
	r.Release()
	if r.Len() != 0 || p.InUse() != 0 {
		t.Errorf("%d held, %d buffers in use after Release", r.Len(), p.InUse())
	}
	r.Release()
	if !put(r, p, 5, 0) || !r.Has(5) {
		t.Error("not usable after Release")
	}
}

func TestRingReaderOutlivesTheRing(t *testing.T) {
	p := pktbuf.NewPool(64)
	r := history.New(history.Config{})
	put(r, p, 1, 0)
	b := r.Get(1)
	b.Retain()
	r.Release()
	if p.InUse() != 1 || binary.BigEndian.Uint64(b.Bytes()) != 1 {
		t.Errorf("%d buffers in use", p.InUse())
	}
	b.Release()
	if p.InUse() != 0 {
		t.Errorf("%d buffers in use", p.InUse())
	}
}

func TestRingAges(t *testing.T) {
	p := pktbuf.NewPool(4096)
	r := history.New(history.Config{MaxAge: 100 * time.Millisecond})
	for i := range int64(10) {
		put(r, p, i, i*20*ms)
	}
	if r.Has(3) || !r.Has(4) || r.Len() != 6 {
		t.Errorf("after Put %d are held", r.Len()) // 4 is 100 ms old, 3 older
	}
	r.Expire(220 * ms)
	if r.Has(5) || !r.Has(6) {
		t.Errorf("after Expire %d are held", r.Len())
	}
	r.Expire(1000 * ms)
	if r.Len() != 0 || p.InUse() != 0 {
		t.Errorf("%d held, %d in use after a second", r.Len(), p.InUse())
	}
	if !put(r, p, 1_000_000, 1000*ms) || !put(r, p, 999_999, 1000*ms) {
		t.Error("an empty ring does not start anew")
	}
}

func TestRingGrowsWithTheRate(t *testing.T) {
	p := pktbuf.NewPool(1 << 15)
	r := history.New(history.Config{Slots: 5, MaxSlots: 1000}) // 8 and 1024
	// 500 packets per second: a second of them is kept.
	for i := range int64(3000) {
		put(r, p, i, i*2*ms)
	}
	if r.Len() != 501 {
		t.Errorf("%d held at 500 packets per second, want 501", r.Len())
	}
	// 5000 packets per second: the limit.
	for i := range int64(6000) {
		put(r, p, 3000+i, 6000*ms+i*ms/5)
	}
	if r.Len() != 1024 || p.InUse() != 1024 {
		t.Errorf("%d held at 5000 packets per second, want 1024", r.Len())
	}
	for i := range int64(1024) {
		has(t, r, 9000-1024+i)
	}
	r.Release()
	if p.InUse() != 0 {
		t.Errorf("%d in use", p.InUse())
	}
}

func TestRingJump(t *testing.T) {
	p := pktbuf.NewPool(4096)
	r := history.New(history.Config{Slots: 16})
	for i := range int64(16) {
		put(r, p, i, 0)
	}
	put(r, p, 30_003, ms)
	if r.Len() != 1 || p.InUse() != 1 || !r.Has(30_003) || r.Has(3) {
		t.Errorf("%d held, %d in use after a jump", r.Len(), p.InUse())
	}
}

// TestRingHistories holds a ring against a map over random histories.
func TestRingHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			p    = pktbuf.NewPool(1 << 15)
			most = rapid.SampledFrom([]int{8, 64, 256}).Draw(t, "most")
			r    = history.New(history.Config{Slots: rapid.IntRange(1, 64).Draw(t, "slots"), MaxSlots: most, MaxAge: 500 * time.Millisecond})
			at   = map[int64]bool{}
			next = rapid.Int64Range(-100, 1<<20).Draw(t, "first")
			now  = int64(0)
		)
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now += rapid.Int64Range(0, 20).Draw(t, "time") * ms
			ext := next
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				ext = next - rapid.Int64Range(1, 300).Draw(t, "late")
			case 1:
				ext = next + rapid.Int64Range(0, 40).Draw(t, "lost")
			case 2:
				if rapid.IntRange(0, 5).Draw(t, "big") == 0 {
					ext = next + rapid.Int64Range(0, 70_000).Draw(t, "lost")
				}
			case 3:
				now += rapid.Int64Range(0, 800).Draw(t, "pause") * ms
				r.Expire(now)
			case 4:
				if rapid.IntRange(0, 9).Draw(t, "release") == 0 {
					r.Release()
					clear(at)
				}
			}
			next = max(next, ext+1)
			r.Expire(now) // Put does so before it looks
			held := r.Has(ext)
			kept := put(r, p, ext, now)
			if kept && held {
				t.Fatalf("packet %d kept twice", ext)
			}
			if kept {
				at[ext] = true
			}
			if ext == next-1 && !kept && !held {
				t.Fatalf("the newest packet, %d, was not kept", ext)
			}
			if r.Len() != p.InUse() || r.Len() > most {
				t.Fatalf("%d held, %d in use, %d allowed", r.Len(), p.InUse(), most)
			}
			n := 0
			for e := range at {
				b := r.Get(e)
				if b == nil {
					delete(at, e)
					continue
				}
				n++
				if got := int64(binary.BigEndian.Uint64(b.Bytes())); got != e {
					t.Fatalf("packet %d is %d", e, got)
				}
			}
			if n != r.Len() {
				t.Fatalf("%d can be had of %d held", n, r.Len())
			}
		}
		r.Expire(now + 501*ms)
		if r.Len() != 0 || p.InUse() != 0 {
			t.Fatalf("%d held, %d in use in the end", r.Len(), p.InUse())
		}
	})
}

func TestNothingAllocates(t *testing.T) {
	p := pktbuf.NewPool(4096)
	r := history.New(history.Config{})
	ext, now := int64(0), int64(0)
	run := func() {
		for range 1000 {
			ext++
			now += 2 * ms
			put(r, p, ext, now)
			r.Get(ext - 20)
		}
	}
	run()
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Errorf("1000 packets allocate %v times", n)
	}
}

func BenchmarkPut(b *testing.B) {
	p := pktbuf.NewPool(4096)
	r := history.New(history.Config{})
	ext, now := int64(0), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		ext++
		now += 2 * ms
		put(r, p, ext, now)
	}
}
