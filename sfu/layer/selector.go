package layer

import "math/bits"

// patience is for how many frames a higher temporal layer is waited for before a key frame is worth asking for. Streams with
// switching points offer one every few frames.
const patience = 120

// maxAstray is how many packets in a row may have numbers from elsewhere before the stream is taken to have gone there. A frame of
// before a restart that comes late has hardly more.
const maxAstray = 16

// publisherMarker as the highest spatial layer of a Stamp: the marker stays as it is.
const publisherMarker = 0xff

// Selector chooses the packets of one leg. The zero Selector sends the lowest layers of the lowest stream.
//
// It looks at frames in the order of their numbers and notes which decode targets a receiver could have: those of which it was sent
// every frame that others depend on, since a frame at which they may begin. To these it may switch at any time. That is the rule
// of appendix A.7 for streams with a dependency descriptor; VP9 is treated the same, its layers making the targets. For VP8 the
// same is noted of temporal layers.
type Selector struct {
	target Target

	on      bool // something is being sent
	lost    bool // the stream began anew, or went on after a long gap, and its key frame was missed
	astray  uint8
	resumed bool // another node was in the middle of it, see State
	stream  int8
	source  source
	epoch   uint32

	now, before choice // what is sent, and what was sent until then
	whole       uint64 // decode targets that the receiver could have; VP8: temporal layers
	active      uint64 // as the last frame had it
	gen         uint32 // structure that the sets are of
	st          *structure
	allowed     uint64 // decode targets within the target, see allow
	stale       bool   // allowed is
	told        bool   // the receiver was told of fewer decode targets than there are

	highest     int64 // frame number
	begun       int64 // first frame
	seen, sent  window
	top         Layers // ids of the highest layers that the stream has
	lastTL0     uint8  // of the last frame, sent or not
	lastLayer   uint8
	waited      uint16
	out         last
	outPictures bool // out has a picture id; likewise below
	outNumbers  bool
	outTL0      bool
	outKeys     bool
}

// choice is a decode target, or for VP8 a temporal layer, from some frame on.
type choice struct {
	rank  uint8
	gen   uint32
	since int64
	stamp Stamp
}

// last is what the receiver has got last.
type last struct {
	picture, number uint16
	tl0, keyIdx     uint8
}

// SetTarget says what the leg is to have from now on.
func (s *Selector) SetTarget(t Target) {
	t.Spatial, t.Temporal = min(t.Spatial, Top), min(t.Temporal, Top)
	if s.target == t {
		return
	}
	s.target, s.stale, s.waited = t, true, 0
	if t.Stream < 0 {
		s.on = false // what is missed meanwhile makes it begin anew
	}
}

// Target returns what was set.
func (s *Selector) Target() Target { return s.target }

// Current returns what is sent: None before the first key frame and during a pause.
func (s *Selector) Current() Target {
	if !s.on {
		return None
	}
	l := s.layers(s.now.rank)
	return Target{Stream: s.stream, Spatial: min(l.Spatial, s.top.Spatial), Temporal: min(l.Temporal, s.top.Temporal)}
}

// Reset is for when the leg shows another track, or this one after a pause or a gap: nothing is sent until a key frame. What the
// receiver has got is remembered, and the numbers go on from there.
func (s *Selector) Reset() { s.on, s.resumed = false, false }

// NeedsKey names the stream of which a key frame would bring the leg to its target, if nothing less does.
func (s *Selector) NeedsKey() (stream int, ok bool) {
	switch {
	case s.target.Stream < 0:
		return 0, false
	case !s.on || s.lost || s.stream != s.target.Stream:
		return int(s.target.Stream), true
	}
	return int(s.stream), s.stuck()
}

// stuck says whether the leg gets no nearer to its target without a key frame.
func (s *Selector) stuck() bool {
	switch s.source {
	case sourceNone:
		return false
	case sourceVP8:
		return s.waited > patience
	}
	within := s.within(min(s.target.Spatial, s.top.Spatial), min(s.target.Temporal, s.top.Temporal)) & s.active
	if within == 0 {
		return false
	}
	best, now := s.layers(top(within)), s.layers(s.now.rank)
	if best.Spatial != min(now.Spatial, s.top.Spatial) {
		return s.whole&within&^s.below(best.Spatial) == 0
	}
	return s.waited > patience
}

