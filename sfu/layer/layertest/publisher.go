// Package layertest has what tests of switched layers need: publishers of every kind of stream, whose payload is noise behind what is
// clear, and receivers that decode what comes of it and forgive nothing.
//
// It writes and reads the formats by the book and shares no code with package layer, so that neither excuses the other's mistakes. It
// encodes no pictures.
package layertest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Decode target indications (https://aomediacodec.github.io/av1-rtp-spec/, table A.1).
const (
	dtiNotPresent = iota
	dtiDiscardable
	dtiSwitch
	dtiRequired
)

// picPattern is the usual order of temporal layers.
var picPattern = [4]uint8{0, 2, 1, 2}

// Frame is a layer frame as its encoder knows it.
type Frame struct {
	UID      int // over all streams: its place in the list of frames
	Stream   int
	Picture  int // since the start of the stream
	SID, TID uint8
	Key      bool // its picture is a key picture

	sync   bool
	fresh  bool  // refers to the spatial layer below only, as all higher ones of the picture
	refs   []int // UIDs
	number uint16
	fdiffs []int
	chains []int
	dti    []uint8 // by decode target
}

// Packet is one packet of it.
type Packet struct {
	Frame   *Frame
	Codec   rtp.Codec
	Ext     int64 // extended sequence number
	Marker  bool
	Payload []byte
	DD      []byte // dependency descriptor; nil without one
}

// Publisher makes one stream. Set the fields of its kind and hand it to New.
type Publisher struct {
	Codec      rtp.Codec
	Stream     int // its place among those of the track
	Spatial    int
	Temporal   int
	KSVC       bool
	Shift      bool
	Flexible   bool // VP9
	NoUp       bool // VP9: U is never set
	Descriptor bool
	HighFirst  bool // order of decode targets
	Custom     bool // some frames do without their template
	Opaque     bool // not even what codecs without a payload descriptor have in front can be read
	Noise      int  // bytes of a packet behind what is clear, about

	// These may be changed between pictures.
	Off     int    // spatial layers that are switched off
	Refresh bool   // the next base picture refreshes the upper spatial layers from the lowest, see LRR
	PID     uint16 // picture id
	TL0     uint8
	Number  uint16 // frame number

	r        *rand.Rand
	frames   *[]*Frame
	ext      int64
	keyIdx   uint8
	count    int // pictures
	sinceKey int
	lastOf   [4][3]*Frame // by layer
	chain    [4]*Frame
	offset   uint8
	temps    []*Frame // templates
}

// New makes a publisher of the kind of p. All streams of a test share one list of frames.
func New(p Publisher, seed uint64, frames *[]*Frame) *Publisher {
	p.r = rand.New(rand.NewPCG(seed, uint64(p.Stream)))
	p.frames = frames
	p.ext = 1<<16 + p.r.Int64N(1<<15)
	p.PID, p.TL0, p.keyIdx = uint16(p.r.UintN(1<<15)), uint8(p.r.UintN(256)), uint8(p.r.UintN(32))
	p.Number = uint16(p.r.UintN(1 << 16))
	p.Spatial, p.Temporal = max(p.Spatial, 1), max(p.Temporal, 1)
	if p.Descriptor {
		p.learnTemplates()
	}
	return &p
}

func (p *Publisher) tid(sid int) uint8 {
	if p.Temporal == 1 || p.sinceKey == 0 {
		return 0
	}
	i := p.sinceKey
	if p.Shift {
		i = p.sinceKey + [3]int{3, 2, 0}[sid]
	}
	return picPattern[i%4]
}

// Next makes the packets of the next picture.
func (p *Publisher) Next(key bool) []*Packet {
	if key || p.count == 0 {
		key = true
		p.sinceKey = 0
		p.keyIdx++
		p.lastOf, p.chain = [4][3]*Frame{}, [4]*Frame{}
		if p.Descriptor && p.r.IntN(2) == 0 {
			p.offset = (p.offset + uint8(len(p.temps))) % 64
		}
	}
	p.PID = (p.PID + 1) & 0x7fff
	if p.tid(0) == 0 {
		p.TL0++
	}
	var out []*Packet
	top := p.Spatial - p.Off
	var below *Frame
	fresh := p.Refresh && !key && p.tid(0) == 0
	if fresh {
		p.Refresh = false
	}
	for sid := range top {
		f := p.encode(sid, key, fresh, below)
		below = f
		n := 1 + p.r.IntN(3)
		for i := range n {
			pk := &Packet{Frame: f, Codec: p.Codec, Ext: p.ext, Marker: sid == top-1 && i == n-1}
			p.ext++
			pk.Payload = p.payload(f, i, n)
			if p.Descriptor {
				pk.DD = p.describe(f, i, n)
			}
			out = append(out, pk)
		}
	}
	p.count++
	p.sinceKey++
	return out
}

// encode makes the frame of one spatial layer.
func (p *Publisher) encode(sid int, key, fresh bool, below *Frame) *Frame {
	p.Number++
	f := &Frame{UID: len(*p.frames), Stream: p.Stream, Picture: p.count, SID: uint8(sid), TID: p.tid(sid), Key: key, fresh: fresh && sid > 0, number: p.Number}
	*p.frames = append(*p.frames, f)
	var refs []*Frame
	if !key && !f.fresh {
		last := &p.lastOf[sid]
		switch {
		case p.Codec == rtp.VP8 && !p.Descriptor: // what a receiver takes a frame to need
			f.sync = f.TID > 0 && p.sinceKey%8 < 3
			refs = append(refs, last[0])
			if !f.sync {
				for t := 1; t <= int(f.TID); t++ {
					if last[t] != nil {
						refs = append(refs, last[t])
					}
				}
			}
		case f.TID == 2 && last[1] != nil && last[1].UID > last[0].UID:
			refs = append(refs, last[1])
		default:
			f.sync = p.Codec == rtp.VP8 && f.TID > 0
			refs = append(refs, last[0])
		}
	}
	if below != nil && (key || f.fresh || !p.KSVC) {
		refs = append(refs, below)
	}
	for _, ref := range refs {
		f.refs = append(f.refs, ref.UID)
		f.fdiffs = append(f.fdiffs, int(f.number-ref.number))
	}
	p.lastOf[sid][f.TID] = f
	for c := range p.Spatial {
		diff := 0
		if p.chain[c] != nil {
			diff = int(f.number - p.chain[c].number)
		}
		if f.fresh && sid == 1 && c >= sid {
			diff = 0 // the upper layers need nothing of before
		}
		f.chains = append(f.chains, diff)
	}
	for c := range p.Spatial {
		if f.TID == 0 && (sid == c || sid < c && (key || !p.KSVC)) {
			p.chain[c] = f
		}
	}
	for s := range p.Spatial {
		for t := range p.Temporal {
			f.dti = append(f.dti, p.indication(f, uint8(s), uint8(t)))
		}
	}
	if p.HighFirst {
		slices.Reverse(f.dti)
	}
	return f
}

// indication is what appendix A.10.2 has in its tables.
func (p *Publisher) indication(f *Frame, s, t uint8) uint8 {
	switch {
	case s < f.SID || t < f.TID:
		return dtiNotPresent
	case f.Key, f.fresh:
		return dtiSwitch
	case p.KSVC && s > f.SID:
		return dtiNotPresent
	case s == f.SID && f.TID > 0 && t == f.TID:
		return dtiDiscardable
	case s == f.SID:
		return dtiSwitch
	}
	return dtiRequired
}

// payload writes the codec's descriptor, and behind it, for the decoder to know, which packet it is.
func (p *Publisher) payload(f *Frame, i, n int) []byte {
	var b []byte
	switch p.Codec {
	case rtp.VP8:
		first := byte(0x80)
		if i == 0 {
			first |= 0x10
		}
		layer := f.TID<<6 | p.keyIdx&0x1f
		if f.sync {
			layer |= 0x20
		}
		b = append(b, first, 0xf0, 0x80|byte(p.PID>>8), byte(p.PID), p.TL0, layer)
		if f.Key {
			b = append(b, 0x10)
		} else {
			b = append(b, 0x11)
		}
	case rtp.VP9:
		b = p.vp9(f, i, n)
	case rtp.AV1:
		first := byte(0x10)
		if f.Key && f.SID == 0 && i == 0 {
			first |= 0x08
		}
		if !p.Opaque {
			b = append(b, first, 0)
		}
	}
	return p.seal(b, f.UID, i, n)
}

func (p *Publisher) vp9(f *Frame, i, n int) []byte {
	first := byte(0xa0)
	if !f.Key && !f.fresh {
		first |= 0x40
	}
	if p.Flexible {
		first |= 0x10
	}
	if i == 0 {
		first |= 0x08
	}
	if i == n-1 {
		first |= 0x04
	}
	structured := f.Key && f.SID == 0 && i == 0
	if structured {
		first |= 0x02
	}
	if int(f.SID) == p.Spatial-1 || p.KSVC && !f.Key {
		first |= 0x01
	}
	layer := f.TID<<5 | f.SID<<1
	if f.TID < 2 && !p.NoUp {
		layer |= 0x10 // this pattern never looks back over a lower layer
	}
	if f.SID > 0 && (f.Key || !p.KSVC) {
		layer |= 0x01
	}
	b := []byte{first, 0x80 | byte(p.PID>>8), byte(p.PID), layer}
	if !p.Flexible {
		b = append(b, p.TL0)
	} else if !f.Key && !f.fresh {
		back := f.Picture - (*p.frames)[f.refs[0]].Picture
		b = append(b, byte(back)<<1)
	}
	if structured {
		ss := byte(p.Spatial-1)<<5 | 0x10
		if !p.Flexible {
			ss |= 0x08
		}
		b = append(b, ss)
		for s := range p.Spatial {
			b = binary.BigEndian.AppendUint16(b, uint16(p.width(s)))
			b = binary.BigEndian.AppendUint16(b, uint16(p.height(s)))
		}
		if !p.Flexible {
			b = append(b, 4, 0x14, 4, 0x54, 1, 0x34, 2, 0x54, 1) // N_G, then T, U, R and P_DIFF of each
		}
	}
	return b
}

// width and height are the size of a spatial layer's pictures: those of each simulcast stream, and of each layer, are twice as wide.
func (p *Publisher) width(sid int) int  { return 320 << (p.Stream + sid) }
func (p *Publisher) height(sid int) int { return 180 << (p.Stream + sid) }

// idLen is the length of what says which packet it is: the frame, its place and how many there are.
const idLen = 4 + 1 + 1

// seal appends noise and, so that only a receiver that looks for it can tell it from that, which packet it is.
func (p *Publisher) seal(b []byte, uid, i, n int) []byte {
	noise := idLen
	if p.Noise > 0 {
		noise += p.Noise/2 + p.r.IntN(p.Noise)
	}
	for range noise {
		b = append(b, byte(p.r.UintN(256)))
	}
	mask := b[len(b)-idLen:]
	b = binary.BigEndian.AppendUint32(b, uint32(uid))
	b = append(b, byte(i), byte(n))
	for k, m := range mask {
		b[len(b)-idLen+k] ^= m
	}
	return b
}

// unseal reads it; false if b is too short to be of a Publisher.
func unseal(b []byte) (uid, n int, ok bool) {
	if len(b) < 2*idLen {
		return 0, 0, false
	}
	var id [idLen]byte
	for k := range id {
		id[k] = b[len(b)-idLen+k] ^ b[len(b)-2*idLen+k]
	}
	return int(binary.BigEndian.Uint32(id[:])), int(id[5]), true
}

// learnTemplates finds the templates of the Stream: all the combinations that a while of it has.
func (p *Publisher) learnTemplates() {
	dry := *p
	var frames []*Frame
	dry.frames, dry.r, dry.Descriptor, dry.Off = &frames, rand.New(rand.NewPCG(1, 1)), false, 0
	for range 14 {
		dry.Next(false)
	}
	slices.SortStableFunc(frames, func(a, b *Frame) int {
		if a.SID != b.SID {
			return int(a.SID) - int(b.SID)
		}
		return int(a.TID) - int(b.TID)
	})
	for _, f := range frames {
		if !slices.ContainsFunc(p.temps, f.alike) {
			p.temps = append(p.temps, f)
		}
	}
}

func (f *Frame) alike(o *Frame) bool {
	return f.SID == o.SID && f.TID == o.TID && slices.Equal(f.fdiffs, o.fdiffs) && slices.Equal(f.chains, o.chains) && slices.Equal(f.dti, o.dti)
}

// bitWriter writes numbers from high to low order.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) put(v, n int) {
	for ; n > 0; n-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>(n-1)&1) << (7 - w.n%8)
		w.n++
	}
}

