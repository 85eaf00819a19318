package transport

import (
	"bytes"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
)

// tieBreaker is the highest there is: whoever else claims to control is told to
// give in (RFC 8445 §7.3.1.1).
const tieBreaker = ^uint64(0)

// stunRoom holds any message of ours: the longest username (RFC 8839 §5.4) and all
// attributes of a nominating check come to 430 bytes.
const stunRoom = 512

// TURN methods (RFC 8656 §17), which are not for ICE.
const (
	turnAllocate    stun.Method = 0x003
	turnChannelBind stun.Method = 0x009
)

// stun handles one STUN message.
func (m *Mux) stun(d *udp.Datagram, now int64) {
	msg := &m.msg
	if msg.Parse(d.Data) != nil {
		m.counters.STUNMalformed++
		return
	}
	switch msg.Type {
	case stun.BindingRequest:
		m.request(d, msg, now)
	case stun.BindingSuccess, stun.BindingError:
		m.response(d, msg, now)
	case stun.BindingIndication:
		// A keepalive (RFC 8445 §11): proves nothing, wants nothing.
		m.counters.STUNIndications++
	default:
		switch t := msg.Type.Method(); {
		case t < turnAllocate || t > turnChannelBind:
			m.counters.STUNUnknown++
		case !m.relayed(d):
			m.counters.TURN++
		}
	}
}

// request handles a Binding request (RFC 8445 §7.3). Until its integrity has been
// checked nothing is sent, kept or changed on account of it.
func (m *Mux) request(d *udp.Datagram, msg *stun.Message, now int64) {
	username, ok := msg.Username()
	if !ok {
		m.plainRequest(d, msg, now)
		return
	}
	s, g := m.credentials(username, d)
	if s == nil {
		return
	}
	if !msg.CheckIntegrity(g.localKey) {
		m.counters.BadIntegrity++
		return
	}
	if s.mode == modeFrozen {
		m.counters.NotActive++
		return
	}
	if s.state >= StateFailed {
		m.counters.UnknownSession++
		return
	}
	m.counters.Requests++
	if unknown := msg.UnknownRequired(m.unknown[:0]); len(unknown) > 0 {
		m.counters.UnknownAttribute++
		m.refuseUnknown(d, msg, unknown, g.localKey)
		return
	}
	if _, ok := msg.ICEControlling(); !ok {
		s.reclaim()
	} else if s.conflict(d, msg, g, now) {
		return
	}
	i := s.takePath(d.Path, g.number, now)
	if i < 0 {
		return
	}
	b := stun.Append(m.reserve(stunRoom)[:0], stun.BindingSuccess, msg.Tx)
	b.XORMappedAddress(d.Path.Remote)
	m.commit(b.End(g.localKey, true), d.Path)

	p := &s.paths[i]
	p.remote, _ = msg.Priority()
	p.priority = pairPriority(m.localPriority(d.Path), p.remote)
	p.heard, s.heard = now, now
	if s.role.yielded { // of a controlled agent it has no meaning and is ignored
		p.named = p.named || msg.UseCandidate()
	}
	s.trigger(i, now)
	s.settle(now)
}

// credentials finds whom a username addresses: "ours:theirs" (RFC 8445 §7.2.2). Only
// our part counts. d is the datagram that it came in: a neighbour may have the session.
func (m *Mux) credentials(username []byte, d *udp.Datagram) (*Session, *generation) {
	ours, _, _ := bytes.Cut(username, []byte{':'})
	f, ok := m.ufrags.parse(ours)
	if !ok {
		m.counters.BadUfrag++
		return nil, nil
	}
	s := m.sessions[f.session]
	switch {
	case s == nil && m.cfg.Neighbours.PassSession(f.session, d):
		m.counters.Passed++
	case s == nil && f.node != m.cfg.Node:
		m.counters.ForeignNode++
	case s == nil:
		m.counters.UnknownSession++
	case string(ours) == s.current.local.Ufrag:
		return s, &s.current
	case s.previous.used && string(ours) == s.previous.local.Ufrag:
		return s, &s.previous
	default:
		m.counters.StaleGeneration++
	}
	return nil, nil
}