// Select says what becomes of a packet of a stream, and with which Stamp it is sent. Packets of one stream come in as they
// arrive: a late one gets the answer that its frame got, or would have got in time.
func (s *Selector) Select(stream int, in *Info) (Verdict, Stamp) {
	if s.target.Stream < 0 {
		return Drop, Stamp{}
	}
	if s.resumed && int(s.stream) == stream {
		s.resume(in)
	}
	if !s.on || int(s.stream) != stream {
		if stream != int(s.target.Stream) || !in.Key {
			return Drop, Stamp{}
		}
		s.begin(stream, in)
		return Begin, s.now.stamp
	}
	if in.epoch != s.epoch {
		if !in.Key {
			s.lost = true
			return Drop, Stamp{}
		}
		s.begin(stream, in)
		return Send, s.now.stamp
	}
	if in.astray {
		s.astray = min(s.astray+1, maxAstray)
		s.lost = s.astray == maxAstray
		return Drop, Stamp{}
	}
	s.lost, s.astray = false, 0
	if in.frame <= s.highest {
		return s.late(in)
	}
	s.guess(in)
	s.advance(in.frame)
	if !s.decide(in) {
		s.seen.set(0)
		if in.gapless {
			s.now.stamp.picture--
		}
		return Drop, Stamp{}
	}
	s.seen.set(0)
	s.sent.set(0)
	s.note(in, &s.now.stamp)
	return Send, s.now.stamp
}

// begin starts with a key frame of a stream. The receiver's numbers go on from what it has got.
func (s *Selector) begin(stream int, in *Info) {
	s.on, s.lost, s.astray, s.stream, s.source, s.epoch = true, false, 0, int8(stream), in.source, in.epoch
	s.highest, s.begun, s.before = in.frame, in.frame, choice{}
	s.seen, s.sent = window{1}, window{1}
	s.top = Layers{Spatial: in.Spatial, Temporal: in.Temporal}
	s.told, s.waited = false, 0
	s.lastTL0, s.lastLayer = in.tl0, in.Temporal

	st := Stamp{}
	if in.pictureAt > 0 && s.outPictures {
		st.picture = s.out.picture + 1 - in.pictureID
	}
	if in.described && s.outNumbers {
		st.number = s.out.number + 1 - in.number
	}
	if in.tl0At > 0 && s.outTL0 {
		st.tl0 = s.out.tl0 + 1 - in.tl0
	}
	if in.keyAt > 0 && s.outKeys {
		st.keyIdx = s.out.keyIdx + 1 - in.keyIdx
	}
	s.now = choice{since: in.frame, stamp: st}
	s.restructure(in)
	s.whole, s.active = in.begin, in.active
	if s.source == sourceVP8 {
		s.whole = ^uint64(0)
	}
	s.decide(in)
	s.before = choice{}
	s.note(in, &s.now.stamp)
}

// note keeps what the receiver has got of a frame that is newer than all before.
func (s *Selector) note(in *Info, st *Stamp) {
	if in.pictureAt > 0 {
		s.out.picture, s.outPictures = in.pictureID+st.picture, true
		if in.pictureBits == 7 {
			s.out.picture &= 0x7f
		}
	}
	if in.described {
		s.out.number, s.outNumbers = in.number+st.number, true
	}
	if in.tl0At > 0 {
		s.out.tl0, s.outTL0 = in.tl0+st.tl0, true
	}
	if in.keyAt > 0 {
		s.out.keyIdx, s.outKeys = (in.keyIdx+st.keyIdx)&0x1f, true
	}
}

// advance makes room for a frame in the windows.
func (s *Selector) advance(frame int64) {
	n := frame - s.highest
	s.highest = frame
	s.seen.shift(n)
	s.sent.shift(n)
}

// decide says whether a frame is sent, and switches before it where that is wanted and possible.
func (s *Selector) decide(in *Info) bool {
	if in.unknown {
		return in.source == sourceDescriptor // it may well be needed; the receiver will know
	}
	if in.Key {
		s.top = Layers{}
	}
	s.top.Spatial, s.top.Temporal = max(s.top.Spatial, in.Spatial), max(s.top.Temporal, in.Temporal)
	s.active, s.lastTL0, s.lastLayer = in.active, in.tl0, in.Temporal
	if s.source == sourceVP8 {
		return s.temporal(in)
	}
	if in.st != nil && in.st.gen != s.gen {
		s.restructure(in)
		if !in.Key { // its key frame was late, and all since has been sent for want of knowledge
			s.whole = uint64(in.st.all())
		}
	}
	if s.stale {
		s.allowed, s.stale = s.within(s.target.Spatial, s.target.Temporal), false
	}

	could, begin := s.whole, in.begin
	switch {
	case in.Key:
		could = begin
	case begin&^could != 0 && s.decodable(in):
		if s.source == sourceVP9 {
			begin &= could << 8 // of the spatial layer below, too, every temporal layer is needed
		}
		could |= begin
	}
	if in.up { // upper temporal pictures do without the earlier ones (RFC 9628 §4.2, U)
		could |= (could >> in.Temporal & column) * row
	}
	if rank, ok := s.choose(could&in.active, in); ok {
		s.switchTo(rank, in)
	}
	if in.present>>s.now.rank&1 == 0 {
		s.whole &^= in.need
		return false
	}
	s.whole = could
	s.wait()
	return true
}

