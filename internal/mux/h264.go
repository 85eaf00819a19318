package mux

import (
	"bytes"
	"encoding/binary"
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
		w, ht, ok := parseSPS(b)
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
	r := bits{b: unescape(b[1:], 16)}
	if first := r.ue(); first != 0 {
		return false
	}
	kind, set := r.ue(), r.ue()
	if r.short || kind > 9 || b[0]&0x1f == nalIDR && kind%5 != 2 && kind%5 != 4 {
		return false
	}
	if len(h.pps) < 2 {
		return true
	}
	known := bits{b: h.pps[1:]}
	return set == known.ue()
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

// parseSPS reads a sequence parameter set (ITU-T H.264 §7.3.2.1.1) as far as the size of the picture.
func parseSPS(nal []byte) (width, height int, ok bool) {
	if len(nal) < 4 {
		return 0, 0, false
	}
	r := bits{b: unescape(nal[1:], maxParameterSet)}
	profile := r.u(8)
	r.u(16) // constraints, level
	r.ue()
	chroma, separate := uint32(1), false
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if chroma = r.ue(); chroma == 3 {
			separate = r.flag()
		}
		r.ue() // bit depths
		r.ue()
		r.u(1)
		if r.flag() { // scaling matrix
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.flag() {
					skipScaling(&r, i)
				}
			}
		}
	}
	r.ue() // log2_max_frame_num
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.u(1)
		r.se()
		r.se()
		n := r.ue()
		if n > 255 {
			return 0, 0, false
		}
		for range n {
			r.se()
		}
	}
	r.ue() // reference frames
	r.u(1)
	w, h := r.ue()+1, r.ue()+1
	fields := uint32(1)
	if !r.flag() { // frame_mbs_only
		fields = 2
		r.u(1)
	}
	r.u(1)
	if w > 1024 || h > 1024 {
		return 0, 0, false
	}
	width, height = int(w)*16, int(h*fields)*16
	if r.flag() { // cropping, in units of chroma samples
		left, right, top, bottom := r.ue(), r.ue(), r.ue(), r.ue()
		x, y := uint32(1), fields
		if chroma != 0 && !separate {
			if chroma < 3 {
				x = 2
			}
			if chroma == 1 {
				y *= 2
			}
		}
		if left > 8192 || right > 8192 || top > 8192 || bottom > 8192 {
			return 0, 0, false
		}
		width -= int(x * (left + right))
		height -= int(y * (top + bottom))
	}
	return width, height, !r.short && chroma <= 3 && width > 0 && height > 0
}

// skipScaling passes over a scaling list (ITU-T H.264 §7.3.2.1.1.1).
func skipScaling(r *bits, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + r.se() + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}
