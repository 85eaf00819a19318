package transport

import (
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
)

const (
	maxHello  = 1500
	lingerFor = 2 * second
	maxLinger = 1024
	lingerOut = 4 // datagrams
)

// linger is a closed session whose close_notify is still to come.
type linger struct {
	id    SessionID
	path  udp.Path
	until int64
	left  int
}

// dtls handles one DTLS datagram. What is in it is for the Handshaker to judge;
// here counts only that it comes from an address that has passed ICE, which takes
// the place of a HelloVerifyRequest (RFC 6347 §4.2.1).
func (m *Mux) dtls(d *udp.Datagram, now int64) {
	s := m.lookup(d.Path.Remote)
	if s == nil && m.pass(d) {
		return
	}
	m.counters.DTLSIn++
	if s == nil || s.over() || s.mode != modeActive {
		m.counters.DTLSUnexpected++
		return
	}
	i := s.findPath(d.Path)
	if i < 0 {
		m.counters.DTLSUnexpected++
		return
	}
	if s.handshake == handshakeNone {
		if !isClientHello(d.Data) || s.send != nil {
			// A restored session has its keys and no association.
			m.counters.DTLSUnexpected++
			return
		}
		if s.fingerprint.IsZero() {
			m.counters.HellosBeforeAnswer++
			if len(d.Data) <= maxHello {
				s.hello = append(s.hello[:0], d.Data...)
				s.lastDTLS = i
			}
			return
		}
		if !s.startHandshake() {
			return
		}
	}
	s.lastDTLS = i
	m.handshake.Deliver(s.id, d.Data)
}

func (s *Session) startHandshake() bool {
	m := s.mux
	if !m.handshake.Start(s.id, s.fingerprint) {
		m.counters.HandshakesDeferred++
		return false
	}
	m.counters.HandshakesStarted++
	s.handshake = handshakeRunning
	return true
}

// helloAgain plays the ClientHello that came before the answer.
func (s *Session) helloAgain() {
	if s.hello == nil || s.fingerprint.IsZero() || s.mode != modeActive {
		return
	}
	hello := s.hello
	s.hello = nil
	if s.handshake == handshakeNone && s.send == nil && s.startHandshake() {
		s.mux.handshake.Deliver(s.id, hello)
	}
}

// HandshakePacket sends a datagram of a handshake to the client: by the selected
// path, or before there is one by that on which the client speaks DTLS.
func (m *Mux) HandshakePacket(id SessionID, datagram []byte, now int64) {
	m.now = now
	p, ok := m.handshakePath(id)
	if !ok {
		m.counters.HandshakePacketsLost++
		return
	}
	copy(m.reserve(len(datagram)), datagram)
	m.out.Commit(len(datagram), p)
	m.counters.DTLSOut++
}

func (m *Mux) handshakePath(id SessionID) (udp.Path, bool) {
	if s := m.sessions[id]; s != nil && s.state < StateFailed {
		switch {
		case s.mode != modeActive:
		case s.selected >= 0:
			return s.paths[s.selected].addr, true
		case s.lastDTLS >= 0:
			return s.paths[s.lastDTLS].addr, true
		}
		return udp.Path{}, false
	}
	for i := range m.lingering {
		if l := &m.lingering[i]; l.id == id && l.left > 0 {
			l.left--
			return l.path, true
		}
	}
	return udp.Path{}, false
}

// HandshakeDone takes the keys of a finished handshake.
func (m *Mux) HandshakeDone(id SessionID, k Keys, now int64) {
	m.now = now
	s := m.sessions[id]
	if s == nil || s.handshake != handshakeRunning || s.over() {
		return
	}
	send, err := srtp.New(k.Local, srtp.Sender)
	if err != nil {
		m.handshake.End(id)
		m.HandshakeFailed(id, now)
		return
	}
	recv, err := srtp.New(k.Remote, srtp.Receiver)
	if err != nil {
		m.handshake.End(id)
		m.HandshakeFailed(id, now)
		return
	}
	m.counters.HandshakesDone++
	s.handshake = handshakeDone
	s.setContexts(send, recv)
	s.settle(now)
}

// HandshakeFailed says that a handshake has failed, for whatever reason: the
// session is of no use any more.
func (m *Mux) HandshakeFailed(id SessionID, now int64) {
	m.now = now
	s := m.sessions[id]
	if s == nil || s.handshake == handshakeNone {
		return
	}
	m.counters.HandshakesFailed++
	s.handshake = handshakeNone
	s.fail(now)
}

// HandshakeClosed says that the peer has sent its close_notify, or that the
// association has ended otherwise after the handshake.
func (m *Mux) HandshakeClosed(id SessionID, now int64) {
	m.now = now
	s := m.sessions[id]
	if s == nil || s.handshake == handshakeNone || s.over() {
		return
	}
	s.end(StateClosed)
	m.remove(s)
	m.counters.Closed++
	m.handler.State(s, StateClosed, now)
}

// linger keeps the way to the client of a session that is being closed, for its
// last words. A frozen session has none: the client must not hear that another
// node's session ends.
func (m *Mux) linger(s *Session) {
	p, ok := m.handshakePath(s.id)
	if !ok || len(m.lingering) >= maxLinger {
		return
	}
	m.lingering = append(m.lingering, linger{id: s.id, path: p, until: m.now + lingerFor, left: lingerOut})
}

func (s *Session) setContexts(send, recv *srtp.Context) {
	s.send, s.recv = send, recv
	s.rtpOver = send.Profile().RTPOverhead()
	s.rtcpOver = send.Profile().RTCPOverhead()
}

// isClientHello recognises the first datagram of a handshake: a DTLS record
// (RFC 6347 §4.1) of epoch 0 with a ClientHello.
func isClientHello(b []byte) bool {
	return len(b) > 13 && b[0] == 22 && b[1] == 0xfe && b[3] == 0 && b[4] == 0 && b[13] == 1
}
