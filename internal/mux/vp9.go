package mux

import (
	"github.com/sotto-edge/sotto/internal/bits"
	"github.com/sotto-edge/sotto/internal/rtp"
)

const maxVP9Frames = 8 // in one superframe

// vp9 puts VP9 pictures together (RFC 9628). A picture of several spatial layers is several frames, which a file holds as one
// superframe (VP9 bitstream specification, annex B).
type vp9 struct {
	buf    []byte
	begins []int // where frames begin
	ended  bool  // the frame at hand has its last packet
	key    bool  // by the descriptor of the first
}

func (v *vp9) reset() { v.buf, v.begins, v.ended, v.key = v.buf[:0], v.begins[:0], true, false }

func (v *vp9) starts(b []byte) bool {
	var d rtp.VP9Descriptor
	return d.Parse(b) && d.StartFrame && d.SID == 0
}

func (v *vp9) add(b []byte) bool {
	var d rtp.VP9Descriptor
	if !d.Parse(b) || len(b) == d.Len || d.StartFrame != v.ended {
		return false
	}
	if d.StartFrame {
		if len(v.begins) == maxVP9Frames {
			return false
		}
		if len(v.begins) == 0 {
			v.key = !d.InterPicture && d.SID == 0
		}
		v.begins = append(v.begins, len(v.buf))
	}
	v.ended = d.EndFrame
	v.buf = append(v.buf, b[d.Len:]...)
	return true
}

func (v *vp9) picture() (Picture, bool) {
	if !v.ended || len(v.begins) == 0 {
		return Picture{}, false
	}
	h, ok := parseVP9(v.buf)
	p := Picture{Key: v.key, Width: h.width, Height: h.height, Doubtful: !ok || h.key != v.key}
	if n := len(v.begins); n > 1 && !p.Doubtful {
		marker := byte(0xc0 | 3<<3 | (n - 1)) // sizes of four bytes
		v.buf = append(v.buf, marker)
		end := len(v.buf) - 1
		for i, from := range v.begins {
			to := end
			if i+1 < n {
				to = v.begins[i+1]
			}
			size := to - from
			v.buf = append(v.buf, byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
		}
		v.buf = append(v.buf, marker)
	}
	p.Data = v.buf
	return p, true
}

type vp9Header struct {
	key           bool
	width, height int
}

// parseVP9 reads the uncompressed header (VP9 bitstream specification §6.2) as far as the size of a key frame.
func parseVP9(b []byte) (vp9Header, bool) {
	r := bits.Reader{B: b}
	if r.U(2) != 2 { // frame_marker
		return vp9Header{}, false
	}
	profile := r.U(1) | r.U(1)<<1
	if profile == 3 && r.Flag() { // reserved
		return vp9Header{}, false
	}
	if r.Flag() { // show_existing_frame
		r.U(3)
		return vp9Header{}, !r.Short
	}
	h := vp9Header{key: !r.Flag()}
	r.U(2) // show_frame, error_resilient_mode
	if !h.key {
		return h, !r.Short
	}
	if r.U(24) != 0x498342 {
		return h, false
	}
	if profile >= 2 {
		r.U(1) // bit depth
	}
	if r.U(3) != 7 { // color_space, but RGB
		r.U(1)
		if profile&1 != 0 {
			r.U(3)
		}
	} else if profile&1 != 0 {
		r.U(1)
	} else {
		return h, false // RGB is of the odd profiles only
	}
	h.width, h.height = int(r.U(16))+1, int(r.U(16))+1
	return h, !r.Short
}
