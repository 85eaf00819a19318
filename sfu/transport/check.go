package transport

import "github.com/sotto-edge/sotto/internal/stun"

// The clockwork of ICE here. RFC 8445 §14.3 would start at 500 ms; a client's
// first packet waits for these checks, and there are few of them, each to an
// address that has just asked.
const (
	firstRetry       = 50 * millisecond
	longestRetry     = 1600 * millisecond
	takeoverInterval = 20 * millisecond
	takeoverTries    = 100
	triesUnproven    = 5 // of a check on a path that never answered
	triesProven      = 7

	consentInterval = 5 * second // RFC 7675 §5.1
	standbyInterval = 2500 * millisecond
	consentExpiry   = 30 * second // RFC 7675 §5.1

	disconnectAfter    = 5 * second
	probeAfter         = 2500 * millisecond // silence of the selected path before it is asked
	suspectAfter       = 500 * millisecond  // the same while another path is livelier
	probePatience      = 600 * millisecond  // unanswered for so long: dead, if there is another
	nominationPatience = second
	improveWithin      = 5 * second // better paths are taken this long after the first

	pathQuiet      = 10 * second // an unselected path may be replaced after this
	newPathCost    = 500 * millisecond
	nominationJump = 256
)

// trigger makes a triggered check (RFC 8445 §7.3.1.4) on path i unless it is proven
// or being checked.
func (s *Session) trigger(i int, now int64) {
	p := &s.paths[i]
	if !p.used || p.inherited || p.valid || p.tx.kind != txNone {
		return
	}
	s.begin(i, txCheck, firstRetry, now)
}

// nominate makes path i the nominated one, with a value above all before
// (draft-thatcher-ice-renomination). Clients without renomination go by
// USE-CANDIDATE and the pair's priority.
func (s *Session) nominate(i int, now, wait int64) {
	if n := s.nominating; n >= 0 && n != i {
		s.paths[n].tx = transaction{}
	}
	s.nomination++
	s.nominating = i
	s.begin(i, txNominate, wait, now)
	if s.paths[i].tx.kind == txNone {
		s.nominating = -1
	}
}

// begin starts a transaction on path i, in place of one that may be outstanding.
func (s *Session) begin(i int, kind txKind, wait, now int64) {
	p := &s.paths[i]
	g := s.generationOf(p)
	if g == nil || g.remoteKey == nil {
		p.tx = transaction{} // before the answer: SetRemote triggers it
		return
	}
	p.asked = now
	p.patience = s.mux.jitter(probeAfter)
	p.tx = transaction{kind: kind, began: now, wait: wait, value: s.nomination}
	if !s.mux.draw(p.tx.id[:]) {
		p.tx = transaction{}
		return
	}
	s.transmit(p, g, now)
}

// transmit sends the outstanding check of p, for the first time or again.
func (s *Session) transmit(p *path, g *generation, now int64) {
	m, t := s.mux, &p.tx
	b := stun.Append(m.reserve(stunRoom)[:0], stun.BindingRequest, t.id)
	b.Username(g.username)
	b.Priority(m.peerReflexivePriority(p.addr))
	if s.role.yielded {
		b.ICEControlled(tieBreaker)
	} else {
		b.ICEControlling(tieBreaker)
	}
	if t.kind == txNominate {
		b.UseCandidate()
		b.Nomination(t.value)
		m.counters.Nominations++
	}
	m.commit(b.End(g.remoteKey, true), p.addr)
	m.counters.Checks++

	t.tries++
	t.next = now + t.wait
	switch {
	case t.wait != takeoverInterval:
		t.wait = min(2*t.wait, longestRetry)
	case t.tries >= takeoverTries:
		t.wait = firstRetry
	}
}

// retry repeats or ends the outstanding check of path i.
func (s *Session) retry(i int, now int64) {
	p := &s.paths[i]
	tries := triesProven
	if !p.valid {
		tries = triesUnproven
	}
	g := s.generationOf(p)
	if g == nil || g.remoteKey == nil || (p.tx.kind == txCheck && p.tx.tries >= tries) {
		p.tx = transaction{}
		p.next = now + s.mux.jitter(s.checkInterval())
		return
	}
	s.transmit(p, g, now)
}

// checkInterval is the time between checks of a proven path.
func (s *Session) checkInterval() int64 {
	if s.mode == modeStandby {
		return standbyInterval
	}
	return consentInterval
}

// checkDue is when a proven path without an outstanding check gets the next one.
func (s *Session) checkDue(i int) int64 {
	p := &s.paths[i]
	if i != s.selected {
		return p.next
	}
	// A silent selected path is asked early: half of the time until the client
	// counts as disconnected.
	return min(p.next, max(p.heard, p.asked)+p.patience)
}
