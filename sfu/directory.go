package sfu

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// directory says which shard a session is on, and which one's session has shown itself at an address. It is asked when a datagram
// comes to the wrong socket; each shard remembers what it was told until something changes, so that packets meet no lock.
type directory struct {
	changes atomic.Uint64 // of rows
	changed chan struct{} // has one in it after a change

	mu       sync.Mutex
	rows     map[netip.AddrPort]*shard
	sessions map[transport.SessionID]*shard
}

func (d *directory) init() {
	d.rows, d.sessions = make(map[netip.AddrPort]*shard), make(map[transport.SessionID]*shard)
	d.changed = make(chan struct{}, 1)
}

// change is called under the lock.
func (d *directory) change() {
	d.changes.Add(1)
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// steered returns all rows.
func (d *directory) steered() []udp.Steered {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]udp.Steered, 0, len(d.rows))
	for a, s := range d.rows {
		out = append(out, udp.Steered{Remote: a, Index: s.index})
	}
	return out
}

// enter notes where a session is to be. It returns false if it is anywhere already.
func (d *directory) enter(id transport.SessionID, s *shard) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[id] != nil {
		return false
	}
	d.sessions[id] = s
	return true
}

func (d *directory) remove(id transport.SessionID) {
	d.mu.Lock()
	delete(d.sessions, id)
	d.mu.Unlock()
}

func (d *directory) session(id transport.SessionID) *shard {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
}

func (d *directory) address(a netip.AddrPort) *shard {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows[a]
}

// claim gives the row of a to s, unless another has it: that one is returned.
func (d *directory) claim(a netip.AddrPort, s *shard) *shard {
	d.mu.Lock()
	defer d.mu.Unlock()
	if owner := d.rows[a]; owner != nil && owner != s {
		return owner
	}
	if d.rows[a] != s {
		d.rows[a] = s
		d.change()
	}
	return nil
}

func (d *directory) release(a netip.AddrPort, s *shard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows[a] == s {
		delete(d.rows, a)
		d.change()
	}
}

// neighbours implements transport.Neighbours for a shard. It belongs to the shard's thread.
type neighbours struct {
	*shard
	known map[netip.AddrPort]*shard // what the directory has said of addresses …
	as    uint64                    // … when it had changed so often
}

// Claim implements transport.Neighbours.
func (n *neighbours) Claim(a netip.AddrPort) bool {
	owner := n.node.places.claim(a, n.shard)
	if owner == nil {
		return true
	}
	owner.post(func(now int64) { owner.mux.Yield(a, now) })
	return false
}

// Release implements transport.Neighbours.
func (n *neighbours) Release(a netip.AddrPort) { n.node.places.release(a, n.shard) }

// PassAddress implements transport.Neighbours. Strangers' addresses are not remembered: there is no end of them.
func (n *neighbours) PassAddress(d *udp.Datagram) bool {
	if c := n.node.places.changes.Load(); c != n.as {
		clear(n.known)
		n.as = c
	}
	owner := n.known[d.Path.Remote]
	if owner == nil {
		if owner = n.node.places.address(d.Path.Remote); owner == nil {
			return false
		}
		n.known[d.Path.Remote] = owner
	}
	return n.pass(owner, d)
}

// PassSession implements transport.Neighbours.
func (n *neighbours) PassSession(id transport.SessionID, d *udp.Datagram) bool {
	return n.pass(n.node.places.session(id), d)
}

func (n *neighbours) pass(owner *shard, d *udp.Datagram) bool {
	if owner == nil || owner == n.shard {
		return false
	}
	n.out[owner.index].Forward(d)
	return true
}
