package layer

import "math/bits"

// Stamp says how the packets of a frame are changed for one leg. It is a plain value, the same for many packets in a row: a leg
// keeps it with its numbering (a new one whenever Stamp or offset change), and a packet that is sent again gets the same bytes.
type Stamp struct {
	picture uint16 // to be added to picture ids
	number  uint16 // to frame numbers of the dependency descriptor
	tl0     uint8
	keyIdx  uint8
	spatial uint8 // the highest spatial layer that is sent: the end of its frame ends the picture
	target  uint8 // the decode target that is sent, from 1; 0: the active ones need not be told
}

// Marker returns the RTP marker of the packet: it is the last of its picture that is sent.
func (st Stamp) Marker(in *Info) bool {
	return in.marker || in.End && !in.unknown && in.Spatial == st.spatial
}

// Patch is a change of a few bytes of a payload.
type Patch struct {
	n, at uint8
	put   [patchLen]byte
	was   [patchLen]byte
}

const patchLen = 4

// Patch returns the change of the payload's descriptor.
func (st Stamp) Patch(in *Info, payload []byte) Patch {
	var p Patch
	first, end := uint8(0), uint8(0)
	if in.pictureAt > 0 && st.picture != 0 {
		first, end = in.pictureAt, in.pictureAt+pictureLen(in.pictureBits)
	}
	tl0 := in.tl0At > 0 && st.tl0 != 0
	if tl0 {
		first, end = earlier(first, in.tl0At), in.tl0At+1
	}
	keyIdx := in.keyAt > 0 && st.keyIdx != 0
	if keyIdx {
		first, end = earlier(first, in.keyAt), in.keyAt+1
	}
	if end == 0 || int(end) > len(payload) {
		return p
	}
	p.at, p.n = first, end-first
	copy(p.put[:p.n], payload[first:end])
	if in.pictureAt > 0 && st.picture != 0 {
		id := in.pictureID + st.picture
		if in.pictureBits == 15 {
			p.put[0], p.put[1] = 0x80|byte(id>>8), byte(id)
		} else {
			p.put[0] = byte(id) & 0x7f
		}
	}
	if tl0 {
		p.put[in.tl0At-first] = in.tl0 + st.tl0
	}
	if keyIdx {
		b := &p.put[in.keyAt-first]
		*b = *b&^0x1f | (in.keyIdx+st.keyIdx)&0x1f
	}
	return p
}

func earlier(first, at uint8) uint8 {
	if first == 0 {
		return at
	}
	return first
}

// Apply makes the change in the payload that it was made for. Undo takes it back.
func (p *Patch) Apply(payload []byte) {
	copy(p.was[:p.n], payload[p.at:])
	copy(payload[p.at:], p.put[:p.n])
}

// Undo puts back what Apply has overwritten.
func (p *Patch) Undo(payload []byte) { copy(payload[p.at:], p.was[:p.n]) }

// MaxGrowth is by how many bytes a dependency descriptor grows at most.
const MaxGrowth = (flagsBits + maxDecodeTargets + 7) / 8

// AppendDependency appends to dst the dependency descriptor, changed: with the frame number that the receiver expects and, when it
// does not get all decode targets, those that it gets (appendix A.4). What is there before must leave room for MaxGrowth.
func (st Stamp) AppendDependency(dst []byte, in *Info, dependency []byte) []byte {
	if !in.described || len(dependency) < mandatoryLen {
		return append(dst, dependency...)
	}
	from := len(dst)
	if mask, ok := st.mask(in); ok {
		dst = in.appendMasked(dst, dependency, mask)
	} else {
		dst = append(dst, dependency...)
	}
	n := in.number + st.number
	dst[from+1], dst[from+2] = byte(n>>8), byte(n)
	return dst
}

// mask returns the active decode targets to be told, by index.
func (st Stamp) mask(in *Info) (uint32, bool) {
	if st.target == 0 || in.st == nil || st.target > in.st.targets {
		return 0, false
	}
	mask := in.activeRaw & in.st.within[st.target-1]
	if mask == 0 { // what is sent is not active: say nothing false
		return 0, false
	}
	return mask, true
}

// appendMasked appends the descriptor with these active decode targets, which stand behind the structure.
func (in *Info) appendMasked(dst, b []byte, mask uint32) []byte {
	from := len(dst)
	n := int(in.st.targets)
	r := bitReader{b: b}
	dst, used := appendBits(dst, 0, r.read(8*mandatoryLen), 8*mandatoryLen)
	if len(b) == mandatoryLen {
		dst, used = appendBits(dst, used, flagActive>>(8-flagsBits), flagsBits)
		dst, _ = appendBits(dst, used, mask, n)
		return dst
	}
	for r.at < int(in.maskAt) {
		k := min(32, int(in.maskAt)-r.at)
		dst, used = appendBits(dst, used, r.read(k), k)
	}
	dst[from+mandatoryLen] |= flagActive
	dst, used = appendBits(dst, used, mask, n)
	if in.masked {
		r.read(n)
	}
	for r.at < int(in.used) {
		k := min(32, int(in.used)-r.at)
		dst, used = appendBits(dst, used, r.read(k), k)
	}
	return dst
}

// top returns the highest of a set of decode targets.
func top(set uint64) uint8 { return uint8(bits.Len64(set) - 1) }
