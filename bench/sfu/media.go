package sfu

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Shape of what is published.
const (
	maxPayload   = 1150 // of one packet of pictures
	audioPayload = 90
	audioEvery   = 20 * time.Millisecond
	audioClock   = 960   // 20 ms at 48 kHz
	videoClock   = 90000 // a second
)

// A stamp says when a packet was sent, its number among all, and which layer it is of. It stands behind the payload descriptor.
const (
	stampAt   = 16
	stampSize = stampAt + 21
)

var stampMagic = [8]byte{'s', 'o', 't', 't', 'o', ' ', 't', ':'}

func putStamp(payload []byte, at time.Time, number uint32, layer uint8) {
	copy(payload[stampAt:], stampMagic[:])
	binary.BigEndian.PutUint64(payload[stampAt+8:], uint64(at.UnixNano()))
	binary.BigEndian.PutUint32(payload[stampAt+16:], number)
	payload[stampAt+20] = layer
}

// stamped is what a stamp says.
type stamped struct {
	at     int64 // when it was sent, on the wall clock
	number uint32
	layer  uint8
}

// stamp reads one; false: there is none.
func stamp(payload []byte) (stamped, bool) {
	if len(payload) < stampSize || [8]byte(payload[stampAt:stampAt+8]) != stampMagic {
		return stamped{}, false
	}
	b := payload[stampAt+8:]
	return stamped{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), b[12]}, true
}

// describe begins a payload as VP8 does (RFC 7741 §4.2, §4.3).
func describe(payload []byte, first, key bool) {
	if !first {
		return
	}
	payload[0] = 0x10 // S: a partition begins
	if key {
		copy(payload[1:], []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a})
	} else {
		payload[1] = 0x11
	}
}

// departures remembers when each packet was handed to the kernel, by its number, for some seconds.
type departures struct {
	next atomic.Uint32
	at   [1 << 16]struct {
		number atomic.Uint32
		time   atomic.Int64
	}
}

// number returns one that was not used before, never 0.
func (d *departures) number() uint32 {
	for {
		if n := d.next.Add(1); n != 0 {
			return n
		}
	}
}

func (d *departures) left(number uint32, at int64) {
	slot := &d.at[number%uint32(len(d.at))]
	slot.number.Store(0)
	slot.time.Store(at)
	slot.number.Store(number)
}

// of returns when a packet left; false: it is too long ago.
func (d *departures) of(number uint32) (int64, bool) {
	slot := &d.at[number%uint32(len(d.at))]
	at := slot.time.Load()
	return at, number != 0 && slot.number.Load() == number
}
