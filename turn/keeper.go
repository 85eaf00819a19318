package turn

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/turn/relay"
)

// What an Offloader may say and do beside relaying.
type (
	// reconciler compares what it relays with the flows that live.
	reconciler interface{ Reconcile(live []Flow) }
	// engines is one that has several.
	engines interface{ EngineOf(Flow) string }
)

const (
	// lookInterval is how often flows are looked after.
	lookInterval = 250 * time.Millisecond
	// ahead is how long before its end a flow is taken back, so that the server has not forgotten it by then.
	ahead = 2 * lookInterval
	// Lives of what the library keeps (RFC 8656 §§9, 12).
	permissionLife = 5 * time.Minute
	channelLife    = 10 * time.Minute
	// calmDown is how long one that was over its bandwidth stays with the server. A flow that was not taken is offered again after so
	// long, then after twice that, and so on to the longest.
	calmDown    = 5 * time.Second
	longestWait = 5 * time.Minute
	// reconcileInterval is how often the offloader is told of all flows that live.
	reconcileInterval = 10 * time.Second
)

// keeper is the only one that speaks to the offloader, which may have to wait for the kernel. Events of the library come under its
// locks: they say in the channel what is wanted, and the keeper hears of it. Who holds none of those locks may have it done at once.
type keeper struct {
	server *Server
	to     Offloader
	idle   bool // there is nothing that relays, and no guard
	guard  Guard

	work     sync.Mutex // held while the offloader is at work; before any allocation's
	sessions map[session]int

	mu      sync.Mutex // after any allocation's
	queue   []wish     // as many as there are channels, and sockets to close
	stopped bool
	woken   chan struct{}

	stop, done chan struct{}
}

// wish is a channel with which something else is wanted than before, a socket that is to be closed after the wishes before it, or one
// allocation more or less of a client.
type wish struct {
	channel *channel
	socket  io.Closer
	session session
	more    int
}

// session is a 5-tuple that has allocations.
type session struct{ client, server netip.AddrPort }

