package srtp

import (
	"encoding/binary"
	"math"
	"slices"
)

// Context protects (Sender) or opens (Receiver) the packets of one direction
// of one session. It is not safe for concurrent use.
//
// Packets may be sealed and opened in place; otherwise dst and the input
// must not overlap. A result that does not fit into the capacity of dst is
// allocated.
type Context struct {
	guard
	role Role
	m    *master
	t    transform // nil after Zero

	// Sender. SRTCP has one index for all SSRCs: it only has to grow, and so
	// an SSRC that comes and goes needs no memory of its own.
	streams   table[Stream]
	rtcpNext  uint64
	rtcpLimit uint64

	// Receiver.
	sources table[source]
}

// Stream is what a sender knows of one SSRC. It belongs to its Context.
type Stream struct {
	owner *Context
	ssrc  uint32
	used  window
	limit uint64
}

// source is what a receiver knows of one SSRC.
type source struct{ rtp, rtcp window }

// New makes a Context with keys of its own, so that k may be wiped.
func New(k Keys, role Role) (*Context, error) {
	if k.m == nil {
		return nil, errNoKeys
	}
	return newContext(k.m.clone(), role)
}

// newContext takes m over.
func newContext(m *master, role Role) (*Context, error) {
	if m.profile.KeyLen() == 0 {
		return nil, errNoKeys
	}
	if role != Sender && role != Receiver {
		return nil, errRole
	}
	t, err := newTransform(m)
	if err != nil {
		return nil, err
	}
	return &Context{role: role, m: m, t: t, rtcpLimit: maxRTCPIndex}, nil
}

// Profile returns the profile, zero after Zero.
func (c *Context) Profile() Profile { return c.m.profile }

// Stream returns the sender's stream with the given SSRC and makes it if
// there is none. A stream is never forgotten, because its indices must not
// come back; ErrTooManyStreams says that 512 SSRCs have been used.
//
// Where a copy of the state is kept elsewhere, a stream has to be in that
// copy, with a limit, before its first packet: Restore cannot know of it
// otherwise.
func (c *Context) Stream(ssrc uint32) (*Stream, error) {
	if err := c.check(Sender); err != nil {
		return nil, err
	}
	if s := c.streams.get(ssrc); s != nil {
		return s, nil
	}
	if c.streams.len() >= maxSendStreams {
		return nil, ErrTooManyStreams
	}
	s := &Stream{owner: c, ssrc: ssrc, limit: math.MaxUint64}
	c.streams.put(ssrc, s)
	return s, nil
}

// SSRC returns the stream's SSRC.
func (s *Stream) SSRC() uint32 { return s.ssrc }

// Highest returns the highest index used or, after Restore, given up; false
// if there is none yet.
func (s *Stream) Highest() (uint64, bool) { return s.used.top, s.used.any }

// SetLimit grants the indices up to and including limit. Without a call
// there is no limit.
func (s *Stream) SetLimit(limit uint64) { s.limit = limit }

// RTCPNext returns the index of the sender's next SRTCP packet.
func (c *Context) RTCPNext() uint64 { return c.rtcpNext }

// SetRTCPLimit grants the SRTCP indices up to and including limit. Without a
// call there is no limit.
func (c *Context) SetRTCPLimit(limit uint64) { c.rtcpLimit = min(limit, maxRTCPIndex) }

// SealRTP protects a packet. dst holds the RTP header with CSRCs and
// extension; the encrypted payload and the tag are appended. The payload is
// in place if it starts where dst ends.
//
// index is the 48-bit SRTP index, roll-over counter and sequence number; its
// low 16 bits and the SSRC of s must be what the header says. ErrIndexReused
// refuses an index that has been used or is more than 511 below the highest,
// ErrLease one above the limit of s.
func (c *Context) SealRTP(s *Stream, index uint64, dst, payload []byte) ([]byte, error) {
	if err := c.check(Sender); err != nil {
		return nil, err
	}
	if s.owner != c {
		return nil, errStream
	}
	if len(dst) < rtpHeaderLen {
		return nil, ErrShort
	}
	if len(dst)+len(payload) > maxPacket {
		return nil, errLong
	}
	if binary.BigEndian.Uint16(dst[2:]) != uint16(index) || binary.BigEndian.Uint32(dst[8:]) != s.ssrc {
		return nil, errHeader
	}
	switch {
	case index > maxIndex:
		return nil, ErrExhausted
	case s.used.seen(index):
		return nil, ErrIndexReused
	case index > s.limit:
		return nil, ErrLease
	}
	// Marked first: whatever happens below, the index is gone.
	s.used.mark(index)
	return c.t.sealRTP(dst, payload, s.ssrc, index), nil
}

