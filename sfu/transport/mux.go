package transport

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
)

// What Open and Restore refuse.
var (
	ErrTooManySessions = errors.New("transport: too many sessions")
	ErrDuplicate       = errors.New("transport: session is already here")
)

// Never is the deadline of who waits for nothing.
const Never = int64(1<<63 - 1)

// Mux is the transport of one shard: it sorts the datagrams of one socket to
// sessions and runs their timers. It belongs to the shard's thread.
type Mux struct {
	cfg       Config
	out       Output
	handler   Handler
	handshake Handshaker

	sessions map[SessionID]*Session
	// rows tells whose an address is. Only an authenticated Binding request makes
	// a row; all datagrams that are not STUN are looked up here.
	rows   map[netip.AddrPort]*Session
	cached struct { // the row of the last datagram: batches come in runs
		addr    netip.AddrPort
		session *Session
	}
	timers    timers
	lingering []linger

	unsettled int // sessions

	now      int64
	ufrags   *ufragCodec
	plain    bucket
	random   uint64
	reserved *byte // where the last ReserveRTP begins
	counters Counters
	msg      stun.Message
	unknown  [16]stun.AttrType
}

// NewMux makes the transport of one shard. A nil handshaker refuses handshakes.
func NewMux(cfg Config, out Output, handler Handler, handshaker Handshaker) (*Mux, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if out == nil || handler == nil {
		return nil, errors.New("transport: no output or no handler")
	}
	if handshaker == nil {
		handshaker = NoHandshaker{}
	}
	m := &Mux{
		cfg:       cfg,
		out:       out,
		handler:   handler,
		handshake: handshaker,
		sessions:  make(map[SessionID]*Session),
		rows:      make(map[netip.AddrPort]*Session),
		ufrags:    newUfragCodec(cfg.Secret),
		plain:     newBucket(cfg.PlainSTUNPerSecond),
	}
	var seed [8]byte
	if !m.draw(seed[:]) {
		return nil, errors.New("transport: source of randomness failed")
	}
	m.random = binary.BigEndian.Uint64(seed[:]) | 1
	return m, nil
}

// Open makes a session. Its credentials can be offered at once.
func (m *Mux) Open(id SessionID, now int64) (*Session, error) {
	m.now = now
	if err := m.room(id); err != nil {
		return nil, err
	}
	s := newSession(m, id)
	g, ok := m.newGeneration(id, 0)
	if !ok {
		return nil, errors.New("transport: source of randomness failed")
	}
	s.current = g
	m.sessions[id] = s
	s.count()
	m.counters.Opened++
	return s, nil
}

func (m *Mux) room(id SessionID) error {
	if _, ok := m.sessions[id]; ok {
		return ErrDuplicate
	}
	if len(m.sessions) >= m.cfg.MaxSessions {
		m.counters.TooManySessions++
		return ErrTooManySessions
	}
	return nil
}

// Session returns the session of that id, or nil.
func (m *Mux) Session(id SessionID) *Session { return m.sessions[id] }

// Len returns how many sessions there are.
func (m *Mux) Len() int { return len(m.sessions) }

// Unsettled says whether a session is about to find a way to its client, or another one: checks and their answers should not wait.
func (m *Mux) Unsettled() bool { return m.unsettled > 0 }

// Media returns how many packets of media have come in.
func (m *Mux) Media() uint64 { return m.counters.RTPIn }

// Candidates returns what an offer should carry.
func (m *Mux) Candidates() []Candidate { return m.cfg.Candidates }

// Receive takes one batch of datagrams, which it may change in place.
func (m *Mux) Receive(batch []udp.Datagram, now int64) {
	m.now = now
	for i := range batch {
		d := &batch[i]
		m.counters.Datagrams++
		switch udp.Classify(d.Data) {
		case udp.KindRTP:
			m.media(d, now)
		case udp.KindSTUN:
			m.stun(d, now)
		case udp.KindDTLS:
			m.dtls(d, now)
		case udp.KindChannelData:
			// TURN ChannelData (RFC 8656 §12.4) is no session's.
			if !m.relayed(d) {
				m.counters.ChannelData++
			}
		default:
			m.counters.Unknown++
		}
	}
}

// relayed hands what is TURN to the relay on the same port, if there is one. What comes by another way has been through it.
func (m *Mux) relayed(d *udp.Datagram) bool {
	if d.Path.Way != udp.Wire || !m.cfg.Relay.Take(d) {
		return false
	}
	m.counters.Relayed++
	return true
}

