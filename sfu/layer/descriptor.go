package layer

import "math/bits"

// Bounds of a dependency descriptor (https://aomediacodec.github.io/av1-rtp-spec/ appendix A.8.2). Spatial and temporal ids have no
// bound of their own there; AV1 has that of the layers it can have.
const (
	maxTemplates     = 64
	maxDecodeTargets = 32
	maxSpatial       = 4
	maxTemporal      = 8
	templateRefs     = 6 // more are legal, but nobody's: such a frame is no place to switch at

	mandatoryLen = 3
	flagsBits    = 5
	flagActive   = 0x40 // in the byte behind the mandatory fields
)

// Decode target indications (table A.1).
const (
	dtiNotPresent = iota
	dtiDiscardable
	dtiSwitch
	dtiRequired
)

// targets are the sets of decode targets that a frame has to do with, by rank.
type targets struct{ present, need, begin uint32 }

func (t *targets) add(rank uint8, dti uint32) {
	bit := uint32(1) << rank
	switch dti {
	case dtiDiscardable:
		t.present |= bit
	case dtiSwitch:
		t.present |= bit
		t.need |= bit
		t.begin |= bit
	case dtiRequired:
		t.present |= bit
		t.need |= bit
	}
}

type template struct {
	spatial, temporal uint8
	nrefs             uint8
	blind             bool // has more references than are kept
	refs              [templateRefs]uint8
	targets           targets
}

// structure is a template dependency structure. Decode targets are kept by rank: ordered by spatial layer, then by temporal.
type structure struct {
	gen       uint32
	offset    uint8 // template id of the first template
	templates uint8
	targets   uint8
	chains    uint8
	spatial   uint8 // layers
	temporal  uint8

	rank   [maxDecodeTargets]uint8  // of the decode target with this index
	layer  [maxDecodeTargets]Layers // of the decode target with this rank: ids, not counts
	within [maxDecodeTargets]uint32 // decode targets, by index, that are part of the one with this rank

	template [maxTemplates]template
}

func (s *structure) all() uint32 { return uint32(uint64(1)<<s.targets - 1) }

// parse reads a structure from the bit behind the flags; false when it is malformed. The size is that of the highest spatial layer,
// where it is said.
func (s *structure) parse(r *bitReader) (size Size, ok bool) {
	*s = structure{gen: s.gen}
	s.offset = uint8(r.read(6))
	s.targets = uint8(r.read(5)) + 1

	n, spatial, temporal := 0, uint8(0), uint8(0)
	for more := true; more; n++ { // template_layers
		if n == maxTemplates {
			return Size{}, false
		}
		s.template[n].spatial, s.template[n].temporal = spatial, temporal
		s.spatial, s.temporal = max(s.spatial, spatial+1), max(s.temporal, temporal+1)
		switch r.read(2) {
		case 1:
			temporal++
		case 2:
			temporal = 0
			spatial++
		case 3:
			more = false
		}
		if r.bad || temporal == maxTemporal || spatial == maxSpatial {
			return Size{}, false
		}
	}
	s.templates = uint8(n)

	var dti [maxTemplates][maxDecodeTargets]uint8 // template_dtis
	var ids [maxDecodeTargets]Layers              // decode_target_layers
	for i := range n {
		t := &s.template[i]
		for d := range s.targets {
			v := uint8(r.read(2))
			dti[i][d] = v
			if v != dtiNotPresent {
				ids[d].Spatial = max(ids[d].Spatial, t.spatial)
				ids[d].Temporal = max(ids[d].Temporal, t.temporal)
			}
		}
	}
	s.order(&ids)
	for i := range n {
		for d := range s.targets {
			s.template[i].targets.add(s.rank[d], uint32(dti[i][d]))
		}
	}

	for i := range n { // template_fdiffs
		t := &s.template[i]
		for r.flag() {
			diff := uint8(r.read(4)) + 1
			if t.nrefs == templateRefs {
				t.blind = true
				continue
			}
			t.refs[t.nrefs] = diff
			t.nrefs++
		}
	}

	// template_chains: a broken chain tells a receiver what it misses. What may be forwarded follows from the indications and
	// the references alone, so the chains are only passed over.
	s.chains = uint8(r.nonSymmetric(uint32(s.targets) + 1))
	if s.chains > 0 {
		for range s.targets {
			r.nonSymmetric(uint32(s.chains))
		}
		for range n * int(s.chains) {
			r.read(4)
		}
	}
	if r.flag() { // resolutions
		for range s.spatial {
			size = Size{Width: r.read(16) + 1, Height: r.read(16) + 1}
		}
	}
	if r.bad {
		return Size{}, false
	}
	s.contain()
	return size, true
}

