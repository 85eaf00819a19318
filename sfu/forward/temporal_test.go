package forward_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pionrtcp "github.com/pion/rtcp"
)

// vp8Frame makes the packets of a VP8 picture with temporal layers (RFC 7741 §4.2): a descriptor with picture id, TL0PICIDX, TID and
// Y in each of them.
func vp8Frame(s *source, n, size int, key bool) (out [][]byte) {
	tid := []byte{0, 2, 1, 2}[n%4]
	for at := 0; at < size; at += 1000 {
		b := []byte{0x80, 0xe0, 0x80 | byte(n>>8)&0x7f, byte(n), byte(n / 4), tid << 6, 1}
		if at == 0 {
			b[0] |= 0x10
		}
		if tid > 0 && n%8 < 4 {
			b[5] |= 0x20 // Y: refers to the base layer only
		}
		if key {
			b[6] = 0
		}
		b = append(b, fmt.Sprintf("%d/%d ", n, at)...)
		b = append(b, make([]byte, max(0, min(1000, size-at)-len(b)))...)
		out = append(out, s.packet(b, at+1000 >= size))
	}
	return out
}

// On a link that has room for half of the pictures a receiver gets every second one, numbered as if there were no others: RTP
// sequence numbers and picture ids without a gap, though packets are lost on the way in and come late. What it asks for again has
// the bytes that it had at first.
func TestTemporalLayers(t *testing.T) {
	k := newCall(t, 6e6, 1)
	s := k.m.s[0]
	rnd := rand.New(rand.NewPCG(1, 2))
	var late [][]byte
	frames := 0
	picture := func() {
		key := frames == 0 || len(reports[pliPacket](k.m.c)) > 0 && frames%4 == 0
		for i, b := range vp8Frame(s, frames, 2500, key) {
			switch {
			case rnd.IntN(50) == 0 && !(key && i == 0):
				late = append(late, s.repair(s.seq-uint64(2-i)))
			default:
				k.m.c.deliver(b)
			}
		}
		if frames++; len(late) > 0 && frames%3 == 0 {
			k.m.c.deliver(late...)
			late = nil
		}
	}
	run := func(n int) {
		for range n {
			picture()
			for range 7 {
				k.rig.run(5 * ms)
				k.p.carry(k.now)
			}
		}
	}
	run(60)
	k.p.rate = 450e3 // of 600
	run(150)
	got := of(k.c.take(), 1001)
	k.p.seen = 0
	ids := map[byte]int{}
	slices.SortFunc(got, func(a, b packet) int { return int(a.index) - int(b.index) })
	last := -1
	for i, p := range got {
		if i > 0 && p.index != got[i-1].index+1 {
			t.Fatalf("number %d after %d", p.index, got[i-1].index)
		}
		if len(p.payload) < 7 {
			continue // fills the place of one that was not wanted
		}
		ids[p.payload[5]>>6]++
		id := int(be16(p.payload[2:]) & 0x7fff)
		if last >= 0 && id != last && id != last+1 {
			t.Errorf("picture %d after %d", id, last)
		}
		if last = id; i > len(got)-20 && p.payload[5]>>6 == 2 && k.c.peer.Estimate() < 500e3 {
			t.Errorf("of the third layer with an estimate of %d", k.c.peer.Estimate())
		}
	}
	t.Logf("packets by layer %v, %d fillers, %d recovered, estimate %d", ids, k.router.Counters.Fillers, k.router.Counters.Recovered, k.c.peer.Estimate()/1000)
	if ids[0] == 0 || ids[1] == 0 || ids[2] >= ids[0]+ids[1] || k.router.Counters.Recovered == 0 {
		t.Errorf("packets by layer %v", ids)
	}
	for i := len(got) - 40; i < len(got); i++ {
		p := got[i]
		k.rig.run(20 * ms)
		k.c.report(&pionrtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 1001, Nacks: []pionrtcp.NackPair{{PacketID: p.SequenceNumber}}})
		k.p.carry(k.now) // the receiver goes on to tell of arrivals
		again := of(k.c.take(), 2001)
		k.p.seen = 0
		if len(p.payload) < 7 {
			continue
		}
		if len(again) != 1 || be16(again[0].payload) != p.SequenceNumber || !bytes.Equal(again[0].payload[2:], p.payload) || again[0].Marker != p.Marker {
			t.Fatalf("%d is sent again as %v", p.SequenceNumber, again)
		}
	}
}
