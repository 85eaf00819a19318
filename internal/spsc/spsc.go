// Package spsc is a queue from one thread to one other: a ring of slots that are made once, written in place by the producer and
// read in place by the consumer.
//
// It promises that neither side ever waits, locks or allocates, that what is published comes out whole and in order, and that a
// full ring is said so rather than overwritten. Slots are published by the batch, so that the other core's cache is asked for once.
//
// It wakes nobody: whoever lets the consumer sleep knows how to. One goroutine at a time may be the producer, one the consumer.
package spsc

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// line keeps what one side writes off the cache lines that the other one reads; processors fetch them in pairs.
type line [128]byte

// Ring is a queue of T.
type Ring[T any] struct {
	slots []T
	mask  uint64

	_    line
	tail atomic.Uint64 // slots published
	// The producer's.
	filled uint64 // slots filled
	freed  uint64 // head as last seen

	_    line
	head atomic.Uint64 // slots given back
	// The consumer's.
	ready uint64 // tail as last seen
	_     line
}

// New makes a ring of at least n slots.
func New[T any](n int) *Ring[T] {
	size := 1 << bits.Len(uint(max(n, 2)-1))
	return &Ring[T]{slots: make([]T, size), mask: uint64(size - 1)}
}

// Cap is the number of slots.
func (r *Ring[T]) Cap() int { return len(r.slots) }

// Slots goes through all slots, with their places, to prepare them before the ring is used.
func (r *Ring[T]) Slots() iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for i := range r.slots {
			if !yield(i, &r.slots[i]) {
				return
			}
		}
	}
}

// Slot returns the next slot to fill, with what was in it before, or nil when the ring is full. Until Push it is the same one.
func (r *Ring[T]) Slot() *T {
	if r.filled-r.freed == uint64(len(r.slots)) {
		if r.freed = r.head.Load(); r.filled-r.freed == uint64(len(r.slots)) {
			return nil
		}
	}
	return &r.slots[r.filled&r.mask]
}

// Push says that the slot is filled.
func (r *Ring[T]) Push() { r.filled++ }

// Publish shows the consumer what was pushed. It returns false when that was nothing.
func (r *Ring[T]) Publish() bool {
	if r.tail.Load() == r.filled {
		return false
	}
	r.tail.Store(r.filled)
	return true
}

// Front returns the oldest slot, nil if there is none. It is the consumer's until Pop.
func (r *Ring[T]) Front() *T {
	at := r.head.Load()
	if at == r.ready {
		if r.ready = r.tail.Load(); at == r.ready {
			return nil
		}
	}
	return &r.slots[at&r.mask]
}

// Pop gives the oldest slot back.
func (r *Ring[T]) Pop() { r.head.Store(r.head.Load() + 1) }

// Empty says whether there is nothing to read. The consumer asks it.
func (r *Ring[T]) Empty() bool { return r.head.Load() == r.tail.Load() }
