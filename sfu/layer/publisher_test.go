package layer

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// picPattern is the usual order of temporal layers.
var picPattern = [4]uint8{0, 2, 1, 2}

// simFrame is a layer frame as its encoder knows it.
type simFrame struct {
	uid      int // over all streams
	stream   int
	picture  int // since the start of the stream
	sid, tid uint8
	key      bool // its picture is a key picture
	sync     bool
	fresh    bool  // refers to the spatial layer below only, as all higher ones of the picture
	refs     []int // uids
	number   uint16
	fdiffs   []int
	chains   []int
	dti      []uint8 // by decode target
}

// simPacket is one packet of it.
type simPacket struct {
	frame   *simFrame
	codec   rtp.Codec
	ext     int64
	marker  bool
	payload []byte
	dd      []byte
	info    Info // set on arrival
}

// publisher makes one stream.
type publisher struct {
	codec      rtp.Codec
	stream     int
	spatial    int
	temporal   int
	kSVC       bool
	shift      bool
	flexible   bool // VP9
	noUp       bool // VP9: U is never set
	descriptor bool
	highFirst  bool // order of decode targets
	custom     bool // some frames do without their template
	off        int  // spatial layers that are switched off
	refresh    bool // the next base picture refreshes the upper spatial layers from the lowest, see LRR

	r        *rand.Rand
	frames   *[]*simFrame
	ext      int64
	pid      uint16
	tl0      uint8
	keyIdx   uint8
	number   uint16
	count    int // pictures
	sinceKey int
	lastOf   [4][3]*simFrame // by layer
	chain    [4]*simFrame
	offset   uint8
	temps    []*simFrame // templates
}

func newPublisher(p publisher, seed uint64, frames *[]*simFrame) *publisher {
	p.r = rand.New(rand.NewPCG(seed, uint64(p.stream)))
	p.frames = frames
	p.ext = 1<<16 + p.r.Int64N(1<<15)
	p.pid, p.tl0, p.keyIdx = uint16(p.r.UintN(1<<15)), uint8(p.r.UintN(256)), uint8(p.r.UintN(32))
	p.number = uint16(p.r.UintN(1 << 16))
	p.spatial, p.temporal = max(p.spatial, 1), max(p.temporal, 1)
	if p.descriptor {
		p.learnTemplates()
	}
	return &p
}

func (p *publisher) tid(sid int) uint8 {
	if p.temporal == 1 || p.sinceKey == 0 {
		return 0
	}
	i := p.sinceKey
	if p.shift {
		i = p.sinceKey + [3]int{3, 2, 0}[sid]
	}
	return picPattern[i%4]
}

// next makes the packets of the next picture.
func (p *publisher) next(key bool) []*simPacket {
	if key || p.count == 0 {
		key = true
		p.sinceKey = 0
		p.keyIdx++
		p.lastOf, p.chain = [4][3]*simFrame{}, [4]*simFrame{}
		if p.descriptor && p.r.IntN(2) == 0 {
			p.offset = (p.offset + uint8(len(p.temps))) % 64
		}
	}
	p.pid = (p.pid + 1) & 0x7fff
	if p.tid(0) == 0 {
		p.tl0++
	}
	var out []*simPacket
	top := p.spatial - p.off
	var below *simFrame
	fresh := p.refresh && !key && p.tid(0) == 0
	if fresh {
		p.refresh = false
	}
	for sid := range top {
		f := p.encode(sid, key, fresh, below)
		below = f
		n := 1 + p.r.IntN(3)
		for i := range n {
			pk := &simPacket{frame: f, codec: p.codec, ext: p.ext, marker: sid == top-1 && i == n-1}
			p.ext++
			pk.payload = p.payload(f, i, n)
			if p.descriptor {
				pk.dd = p.describe(f, i, n)
			}
			out = append(out, pk)
		}
	}
	p.count++
	p.sinceKey++
	return out
}

