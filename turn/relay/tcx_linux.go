package relay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sotto-edge/sotto/bpf"
)

// TCX relays in the kernel, where packets come in from the device. Netfilter does not see what it relays.
//
// It attaches itself to the interfaces that flows' ways lead through, and follows the routing table: a flow whose way is lost goes
// back to the server until there is one again.
type TCX struct {
	watch *watch
	done  chan struct{} // closed when no one follows the routing table any more

	mu     sync.Mutex
	closed bool
	kernel *bpf.Relay
	routes *routes
	flows  map[Flow]uint32 // first of two slots: up, down
	free   []uint32        // slots given back
	next   uint32          // slot never used
	limit  uint32
}

// NewTCX loads the kernel's part for as many flows. It fails where eBPF is not to be had, with the reason.
func NewTCX(flows int) (*TCX, error) {
	kernel, err := bpf.NewRelay(2 * flows)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r, err := newRoutes()
	if err != nil {
		return nil, errors.Join(err, kernel.Close())
	}
	w, err := newWatch()
	if err != nil {
		return nil, errors.Join(err, r.close(), kernel.Close())
	}
	e := &TCX{watch: w, done: make(chan struct{}), kernel: kernel, routes: r, flows: map[Flow]uint32{}, limit: uint32(2 * flows)}
	go e.follow()
	return e, nil
}

// Add begins to relay a flow. It asks the kernel and waits for nobody else.
func (e *TCX) Add(f Flow) error {
	f, ok := f.plain()
	if !ok {
		return ErrUnsupported
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrUnsupported
	}
	if _, there := e.flows[f]; there {
		return nil
	}
	slot, ok := e.take()
	if !ok {
		return fmt.Errorf("%w: %d are", ErrUnsupported, len(e.flows))
	}
	if err := errors.Join(e.kernel.Clear(slot), e.kernel.Clear(slot+1)); err != nil {
		e.free = append(e.free, slot)
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err := e.place(f, slot); err != nil {
		e.free = append(e.free, slot)
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	e.flows[f] = slot
	return nil
}

// Remove ends it. Packets that the program has in its hands at this moment still leave.
func (e *TCX) Remove(f Flow) {
	f, _ = f.plain()
	e.mu.Lock()
	defer e.mu.Unlock()
	slot, there := e.flows[f]
	if !there || e.closed {
		return
	}
	e.displace(f)
	delete(e.flows, f)
	e.free = append(e.free, slot)
}

// Count returns what has been relayed since Add, from the client and to it.
func (e *TCX) Count(f Flow) (up, down Counters, ok bool) {
	f, _ = f.plain()
	e.mu.Lock()
	defer e.mu.Unlock()
	slot, there := e.flows[f]
	if !there || e.closed {
		return Counters{}, Counters{}, false
	}
	u, err := e.kernel.Traffic(slot)
	d, err2 := e.kernel.Traffic(slot + 1)
	return Counters(u), Counters(d), err == nil && err2 == nil
}

// Engine returns its name.
func (e *TCX) Engine() string { return "tcx" }

// Verdicts returns how many packets met which end in the kernel, relayed or not.
func (e *TCX) Verdicts() (map[string]uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil
	}
	return e.kernel.Verdicts()
}

// Close gives all traffic back to the server's sockets. It may be called twice.
func (e *TCX) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.done
		return nil
	}
	e.closed = true
	err := errors.Join(e.watch.close(), e.kernel.Close(), e.routes.close())
	e.mu.Unlock()
	<-e.done
	return err
}

// follow finds all flows' ways again after each change of the routing table, until Close.
func (e *TCX) follow() {
	defer close(e.done)
	for e.watch.wait() {
		e.mu.Lock()
		e.routes.forget()
		flows := slices.Collect(maps.Keys(e.flows))
		e.mu.Unlock()
		for _, f := range flows {
			e.again(f) // one by one: Add and Remove do not wait for all of them
		}
	}
}

func (e *TCX) again(f Flow) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slot, there := e.flows[f]; there && !e.closed && e.place(f, slot) != nil {
		e.displace(f)
	}
}

func (e *TCX) take() (slot uint32, ok bool) {
	if n := len(e.free); n > 0 {
		slot, e.free = e.free[n-1], e.free[:n-1]
		return slot, true
	}
	if e.next == e.limit {
		return 0, false
	}
	e.next += 2
	return e.next - 2, true
}

// place enters both directions, the one back first: a peer may answer the first packet.
func (e *TCX) place(f Flow, slot uint32) error {
	toPeer, err := e.way(f.Relayed.Addr(), f.Peer.Addr())
	if err != nil {
		return err
	}
	toClient, err := e.way(f.Server.Addr(), f.Client.Addr())
	if err != nil {
		return err
	}
	toPeer.Source, toPeer.Dest, toPeer.Slot = f.Relayed, f.Peer, slot
	toClient.Source, toClient.Dest, toClient.Slot, toClient.Channel = f.Server, f.Client, slot+1, f.Channel
	up, down := keys(f)
	if err := e.kernel.Put(down, toClient); err != nil {
		return err
	}
	if err := e.kernel.Put(up, toPeer); err != nil {
		return errors.Join(err, e.kernel.Delete(down))
	}
	return nil
}

// displace takes both directions out. Deleting what may not be there fails for no reason that a second attempt would mend.
func (e *TCX) displace(f Flow) {
	up, down := keys(f)
	_ = e.kernel.Delete(up)
	_ = e.kernel.Delete(down)
}

func keys(f Flow) (up, down bpf.Key) {
	return bpf.Key{Local: f.Server, Remote: f.Client, Channel: f.Channel}, bpf.Key{Local: f.Relayed, Remote: f.Peer}
}
