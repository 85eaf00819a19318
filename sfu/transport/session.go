package transport

import (
	"encoding/base64"
	"errors"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
)

// What the methods of a session return.
var (
	ErrNotReady      = errors.New("transport: session is not ready to send")
	ErrOver          = errors.New("transport: session has failed, is closed or is frozen")
	ErrRemoteParams  = errors.New("transport: malformed ICE credentials of the peer")
	ErrRemoteChanged = errors.New("transport: peer changed its credentials without an ICE restart")
	ErrNoPath        = errors.New("transport: no path to the peer is known yet")
	ErrNotStandby    = errors.New("transport: session is not a standby")
)

// Session is one client's leg: its ICE state, its paths, its SRTP contexts. All of
// it is plain state that Checkpoint can carry away.
type Session struct {
	// User belongs to whoever opened the session.
	User any

	mux   *Mux
	id    SessionID
	state State
	mode  mode

	// Timers.
	timer     int // place in Mux.timers, 0 for none
	deadline  int64
	heard     int64 // last authenticated packet on any path
	arrived   int64 // when the RTCP at hand came in
	connectBy int64 // when connecting is given up; 0 before SetRemote

	// ICE.
	current    generation
	previous   generation // while the old credentials keep media alive after Restart
	paths      [MaxPaths]path
	selected   int    // where media goes; -1 for nowhere
	nominating int    // whose nomination is on its way; -1 for none
	inherited  int    // the selected path of the node this standby stands by for; -1
	nomination uint32 // last nomination value used
	selectedAt int64  // when the current generation got its first selected path
	newPaths   bucket
	role       role
	unsettled  bool // counted in Mux.unsettled

	// DTLS.
	fingerprint Fingerprint
	handshake   handshakeState
	hello       []byte // a ClientHello that came before the answer
	lastDTLS    int    // path of the last DTLS datagram; -1

	// SRTP.
	send, recv *srtp.Context
	rtpOver    int
	rtcpOver   int
	header     rtp.Header
}

type mode uint8

const (
	modeActive  mode = iota
	modeStandby      // answers and makes checks, nothing else
	modeFrozen       // does nothing; its state has been handed on
)

type handshakeState uint8

const (
	handshakeNone handshakeState = iota
	handshakeRunning
	handshakeDone
)

// generation is one set of ICE credentials (RFC 8445 §9).
type generation struct {
	used     bool
	number   uint8
	local    LocalParams
	localKey *stun.Key

	remoteUfrag, remotePwd string
	remoteKey              *stun.Key // nil before SetRemote
	username               string    // of our checks
}

func newSession(m *Mux, id SessionID) *Session {
	return &Session{
		mux:        m,
		id:         id,
		deadline:   Never,
		selected:   -1,
		nominating: -1,
		inherited:  -1,
		lastDTLS:   -1,
		newPaths:   bucket{cost: newPathCost, burst: 2 * MaxPaths * newPathCost},
	}
}

// newGeneration draws credentials: a ufrag that says whose it is, and a password
// of 144 random bits (RFC 8445 §5.3 wants 128).
func (m *Mux) newGeneration(id SessionID, number uint8) (generation, bool) {
	var b [18]byte
	if !m.draw(b[:]) {
		return generation{}, false
	}
	l := LocalParams{
		Ufrag: m.ufrags.format(ufragFields{node: m.cfg.Node, session: id, generation: number}),
		Pwd:   base64.StdEncoding.EncodeToString(b[:]),
	}
	return generation{used: true, number: number, local: l, localKey: stun.NewKey(l.Pwd)}, true
}

func (g *generation) setRemote(ufrag, pwd string) {
	g.remoteUfrag, g.remotePwd = ufrag, pwd
	g.remoteKey = stun.NewKey(pwd)
	g.username = ufrag + ":" + g.local.Ufrag
}

// ID returns the session's id.
func (s *Session) ID() SessionID { return s.id }

// State returns where the session stands.
func (s *Session) State() State { return s.state }

// Local returns the credentials to offer.
func (s *Session) Local() LocalParams { return s.current.local }

// SetRemote takes what the answer says. Repeating it is harmless; credentials may
// change only after Restart, the fingerprint never.
func (s *Session) SetRemote(p RemoteParams, now int64) error {
	s.mux.now = now
	g := &s.current
	switch {
	case s.over():
		return ErrOver
	case !p.Valid():
		return ErrRemoteParams
	case g.remoteKey != nil && (g.remoteUfrag != p.Ufrag || g.remotePwd != p.Pwd):
		return ErrRemoteChanged
	case !s.fingerprint.IsZero() && !p.Fingerprint.IsZero() && s.fingerprint != p.Fingerprint:
		return ErrRemoteChanged
	}
	if !p.Fingerprint.IsZero() {
		s.fingerprint = p.Fingerprint
	}
	if s.state == StateConnecting && s.connectBy == 0 {
		s.connectBy = now + s.mux.cfg.ConnectTimeout
	}
	if g.remoteKey == nil {
		g.setRemote(p.Ufrag, p.Pwd)
		for i := range s.paths {
			s.trigger(i, now)
		}
	}
	s.helloAgain()
	s.settle(now)
	return nil
}

