package layertest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Got is what a Receiver gets.
type Got struct {
	TS      int // of the picture, and unlike those of another stream
	Marker  bool
	Payload []byte
	DD      []byte // nil without one
	Codec   rtp.Codec
}

// Receiver is a strict decoder. Of each frame it knows two things: what the encoder made it of, and what the bytes it got say. It
// takes frames in the order they become complete, puts them in order by what the bytes say, as libwebrtc's reference finders do,
// and notes whatever would make one stall or break.
type Receiver struct {
	Late    bool          // packets may come late
	Decoded map[int]int64 // by UID: the number it had
	Order   []int         // UIDs as they were handed to the decoder
	Highest int64         // number
	GivenUp int           // frames that were complete and waited in vain: a newer key frame came

	t       testing.TB
	frames  *[]*Frame
	parts   map[int]int // uid → packets
	waiting []*arrived
	ids     map[int64]int // number → UID: never another frame under the same one
	have    bool

	structure *modelStructure
	keyID     int64
	tl0       map[int64]*[3]int64 // VP8: base layer → last frame of each layer
	missing   map[int64]bool      // VP8: picture ids not handed on; VP9: with the temporal layer
	gofMiss   map[int64]uint8
	gofs      map[int64]*modelGOF
	lastPID   int64
	lastTL0   int64
	markers   map[int][]bool
	unfit     []Got
}

type arrived struct {
	f     *Frame
	id    int64
	refs  []int64
	diffs []int64 // VP9: of pictures
	// VP8 and VP9 that is not flexible
	tl0       int64
	pid       int64
	tid       uint8
	sync, key bool
	codec     rtp.Codec
	flexible  bool
	interPic  bool
	interLay  bool
	described bool
	stale     bool
}

type modelGOF struct{ start, last int64 }

// NewReceiver makes one for streams whose frames are in the list.
func NewReceiver(t testing.TB, frames *[]*Frame) *Receiver {
	return &Receiver{
		t: t, frames: frames, parts: map[int]int{}, Decoded: map[int]int64{}, ids: map[int64]int{},
		tl0: map[int64]*[3]int64{}, missing: map[int64]bool{}, gofMiss: map[int64]uint8{}, gofs: map[int64]*modelGOF{},
		markers: map[int][]bool{}, lastPID: -1,
	}
}

func nearest(to int64, v, bits int) int64 {
	d := (int64(v) - to) & (1<<bits - 1)
	if d >= 1<<(bits-1) {
		d -= 1 << bits
	}
	return to + d
}

// Take takes a packet, in the order of arrival.
func (r *Receiver) Take(g Got) {
	r.t.Helper()
	r.markers[g.TS] = append(r.markers[g.TS], g.Marker)
	a := &arrived{codec: g.Codec}
	switch g.Codec {
	case rtp.VP8:
		var d rtp.VP8Descriptor
		d.Parse(g.Payload)
		a.tid, a.sync, a.key = d.TID, d.LayerSync, g.Payload[d.Len]&1 == 0
		a.pid, a.tl0 = int64(d.PictureID), int64(d.TL0PicIdx)
	case rtp.VP9:
		var d rtp.VP9Descriptor
		d.Parse(g.Payload)
		a.tid, a.key = d.TID, !d.InterPicture
		a.flexible, a.interPic, a.interLay = d.Flexible, d.InterPicture, d.InterLayer
		a.pid, a.tl0 = int64(d.PictureID), int64(d.TL0PicIdx)
		for _, diff := range d.Differences[:d.NumDifferences] {
			a.diffs = append(a.diffs, int64(diff))
		}
	}
	uid, n, ok := unseal(g.Payload)
	if !ok || uid >= len(*r.frames) {
		r.t.Errorf("%d bytes of payload that no publisher made", len(g.Payload))
		return
	}
	a.f = (*r.frames)[uid]
	if g.DD != nil {
		st := r.structure
		if !r.describe(a, g.DD) {
			if r.Late { // it counts as missing, and is asked for again
				r.unfit = append(r.unfit, g)
				return
			}
			r.t.Errorf("frame %d: descriptor %x does not fit the structure at hand", uid, g.DD)
			return
		}
		if st != r.structure {
			unfit := r.unfit
			r.unfit = nil
			defer func() {
				for _, g := range unfit {
					m := r.markers[g.TS]
					r.markers[g.TS] = m[:len(m)-1]
					r.Take(g)
				}
			}()
		}
	}
	if a.stale {
		return
	}
	if r.parts[uid]++; r.parts[uid] > n {
		r.t.Errorf("frame %d: a packet came twice", uid)
	}
	if r.parts[uid] < n {
		return
	}
	r.waiting = append(r.waiting, a)
	if a.f.Key && a.f.SID == 0 && r.old(a) {
		r.waiting = r.waiting[:len(r.waiting)-1]
		return
	}
	for again := true; again; {
		again = false
		for i, a := range r.waiting {
			if r.ready(a) {
				r.waiting = slices.Delete(r.waiting, i, i+1)
				n := len(r.waiting)
				r.waiting = slices.DeleteFunc(r.waiting, func(a *arrived) bool { return a.stale })
				r.GivenUp += n - len(r.waiting)
				again = true
				break
			}
		}
	}
}

