package turn

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn/policy"
)

// key is the 5-tuple of a client.
type key struct {
	client, server netip.AddrPort
	stream         bool // over TCP
}

// user is what all allocations of a user share.
type user struct {
	name        string
	allocations int // under the table's lock
	bytes       *policy.Bucket
}

// allocation is what the server itself knows of an allocation of the library's.
type allocation struct {
	key
	transport Transport
	path      udp.Path // where the client is, over UDP
	user      *user
	relayed   netip.AddrPort // as the client is told
	local     netip.AddrPort // as it is bound
	created   time.Time

	home *Server

	mu        sync.Mutex // taken under the library's locks; nothing else is taken under it
	gone      bool
	permitted map[netip.Addr]struct{}
	channels  map[uint16]*channel

	up, down       traffic
	dropped        atomic.Uint64
	refused        atomic.Uint64
	offUp, offDown Counters // under mu
}

type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(n int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(n))
}

func (t *traffic) read() Counters { return Counters{Packets: t.packets.Load(), Bytes: t.bytes.Load()} }

// channel is a bound channel.
type channel struct {
	peer      netip.AddrPort
	flow      Flow
	offloaded bool
	up, down  Counters  // as last read from the offloader
	until     time.Time // not to be offloaded before
}

// table holds the allocations.
type table struct {
	mu      sync.Mutex
	byKey   map[key]*allocation
	users   map[string]*user
	opening int // relayed addresses that are open, with or without an allocation
}

func (t *table) get(k key) *allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[k]
}

// room says whether a user may have one more allocation.
func (t *table) room(name string, l Limits) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opening < l.Allocations && (t.users[name] == nil || t.users[name].allocations < l.UserAllocations)
}

// enter takes the room of one allocation of a user, if there is any; leave gives it back. What has no user is a port that is looked
// for, not an allocation.
func (t *table) enter(name string, l Limits) (*user, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opening >= l.Allocations {
		return nil, false
	}
	if name == "" {
		t.opening++
		return nil, true
	}
	u := t.users[name]
	if u == nil {
		u = &user{name: name, bytes: policy.NewBucket(max(0, l.UserBytes), max(0, l.UserBytes))}
	}
	if u.allocations >= l.UserAllocations {
		return nil, false
	}
	t.users[name] = u
	t.opening++
	u.allocations++
	return u, true
}

func (t *table) leave(u *user) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opening--
	if u == nil {
		return
	}
	if u.allocations--; u.allocations == 0 {
		delete(t.users, u.name)
	}
}

func (t *table) put(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byKey[a.key] = a
}

func (t *table) remove(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[a.key] == a {
		delete(t.byKey, a.key)
	}
}

func (t *table) all() []*allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*allocation, 0, len(t.byKey))
	for _, a := range t.byKey {
		out = append(out, a)
	}
	return out
}

// allows says whether there is a permission for a peer.
func (a *allocation) allows(peer netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.permitted[peer.Unmap()]
	return ok
}

// peerOf returns whom a channel is bound to.
func (a *allocation) peerOf(number uint16) (netip.AddrPort, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.channels[number]
	if c == nil {
		return netip.AddrPort{}, false
	}
	return c.peer, true
}

// full says whether a request would give the allocation more permissions or channels than it may have.
func (a *allocation) full(peers []netip.AddrPort, most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	news := 0
	for _, p := range peers {
		if _, ok := a.permitted[p.Addr()]; !ok {
			news++
		}
	}
	return len(a.permitted)+news > most || news == 0 && len(a.channels) > most
}

// The following are events of the library, which come under its locks.

func (a *allocation) permit(peer netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.permitted[peer] = struct{}{}
	for _, c := range a.channels {
		if c.peer.Addr() == peer {
			a.offload(c)
		}
	}
}

func (a *allocation) forbid(peer netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.permitted, peer)
	for _, c := range a.channels {
		if c.peer.Addr() == peer {
			a.takeBack(c, time.Now())
		}
	}
}

func (a *allocation) bind(number uint16, peer netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &channel{peer: peer, flow: Flow{
		Client: a.client, Server: netip.AddrPortFrom(a.path.Local, a.server.Port()), Relayed: a.local, Peer: peer, Channel: number,
	}}
	a.channels[number] = c
	a.offload(c)
}

