package rtp

// VP8Descriptor is the payload descriptor in front of every VP8 payload (RFC 7741 §4.2).
type VP8Descriptor struct {
	NonReference   bool  // N
	StartPartition bool  // S
	Partition      uint8 // PID

	PictureID     uint16
	PictureIDBits uint8 // 0 (absent), 7 or 15
	HasTL0PicIdx  bool  // L
	TL0PicIdx     uint8
	HasTID        bool // T
	TID           uint8
	LayerSync     bool // Y
	HasKeyIdx     bool // K
	KeyIdx        uint8

	Len int // of the descriptor: the VP8 data begins here
}

// Parse reads the descriptor of a payload. It is false, and d is empty, when the payload is too
// short for it.
func (d *VP8Descriptor) Parse(b []byte) bool {
	*d = VP8Descriptor{}
	if len(b) < 1 {
		return false
	}
	v := VP8Descriptor{
		NonReference:   b[0]&0x20 != 0,
		StartPartition: b[0]&0x10 != 0,
		Partition:      b[0] & 0x07,
		Len:            1,
	}
	if b[0]&0x80 != 0 { // X
		if len(b) < 2 {
			return false
		}
		x := b[1]
		v.Len = 2
		if x&0x80 != 0 { // I
			n := 0
			if v.PictureID, v.PictureIDBits, n = pictureID(b[v.Len:]); n == 0 {
				return false
			}
			v.Len += n
		}
		if x&0x40 != 0 { // L
			if len(b) <= v.Len {
				return false
			}
			v.HasTL0PicIdx, v.TL0PicIdx = true, b[v.Len]
			v.Len++
		}
		if x&0x30 != 0 { // T or K share a byte
			if len(b) <= v.Len {
				return false
			}
			if x&0x20 != 0 {
				v.HasTID, v.TID, v.LayerSync = true, b[v.Len]>>6, b[v.Len]&0x20 != 0
			}
			if x&0x10 != 0 {
				v.HasKeyIdx, v.KeyIdx = true, b[v.Len]&0x1f
			}
			v.Len++
		}
	}
	*d = v
	return true
}

// pictureID reads a picture id of one or two bytes, which VP8 and VP9 write alike
// (RFC 7741 §4.2, RFC 9628 §4.2). n is 0 when it is cut off.
func pictureID(b []byte) (id uint16, bits uint8, n int) {
	switch {
	case len(b) >= 1 && b[0]&0x80 == 0:
		return uint16(b[0]), 7, 1
	case len(b) >= 2:
		return uint16(b[0]&0x7f)<<8 | uint16(b[1]), 15, 2
	}
	return 0, 0, 0
}

// keyFrameVP8: the first partition of a frame starts here, and the inverse key frame bit of the
// frame header behind the descriptor is zero (RFC 7741 §4.3).
func keyFrameVP8(b []byte) bool {
	var d VP8Descriptor
	return d.Parse(b) && d.StartPartition && d.Partition == 0 && len(b) > d.Len && b[d.Len]&0x01 == 0
}

// sizeVP8 reads the frame header of a key frame (RFC 6386 §9.1).
func sizeVP8(b []byte) (width, height uint16) {
	var d VP8Descriptor
	if !d.Parse(b) || !d.StartPartition || d.Partition != 0 {
		return 0, 0
	}
	f := b[d.Len:]
	if len(f) < 10 || f[0]&0x01 != 0 || f[3] != 0x9d || f[4] != 0x01 || f[5] != 0x2a {
		return 0, 0
	}
	return (uint16(f[7])<<8 | uint16(f[6])) & 0x3fff, (uint16(f[9])<<8 | uint16(f[8])) & 0x3fff // without the scales
}