func (w *bitWriter) flag(v bool) {
	if v {
		w.put(1, 1)
		return
	}
	w.put(0, 1)
}

// putNonSymmetric is write_ns of appendix A.8.2.
func (w *bitWriter) putNonSymmetric(n, v int) {
	if n == 1 {
		return
	}
	width := 0
	for x := n; x != 0; x >>= 1 {
		width++
	}
	m := 1<<width - n
	if v < m {
		w.put(v, width-1)
	} else {
		w.put(v+m, width)
	}
}

// describe writes the dependency descriptor of a packet.
func (p *Publisher) describe(f *Frame, i, n int) []byte {
	at := slices.IndexFunc(p.temps, f.alike)
	custom := p.Custom && f.UID%3 == 0 || at < 0
	if custom {
		at = slices.IndexFunc(p.temps, func(t *Frame) bool { return t.SID == f.SID && t.TID == f.TID })
	}
	var w bitWriter
	w.flag(i == 0)
	w.flag(i == n-1)
	w.put((at+int(p.offset))%64, 6)
	w.put(int(f.number), 16)
	structured := f.Key && f.SID == 0 && i == 0
	active := p.Off > 0 && (f.Key || f.UID%4 == 0)
	if !custom && !structured && !active {
		return w.b
	}
	w.flag(structured)
	w.flag(active)
	w.flag(custom)
	w.flag(custom)
	w.flag(custom)
	if structured {
		p.structure(&w)
	}
	if active {
		mask := 0
		for d := range f.dti {
			layer := d
			if p.HighFirst {
				layer = len(f.dti) - 1 - d
			}
			if layer/p.Temporal < p.Spatial-p.Off {
				mask |= 1 << d
			}
		}
		w.put(mask, len(f.dti))
	}
	if custom {
		for _, v := range f.dti {
			w.put(int(v), 2)
		}
		for _, v := range f.fdiffs {
			size := 1
			if v > 16 {
				size = 2
			}
			w.put(size, 2)
			w.put(v-1, 4*size)
		}
		w.put(0, 2)
		for _, v := range f.chains {
			w.put(min(v, 255), 8)
		}
	}
	return w.b
}

