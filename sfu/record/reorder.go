package record

import (
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Bounds of waiting for a packet that is missing: longer than it takes to ask for it twice over a slow path.
const (
	reorderSpan    = int64(1e9)
	reorderPackets = 1024
	reorderBytes   = 2 << 20
)

// packet is one RTP packet on its way to a file.
type packet struct {
	codec    rtp.Codec
	layer    uint8
	key      bool
	stream   uint32
	at       int64 // packet clock
	seq      int64 // of the stream
	number   int64 // of the track: goes on when the stream changes
	ts       uint32
	marker   bool
	data     []byte
	from, to int    // where its payload is
	pos      int64  // nanoseconds from the track's first packet
	overflow uint64 // packets that found no room before this one
	missing  int64  // numbers before it that did not come
	unmuted  bool   // the first after a mute
}

// payload is what the codec wrote: without header and padding.
func (p *packet) payload() []byte { return p.data[p.from:p.to] }

// reorder puts the packets of one RTP stream in order.
type reorder struct {
	started bool
	stream  uint32
	next    int64
	number  int64
	held    []packet // in order of seq, with holes
	bytes   int
	newest  int64 // arrival of the newest
	late    uint64
}

// push takes a packet that it may keep after a copy, and hands on what is in order, or cannot wait any longer.
func (o *reorder) push(p *packet, out func(*packet)) {
	if o.started && p.stream != o.stream {
		o.flush(out)
		o.started = false
	}
	if !o.started {
		o.started, o.stream, o.next = true, p.stream, p.seq
	}
	o.newest = max(o.newest, p.at)
	switch {
	case p.seq < o.next:
		o.late++
		return
	case p.seq == o.next && len(o.held) == 0:
		o.hand(p, out)
		return
	}
	i, found := slices.BinarySearchFunc(o.held, p.seq, func(h packet, seq int64) int { return int(h.seq - seq) })
	if found {
		return
	}
	p.data = slices.Clone(p.data)
	o.held = slices.Insert(o.held, i, *p)
	o.bytes += len(p.data)
	o.release(out)
}

// release hands on what is due.
func (o *reorder) release(out func(*packet)) {
	n := 0
	for ; n < len(o.held); n++ {
		p := &o.held[n]
		left := len(o.held) - n
		if p.seq != o.next && left <= reorderPackets && o.bytes <= reorderBytes && o.newest-p.at < reorderSpan {
			break
		}
		o.bytes -= len(p.data)
		o.hand(p, out)
	}
	o.held = slices.Delete(o.held, 0, n)
}

// flush hands on everything.
func (o *reorder) flush(out func(*packet)) {
	for i := range o.held {
		o.hand(&o.held[i], out)
	}
	clear(o.held)
	o.held, o.bytes = o.held[:0], 0
}

func (o *reorder) hand(p *packet, out func(*packet)) {
	p.missing = p.seq - o.next
	o.next = p.seq + 1
	o.number += 1 + p.missing
	p.number = o.number
	out(p)
}
