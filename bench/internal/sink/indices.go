package sink

import (
	"encoding/binary"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Indices is what is known of the SRTP and SRTCP indices that a server has used. To seal two different packets under one index and
// key gives both away (RFC 3711 §9.1, RFC 7714 §8.1): whoever reads the wire has their difference.
type Indices struct {
	Packets    uint64 // looked at
	Streams    uint64 // SSRCs, by connection
	Wraps      uint64 // of 16-bit sequence numbers
	Duplicates uint64 // the same datagram again: harmless
	Old        uint64 // too old to be compared with what was sent under its index
	Reused     uint64 // another packet under an index that was used: there may be none
}

func (i *Indices) add(o Indices) {
	i.Packets += o.Packets
	i.Streams += o.Streams
	i.Wraps += o.Wraps
	i.Duplicates += o.Duplicates
	i.Old += o.Old
	i.Reused += o.Reused
}

// remembered is how many packets of a stream are: more than a publisher of two megabits sends in ten seconds.
const remembered = 2048

// guard watches the indices of one connection, which has one key for each direction.
type guard struct {
	media, control map[uint32]*used // by SSRC
	count          Indices
}

// used are the last indices of one stream, with what was sealed under each.
type used struct {
	newest int64
	ring   [remembered]mark
}

// mark is a packet by the last bytes of its ciphertext, the authentication tag.
type mark struct {
	index int64 // and one, so that an empty place is none
	tag   uint64
}

func newGuard() *guard { return &guard{media: map[uint32]*used{}, control: map[uint32]*used{}} }

// take looks at one datagram from the wire.
func (g *guard) take(b []byte) {
	switch {
	case len(b) < 32 || b[0]>>6 != 2:
	case rtp.IsRTCP(b): // behind the tag stands the index, whole (RFC 7714 §9.3)
		u := g.stream(g.control, binary.BigEndian.Uint32(b[4:]))
		at := len(b) - 4
		g.note(u, int64(binary.BigEndian.Uint32(b[at:])&0x7fffffff), binary.BigEndian.Uint64(b[at-8:]))
	default:
		seq, u := binary.BigEndian.Uint16(b[2:]), g.stream(g.media, binary.BigEndian.Uint32(b[8:]))
		index := u.newest + int64(int16(seq-uint16(u.newest)))
		if u.newest < 0 {
			index = int64(seq)
		}
		if index>>16 > u.newest>>16 && u.newest >= 0 {
			g.count.Wraps++
		}
		g.note(u, index, binary.BigEndian.Uint64(b[len(b)-8:]))
	}
}

func (g *guard) stream(of map[uint32]*used, ssrc uint32) *used {
	u := of[ssrc]
	if u == nil {
		u = &used{newest: -1}
		of[ssrc] = u
		g.count.Streams++
	}
	return u
}

func (g *guard) note(u *used, index int64, tag uint64) {
	g.count.Packets++
	if index <= u.newest-remembered || index < 0 {
		g.count.Old++
		return
	}
	u.newest = max(u.newest, index)
	switch m := &u.ring[index%remembered]; {
	case m.index != index+1:
		*m = mark{index + 1, tag}
	case m.tag == tag:
		g.count.Duplicates++
	default:
		g.count.Reused++
	}
}
