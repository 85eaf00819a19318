package turn

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
)

var errForbidden = errors.New("turn: the peer is not allowed")

// source is where a frame comes from.
type source struct {
	key
	transport Transport
	path      udp.Path
	port      port
	name      string // of the server, as the client has said it over TLS
}

// port is where frames for a client leave.
type port interface {
	deliver(b []byte, to udp.Path)
}

// request is one that the library is at work on. It answers before it takes the next one of the same socket.
type request struct {
	source
	tx           stun.TxID
	method       stun.Method
	realm        *realm
	user         string
	signs        auth.Key
	integrity    auth.Integrity
	fingerprint  bool
	dontFragment bool
	bothFamilies bool
	family       byte // 4 or 6: the only one of both that is to be had
	mobile       bool
	reserves     bool        // the port beside an even one, too
	moving       *allocation // it comes from another 5-tuple than before
	peers        []netip.AddrPort
	channel      uint16 // to be bound

	// What the library is still to be asked, and what it has answered.
	steps []step
	first []byte
}

// receive judges a frame: what the library is to have of it, and what is to be answered at once.
func (s *Server) receive(b []byte, from source) (forward, answer []byte) {
	if isChannelData(b) {
		return s.channelData(b, from), nil
	}
	var m stun.Message
	if m.Parse(b) != nil {
		s.counters.malformed.Add(1)
		return nil, nil
	}
	switch m.Type.Class() {
	case stun.ClassIndication:
		return s.indication(&m, b, from), nil
	case stun.ClassRequest:
	default:
		s.counters.malformed.Add(1) // the server asks nothing, so nobody has answers for it
		return nil, nil
	}
	held := s.table.get(from.key)
	if !s.patience(held).Take(from.client.Addr(), time.Now()) {
		s.counters.rateLimited.Add(1)
		return nil, nil
	}
	switch m.Type.Method() {
	case stun.MethodBinding:
		return nil, s.binding(&m, b, from)
	case methodAllocate, methodRefresh, methodCreatePermission, methodChannelBind, methodConnect, methodConnectionBind:
	default:
		s.counters.malformed.Add(1)
		return nil, nil
	}
	r, answer := s.authenticate(&m, b, from, held)
	if answer != nil {
		return nil, answer
	}
	if code, extra := s.check(&m, b, r, held); code != 0 {
		return nil, r.refuse(m.Type.Method(), code, extra)
	}
	return s.route(&m, b, r, held), nil
}

// binding answers who asks for an address (RFC 8489 §6.3.1).
func (s *Server) binding(m *stun.Message, raw []byte, from source) []byte {
	s.counters.bindings.Add(1)
	a := newMessage(stun.NewType(stun.MethodBinding, stun.ClassSuccess), m.Tx)
	if unknown := unknownAttributes(raw, inBindings); len(unknown) > 0 {
		a = newMessage(stun.NewType(stun.MethodBinding, stun.ClassError), m.Tx).bareError(codeUnknownAttribute)
		a = a.add(stun.AttrUnknownAttributes, unknown)
	} else {
		a = a.add(stun.AttrXORMappedAddress, xorAddress(from.client, m.Tx))
	}
	if m.HasFingerprint() {
		a = a.fingerprint()
	}
	return a
}

// indication lets through what may be sent to peers (RFC 8656 §11.2). Of somebody without an allocation, any other than Send, and
// one with attributes that are not understood (RFC 8489 §6.3.2), it is dropped.
func (s *Server) indication(m *stun.Message, raw []byte, from source) []byte {
	a := s.table.get(from.key)
	if m.Type.Method() != methodSend || a == nil || len(unknownAttributes(raw, understood)) > 0 {
		s.counters.strayIndications.Add(1)
		return nil
	}
	if a.at().key != from.key {
		s.arrive(a, from.key)
	}
	if other := a.other.Load(); other != nil {
		if v, ok := m.Attr(attrXORPeerAddress); ok {
			if p, ok := parseXORAddress(v, m.Tx); ok && p.Addr().Unmap().Is6() != is6(a) {
				a = other
			}
		}
	}
	_, whole := m.Attr(attrDontFragment)
	return s.hand(raw, a, from, whole)
}

// unknownAttributes is the value of UNKNOWN-ATTRIBUTES (RFC 8489 §14.13): what must be understood and is not.
func unknownAttributes(raw []byte, understood map[stun.AttrType]bool) (unknown []byte) {
	attributes(raw, func(t stun.AttrType, _ []byte) {
		if t < 0x8000 && !understood[t] && len(unknown) < 32 {
			unknown = binary.BigEndian.AppendUint16(unknown, uint16(t))
		}
	})
	return unknown
}

