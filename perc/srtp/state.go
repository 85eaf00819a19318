package srtp

import (
	"encoding/binary"
	"math"
)

// The binary form, all numbers big endian:
//
//	version  1   stateVersion
//	role     1
//	profile  2
//	key, salt    as long as the profile says
//	sender:      rtcpNext 4, rtcpLimit 4
//	count    2   streams, in ascending order of SSRC, each:
//	  ssrc   4
//	  sender:    limit 8, window
//	  receiver:  window of RTP, window of RTCP
//
// A window is one byte, 0 if nothing has been marked, else 1 followed by the
// highest index (6 bytes) and a code of two bits for each word of the ring
// (2 bytes, the first word lowest): all zeros, all ones, or explicit; the
// explicit words (8 bytes each) follow. A stream without loss and reordering
// so takes a few bytes in place of 72.
//
// Every state has exactly one form, and Restore accepts no other.
const stateVersion = 1

const (
	wordZeros = iota
	wordOnes
	wordExplicit
)

// AppendState appends the binary form of c, master key included; it is for
// the caller to seal. After Zero there is nothing to append.
func (c *Context) AppendState(dst []byte) []byte {
	if c.t == nil {
		return dst
	}
	p := c.m.profile
	dst = append(dst, stateVersion, byte(c.role))
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = append(dst, c.m.key[:p.KeyLen()]...)
	dst = append(dst, c.m.salt[:p.SaltLen()]...)
	if c.role == Sender {
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.rtcpNext))
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.rtcpLimit))
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.streams.len()))
		for _, s := range c.streams.values {
			dst = binary.BigEndian.AppendUint32(dst, s.ssrc)
			dst = binary.BigEndian.AppendUint64(dst, s.limit)
			dst = s.used.appendState(dst)
		}
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.sources.len()))
	for i, s := range c.sources.values {
		dst = binary.BigEndian.AppendUint32(dst, c.sources.ssrcs[i])
		dst = s.rtp.appendState(dst)
		dst = s.rtcp.appendState(dst)
	}
	return dst
}

// Restore builds a Context from the first bytes of b, the output of
// AppendState, and returns the rest of b.
//
// With skip 0 the Context that wrote the state is known to have stopped, and
// this one takes its place exactly. With a larger skip the other one may
// have gone on for up to skip packets per SSRC and as many SRTCP packets, or
// still does, under a lease of that length. So a sender gives up all indices
// up to the highest plus skip and all that the saved limit had granted, and
// has no limits itself: the lease was the other's. A stream that had neither
// a packet nor a limit comes back untouched.
//
// A receiver comes back as it was saved: what the other one opened since is
// opened once more.
func Restore(b []byte, skip uint64) (c *Context, rest []byte, err error) {
	r := reader{b: b}
	version, role, p := r.uint8(), Role(r.uint8()), Profile(r.uint16())
	switch {
	case r.short:
		return nil, nil, ErrState
	case version != stateVersion:
		return nil, nil, ErrStateVersion
	case role != Sender && role != Receiver, p.KeyLen() == 0:
		return nil, nil, ErrState
	}
	m := &master{p, &material{}}
	copy(m.key[:], r.take(p.KeyLen()))
	copy(m.salt[:], r.take(p.SaltLen()))
	if r.short {
		return nil, nil, ErrState
	}
	if c, err = newContext(m, role); err != nil {
		return nil, nil, err
	}
	if role == Sender {
		c.restoreSender(&r, skip)
	} else {
		c.restoreReceiver(&r)
	}
	if r.short || r.bad {
		c.Zero()
		return nil, nil, ErrState
	}
	return c, r.b, nil
}

