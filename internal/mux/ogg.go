package mux

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	oggFirst = 0x02 // header type flags (RFC 3533 §6)
	oggLast  = 0x04

	oggHeader   = 27
	maxSegments = 255

	// preSkip is the delay of the encoder that browsers use (libopus: 6.5 ms). With it a sound stands in the file where its RTP
	// timestamp puts it (RFC 7845 §4.2).
	preSkip = 312

	// pageSamples bounds a page to a second, so that a cut loses no more (RFC 7845 §6 advises the same).
	pageSamples = OpusRate

	// maxGap bounds what is filled: a day. A longer one is a mistake of the clock.
	maxGap = 24 * 3600 * OpusRate
)

// Ogg writes one Opus stream into an Ogg file (RFC 7845).
type Ogg struct {
	out      sink
	serial   uint32
	sequence uint32

	pos     int64 // samples written and waiting
	settled int64 // samples on pages that are written
	toc     byte  // of the last packet
	any     bool
	closed  bool

	lacing []byte
	body   []byte
	page   []byte
}

// NewOgg writes the headers of a file with the given number of channels. The serial number tells streams apart that somebody
// chains later.
func NewOgg(w io.WriterAt, serial uint32, channels int) (*Ogg, error) {
	o := &Ogg{out: sink{w: w}, serial: serial}
	head := append([]byte("OpusHead"), 1, byte(channels)) // RFC 7845 §5.1
	head = binary.LittleEndian.AppendUint16(head, preSkip)
	head = binary.LittleEndian.AppendUint32(head, OpusRate)
	head = append(head, 0, 0, 0) // gain 0, mapping family 0
	o.queue(head)
	if err := o.flush(oggFirst, 0); err != nil {
		return nil, err
	}
	tags := binary.LittleEndian.AppendUint32([]byte("OpusTags"), 5) // RFC 7845 §5.2
	tags = append(tags, "sotto"...)
	tags = binary.LittleEndian.AppendUint32(tags, 0)
	o.queue(tags)
	if err := o.flush(0, 0); err != nil {
		return nil, err
	}
	return o, nil
}

// End returns the position behind the last packet, in samples.
func (o *Ogg) End() int64 { return o.pos }

// Written returns the bytes of the file so far.
func (o *Ogg) Written() int64 { return o.out.off }

// Write adds a packet that begins at position at, in samples at 48 kHz since the start of the file. What is missing before it is
// filled with frames that the decoder conceals; a packet that is all in the past is left out, and so is what is no Opus packet.
// After an error the samples of the page that could not be written are missing, and the next Write fills them.
func (o *Ogg) Write(at int64, packet []byte) error {
	n, ok := OpusSamples(packet)
	if !ok || at+int64(n) <= o.pos || o.closed {
		return nil
	}
	if gap := at - o.pos; gap > maxGap {
		return fmt.Errorf("%w: a gap of %d s", ErrTooLarge, gap/OpusRate)
	}
	if !o.any {
		o.toc, o.any = packet[0], true
	}
	if err := o.fill(at); err != nil {
		return err
	}
	o.toc = packet[0]
	return o.add(packet, n)
}

// fill brings the position to at, but for a rest below 2.5 ms that no packet is short enough for.
func (o *Ogg) fill(at int64) error {
	var buf [2]byte
	for at-o.pos >= minOpusFrame {
		toc, frame := o.toc, opusFrameSize(o.toc)
		if at-o.pos < int64(frame) {
			toc, frame = shortest(o.toc), minOpusFrame
		}
		count := int(min((at-o.pos)/int64(frame), int64(maxOpusDuration/frame)))
		if err := o.add(concealment(buf[:0], toc, count), count*frame); err != nil {
			return err
		}
	}
	return nil
}

// add puts one packet on the page, which is written when it is full.
func (o *Ogg) add(packet []byte, samples int) error {
	if len(o.lacing)+len(packet)/255+1 > maxSegments {
		if err := o.Flush(); err != nil {
			return err
		}
	}
	o.queue(packet)
	o.pos += int64(samples)
	if o.pos-o.settled >= pageSamples {
		return o.Flush()
	}
	return nil
}

// queue puts a packet on the page: its lengths in pieces of 255 and a last one below (RFC 3533 §5).
func (o *Ogg) queue(packet []byte) {
	n := len(packet)
	for ; n >= 255; n -= 255 {
		o.lacing = append(o.lacing, 255)
	}
	o.lacing = append(o.lacing, byte(n))
	o.body = append(o.body, packet...)
}

// Flush writes the page at hand, if there is anything on it.
func (o *Ogg) Flush() error {
	if len(o.lacing) == 0 || o.closed {
		return nil
	}
	return o.flush(0, o.pos)
}

// flush writes a page whose last sample is the one before granule. Should it fail, the page is given up.
func (o *Ogg) flush(kind byte, granule int64) error {
	b := append(o.page[:0], 'O', 'g', 'g', 'S', 0, kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(granule))
	b = binary.LittleEndian.AppendUint32(b, o.serial)
	b = binary.LittleEndian.AppendUint32(b, o.sequence)
	b = append(b, 0, 0, 0, 0, byte(len(o.lacing)))
	b = append(b, o.lacing...)
	b = append(b, o.body...)
	binary.LittleEndian.PutUint32(b[oggHeader-5:], oggChecksum(b))
	o.page = b
	o.lacing, o.body = o.lacing[:0], o.body[:0]
	if err := o.out.append(b); err != nil {
		o.pos = o.settled
		return err
	}
	o.sequence++
	o.settled = o.pos
	return nil
}

// Close ends the stream. The samples that the decoder drops at the start are made up for at the end, and what is too much of that
// is cut off by the last page's position (RFC 7845 §4.5): the file lasts as long as what was written into it.
func (o *Ogg) Close() error {
	if o.closed {
		return nil
	}
	end := int64(0)
	if o.any {
		end = o.pos + preSkip
		if err := o.Flush(); err != nil { // the last page begins before the cut
			return err
		}
		frame := opusFrameSize(o.toc)
		var buf [2]byte
		count := (preSkip + frame - 1) / frame
		o.queue(concealment(buf[:0], o.toc, count))
	}
	o.closed = true
	return o.flush(oggLast, end)
}

// oggTable is that of the generator polynomial 0x04c11db7, without reflection (RFC 3533 §6).
var oggTable = func() (t [256]uint32) {
	for i := range t {
		r := uint32(i) << 24
		for range 8 {
			if r&(1<<31) != 0 {
				r = r<<1 ^ 0x04c11db7
			} else {
				r <<= 1
			}
		}
		t[i] = r
	}
	return t
}()

func oggChecksum(b []byte) uint32 {
	var c uint32
	for _, x := range b {
		c = c<<8 ^ oggTable[byte(c>>24)^x]
	}
	return c
}
