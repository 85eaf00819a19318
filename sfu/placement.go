package sfu

import (
	"fmt"

	"github.com/sotto-edge/sotto/sfu/transport"
)

// Placement counts how shards were chosen for endpoints.
type Placement struct {
	First    uint64 // of their conference: the shard with the fewest sessions
	Together uint64 // where most of their conference is
	Spread   uint64 // where there are the fewest sessions, because the conference is large, or its shard fuller than others
	Cooler   uint64 // of any of these: not on the shard that it would have been, because that one was busy
}

// load is what a shard has to do.
type load struct {
	sessions int
	busy     float64 // of its time, lately
}

// A shard as busy as hot is left alone where there is one that is cool.
const (
	hot  = 0.8
	cool = 0.5
)

// choose picks the shard for one more endpoint of a conference that has on of them on each. Packets of a conference on one shard do
// not cross, so a small one stays on one; a large one is shared out, since a session's own cost is then the larger part.
func choose(loads []load, on []int, together int, count *Placement) int {
	spare := false
	for _, l := range loads {
		spare = spare || l.busy < cool
	}
	best, any, home := -1, 0, -1
	for i, l := range loads {
		if on[i] > 0 && (home < 0 || on[i] > on[home]) {
			home = i
		}
		if l.sessions < loads[any].sessions {
			any = i
		}
		if spare && l.busy >= hot {
			continue
		}
		if best < 0 || l.sessions < loads[best].sessions {
			best = i
		}
	}
	near := home >= 0 && on[home] < together && loads[home].sessions-loads[any].sessions < 2*together
	switch {
	case near && (!spare || loads[home].busy < hot):
		count.Together++
		return home
	case near || best != any:
		count.Cooler++
	}
	if home < 0 {
		count.First++
	} else {
		count.Spread++
	}
	return best
}

// sampleEvery is how often the threads' work is looked at, in nanoseconds, while there is anybody to place.
const sampleEvery = int64(1e9)

// place chooses the shard of an endpoint, for its life.
func (n *Node) place(e *endpoint) error {
	on := make([]int, len(n.shards))
	for _, x := range e.conf.endpoints {
		on[x.shard.index]++
	}
	now := n.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sessions >= n.cfg.MaxSessions {
		return fmt.Errorf("sfu: %w", transport.ErrTooManySessions)
	}
	if span := now - n.sampledAt; span >= sampleEvery {
		for i, s := range n.shards {
			b := s.busy(now)
			n.loads[i].busy = float64(b-n.sampled[i]) / float64(span)
			n.sampled[i] = b
		}
		n.sampledAt = now
	}
	i := choose(n.loads, on, n.cfg.Together, &n.placement)
	if !n.places.enter(e.session, n.shards[i]) { // on two shards, it would use every index twice
		return fmt.Errorf("sfu: %w", transport.ErrDuplicate)
	}
	n.sessions++
	n.loads[i].sessions++
	e.shard = n.shards[i]
	return nil
}

// displace takes an endpoint that was placed, and is there no more, off its shard's account.
func (n *Node) displace(e *endpoint) {
	n.places.remove(e.session)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessions--
	n.loads[e.shard.index].sessions--
}