// Tick does what is due. A shard calls it when NextDeadline has come, and before
// it runs control code, because the methods that take no time use the latest one.
func (m *Mux) Tick(now int64) {
	m.now = now
	for {
		s := m.timers.first()
		if s == nil || s.deadline > now {
			break
		}
		s.tick(now)
	}
	for len(m.lingering) > 0 && m.lingering[0].until <= now {
		m.lingering = m.lingering[1:]
	}
}

// NextDeadline is when Tick must be called next; Never if there is no need.
func (m *Mux) NextDeadline() int64 {
	next := Never
	if s := m.timers.first(); s != nil {
		next = s.deadline
	}
	if len(m.lingering) > 0 {
		next = min(next, m.lingering[0].until)
	}
	return next
}

// Close closes all sessions, each with a close_notify.
func (m *Mux) Close() {
	for _, s := range m.sessions {
		s.Close()
	}
}

// lookup finds the session that has shown itself at an address.
func (m *Mux) lookup(a netip.AddrPort) *Session {
	if m.cached.addr == a && m.cached.session != nil {
		return m.cached.session
	}
	s := m.rows[a]
	m.cached.addr, m.cached.session = a, s
	return s
}

// claim gives the row of a to s. A row is not taken from a session that was heard
// there lately: a participant who forges a source address must not be able to
// steal the packets of another.
func (m *Mux) claim(a netip.AddrPort, s *Session, now int64) bool {
	owner := m.rows[a]
	if owner == s {
		return true
	}
	if owner != nil {
		if owner.heardAt(a) > now-disconnectAfter {
			m.counters.PathConflicts++
			return false
		}
		owner.dropRemote(a, now)
	}
	if m.rows[a] == nil && !m.cfg.Neighbours.Claim(a) {
		m.counters.PathConflicts++
		return false
	}
	m.rows[a] = s
	m.cached.session = nil
	return true
}

// Yield lets a neighbour have an address, by the same rule as claim's.
func (m *Mux) Yield(a netip.AddrPort, now int64) {
	m.now = now
	if owner := m.rows[a]; owner != nil && owner.heardAt(a) <= now-disconnectAfter {
		owner.dropRemote(a, now)
	}
}

// unclaim frees the row of a if it is s's and no path of s needs it.
func (m *Mux) unclaim(a netip.AddrPort, s *Session) {
	if m.rows[a] != s {
		return
	}
	for i := range s.paths {
		if p := &s.paths[i]; p.used && !p.inherited && p.addr.Remote == a {
			return
		}
	}
	delete(m.rows, a)
	m.cached.session = nil
	m.cfg.Neighbours.Release(a)
}

// pass hands a datagram whose source is nobody's here to the neighbour whose it is.
func (m *Mux) pass(d *udp.Datagram) bool {
	if !m.cfg.Neighbours.PassAddress(d) {
		return false
	}
	m.counters.Passed++
	return true
}

// remove takes s out of all tables.
func (m *Mux) remove(s *Session) {
	s.dropPaths()
	m.timers.remove(s)
	if m.sessions[s.id] == s {
		delete(m.sessions, s.id)
	}
}

// reserve is Output.Reserve, remembering that it ends an earlier reservation.
func (m *Mux) reserve(n int) []byte {
	m.reserved = nil
	return m.out.Reserve(n)
}

// draw fills b with random bytes.
func (m *Mux) draw(b []byte) bool {
	for len(b) > 0 {
		n, err := m.cfg.Rand.Read(b)
		if b = b[n:]; err != nil && len(b) > 0 {
			m.counters.RandomFailures++
			return false
		}
	}
	return true
}

// jitter returns d times something between 0.8 and 1.2 (RFC 7675 §5.1). It needs
// to be uneven, not unguessable.
func (m *Mux) jitter(d int64) int64 {
	m.random ^= m.random << 13
	m.random ^= m.random >> 7
	m.random ^= m.random << 17
	return d*8/10 + int64(m.random%1024)*(d*4/10)/1024
}

// bucket is a token bucket in nanoseconds.
type bucket struct {
	cost, burst int64 // time that one token takes; most time saved up
	full        int64 // when the bucket will be full again
}

func newBucket(perSecond int) bucket {
	if perSecond <= 0 {
		return bucket{}
	}
	return bucket{cost: max(1, second/int64(perSecond)), burst: second}
}

func (b *bucket) take(now int64) bool {
	if b.cost == 0 {
		return false
	}
	full := max(b.full, now) + b.cost
	if full-now > b.burst {
		return false
	}
	b.full = full
	return true
}
