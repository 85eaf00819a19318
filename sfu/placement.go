package sfu

import (
	"fmt"

	"github.com/sotto-edge/sotto/sfu/transport"
)

// place chooses the shard of an endpoint, for its life.
func (n *Node) place(e *endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sessions >= n.cfg.MaxSessions {
		return fmt.Errorf("sfu: %w", transport.ErrTooManySessions)
	}
	n.sessions++
	e.shard = n.shards[0]
	return nil
}

// displace takes an endpoint that was placed, and is there no more, off its shard's account.
func (n *Node) displace(*endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessions--
}
