package forward

import (
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer"
)

// maxJump is the longest gap in a publisher's numbers that a leg takes over (RFC 3550 §A.1 has the same for a stream that started
// anew). A receiver that does not see a gap of half a cycle end can never open a packet of the leg again (RFC 3711 §3.3.1), and the
// leg outlives what it shows.
const maxJump = 3000

// spans are kept so many: enough for a second of a stream of which every second frame is left out.
const (
	fewSpans = 4
	maxSpans = 64
)

// span is a stretch of a leg's numbering that maps to one layer by one offset, and whose packets
// are changed alike. A new one begins with another layer, behind packets that were left out and where the change is another. The last ones are kept: a request to send again names a number of the leg, and the packet is in the
// layer's history under the publisher's number.
type span struct {
	layer  *Layer
	id     uint32 // the layer's id when the span began: a layer that was bound anew answers no old request
	ts     uint32 // leg's timestamp less publisher's
	stamp  layer.Stamp
	first  int64 // first extended number of the leg in this span
	offset int64 // leg's number less publisher's
}

// numbering gives the packets of a leg their numbers: without a break over changes of the layer and over packets that are left out
// on purpose, and with the publisher's own gaps, so that what was lost on the way in can be asked for and still find its place.
type numbering struct {
	layer   *Layer // what is shown; nil: nothing yet
	id      uint32 // the layer's id when it began
	offset  int64  // leg's number less publisher's, for the next packet in order
	ts      uint32 // leg's timestamp less publisher's
	stamp   layer.Stamp
	seen    int64 // publisher's highest number that was sent or left out
	left    bool  // packets were left out since the last span began
	highest int64 // last number given, or the one before the first

	spans []span // a ring, newest at (n-1) % len
	n     int
}

// shows says whether the leg is at from, as it is bound now.
func (n *numbering) shows(from *Layer) bool {
	return n.layer == from && n.layer != nil && n.id == from.id
}

// begin starts a span of another layer with the publisher's number ext.
func (n *numbering) begin(from *Layer, ext int64, ts uint32, stamp layer.Stamp) {
	n.layer, n.id, n.ts, n.stamp, n.left = from, from.id, ts, stamp, false
	n.offset = n.highest + 1 - ext
	n.seen = ext - 1
	n.push(n.highest + 1)
}

// from returns the first number that the offset holds for.
func (n *numbering) from() int64 {
	if n.left {
		return n.seen + n.offset + 1
	}
	return n.last(0).first
}

// restore goes on where another numbering was.
func (n *numbering) restore(at *Layer, seen, first, offset int64, ts uint32, stamp layer.Stamp) {
	n.layer, n.id, n.ts, n.stamp, n.offset, n.seen, n.left = at, at.id, ts, stamp, offset, seen, false
	n.push(first)
}

// reset makes the leg begin anew with the next packet it can begin with.
func (n *numbering) reset() { n.layer = nil }

func (n *numbering) push(first int64) {
	if n.n >= len(n.spans) && len(n.spans) < maxSpans {
		grown := make([]span, max(fewSpans, 2*len(n.spans)))
		copy(grown, n.spans) // a ring that is full for the first time starts at its beginning
		n.spans = grown
	}
	n.spans[n.n%len(n.spans)] = span{layer: n.layer, id: n.id, first: first, offset: n.offset, ts: n.ts, stamp: n.stamp}
	if n.n++; n.n >= 2*maxSpans {
		n.n -= maxSpans
	}
}

// jumps says whether ext is too far ahead to go on.
func (n *numbering) jumps(ext int64) bool { return ext+n.offset > n.highest+maxJump }

// give returns the leg's number for the publisher's packet ext, and the timestamp offset that goes with it. It is false for one
// that comes too late to have a place.
func (n *numbering) give(ext int64, stamp layer.Stamp) (number int64, ts uint32, ok bool) {
	if ext <= n.seen {
		return n.place(ext)
	}
	if stamp != n.stamp {
		n.stamp, n.left = stamp, true
	}
	n.settle(n.seen + 1)
	n.seen = ext
	n.highest = ext + n.offset
	return n.highest, n.ts, true
}

// leave gives the publisher's packet ext no number, and those behind it the numbers before it. A packet that comes late has a number
// already, as everything missing had that might have been sent: it is returned, for something to fill it.
func (n *numbering) leave(ext int64) (number int64, ts uint32, hole bool) {
	if ext <= n.seen {
		return n.place(ext)
	}
	if ext > n.seen+1 {
		n.settle(n.seen + 1)
		n.highest = ext - 1 + n.offset // what is missing has its numbers
	}
	n.seen = ext
	n.offset--
	n.left = true
	return 0, 0, false
}

// settle begins a span at the publisher's number ext, if the offset has changed.
func (n *numbering) settle(ext int64) {
	if n.left {
		n.left = false
		n.push(ext + n.offset)
	}
}

// place finds the number of a packet that was missing when those behind it were numbered.
func (n *numbering) place(ext int64) (number int64, ts uint32, ok bool) {
	end := n.highest + 1 // first number behind the span at hand
	if n.left {
		end = n.seen + n.offset + 1 // the next to be given
	}
	for i := range n.kept() {
		s := n.last(i)
		if s.layer != n.layer || s.id != n.id {
			break
		}
		if number = ext + s.offset; number >= s.first {
			return number, s.ts, number < end // one behind it was left out, and so was this one
		}
		end = s.first
	}
	return 0, 0, false
}

// find returns the span that number belongs to.
func (n *numbering) find(number int64) *span {
	if number > n.highest {
		return nil
	}
	for i := range n.kept() {
		if s := n.last(i); number >= s.first {
			return s
		}
	}
	return nil
}

// extend returns the extended number that the leg's 16-bit number seq stands for.
func (n *numbering) extend(seq uint16) int64 { return rtp.Extend(n.highest, seq) }

func (n *numbering) kept() int { return min(n.n, len(n.spans)) }

// last returns the i-th span from the end.
func (n *numbering) last(i int) *span { return &n.spans[(n.n-1-i)%len(n.spans)] }

// forget lets go of layers that ended or were bound anew: the leg outlives what it has shown.
func (n *numbering) forget() {
	for i := range n.spans {
		if s := &n.spans[i]; s.layer != nil && s.layer.id != s.id {
			s.layer = nil
		}
	}
}