// channelData lets through what a channel may carry (RFC 8656 §12.6).
func (s *Server) channelData(b []byte, from source) []byte {
	if len(b) < 4 || len(b) < 4+int(binary.BigEndian.Uint16(b[2:])) {
		s.counters.malformed.Add(1)
		return nil
	}
	a := s.table.get(from.key)
	if a == nil {
		s.counters.strayChannelData.Add(1)
		return nil
	}
	if a.at().key != from.key {
		s.arrive(a, from.key)
	}
	if other := a.other.Load(); other != nil {
		if _, mine := a.peerOf(binary.BigEndian.Uint16(b)); !mine {
			a = other
		}
	}
	return s.hand(b, a, from, false)
}

// asIndication writes ChannelData as the Send indication that means the same.
func (s *Server) asIndication(b []byte, k key) []byte {
	a := s.table.get(k)
	if a == nil {
		return nil
	}
	to, ok := a.peerOf(binary.BigEndian.Uint16(b))
	if !ok {
		return nil
	}
	m := newMessage(stun.NewType(methodSend, stun.ClassIndication), stun.TxID{})
	return m.add(attrXORPeerAddress, xorAddress(to, stun.TxID{})).add(attrData, b[4:4+binary.BigEndian.Uint16(b[2:])])
}

// challenge asks for credentials (RFC 8489 §9.2.4), with no more than what must be in it: anybody gets one, and it is longer than
// the request.
func (s *Server) challenge(m *stun.Message, code int, of *realm) []byte {
	a := newMessage(stun.NewType(m.Type.Method(), stun.ClassError), m.Tx).bareError(code)
	a = a.add(stun.AttrRealm, []byte(of.name)).add(stun.AttrNonce, []byte(of.nonces.New(time.Now())))
	return a.add(attrPasswordAlgorithms, algorithms)
}

// algorithms is the value of PASSWORD-ALGORITHMS, the better one first (RFC 8489 §14.11).
var algorithms = []byte{0, byte(auth.SHA256), 0, 0, 0, byte(auth.MD5), 0, 0}

// authenticate finds out whose a request is (RFC 8489 §9.2.4), or what is to be answered.
func (s *Server) authenticate(m *stun.Message, raw []byte, from source, held *allocation) (*request, []byte) {
	origin, _ := m.Attr(attrOrigin)
	of := s.welcome(from, string(origin))
	realmName, hasRealm := m.Attr(stun.AttrRealm)
	if named := s.named(string(realmName)); named != nil {
		of = named
	}
	_, strong := m.Attr(stun.AttrMessageIntegritySHA256)
	if !strong && !m.HasIntegrity() {
		s.counters.unauthenticated.Add(1)
		return nil, s.challenge(m, codeUnauthorized, of)
	}
	plain := newMessage(stun.NewType(m.Type.Method(), stun.ClassError), m.Tx)
	user, named := m.Username()
	hash, hashed := m.Attr(attrUserHash)
	nonce, hasNonce := m.Attr(stun.AttrNonce)
	algorithm, agreed := passwordAlgorithm(m)
	if !named && !hashed || !hasRealm || !hasNonce || !agreed {
		s.counters.badCredentials.Add(1)
		return nil, plain.bareError(codeBadRequest)
	}
	now := time.Now()
	if !of.nonces.Fresh(string(nonce), now) {
		s.counters.staleNonces.Add(1)
		return nil, s.challenge(m, codeStaleNonce, of)
	}
	username := string(user)
	if !named && len(hash) == 32 {
		username, _ = of.Auth.ByHash([32]byte(hash))
	}
	candidates, err := of.Auth.Candidates(nil, username, algorithm, now, held != nil)
	switch {
	case errors.Is(err, auth.ErrExpired):
		s.counters.expired.Add(1)
		return nil, s.challenge(m, codeUnauthorized, of)
	case err != nil:
		s.counters.unknownUsers.Add(1)
		return nil, s.challenge(m, codeUnauthorized, of)
	}
	for _, c := range candidates {
		if i, ok := c.Key.Opens(m, raw); ok {
			s.counters.authenticated.Add(1)
			return &request{
				source: from, tx: m.Tx, method: m.Type.Method(), realm: of, user: c.User, signs: c.Key, integrity: i, fingerprint: m.HasFingerprint(),
			}, nil
		}
	}
	s.counters.wrongPasswords.Add(1)
	return nil, s.challenge(m, codeUnauthorized, of)
}

