package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Batch relays in user space: it reads the ports that clients send to and the relayed addresses by itself, many datagrams at a time, and
// sends them by the batch, those of equal size of one flow as one (GSO). The sockets are to be opened by it; whatever on them belongs to
// no flow comes out where the server reads.
//
// Each shard is a goroutine that waits for its share of the sockets in one epoll set. What a shard looks up may only change while no shard
// is at work: that is rare, and makes Remove the end of a flow.
type Batch struct {
	shards  []*shard
	running sync.WaitGroup
	gso     atomic.Bool // runs of datagrams leave as one; false from the first refusal of the machine's on
	stats   batchCounters

	ways map[key]*way // read by a shard under its lock, changed under all locks

	mu     sync.Mutex // before any shard's
	closed bool
	turn   int // shard of the next relayed address
	id     uint32
	flows  map[Flow]*entry
	ports  map[netip.AddrPort]*Port
	peers  map[netip.AddrPort]*Peers
}

// BatchStats counts what a Batch has done since its start.
type BatchStats struct {
	// Relayed is how many packets were handed on, Joined how many of them in runs of two or more.
	Relayed, Joined uint64
	// Left is how many datagrams were left to the server, Overflowed how many more it had no time for.
	Left, Overflowed uint64
	// Waits, ReceiveCalls and SendCalls count system calls.
	Waits, ReceiveCalls, SendCalls uint64
	// GSORefusals counts runs that a path took only one by one.
	GSORefusals uint64
	// SendErrors counts packets of Relayed that the kernel or the path refused, SendDrops those that found the send buffer full.
	SendErrors, SendDrops uint64
	// ReceiveErrors counts failed calls, Truncated datagrams that were too large.
	ReceiveErrors, Truncated uint64
}

type batchCounters struct {
	relayed, joined                atomic.Uint64
	left, overflowed               atomic.Uint64
	waits, receiveCalls, sendCalls atomic.Uint64
	gsoRefusals                    atomic.Uint64
	sendErrors, sendDrops          atomic.Uint64
	receiveErrors, truncated       atomic.Uint64
}

// key says where a packet comes from and where it has come: the socket's number, the sender, and the channel on clients' ports.
type key [24]byte

func keyOf(id uint32, remote netip.AddrPort, channel uint16) (k key) {
	a := remote.Addr()
	if a.Is4() {
		v4 := a.As4()
		copy(k[:], v4[:])
	} else {
		v6 := a.As16()
		copy(k[:], v6[:])
	}
	binary.BigEndian.PutUint16(k[16:], remote.Port())
	binary.BigEndian.PutUint16(k[18:], channel)
	binary.NativeEndian.PutUint32(k[20:], id)
	return k
}

// entry is a flow that is relayed.
type entry struct {
	up, down       way
	upKey, downKey key
	port           *Port
	peers          *Peers
	flow           Flow
}

// way is a flow in one direction. All packets of it come to one shard: the kernel gives a client's to one of the sockets of a port.
type way struct {
	peers   *Peers // that it leaves from; nil: from the port
	port    *Port
	name    sockaddr
	nameLen uint32
	channel uint16 // that packets are given, from the port

	packets, bytes atomic.Uint64

	// Of the shard.
	batch uint64 // in which there was a run …
	run   int32  // … of this number
	plain bool   // the path takes no runs
}

// NewBatch starts an engine of as many shards.
func NewBatch(shards int) (*Batch, error) {
	e := &Batch{ways: map[key]*way{}, flows: map[Flow]*entry{}, ports: map[netip.AddrPort]*Port{}, peers: map[netip.AddrPort]*Peers{}}
	e.gso.Store(true)
	for i := range max(1, shards) {
		s, err := newShard(e, i)
		if err != nil {
			for _, s := range e.shards {
				s.wait.close()
			}
			return nil, fmt.Errorf("relay: %w", err)
		}
		e.shards = append(e.shards, s)
	}
	for _, s := range e.shards {
		e.running.Add(1)
		go s.run()
	}
	return e, nil
}

// alone calls f while no shard is at work.
func (e *Batch) alone(f func()) {
	for _, s := range e.shards {
		s.mu.Lock()
	}
	f()
	for _, s := range e.shards {
		s.mu.Unlock()
	}
}

