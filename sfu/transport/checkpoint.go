package transport

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/plain"
	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
)

// ErrCheckpoint says that bytes are not a checkpoint, or one of another version.
var ErrCheckpoint = errors.New("transport: malformed checkpoint")

// Checkpoint is a whole session: credentials, paths, timers and SRTP contexts with
// their keys. It cannot be printed, logged or marshalled; whoever has to move it
// asks for the bytes with Expose, seals them to the one who will restore it, and
// wipes them.
type Checkpoint struct {
	// A pointer for the same reason as in UfragKey.
	b *[]byte
}

// NewCheckpoint takes over the bytes that Expose gave out. They are checked when the
// session is restored.
func NewCheckpoint(b []byte) Checkpoint { return Checkpoint{b: &b} }

// Expose returns the bytes of the checkpoint, not a copy. They hold keys.
func (c Checkpoint) Expose() []byte {
	if c.b == nil {
		return nil
	}
	return *c.b
}

// Wipe overwrites the bytes.
func (c Checkpoint) Wipe() {
	if c.b != nil {
		clear(*c.b)
		*c.b = nil
	}
}

// String hides the contents.
func (c Checkpoint) String() string { return "transport.Checkpoint(redacted)" }

// GoString hides the contents.
func (c Checkpoint) GoString() string { return c.String() }

// MarshalText fails.
func (c Checkpoint) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalJSON fails.
func (c Checkpoint) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalBinary fails.
func (c Checkpoint) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// GobEncode fails.
func (c Checkpoint) GobEncode() ([]byte, error) { return nil, ErrSecret }

// RestoreOptions say how a session comes back.
type RestoreOptions struct {
	// Skip is how many packets per SSRC the node that wrote the checkpoint may have
	// sent since: the lease it had. 0 only if it is frozen or dead and wrote the
	// checkpoint last.
	Skip uint64
	// Standby makes a session that answers checks and makes its own, so that its
	// paths stay open, and does nothing else before Activate. Without it the
	// session goes on at once over the paths in the checkpoint: for a process that
	// takes over the same address.
	Standby bool
}

// The binary form, all numbers big endian:
//
//	version 1, session 8, state 1, role 1, nomination 4,
//	age of last sign of life 8,
//	fingerprint: hash 1, sum as long as the hash,
//	generations 1 (1 or 2, the current one first), each:
//	  number 1, ufrag 24, pwd 1+n, remote known 1, remote ufrag 1+n, remote pwd 1+n
//	paths 1, selected 1 (0xff for none), each:
//	  generation 1, flags 1, remote address, remote port 2, local address,
//	  remote priority 4, age of last sign of life 8, age of consent 8, rtt 8
//	contexts 1 (0 or 1): sender, receiver as perc/srtp writes them
//
// An address is its length (0, 4 or 16) and its bytes. Times are relative, because
// no two nodes share a monotonic clock. A string of up to 256 bytes has its length
// minus one in one byte; ICE strings are never empty.
const (
	checkpointVersion = 2
	noPath            = 0xff
	flagValid         = 1
	flagNamed         = 2 // by a peer in control
	roleOffers        = 1 // the peer made the offer
	roleYielded       = 2 // and is in control
)

// Checkpoint writes the session down.
func (s *Session) Checkpoint(now int64) Checkpoint {
	b := make([]byte, 0, 1024)
	b = append(b, checkpointVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(s.id))
	b = append(b, byte(s.state), s.role.flags())
	b = binary.BigEndian.AppendUint32(b, s.nomination)
	b = appendAge(b, now, s.heard)
	b = append(b, byte(s.fingerprint.hash))
	b = append(b, s.fingerprint.sum[:fingerprintHashes[s.fingerprint.hash].size]...)

	if s.previous.used {
		b = append(b, 2)
		b = s.current.append(b)
		b = s.previous.append(b)
	} else {
		b = append(b, 1)
		b = s.current.append(b)
	}

	count, selected := len(b), byte(noPath)
	b = append(b, 0, noPath)
	for i := range s.paths {
		p := &s.paths[i]
		if !p.used || p.inherited || p.addr.Way != udp.Wire { // the others end with this process
			continue
		}
		if i == s.selected {
			selected = b[count]
		}
		b[count]++
		b = p.append(b, now)
	}
	b[count+1] = selected

	b = plain.AppendBool(b, s.send != nil)
	if s.send != nil {
		b = s.send.AppendState(b)
		b = s.recv.AppendState(b)
	}
	return NewCheckpoint(b)
}

// Restore makes a session from a checkpoint, in the state that o says. A session
// that is already here is refused: it would use every index twice.
func (m *Mux) Restore(c Checkpoint, o RestoreOptions, now int64) (*Session, error) {
	m.now = now
	s, err := m.decode(c.Expose(), o)
	if err != nil {
		m.counters.BadCheckpoints++
		return nil, err
	}
	if err := m.room(s.id); err != nil {
		if errors.Is(err, ErrDuplicate) {
			m.counters.DuplicateRestores++
		}
		s.forget()
		return nil, err
	}
	m.sessions[s.id] = s
	m.counters.Restored++
	if s.mode == modeActive {
		for i := range s.paths {
			if p := &s.paths[i]; p.used && !m.claim(p.addr.Remote, s, now) {
				s.dropPath(i)
			}
		}
	}
	s.settle(now)
	return s, nil
}

