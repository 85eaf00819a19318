package transport

import (
	"net/netip"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
)

// MaxPaths bounds the paths of one session.
const MaxPaths = 8

// path is one pair of addresses between this node and the client, in one
// generation of ICE credentials. It exists because an authenticated Binding
// request came over it.
type path struct {
	addr       udp.Path
	used       bool
	generation uint8
	// inherited paths come from the checkpoint of another node: the client has
	// authenticated there, but not here. Nothing is sent to them before Activate.
	inherited bool
	// valid: a check of ours was answered (RFC 8445 §7.2.5.3).
	valid    bool
	named    bool   // a peer in control has nominated it
	priority uint64 // of the pair, RFC 8445 §6.1.2.3
	remote   uint32 // PRIORITY of the client's check
	made     int64
	heard    int64 // last authenticated packet from there
	consent  int64 // last answer to a check of ours
	asked    int64 // last beginning of one
	patience int64 // silence before the selected path is asked, drawn anew each time
	next     int64 // next check when none is outstanding
	rtt      int64 // of the last answered check that was sent once; 0 unknown

	tx transaction
}

type txKind uint8

const (
	txNone txKind = iota
	txCheck
	txNominate
)

// transaction is the outstanding check of a path, at most one.
type transaction struct {
	kind  txKind
	id    stun.TxID
	value uint32 // nomination value
	began int64
	next  int64 // next repetition
	wait  int64 // interval to it
	tries int
}

// adopt reports whether p is the path a. A path taken over from another node does
// not know its local address yet; the first datagram from the client tells.
func (p *path) adopt(a udp.Path) bool {
	if p.addr == a {
		return true
	}
	if p.addr.Local.IsValid() || p.addr.Remote != a.Remote || p.addr.Way != a.Way {
		return false
	}
	p.addr = a
	return true
}

// pairPriority is RFC 8445 §6.1.2.3 with this side controlling.
func pairPriority(local, remote uint32) uint64 {
	g, d := uint64(local), uint64(remote)
	p := min(g, d)<<32 + 2*max(g, d)
	if g > d {
		p++
	}
	return p
}

// hostPriority is RFC 8445 §5.1.2.1 for a host candidate of component 1.
const hostPriority = uint32(126<<24 | 65535<<8 | 255)

// localPriority is the priority of our candidate behind a path. With a public
// address in front of it (1:1 NAT) only the family can be matched.
func (m *Mux) localPriority(p udp.Path) uint32 {
	var family uint32
	for i := range m.cfg.Candidates {
		c := &m.cfg.Candidates[i]
		if c.Standby || c.TCP != (p.Way == udp.Stream) {
			continue
		}
		a := c.Addr.Addr().Unmap()
		if a == p.Local {
			return c.Priority
		}
		if a.Is4() == p.Local.Is4() {
			family = max(family, c.Priority)
		}
	}
	if family == 0 {
		return hostPriority
	}
	return family
}

// peerReflexivePriority is what a check of ours says its pair is worth to the
// client, in case it meets us at an address it does not know (RFC 8445 §7.1.1).
func (m *Mux) peerReflexivePriority(p udp.Path) uint32 {
	return 110<<24 | m.localPriority(p)&0xffffff
}

// findPath returns the path of that address in any generation, the newest first;
// -1 if there is none.
func (s *Session) findPath(a udp.Path) int {
	if s.selected >= 0 && s.paths[s.selected].addr == a {
		return s.selected
	}
	best := -1
	for i := range s.paths {
		p := &s.paths[i]
		if p.used && !p.inherited && p.adopt(a) && (best < 0 || p.generation == s.current.number) {
			best = i
		}
	}
	return best
}

// takePath returns the path of that address and generation, made if need be; -1
// when the session has too many or makes them too fast.
func (s *Session) takePath(a udp.Path, generation uint8, now int64) int {
	free, inherited, oldest := -1, -1, -1
	for i := range s.paths {
		p := &s.paths[i]
		switch {
		case !p.used:
			free = i
		case p.inherited:
			if inherited < 0 || p.addr.Remote == a.Remote {
				inherited = i
			}
		case p.generation == generation && p.adopt(a):
			return i
		case i != s.selected && i != s.nominating && p.heard <= now-pathQuiet &&
			(oldest < 0 || p.heard < s.paths[oldest].heard):
			oldest = i
		}
	}
	i := free
	switch {
	case inherited >= 0 && (i < 0 || s.paths[inherited].addr.Remote == a.Remote):
		i = inherited
	case i < 0:
		i = oldest
	}
	if i < 0 || !s.newPaths.take(now) {
		s.mux.counters.PathsRefused++
		return -1
	}
	if !s.mux.claim(a.Remote, s, now) {
		return -1
	}
	s.dropPath(i)
	s.paths[i] = path{addr: a, used: true, generation: generation, made: now, heard: now}
	return i
}

// dropPath forgets path i.
func (s *Session) dropPath(i int) {
	p := &s.paths[i]
	if !p.used {
		return
	}
	remote, row := p.addr.Remote, !p.inherited
	*p = path{}
	if s.selected == i {
		s.selected = -1
	}
	if s.nominating == i {
		s.nominating = -1
	}
	if s.lastDTLS == i {
		s.lastDTLS = -1
	}
	if row {
		s.mux.unclaim(remote, s)
	}
}

func (s *Session) dropPaths() {
	for i := range s.paths {
		s.dropPath(i)
	}
}

// dropRemote forgets all paths to a client address, which another session has.
func (s *Session) dropRemote(a netip.AddrPort, now int64) {
	for i := range s.paths {
		if p := &s.paths[i]; p.used && !p.inherited && p.addr.Remote == a {
			s.dropPath(i)
		}
	}
	s.settle(now)
}

// dropOtherPaths forgets all paths but those of one generation.
func (s *Session) dropOtherPaths(generation uint8) {
	for i := range s.paths {
		if s.paths[i].generation != generation {
			s.dropPath(i)
		}
	}
}

// heardAt is when the client was last heard from an address.
func (s *Session) heardAt(a netip.AddrPort) int64 {
	var t int64
	for i := range s.paths {
		if p := &s.paths[i]; p.used && !p.inherited && p.addr.Remote == a {
			t = max(t, p.heard)
		}
	}
	return t
}

// bestPath returns the best path of the current generation other than except:
// validated, heard lately, highest priority; -1 if there is none.
func (s *Session) bestPath(except int, now int64) int {
	best := -1
	for i := range s.paths {
		p := &s.paths[i]
		if !p.used || p.inherited || !p.valid || i == except ||
			p.generation != s.current.number || p.heard <= now-disconnectAfter {
			continue
		}
		if best < 0 || p.priority > s.paths[best].priority ||
			(p.priority == s.paths[best].priority && p.heard > s.paths[best].heard) {
			best = i
		}
	}
	return best
}
