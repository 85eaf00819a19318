package forward

import (
	"github.com/sotto-edge/sotto/internal/offheap"
	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/spsc"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Link carries what one shard has for another: packets of mirrored tracks and what goes with them, and whole datagrams that came to
// the wrong one. It belongs to two threads: the one end sends and publishes, the other receives. What finds it full is lost and
// counted; nobody ever waits.
type Link struct {
	ring *spsc.Ring[parcel]

	// The sender's.
	Counters LinkCounters

	// The receiver's.
	one [1]udp.Datagram // what a Mux is given at a time
}

// LinkCounters are kept by the sending end.
type LinkCounters struct {
	Packets   uint64 // of mirrored tracks
	Datagrams uint64 // that came to the sender and were for the receiver
	Messages  uint64 // reports and requests
	Dropped   uint64 // for want of room
}

// parcelKind says what is in a parcel.
type parcelKind uint8

const (
	parcelDatagram parcelKind = iota + 1 // for the receiver's Mux
	parcelPacket                         // of a mirrored layer
	parcelReport                         // the publisher's clock
	parcelStopped                        // the publisher has said goodbye to a layer
	parcelRequest                        // RTCP about a layer, from its mirror
	parcelKey                            // from a mirror that knows no layer yet
	parcelDemand                         // from a mirror: the highest layer that is of use there
)

// parcel is one slot of a Link.
type parcel struct {
	kind  parcelKind
	layer uint8
	codec rtp.Codec
	late  bool // a packet that was missing
	ssrc  uint32
	rtp   uint32 // of a report
	ext   int64  // of a packet: its extended number; of a report: when it came
	ntp   uint64
	ids   Extensions
	to    *Mirror
	path  udp.Path
	size  int
	data  *[pktbuf.Size]byte
}

// NewLink makes a link for n parcels under way.
func NewLink(n int) *Link {
	l := &Link{ring: spsc.New[parcel](n)}
	room := offheap.Bytes(l, l.ring.Cap()*pktbuf.Size)
	for i, p := range l.ring.Slots() {
		p.data = (*[pktbuf.Size]byte)(room[i*pktbuf.Size:])
	}
	return l
}

// parcel returns the next one to fill, nil if there is no room.
func (l *Link) parcel(kind parcelKind, to *Mirror) *parcel {
	p := l.ring.Slot()
	if p == nil {
		l.Counters.Dropped++
		return nil
	}
	p.kind, p.to = kind, to
	return p
}

// Forward sends a datagram to the other shard. It copies it.
func (l *Link) Forward(d *udp.Datagram) {
	p := l.parcel(parcelDatagram, nil)
	if p == nil {
		return
	}
	if p.size = copy(p.data[:], d.Data); p.size < len(d.Data) {
		l.Counters.Dropped++ // longer than anything that is a packet
		return
	}
	p.path = d.Path
	l.ring.Push()
	l.Counters.Datagrams++
}

// Publish shows the other shard what was sent since the last time; it is to be woken if that was anything.
func (l *Link) Publish() bool { return l.ring.Publish() }

// Empty says whether there is nothing to receive.
func (l *Link) Empty() bool { return l.ring.Empty() }

// Receive takes up to limit parcels and returns how many there were. r and m are the receiving shard's.
func (l *Link) Receive(r *Router, m *transport.Mux, limit int, now int64) int {
	for n := range limit {
		p := l.ring.Front()
		if p == nil {
			return n
		}
		switch p.kind {
		case parcelDatagram:
			l.one[0] = udp.Datagram{Data: p.data[:p.size:p.size], Path: p.path}
			m.Receive(l.one[:], now)
		case parcelRequest, parcelKey, parcelDemand:
			p.to.asked(p, now)
		default:
			p.to.take(r, p, now)
		}
		p.to = nil
		l.ring.Pop()
	}
	return limit
}
