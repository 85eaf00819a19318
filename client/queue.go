package client

import (
	"sync"
	"sync/atomic"
)

// Lengths of the queues towards the caller.
const (
	queuedEvents  = 1024
	queuedStreams = 128
	queuedPackets = 512 // of one stream: half a second of a large picture
)

// queue is a channel that never makes its writers wait: when it is full the oldest message is dropped, and counted. Whoever stands
// behind it may be slow, or not there at all.
type queue[T any] struct {
	ch      chan T
	dropped atomic.Int64

	mu     sync.Mutex // of writers
	closed bool
}

func newQueue[T any](n int) *queue[T] { return &queue[T]{ch: make(chan T, n)} }

// put never blocks. After close it does nothing.
func (q *queue[T]) put(v T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for {
		select {
		case q.ch <- v:
			return
		default:
		}
		select {
		case <-q.ch:
			q.dropped.Add(1)
		default: // the reader was quicker
		}
	}
}

// close lets the reader finish what is queued. It may be called twice.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.ch)
	}
}
