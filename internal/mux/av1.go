package mux

import (
	"bytes"

	"github.com/sotto-edge/sotto/internal/bits"
	"github.com/sotto-edge/sotto/internal/rtp"
)

// OBU types (AV1 bitstream specification §6.2.2).
const (
	obuSequence  = 1
	obuDelimiter = 2
	obuHeader    = 3
	obuFrame     = 6
	obuTileList  = 8
	obuPadding   = 15

	maxSequence = 1024
)

// av1 puts AV1 temporal units together (https://aomediacodec.github.io/av1-rtp-spec/ §4): OBUs with their sizes, as a file holds
// them, without the temporal delimiters that a container makes superfluous.
type av1 struct {
	buf   []byte
	part  []byte // of an OBU that goes on in the next packet
	going bool

	key, header, doubtful bool

	sequence []byte // the last sequence header, as it stands in a file; it stays
	info     av1Sequence
}

func (a *av1) reset() {
	a.buf, a.part, a.going, a.key, a.header, a.doubtful = a.buf[:0], a.part[:0], false, false, false, false
}

func (a *av1) starts(b []byte) bool { return rtp.KeyFrame(rtp.AV1, b) }

func (a *av1) add(b []byte) bool {
	head := b[0]
	z, y, count := head&0x80 != 0, head&0x40 != 0, int(head>>4&3)
	if z != a.going {
		return false
	}
	b = b[1:]
	for i := 1; len(b) > 0; i++ {
		n := len(b)
		if count == 0 || i < count {
			size, used := leb128(b)
			if used == 0 || size > uint64(len(b)-used) {
				return false
			}
			n, b = int(size), b[used:]
		}
		element := b[:n]
		b = b[n:]
		last := len(b) == 0
		if count != 0 && last != (i == count) {
			return false
		}
		a.part = append(a.part, element...)
		if a.going = last && y; a.going {
			return true
		}
		if !a.unit(a.part) {
			return false
		}
		a.part = a.part[:0]
	}
	return true
}

// unit takes one whole OBU and writes it with its size.
func (a *av1) unit(b []byte) bool {
	if len(b) < 1 {
		return true // an element may be empty
	}
	head, body := b[0], b[1:]
	kind := head >> 3 & 15
	if head&0x81 != 0 || kind == 0 || kind > obuTileList && kind < obuPadding {
		a.doubtful = true
	}
	var ext []byte
	if head&0x04 != 0 {
		if len(body) < 1 {
			return false
		}
		ext, body = body[:1], body[1:]
	}
	if head&0x02 != 0 { // it has a size already
		size, used := leb128(body)
		if used == 0 || size > uint64(len(body)-used) {
			return false
		}
		body = body[used : used+int(size)]
	}
	switch kind {
	case obuDelimiter, obuTileList, obuPadding:
		return true
	}
	from := len(a.buf)
	a.buf = append(append(a.buf, head|0x02), ext...)
	a.buf = appendLEB128(a.buf, uint64(len(body)))
	a.buf = append(a.buf, body...)
	switch kind {
	case obuSequence:
		info, ok := parseSequence(body)
		if !ok || len(body) > maxSequence {
			a.doubtful = true
			break
		}
		if obu := a.buf[from:]; !bytes.Equal(obu, a.sequence) {
			a.sequence = bytes.Clone(obu)
		}
		a.info, a.header = info, true
	case obuHeader, obuFrame:
		// show_existing_frame 0, frame_type KEY_FRAME (AV1 bitstream specification §5.9.2)
		if len(body) > 0 && body[0]>>5 == 0 && a.header {
			a.key = true
		}
	}
	return true
}

func (a *av1) picture() (Picture, bool) {
	if a.going || len(a.buf) == 0 {
		return Picture{}, false
	}
	p := Picture{Data: a.buf, Key: a.key, Doubtful: a.doubtful}
	if a.key {
		s := &a.info
		p.Width, p.Height = s.width, s.height
		// AV1CodecConfigurationRecord (https://aomediacodec.github.io/av1-isobmff/ §2.3.3)
		p.Private = append([]byte{0x81, s.profile<<5 | s.level, s.format, 0}, a.sequence...)
	}
	return p, true
}