// choose returns the best decode target that the receiver could have; false to stay.
func (s *Selector) choose(could uint64, in *Info) (rank uint8, ok bool) {
	anew := in.Key || s.now.gen != s.gen
	set := could & s.allowed
	if set == 0 && anew {
		set = could & -could // the lowest there is is above the target
	}
	now := s.layers(s.now.rank)
	if set == 0 {
		// It takes a key frame to get down to that spatial layer. Until then fewer pictures help.
		set = could & s.within(now.Spatial, s.target.Temporal) &^ s.below(now.Spatial)
	}
	if set == 0 {
		return 0, false
	}
	rank = top(set)
	to := s.layers(rank)
	if !anew && !in.first && (to.Spatial < min(now.Spatial, in.Spatial) || to.Temporal < now.Temporal) {
		return 0, false // some of the picture has gone out without a marker: the next one, then
	}
	return rank, anew || rank != s.now.rank
}

// switchTo sends another decode target from this frame on.
func (s *Selector) switchTo(rank uint8, in *Info) {
	if s.now.since != in.frame {
		s.before = s.now
	}
	s.now.rank, s.now.since, s.now.gen = rank, in.frame, s.gen
	st := &s.now.stamp
	switch {
	case in.st != nil:
		whole := in.st.within[rank] == in.st.all()
		s.told = !whole || s.told && !in.Key
		st.spatial, st.target = in.st.layer[rank].Spatial, 0
		if s.told {
			st.target = rank + 1
		}
	case s.source == sourceVP9:
		st.spatial = rank >> 3
	default:
		st.spatial = publisherMarker
	}
}

// temporal decides on a frame of VP8. A layer is whole from a frame on that depends on the base layer only (RFC 7741 §4.2, Y),
// and until one of its frames is dropped.
func (s *Selector) temporal(in *Info) bool {
	t := min(in.Temporal, Top)
	through := uint64(2)<<t - 1 // this layer and those below
	if in.Key {
		s.whole = ^uint64(0)
	}
	open := s.whole
	if in.sync {
		open |= 1 << t
	}
	send := t <= s.target.Temporal && open>>t&1 != 0 && (in.sync || open&through == through)
	if send || t == 0 {
		s.whole = open
		send = true
	} else {
		s.whole &^= ^uint64(0) << t
	}
	rank := min(uint8(bits.TrailingZeros64(^(s.whole|1)))-1, s.target.Temporal)
	if rank != s.now.rank || s.now.stamp.spatial != publisherMarker {
		s.switchTo(rank, in)
	}
	s.wait()
	return send
}

// wait counts the frames for which a temporal layer is missing.
func (s *Selector) wait() {
	if now := s.layers(s.now.rank); now.Temporal >= min(s.target.Temporal, s.top.Temporal) {
		s.waited = 0
	} else if s.waited <= patience {
		s.waited++
	}
}

// decodable says whether the receiver was sent everything that a frame refers to.
func (s *Selector) decodable(in *Info) bool {
	if in.blind {
		return false
	}
	for _, diff := range in.refs[:in.nrefs] {
		if !s.sent.has(int64(diff)) {
			return false
		}
	}
	return true
}

