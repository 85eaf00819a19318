package layer

import "github.com/sotto-edge/sotto/internal/plain"

// State is what another node needs to go on with a leg in the middle of a stream, without a key frame: which stream it has, how
// its packets are changed, and what the receiver has got last. What the Selector knows of frames stays behind; until the next key
// frame everything is sent that might be needed.
type State struct {
	Stream int8 // -1: nothing is sent

	picture, number, addPicture, addNumber   uint16
	tl0, keyIdx, addTL0, addKeyIdx, spatial  uint8
	hasPicture, hasNumber, hasTL0, hasKeyIdx bool
}

// Code describes the state to a Coder.
func (s *State) Code(c *plain.Coder) {
	plain.Int(c, &s.Stream)
	for _, v := range []*uint16{&s.picture, &s.number, &s.addPicture, &s.addNumber} {
		plain.Int(c, v)
	}
	for _, v := range []*uint8{&s.tl0, &s.keyIdx, &s.addTL0, &s.addKeyIdx, &s.spatial} {
		plain.Int(c, v)
	}
	for _, v := range []*bool{&s.hasPicture, &s.hasNumber, &s.hasTL0, &s.hasKeyIdx} {
		c.Bool(v)
	}
}

// State returns the state of now.
func (s *Selector) State() State {
	st := State{
		Stream:  -1,
		picture: s.out.picture, number: s.out.number, tl0: s.out.tl0, keyIdx: s.out.keyIdx,
		hasPicture: s.outPictures, hasNumber: s.outNumbers, hasTL0: s.outTL0, hasKeyIdx: s.outKeys,
	}
	if s.on && !s.lost {
		n := s.now.stamp
		st.Stream = s.stream
		st.addPicture, st.addNumber, st.addTL0, st.addKeyIdx, st.spatial = n.picture, n.number, n.tl0, n.keyIdx, n.spatial
	}
	return st
}

// Restore makes a new Selector go on from st. It returns how the packets of its stream are changed.
func (s *Selector) Restore(st State) Stamp {
	s.out = last{picture: st.picture, number: st.number, tl0: st.tl0, keyIdx: st.keyIdx}
	s.outPictures, s.outNumbers, s.outTL0, s.outKeys = st.hasPicture, st.hasNumber, st.hasTL0, st.hasKeyIdx
	s.stream, s.resumed = st.Stream, st.Stream >= 0
	s.now = choice{stamp: Stamp{
		picture: st.addPicture, number: st.addNumber, tl0: st.addTL0, keyIdx: st.addKeyIdx, spatial: st.spatial,
	}}
	return s.now.stamp
}

// resume begins with the first packet that comes after Restore.
func (s *Selector) resume(in *Info) {
	s.resumed, s.on, s.lost, s.source, s.epoch = false, true, false, in.source, in.epoch
	s.highest, s.begun = in.frame-1, max(0, in.frame-reach)
	s.seen, s.sent = window{}, window{}
	for i := range s.sent {
		s.seen[i], s.sent[i] = ^uint64(0), ^uint64(0) // by the other node
	}
	s.lastTL0, s.lastLayer = in.tl0, in.Temporal
	s.restructure(in)
	s.whole = ^uint64(0)
}
