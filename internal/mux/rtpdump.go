package mux

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	dumpBuffer    = 64 << 10 // bytes held back at most
	dumpIndexStep = 1000     // ms between entries of the index
)

// Dump writes RTP packets as they are, in the format of rtptools' rtpdump, which rtpplay and Wireshark read. Beside it goes an
// index: every second, and at every packet that a decoder can begin with, 16 bytes that say where a packet stands: its place in
// the file (8 bytes), its time in ms since the file's start (4), its RTP timestamp (4), all big endian.
type Dump struct {
	out, index sink
	held       []byte
	entries    []byte
	indexed    uint32 // ms of the last entry
	any        bool
	last       uint32 // ms
}

// NewDump writes the head of a file that begins at the given wall-clock time in nanoseconds since 1970.
func NewDump(w, index io.WriterAt, start int64) (*Dump, error) {
	d := &Dump{out: sink{w: w}, index: sink{w: index}}
	b := []byte("#!rtpplay1.0 0.0.0.0/0\n")
	b = binary.BigEndian.AppendUint32(b, uint32(start/1e9))
	b = binary.BigEndian.AppendUint32(b, uint32(start%1e9/1e3))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // source address, port, padding
	return d, d.out.append(b)
}

// Written returns the bytes of both files so far.
func (d *Dump) Written() int64 { return d.out.off + d.index.off }

// Duration returns the time of the last packet in nanoseconds since the file's start.
func (d *Dump) Duration() int64 { return int64(d.last) * 1e6 }

// Write adds a packet that came at the given time in nanoseconds since the file's start. key says that a decoder can begin here,
// as far as the clear part tells. After an error the packets since the last success are missing.
func (d *Dump) Write(at int64, ts uint32, key bool, packet []byte) error {
	if len(packet) > 0xffff-8 {
		return fmt.Errorf("%w: a packet of %d bytes", ErrTooLarge, len(packet))
	}
	ms := uint32(max(0, at) / 1e6)
	if !d.any || key || ms-d.indexed >= dumpIndexStep {
		d.entries = binary.BigEndian.AppendUint64(d.entries, uint64(d.out.off)+uint64(len(d.held)))
		d.entries = binary.BigEndian.AppendUint32(d.entries, ms)
		d.entries = binary.BigEndian.AppendUint32(d.entries, ts)
		d.indexed, d.any = ms, true
	}
	d.held = binary.BigEndian.AppendUint16(d.held, uint16(len(packet)+8))
	d.held = binary.BigEndian.AppendUint16(d.held, uint16(len(packet)))
	d.held = binary.BigEndian.AppendUint32(d.held, ms)
	d.held = append(d.held, packet...)
	d.last = max(d.last, ms)
	if len(d.held) >= dumpBuffer {
		return d.Flush()
	}
	return nil
}

// Flush writes what is held back.
func (d *Dump) Flush() error {
	held, entries := d.held, d.entries
	d.held, d.entries = d.held[:0], d.entries[:0]
	if len(held) == 0 {
		return nil
	}
	if err := d.out.append(held); err != nil {
		return err
	}
	return d.index.append(entries)
}

// Close writes what is held back.
func (d *Dump) Close() error { return d.Flush() }
