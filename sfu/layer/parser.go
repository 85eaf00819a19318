package layer

import (
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
)

const (
	// reach is how far back frames are remembered and refer, in frame numbers. What comes later than that is too late. What jumps
	// further ahead without being a key frame is either left over from before the numbers began anew, and must not move the stream
	// to where it would be too late for all that follows, or comes after so long a gap that only a key frame helps.
	reach = 256
	// restart is the longest way that a key frame jumps forward in the same numbers. At one that jumps further, or back over what
	// is remembered, they begin anew: an encoder was replaced.
	restart = 2048
	// base is the first unwrapped number: late frames may lie below the first that came.
	base = 1 << 20
)

const (
	remembered = 3              // structures whose frames may still come late, or be asked for again
	structures = remembered + 2 // and those that packets of one batch may hold on to besides: see Info
)

// Parser reads the packets of one received stream. The zero Parser is ready.
type Parser struct {
	source  source
	started bool
	epoch   uint32
	highest int64 // frame number
	spatial uint8 // of the frame with it
	ended   bool  // a marker was seen since the last picture began

	descriptors *descriptors // made when the first structure comes

	layers Layers
	size   Size
}

// descriptors is what a stream's dependency descriptors have told.
type descriptors struct {
	rooms  [structures]*structure // made when they are first needed
	n      uint32
	known  [remembered]known // the newest first
	active uint32            // decode targets, by index
}

// known is a structure and the number of the key frame with which it came.
type known struct {
	st   *structure
	from int64
}

// Layers returns how many layers the stream has: what it announced last, or else what was seen.
func (p *Parser) Layers() Layers { return p.layers }

// Size is the size of a picture.
type Size struct{ Width, Height uint32 }

// Pixels returns how many pixels the picture has.
func (s Size) Pixels() uint32 { return s.Width * s.Height }

// Size returns how large the pictures of the highest spatial layer are, as the last key frame that told it says; the zero Size before.
func (p *Parser) Size() Size { return p.size }

// Parse reads a packet as it comes in: the dependency descriptor, nil without one, the payload without padding, and the RTP marker.
// What it cannot make sense of gives an Info that switches nothing and begins nothing.
func (p *Parser) Parse(c rtp.Codec, dependency, payload []byte, marker bool) Info {
	return p.parse(c, dependency, payload, marker, true)
}

// Peek reads a packet that was parsed before, when it is sent again. It gives what a Stamp needs and learns nothing.
func (p *Parser) Peek(c rtp.Codec, dependency, payload []byte, marker bool) Info {
	return p.parse(c, dependency, payload, marker, false)
}

func (p *Parser) parse(c rtp.Codec, dependency, payload []byte, marker, learn bool) Info {
	in := Info{marker: marker, End: marker, epoch: p.epoch}
	var number uint16
	width := uint8(0) // bits of number; 0: the frames have none
	switch c {
	case rtp.VP8:
		number, width = in.vp8(payload)
	case rtp.VP9:
		number, width = in.vp9(payload)
	default:
		in.Key = rtp.KeyFrame(c, payload)
		in.Start = in.Key || p.ended || !p.started
		in.present, in.need, in.active = 1, 1, 1
		if in.Key {
			in.begin = 1
		}
	}
	if learn && in.Key {
		if w, h := rtp.PictureSize(c, payload); w != 0 {
			p.size = Size{Width: uint32(w), Height: uint32(h)}
		}
	}
	var fresh *structure
	if len(dependency) >= mandatoryLen {
		fresh = p.describe(&in, dependency, learn)
		if in.source == sourceDescriptor {
			number, width = in.number, 16
		}
	}
	if learn {
		p.place(&in, number, width, fresh)
		p.count(&in)
		if in.source == sourceVP9 {
			in.active = ^uint64(0) >> (64 - 8*p.layers.Spatial) // more than there are would do without the highest (RFC 9628 §4.2, Z)
		}
	}
	return in
}

// vp8 reads a VP8 payload descriptor.
func (in *Info) vp8(payload []byte) (number uint16, width uint8) {
	var d rtp.VP8Descriptor
	in.source = sourceVP8
	if !d.Parse(payload) {
		in.unknown = true
		return 0, 0
	}
	in.Start = d.StartPartition && d.Partition == 0
	in.Key = in.Start && len(payload) > d.Len && payload[d.Len]&0x01 == 0 // the inverse key frame bit (RFC 7741 §4.3)
	in.Temporal = d.TID
	in.sync = d.LayerSync && d.TID > 0
	in.Switch = in.Key || in.sync
	at := uint8(2)
	if d.PictureIDBits != 0 {
		in.pictureID, in.pictureBits, in.pictureAt, in.gapless = d.PictureID, d.PictureIDBits, at, true
		at += pictureLen(d.PictureIDBits)
	}
	if d.HasTL0PicIdx {
		in.tl0, in.tl0At = d.TL0PicIdx, at
		at++
	}
	if d.HasKeyIdx {
		in.keyIdx, in.keyAt = d.KeyIdx, at
	}
	return d.PictureID, d.PictureIDBits
}

