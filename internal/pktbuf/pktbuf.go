// Package pktbuf owns the packet buffers of a shard: fixed-size, reference-counted,
// with room in front of the payload so that a header can grow without a copy.
//
// It promises that Get, Retain and Release never allocate once the pool has grown to
// what the shard needs, that no more than the pool's limit of buffers is ever alive,
// and that a reference given back twice is a panic at the place of the mistake rather
// than two packets sharing memory later.
//
// It does not lock: a Pool and its buffers belong to one shard's thread. It does not
// clear memory either; a fresh buffer holds what its last user left behind, outside of
// its (empty) window. Built with the tag sotto_invariants, released buffers are
// poisoned, and a read or write through a stale pointer panics at the next use.
package pktbuf

// Headroom is the space in front of the window of a fresh buffer.
const Headroom = 64

// Size is the total number of bytes in a buffer, headroom included. It holds any
// packet of an Ethernet path with the headers and tags that a leg adds.
const Size = 2048

// chunk is how many buffers a pool grows by: 128 KiB at a time, so that a small
// node stays small and a busy one stops growing after a few steps.
const chunk = 64

// Buf is one packet in memory. Its window is the part in use.
type Buf struct {
	data       *[Size]byte // apart from Buf, so that the collector never scans payloads
	pool       *Pool
	next       *Buf // in the free list
	refs       int32
	start, end int32
}

// Pool hands out buffers and takes them back, last in, first out, so that the next
// packet lands in memory that is still in the cache.
type Pool struct {
	free  *Buf
	inUse int
	grown int
	limit int
}

// NewPool makes an empty pool of at most limit live buffers. It grows as needed.
func NewPool(limit int) *Pool {
	return &Pool{limit: limit}
}

// Get returns a buffer with one reference and an empty window behind the headroom, or
// nil when the limit is reached; the caller counts the drop.
func (p *Pool) Get() *Buf {
	if p.free == nil && !p.grow() {
		return nil
	}
	b := p.free
	p.free, b.next = b.next, nil
	p.inUse++
	if invariants {
		b.checkPoison()
	}
	b.refs, b.start, b.end = 1, Headroom, Headroom
	return b
}

// InUse is the number of buffers that are out.
func (p *Pool) InUse() int { return p.inUse }

func (p *Pool) grow() bool {
	n := min(chunk, p.limit-p.grown)
	if n <= 0 {
		return false
	}
	data := make([][Size]byte, n)
	bufs := make([]Buf, n)
	for i := range bufs {
		b := &bufs[i]
		b.data, b.pool, b.next = &data[i], p, p.free
		if invariants {
			b.poison()
		}
		p.free = b
	}
	p.grown += n
	return true
}

// Bytes is the current window. It is valid until the last reference is released.
func (b *Buf) Bytes() []byte {
	if invariants {
		b.checkLive()
	}
	return b.data[b.start:b.end:b.end]
}

// Tail is the whole space from the start of the window to the end of the buffer, to be
// written before SetLen says how much of it counts.
func (b *Buf) Tail() []byte {
	if invariants {
		b.checkLive()
	}
	return b.data[b.start:]
}

// SetLen makes the window the first n bytes of Tail. It panics when Tail is shorter.
func (b *Buf) SetLen(n int) {
	if n < 0 || n > Size-int(b.start) {
		panic("pktbuf: SetLen beyond the buffer")
	}
	if invariants {
		b.checkLive()
	}
	b.end = b.start + int32(n)
}

// Prepend takes n bytes of the headroom into the front of the window and returns them
// to be written. It panics when the headroom left is smaller.
func (b *Buf) Prepend(n int) []byte {
	if n < 0 || n > int(b.start) {
		panic("pktbuf: Prepend beyond the headroom")
	}
	if invariants {
		b.checkLive()
	}
	b.start -= int32(n)
	end := b.start + int32(n)
	return b.data[b.start:end:end]
}

// Retain adds a reference. Who holds one may read the window; who changes the window or
// its bytes must be the only holder.
func (b *Buf) Retain() {
	if b.refs <= 0 {
		panic("pktbuf: Retain of a released buffer")
	}
	b.refs++
}

// Release gives one reference back; the last one returns the buffer to its pool.
func (b *Buf) Release() {
	if b.refs <= 0 {
		panic("pktbuf: Release of a released buffer")
	}
	b.refs--
	if b.refs > 0 {
		return
	}
	if invariants {
		b.poison()
	}
	p := b.pool
	b.next, p.free = p.free, b
	p.inUse--
}

// poisonByte fills a released buffer in invariant builds. As the first byte of a packet
// it belongs to no protocol (RFC 7983 §7), so that a leak of it is recognised.
const poisonByte = 0xDB

func (b *Buf) poison() {
	for i := range b.data {
		b.data[i] = poisonByte
	}
}

func (b *Buf) checkPoison() {
	for _, v := range b.data {
		if v != poisonByte {
			panic("pktbuf: buffer written after its release")
		}
	}
}

func (b *Buf) checkLive() {
	if b.refs <= 0 {
		panic("pktbuf: use of a released buffer")
	}
}