func (a *allocation) unbind(number uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.channels[number]; c != nil {
		a.takeBack(c, time.Now())
		delete(a.channels, number)
	}
}

// offload gives a channel to the offloader, if both can. The peer in this very process is not beyond any wire.
func (a *allocation) offload(c *channel) {
	switch {
	case c.offloaded || a.gone || a.transport != UDP || !c.flow.Server.Addr().IsValid() || a.home.cfg.Peers.Media(c.peer):
		return
	case a.home.cfg.Offloader.Add(c.flow) != nil:
		return
	}
	c.offloaded, c.up, c.down = true, Counters{}, Counters{}
	a.home.offloaded.Add(1)
}

// takeBack reads the last of what the offloader has counted and relays the channel here again.
func (a *allocation) takeBack(c *channel, now time.Time) {
	if !c.offloaded {
		return
	}
	a.readBack(c, now)
	a.home.cfg.Offloader.Remove(c.flow)
	c.offloaded = false
	a.home.offloaded.Add(-1)
}

// readBack counts what the offloader has relayed since the last time, and says whether it is within the limits.
func (a *allocation) readBack(c *channel, now time.Time) bool {
	up, down, ok := a.home.cfg.Offloader.Count(c.flow)
	if !ok {
		return true
	}
	bytes := up.Bytes - c.up.Bytes + down.Bytes - c.down.Bytes
	a.offUp.Packets += up.Packets - c.up.Packets
	a.offUp.Bytes += up.Bytes - c.up.Bytes
	a.offDown.Packets += down.Packets - c.down.Packets
	a.offDown.Bytes += down.Bytes - c.down.Bytes
	s := a.home
	s.relayed.offloadedUp.addMany(up.Packets-c.up.Packets, up.Bytes-c.up.Bytes)
	s.relayed.offloadedDown.addMany(down.Packets-c.down.Packets, down.Bytes-c.down.Bytes)
	c.up, c.down = up, down
	mine := a.user.bytes.Spend(float64(bytes), now)
	return s.bytes.Spend(float64(bytes), now) && mine
}

func (t *traffic) addMany(packets, bytes uint64) {
	t.packets.Add(packets)
	t.bytes.Add(bytes)
}

// lookAfter takes flows back that are over their bandwidth, and gives them away again when they have had time to calm down.
func (a *allocation) lookAfter(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.channels {
		switch {
		case c.offloaded:
			if !a.readBack(c, now) {
				a.takeBack(c, now)
				c.until = now.Add(calmDown)
				a.home.counters.takenBack.Add(1)
			}
		case !c.until.IsZero() && now.After(c.until):
			c.until = time.Time{}
			if _, ok := a.permitted[c.peer.Addr()]; ok {
				a.offload(c)
			}
		}
	}
}

// spend says whether a packet of n bytes is within the limits.
func (a *allocation) spend(n int) bool {
	now := time.Now()
	if a.user.bytes.Take(float64(n), now) && a.home.bytes.Take(float64(n), now) {
		return true
	}
	a.dropped.Add(1)
	a.home.counters.overBandwidth.Add(1)
	return false
}

// end is the last that is heard of the allocation.
func (a *allocation) end() {
	a.mu.Lock()
	a.gone = true
	now := time.Now()
	for n, c := range a.channels {
		a.takeBack(c, now)
		delete(a.channels, n)
	}
	clear(a.permitted)
	a.mu.Unlock()
	a.home.table.remove(a)
}

func (a *allocation) show() Allocation {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := Allocation{
		Transport: a.transport, Client: a.client, Server: a.server, Relayed: a.relayed, User: a.user.name, Created: a.created,
		Up: a.up.read(), Down: a.down.read(), OffloadedUp: a.offUp, OffloadedDown: a.offDown,
		DroppedPackets: a.dropped.Load(), RefusedByPolicy: a.refused.Load(),
		Permissions: []netip.Addr{}, Channels: []Channel{},
	}
	for p := range a.permitted {
		out.Permissions = append(out.Permissions, p)
	}
	for n, c := range a.channels {
		out.Channels = append(out.Channels, Channel{n, c.peer, c.offloaded})
	}
	return out
}