// encode makes the frame of one spatial layer.
func (p *publisher) encode(sid int, key, fresh bool, below *simFrame) *simFrame {
	p.number++
	f := &simFrame{uid: len(*p.frames), stream: p.stream, picture: p.count, sid: uint8(sid), tid: p.tid(sid), key: key, fresh: fresh && sid > 0, number: p.number}
	*p.frames = append(*p.frames, f)
	var refs []*simFrame
	if !key && !f.fresh {
		last := &p.lastOf[sid]
		switch {
		case p.codec == rtp.VP8 && !p.descriptor: // what a receiver takes a frame to need
			f.sync = f.tid > 0 && p.sinceKey%8 < 3
			refs = append(refs, last[0])
			if !f.sync {
				for t := 1; t <= int(f.tid); t++ {
					if last[t] != nil {
						refs = append(refs, last[t])
					}
				}
			}
		case f.tid == 2 && last[1] != nil && last[1].uid > last[0].uid:
			refs = append(refs, last[1])
		default:
			f.sync = p.codec == rtp.VP8 && f.tid > 0
			refs = append(refs, last[0])
		}
	}
	if below != nil && (key || f.fresh || !p.kSVC) {
		refs = append(refs, below)
	}
	for _, ref := range refs {
		f.refs = append(f.refs, ref.uid)
		f.fdiffs = append(f.fdiffs, int(f.number-ref.number))
	}
	p.lastOf[sid][f.tid] = f
	for c := range p.spatial {
		diff := 0
		if p.chain[c] != nil {
			diff = int(f.number - p.chain[c].number)
		}
		if f.fresh && sid == 1 && c >= sid {
			diff = 0 // the upper layers need nothing of before
		}
		f.chains = append(f.chains, diff)
	}
	for c := range p.spatial {
		if f.tid == 0 && (sid == c || sid < c && (key || !p.kSVC)) {
			p.chain[c] = f
		}
	}
	for s := range p.spatial {
		for t := range p.temporal {
			f.dti = append(f.dti, p.indication(f, uint8(s), uint8(t)))
		}
	}
	if p.highFirst {
		slices.Reverse(f.dti)
	}
	return f
}

// indication is what appendix A.10.2 has in its tables.
func (p *publisher) indication(f *simFrame, s, t uint8) uint8 {
	switch {
	case s < f.sid || t < f.tid:
		return dtiNotPresent
	case f.key, f.fresh:
		return dtiSwitch
	case p.kSVC && s > f.sid:
		return dtiNotPresent
	case s == f.sid && f.tid > 0 && t == f.tid:
		return dtiDiscardable
	case s == f.sid:
		return dtiSwitch
	}
	return dtiRequired
}

