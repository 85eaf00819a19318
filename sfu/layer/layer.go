// Package layer chooses, packet by packet, which layers of a published video reach one receiver, and makes what is left look whole.
//
// It owns three things. A Parser, one for each received stream, reads what a packet's clear bytes say of its frame: the payload
// descriptors of VP8 (RFC 7741) and VP9 (RFC 9628), and for any codec the dependency descriptor
// (https://aomediacodec.github.io/av1-rtp-spec/, appendix A). A Selector, one for each leg, says of every packet whether it is sent,
// and switches: down at once, up only where the stream allows it. A Stamp, a small value, says how the packet is changed on its
// way: picture ids, TL0PICIDX, KEYIDX, frame numbers, the marker and the active decode targets.
//
// It promises that a receiver never gets a frame whose references were withheld, that the numbers it sees go on forward over
// drops, switches and rebindings, that a packet sent again gets the same bytes, and that no input makes it panic or allocate. It
// needs nothing of the payload behind the descriptor.
//
// It does not number packets, keep time, ask for key frames or decide which layers a receiver deserves: package sfu/forward does
// the first three, sfu/bwe the last. Everything here belongs to one shard.
package layer

// Info is what a packet's clear bytes say of the frame that it is part of. It holds no view of the packet, and is good for as long
// as the Parser that made it meets no more than two new structures: that is, for a batch.
type Info struct {
	// Key: a key frame begins with this packet. With spatial layers it is the lowest one's.
	Key bool
	// Start and End: the first and the last packet of a frame; with spatial layers, of a layer's frame.
	Start, End bool
	// Spatial and Temporal name the layer, from 0.
	Spatial, Temporal uint8
	// Switch: a receiver that had only lower layers may have this one, or higher ones, from this frame on.
	Switch bool

	source  source
	marker  bool // as the publisher has it
	first   bool // the first frame of its picture, as far as is known
	unknown bool // of a structure that has not been seen
	blind   bool // what it refers to is not known
	astray  bool // its number does not go on from the others', see reach
	up      bool // VP9: U
	sync    bool // VP8: Y

	announced uint8 // VP9: number of spatial layers that a structure names

	epoch uint32 // a new one when the numbers of the stream began anew
	frame int64  // number of the frame, unwrapped; it grows in decoding order

	refs  [maxRefs]uint16 // how far back in frame numbers what it refers to lies
	nrefs uint8

	// Sets of decode targets. Targets are ranked: the higher the bit the more there is to see.
	present uint64 // the frame is part of
	need    uint64 // of these, those that do not do without
	begin   uint64 // those that may begin here if the frame can be decoded
	active  uint64 // those that the publisher is sending

	st        *structure // nil without a dependency descriptor
	activeRaw uint32     // active, in the order of the descriptor
	maskAt    uint16     // bit in the descriptor at which the active decode targets stand, or would stand
	used      uint16     // bits of the descriptor that have a meaning
	masked    bool       // they stand there
	number    uint16     // frame number on the wire
	described bool       // there is a descriptor

	gapless     bool // VP8: picture ids close over dropped frames
	pictureID   uint16
	pictureBits uint8 // 0, 7 or 15
	pictureAt   uint8 // offsets into the payload; 0: absent
	tl0At       uint8
	keyAt       uint8
	tl0         uint8
	keyIdx      uint8
}

// source is where the knowledge of an Info comes from.
type source uint8

const (
	sourceNone source = iota // no layers: marker and key frames only
	sourceVP8
	sourceVP9
	sourceDescriptor
)

const maxRefs = 8

// Layers are numbers of layers: 0 when nothing is known yet.
type Layers struct{ Spatial, Temporal uint8 }

// Target names what a leg is to have: the highest layers, of one simulcast stream. A stream that has fewer gives what it has.
type Target struct {
	Stream            int8 // 0 is the lowest; below 0: nothing is sent
	Spatial, Temporal uint8
}

// Top is a layer above all there are: a Target of Top is whatever the stream has.
const Top = 7

// None is the Target of a leg that is paused.
var None = Target{Stream: -1}

// Verdict is what a leg does with a packet.
type Verdict uint8

// Verdicts.
const (
	Drop  Verdict = iota // it is not sent; the leg's numbers close over it
	Send                 // it is sent
	Begin                // it is sent, and the leg's numbers and timestamps begin anew here: another stream, or the first after a pause
)