// late answers for a packet of a frame that is not the newest, or of the newest again.
func (s *Selector) late(in *Info) (Verdict, Stamp) {
	at := s.highest - in.frame
	if at >= reach || in.frame < s.begun {
		return Drop, Stamp{}
	}
	c := &s.now
	if in.frame < c.since {
		c = &s.before
	}
	st := c.stamp
	st.picture = s.now.stamp.picture
	if at > 0 && in.gapless {
		st.picture += s.droppedAfter(at)
	}
	if s.seen.has(at) {
		if !s.sent.has(at) {
			return Drop, Stamp{}
		}
		return Send, st
	}
	if in.frame >= c.since && s.part(in, c) {
		s.seen.set(at)
		s.sent.set(at)
		if bits.TrailingZeros64(s.sent[0]) == int(at) {
			s.note(in, &st) // all that came since was dropped
		}
		return Send, st
	}
	// It is not noted as dropped: the numbers of what was sent since have left room for it.
	if s.source == sourceVP8 {
		s.whole &^= ^uint64(0) << min(in.Temporal, Top)
	} else if in.st == nil || in.st.gen == s.gen {
		s.whole &^= in.need
	}
	return Drop, Stamp{}
}

// part says whether a frame belongs to what was chosen.
func (s *Selector) part(in *Info, c *choice) bool {
	switch {
	case c.since == 0:
		return false
	case in.unknown:
		return in.source == sourceDescriptor
	case s.source == sourceVP8:
		return in.Temporal <= c.rank
	case in.st != nil && in.st.gen != c.gen:
		return false
	}
	return in.present>>c.rank&1 != 0
}

// droppedAfter counts the frames dropped since the one that lies so far back.
func (s *Selector) droppedAfter(at int64) uint16 {
	n := 0
	for i := range s.seen {
		low := int64(i) * 64
		if low >= at {
			break
		}
		w := s.seen[i] &^ s.sent[i]
		if at-low < 64 {
			w &= 1<<(at-low) - 1
		}
		n += bits.OnesCount64(w)
	}
	return uint16(n)
}

// guess closes the picture ids of VP8 over frames that have not come and would be dropped. Left open, the gap would make a
// receiver wait for them with frames that do not need them.
func (s *Selector) guess(in *Info) {
	gap := in.frame - s.highest - 1
	if s.source != sourceVP8 || gap < 1 || gap > 16 || !in.gapless || in.tl0At == 0 || in.Key {
		return
	}
	tl0 := s.lastTL0
	if in.Temporal == 0 {
		tl0++
	}
	if in.tl0 != tl0 {
		return // one of them is of the base layer
	}
	lowest := s.now.rank == 0
	// Between the base layer and the next one lies the third: the pattern that every encoder uses.
	middle := s.now.rank == 1 && s.top.Temporal >= 2 && gap == 1 && s.lastLayer+in.Temporal == 1
	if !lowest && !middle {
		return
	}
	for range gap {
		s.advance(s.highest + 1)
		s.seen.set(0)
		s.now.stamp.picture--
	}
}

// restructure takes the sets of decode targets to be those of another structure.
func (s *Selector) restructure(in *Info) {
	s.st, s.gen, s.stale = in.st, 0, true
	if in.st != nil {
		s.gen = in.st.gen
	}
}

// layers returns the layers of a decode target, or for VP8 of a temporal layer.
func (s *Selector) layers(rank uint8) Layers {
	switch {
	case s.source == sourceVP9:
		return Layers{Spatial: rank >> 3, Temporal: rank & 7}
	case s.source == sourceVP8:
		return Layers{Temporal: rank}
	case s.st != nil && rank < s.st.targets:
		return s.st.layer[rank]
	}
	return Layers{}
}

// within returns the decode targets of at most these layers.
func (s *Selector) within(spatial, temporal uint8) uint64 {
	switch {
	case s.source == sourceVP9:
		return (uint64(2)<<temporal - 1) * (column & (uint64(2)<<(8*spatial+7) - 1))
	case s.st != nil:
		return s.st.upTo(spatial, temporal)
	}
	return 1
}

// below returns the decode targets below a spatial layer.
func (s *Selector) below(spatial uint8) uint64 {
	if spatial == 0 {
		return 0
	}
	return s.within(spatial-1, Top)
}

// window remembers something of the last frames: bit i of those up to the highest is of the one i back.
type window [reach / 64]uint64

func (w *window) has(i int64) bool { return uint64(i) < reach && w[i>>6]>>(i&63)&1 != 0 }

func (w *window) set(i int64) {
	if uint64(i) < reach {
		w[i>>6] |= 1 << (i & 63)
	}
}

func (w *window) shift(n int64) {
	if n >= reach {
		*w = window{}
		return
	}
	for ; n >= 64; n -= 64 {
		copy(w[1:], w[:len(w)-1])
		w[0] = 0
	}
	if n == 0 {
		return
	}
	for i := len(w) - 1; i > 0; i-- {
		w[i] = w[i]<<n | w[i-1]>>(64-n)
	}
	w[0] <<= n
}
