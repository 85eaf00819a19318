package mux

import (
	"bytes"
	"encoding/binary"

	"github.com/sotto-edge/sotto/internal/bits"
	"github.com/sotto-edge/sotto/internal/rtp"
)

// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 1).
const (
	nalSlice = 1
	nalIDR   = 5
	nalSPS   = 7
	nalPPS   = 8
	nalAUD   = 9
	nalSTAPA = 24
	nalFUA   = 28

	maxParameterSet = 1024
)

// h264 puts H.264 pictures together (RFC 6184, packetization mode 1): NAL units with their lengths in front, as a file holds them.
type h264 struct {
	buf []byte
	fua bool // a fragmented unit is at hand, the last in buf
	at  int  // where its length stands

	key, slice, doubtful bool
	sps, pps             []byte // the last ones seen; they stay
	width, height        int    // by sps
}

func (h *h264) reset() {
	h.buf, h.fua, h.key, h.slice, h.doubtful = h.buf[:0], false, false, false, false
}

// starts is certain only for what stands first in a picture that can be begun with.
func (h *h264) starts(b []byte) bool {
	switch b[0] & 0x1f {
	case nalSTAPA:
		return len(b) > 3 && leads(b[3:])
	case nalFUA:
		return len(b) > 2 && b[1]&0x80 != 0 && leads(append([]byte{b[0]&0xe0 | b[1]&0x1f}, b[2:]...))
	}
	return leads(b)
}

// leads says whether a NAL unit is a parameter set, a delimiter, or the first slice of an IDR picture.
func leads(b []byte) bool {
	switch b[0] & 0x1f {
	case nalSPS, nalAUD:
		return true
	case nalIDR:
		return len(b) > 1 && b[1]&0x80 != 0 // first_mb_in_slice is 0
	}
	return false
}

func (h *h264) add(b []byte) bool {
	kind := b[0] & 0x1f
	if h.fua && kind != nalFUA {
		return false
	}
	switch {
	case kind >= nalSlice && kind < nalSTAPA:
		h.unit(b)
		return true
	case kind == nalSTAPA: // RFC 6184 §5.7.1
		for b = b[1:]; len(b) > 0; {
			if len(b) < 3 {
				return false
			}
			n := int(binary.BigEndian.Uint16(b))
			if n == 0 || n > len(b)-2 {
				return false
			}
			h.unit(b[2 : 2+n])
			b = b[2+n:]
		}
		return true
	case kind == nalFUA: // RFC 6184 §5.8
		if len(b) < 3 {
			return false
		}
		start, end := b[1]&0x80 != 0, b[1]&0x40 != 0
		if start == h.fua {
			return false
		}
		if start {
			h.fua, h.at = true, len(h.buf)
			h.buf = append(h.buf, 0, 0, 0, 0, b[0]&0xe0|b[1]&0x1f)
		}
		h.buf = append(h.buf, b[2:]...)
		if end {
			h.fua = false
			binary.BigEndian.PutUint32(h.buf[h.at:], uint32(len(h.buf)-h.at-4))
			h.look(h.buf[h.at+4:])
		}
		return true
	}
	return false
}

func (h *h264) unit(b []byte) {
	h.buf = binary.BigEndian.AppendUint32(h.buf, uint32(len(b)))
	h.buf = append(h.buf, b...)
	h.look(b)
}

// look reads what matters of a NAL unit.
func (h *h264) look(b []byte) {
	switch b[0] & 0x1f {
	case nalSPS:
		if len(b) > maxParameterSet || bytes.Equal(b, h.sps) {
			return
		}
		w, ht, ok := rtp.SizeSPS(b)
		if !ok {
			h.doubtful = true
			return
		}
		h.sps, h.width, h.height = bytes.Clone(b), w, ht
	case nalPPS:
		if len(b) <= maxParameterSet {
			h.pps = append(h.pps[:0], b...)
		}
	case nalIDR:
		h.key = true
		fallthrough
	case nalSlice:
		if !h.slice && !h.plausible(b) {
			h.doubtful = true
		}
		h.slice = true
	}
}

// plausible reads the beginning of a picture's first slice header (ITU-T H.264 §7.3.3): it begins with the first macroblock, has
// a type that there is, and refers to a parameter set that was sent.
func (h *h264) plausible(b []byte) bool {
	r := bits.Reader{B: bits.Unescape(nil, b[1:], 16)}
	if first := r.UE(); first != 0 {
		return false
	}
	kind, set := r.UE(), r.UE()
	if r.Short || kind > 9 || b[0]&0x1f == nalIDR && kind%5 != 2 && kind%5 != 4 {
		return false
	}
	if len(h.pps) < 2 {
		return true
	}
	known := bits.Reader{B: h.pps[1:]}
	return set == known.UE()
}

func (h *h264) picture() (Picture, bool) {
	if h.fua || !h.slice {
		return Picture{}, false
	}
	p := Picture{Data: h.buf, Doubtful: h.doubtful}
	if !h.key {
		return p, true
	}
	if len(h.sps) < 4 || len(h.pps) == 0 {
		return Picture{}, false // nobody can decode it
	}
	p.Key, p.Width, p.Height = true, h.width, h.height
	// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1): lengths of four bytes, one set of each kind.
	p.Private = append([]byte{1}, h.sps[1:4]...)
	p.Private = append(p.Private, 0xff, 0xe1)
	p.Private = binary.BigEndian.AppendUint16(p.Private, uint16(len(h.sps)))
	p.Private = append(p.Private, h.sps...)
	p.Private = append(p.Private, 1)
	p.Private = binary.BigEndian.AppendUint16(p.Private, uint16(len(h.pps)))
	p.Private = append(p.Private, h.pps...)
	return p, true
}