func newKeeper(s *Server) *keeper {
	_, idle := s.cfg.Offloader.(NoOffloader)
	return &keeper{
		server: s, to: s.cfg.Offloader, guard: s.cfg.Guard, idle: idle && s.cfg.Guard == nil, sessions: map[session]int{},
		woken: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// run looks after flows until close, and then for the last time.
func (k *keeper) run() {
	defer close(k.done)
	tick, reconcile := time.NewTicker(lookInterval), time.NewTicker(reconcileInterval)
	defer tick.Stop()
	defer reconcile.Stop()
	for {
		select {
		case <-k.woken:
			k.begin()
			k.work.Unlock()
		case <-tick.C:
			k.look()
		case <-reconcile.C:
			k.reconcile()
		case <-k.stop:
			k.mu.Lock()
			k.stopped = true
			k.mu.Unlock()
			k.begin()
			k.work.Unlock()
			return
		}
	}
}

// close returns when all that was wanted has been done.
func (k *keeper) close() {
	close(k.stop)
	<-k.done
}

// tell says that something else is wanted. It may be called under any lock but the keeper's own.
func (k *keeper) tell(w wish) {
	k.mu.Lock()
	late := k.idle || k.stopped
	if !late {
		k.queue = append(k.queue, w)
	}
	k.mu.Unlock()
	if late {
		if w.socket != nil {
			_ = w.socket.Close()
		}
		return
	}
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// begin takes the lock of the work and does what is wanted so far, in its order: a flow may end in one channel and begin in another.
func (k *keeper) begin() {
	k.work.Lock()
	k.mu.Lock()
	queue := k.queue
	k.queue = nil
	k.mu.Unlock()
	for _, w := range queue {
		switch {
		case w.channel != nil:
			k.settle(w.channel)
		case w.socket != nil:
			_ = w.socket.Close() // no flow leads there any more, so anybody may have the address
		default:
			k.admit(w.session, w.more)
		}
	}
}

// admit tells the guard of the first allocation of a client, and of the end of the last.
func (k *keeper) admit(of session, more int) {
	was := k.sessions[of]
	is := was + more
	k.sessions[of] = is
	var err error
	switch {
	case was == 0:
		err = k.guard.Admit(of.client, of.server)
	case is == 0:
		delete(k.sessions, of)
		err = k.guard.Forget(of.client, of.server)
	}
	if err != nil && k.server.counters.unguarded.Add(1) == 1 {
		k.server.log.Warn("the guard takes a client for a stranger, or the other way round", "client", of.client, "err", err)
	}
}

// tellGuard tells the guard, if there is one, from where the client of an allocation may send: from where it is, and from where it has
// said that it will be. It is called under the table's lock.
func (a *allocation) tellGuard(there bool) {
	k := a.home.keeper
	if k.guard == nil {
		return
	}
	var known []session
	for _, at := range []*source{a.at(), a.next.Load()} {
		if there && at != nil && at.transport == UDP && at.path.Local.IsValid() {
			known = append(known, session{at.client, netip.AddrPortFrom(at.path.Local, at.server.Port())})
		}
	}
	for _, s := range known {
		if !slices.Contains(a.known, s) {
			k.tell(wish{session: s, more: 1})
		}
	}
	for _, s := range a.known {
		if !slices.Contains(known, s) {
			k.tell(wish{session: s, more: -1})
		}
	}
	a.known = known
}

// settle makes true what is wanted with a channel.
func (k *keeper) settle(c *channel) {
	a := c.of
	a.mu.Lock()
	wanted, offloaded := c.wanted, c.offloaded
	a.mu.Unlock()
	switch {
	case wanted && !offloaded:
		k.give(c)
	case !wanted && offloaded:
		k.take(c)
	}
}

// give offers a channel to the offloader.
func (k *keeper) give(c *channel) {
	s, err := k.server, k.to.Add(c.flow)
	switch {
	case err == nil:
		s.offloaded.Add(1)
	case errors.Is(err, relay.ErrFull):
		if s.counters.full.Add(1) == 1 {
			s.log.Warn("no room for more channels in the engine", "engine", k.to.Engine(), "err", err)
		}
	default:
		if s.counters.notTaken.Add(1) == 1 || errors.Is(err, relay.ErrInterface) && s.counters.noInterface.Add(1) == 1 {
			s.log.Info("a channel stays with the server", "engine", k.to.Engine(), "relayed", c.flow.Relayed, "peer", c.flow.Peer, "err", err)
		}
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if err == nil {
		c.offloaded, c.up, c.down, c.waits = true, Counters{}, Counters{}, 0
		return
	}
	c.waits = min(max(calmDown, 2*c.waits), longestWait)
	c.wanted, c.until = false, time.Now().Add(c.waits)
}

// take reads the last of what the offloader has counted, and has the server relay the channel.
func (k *keeper) take(c *channel) {
	k.readBack(c, time.Now())
	k.to.Remove(c.flow)
	k.server.offloaded.Add(-1)
	c.of.mu.Lock()
	c.offloaded = false
	c.of.mu.Unlock()
}

// readBack counts what the offloader has relayed since the last time, and says whether it is within the limits.
func (k *keeper) readBack(c *channel, now time.Time) bool {
	up, down, ok := k.to.Count(c.flow)
	a, s := c.of, k.server
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ok || up.Bytes < c.up.Bytes || down.Bytes < c.down.Bytes {
		return true // it has lost the flow, and what it had counted
	}
	u := Counters{Packets: up.Packets - c.up.Packets, Bytes: up.Bytes - c.up.Bytes}
	d := Counters{Packets: down.Packets - c.down.Packets, Bytes: down.Bytes - c.down.Bytes}
	c.up, c.down = up, down
	a.offUp = Counters{Packets: a.offUp.Packets + u.Packets, Bytes: a.offUp.Bytes + u.Bytes}
	a.offDown = Counters{Packets: a.offDown.Packets + d.Packets, Bytes: a.offDown.Bytes + d.Bytes}
	s.relayed.offloadedUp.addMany(u)
	s.relayed.offloadedDown.addMany(d)
	return a.user.spent(float64(u.Bytes+d.Bytes), now)
}

// withdraw takes all channels of an allocation back at once, for so long. The caller holds no lock of the library's.
func (k *keeper) withdraw(a *allocation, rest time.Duration) {
	if k.idle {
		return
	}
	k.begin()
	defer k.work.Unlock()
	now := time.Now()
	for _, c := range a.bound() {
		a.mu.Lock()
		c.wanted, c.until = false, now.Add(rest)
		a.mu.Unlock()
		k.settle(c)
	}
}

// look reads what the offloader counts. It takes channels back that are over their bandwidth or about to end, and gives those away
// that were and are not.
func (k *keeper) look() {
	if k.idle {
		return
	}
	for _, a := range k.server.table.all() {
		for _, c := range a.bound() {
			now := time.Now()
			k.begin()
			a.mu.Lock()
			offloaded := c.offloaded
			a.mu.Unlock()
			over := offloaded && !k.readBack(c, now)
			a.mu.Lock()
			if over {
				c.until = now.Add(calmDown)
				k.server.counters.takenBack.Add(1)
			}
			c.wanted = a.wants(c, now)
			a.mu.Unlock()
			k.settle(c)
			k.work.Unlock()
		}
	}
}

// reconcile tells the offloader which flows live, and finds out which of them it has lost.
func (k *keeper) reconcile() {
	r, ok := k.to.(reconciler)
	if !ok {
		return
	}
	k.begin()
	defer k.work.Unlock()
	var live []Flow
	for _, a := range k.server.table.all() {
		for _, c := range a.bound() {
			a.mu.Lock()
			offloaded := c.offloaded
			a.mu.Unlock()
			if !offloaded {
				continue
			}
			if _, _, ok := k.to.Count(c.flow); ok {
				live = append(live, c.flow)
				continue
			}
			k.server.counters.lost.Add(1)
			k.take(c)
		}
	}
	r.Reconcile(live)
}

// engineOf returns the name of what relays an offloaded flow.
func (k *keeper) engineOf(f Flow) string {
	if e, ok := k.to.(engines); ok {
		return e.EngineOf(f)
	}
	return k.to.Engine()
}

// The following are events of the library, which come under its locks, and what the server knows of their ends.

func (a *allocation) permit(peer netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.permitted[peer] = time.Now().Add(permissionLife)
	for _, c := range a.channels {
		if c.peer.Addr() == peer {
			a.ask(c)
		}
	}
}

func (a *allocation) forbid(peer netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.permitted, peer)
	for _, c := range a.channels {
		if c.peer.Addr() == peer {
			a.ask(c)
		}
	}
}

func (a *allocation) bind(number uint16, peer netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &channel{of: a, peer: peer, flow: a.flow(number, peer), expires: time.Now().Add(channelLife)}
	a.channels[number] = c
	a.ask(c)
}

func (a *allocation) unbind(number uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.channels[number]; c != nil {
		a.drop(number, c)
	}
}

func (a *allocation) drop(number uint16, c *channel) {
	delete(a.channels, number)
	c.ended = true
	a.ask(c)
}

// ask has the keeper settle a channel, if there is anything to do.
func (a *allocation) ask(c *channel) {
	wanted := a.wants(c, time.Now())
	if wanted != c.wanted || c.ended {
		c.wanted = wanted
		a.home.keeper.tell(wish{channel: c})
	}
}

// wants says whether a channel is one for the offloader. The peer in this very process is not beyond any wire.
func (a *allocation) wants(c *channel, now time.Time) bool {
	end := now.Add(ahead)
	until, limited := a.until()
	return !a.gone && !c.ended && a.at().transport == UDP && c.flow.Server.Addr().IsValid() && !a.user.realm.Peers.Media(c.peer) &&
		!now.Before(c.until) && c.expires.After(end) && a.permitted[c.peer.Addr()].After(end) && (!limited || until.After(end))
}

// until is when the allocation ends unless it is refreshed; not before its first answer is that known.
func (a *allocation) until() (time.Time, bool) {
	seconds := a.expires.Load()
	return time.Unix(seconds, 0), seconds != 0
}

// renewed is that the library has renewed permissions, and a channel if there is one.
func (a *allocation) renewed(peers []netip.AddrPort, number uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, p := range peers {
		if _, ok := a.permitted[p.Addr()]; ok {
			a.permitted[p.Addr()] = now.Add(permissionLife)
		}
		if c := a.channels[number]; c != nil && c.peer == p {
			c.expires = now.Add(channelLife)
		}
	}
	for _, c := range a.channels {
		if !c.offloaded {
			a.ask(c)
		}
	}
}

// bound returns the channels.
func (a *allocation) bound() []*channel {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*channel, 0, len(a.channels))
	for _, c := range a.channels {
		out = append(out, c)
	}
	return out
}