// Waiting returns how many frames are complete and cannot be decoded, and tells of the first.
func (r *Receiver) Waiting() (n int, first string) {
	if len(r.waiting) == 0 {
		return 0, ""
	}
	a := r.waiting[0]
	return len(r.waiting), fmt.Sprintf("frame %d (stream %d, picture %d, S%dT%d), number %d, refers to %v",
		a.f.UID, a.f.Stream, a.f.Picture, a.f.SID, a.f.TID, a.id, a.refs)
}

// old says whether a key frame comes after a newer one: a receiver has no use for it.
func (r *Receiver) old(a *arrived) bool {
	for uid := range r.Decoded {
		if f := (*r.frames)[uid]; f.Key && f.Stream == a.f.Stream && f.Picture > a.f.Picture {
			return r.Late
		}
	}
	return false
}

// ready hands a frame to the decoder if its references are known and there.
func (r *Receiver) ready(a *arrived) bool {
	r.t.Helper()
	switch {
	case a.described:
	case a.codec == rtp.VP8:
		if !r.readyVP8(a) {
			return false
		}
	case a.codec == rtp.VP9:
		pid := nearest(max(r.lastPID, 0), int(a.pid), 15)
		if r.lastPID < 0 {
			pid = a.pid + 1<<20
		}
		if !a.flexible && !r.readyGOF(a, pid) {
			return false
		}
		r.lastPID = max(r.lastPID, pid)
		a.id = pid*8 + int64(a.f.SID)
		a.refs = nil
		for _, diff := range a.diffs {
			a.refs = append(a.refs, a.id-8*diff)
		}
		if a.interLay {
			a.refs = append(a.refs, a.id-1)
		}
	}
	if uid, ok := r.ids[a.id]; ok && uid != a.f.UID {
		r.t.Errorf("frame %d: has the number of frame %d", a.f.UID, uid)
	}
	r.ids[a.id] = a.f.UID
	for _, ref := range a.refs {
		uid, ok := r.ids[ref]
		if !ok {
			return false
		}
		if _, ok = r.Decoded[uid]; !ok {
			return false
		}
	}
	// What the bytes say must be no less than the truth.
	for _, ref := range a.f.refs {
		if _, ok := r.Decoded[ref]; !ok {
			r.t.Errorf("frame %d (stream %d, picture %d, S%dT%d): decoded without frame %d (S%dT%d of picture %d), bytes name %v", a.f.UID, a.f.Stream,
				a.f.Picture, a.f.SID, a.f.TID, ref, (*r.frames)[ref].SID, (*r.frames)[ref].TID, (*r.frames)[ref].Picture, a.refs)
		}
	}
	if r.have && a.f.Key && a.f.SID == 0 && a.id <= r.Highest {
		r.t.Errorf("frame %d: key frame with number %d after %d", a.f.UID, a.id, r.Highest)
	}
	r.Highest, r.have = max(r.Highest, a.id), true
	r.Decoded[a.f.UID] = a.id
	r.Order = append(r.Order, a.f.UID)
	if a.f.Key && a.f.SID == 0 && r.Late { // what is older is given up
		for _, o := range r.waiting {
			o.stale = o.f.Stream != a.f.Stream || o.f.Picture < a.f.Picture
		}
	}
	return true
}

