package srtp

import (
	"encoding/binary"
	"math"

	"github.com/sotto-edge/sotto/internal/plain"
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
	r := reader{plain.Read(b)}
	version, role, p := r.Uint8(), Role(r.Uint8()), Profile(r.Uint16())
	switch {
	case !r.OK():
		return nil, nil, ErrState
	case version != stateVersion:
		return nil, nil, ErrStateVersion
	case role != Sender && role != Receiver, p.KeyLen() == 0:
		return nil, nil, ErrState
	}
	m := &master{p, &material{}}
	copy(m.key[:], r.Take(p.KeyLen()))
	copy(m.salt[:], r.Take(p.SaltLen()))
	if !r.OK() {
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
	if !r.OK() {
		c.Zero()
		return nil, nil, ErrState
	}
	return c, r.Rest(), nil
}

func (c *Context) restoreSender(r *reader, skip uint64) {
	next, limit := uint64(r.Uint32()), uint64(r.Uint32())
	r.Require(next <= maxRTCPIndex+1 && limit <= maxRTCPIndex)
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
		s := &Stream{owner: c, ssrc: r.Uint32(), limit: r.Uint64()}
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
		ssrc, s := r.Uint32(), &source{}
		r.window(&s.rtp, maxIndex)
		r.window(&s.rtcp, maxRTCPIndex)
		r.Require(s.rtp.any || s.rtcp.any)
		if !r.ascending(&c.sources.ssrcs, ssrc) {
			return
		}
		c.sources.put(ssrc, s)
	}
}

func (w *window) appendState(dst []byte) []byte {
	dst = plain.AppendBool(dst, w.any)
	if !w.any {
		return dst
	}
	dst = plain.AppendUint(dst, 6, w.top)
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

// reader knows the parts of the binary form.
type reader struct{ plain.Reader }

// count reads how many streams follow.
func (r *reader) count(limit int) int {
	n := int(r.Uint16())
	if r.Require(n <= limit); !r.OK() {
		return 0
	}
	return n
}

// ascending reports whether ssrc, just read, follows those before it, and
// whether there is any point in reading on.
func (r *reader) ascending(before *[]uint32, ssrc uint32) bool {
	if n := len(*before); n > 0 {
		r.Require((*before)[n-1] < ssrc)
	}
	return r.OK()
}

func (r *reader) window(w *window, highest uint64) {
	if w.any = r.Bool(); !w.any {
		return
	}
	w.top = r.Uint(6)
	codes := r.Uint16()
	for i := range w.bits {
		switch codes >> (2 * i) & 3 {
		case wordZeros:
		case wordOnes:
			w.bits[i] = math.MaxUint64
		case wordExplicit:
			w.bits[i] = r.Uint64()
			r.Require(wordCode(w.bits[i]) == wordExplicit)
		default:
			r.Require(false)
		}
	}
	r.Require(w.top <= highest && w.seen(w.top))
}
