package sink

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sealed is a datagram as it is on the wire: a packet of a stream, and what was sealed in it.
func sealed(ssrc uint32, seq uint16, content uint64) []byte {
	b := make([]byte, 60)
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	binary.BigEndian.PutUint64(b[52:], content)
	return b
}

func sealedReport(ssrc, index uint32, content uint64) []byte {
	b := make([]byte, 60)
	b[0], b[1] = 0x80, 201
	binary.BigEndian.PutUint32(b[4:], ssrc)
	binary.BigEndian.PutUint64(b[48:], content)
	binary.BigEndian.PutUint32(b[56:], index|1<<31)
	return b
}

func TestIndices(t *testing.T) {
	g := newGuard()
	content := uint64(0)
	fresh := func() uint64 { content++; return content }
	// Two streams, through several cycles of the sequence number, in a slightly wrong order, with gaps and with datagrams that come twice.
	for _, ssrc := range []uint32{7, 8} {
		for n := range 200_000 {
			seq := uint16(n ^ 1)
			if n%1000 > 990 {
				continue
			}
			b := sealed(ssrc, seq, fresh())
			g.take(b)
			if n%500 == 0 {
				g.take(b)
			}
		}
	}
	for n := range uint32(3000) {
		g.take(sealedReport(7, n, fresh()))
	}
	want := Indices{Packets: 2*(200_000-200*9+400) + 3000, Streams: 3, Wraps: 2 * 3, Duplicates: 800}
	if diff := cmp.Diff(want, g.count); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The same index for another packet: at once, and after a while; and a report's.
	before := g.count
	g.take(sealed(7, uint16(199_900&0xffff), fresh()))
	g.take(sealed(8, uint16(199_000&0xffff), fresh()))
	g.take(sealedReport(7, 2999, fresh()))
	g.take(sealedReport(7, 12, fresh()))
	if got := g.count.Reused - before.Reused; got != 3 {
		t.Errorf("%d of 3 found", got)
	}
	if got := g.count.Old - before.Old; got != 1 {
		t.Errorf("%d of 1 too old", got)
	}
	g.take(nil)
	g.take([]byte{0x80})
	g.take(make([]byte, 100)) // not RTP
}
