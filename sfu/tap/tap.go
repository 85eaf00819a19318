// Package tap carries what one publication brings from the packet path to a reader outside of it, a recorder: copies of its
// packets, its sender reports, and the moments when it was muted, in order, over a ring of bounded size.
//
// It promises that Put neither blocks, allocates nor wakes anybody; that what finds no room is left out and counted, packets
// first, so that the few records that are no packets still find some; and that one goroutine may put while another takes.
//
// It does not know what is in a packet, and it does not wait: the reader looks again when it thinks fit.
package tap

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Kind says what a Record is.
type Kind uint8

// Kinds of records.
const (
	Packet Kind = iota + 1 // an RTP packet as the publisher sent it, hop-by-hop encryption taken off
	Report                 // a sender report: NTP and RTP name one moment
	Muted                  // from here on nothing comes, because the publisher muted
	Unmuted
	End // the last record
)

// Record is one thing that happened to a publication.
type Record struct {
	Kind     Kind
	Codec    rtp.Codec
	Layer    uint8  // of a packet or report: which simulcast layer, 0 the lowest
	Key      bool   // of a packet: a key frame begins here, as far as the clear part tells
	Stream   uint32 // of a packet or report: changes whenever the publisher begins a new RTP stream
	Lost     uint32 // packets that found no room before this record
	At       int64  // when it came, on the packet clock
	Sequence int64  // of a packet: extended sequence number; of a Report: its RTP time
	NTP      uint64 // of a Report
	Data     []byte // of a packet: all of it
}

const (
	headLen = 4 + 4 + 4 + 4 + 8 + 8 + 8
	reserve = 2048 // bytes that packets leave to records of other kinds
	minSize = 16 << 10
)

// Ring is the queue. Put is for one goroutine, Take for another.
type Ring struct {
	buf  []byte
	mask uint64

	head atomic.Uint64 // bytes put since the beginning
	lost uint32        // the putter's: packets left out since the last record
	_    [48]byte      // keeps the two ends on cache lines of their own

	tail    atomic.Uint64 // bytes taken
	scratch []byte        // the taker's
}

// NewRing makes a ring of at least size bytes.
func NewRing(size int) *Ring {
	n := minSize
	for n < size {
		n *= 2
	}
	return &Ring{buf: make([]byte, n), mask: uint64(n) - 1}
}

// Put adds a record, or counts it when there is no room. Lost is filled in.
func (r *Ring) Put(rec *Record) bool {
	need := uint64(headLen + len(rec.Data))
	room := uint64(len(r.buf)) - (r.head.Load() - r.tail.Load())
	keep := uint64(0)
	if rec.Kind == Packet {
		keep = reserve
	}
	if need+keep > room {
		r.lost++
		return false
	}
	var h [headLen]byte
	binary.LittleEndian.PutUint32(h[0:], uint32(len(rec.Data)))
	h[4], h[5], h[6] = byte(rec.Kind), byte(rec.Codec), rec.Layer
	if rec.Key {
		h[7] = 1
	}
	binary.LittleEndian.PutUint32(h[8:], rec.Stream)
	binary.LittleEndian.PutUint32(h[12:], r.lost)
	binary.LittleEndian.PutUint64(h[16:], uint64(rec.At))
	binary.LittleEndian.PutUint64(h[24:], uint64(rec.Sequence))
	binary.LittleEndian.PutUint64(h[32:], rec.NTP)
	at := r.head.Load()
	r.write(at, h[:])
	r.write(at+headLen, rec.Data)
	r.head.Store(at + need)
	r.lost = 0
	return true
}

// Take fills rec with the next record; false if there is none. Data is valid until the next Take.
func (r *Ring) Take(rec *Record) bool {
	at := r.tail.Load()
	if at == r.head.Load() {
		return false
	}
	var h [headLen]byte
	r.read(at, h[:])
	n := int(binary.LittleEndian.Uint32(h[0:]))
	if cap(r.scratch) < n {
		r.scratch = make([]byte, max(n, 2048))
	}
	*rec = Record{
		Kind: Kind(h[4]), Codec: rtp.Codec(h[5]), Layer: h[6], Key: h[7] != 0,
		Stream: binary.LittleEndian.Uint32(h[8:]), Lost: binary.LittleEndian.Uint32(h[12:]),
		At:       int64(binary.LittleEndian.Uint64(h[16:])),
		Sequence: int64(binary.LittleEndian.Uint64(h[24:])), NTP: binary.LittleEndian.Uint64(h[32:]),
		Data: r.scratch[:n],
	}
	r.read(at+headLen, rec.Data)
	r.tail.Store(at + headLen + uint64(n))
	return true
}

func (r *Ring) write(at uint64, b []byte) {
	n := copy(r.buf[at&r.mask:], b)
	copy(r.buf, b[n:])
}

func (r *Ring) read(at uint64, b []byte) {
	n := copy(b, r.buf[at&r.mask:])
	copy(b[n:], r.buf)
}
