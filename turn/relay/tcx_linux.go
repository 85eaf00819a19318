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
	flows  map[Flow]*placed
	free   []uint32 // slots given back
	next   uint32   // slot never used
	limit  uint32
	stats  Stats // but for the levels
}

// placed is a flow that the engine was told of.
type placed struct {
	slot     uint32 // first of two: up, down
	stranded bool   // its way is lost
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
	e := &TCX{watch: w, done: make(chan struct{}), kernel: kernel, routes: r, flows: map[Flow]*placed{}, limit: uint32(2 * flows)}
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
		return fmt.Errorf("%w: %d are relayed", ErrFull, len(e.flows))
	}
	if err := errors.Join(e.kernel.Clear(slot), e.kernel.Clear(slot+1)); err != nil {
		e.free = append(e.free, slot)
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err := e.place(f, slot); err != nil {
		e.free = append(e.free, slot)
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	e.flows[f] = &placed{slot: slot}
	return nil
}

// Remove ends it. Packets that the program has in its hands at this moment still leave.
func (e *TCX) Remove(f Flow) {
	f, _ = f.plain()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.remove(f)
	}
}

func (e *TCX) remove(f Flow) {
	p, there := e.flows[f]
	if !there {
		return
	}
	e.displace(f)
	delete(e.flows, f)
	e.free = append(e.free, p.slot)
}

// Count returns what has been relayed since Add, from the client and to it.
func (e *TCX) Count(f Flow) (up, down Counters, ok bool) {
	f, _ = f.plain()
	e.mu.Lock()
	defer e.mu.Unlock()
	p, there := e.flows[f]
	if !there || e.closed {
		return Counters{}, Counters{}, false
	}
	u, err := e.kernel.Traffic(p.slot)
	d, err2 := e.kernel.Traffic(p.slot + 1)
	return Counters(u), Counters(d), err == nil && err2 == nil
}

// Engine returns its name.
func (e *TCX) Engine() string { return "tcx" }

// Verdicts returns the names of what can become of a packet in the kernel.
func Verdicts() []string { return bpf.VerdictNames() }

// Verdicts returns how many packets met which end in the kernel, relayed or not.
func (e *TCX) Verdicts() (map[string]uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil
	}
	return e.kernel.Verdicts()
}

// Attach looks at what comes in by an interface from now on, which Add does by itself where a flow's way leads. It is a way to know in
// advance: an error says why not.
func (e *TCX) Attach(index int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrUnsupported
	}
	if _, err := e.routes.mtu(uint32(index)); err != nil {
		return err
	}
	return e.kernel.Attach(index)
}

// Stats returns what the engine says of itself.
func (e *TCX) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.stats
	if e.closed {
		return out
	}
	out.Interfaces, out.Flows = e.kernel.Interfaces(), len(e.flows)
	for _, p := range e.flows {
		if p.stranded {
			out.Stranded++
		}
	}
	return out
}

// Reconcile makes what the kernel has true to the flows that live: it forgets others, enters what is missing, and attaches the relay
// again where somebody else has taken it off.
func (e *TCX) Reconcile(live []Flow) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	alive, keep := map[Flow]bool{}, map[bpf.Key]bool{}
	for _, f := range live {
		f, _ = f.plain()
		alive[f] = true
	}
	for f, p := range e.flows {
		if !alive[f] {
			e.remove(f)
			e.stats.Strays++
		} else if !p.stranded {
			up, down := keys(f)
			keep[up], keep[down] = true, true
		}
	}
	e.kernel.Prune()
	entered, err := e.kernel.Keys()
	if err != nil {
		return // and again the next time
	}
	for _, k := range entered {
		if keep[k] {
			delete(keep, k)
		} else if e.kernel.Delete(k) == nil {
			e.stats.Strays++
		}
	}
	e.stats.Gaps += uint64(len(keep))
	for f := range e.flows {
		e.again(f)
	}
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
		for _, f := range e.changed() {
			e.mu.Lock() // one by one: Add and Remove do not wait for all of them
			e.again(f)
			e.mu.Unlock()
		}
	}
}

// changed returns the flows whose ways may have.
func (e *TCX) changed() []Flow {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.routes.forget()
	e.kernel.Prune()
	return slices.Collect(maps.Keys(e.flows))
}

// again finds the way of a flow once more. Without one the server relays it.
func (e *TCX) again(f Flow) {
	p, there := e.flows[f]
	if !there || e.closed {
		return
	}
	lost := e.place(f, p.slot) != nil
	if lost {
		e.displace(f)
	}
	switch {
	case lost && !p.stranded:
		e.stats.Losses++
	case !lost && p.stranded:
		e.stats.Returns++
	}
	p.stranded = lost
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
