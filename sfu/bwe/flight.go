package bwe

// Bounds of the record of what is under way: 1 KiB at first, 16 KiB on a path of many megabits and a deep queue.
const (
	minFlight = 128
	maxFlight = 2048
)

// record is one packet that was sent.
type record struct {
	at    uint32 // microseconds since the epoch, wrapping after 71 minutes
	size  uint16
	probe ProbeID
	state uint8
}

const (
	known    uint8 = 1 << iota // was sent
	received                   // a feedback has told so
	missed                     // a feedback has told that it is missing
)

// key is how a receiver of RFC 8888 names a packet.
type key struct {
	ssrc uint32
	seq  uint16
}

// flight remembers the packets that feedback may still speak of, by extended transport-wide number.
type flight struct {
	ring    []record
	next    int64 // number of the next packet; those in the ring are below
	newest  int64 // first number behind the newest that arrived
	waiting int   // bytes from newest on
	epoch   int64 // nanoseconds
}

// extend finds the extended number of a packet about to leave, which is near the last.
func (f *flight) extend(seq uint16) int64 {
	if f.ring == nil {
		// A cycle ahead, so that the packet before it is not a negative number.
		return 1<<16 + int64(seq)
	}
	return f.next + int64(int16(seq-uint16(f.next)))
}

// put records a packet. Numbers that were left out are unknown.
func (f *flight) put(ext int64, size int, probe ProbeID, now, lifetime int64) {
	switch {
	case f.ring == nil:
		f.ring = make([]record, minFlight)
		f.next, f.newest = ext, ext
	case ext < f.next:
		return // a number that was used; the first one counts
	case ext-f.next >= int64(len(f.ring)):
		clear(f.ring)
		f.next, f.newest, f.waiting = ext, ext, 0
	}
	for ; f.next < ext; f.next++ {
		f.forget(f.next)
	}
	if old := f.slot(ext); old.state&known != 0 && len(f.ring) < maxFlight && now-f.sentAt(old, now) < lifetime {
		f.ring = regrow(f.ring, 2*len(f.ring), f.next)
	}
	f.forget(ext)
	*f.slot(ext) = record{at: uint32((now - f.epoch) / 1000), size: uint16(size), probe: probe, state: known}
	f.next++
	f.waiting += size
}

// forget empties the slot that ext will take.
func (f *flight) forget(ext int64) {
	old := f.slot(ext)
	if was := ext - int64(len(f.ring)); was >= f.newest {
		f.waiting -= int(old.size)
		f.newest = was + 1
	}
	*old = record{}
}

func (f *flight) slot(ext int64) *record { return &f.ring[uint64(ext)%uint64(len(f.ring))] }

// get returns the record of a packet, nil if there is none.
func (f *flight) get(ext int64) *record {
	if ext >= f.next || ext < f.next-int64(len(f.ring)) || ext < 0 {
		return nil
	}
	if r := f.slot(ext); r.state&known != 0 {
		return r
	}
	return nil
}

// sentAt is when the packet left, in nanoseconds.
func (f *flight) sentAt(r *record, now int64) int64 {
	us := (now - f.epoch) / 1000
	return f.epoch + 1000*(us-int64(uint32(us)-r.at))
}

// arrivedUpTo moves newest behind ext.
func (f *flight) arrivedUpTo(ext int64) {
	for ; f.newest <= ext; f.newest++ {
		if r := f.get(f.newest); r != nil {
			f.waiting -= int(r.size)
		}
	}
}

// oldest returns when the first packet left of which nothing is known, and that nothing behind it has arrived.
func (f *flight) oldest(now int64) (at int64, ok bool) {
	for ext := f.newest; ext < f.next; ext++ {
		if r := f.get(ext); r != nil {
			return f.sentAt(r, now), true
		}
	}
	return 0, false
}

// regrow moves a ring whose newest entries are below next into a larger one.
func regrow[T any](ring []T, size int, next int64) []T {
	bigger := make([]T, size)
	for i := int64(1); i <= int64(len(ring)); i++ {
		if ext := next - i; ext >= 0 {
			bigger[uint64(ext)%uint64(size)] = ring[uint64(ext)%uint64(len(ring))]
		}
	}
	return bigger
}

// Meter measures a rate over half a second, in slots of 25 ms.
const (
	meterSlots = 20
	meterSlot  = 25_000 // microseconds
)

type meter struct {
	slots [meterSlots]uint32 // bytes
	head  int64              // number of the newest slot
	first int64              // number of the first slot ever
	used  bool
}

func (m *meter) add(us int64, size int) {
	n := us / meterSlot
	if !m.used || n > m.head+10*meterSlots || n < m.head-10*meterSlots {
		*m = meter{head: n, first: n, used: true}
	}
	for m.head < n {
		m.head++
		m.slots[uint64(m.head)%meterSlots] = 0
	}
	if n > m.head-meterSlots {
		m.slots[uint64(n)%meterSlots] += uint32(size)
	}
}

// rate is bit/s over the window (microseconds) before us. At the start it is over what there is, 100 ms at least.
func (m *meter) rate(us, window int64) float64 {
	if !m.used {
		return 0
	}
	n := us / meterSlot
	slots := min(window/meterSlot, meterSlots-1)
	sum := 0.0
	// The slot that us is in is not complete; it counts with the share of it that has gone by.
	for i := n - slots; i <= n; i++ {
		if i > m.head-meterSlots && i <= m.head {
			sum += float64(m.slots[uint64(i)%meterSlots])
		}
	}
	span := slots*meterSlot + us%meterSlot
	if begun := us - m.first*meterSlot; begun < span {
		span = max(begun, 100_000)
	}
	return sum * 8e6 / float64(span)
}
