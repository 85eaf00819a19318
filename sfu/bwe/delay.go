package bwe

import "math"

const (
	baseSlots = 8
	baseSlot  = 3_000_000 // microseconds: the base is the least of 24 s, so that a drifting clock or another route is forgotten

	burst       = 5_000  // microseconds: packets that leave within are one sample
	samples     = 16     // kept
	lowWindow   = 60_000 // microseconds of samples whose least is the delay
	lowAtLeast  = 5      // and how many, however far apart
	tailSize    = 8
	unknownBase = math.MaxInt64
)

// delay follows how long packets are under way. Both clocks are in microseconds; the offset between them is unknown and cancels.
type delay struct {
	base     [baseSlots]int64
	baseSlot int64
	lowest   int64 // of base

	groups [samples]group
	n      int64

	tail  [tailSize]packet // the last packets, each by itself
	tailN uint64

	last     int64 // delay of the packet before
	lastSent int64
	jitter   float64 // mean fall between neighbours beyond what a queue can fall
}

type group struct {
	sent  int64
	least int64 // delay
}

type packet struct {
	arrival int64
	owd     int64
	size    int
}

func (d *delay) reset() {
	*d = delay{lowest: unknownBase, last: unknownBase}
	for i := range d.base {
		d.base[i] = unknownBase
	}
}

// add takes one packet in.
func (d *delay) add(sent, arrival int64, size int) {
	owd := arrival - sent
	if slot := sent / baseSlot; slot > d.baseSlot {
		for i := int64(0); i < min(slot-d.baseSlot, baseSlots); i++ {
			d.base[uint64(slot-i)%baseSlots] = unknownBase
		}
		d.baseSlot = slot
		d.lowest = owd
		for _, b := range d.base {
			d.lowest = min(d.lowest, b)
		}
	}
	b := &d.base[uint64(d.baseSlot)%baseSlots]
	*b = min(*b, owd)
	d.lowest = min(d.lowest, owd)

	if d.last != unknownBase {
		// A queue falls by no more than the time that has gone by.
		fall := d.last - owd - max(sent-d.lastSent, 0)
		d.jitter += (float64(min(max(fall, 0), 60_000)) - d.jitter) / 32
	}
	d.last, d.lastSent = owd, sent
	d.tail[d.tailN%tailSize] = packet{arrival: arrival, owd: owd, size: size}
	d.tailN++

	if g := d.at(0); d.n > 0 && sent-g.sent < burst {
		g.least = min(g.least, owd)
		return
	}
	d.n++
	*d.at(0) = group{sent: sent, least: owd}
}

// at returns the i-th newest sample.
func (d *delay) at(i int64) *group { return &d.groups[uint64(d.n-1-i)%samples] }

// low is the queueing delay in microseconds: the least of the last samples over the base.
func (d *delay) low() int64 {
	if d.n == 0 {
		return 0
	}
	least, newest := d.at(0).least, d.at(0).sent
	for i := int64(1); i < min(d.n, samples); i++ {
		g := d.at(i)
		if i >= lowAtLeast && newest-g.sent > lowWindow {
			break
		}
		least = min(least, g.least)
	}
	return least - d.lowest
}

// newest is the delay of the last packet over the base, in microseconds.
func (d *delay) newest() int64 {
	if d.last == unknownBase {
		return 0
	}
	return d.last - d.lowest
}

// trail is the rate in bit/s at which the last packets came, as far back as each was later than the one before; 0 if they were not.
func (d *delay) trail() float64 {
	bytes := 0
	i := d.tailN - 1
	for ; i > 0 && d.tailN-i < min(d.tailN, tailSize); i-- {
		p, before := d.tail[i%tailSize], d.tail[(i-1)%tailSize]
		if p.owd < before.owd+500 {
			break
		}
		bytes += p.size
	}
	if bytes == 0 {
		return 0
	}
	return float64(bytes) * 8e6 / float64(max(d.tail[(d.tailN-1)%tailSize].arrival-d.tail[i%tailSize].arrival, 1000))
}

// forget drops the samples, not what is known of the path.
func (d *delay) forget() { d.n, d.tailN = 0, 0 }