func (c *Context) restoreSender(r *reader, skip uint64) {
	next, limit := uint64(r.uint32()), uint64(r.uint32())
	r.require(next <= maxRTCPIndex+1 && limit <= maxRTCPIndex)
	c.rtcpNext, c.rtcpLimit = next, limit
	if skip > 0 {
		// min first: the sum of two large numbers would wrap.
		next = min(next+min(skip, maxRTCPIndex+1), maxRTCPIndex+1)
		if limit != maxRTCPIndex {
			next = max(next, limit+1)
		}
		c.rtcpNext, c.rtcpLimit = next, maxRTCPIndex
	}
	for range r.count(maxSendStreams) {
		s := &Stream{owner: c, ssrc: r.uint32(), limit: r.uint64()}
		r.window(&s.used, maxIndex)
		if !r.ascending(&c.streams.ssrcs, s.ssrc) {
			return
		}
		c.streams.put(s.ssrc, s)
		if skip > 0 {
			s.give(skip)
		}
	}
}

// give gives up what another holder of the state may use.
func (s *Stream) give(skip uint64) {
	granted := s.limit != math.MaxUint64
	if !s.used.any && !granted {
		return
	}
	var top uint64
	if s.used.any {
		top = s.used.top + min(skip, maxIndex)
	}
	if granted {
		top = max(top, s.limit)
	}
	s.used.fill(min(top, maxIndex))
	s.limit = math.MaxUint64
}

func (c *Context) restoreReceiver(r *reader) {
	for range r.count(maxReceiveStreams) {
		ssrc, s := r.uint32(), &source{}
		r.window(&s.rtp, maxIndex)
		r.window(&s.rtcp, maxRTCPIndex)
		r.require(s.rtp.any || s.rtcp.any)
		if !r.ascending(&c.sources.ssrcs, ssrc) {
			return
		}
		c.sources.put(ssrc, s)
	}
}

func (w *window) appendState(dst []byte) []byte {
	if !w.any {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = binary.BigEndian.AppendUint16(dst, uint16(w.top>>32))
	dst = binary.BigEndian.AppendUint32(dst, uint32(w.top))
	var codes uint16
	for i, v := range w.bits {
		codes |= wordCode(v) << (2 * i)
	}
	dst = binary.BigEndian.AppendUint16(dst, codes)
	for _, v := range w.bits {
		if wordCode(v) == wordExplicit {
			dst = binary.BigEndian.AppendUint64(dst, v)
		}
	}
	return dst
}

func wordCode(v uint64) uint16 {
	switch v {
	case 0:
		return wordZeros
	case math.MaxUint64:
		return wordOnes
	}
	return wordExplicit
}

// reader reads the binary form. What it returns after the end is zero;
// short and bad are looked at once, behind everything.
type reader struct {
	b     []byte
	short bool
	bad   bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint(n int) (v uint64) {
	for _, b := range r.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (r *reader) uint8() uint8   { return uint8(r.uint(1)) }
func (r *reader) uint16() uint16 { return uint16(r.uint(2)) }
func (r *reader) uint32() uint32 { return uint32(r.uint(4)) }
func (r *reader) uint64() uint64 { return r.uint(8) }

func (r *reader) require(ok bool) { r.bad = r.bad || !ok }

// count reads how many streams follow.
func (r *reader) count(limit int) int {
	n := int(r.uint16())
	if n > limit {
		r.bad = true
		return 0
	}
	return n
}

// ascending reports whether ssrc, just read, follows those before it, and
// whether there is any point in reading on.
func (r *reader) ascending(before *[]uint32, ssrc uint32) bool {
	if n := len(*before); n > 0 {
		r.require((*before)[n-1] < ssrc)
	}
	return !r.short && !r.bad
}

func (r *reader) window(w *window, highest uint64) {
	switch r.uint8() {
	case 0:
		return
	case 1:
	default:
		r.bad = true
		return
	}
	w.any = true
	w.top = r.uint(6)
	codes := r.uint16()
	for i := range w.bits {
		switch codes >> (2 * i) & 3 {
		case wordZeros:
		case wordOnes:
			w.bits[i] = math.MaxUint64
		case wordExplicit:
			w.bits[i] = r.uint64()
			r.require(wordCode(w.bits[i]) == wordExplicit)
		default:
			r.bad = true
		}
	}
	r.require(w.top <= highest && w.seen(w.top))
}
