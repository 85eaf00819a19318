package mux

import "github.com/sotto-edge/sotto/internal/rtp"

// vp8 puts VP8 frames together (RFC 7741): they are the payloads without their descriptors.
type vp8 struct{ buf []byte }

func (v *vp8) reset() { v.buf = v.buf[:0] }

func (v *vp8) starts(b []byte) bool {
	var d rtp.VP8Descriptor
	return d.Parse(b) && d.StartPartition && d.Partition == 0
}

func (v *vp8) add(b []byte) bool {
	var d rtp.VP8Descriptor
	if !d.Parse(b) || len(b) == d.Len {
		return false
	}
	v.buf = append(v.buf, b[d.Len:]...)
	return true
}

// picture reads the frame header (RFC 6386 §9.1).
func (v *vp8) picture() (Picture, bool) {
	b := v.buf
	p := Picture{Data: b}
	if len(b) < 3 {
		p.Doubtful = true
		return p, len(b) > 0
	}
	p.Key = b[0]&1 == 0
	first := int(b[0])>>5 | int(b[1])<<3 | int(b[2])<<11
	p.Doubtful = 3+first > len(b)
	if p.Key {
		if len(b) < 10 || b[3] != 0x9d || b[4] != 0x01 || b[5] != 0x2a {
			p.Doubtful = true
			return p, true
		}
		p.Width = int(b[6]) | int(b[7]&0x3f)<<8
		p.Height = int(b[8]) | int(b[9]&0x3f)<<8
		p.Doubtful = p.Doubtful || p.Width == 0 || p.Height == 0
	}
	return p, true
}
