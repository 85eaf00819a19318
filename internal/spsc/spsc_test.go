package spsc_test

import (
	"runtime"
	"testing"

	"github.com/sotto-edge/sotto/internal/spsc"
)

// What is pushed comes out in order, a full ring refuses, and nothing is seen before it is published.
func TestRing(t *testing.T) {
	r := spsc.New[int](3)
	if r.Cap() != 4 {
		t.Fatalf("%d slots", r.Cap())
	}
	next, want := 0, 0
	for range 5 { // over the end of the slots, from every place
		for range 4 {
			s := r.Slot()
			if s == nil || s != r.Slot() {
				t.Fatal("no slot, or another one")
			}
			*s = next
			next++
			r.Push()
		}
		if r.Slot() != nil {
			t.Fatal("overwritten")
		}
		if r.Front() != nil || !r.Empty() {
			t.Fatal("seen before it is published")
		}
		if !r.Publish() || r.Publish() {
			t.Fatal("published never, or twice")
		}
		for range 3 {
			if got := *r.Front(); got != want || r.Empty() {
				t.Fatalf("%d, expected %d", got, want)
			}
			r.Pop()
			want++
		}
		*r.Slot() = next // there is room again before all is read
		next++
		r.Push()
		r.Publish()
		for range 2 {
			if got := *r.Front(); got != want {
				t.Fatalf("%d, expected %d", got, want)
			}
			r.Pop()
			want++
		}
		if r.Front() != nil || !r.Empty() {
			t.Fatal("more than was pushed")
		}
	}
}

// Two threads: nothing lost, nothing torn, order kept.
func TestRingOfTwoThreads(t *testing.T) {
	type wide struct{ a, b [8]uint64 }
	const n = 200_000
	r := spsc.New[wide](64)
	go func() {
		for i := uint64(0); i < n; {
			s := r.Slot()
			if s == nil {
				r.Publish()
				runtime.Gosched()
				continue
			}
			for k := range s.a {
				s.a[k], s.b[k] = i, ^i
			}
			r.Push()
			if i++; i%7 == 0 || i == n {
				r.Publish()
			}
		}
	}()
	for i := uint64(0); i < n; {
		s := r.Front()
		if s == nil {
			runtime.Gosched()
			continue
		}
		for k := range s.a {
			if s.a[k] != i || s.b[k] != ^i {
				t.Fatalf("slot %d has %d", i, s.a[k])
			}
		}
		r.Pop()
		i++
	}
}

func TestRingAllocatesNothing(t *testing.T) {
	r := spsc.New[[64]byte](8)
	if n := testing.AllocsPerRun(100, func() {
		r.Slot()[0]++
		r.Push()
		r.Publish()
		r.Front()
		r.Pop()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