// OpenRTP authenticates and decrypts pkt, whose header with CSRCs and
// extension is headerLen long, and appends header and payload to dst;
// dst = pkt[:0] opens in place. It returns the 48-bit index of the packet.
//
// The state of an SSRC comes to be with its first authentic packet.
// ErrTooManyStreams refuses a new SSRC beside 64 others. After ErrAuth the
// contents of a packet opened in place are lost.
func (c *Context) OpenRTP(dst, pkt []byte, headerLen int) (out []byte, index uint64, err error) {
	if err := c.check(Receiver); err != nil {
		return nil, 0, err
	}
	if headerLen < rtpHeaderLen || len(pkt)-c.m.profile.RTPOverhead() < headerLen {
		return nil, 0, ErrShort
	}
	if len(pkt) > maxPacket+gcmTagLen {
		return nil, 0, errLong
	}
	ssrc := binary.BigEndian.Uint32(pkt[8:])
	src, err := c.source(ssrc)
	if err != nil {
		return nil, 0, err
	}
	index = uint64(binary.BigEndian.Uint16(pkt[2:]))
	if src != nil {
		index = src.rtp.guess(uint16(index))
		if index > maxIndex || src.rtp.seen(index) {
			return nil, 0, ErrReplay
		}
	}
	out, ok := c.t.openRTP(dst, pkt, headerLen, ssrc, index)
	if !ok {
		return nil, 0, ErrAuth
	}
	if src == nil {
		src = &source{}
		c.sources.put(ssrc, src)
	}
	src.rtp.mark(index)
	return out, index, nil
}

// SealRTCP protects the compound packet pkt under the next SRTCP index and
// appends it to dst; dst = pkt[:0] seals in place. ErrLease refuses an index
// above the limit.
func (c *Context) SealRTCP(dst, pkt []byte) ([]byte, error) {
	if err := c.check(Sender); err != nil {
		return nil, err
	}
	if len(pkt) < rtcpHeaderLen {
		return nil, ErrShort
	}
	if len(pkt) > maxPacket {
		return nil, errLong
	}
	switch {
	case c.rtcpNext > maxRTCPIndex:
		return nil, ErrExhausted
	case c.rtcpNext > c.rtcpLimit:
		return nil, ErrLease
	}
	index := uint32(c.rtcpNext)
	c.rtcpNext++
	return c.t.sealRTCP(dst, pkt, binary.BigEndian.Uint32(pkt[4:]), index), nil
}

// OpenRTCP authenticates and decrypts pkt and appends the compound packet to
// dst; dst = pkt[:0] opens in place. A packet that its sender authenticated
// but did not encrypt is accepted, as RFC 3711 §3.4 has it. State and errors
// are those of OpenRTP.
func (c *Context) OpenRTCP(dst, pkt []byte) ([]byte, error) {
	if err := c.check(Receiver); err != nil {
		return nil, err
	}
	if len(pkt) < rtcpHeaderLen+c.m.profile.RTCPOverhead() {
		return nil, ErrShort
	}
	if len(pkt) > maxPacket+gcmTagLen+rtcpWordLen {
		return nil, errLong
	}
	ssrc := binary.BigEndian.Uint32(pkt[4:])
	src, err := c.source(ssrc)
	if err != nil {
		return nil, err
	}
	word := binary.BigEndian.Uint32(pkt[c.rtcpWord(pkt):])
	index := uint64(word &^ encryptedFlag)
	if src != nil && src.rtcp.seen(index) {
		return nil, ErrReplay
	}
	out, ok := c.t.openRTCP(dst, pkt, ssrc, word)
	if !ok {
		return nil, ErrAuth
	}
	if src == nil {
		src = &source{}
		c.sources.put(ssrc, src)
	}
	src.rtcp.mark(index)
	return out, nil
}

// Zero overwrites the key material and makes the Context unusable. The key
// schedules inside the standard library's ciphers cannot be reached; they
// are let go.
func (c *Context) Zero() {
	c.m.wipe()
	if c.t != nil {
		c.t.wipe()
		c.t = nil
	}
}

func (c *Context) check(r Role) error {
	switch {
	case c.t == nil:
		return errNoKeys
	case c.role != r:
		return errRole
	}
	return nil
}

// source looks the state of an SSRC up; nil is one that may be made.
func (c *Context) source(ssrc uint32) (*source, error) {
	s := c.sources.get(ssrc)
	if s == nil && c.sources.len() >= maxReceiveStreams {
		return nil, ErrTooManyStreams
	}
	return s, nil
}

// rtcpWord is where E flag and index stand: before the tag of AES-CM (RFC
// 3711 §3.4), behind that of AES-GCM (RFC 7714 §9.2).
func (c *Context) rtcpWord(pkt []byte) int {
	if c.m.profile == AES128CMHMACSHA1_80 {
		return len(pkt) - cmTagLen - rtcpWordLen
	}
	return len(pkt) - rtcpWordLen
}

// table maps SSRCs to their state. It is small and grows seldom, so it is
// two sorted slices; that also gives the binary form its order.
type table[T any] struct {
	ssrcs  []uint32
	values []*T
}

func (t *table[T]) len() int { return len(t.ssrcs) }

func (t *table[T]) get(ssrc uint32) *T {
	if i, ok := slices.BinarySearch(t.ssrcs, ssrc); ok {
		return t.values[i]
	}
	return nil
}

func (t *table[T]) put(ssrc uint32, v *T) {
	i, _ := slices.BinarySearch(t.ssrcs, ssrc)
	t.ssrcs = slices.Insert(t.ssrcs, i, ssrc)
	t.values = slices.Insert(t.values, i, v)
}
