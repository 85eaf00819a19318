package mux

import "github.com/sotto-edge/sotto/internal/rtp"

// Picture is what one timestamp of a video stream shows, as a container takes it.
type Picture struct {
	Data      []byte // valid during the call that hands it over
	Timestamp uint32
	Key       bool
	// Of a key frame: its size, and the codec's configuration record where the container wants one.
	Width, Height int
	Private       []byte
	// Doubtful says that the bytes behind the payload descriptor are not what this codec writes: they are encrypted, most likely.
	Doubtful bool
}

// codec is what differs between the formats. All of it is about the picture at hand.
type codec interface {
	reset()
	// starts says whether a picture begins with this payload, as far as that can be seen without the packet before it.
	starts(payload []byte) bool
	// add takes the next packet; false if it does not fit.
	add(payload []byte) bool
	// picture puts together what was added; false if something is missing.
	picture() (Picture, bool)
}

// Depacketizer puts the packets of one video stream together to pictures. A picture with a missing packet is dropped, and then
// every picture until the next key frame, because it may need what is missing.
type Depacketizer struct {
	codec codec
	emit  func(*Picture)

	started bool
	next    int64 // sequence number expected
	open    bool  // a picture is at hand
	broken  bool  // it misses something
	ts      uint32
	bytes   int
	waiting bool // for a key frame

	// Dropped counts pictures that were not handed over, Malformed those of them that had all their packets and yet did not fit
	// together: they are encrypted, or the sender does not keep to the format.
	Dropped, Malformed uint64
}

// NewDepacketizer returns one for c that hands pictures to emit, or nil if c is no video codec known here.
func NewDepacketizer(c rtp.Codec, emit func(*Picture)) *Depacketizer {
	d := &Depacketizer{emit: emit, waiting: true}
	switch c {
	case rtp.VP8:
		d.codec = new(vp8)
	case rtp.VP9:
		d.codec = new(vp9)
	case rtp.H264:
		d.codec = new(h264)
	case rtp.AV1:
		d.codec = new(av1)
	default:
		return nil
	}
	return d
}

// Waiting says that nothing is handed over before the next key frame.
func (d *Depacketizer) Waiting() bool { return d.waiting }

// Push takes the next packet, by its extended sequence number; the payload is without padding and may be empty. A number left out
// is a packet lost for good, one that comes again is ignored.
func (d *Depacketizer) Push(seq int64, ts uint32, marker bool, payload []byte) {
	if d.started && seq < d.next {
		return
	}
	missing := !d.started || seq != d.next
	if missing {
		d.waiting = true
		d.broken = true
	}
	d.started, d.next = true, seq+1
	if len(payload) == 0 { // padding takes a number and is no part of a picture
		return
	}
	if d.open && ts != d.ts {
		d.finish()
		missing = missing || d.broken
	}
	if !d.open {
		d.codec.reset()
		d.open, d.ts, d.bytes = true, ts, 0
		d.broken = (missing || d.waiting) && !d.codec.starts(payload)
	}
	if d.bytes += len(payload); d.bytes > maxPicture {
		d.broken = true
	}
	if !d.broken && !d.codec.add(payload) {
		d.broken = true
		d.Malformed++
	}
	if marker {
		d.finish()
	}
}

// finish hands the picture at hand over, if it is whole and of use.
func (d *Depacketizer) finish() {
	d.open = false
	if d.broken {
		d.drop()
		return
	}
	p, ok := d.codec.picture()
	if !ok {
		d.Malformed++
		d.drop()
		return
	}
	if d.waiting && !p.Key {
		d.Dropped++
		return
	}
	d.waiting = false
	p.Timestamp = d.ts
	d.emit(&p)
}

func (d *Depacketizer) drop() {
	d.Dropped++
	d.waiting = true
}
