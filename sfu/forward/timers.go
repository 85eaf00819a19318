package forward

import (
	"container/heap"
	"math"
)

// timers keeps every peer's next deadline, soonest first. A peer has one deadline: the earliest of all it has to do.
type timers struct{ h peerHeap }

// next returns the soonest deadline, or math.MaxInt64.
func (t *timers) next() int64 {
	if len(t.h) == 0 {
		return math.MaxInt64
	}
	return t.h[0].deadline
}

// due returns a peer whose deadline has come, or nil. The caller sets its next one.
func (t *timers) due(now int64) *Peer {
	if len(t.h) == 0 || t.h[0].deadline > now {
		return nil
	}
	return t.h[0]
}

// set moves p's deadline to at.
func (t *timers) set(p *Peer, at int64) {
	p.deadline = at
	if p.timer < 0 {
		heap.Push(&t.h, p)
		return
	}
	heap.Fix(&t.h, p.timer)
}

// sooner brings p's deadline forward to at, if it is later than that.
func (t *timers) sooner(p *Peer, at int64) {
	if p.timer < 0 || p.deadline > at {
		t.set(p, at)
	}
}

// remove forgets p.
func (t *timers) remove(p *Peer) {
	if p.timer >= 0 {
		heap.Remove(&t.h, p.timer)
	}
}

// peerHeap implements heap.Interface over the deadlines. Peer pointers go through `any` without an allocation.
type peerHeap []*Peer

func (h peerHeap) Len() int           { return len(h) }
func (h peerHeap) Less(i, j int) bool { return h[i].deadline < h[j].deadline }
func (h peerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer, h[j].timer = i, j
}

func (h *peerHeap) Push(x any) {
	p := x.(*Peer)
	p.timer = len(*h)
	*h = append(*h, p)
}

func (h *peerHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.timer = -1
	return p
}
