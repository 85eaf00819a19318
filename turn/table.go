package turn

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
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
	realm       *realm
	allocations int // under the table's lock
	bytes       *policy.Bucket
}

// allocation is what the server itself knows of an allocation of the library's.
type allocation struct {
	id      string
	inner   key // as the library knows the client: where it is, or made up
	user    *user
	rel     *relayed
	relayed netip.AddrPort // as the client is told
	local   netip.AddrPort // as it is bound
	created time.Time
	mobile  bool

	home     *Server
	reserved bool // the port beside its own; under the server's lock

	from    atomic.Pointer[source]     // where the client is
	other   atomic.Pointer[allocation] // of the same client and the other family; set under the table's lock
	expires atomic.Int64               // in seconds since 1970
	tickets [2]string                  // under the table's lock: the last two that the client has got (RFC 8016)

	mu        sync.Mutex // taken under the library's locks; nothing else is taken under it
	gone      bool
	permitted map[netip.Addr]struct{}
	channels  map[uint16]*channel

	up, down       traffic
	dropped        atomic.Uint64
	refused        atomic.Uint64
	offUp, offDown Counters // under mu
}

// at is where the client is.
func (a *allocation) at() *source { return a.from.Load() }

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
	byKey   map[key]*allocation    // of clients; of two of one client the older one
	made    map[key]*allocation    // by their made-up 5-tuples
	tickets map[string]*allocation // of those that move
	users   map[string]*user       // by id
	opening int                    // relayed addresses that are open, with or without an allocation
}

func newTable() table {
	return table{
		byKey: make(map[key]*allocation), made: make(map[key]*allocation), tickets: make(map[string]*allocation), users: make(map[string]*user),
	}
}

func (t *table) get(k key) *allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[k]
}

// inner returns the allocation that the library knows by that 5-tuple.
func (t *table) inner(k key) *allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.server == annexed {
		return t.made[k]
	}
	if a := t.byKey[k]; a != nil && a.inner == k {
		return a
	}
	return nil
}

// holder returns the allocation that a ticket is for.
func (t *table) holder(ticket string) *allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tickets[ticket]
}

// issue makes a ticket. The one before is good, too: the client may not have got the new one.
func (t *table) issue(a *allocation) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made[a.inner] != a {
		return "" // it has ended
	}
	delete(t.tickets, a.tickets[0])
	a.tickets = [2]string{a.tickets[1], id.Secret()}
	t.tickets[a.tickets[1]] = a
	return a.tickets[1]
}

// room says whether a user may have one more allocation, of so many that there may be in all.
func (t *table) room(r *realm, name string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roomy(r, t.users[r.id(name)], most)
}

// full says whether there is no room for anybody.
func (t *table) full(most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opening >= most
}

func (t *table) roomy(r *realm, u *user, most int) bool {
	return t.opening < most && r.allocations < r.Limits.Allocations && (u == nil || u.allocations < r.Limits.UserAllocations)
}

// enter takes the room of one allocation of a user, if there is any; leave gives it back. What has no user is a port that is looked
// for, not an allocation.
func (t *table) enter(r *realm, name string, most int) (*user, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name == "" {
		t.opening++
		return nil, t.opening <= most
	}
	u := t.users[r.id(name)]
	if !t.roomy(r, u, most) {
		return nil, false
	}
	if u == nil {
		rate := max(0, r.Limits.UserBytes)
		u = &user{name: name, realm: r, bytes: policy.NewBucket(rate, rate)}
		t.users[r.id(name)] = u
	}
	t.opening++
	r.allocations++
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
	u.realm.allocations--
	if u.allocations--; u.allocations == 0 {
		delete(t.users, u.realm.id(u.name))
	}
}

func (t *table) put(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := a.at().key
	if a.inner != k {
		t.made[a.inner] = a
	}
	first := t.byKey[k]
	if first == nil {
		t.byKey[k] = a
		return
	}
	first.other.Store(a)
	a.other.Store(first)
}

func (t *table) remove(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.made, a.inner)
	other := a.other.Swap(nil)
	if other != nil {
		other.other.Store(nil)
	}
	for i, ticket := range a.tickets {
		delete(t.tickets, ticket)
		if other != nil && ticket != "" { // it is as good for what is left
			other.tickets[i] = ticket
			t.tickets[ticket] = other
		}
	}
	if k := a.at().key; t.byKey[k] == a {
		delete(t.byKey, k)
		if other != nil {
			t.byKey[k] = other
		}
	}
}

// move makes an allocation that of another 5-tuple, unless that has one.
func (t *table) move(a *allocation, to key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made[a.inner] != a || t.byKey[to] != nil {
		return false
	}
	k := a.at().key
	first := t.byKey[k]
	delete(t.byKey, k)
	t.byKey[to] = first
	return true
}

func (t *table) all() []*allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*allocation, 0, len(t.byKey)+len(t.made))
	for _, a := range t.byKey {
		if a.inner.server != annexed {
			out = append(out, a)
		}
	}
	for _, a := range t.made {
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
	c := &channel{peer: peer, flow: a.flow(number, peer)}
	a.channels[number] = c
	a.offload(c)
}

func (a *allocation) flow(number uint16, peer netip.AddrPort) Flow {
	at := a.at()
	return Flow{Client: at.client, Server: netip.AddrPortFrom(at.path.Local, at.server.Port()), Relayed: a.local, Peer: peer, Channel: number}
}

// move lets the client be elsewhere.
func (a *allocation) move(to source) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, c := range a.channels {
		a.takeBack(c, now)
	}
	a.from.Store(&to)
	for n, c := range a.channels {
		c.flow = a.flow(n, c.peer)
		if _, ok := a.permitted[c.peer.Addr()]; ok {
			a.offload(c)
		}
	}
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
	case c.offloaded || a.gone || a.at().transport != UDP || !c.flow.Server.Addr().IsValid() || a.user.realm.Peers.Media(c.peer):
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
	return a.user.spent(float64(bytes), now)
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
	if a.user.spend(float64(n), now) {
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
	at := a.at()
	out := Allocation{
		ID: a.id, Transport: at.transport, Client: at.client, Server: at.server, Relayed: a.relayed, TCP: a.rel.tcp,
		Realm: a.user.realm.name, User: a.user.name, Created: a.created, Expires: time.Unix(a.expires.Load(), 0), Mobile: a.mobile,
		Up: a.up.read(), Down: a.down.read(), OffloadedUp: a.offUp, OffloadedDown: a.offDown,
		DroppedPackets: a.dropped.Load(), RefusedByPolicy: a.refused.Load(),
		Permissions: []netip.Addr{}, Channels: []Channel{},
	}
	for p := range a.permitted {
		out.Permissions = append(out.Permissions, p)
	}
	for n, c := range a.channels {
		engine := "server"
		if c.offloaded {
			engine = a.home.cfg.Offloader.Engine()
		}
		out.Channels = append(out.Channels, Channel{n, c.peer, c.offloaded, engine})
	}
	slices.SortFunc(out.Permissions, netip.Addr.Compare)
	slices.SortFunc(out.Channels, func(a, b Channel) int { return cmp.Compare(a.Number, b.Number) })
	return out
}
