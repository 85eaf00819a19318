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
	next    atomic.Pointer[source]     // where it has said that it will be; set under the table's lock, of two of one client at the older one
	other   atomic.Pointer[allocation] // of the same client and the other family; set under the table's lock
	expires atomic.Int64               // in seconds since 1970
	tickets [2]string                  // under the table's lock: the last two that the client has got (RFC 8016)
	known   []session                  // under the table's lock: from where the guard lets the client send

	mu        sync.Mutex // taken under the library's locks; nothing else is taken under it
	gone      bool
	permitted map[netip.Addr]time.Time // until when
	channels  map[uint16]*channel
	inside    uint16 // the last channel of which the peer was the media port

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

func (t *traffic) addMany(c Counters) {
	t.packets.Add(c.Packets)
	t.bytes.Add(c.Bytes)
}

// channel is a bound channel. What changes of it does so under the lock of its allocation.
type channel struct {
	of   *allocation
	peer netip.AddrPort
	flow Flow

	expires time.Time     // unless it is refreshed
	ended   bool          // it is the allocation's no more
	wanted  bool          // to be relayed by the offloader; the library's events say so
	until   time.Time     // not before
	waits   time.Duration // how long after it was not taken the last time

	offloaded bool     // it is; the keeper says so
	up, down  Counters // as last read from the offloader
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
	a.tellGuard(true)
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
	keys := []key{a.at().key}
	if next := a.next.Load(); next != nil {
		keys = append(keys, next.key)
	}
	for _, k := range keys {
		if t.byKey[k] != a {
			continue
		}
		delete(t.byKey, k)
		if other != nil {
			t.byKey[k] = other
			other.next.Store(a.next.Load())
		}
	}
	if other != nil {
		other.tellGuard(true)
	}
	a.tellGuard(false)
}

// announce lets a client speak from another 5-tuple, too, unless somebody else holds that.
func (t *table) announce(a *allocation, to source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.byKey[a.at().key]
	if first == nil || t.byKey[to.key] != nil {
		return
	}
	t.forgetNext(first)
	first.next.Store(&to)
	t.byKey[to.key] = first
	first.tellGuard(true)
}

func (t *table) forgetNext(first *allocation) {
	if next := first.next.Swap(nil); next != nil && t.byKey[next.key] == first {
		delete(t.byKey, next.key)
	}
	first.tellGuard(true)
}

// arrive ends what was before the client announced itself elsewhere. It returns where that is.
func (t *table) arrive(first *allocation, at key) (source, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := first.next.Load()
	if next == nil || next.key != at || t.byKey[at] != first {
		return source{}, false
	}
	first.next.Store(nil)
	delete(t.byKey, first.at().key)
	first.from.Store(next) // here, so that what ends now is found
	if other := first.other.Load(); other != nil {
		other.from.Store(next)
		other.tellGuard(true)
	}
	first.tellGuard(true)
	return *next, true
}

// left says that a 5-tuple is none any more. It returns whether its allocation goes on elsewhere.
func (t *table) left(k key) (first *allocation, to key, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first = t.byKey[k]
	if first == nil {
		return nil, key{}, false
	}
	next := first.next.Load()
	switch {
	case next == nil:
		return nil, key{}, false
	case next.key == k:
		t.forgetNext(first)
		return nil, key{}, false
	}
	return first, next.key, true
}

func (t *table) all() []*allocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*allocation, 0, len(t.byKey)+len(t.made))
	for k, a := range t.byKey {
		if a.inner == k {
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

func (a *allocation) flow(number uint16, peer netip.AddrPort) Flow {
	at := a.at()
	return Flow{Client: at.client, Server: netip.AddrPortFrom(at.path.Local, at.server.Port()), Relayed: a.local, Peer: peer, Channel: number}
}

// move lets the client be elsewhere.
func (a *allocation) move(to source) {
	a.home.keeper.withdraw(a, 0)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from.Store(&to)
	for n, c := range a.channels {
		a.drop(n, c)
		moved := &channel{of: a, peer: c.peer, flow: a.flow(n, c.peer), expires: c.expires}
		a.channels[n] = moved
		a.ask(moved)
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
	for n, c := range a.channels {
		a.drop(n, c)
	}
	clear(a.permitted)
	a.mu.Unlock()
	a.home.table.remove(a)
}

func (a *allocation) show() Allocation {
	out, offloaded := a.look()
	for i, c := range out.Channels {
		if f, ok := offloaded[c.Number]; ok {
			out.Channels[i].Engine = a.home.keeper.engineOf(f)
		}
	}
	return out
}

// look is show but for the names of engines: those are not to be asked under the lock.
func (a *allocation) look() (Allocation, map[uint16]Flow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, offloaded := a.at(), map[uint16]Flow{}
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
		if c.offloaded {
			offloaded[n] = c.flow
		}
		out.Channels = append(out.Channels, Channel{n, c.peer, c.offloaded, "server"})
	}
	slices.SortFunc(out.Permissions, netip.Addr.Compare)
	slices.SortFunc(out.Channels, func(a, b Channel) int { return cmp.Compare(a.Number, b.Number) })
	return out, offloaded
}