// short is the flow with IPv4 addresses in their short form; ok: all of it can be told by address and port.
func (f Flow) short() (out Flow, ok bool) {
	ok = true
	out.Channel = f.Channel
	for _, a := range []struct {
		from netip.AddrPort
		to   *netip.AddrPort
	}{{f.Client, &out.Client}, {f.Server, &out.Server}, {f.Relayed, &out.Relayed}, {f.Peer, &out.Peer}} {
		ip := a.from.Addr().Unmap()
		*a.to = netip.AddrPortFrom(ip, a.from.Port())
		ok = ok && ip.IsValid() && ip.Zone() == ""
	}
	return out, ok
}

// Add begins to relay a flow whose sockets are the engine's.
func (e *Batch) Add(want Flow) error {
	want, ok := want.short()
	if !ok {
		return ErrUnsupported
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	port, peers := e.ports[want.Server], e.peers[want.Relayed]
	if e.closed || port == nil || peers == nil ||
		want.Client.Addr().Is4() != want.Server.Addr().Is4() || want.Peer.Addr().Is4() != want.Relayed.Addr().Is4() {
		return ErrUnsupported
	}
	if e.flows[want] != nil {
		return nil
	}
	f := &entry{
		flow: want, port: port, peers: peers,
		upKey: keyOf(port.id, want.Client, want.Channel), downKey: keyOf(peers.id, want.Peer, 0),
		up: way{peers: peers}, down: way{port: port, channel: want.Channel},
	}
	f.up.nameLen = putName(&f.up.name, want.Peer)
	f.down.nameLen = putName(&f.down.name, want.Client)
	if e.ways[f.upKey] != nil || e.ways[f.downKey] != nil {
		return fmt.Errorf("%w: another has its client's channel or its peer", ErrUnsupported)
	}
	e.flows[want] = f
	peers.flows = append(peers.flows, f)
	e.alone(func() { e.ways[f.upKey], e.ways[f.downKey] = &f.up, &f.down })
	return nil
}

// Remove ends it. No packet of it leaves when Remove has returned.
func (e *Batch) Remove(want Flow) {
	want, _ = want.short()
	e.mu.Lock()
	defer e.mu.Unlock()
	if f := e.flows[want]; f != nil {
		e.drop(f)
	}
}

// drop is called with the lock.
func (e *Batch) drop(f *entry) {
	delete(e.flows, f.flow)
	f.peers.flows = slices.DeleteFunc(f.peers.flows, func(o *entry) bool { return o == f })
	e.alone(func() {
		delete(e.ways, f.upKey)
		delete(e.ways, f.downKey)
	})
}

// Count returns what has been relayed since Add, from the client and to it.
func (e *Batch) Count(want Flow) (up, down Counters, ok bool) {
	want, _ = want.short()
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[want]
	if f == nil {
		return Counters{}, Counters{}, false
	}
	return f.up.read(), f.down.read(), true
}

func (w *way) read() Counters { return Counters{Packets: w.packets.Load(), Bytes: w.bytes.Load()} }

// Engine returns its name.
func (e *Batch) Engine() string { return "batch" }

// Stats returns what has been done.
func (e *Batch) Stats() BatchStats {
	c := &e.stats
	return BatchStats{
		Relayed: c.relayed.Load(), Joined: c.joined.Load(), Left: c.left.Load(), Overflowed: c.overflowed.Load(),
		Waits: c.waits.Load(), ReceiveCalls: c.receiveCalls.Load(), SendCalls: c.sendCalls.Load(), GSORefusals: c.gsoRefusals.Load(),
		SendErrors: c.sendErrors.Load(), SendDrops: c.sendDrops.Load(), ReceiveErrors: c.receiveErrors.Load(), Truncated: c.truncated.Load(),
	}
}

// Close ends all relaying and closes what is left of the engine's sockets. It may be called twice.
func (e *Batch) Close() error {
	e.mu.Lock()
	ports, peers := slices.Collect(maps.Values(e.ports)), slices.Collect(maps.Values(e.peers))
	first := !e.closed
	e.closed = true
	e.mu.Unlock()
	var err error
	for _, p := range ports {
		err = errors.Join(err, p.Close())
	}
	for _, p := range peers {
		err = errors.Join(err, p.Close())
	}
	if first {
		for _, s := range e.shards {
			s.wait.close()
		}
	}
	e.running.Wait()
	return err
}

// sockaddr has room for either family's address.
type sockaddr = unix.RawSockaddrInet6