// order ranks the decode targets by their layers.
func (s *structure) order(ids *[maxDecodeTargets]Layers) {
	before := func(a, b Layers) bool {
		return a.Spatial < b.Spatial || a.Spatial == b.Spatial && a.Temporal < b.Temporal
	}
	for d := range s.targets {
		rank := uint8(0)
		for o := range s.targets {
			if before(ids[o], ids[d]) || ids[o] == ids[d] && o < d {
				rank++
			}
		}
		s.rank[d], s.layer[rank] = rank, ids[d]
	}
}

// contain finds out which decode targets come whole with another: all their templates are part of it.
func (s *structure) contain() {
	for d := range s.targets {
		with := s.all()
		for i := range s.templates {
			if p := s.template[i].targets.present; p>>d&1 == 0 {
				with &^= p
			}
		}
		for o := range s.targets {
			if with>>s.rank[o]&1 != 0 {
				s.within[d] |= 1 << o
			}
		}
	}
}

// upTo returns the decode targets of at most these layers.
func (s *structure) upTo(spatial, temporal uint8) uint64 {
	var m uint64
	for d := range s.targets {
		if s.layer[d].Spatial <= spatial && s.layer[d].Temporal <= temporal {
			m |= 1 << d
		}
	}
	return m
}

// ranked brings a set of decode targets from the order of the descriptor to that of ranks.
func (s *structure) ranked(raw uint32) uint64 {
	var m uint64
	for ; raw != 0; raw &= raw - 1 {
		m |= 1 << s.rank[bits.TrailingZeros32(raw)]
	}
	return m
}

// descriptor is a dependency descriptor as far as it can be read without a structure.
type descriptor struct {
	start, end bool
	template   uint8
	number     uint16

	hasStructure, hasActive, dtis, fdiffs, chains bool
}

// mandatory reads the mandatory fields and the flags. They are behind each other whatever the structure.
func (d *descriptor) mandatory(r *bitReader) bool {
	d.start, d.end = r.flag(), r.flag()
	d.template = uint8(r.read(6))
	d.number = uint16(r.read(16))
	if len(r.b) > mandatoryLen {
		d.hasStructure, d.hasActive = r.flag(), r.flag()
		d.dtis, d.fdiffs, d.chains = r.flag(), r.flag(), r.flag()
	}
	return !r.bad
}

// frame reads the rest, for which the structure is needed, into in; false when it is malformed or of another structure.
func (d *descriptor) frame(r *bitReader, s *structure, in *Info) bool {
	in.maskAt = uint16(r.at)
	if d.hasActive {
		in.masked, in.activeRaw = true, r.read(int(s.targets))
	}
	i := (d.template - s.offset) & (maxTemplates - 1)
	if i >= s.templates {
		return false
	}
	t := &s.template[i]
	in.Spatial, in.Temporal = t.spatial, t.temporal
	sets := t.targets
	if d.dtis {
		sets = targets{}
		for k := range s.targets {
			sets.add(s.rank[k], r.read(2))
		}
	}
	in.present, in.need, in.begin = uint64(sets.present), uint64(sets.need), uint64(sets.begin)
	in.blind, in.nrefs = t.blind, 0
	if d.fdiffs {
		in.blind = false
		for n := r.read(2); n > 0; n = r.read(2) {
			in.refer(r.read(4*int(n)) + 1)
		}
	} else {
		for k := range t.nrefs {
			in.refer(uint32(t.refs[k]))
		}
	}
	if d.chains {
		for range s.chains {
			r.read(8)
		}
	}
	in.used = uint16(r.at)
	in.st = s
	return !r.bad
}

// refer adds a reference to the frame that lies so far back.
func (in *Info) refer(diff uint32) {
	if in.nrefs == maxRefs {
		in.blind = true
		return
	}
	in.refs[in.nrefs] = uint16(diff)
	in.nrefs++
}