// Decode targets of VP9 are those that its layers make: with the layers s and t, bit 8s+t.
const (
	column = uint64(0x0101010101010101)
	row    = uint64(0xff)
)

// vp9 reads a VP9 payload descriptor.
func (in *Info) vp9(payload []byte) (number uint16, width uint8) {
	var d rtp.VP9Descriptor
	in.source = sourceVP9
	if !d.Parse(payload) {
		in.unknown = true
		return 0, 0
	}
	in.Start, in.End = d.StartFrame, d.EndFrame || in.marker
	in.Key = d.StartFrame && !d.InterPicture && d.SID == 0
	in.Spatial, in.Temporal = d.SID, d.TID
	in.up = d.SwitchingUp
	in.announced = d.SpatialLayers

	upper := row << d.TID & row // the temporal layers that have this one
	if d.NotReference {
		in.present = upper << (8 * d.SID) // higher spatial layers do without (RFC 9628 §4.2, Z)
	} else {
		in.present = column << (8 * d.SID) * upper
	}
	in.need = in.present
	switch {
	case !d.InterPicture && d.SID == 0:
		in.begin = ^uint64(0)
	case !d.InterPicture && d.InterLayer:
		in.begin = upper << (8 * d.SID)
	}
	in.Switch = in.begin != 0 || d.SwitchingUp
	if d.InterLayer && d.SID > 0 {
		in.refer(1)
	}
	if d.InterPicture {
		in.blind = !d.Flexible
		for _, diff := range d.Differences[:d.NumDifferences] {
			in.refer(8 * uint32(diff))
		}
	}
	if d.PictureIDBits != 0 {
		in.pictureID, in.pictureBits, in.pictureAt = d.PictureID, d.PictureIDBits, 1
	}
	if d.HasLayers && !d.Flexible {
		in.tl0, in.tl0At = d.TL0PicIdx, 2+pictureLen(d.PictureIDBits)
	}
	return d.PictureID, d.PictureIDBits
}

// pictureLen is the length of a picture id of so many bits.
func pictureLen(bits uint8) uint8 { return (bits + 1) / 8 }

// describe reads a dependency descriptor into in, and returns the structure it brings if that is not the current one. Codecs that
// have descriptors of their own use it only once a structure came.
func (p *Parser) describe(in *Info, b []byte, learn bool) (fresh *structure) {
	r := bitReader{b: b}
	var d descriptor
	if !d.mandatory(&r) {
		return nil
	}
	in.number, in.described = d.number, true
	ds := p.descriptors
	var st *structure
	switch {
	case d.hasStructure && learn:
		if ds == nil {
			ds = new(descriptors)
			p.descriptors = ds
		}
		st = ds.spare()
		size, ok := st.parse(&r)
		if !d.start || !ok {
			in.obscure(&d)
			return nil
		}
		if size != (Size{}) {
			p.size = size
		}
		if known := ds.like(st); known != nil {
			st = known
		}
		fresh = st
	case d.hasStructure:
		var tmp structure
		if _, ok := tmp.parse(&r); ok && d.start {
			st = ds.like(&tmp)
		}
	case ds == nil || ds.known[0].st == nil:
		if in.source == sourceNone {
			in.obscure(&d)
		}
		return nil
	case p.source == sourceDescriptor:
		st = ds.of(unwrap(p.highest, d.number, 16))
	}
	was := *in
	if st == nil || !d.frame(&r, st, in) {
		*in = was
		in.obscure(&d)
		return nil
	}
	in.source, in.unknown = sourceDescriptor, false
	in.Start, in.End = d.start, d.end || in.marker
	in.Key = d.hasStructure
	in.up, in.sync = false, false
	in.Switch = in.begin != 0
	if !in.masked {
		in.activeRaw = ds.active
		if d.hasStructure {
			in.activeRaw = st.all()
		}
	}
	in.active = st.ranked(in.activeRaw & st.all())
	return fresh
}

