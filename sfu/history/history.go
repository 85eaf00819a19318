// Package history keeps the last packets of a stream, so that a subscriber that asks for one again can have it.
//
// A Ring owns one reference to each buffer it keeps and promises to give each back: when it is overwritten, when it is too
// old, when the ring is released. It finds a packet by its extended sequence number in constant time and allocates only
// when it grows.
//
// It does not send, does not know what RTX is and reads no clock. Like all of the packet path it belongs to one shard.
package history

import (
	"math/bits"
	"time"

	"github.com/sotto-edge/sotto/internal/pktbuf"
)

// Bounds and defaults of a Config.
const (
	DefaultSlots    = 64
	DefaultMaxSlots = 1024
	DefaultMaxAge   = time.Second

	maxSlots = 1 << 15 // half a cycle: beyond it a 16-bit number does not say which packet is meant
)

// Config says how much a ring keeps. The zero Config means the defaults.
type Config struct {
	Slots    int           // at the start; rounded up to a power of two
	MaxSlots int           // at most; a ring grows to it while packets younger than MaxAge would be overwritten
	MaxAge   time.Duration // older packets are given back
}

// Ring is the history of one stream.
type Ring struct {
	maxAge   int64
	maxSlots int

	slots   []slot // a power of two
	held    int
	started bool
	oldest  int64 // no packet below is held; newest-oldest < len(slots)
	newest  int64
}

type slot struct {
	buf *pktbuf.Buf // nil: empty
	ext int64
	at  int64
}

// New makes an empty ring.
func New(c Config) *Ring {
	if c.Slots <= 0 {
		c.Slots = DefaultSlots
	}
	if c.MaxSlots <= 0 {
		c.MaxSlots = DefaultMaxSlots
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultMaxAge
	}
	most := powerOfTwo(min(c.MaxSlots, maxSlots))
	return &Ring{
		maxAge:   int64(c.MaxAge),
		maxSlots: most,
		slots:    make([]slot, min(powerOfTwo(min(c.Slots, maxSlots)), most)),
	}
}

func powerOfTwo(n int) int {
	return 1 << bits.Len(uint(n-1))
}

// Put keeps a packet under its extended sequence number, with a reference of its own: the caller's stays the caller's. It
// answers false, and takes none, when the number is held already or too far behind.
func (r *Ring) Put(ext int64, b *pktbuf.Buf, now int64) bool {
	if !r.started {
		r.started, r.oldest, r.newest = true, ext, ext
	}
	r.Expire(now)
	switch {
	case r.held == 0 && ext > r.newest:
		r.oldest, r.newest = ext, ext
	case ext > r.newest:
		r.grow(ext - r.oldest + 1)
		// Packets below the new window go now, although their slots are not needed yet: otherwise a jump in the numbers
		// would leave some behind where Expire does not look.
		r.forget(ext - int64(len(r.slots)) + 1)
		r.newest = ext
	case ext < r.oldest:
		// A late packet may lengthen the window downwards, as far as there are slots.
		if r.newest-ext >= int64(len(r.slots)) {
			return false
		}
		r.oldest = ext
	}
	s := r.slot(ext)
	if s.buf != nil {
		return false // numbers in the window have slots of their own, so this is the same one
	}
	b.Retain()
	*s = slot{buf: b, ext: ext, at: now}
	r.held++
	return true
}

// Get returns the packet, or nil when it is not held. The buffer is the ring's: it stays valid until the next call of Put,
// Expire or Release, and a caller that needs it longer retains it.
func (r *Ring) Get(ext int64) *pktbuf.Buf {
	if s := r.slot(ext); s.buf != nil && s.ext == ext {
		return s.buf
	}
	return nil
}

// Has reports whether the packet is held.
func (r *Ring) Has(ext int64) bool {
	return r.Get(ext) != nil
}

// Len is the number of packets held.
func (r *Ring) Len() int {
	return r.held
}

// Expire gives back packets that are older than the maximum age. Put does it too; a stream that has stopped needs it.
func (r *Ring) Expire(now int64) {
	for r.held > 0 {
		s := r.slot(r.oldest)
		if s.buf != nil && now-s.at <= r.maxAge {
			return
		}
		r.drop(s)
		r.oldest++
	}
}

// Release gives back everything. The ring is then as new, at the size it has grown to.
func (r *Ring) Release() {
	for i := range r.slots {
		r.drop(&r.slots[i])
	}
	r.started = false
}

func (r *Ring) slot(ext int64) *slot {
	return &r.slots[uint64(ext)&uint64(len(r.slots)-1)]
}

func (r *Ring) drop(s *slot) {
	if s.buf == nil {
		return
	}
	b := s.buf
	*s = slot{}
	r.held--
	b.Release()
}

// forget gives back everything below ext.
func (r *Ring) forget(ext int64) {
	for r.held > 0 && r.oldest < ext {
		r.drop(r.slot(r.oldest))
		r.oldest++
	}
	r.oldest = max(r.oldest, ext)
}

// grow doubles the ring if that is what a window of n numbers needs: what Expire has left in it is young enough to be worth
// it. A jump in the numbers, which no doubling can span, is no reason to grow.
func (r *Ring) grow(n int64) {
	size := int64(len(r.slots))
	if n <= size || n > 2*size || 2*len(r.slots) > r.maxSlots {
		return
	}
	old := r.slots
	r.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.buf != nil {
			*r.slot(s.ext) = s
		}
	}
}