type av1Sequence struct {
	width, height  int
	profile, level byte
	format         byte // tier, bit depth and chroma as the configuration record has them
}

// parseSequence reads a sequence header OBU (AV1 bitstream specification §5.5).
func parseSequence(b []byte) (s av1Sequence, ok bool) {
	r := bits.Reader{B: b}
	s.profile = byte(r.U(3))
	r.U(1)
	reduced := r.Flag()
	var tier uint32
	if reduced {
		s.level = byte(r.U(5))
	} else {
		tier = s.operatingPoints(&r)
	}
	wn, hn := int(r.U(4))+1, int(r.U(4))+1
	s.width, s.height = int(r.U(wn))+1, int(r.U(hn))+1
	if !reduced && r.Flag() { // frame ids
		r.U(7)
	}
	r.U(3) // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
	if !reduced {
		r.U(4) // interintra, masked compound, warped motion, dual filter
		order := r.Flag()
		if order {
			r.U(2)
		}
		screen := uint32(2)
		if !r.Flag() { // seq_choose_screen_content_tools
			screen = r.U(1)
		}
		if screen > 0 && !r.Flag() { // seq_choose_integer_mv
			r.U(1)
		}
		if order {
			r.U(3)
		}
	}
	r.U(3) // superres, cdef, restoration
	s.color(&r, tier)
	return s, !r.Short && s.profile <= 2
}

// operatingPoints reads what stands between the profile and the size and returns the tier of the first point.
func (s *av1Sequence) operatingPoints(r *bits.Reader) (tier uint32) {
	model, delay := false, 0
	if r.Flag() { // timing info
		r.U(32)
		r.U(32)
		if r.Flag() {
			r.UE()
		}
		if model = r.Flag(); model {
			delay = int(r.U(5)) + 1
			r.U(32)
			r.U(10)
		}
	}
	display := r.Flag()
	points := int(r.U(5)) + 1
	for i := range points {
		r.U(12)
		level := byte(r.U(5))
		t := uint32(0)
		if level > 7 {
			t = r.U(1)
		}
		if model && r.Flag() {
			r.U(delay)
			r.U(delay)
			r.U(1)
		}
		if display && r.Flag() {
			r.U(4)
		}
		if i == 0 {
			s.level, tier = level, t
		}
	}
	return tier
}

// color reads the color configuration (AV1 bitstream specification §5.5.2).
func (s *av1Sequence) color(r *bits.Reader, tier uint32) {
	high, twelve, mono := r.U(1), uint32(0), uint32(0)
	if s.profile == 2 && high != 0 {
		twelve = r.U(1)
	}
	if s.profile != 1 {
		mono = r.U(1)
	}
	var primaries, transfer, matrix uint32 = 2, 2, 2
	if r.Flag() {
		primaries, transfer, matrix = r.U(8), r.U(8), r.U(8)
	}
	x, y, position := uint32(1), uint32(1), uint32(0)
	switch {
	case mono != 0:
		r.U(1)
	case primaries == 1 && transfer == 13 && matrix == 0: // sRGB
		x, y = 0, 0
	default:
		r.U(1)
		switch {
		case s.profile == 1:
			x, y = 0, 0
		case s.profile == 2 && twelve != 0:
			if x = r.U(1); x != 0 {
				y = r.U(1)
			} else {
				y = 0
			}
		case s.profile == 2:
			y = 0
		}
		if x != 0 && y != 0 {
			position = r.U(2)
		}
	}
	s.format = byte(tier<<7 | high<<6 | twelve<<5 | mono<<4 | x<<3 | y<<2 | position)
}

// leb128 reads a variable-length number (AV1 bitstream specification §4.10.5); used is 0 when it is cut off or too large.
func leb128(b []byte) (v uint64, used int) {
	for i := 0; i < len(b) && i < 5; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendLEB128(dst []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}