// obscure makes the best of a descriptor whose structure is not known: the frame belongs to everything, and begins nothing.
func (in *Info) obscure(d *descriptor) {
	in.source, in.unknown, in.blind = sourceDescriptor, true, true
	in.Start, in.End = d.start, d.end || in.marker
	in.Key, in.Switch, in.up, in.sync = false, false, false, false
	in.Spatial, in.Temporal = 0, 0
	in.present, in.need, in.begin, in.active = ^uint64(0), 0, 0, 0
	in.nrefs, in.st, in.masked = 0, nil, false
}

// spare returns room for a structure that no packet at hand uses.
func (d *descriptors) spare() *structure {
	for i := d.n; ; i++ {
		room := &d.rooms[i%structures]
		if *room == nil {
			*room = new(structure)
		}
		if !slices.ContainsFunc(d.known[:], func(k known) bool { return k.st == *room }) {
			return *room
		}
	}
}

// like returns the structure with the content of st, or nil.
func (d *descriptors) like(st *structure) *structure {
	if d == nil {
		return nil
	}
	for _, k := range d.known {
		if k.st != nil {
			st.gen = k.st.gen
			if *st == *k.st {
				return k.st
			}
		}
	}
	return nil
}

// learn makes st the structure of the frames from this one to the next that brought one.
func (d *descriptors) learn(st *structure, frame int64, anew bool) {
	if !slices.ContainsFunc(d.known[:], func(k known) bool { return k.st == st }) {
		d.n++
		st.gen = d.n
	}
	if anew {
		d.known = [remembered]known{{st, frame}}
		return
	}
	for i := range d.known {
		k := &d.known[i]
		switch {
		case k.st == nil || frame >= k.from:
			if k.st != st {
				copy(d.known[i+1:], d.known[i:])
				*k = known{st, frame}
			}
			return
		case k.st == st: // a late one, whose structure was the same as the next
			k.from = frame
			return
		}
	}
}

// of returns the structure that a frame without one is of, or nil.
func (d *descriptors) of(frame int64) *structure {
	for _, k := range d.known {
		if k.st != nil && frame >= k.from {
			return k.st
		}
	}
	return nil
}

// unwrap takes a number of so many bits to the one nearest to highest.
func unwrap(highest int64, number uint16, width uint8) int64 {
	shift := 16 - width
	return highest + int64(int16((number-uint16(highest))<<shift)>>shift)
}

// place gives the frame its number, and notes where the stream stands.
func (p *Parser) place(in *Info, number uint16, width uint8, fresh *structure) {
	anew := !p.started || in.source != p.source && in.Key
	switch {
	case anew:
		p.source, p.started = in.source, true
	case in.source != p.source:
		in.unknown, in.blind, in.Key, in.begin = true, true, false, 0
		in.frame = p.highest
		return
	}
	unit, spatial := int64(1), int64(0)
	if p.source == sourceVP9 { // the layers of a picture share its number
		unit, spatial = 8, int64(in.Spatial)
	}
	picture := p.highest / unit
	if width > 0 {
		picture = unwrap(picture, number, width)
		frame := picture*unit + spatial
		switch {
		case anew:
		case in.Key:
			anew = frame > p.highest+restart*unit || frame <= p.highest-reach
		case frame > p.highest+reach:
			in.unknown, in.blind, in.astray, in.begin = true, true, true, 0
			in.frame = p.highest - reach
			return
		}
	} else if in.Start && in.Spatial <= p.spatial { // in the order they come
		picture++
	}
	if anew {
		// Far above what was, so that nothing of before is taken for late.
		picture = (p.highest/unit+base)&^(1<<16-1) + int64(number)
		p.highest, p.ended = picture*unit-1, true
		p.epoch++
	}
	in.frame, in.epoch = picture*unit+spatial, p.epoch
	if fresh != nil {
		p.descriptors.learn(fresh, in.frame, anew)
	}
	if in.frame > p.highest {
		in.first = p.ended || in.Spatial <= p.spatial
		p.highest, p.spatial, p.ended = in.frame, in.Spatial, false
		if in.st != nil && in.st == p.descriptors.known[0].st {
			p.descriptors.active = in.activeRaw
		}
	}
	if in.frame == p.highest && in.marker {
		p.ended = true
	}
}

// count keeps the number of layers.
func (p *Parser) count(in *Info) {
	switch {
	case in.unknown:
	case in.st != nil:
		p.layers = Layers{Spatial: in.st.spatial, Temporal: in.st.temporal}
	default:
		if in.announced > 0 && in.Key {
			p.layers.Spatial = in.announced
		}
		p.layers.Spatial = max(p.layers.Spatial, in.Spatial+1)
		p.layers.Temporal = max(p.layers.Temporal, in.Temporal+1)
	}
}