// passwordAlgorithm reads how the client makes its key, and whether it has seen what the server offers (RFC 8489 §9.2.4).
func passwordAlgorithm(m *stun.Message) (auth.Algorithm, bool) {
	one, chosen := m.Attr(attrPasswordAlgorithm)
	all, seen := m.Attr(attrPasswordAlgorithms)
	if !chosen && !seen {
		return auth.MD5, true
	}
	if !chosen || !seen || !slices.Equal(all, algorithms) || len(one) != 4 || binary.BigEndian.Uint16(one[2:]) != 0 {
		return 0, false
	}
	a := auth.Algorithm(binary.BigEndian.Uint16(one))
	return a, a == auth.MD5 || a == auth.SHA256
}

// refuse is an error response, signed with the key of who asked.
func (r *request) refuse(method stun.Method, code int, extra func(message) message) []byte {
	a := newMessage(stun.NewType(method, stun.ClassError), r.tx).errorCode(code)
	if extra != nil {
		a = extra(a)
	}
	return r.seal(a)
}

func (r *request) seal(a message) []byte {
	a = r.signs.Seal(a, r.integrity)
	if r.fingerprint {
		a = a.fingerprint()
	}
	return a
}

// check says with which error an authenticated request is refused; 0: it is for the library.
func (s *Server) check(m *stun.Message, raw []byte, r *request, held *allocation) (code int, extra func(message) message) {
	unknown := unknownAttributes(raw, understood)
	var addresses []netip.AddrPort
	broken := false
	attributes(raw, func(t stun.AttrType, v []byte) {
		if t == attrXORPeerAddress {
			p, ok := parseXORAddress(v, m.Tx)
			broken = broken || !ok
			addresses = append(addresses, netip.AddrPortFrom(p.Addr().Unmap(), p.Port()))
		}
	})
	switch {
	case len(unknown) > 0:
		return codeUnknownAttribute, func(a message) message { return a.add(stun.AttrUnknownAttributes, unknown) }
	case broken:
		return codeBadRequest, nil
	case held != nil && (held.user.name != r.user || held.user.realm != r.realm):
		s.counters.wrongCredentials.Add(1)
		return codeWrongCredentials, nil
	}
	switch r.method {
	case methodAllocate:
		code := s.checkAllocate(m, r, held)
		if code == codeQuotaReached {
			if to, ok := s.alternate(r); ok {
				return codeTryAlternate, func(a message) message { return a.add(attrAlternateServer, plainAddress(to)) }
			}
		}
		return code, nil
	case methodConnectionBind:
		if r.transport != TCP && r.transport != TLS {
			return codeBadRequest, nil
		}
		return 0, nil
	}
	if r.method == methodRefresh {
		return s.checkRefresh(m, r, held), nil
	}
	if held == nil {
		return codeAllocationMismatch, nil
	}
	if r.method == methodChannelBind {
		number, ok := m.Attr(attrChannelNumber)
		if !ok || len(number) != 4 || !isChannelData(number) || len(addresses) != 1 {
			return codeBadRequest, nil // RFC 8656 §12.2
		}
		r.channel = binary.BigEndian.Uint16(number)
	}
	r.peers = addresses
	return s.checkPeers(r, held, addresses), nil
}

func (s *Server) checkAllocate(m *stun.Message, r *request, held *allocation) int {
	transport, ok := m.Attr(attrRequestedTransport)
	if !ok || len(transport) != 4 {
		return codeBadRequest
	}
	const udpProtocol, tcpProtocol = 17, 6
	switch {
	case transport[0] == tcpProtocol && r.transport != TCP && r.transport != TLS:
		return codeBadRequest // RFC 6062 §5.1
	case transport[0] == tcpProtocol && !dontFragments, transport[0] != udpProtocol && transport[0] != tcpProtocol:
		return codeUnsupportedProtocol
	}
	family, asked := m.Attr(attrRequestedAddressFamily)
	additional, both := m.Attr(attrAdditionalAddressFamily)
	if !both {
		additional, both = m.Attr(attrOldAdditionalFamily)
	}
	even, _ := m.Attr(attrEvenPort)
	r.reserves = len(even) > 0 && even[0]&0x80 != 0
	if both {
		_, reserved := m.Attr(attrReservationToken)
		if asked || reserved || r.reserves || len(additional) != 4 || additional[0] != 2 {
			return codeBadRequest // RFC 8656 §7.2
		}
	}
	ticket, mobile := m.Attr(attrMobilityTicket)
	switch {
	case mobile && len(ticket) > 0:
		return codeBadRequest // RFC 8016 §3.1.1
	case mobile && transport[0] == tcpProtocol:
		return codeMobilityForbidden // the connections of peers are bound to others of the client's
	}
	bind := s.cfg.Relay4
	switch {
	case asked && len(family) == 4 && family[0] == 2:
		bind = s.cfg.Relay6
	case both && !s.cfg.Relay4.IsValid():
		bind, r.family = s.cfg.Relay6, 6
	case both && (!s.cfg.Relay6.IsValid() || transport[0] == tcpProtocol):
		r.family = 4
	}
	if !bind.IsValid() {
		return codeFamilyNotSupported
	}
	if _, reserved := m.Attr(attrReservationToken); held == nil && !reserved && !s.table.room(r.realm, r.user, s.cfg.Limits.Allocations) {
		s.counters.quota.Add(1)
		return codeQuotaReached
	}
	r.bothFamilies, r.mobile = both, mobile
	_, r.dontFragment = m.Attr(attrDontFragment)
	return 0
}

