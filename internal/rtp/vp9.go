package rtp

import "encoding/binary"

// maxVP9References is the most reference indices a picture lists (RFC 9628 §4.2).
const maxVP9References = 3

// VP9Descriptor is the payload descriptor in front of every VP9 payload (RFC 9628 §4.2).
type VP9Descriptor struct {
	InterPicture bool // P: predicted from an earlier picture
	Flexible     bool // F
	StartFrame   bool // B
	EndFrame     bool // E
	NotReference bool // Z: not a reference for upper spatial layers

	PictureID     uint16
	PictureIDBits uint8 // 0 (absent), 7 or 15
	HasLayers     bool  // L
	TID           uint8
	SwitchingUp   bool // U
	SID           uint8
	InterLayer    bool  // D: predicted from the spatial layer below
	TL0PicIdx     uint8 // with HasLayers, not in flexible mode

	// Differences are the picture ids between this picture and those it is predicted from (P_DIFF), in flexible mode.
	Differences    [maxVP9References]uint8
	NumDifferences uint8

	HasStructure  bool   // V: a scalability structure follows
	SpatialLayers uint8  // that the structure speaks of (N_S+1)
	Width, Height uint16 // of the highest of them, 0 if it does not say (Y)
	Len           int    // of the descriptor: the VP9 data begins here
}

// Parse reads the descriptor of a payload. It is false, and d is empty, when the payload is too
// short for it.
func (d *VP9Descriptor) Parse(b []byte) bool {
	*d = VP9Descriptor{}
	if len(b) < 1 {
		return false
	}
	v := VP9Descriptor{
		InterPicture: b[0]&0x40 != 0,
		Flexible:     b[0]&0x10 != 0,
		StartFrame:   b[0]&0x08 != 0,
		EndFrame:     b[0]&0x04 != 0,
		HasStructure: b[0]&0x02 != 0,
		NotReference: b[0]&0x01 != 0,
		Len:          1,
	}
	if b[0]&0x80 != 0 { // I
		n := 0
		if v.PictureID, v.PictureIDBits, n = pictureID(b[v.Len:]); n == 0 {
			return false
		}
		v.Len += n
	}
	if b[0]&0x20 != 0 { // L
		if len(b) <= v.Len {
			return false
		}
		x := b[v.Len]
		v.HasLayers, v.TID, v.SwitchingUp, v.SID, v.InterLayer = true, x>>5, x&0x10 != 0, x>>1&0x07, x&0x01 != 0
		v.Len++
		if !v.Flexible {
			if len(b) <= v.Len {
				return false
			}
			v.TL0PicIdx = b[v.Len]
			v.Len++
		}
	}
	if v.Flexible && v.InterPicture {
		for n, more := 0, true; more; n++ { // P_DIFF, N
			if len(b) <= v.Len || n == maxVP9References {
				return false
			}
			v.Differences[n], v.NumDifferences = b[v.Len]>>1, uint8(n)+1
			more = b[v.Len]&0x01 != 0
			v.Len++
		}
	}
	if v.HasStructure {
		n := structureLen(b[v.Len:])
		if n == 0 {
			return false
		}
		v.SpatialLayers = b[v.Len]>>5 + 1
		if b[v.Len]&0x10 != 0 { // Y
			at := b[v.Len+1+4*int(v.SpatialLayers-1):]
			v.Width, v.Height = binary.BigEndian.Uint16(at), binary.BigEndian.Uint16(at[2:])
		}
		v.Len += n
	}
	*d = v
	return true
}

// structureLen measures a scalability structure (RFC 9628 §4.2.1); 0 when it is cut off.
func structureLen(b []byte) int {
	if len(b) < 1 {
		return 0
	}
	n := 1
	if b[0]&0x10 != 0 { // Y: width and height of each of the N_S+1 layers
		n += 4 * (int(b[0]>>5) + 1)
	}
	if b[0]&0x08 != 0 { // G: picture group
		if len(b) <= n {
			return 0
		}
		pictures := int(b[n])
		n++
		for range pictures {
			if len(b) <= n {
				return 0
			}
			n += 1 + int(b[n]>>2&0x03) // R reference indices
		}
	}
	if len(b) < n {
		return 0
	}
	return n
}

// keyFrameVP9: a frame of the lowest spatial layer starts here that uses no earlier picture
// (RFC 9628 §4.2). The uncompressed header is not asked: it may be encrypted.
func keyFrameVP9(b []byte) bool {
	var d VP9Descriptor
	return d.Parse(b) && !d.InterPicture && d.StartFrame && d.SID == 0
}