// payload writes the codec's descriptor, and behind it, for the decoder to know, which packet it is.
func (p *publisher) payload(f *simFrame, i, n int) []byte {
	var b []byte
	switch p.codec {
	case rtp.VP8:
		first := byte(0x80)
		if i == 0 {
			first |= 0x10
		}
		layer := f.tid<<6 | p.keyIdx&0x1f
		if f.sync {
			layer |= 0x20
		}
		b = append(b, first, 0xf0, 0x80|byte(p.pid>>8), byte(p.pid), p.tl0, layer)
		if f.key {
			b = append(b, 0x10)
		} else {
			b = append(b, 0x11)
		}
	case rtp.VP9:
		b = p.vp9(f, i, n)
	case rtp.AV1:
		first := byte(0x10)
		if f.key && f.sid == 0 && i == 0 {
			first |= 0x08
		}
		b = append(b, first, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(f.uid))
	return append(b, byte(i), byte(n))
}

func (p *publisher) vp9(f *simFrame, i, n int) []byte {
	first := byte(0xa0)
	if !f.key && !f.fresh {
		first |= 0x40
	}
	if p.flexible {
		first |= 0x10
	}
	if i == 0 {
		first |= 0x08
	}
	if i == n-1 {
		first |= 0x04
	}
	structured := f.key && f.sid == 0 && i == 0
	if structured {
		first |= 0x02
	}
	if int(f.sid) == p.spatial-1 || p.kSVC && !f.key {
		first |= 0x01
	}
	layer := f.tid<<5 | f.sid<<1
	if f.tid < 2 && !p.noUp {
		layer |= 0x10 // this pattern never looks back over a lower layer
	}
	if f.sid > 0 && (f.key || !p.kSVC) {
		layer |= 0x01
	}
	b := []byte{first, 0x80 | byte(p.pid>>8), byte(p.pid), layer}
	if !p.flexible {
		b = append(b, p.tl0)
	} else if !f.key && !f.fresh {
		back := f.picture - (*p.frames)[f.refs[0]].picture
		b = append(b, byte(back)<<1)
	}
	if structured {
		ss := byte(p.spatial-1)<<5 | 0x10
		if !p.flexible {
			ss |= 0x08
		}
		b = append(b, ss)
		for range p.spatial {
			b = append(b, 1, 0, 1, 0)
		}
		if !p.flexible {
			b = append(b, 4, 0x14, 4, 0x54, 1, 0x34, 2, 0x54, 1) // N_G, then T, U, R and P_DIFF of each
		}
	}
	return b
}

// learnTemplates finds the templates of the stream: all the combinations that a while of it has.
func (p *publisher) learnTemplates() {
	dry := *p
	var frames []*simFrame
	dry.frames, dry.r, dry.descriptor, dry.off = &frames, rand.New(rand.NewPCG(1, 1)), false, 0
	for range 14 {
		dry.next(false)
	}
	slices.SortStableFunc(frames, func(a, b *simFrame) int {
		if a.sid != b.sid {
			return int(a.sid) - int(b.sid)
		}
		return int(a.tid) - int(b.tid)
	})
	for _, f := range frames {
		if !slices.ContainsFunc(p.temps, f.alike) {
			p.temps = append(p.temps, f)
		}
	}
}

func (f *simFrame) alike(o *simFrame) bool {
	return f.sid == o.sid && f.tid == o.tid && slices.Equal(f.fdiffs, o.fdiffs) && slices.Equal(f.chains, o.chains) && slices.Equal(f.dti, o.dti)
}

// bitWriter is the other half of a bitReader.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) put(v, n int) { w.b, w.n = appendBits(w.b, w.n, uint32(v), n) }

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
func (p *publisher) describe(f *simFrame, i, n int) []byte {
	at := slices.IndexFunc(p.temps, f.alike)
	custom := p.custom && f.uid%3 == 0 || at < 0
	if custom {
		at = slices.IndexFunc(p.temps, func(t *simFrame) bool { return t.sid == f.sid && t.tid == f.tid })
	}
	var w bitWriter
	w.flag(i == 0)
	w.flag(i == n-1)
	w.put((at+int(p.offset))%64, 6)
	w.put(int(f.number), 16)
	structured := f.key && f.sid == 0 && i == 0
	active := p.off > 0 && (f.key || f.uid%4 == 0)
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
			if p.highFirst {
				layer = len(f.dti) - 1 - d
			}
			if layer/p.temporal < p.spatial-p.off {
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

func (p *publisher) structure(w *bitWriter) {
	targets := p.spatial * p.temporal
	w.put(int(p.offset), 6)
	w.put(targets-1, 5)
	for i, t := range p.temps {
		idc := 3
		if i+1 < len(p.temps) {
			next := p.temps[i+1]
			switch {
			case next.sid > t.sid:
				idc = 2
			case next.tid > t.tid:
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
	w.putNonSymmetric(targets+1, p.spatial)
	for d := range targets {
		s := d / p.temporal
		if p.highFirst {
			s = (targets - 1 - d) / p.temporal
		}
		w.putNonSymmetric(p.spatial, s)
	}
	for _, t := range p.temps {
		for _, v := range t.chains {
			w.put(min(v, 15), 4)
		}
	}
	w.flag(true)
	for s := range p.spatial {
		w.put(320<<s-1, 16)
		w.put(180<<s-1, 16)
	}
}