// alternate returns where a client is sent that finds no room here (RFC 8489 §10), if it is not for its own quota: to each of those
// of the family that it has come by in turn.
func (s *Server) alternate(r *request) (netip.AddrPort, bool) {
	if len(s.cfg.Alternates) == 0 || !s.table.full(s.cfg.Limits.Allocations) {
		return netip.AddrPort{}, false
	}
	first := int(s.counters.sentAway.Add(1))
	for i := range s.cfg.Alternates {
		if to := s.cfg.Alternates[(first+i)%len(s.cfg.Alternates)]; to.Addr().Is4() == r.client.Addr().Is4() {
			return to, true
		}
	}
	s.counters.sentAway.Add(^uint64(0))
	return netip.AddrPort{}, false
}

// checkRefresh finds the allocation of who comes from elsewhere (RFC 8016 §3.2).
func (s *Server) checkRefresh(m *stun.Message, r *request, held *allocation) int {
	ticket, mobile := m.Attr(attrMobilityTicket)
	switch {
	case held != nil:
		s.endFlows(m, held)
		if family, ok := m.Attr(attrRequestedAddressFamily); ok && len(family) == 4 && held.other.Load() == nil && is6(held) != (family[0] == 2) {
			return codePeerFamilyMismatch // RFC 8656 §8.2
		}
		r.mobile = mobile && held.mobile
		return 0
	case !mobile || len(ticket) == 0:
		return codeAllocationMismatch
	}
	a := s.table.holder(string(ticket))
	switch {
	case a == nil:
		return codeAllocationMismatch
	case a.user.name != r.user || a.user.realm != r.realm:
		s.counters.wrongCredentials.Add(1)
		return codeWrongCredentials
	}
	r.mobile, r.moving = true, a
	return 0
}

// endFlows takes the flows of an allocation back that is about to end (RFC 8656 §8.2), before the library forgets it.
func (s *Server) endFlows(m *stun.Message, held *allocation) {
	if v, ok := m.Attr(attrLifetime); !ok || len(v) != 4 || binary.BigEndian.Uint32(v) != 0 {
		return
	}
	s.keeper.withdraw(held, calmDown)
	if other := held.other.Load(); other != nil {
		s.keeper.withdraw(other, calmDown)
	}
}

func (s *Server) checkPeers(r *request, held *allocation, addresses []netip.AddrPort) int {
	for _, p := range addresses {
		allowed := r.realm.Peers.Peer(p)
		if r.method == methodCreatePermission { // the port is not looked at (RFC 8656 §10.2)
			allowed = r.realm.Peers.Addr(p.Addr())
		}
		if !allowed {
			s.counters.forbidden.Add(1)
			return codeForbidden
		}
	}
	if len(addresses) > 0 && held.full(addresses, r.realm.Limits.Permissions) {
		s.counters.quota.Add(1)
		return codeInsufficient
	}
	return 0
}

// patience is how much is answered to who holds an allocation, or none.
func (s *Server) patience(held *allocation) *policy.Strangers {
	if held != nil {
		return s.known
	}
	return s.strangers
}

