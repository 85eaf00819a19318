package transport

import (
	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
)

// Roles. This side controls (RFC 8445 §6.1.1), with the highest tie-breaker there
// is, so a peer that made the offer and believes that it controls has to give in:
// at our 487, or at our own check. Some do not know how to, being made for servers
// with ICE lite. With PeerOffers such a peer is left in control when it has insisted
// for a while: then its USE-CANDIDATE says where media goes, and a node that takes
// the session over cannot move it, so that the client has to come anew.

// yieldAfter is how long a peer has to insist. One that gives in does so a round
// trip after the first 487.
const yieldAfter = second

// role is what a session knows of who controls.
type role struct {
	peerOffers bool
	yielded    bool
	insistsAt  int64 // since when the peer has claimed to control; 0: it does not
}

// PeerOffers says that the client made the offer, so that by RFC 8445 §6.1.1 it is
// the one to control, and may insist. Call it before the first check can come.
func (s *Session) PeerOffers() { s.role.peerOffers = true }

// Controlled says whether the peer has insisted on controlling.
func (s *Session) Controlled() bool { return s.role.yielded }

// conflict handles an authentic request of a peer that claims to control. False
// means that it is left in control, and the request one like any other.
func (s *Session) conflict(d *udp.Datagram, msg *stun.Message, g *generation, now int64) bool {
	m, r := s.mux, &s.role
	if r.yielded {
		return false
	}
	m.counters.RoleConflicts++
	if r.peerOffers {
		if r.insistsAt == 0 {
			r.insistsAt = now
		}
		if now-r.insistsAt >= yieldAfter {
			s.yield()
			return false
		}
	}
	// RFC 8445 §7.3.1.1: ours is the larger tie-breaker, or an equal one.
	b := stun.Append(m.reserve(stunRoom)[:0], stun.BindingError, msg.Tx)
	b.ErrorCode(stun.CodeRoleConflict, "Role Conflict")
	m.commit(b.End(g.localKey, true), d.Path)
	if !r.peerOffers {
		return true
	}
	// A peer that overlooks the 487, as pion does, gives in at a check of ours.
	if i := s.takePath(d.Path, g.number, now); i >= 0 {
		s.paths[i].heard, s.heard = now, now
		s.trigger(i, now)
		s.settle(now)
	}
	return true
}

// yield leaves the peer in control. What is outstanding was asked in the other role:
// it is asked anew.
func (s *Session) yield() {
	s.mux.counters.RolesYielded++
	s.role.yielded = true
	s.nominating = -1
	for i := range s.paths {
		s.paths[i].tx = transaction{}
	}
	if s.selected >= 0 { // by a nomination of ours that it has answered, whatever it took it for
		s.paths[s.selected].named = true
	}
}

// reclaim is for a peer that gives in after all.
func (s *Session) reclaim() { s.role.yielded, s.role.insistsAt = false, 0 }

// follow selects the best of the paths that a peer in control has nominated
// (RFC 8445 §7.3.1.5). Those that nominate aggressively name several.
func (s *Session) follow(now int64) {
	best := -1
	for i := range s.paths {
		p := &s.paths[i]
		if p.used && p.named && p.valid && p.generation == s.current.number && !s.dead(p, now) &&
			(best < 0 || p.priority > s.paths[best].priority) {
			best = i
		}
	}
	if best >= 0 && best != s.selected {
		s.selectPath(best, now)
	}
}