// readyVP8 finds references the way libwebrtc does.
func (r *Receiver) readyVP8(a *arrived) bool {
	pid := nearest(max(r.lastPID, 0), int(a.pid), 15)
	tl0 := nearest(r.lastTL0, int(a.tl0), 8)
	if r.lastPID < 0 {
		pid, tl0 = a.pid+1<<20, a.tl0+1<<20
		r.lastPID = pid - 1
	}
	for ; r.lastPID < pid; r.lastPID++ {
		r.missing[r.lastPID+1] = true
	}
	r.lastTL0 = max(r.lastTL0, tl0)
	a.id, a.refs = pid, nil
	if a.key {
		r.tl0[tl0] = &[3]int64{pid, -1, -1}
		delete(r.missing, pid)
		return true
	}
	base := tl0
	if a.tid == 0 {
		base--
	}
	info := r.tl0[base]
	if info == nil {
		return false
	}
	if a.tid == 0 {
		next := *info
		info = &next
		a.refs = append(a.refs, info[0])
	} else {
		for t := range a.tid + 1 {
			if t > 0 && a.sync {
				break
			}
			if info[t] < 0 {
				return false
			}
			for m := range r.missing {
				if !a.sync && m > info[t] && m < pid {
					return false
				}
			}
			a.refs = append(a.refs, info[t])
		}
	}
	r.tl0[tl0] = info
	for ; info != nil; info = r.tl0[tl0] {
		if info[a.tid] > pid {
			break
		}
		info[a.tid] = pid
		tl0++
	}
	delete(r.missing, pid)
	return true
}

// readyGOF finds references by the picture group, for the one that publishers use.
func (r *Receiver) readyGOF(a *arrived, pid int64) bool {
	tl0 := nearest(r.lastTL0, int(a.tl0), 8)
	if r.lastPID < 0 {
		tl0 = a.tl0 + 1<<20
	}
	var g *modelGOF
	switch {
	case a.key && a.f.Key && a.f.SID == 0:
		if r.gofs[tl0] != nil {
			r.t.Errorf("frame %d: TL0PICIDX of a key frame that was used before", a.f.UID)
		}
		g = &modelGOF{start: pid, last: pid}
	case a.tid == 0 && a.f.SID == 0 && r.gofs[tl0] == nil:
		prev := r.gofs[tl0-1]
		if prev == nil {
			return false
		}
		g = &modelGOF{start: prev.start, last: pid - 1}
		for m := prev.last + 1; m < pid; m++ {
			r.gofMiss[m] = picPattern[(m-prev.start)%4]
		}
	case r.gofs[tl0] != nil:
		g = r.gofs[tl0]
	default:
		prev := r.gofs[tl0-1]
		if prev == nil || a.tid != 0 || a.key {
			return false
		}
		g = &modelGOF{start: prev.start, last: pid - 1}
	}
	for m := g.last + 1; m < pid; m++ {
		r.gofMiss[m] = picPattern[(m-g.start)%4]
	}
	g.last = max(g.last, pid)
	delete(r.gofMiss, pid)
	place := (pid - g.start) % 4
	if !a.key && picPattern[place] != a.tid {
		r.t.Errorf("frame %d: picture id puts T%d in the place of T%d", a.f.UID, a.tid, picPattern[place])
	}
	diff := [4]int64{4, 1, 2, 1}[place]
	for m, tid := range r.gofMiss {
		if !a.key && tid < a.tid && m >= pid-diff && m < pid {
			return false
		}
	}
	r.gofs[tl0] = g
	r.lastTL0 = max(r.lastTL0, tl0)
	a.diffs = nil
	if a.interPic {
		a.diffs = []int64{diff}
	}
	return true
}

// modelStructure is a template structure, read the plain way.
type modelStructure struct {
	offset, targets, chains int
	sid, tid                []int
	fdiffs                  [][]int
	dti                     [][]int
	chain                   []int   // that protects the decode target
	cdiffs                  [][]int // by template and chain
	active                  int
}