// sign makes a request one that the library believes, because the server has signed it. A family is asked for instead of what the
// client asks for; keep says which attributes the library is to have, nil: all.
func (s *Server) sign(m *stun.Message, raw []byte, r *request, family []byte, keep func(stun.AttrType, []byte) bool) []byte {
	out := newMessage(m.Type, m.Tx)
	attributes(raw, func(t stun.AttrType, v []byte) {
		switch t {
		case stun.AttrUsername, attrUserHash, stun.AttrRealm, stun.AttrNonce, attrPasswordAlgorithm, attrPasswordAlgorithms, attrDontFragment,
			stun.AttrSoftware, attrAdditionalAddressFamily, attrOldAdditionalFamily, attrMobilityTicket, attrOrigin:
		default:
			if keep == nil || keep(t, v) {
				out = out.add(t, v)
			}
		}
	})
	if family != nil {
		out = out.add(attrRequestedAddressFamily, family)
	}
	nonce := s.inner.nonce()
	if nonce == nil {
		return nil // the server closes
	}
	out = out.add(stun.AttrUsername, []byte(r.realm.id(r.user))).add(stun.AttrRealm, []byte(s.cfg.Auth.Realm())).add(stun.AttrNonce, nonce)
	return s.inner.key.Seal(out, auth.SHA1Integrity)
}

// begin remembers the request that the library is at work on, done forgets it.
func (s *Server) begin(k key, r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[k] = r
}

func (s *Server) done(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, k)
}

// answer makes an answer of the library's the server's own. What is no answer to a request goes out as it is; nil: nothing does yet.
func (s *Server) answer(b []byte, k key) (out []byte, r *request) {
	var m stun.Message
	if isChannelData(b) || m.Parse(b) != nil {
		return b, nil
	}
	success := m.Type.Class() == stun.ClassSuccess
	if !success && m.Type.Class() != stun.ClassError {
		return b, nil
	}
	s.mu.Lock()
	r = s.pending[k]
	s.mu.Unlock()
	if r == nil || r.tx != m.Tx {
		return nil, nil
	}
	if v, ok := m.Attr(attrLifetime); ok && success && len(v) == 4 {
		if a := s.table.inner(k); a != nil {
			a.expires.Store(time.Now().Unix() + int64(binary.BigEndian.Uint32(v)))
		}
	}
	if a := s.table.inner(k); a != nil && success && len(r.peers) > 0 {
		a.renewed(r.peers, r.channel)
	}
	if success && len(r.steps) > 0 {
		st := r.steps[0]
		r.first, r.steps = slices.Clone(b), r.steps[1:]
		s.next(r, st)
		return nil, nil
	}
	return r.seal(s.compose(&m, b, r, k, success)), r
}

// compose makes one answer of those that the library has given.
func (s *Server) compose(m *stun.Message, last []byte, r *request, k key, success bool) message {
	t, body := m.Type, last
	if r.first != nil && r.method == methodAllocate { // there is an address in any case
		t, body, success = stun.NewType(methodAllocate, stun.ClassSuccess), r.first, true
	}
	a := newMessage(t, r.tx)
	attributes(body, func(t stun.AttrType, v []byte) {
		switch {
		case t == stun.AttrXORMappedAddress:
			v = xorAddress(r.client, r.tx)
		case t == attrReservationToken && !r.reserves: // the library makes one for any even port
			return
		}
		a = a.add(t, v)
	})
	if r.method == methodAllocate {
		s.mu.Lock()
		delete(s.madeUp, r.key)
		s.mu.Unlock()
	}
	if !success {
		return a
	}
	if _, ok := m.Attr(attrReservationToken); ok && r.reserves {
		if held := s.table.inner(k); held != nil && !s.reserve(held) {
			held.rel.shut()
			s.counters.quota.Add(1)
			return newMessage(stun.NewType(methodAllocate, stun.ClassError), r.tx).errorCode(codeInsufficient)
		}
	}
	if r.moving != nil {
		s.table.announce(r.moving, r.source)
	}
	switch {
	case r.method == methodAllocate && r.family != 0:
		missing := byte(2)
		if r.family == 6 {
			missing = 1
		}
		a = a.add(attrAddressErrorCode, addressError(missing, codeFamilyNotSupported))
	case r.method == methodAllocate && r.first != nil:
		if v, ok := m.Attr(attrXORRelayedAddress); ok {
			a = a.add(attrXORRelayedAddress, v)
		} else {
			code, _ := m.ErrorCode()
			a = a.add(attrAddressErrorCode, addressError(2, code))
		}
	}
	if r.mobile {
		if held := s.table.get(r.key); held != nil {
			if ticket := s.table.issue(held); ticket != "" {
				a = a.add(attrMobilityTicket, []byte(ticket))
			}
		}
	}
	return a
}

// addressError is the value of ADDRESS-ERROR-CODE (RFC 8656 §18.12).
func addressError(family byte, code int) []byte {
	return append([]byte{family, 0, byte(code / 100), byte(code % 100)}, reasons[code]...)
}
