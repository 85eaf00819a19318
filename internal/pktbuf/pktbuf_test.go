package pktbuf

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

func mustPanic(t *testing.T, with string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		v := recover()
		if s, ok := v.(string); !ok || !strings.Contains(s, with) {
			t.Errorf("panic = %v, want one with %q", v, with)
		}
	}()
	f()
}

func TestWindow(t *testing.T) {
	b := NewPool(1).Get()
	if len(b.Bytes()) != 0 {
		t.Fatalf("fresh window is %d bytes", len(b.Bytes()))
	}
	tail := b.Tail()
	if len(tail) != Size-Headroom || cap(tail) != len(tail) {
		t.Fatalf("tail len %d cap %d, want %d", len(tail), cap(tail), Size-Headroom)
	}
	copy(tail, "payload")
	b.SetLen(7)
	if got := string(b.Bytes()); got != "payload" {
		t.Fatalf("window %q", got)
	}
	h := b.Prepend(4)
	if len(h) != 4 || cap(h) != 4 {
		t.Fatalf("prepend len %d cap %d", len(h), cap(h))
	}
	copy(h, "head")
	if got := string(b.Bytes()); got != "headpayload" {
		t.Fatalf("window after prepend %q", got)
	}
	if got := len(b.Tail()); got != Size-Headroom+4 {
		t.Fatalf("tail after prepend %d", got)
	}
	b.SetLen(4)
	if got := string(b.Bytes()); got != "head" {
		t.Fatalf("window after SetLen %q", got)
	}
	if cap(b.Bytes()) != 4 {
		t.Fatalf("an append to the window would write behind it: cap %d", cap(b.Bytes()))
	}
	b.Prepend(Headroom - 4)
	mustPanic(t, "headroom", func() { b.Prepend(1) })
	b.SetLen(Size)
	mustPanic(t, "beyond the buffer", func() { b.SetLen(Size + 1) })
	mustPanic(t, "beyond the buffer", func() { b.SetLen(-1) })
	mustPanic(t, "headroom", func() { b.Prepend(-1) })
}

func TestReferences(t *testing.T) {
	p := NewPool(8)
	b := p.Get()
	b.Retain()
	b.Release()
	if p.InUse() != 1 {
		t.Fatalf("in use %d with a reference left", p.InUse())
	}
	b.Release()
	if p.InUse() != 0 {
		t.Fatalf("in use %d after the last release", p.InUse())
	}
	mustPanic(t, "Release of a released", b.Release)
	mustPanic(t, "Retain of a released", b.Retain)
	if p.InUse() != 0 {
		t.Fatalf("misuse changed the count to %d", p.InUse())
	}
	if again := p.Get(); again != b {
		t.Error("the buffer released last is not the one handed out next")
	}
}

func TestReuseResetsWindow(t *testing.T) {
	p := NewPool(1)
	b := p.Get()
	b.SetLen(100)
	b.Prepend(10)
	b.Release()
	b = p.Get()
	if len(b.Bytes()) != 0 || len(b.Tail()) != Size-Headroom {
		t.Fatalf("reused: window %d, tail %d", len(b.Bytes()), len(b.Tail()))
	}
}

func TestLimit(t *testing.T) {
	for _, limit := range []int{-1, 0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7} {
		p := NewPool(limit)
		var all []*Buf
		seen := map[*byte]bool{}
		for b := p.Get(); b != nil; b = p.Get() {
			all = append(all, b)
			seen[&b.Tail()[0]] = true
			if len(all) > limit {
				t.Fatalf("limit %d: got %d", limit, len(all))
			}
		}
		if len(all) != max(limit, 0) || len(seen) != len(all) || p.InUse() != len(all) {
			t.Fatalf("limit %d: %d buffers, %d distinct, %d in use", limit, len(all), len(seen), p.InUse())
		}
		for _, b := range all {
			b.Release()
		}
		if p.InUse() != 0 {
			t.Fatalf("limit %d: %d in use at the end", limit, p.InUse())
		}
		if limit > 0 && p.Get() == nil {
			t.Fatalf("limit %d: none to be had after all were released", limit)
		}
	}
}

func TestGrowsByChunks(t *testing.T) {
	p := NewPool(1 << 20)
	p.Get()
	if p.grown != chunk {
		t.Fatalf("the first buffer grew the pool by %d", p.grown)
	}
	for range chunk {
		p.Get()
	}
	if p.grown != 2*chunk {
		t.Fatalf("%d buffers in use of %d", p.InUse(), p.grown)
	}
}

// TestHistory runs random histories against a model: contents survive as long as a
// reference does, and the pool's count is the model's.
func TestHistory(t *testing.T) {
	type held struct {
		b    *Buf
		refs int
		mark byte
		n    int
	}
	r := rand.New(rand.NewPCG(1, 2))
	p := NewPool(100)
	var live []held
	for step := range 50_000 {
		switch {
		case r.IntN(3) == 0:
			b := p.Get()
			if (b == nil) != (len(live) == 100) {
				t.Fatalf("step %d: nil %v with %d live", step, b == nil, len(live))
			}
			if b == nil {
				continue
			}
			h := held{b, 1, byte(r.Uint32()), r.IntN(200)}
			for i := range b.Tail()[:h.n] {
				b.Tail()[i] = h.mark
			}
			b.SetLen(h.n)
			live = append(live, h)
		case len(live) > 0:
			i := r.IntN(len(live))
			h := &live[i]
			if !bytes.Equal(h.b.Bytes(), bytes.Repeat([]byte{h.mark}, h.n)) {
				t.Fatalf("step %d: a live buffer changed", step)
			}
			if h.refs < 3 && r.IntN(3) == 0 {
				h.b.Retain()
				h.refs++
				continue
			}
			h.b.Release()
			if h.refs--; h.refs == 0 {
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
		}
		if p.InUse() != len(live) {
			t.Fatalf("step %d: in use %d, model %d", step, p.InUse(), len(live))
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := NewPool(chunk)
	p.Get().Release()
	if n := testing.AllocsPerRun(1000, func() {
		b := p.Get()
		b.SetLen(copy(b.Tail(), "x"))
		b.Retain()
		b.Prepend(4)
		b.Release()
		b.Release()
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkGetRelease(b *testing.B) {
	p := NewPool(chunk)
	b.ReportAllocs()
	for b.Loop() {
		x := p.Get()
		x.SetLen(1200)
		x.Release()
	}
}