// plainRequest answers a Binding request without credentials as a plain STUN
// server does (RFC 8489 §6.3), within a global rate: anybody can forge its source.
func (m *Mux) plainRequest(d *udp.Datagram, msg *stun.Message, now int64) {
	if msg.HasIntegrity() {
		m.counters.BadIntegrity++
		return
	}
	if !m.plain.take(now) {
		m.counters.PlainLimited++
		return
	}
	m.counters.PlainAnswered++
	if unknown := msg.UnknownRequired(m.unknown[:0]); len(unknown) > 0 {
		m.refuseUnknown(d, msg, unknown, nil)
		return
	}
	b := stun.Append(m.reserve(stunRoom)[:0], stun.BindingSuccess, msg.Tx)
	b.XORMappedAddress(d.Path.Remote)
	m.commit(b.End(nil, true), d.Path)
}

// refuseUnknown is RFC 8489 §6.3.1.
func (m *Mux) refuseUnknown(d *udp.Datagram, msg *stun.Message, unknown []stun.AttrType, k *stun.Key) {
	b := stun.Append(m.reserve(stunRoom)[:0], stun.BindingError, msg.Tx)
	b.ErrorCode(stun.CodeUnknownAttribute, "Unknown Attribute")
	b.UnknownAttributes(unknown)
	m.commit(b.End(k, true), d.Path)
}

// response handles the answer to a check of ours (RFC 8445 §7.2.5). It must come
// from where the check went (§7.2.5.2.1) and be signed with the peer's password;
// everything else is as if it had never come.
func (m *Mux) response(d *udp.Datagram, msg *stun.Message, now int64) {
	s := m.lookup(d.Path.Remote)
	if s == nil && m.pass(d) {
		return
	}
	if s == nil || s.over() {
		m.counters.StrayResponses++
		return
	}
	i := s.findTransaction(d.Path, msg.Tx)
	if i < 0 {
		m.counters.StrayResponses++
		return
	}
	p := &s.paths[i]
	g := s.generationOf(p)
	if g == nil || g.remoteKey == nil || !msg.CheckIntegrity(g.remoteKey) {
		m.counters.BadIntegrity++
		return
	}
	m.counters.Responses++
	p.heard, s.heard = now, now
	if msg.Type == stun.BindingError {
		s.refused(i, msg, now)
		s.settle(now)
		return
	}
	tx := p.tx
	p.tx = transaction{}
	if tx.tries == 1 {
		p.rtt = max(1, now-d.Waited-tx.began)
	}
	p.valid = true
	p.consent = now
	p.next = now + m.jitter(s.checkInterval())
	if tx.kind == txNominate && s.nominating == i {
		s.nominating = -1
		s.selectPath(i, now)
	}
	s.settle(now)
}

// refused handles an error response that is authentic.
func (s *Session) refused(i int, msg *stun.Message, now int64) {
	p := &s.paths[i]
	code, _ := msg.ErrorCode()
	if code == stun.CodeRoleConflict {
		// The peer claims to control with the same tie-breaker. It has to give in to
		// our own 487; this side does not change its role for that (RFC 8445 §7.2.5.1
		// would have it do so) and asks again with a new transaction. Or it does not
		// control any more, after we had let it.
		s.mux.counters.RoleConflicts++
		if s.role.yielded {
			s.reclaim()
		}
		if s.mux.draw(p.tx.id[:]) {
			p.tx.next = now + p.tx.wait
			return
		}
	}
	if p.tx.kind == txCheck {
		p.tx = transaction{}
		p.next = now + s.mux.jitter(s.checkInterval())
	}
}

// findTransaction returns the path that waits for the answer id from a; -1 for none.
func (s *Session) findTransaction(a udp.Path, id stun.TxID) int {
	for i := range s.paths {
		p := &s.paths[i]
		if p.used && p.tx.kind != txNone && p.tx.id == id && p.addr.Remote == a.Remote && p.adopt(a) {
			return i
		}
	}
	return -1
}

// generationOf returns the credentials a path lives under; nil when they are gone.
func (s *Session) generationOf(p *path) *generation {
	switch {
	case p.generation == s.current.number:
		return &s.current
	case s.previous.used && p.generation == s.previous.number:
		return &s.previous
	default:
		return nil
	}
}

// commit queues a message built into the last reservation.
func (m *Mux) commit(b []byte, p udp.Path) {
	if len(b) > stunRoom {
		m.counters.OversizedOutputs++
		return
	}
	m.out.Commit(len(b), p)
}
