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
}

// request is one that the library is at work on. It answers before it takes the next one of the same socket.
type request struct {
	source
	tx           stun.TxID
	method       stun.Method
	user         string
	signs        auth.Key
	integrity    auth.Integrity
	fingerprint  bool
	dontFragment bool
	bothFamilies bool
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
		// RFC 8656 §11.2: of somebody without an allocation, and any other than Send, it is dropped.
		if m.Type.Method() != methodSend || s.table.get(from.key) == nil {
			s.counters.strayIndications.Add(1)
			return nil, nil
		}
		return b, nil
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
		s.counters.bindings.Add(1)
		a := newMessage(stun.NewType(stun.MethodBinding, stun.ClassSuccess), m.Tx).add(stun.AttrXORMappedAddress, xorAddress(from.client, m.Tx))
		if m.HasFingerprint() {
			a = a.fingerprint()
		}
		return nil, a
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
	return s.sign(&m, b, r), nil
}

// channelData lets through what a channel may carry (RFC 8656 §12.6).
func (s *Server) channelData(b []byte, from source) []byte {
	if len(b) < 4 || len(b) < 4+int(binary.BigEndian.Uint16(b[2:])) {
		s.counters.malformed.Add(1)
		return nil
	}
	if s.table.get(from.key) == nil {
		s.counters.strayChannelData.Add(1)
		return nil
	}
	return b
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

// challenge asks for credentials (RFC 8489 §9.2.4).
func (s *Server) challenge(m *stun.Message, code int) []byte {
	a := newMessage(stun.NewType(m.Type.Method(), stun.ClassError), m.Tx).errorCode(code)
	a = a.add(stun.AttrRealm, []byte(s.cfg.Auth.Realm())).add(stun.AttrNonce, []byte(s.nonces.New(time.Now())))
	return a.add(attrPasswordAlgorithms, algorithms)
}

// algorithms is the value of PASSWORD-ALGORITHMS, the better one first (RFC 8489 §14.11).
var algorithms = []byte{0, byte(auth.SHA256), 0, 0, 0, byte(auth.MD5), 0, 0}

// authenticate finds out whose a request is (RFC 8489 §9.2.4), or what is to be answered.
func (s *Server) authenticate(m *stun.Message, raw []byte, from source, held *allocation) (*request, []byte) {
	_, strong := m.Attr(stun.AttrMessageIntegritySHA256)
	if !strong && !m.HasIntegrity() {
		s.counters.unauthenticated.Add(1)
		return nil, s.challenge(m, codeUnauthorized)
	}
	plain := newMessage(stun.NewType(m.Type.Method(), stun.ClassError), m.Tx)
	name, named := m.Username()
	hash, hashed := m.Attr(attrUserHash)
	_, hasRealm := m.Attr(stun.AttrRealm)
	nonce, hasNonce := m.Attr(stun.AttrNonce)
	algorithm, agreed := passwordAlgorithm(m)
	if !named && !hashed || !hasRealm || !hasNonce || !agreed {
		s.counters.badCredentials.Add(1)
		return nil, plain.errorCode(codeBadRequest)
	}
	now := time.Now()
	if !s.nonces.Fresh(string(nonce), now) {
		s.counters.staleNonces.Add(1)
		return nil, s.challenge(m, codeStaleNonce)
	}
	username := string(name)
	if !named && len(hash) == 32 {
		username, _ = s.cfg.Auth.ByHash([32]byte(hash))
	}
	candidates, err := s.cfg.Auth.Candidates(nil, username, algorithm, now, held != nil)
	switch {
	case errors.Is(err, auth.ErrExpired):
		s.counters.expired.Add(1)
		return nil, s.challenge(m, codeUnauthorized)
	case err != nil:
		s.counters.unknownUsers.Add(1)
		return nil, s.challenge(m, codeUnauthorized)
	}
	for _, c := range candidates {
		if i, ok := c.Key.Opens(m, raw); ok {
			s.counters.authenticated.Add(1)
			return &request{
				source: from, tx: m.Tx, method: m.Type.Method(), user: c.User, signs: c.Key, integrity: i, fingerprint: m.HasFingerprint(),
			}, nil
		}
	}
	s.counters.wrongPasswords.Add(1)
	return nil, s.challenge(m, codeUnauthorized)
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
	var unknown []byte
	var addresses []netip.AddrPort
	broken := false
	attributes(raw, func(t stun.AttrType, v []byte) {
		switch {
		case t < 0x8000 && !understood[t] && len(unknown) < 32:
			unknown = binary.BigEndian.AppendUint16(unknown, uint16(t))
		case t == attrXORPeerAddress:
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
	case held != nil && held.user.name != r.user:
		s.counters.wrongCredentials.Add(1)
		return codeWrongCredentials, nil
	}
	switch r.method {
	case methodAllocate:
		return s.checkAllocate(m, r, held), nil
	case methodConnectionBind:
		if r.transport != TCP && r.transport != TLS {
			return codeBadRequest, nil
		}
		return 0, nil
	}
	if held == nil {
		return codeAllocationMismatch, nil
	}
	if r.method == methodChannelBind {
		number, ok := m.Attr(attrChannelNumber)
		if !ok || len(number) != 4 || !isChannelData(number) || len(addresses) != 1 {
			return codeBadRequest, nil // RFC 8656 §12.2
		}
	}
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
	_, both := m.Attr(attrAdditionalAddressFamily)
	if both && asked {
		return codeBadRequest // RFC 8656 §7.2
	}
	bind := s.cfg.Relay4
	if asked && len(family) == 4 && family[0] == 2 {
		bind = s.cfg.Relay6
	}
	if !bind.IsValid() {
		return codeFamilyNotSupported
	}
	if held == nil && !s.table.room(r.user, s.cfg.Limits) {
		s.counters.quota.Add(1)
		return codeQuotaReached
	}
	r.bothFamilies = both
	_, r.dontFragment = m.Attr(attrDontFragment)
	return 0
}

func (s *Server) checkPeers(r *request, held *allocation, addresses []netip.AddrPort) int {
	for _, p := range addresses {
		allowed := s.cfg.Peers.Peer(p)
		if r.method == methodCreatePermission { // the port is not looked at (RFC 8656 §10.2)
			allowed = s.cfg.Peers.Addr(p.Addr())
		}
		if !allowed {
			s.counters.forbidden.Add(1)
			return codeForbidden
		}
	}
	if len(addresses) > 0 && held.full(addresses, s.cfg.Limits.Permissions) {
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

// sign makes a request one that the library believes, because the server has signed it.
func (s *Server) sign(m *stun.Message, raw []byte, r *request) []byte {
	out := newMessage(m.Type, m.Tx)
	attributes(raw, func(t stun.AttrType, v []byte) {
		switch t {
		case stun.AttrUsername, attrUserHash, stun.AttrRealm, stun.AttrNonce, attrPasswordAlgorithm, attrPasswordAlgorithms, attrDontFragment, stun.AttrSoftware:
		default:
			out = out.add(t, v)
		}
	})
	nonce := s.inner.nonce()
	if nonce == nil {
		return nil // the server closes
	}
	out = out.add(stun.AttrUsername, []byte(r.user)).add(stun.AttrRealm, []byte(s.cfg.Auth.Realm())).add(stun.AttrNonce, nonce)
	s.mu.Lock()
	s.pending[r.source.key] = r
	s.mu.Unlock()
	return s.inner.key.Seal(out, auth.SHA1Integrity)
}

// done forgets the request that the library has dealt with.
func (s *Server) done(k key) {
	s.mu.Lock()
	delete(s.pending, k)
	s.mu.Unlock()
}

// answer makes an answer of the library's the server's own. What is no answer to a request goes out as it is.
func (s *Server) answer(b []byte, k key) (out []byte, r *request) {
	var m stun.Message
	if isChannelData(b) || m.Parse(b) != nil {
		return b, nil
	}
	if c := m.Type.Class(); c != stun.ClassSuccess && c != stun.ClassError {
		return b, nil
	}
	s.mu.Lock()
	r = s.pending[k]
	s.mu.Unlock()
	if r == nil || r.tx != m.Tx {
		return nil, nil
	}
	a := newMessage(m.Type, m.Tx)
	attributes(b, func(t stun.AttrType, v []byte) { a = a.add(t, v) })
	if r.bothFamilies && m.Type.Class() == stun.ClassSuccess {
		// One family is what a client gets at a time; it asks for the other by itself (RFC 8656 §7.2).
		a = a.add(attrAddressErrorCode, append([]byte{2, 0, codeFamilyNotSupported / 100, codeFamilyNotSupported % 100}, reasons[codeFamilyNotSupported]...))
	}
	return r.seal(a), r
}