// Restart begins an ICE restart (RFC 8445 §9) and returns the credentials to
// offer. The old ones keep media alive until a path under the new ones has been
// nominated.
func (s *Session) Restart() LocalParams {
	if s.over() || s.mode != modeActive {
		return s.current.local
	}
	number := s.current.number + 1
	kept := s.previous.used && s.selected >= 0 && s.paths[s.selected].generation == s.previous.number
	if kept && number == s.previous.number {
		number++
	}
	g, ok := s.mux.newGeneration(s.id, number)
	if !ok {
		return s.current.local
	}
	if !kept {
		s.previous = s.current
	}
	s.current = g
	s.selectedAt = 0
	s.dropOtherPaths(s.previous.number)
	s.settle(s.mux.now)
	return g.local
}

// Ready reports whether media can be sent.
func (s *Session) Ready() bool {
	return s.send != nil && s.selected >= 0 && s.mode == modeActive && s.state < StateFailed
}

// Validated reports whether a check of this node's has been answered on a path of
// its own. A standby for which this is false would take over blindly.
func (s *Session) Validated() bool {
	for i := range s.paths {
		if p := &s.paths[i]; p.used && !p.inherited && p.valid {
			return true
		}
	}
	return false
}

// Path returns where media goes; false when it goes nowhere.
func (s *Session) Path() (udp.Path, bool) {
	if s.selected < 0 {
		return udp.Path{}, false
	}
	return s.paths[s.selected].addr, true
}

// RTT returns the last round trip measured on the selected path, in nanoseconds; 0
// when unknown.
func (s *Session) RTT() int64 {
	if s.selected < 0 {
		return 0
	}
	return s.paths[s.selected].rtt
}

// Arrived returns when the RTCP that the handler is given came in, which may have waited since.
func (s *Session) Arrived() int64 { return s.arrived }

// Cipher names the SRTP profile in use, "" before the handshake is done.
func (s *Session) Cipher() string {
	if s.send == nil {
		return ""
	}
	return s.send.Profile().String()
}

// Sender returns the outgoing SRTP context; nil before the handshake is done.
func (s *Session) Sender() *srtp.Context { return s.send }

// Freeze stops the session for good: from now on it neither sends nor decrypts
// anything, so that the indices in a checkpoint made afterwards are final.
func (s *Session) Freeze() {
	if s.state >= StateFailed {
		return
	}
	s.mode = modeFrozen
	s.mux.timers.remove(s)
	s.count()
}

// Activate makes a standby the session's owner. It nominates its own best path
// with a higher nomination value, every 20 ms until that is answered, and media
// leaves by that path at once. With ErrNoPath the session is active, but waits for
// the client's next check.
func (s *Session) Activate(now int64) error {
	s.mux.now = now
	switch {
	case s.over():
		return ErrOver
	case s.mode != modeStandby:
		return ErrNotStandby
	}
	s.mode = modeActive
	s.heard = now
	// The primary may have nominated again since it wrote the checkpoint.
	s.nomination += nominationJump
	i := s.takeoverPath(now)
	if i < 0 {
		s.connectBy = now + s.mux.cfg.ConnectTimeout
		s.settle(now)
		return ErrNoPath
	}
	p := &s.paths[i]
	if p.inherited {
		if !s.mux.claim(p.addr.Remote, s, now) {
			s.settle(now)
			return ErrNoPath
		}
		p.inherited = false
	}
	// The client's consent was given to the session, not to the node; this node has
	// thirty seconds to renew it.
	p.consent = max(p.consent, now)
	p.heard = max(p.heard, now)
	for j := range s.paths {
		if s.paths[j].inherited {
			s.dropPath(j)
		}
	}
	s.selectPath(i, now)
	if !s.role.yielded {
		s.nominate(i, now, takeoverInterval)
	}
	s.settle(now)
	return nil
}

// Close ends the session, with a close_notify to the peer if there is a DTLS
// association. The handler is not told. Closing twice is harmless.
func (s *Session) Close() {
	if s.state == StateClosed {
		return
	}
	if s.handshake != handshakeNone {
		s.mux.linger(s)
		s.mux.handshake.End(s.id)
	}
	s.end(StateClosed)
	s.mux.remove(s)
	s.mux.counters.Closed++
}

// end is the common part of Close and failure.
func (s *Session) end(st State) {
	s.state = st
	s.count()
	s.handshake = handshakeNone
	s.hello = nil
	s.dropPaths()
	s.mux.timers.remove(s)
	if s.send != nil {
		s.send.Zero()
		s.recv.Zero()
		s.send, s.recv = nil, nil
	}
}

// fail ends what the session does; it stays in the table until Close.
func (s *Session) fail(now int64) {
	if s.over() {
		return
	}
	if s.handshake != handshakeNone {
		s.mux.handshake.End(s.id) // its close_notify is lost: there is no consent to send it
	}
	s.end(StateFailed)
	s.mux.counters.Failed++
	s.mux.handler.State(s, StateFailed, now)
}

// over reports whether the session does nothing any more.
func (s *Session) over() bool { return s.state >= StateFailed || s.mode == modeFrozen }

// setState changes the state and tells the handler, which may close the session.
func (s *Session) setState(st State, now int64) {
	if s.state == st || s.over() {
		return
	}
	s.state = st
	s.mux.handler.State(s, st, now)
}

// iceChars checks an ice-ufrag or ice-pwd (RFC 8839 §5.4).
func iceChars(v string, least int) bool {
	if len(v) < least || len(v) > 256 {
		return false
	}
	for i := range len(v) {
		c := v[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}