// Update gives a standby a later checkpoint of the same session. Its own paths stay.
func (s *Session) Update(c Checkpoint, skip uint64, now int64) error {
	s.mux.now = now
	if s.mode != modeStandby || s.over() {
		return ErrNotStandby
	}
	n, err := s.mux.decode(c.Expose(), RestoreOptions{Skip: skip, Standby: true})
	if err != nil {
		s.mux.counters.BadCheckpoints++
		return err
	}
	if n.id != s.id {
		n.forget()
		s.mux.counters.BadCheckpoints++
		return ErrCheckpoint
	}
	s.forget()
	s.fingerprint, s.nomination, s.role = n.fingerprint, n.nomination, n.role
	s.current, s.previous = n.current, n.previous
	if n.send != nil {
		s.setContexts(n.send, n.recv)
	}
	s.mergePaths(n)
	for i := range s.paths {
		s.trigger(i, now) // the answer may have come since
	}
	s.settle(now)
	return nil
}

// mergePaths replaces the inherited paths and drops those whose credentials are gone.
func (s *Session) mergePaths(n *Session) {
	s.inherited = -1
	free := make([]int, 0, MaxPaths)
	for i := range s.paths {
		if p := &s.paths[i]; p.used && (p.inherited || s.generationOf(p) == nil) {
			s.dropPath(i)
		}
		if !s.paths[i].used {
			free = append(free, i)
		}
	}
	for i := range n.paths {
		if !n.paths[i].used || len(free) == 0 {
			continue
		}
		s.paths[free[0]] = n.paths[i]
		if n.inherited == i {
			s.inherited = free[0]
		}
		free = free[1:]
	}
}

// takeoverPath is where a standby begins: its own proven path; else where the
// client has been heard; else where the primary had it.
func (s *Session) takeoverPath(now int64) int {
	if i := s.bestPath(-1, now); i >= 0 {
		return i
	}
	best := -1
	for i := range s.paths {
		p := &s.paths[i]
		if !p.used || p.inherited || s.generationOf(p) == nil {
			continue
		}
		if best < 0 || p.heard > s.paths[best].heard {
			best = i
		}
	}
	if best < 0 && s.inherited >= 0 && s.paths[s.inherited].inherited {
		best = s.inherited
	}
	return best
}

// forget wipes the SRTP contexts.
func (s *Session) forget() {
	if s.send != nil {
		s.send.Zero()
		s.recv.Zero()
		s.send, s.recv = nil, nil
	}
}

// flags is the role as a checkpoint writes it.
func (r *role) flags() byte {
	var b byte
	if r.peerOffers {
		b |= roleOffers
	}
	if r.yielded {
		b |= roleYielded
	}
	return b
}

func (g *generation) append(b []byte) []byte {
	b = append(b, g.number)
	b = append(b, g.local.Ufrag...)
	b = plain.AppendName(b, g.local.Pwd)
	b = plain.AppendBool(b, g.remoteKey != nil)
	if g.remoteKey == nil {
		return b
	}
	b = plain.AppendName(b, g.remoteUfrag)
	return plain.AppendName(b, g.remotePwd)
}

func (p *path) append(b []byte, now int64) []byte {
	var flags byte
	if p.valid {
		flags |= flagValid
	}
	if p.named {
		flags |= flagNamed
	}
	b = append(b, p.generation, flags)
	b = plain.AppendAddr(b, p.addr.Remote.Addr())
	b = binary.BigEndian.AppendUint16(b, p.addr.Remote.Port())
	b = plain.AppendAddr(b, p.addr.Local)
	b = binary.BigEndian.AppendUint32(b, p.remote)
	b = appendAge(b, now, p.heard)
	b = appendAge(b, now, p.consent)
	return binary.BigEndian.AppendUint64(b, uint64(max(0, p.rtt)))
}

func appendAge(b []byte, now, then int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(max(0, now-then)))
}

