package sfu

import (
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
)

// Steering brings datagrams to the shard that has their session in the first place, so that they need not cross from another. What it
// cannot take, or does not know yet, crosses: it makes things cheaper, never possible. The Node's own is a classic BPF program on the
// sockets, which needs no privilege.
type Steering interface {
	// Steer replaces what was asked for before; it returns how many of rows it could take. Index is that of a shard.
	Steer(rows []udp.Steered) (int, error)
}

// NoSteering leaves it to the kernel's hash.
type NoSteering struct{}

// Steer implements Steering.
func (NoSteering) Steer([]udp.Steered) (int, error) { return 0, nil }

// steerInterval is how long addresses are gathered before the kernel is told: clients come in crowds.
const steerInterval = 50 * time.Millisecond

// steer keeps the kernel informed until the Node closes.
func (n *Node) steer() {
	defer n.steerers.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-n.closing:
			return
		case <-n.places.changed:
		}
		timer.Reset(steerInterval)
		select {
		case <-n.closing:
			return
		case <-timer.C:
		}
		taken, err := n.cfg.Steering.Steer(n.places.steered())
		if err != nil {
			n.log.Warn("media is not steered to its thread", "error", err)
			return // whatever it is, it will not be otherwise the next time
		}
		n.steered.Store(int64(taken))
	}
}
