package rtp

import "github.com/sotto-edge/sotto/internal/bits"

// maxSPS bounds what is read of a sequence parameter set: as much as twelve scaling lists take, and more than anybody sends.
const maxSPS = 1024

// SizeSPS reads a sequence parameter set (ITU-T H.264 §7.3.2.1.1) as far as the size of the picture. nal begins with its header. It is
// not ok where that would be of no H264 picture, as where the set is encrypted.
func SizeSPS(nal []byte) (width, height int, ok bool) {
	if len(nal) < 4 {
		return 0, 0, false
	}
	var room [maxSPS]byte
	r := bits.Reader{B: bits.Unescape(room[:0], nal[1:], len(room))}
	profile := r.U(8)
	constraints, level, set := r.U(8), r.U(8), r.UE()
	if constraints&3 != 0 || level < 9 || level > 62 || set > 31 { // two bits are reserved (§7.4.2.1.1)
		return 0, 0, false
	}
	chroma, separate := uint32(1), false
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if chroma = r.UE(); chroma == 3 {
			separate = r.Flag()
		}
		r.UE() // bit depths
		r.UE()
		r.U(1)
		if r.Flag() { // scaling matrix
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.Flag() {
					skipScaling(&r, i)
				}
			}
		}
	case 66, 77, 88:
	default:
		return 0, 0, false
	}
	r.UE() // log2_max_frame_num
	switch r.UE() {
	case 0:
		r.UE()
	case 1:
		r.U(1)
		r.SE()
		r.SE()
		n := r.UE()
		if n > 255 {
			return 0, 0, false
		}
		for range n {
			r.SE()
		}
	}
	r.UE() // reference frames
	r.U(1)
	w, h := r.UE()+1, r.UE()+1
	fields := uint32(1)
	if !r.Flag() { // frame_mbs_only
		fields = 2
		r.U(1)
	}
	r.U(1)
	if w > 1024 || h > 1024 {
		return 0, 0, false
	}
	width, height = int(w)*16, int(h*fields)*16
	if r.Flag() { // cropping, in units of chroma samples
		left, right, top, bottom := r.UE(), r.UE(), r.UE(), r.UE()
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
	return width, height, !r.Short && chroma <= 3 && width > 0 && height > 0
}

// skipScaling passes over a scaling list (ITU-T H.264 §7.3.2.1.1.1).
func skipScaling(r *bits.Reader, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + r.SE() + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}