// decode builds a session that is in no table yet. It accepts only what Checkpoint
// writes.
func (m *Mux) decode(b []byte, o RestoreOptions) (*Session, error) {
	r := reader{plain.Read(b)}
	if r.Uint8() != checkpointVersion {
		return nil, ErrCheckpoint
	}
	s := newSession(m, SessionID(r.Uint64()))
	s.state = State(r.Uint8())
	r.Require(s.state < StateFailed)
	flags := r.Uint8()
	r.Require(flags <= roleOffers|roleYielded && flags != roleYielded)
	s.role = role{peerOffers: flags&roleOffers != 0, yielded: flags&roleYielded != 0}
	s.nomination = r.Uint32()
	s.heard = r.age(m.now)
	s.fingerprint.hash = fingerprintHash(r.Uint8())
	r.Require(int(s.fingerprint.hash) < len(fingerprintHashes))
	if !r.OK() {
		return nil, ErrCheckpoint
	}
	copy(s.fingerprint.sum[:], r.Take(fingerprintHashes[s.fingerprint.hash].size))

	n := r.Uint8()
	r.Require(n == 1 || n == 2)
	m.decodeGeneration(&r, s.id, &s.current)
	if n == 2 && r.OK() {
		m.decodeGeneration(&r, s.id, &s.previous)
		r.Require(s.previous.number != s.current.number)
	}

	n = r.Uint8()
	selected := r.Uint8()
	r.Require(n <= MaxPaths && (selected == noPath || selected < n))
	for i := 0; i < int(n) && r.OK(); i++ {
		s.decodePath(&r, &s.paths[i])
		for j := range i {
			r.Require(s.paths[j].addr != s.paths[i].addr || s.paths[j].generation != s.paths[i].generation)
		}
	}
	keys := r.Bool()
	if !r.OK() {
		return nil, ErrCheckpoint
	}
	if selected != noPath {
		s.selected = int(selected)
	}
	if keys {
		if err := s.decodeContexts(&r, o.Skip); err != nil {
			return nil, err
		}
	}
	if r.End() != nil {
		s.forget()
		return nil, ErrCheckpoint
	}
	if o.Standby {
		s.standBy()
	} else {
		s.takeOver(m.now)
	}
	return s, nil
}

// standBy makes a decoded session a standby: the primary's paths are remembered, not
// used.
func (s *Session) standBy() {
	s.mode = modeStandby
	s.state = StateConnecting
	s.inherited, s.selected = s.selected, -1
	for i := range s.paths {
		if p := &s.paths[i]; p.used {
			p.inherited, p.valid = true, false
			p.addr.Local = netip.Addr{} // the other node's
		}
	}
}

// takeOver makes a decoded session go on where it was.
func (s *Session) takeOver(now int64) {
	if s.selected >= 0 && s.paths[s.selected].generation == s.current.number {
		s.selectedAt = now
	}
	if s.state == StateConnecting && s.current.remoteKey != nil || s.selected < 0 {
		s.connectBy = now + s.mux.cfg.ConnectTimeout
	}
	for i := range s.paths {
		if p := &s.paths[i]; p.used && p.valid {
			p.next = now + s.mux.jitter(consentInterval)
		}
	}
}

func (m *Mux) decodeGeneration(r *reader, id SessionID, g *generation) {
	g.used = true
	g.number = r.Uint8()
	g.local.Ufrag = string(r.Take(ufragLen))
	g.local.Pwd = r.Name()
	r.Require(iceChars(g.local.Pwd, 22))
	if !r.OK() {
		return
	}
	// The MAC shows that the ufrag is the cluster's, and it must be this session's:
	// it is what clients will send.
	f, ok := m.ufrags.parse([]byte(g.local.Ufrag))
	r.Require(ok && f.session == id && f.generation == g.number)
	if r.Bool() {
		ufrag, pwd := r.Name(), r.Name()
		r.Require(iceChars(ufrag, 4) && iceChars(pwd, 22))
		if !r.OK() {
			return
		}
		g.setRemote(ufrag, pwd)
	}
	if r.OK() {
		g.localKey = stun.NewKey(g.local.Pwd)
	}
}

func (s *Session) decodePath(r *reader, p *path) {
	now := s.mux.now
	p.used = true
	p.generation = r.Uint8()
	flags := r.Uint8()
	r.Require(flags <= flagValid|flagNamed)
	p.valid, p.named = flags&flagValid != 0, flags&flagNamed != 0
	remote := r.Addr()
	p.addr.Remote = netip.AddrPortFrom(remote, r.Uint16())
	p.addr.Local = r.Addr()
	p.remote = r.Uint32()
	p.heard = r.age(now)
	p.consent = r.age(now)
	p.rtt = int64(r.Uint64() & (1<<62 - 1))
	p.made = now
	p.priority = pairPriority(s.mux.localPriority(p.addr), p.remote)
	r.Require(remote.IsValid() && s.generationOf(p) != nil)
}

func (s *Session) decodeContexts(r *reader, skip uint64) error {
	send, rest, err := srtp.Restore(r.Rest(), skip)
	if err != nil {
		return ErrCheckpoint
	}
	recv, rest, err := srtp.Restore(rest, 0)
	if err != nil || recv.Profile() != send.Profile() || !isSender(send) || isSender(recv) {
		send.Zero()
		if err == nil {
			recv.Zero()
		}
		return ErrCheckpoint
	}
	r.Reader = plain.Read(rest)
	s.setContexts(send, recv)
	return nil
}

// isSender asks a context for its role by what it says about a packet that neither
// role would take.
func isSender(c *srtp.Context) bool {
	_, err := c.SealRTCP(nil, nil)
	return errors.Is(err, srtp.ErrShort)
}

// reader knows the parts of a checkpoint.
type reader struct{ plain.Reader }

// age reads a relative time as an absolute one. Whatever is older than a day is as
// good as a day old.
func (r *reader) age(now int64) int64 {
	return now - int64(min(r.Uint64(), uint64(24*3600*second)))
}