// describe reads a dependency descriptor by the book (appendix A.8.2).
func (r *Receiver) describe(a *arrived, b []byte) bool {
	at := 0
	f := func(n int) int {
		v := 0
		for range n {
			v <<= 1
			if at < 8*len(b) {
				v |= int(b[at/8]) >> (7 - at%8) & 1
			}
			at++
		}
		return v
	}
	ns := func(n int) int {
		w := 0
		for x := n; x != 0; x >>= 1 {
			w++
		}
		m := 1<<w - n
		v := f(w - 1)
		if v < m {
			return v
		}
		return v<<1 - m + f(1)
	}
	first := f(1)
	f(1)
	id, number := f(6), f(16)
	var flags [5]int
	if len(b) > 3 {
		for i := range flags {
			flags[i] = f(1)
		}
	}
	st := r.structure
	if flags[0] == 1 {
		st = &modelStructure{offset: f(6), targets: f(5) + 1}
		for sid, tid, idc := 0, 0, 0; idc != 3; {
			st.sid, st.tid = append(st.sid, sid), append(st.tid, tid)
			switch idc = f(2); idc {
			case 1:
				tid++
			case 2:
				tid, sid = 0, sid+1
			}
		}
		for range st.sid {
			var dti []int
			for range st.targets {
				dti = append(dti, f(2))
			}
			st.dti = append(st.dti, dti)
		}
		for range st.sid {
			var diffs []int
			for f(1) == 1 {
				diffs = append(diffs, f(4)+1)
			}
			st.fdiffs = append(st.fdiffs, diffs)
		}
		if st.chains = ns(st.targets + 1); st.chains > 0 {
			for range st.targets {
				st.chain = append(st.chain, ns(st.chains))
			}
			for range st.sid {
				var diffs []int
				for range st.chains {
					diffs = append(diffs, f(4))
				}
				st.cdiffs = append(st.cdiffs, diffs)
			}
		}
		if f(1) == 1 {
			for range st.sid[len(st.sid)-1] + 1 {
				f(32)
			}
		}
		st.active = 1<<st.targets - 1
	}
	if st == nil {
		return false
	}
	if flags[1] == 1 {
		st.active = f(st.targets)
	}
	i := (id - st.offset + 64) % 64
	if i >= len(st.sid) {
		return false
	}
	dti, diffs := st.dti[i], st.fdiffs[i]
	if flags[2] == 1 {
		dti = nil
		for range st.targets {
			dti = append(dti, f(2))
		}
	}
	if flags[3] == 1 {
		diffs = nil
		for n := f(2); n > 0; n = f(2) {
			diffs = append(diffs, f(4*n)+1)
		}
	}
	cdiffs := st.cdiffs[i]
	if flags[4] == 1 {
		cdiffs = nil
		for range st.chains {
			cdiffs = append(cdiffs, f(8))
		}
	}
	if pad := 8*len(b) - at; pad < 0 || pad > 7 {
		r.t.Errorf("descriptor %x: %d bits left over", b, pad)
		return false
	}
	for _, v := range b[at/8:] {
		if at%8 != 0 && v<<(at%8) != 0 {
			r.t.Errorf("descriptor %x: padding is not zero", b)
		}
	}
	if st.sid[i] != int(a.f.SID) || st.tid[i] != int(a.f.TID) {
		if r.Late {
			return false
		}
		r.t.Errorf("frame %d: said to be S%dT%d, is S%dT%d", a.f.UID, st.sid[i], st.tid[i], a.f.SID, a.f.TID)
	}
	if r.have {
		a.id = nearest(r.Highest, number, 16)
	} else {
		a.id = int64(number) + 1<<20
	}
	if flags[0] == 1 {
		if a.id < r.keyID && r.Late {
			a.stale = true
			return true
		}
		if a.id < r.keyID || first == 0 {
			r.t.Errorf("frame %d: structure of %d after that of %d", a.f.UID, a.id, r.keyID)
		}
		r.structure, r.keyID = st, a.id
	}
	part := false
	for d, v := range dti {
		part = part || v != 0 && st.active>>d&1 == 1
	}
	if !part && !r.Late {
		r.t.Errorf("frame %d (S%dT%d): in none of the active decode targets %b, indications %v", a.f.UID, a.f.SID, a.f.TID, st.active, dti)
	}
	for d, c := range st.chain { // appendix A.6: what the active decode targets rest on is there
		diff := int64(cdiffs[c])
		if _, ok := r.ids[a.id-diff]; st.active>>d&1 == 1 && diff > 0 && !ok && !r.Late {
			r.t.Errorf("frame %d (S%dT%d): chain %d, of active decode target %d, is broken at %d", a.f.UID, a.f.SID, a.f.TID, c, d, a.id-diff)
		}
	}
	a.described, a.refs = true, nil
	for _, diff := range diffs {
		a.refs = append(a.refs, a.id-int64(diff))
	}
	return true
}

// CheckMarkers: every picture ends with the only marker in it.
func (r *Receiver) CheckMarkers(partial func(ts int) bool) {
	r.t.Helper()
	for ts, m := range r.markers {
		if partial(ts) {
			continue
		}
		if n := slices.Index(m, true); n != len(m)-1 {
			r.t.Errorf("picture %d of stream %d: markers %v", ts%1e6, ts/1e6, m)
		}
	}
}