func (p *Publisher) structure(w *bitWriter) {
	targets := p.Spatial * p.Temporal
	w.put(int(p.offset), 6)
	w.put(targets-1, 5)
	for i, t := range p.temps {
		idc := 3
		if i+1 < len(p.temps) {
			next := p.temps[i+1]
			switch {
			case next.SID > t.SID:
				idc = 2
			case next.TID > t.TID:
				idc = 1
			default:
				idc = 0
			}
		}
		w.put(idc, 2)
	}
	for _, t := range p.temps {
		for _, v := range t.dti {
			w.put(int(v), 2)
		}
	}
	for _, t := range p.temps {
		for _, v := range t.fdiffs {
			w.put(1, 1)
			w.put(v-1, 4)
		}
		w.put(0, 1)
	}
	w.putNonSymmetric(targets+1, p.Spatial)
	for d := range targets {
		s := d / p.Temporal
		if p.HighFirst {
			s = (targets - 1 - d) / p.Temporal
		}
		w.putNonSymmetric(p.Spatial, s)
	}
	for _, t := range p.temps {
		for _, v := range t.chains {
			w.put(min(v, 15), 4)
		}
	}
	w.flag(true)
	for s := range p.Spatial {
		w.put(p.width(s)-1, 16)
		w.put(p.height(s)-1, 16)
	}
}
