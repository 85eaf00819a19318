package forward_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

func nack(ssrc uint32, seqs ...uint16) *pionrtcp.TransportLayerNack {
	return &pionrtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: pionrtcp.NackPairsFromSequenceNumbers(seqs)}
}

// asked returns the numbers that the node asked the client for, in order.
func (c *client) asked() (out []uint16) {
	for _, n := range reports[*pionrtcp.TransportLayerNack](c) {
		for _, p := range n.Nacks {
			out = append(out, p.PacketList()...)
		}
	}
	return out
}

// What a publisher sends over its retransmission stream is unwrapped; whatever has come before is dropped.
func TestRepairFromPublisher(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("0"))
	original := sv.next(delta("1"))
	lost := sv.seq
	sv.push(delta("2"))
	a.deliver(sv.repair(lost), sv.repair(lost), sv.repair(lost-1)) // it; again; a probe
	a.deliver(original)                                            // and after all itself
	sv.rtxSeq++
	padding := rtp.AppendHeader(nil, false, 97, uint16(sv.rtxSeq), 0, cameraRTX, false)
	padding[0] |= 0x20
	a.deliver(a.seal(cameraRTX, sv.rtxSeq, padding, []byte{0, 0, 0, 4})) // a probe of nothing
	sv.rtxSeq++
	a.deliver(a.seal(cameraRTX, sv.rtxSeq, header(97, sv.rtxSeq, 0, cameraRTX, nil), []byte{9}))
	sv.rtxSeq++
	a.deliver(a.seal(cameraRTX, sv.rtxSeq, header(50, sv.rtxSeq, 0, cameraRTX, nil), delta("no format for it")))
	got := c.take()
	if d := cmp.Diff([]string{"0", "2", "1"}, texts(got)); d != "" {
		t.Error(d)
	}
	if one := got[2]; one.PayloadType != 96 || one.index != got[0].index+1 || one.Timestamp != got[0].Timestamp+3000 {
		t.Errorf("%+v", one.Header)
	}
	if n := r.router.Counters; n.Recovered != 1 || n.Duplicates != 3 || n.Padding != 3 {
		t.Errorf("counters %+v", n)
	}
}

// A gap is asked for when it is more than reordering, again after the round trip, and given up in the end for a key frame.
func TestNACKToPublisher(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("0"))
	a.pli()
	swapped := sv.next(delta("1"))
	sv.push(delta("2"))
	a.deliver(swapped)
	r.run(100 * ms)
	if got := a.asked(); len(got) != 0 {
		t.Errorf("asked for %v, which was only late", got)
	}
	sv.next(delta("3"))
	lost := sv.seq
	sv.push(delta("4"))
	if got := a.asked(); len(got) != 0 {
		t.Errorf("asked for %v at once", got)
	}
	sv.push(delta("5"))
	if d := cmp.Diff([]uint16{uint16(lost)}, a.asked()); d != "" {
		t.Error(d)
	}
	r.run(50 * ms) // 20 ms and 20 ms
	if d := cmp.Diff([]uint16{uint16(lost), uint16(lost)}, a.asked()); d != "" {
		t.Error(d)
	}
	a.deliver(sv.repair(lost))
	r.run(2 * sec)
	if got := a.asked(); len(got) != 0 {
		t.Errorf("asked for %v, which has come", got)
	}
	sv.next(delta("6"))
	lost = sv.seq
	sv.push(delta("7"))
	r.run(2 * sec)
	got := a.asked()
	if len(got) < 5 || len(got) > 10 || slices.ContainsFunc(got, func(s uint16) bool { return s != uint16(lost) }) {
		t.Errorf("asked for %v in two seconds", got)
	}
	if p := a.pli(); p < 1 {
		t.Errorf("no PLI for a packet given up")
	}
	if n := r.router.Counters.NACKsOut; n != uint64(3+len(got)) {
		t.Errorf("%d counted", n)
	}
}

// Without a receiver nothing is asked for, and audio never is.
func TestNoNACK(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	_, sv := a.video("1", cameraSSRC, cameraRTX)
	ta, sa := a.audio("0", micSSRC)
	c.slot(1, rtp.KindAudio, opus).Bind(ta, r.now)
	for _, s := range []*source{sv, sa} {
		s.push([]byte("x"))
		s.next([]byte("lost"))
		s.stream(100, []byte("x"))
	}
	if got := a.asked(); len(got) != 0 {
		t.Errorf("asked for %v", got)
	}
	if n := r.pool.InUse(); n != 0 {
		t.Errorf("%d buffers kept of what nobody can ask for", n)
	}
}

// A receiver's request is answered over its retransmission stream: the leg's payload type and extensions, the original number, the
// original timestamp and content.
func TestRepairToReceiver(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	other := a.peer.NewTrack(forward.TrackConfig{MID: "2", Kind: rtp.KindVideo, Codecs: []forward.CodecMap{h264}, SSRCs: []uint32{77}})
	so := a.source(77, 78, h264)
	leg := c.slot(1, rtp.KindVideo, vp8, h264)
	leg.Bind(tv, r.now)
	sv.push(key("0"))
	for i := range 20 {
		sv.push(delta(fmt.Sprint(i)), element{7, []byte{2}})
	}
	sent := c.take()
	want := sent[7]
	c.report(nack(1001, want.SequenceNumber))
	check := func(p packet) {
		t.Helper()
		if p.SSRC != 2001 || p.PayloadType != 97 || be16(p.payload) != want.SequenceNumber || p.Timestamp != want.Timestamp || !p.Marker {
			t.Errorf("%+v, number %d", p.Header, be16(p.payload))
		}
		if d := cmp.Diff(want.payload, p.payload[2:]); d != "" {
			t.Error(d)
		}
		if p.Extension(13)[0] != 2 || string(p.Extension(9)) != "s" || len(p.Extension(10)) != 2 || len(p.Extension(11)) != 3 {
			t.Error("extensions are not the leg's")
		}
	}
	got := c.take()
	if len(got) != 1 {
		t.Fatalf("%d packets", len(got))
	}
	check(got[0])
	// Not twice within the round trip, but after it.
	c.report(nack(1001, want.SequenceNumber))
	if got := c.take(); len(got) != 0 {
		t.Errorf("sent %d times within 20 ms", 1+len(got))
	}
	r.run(30 * ms)
	c.report(nack(1001, want.SequenceNumber))
	if got := c.take(); len(got) != 1 || got[0].index != 32762 {
		t.Errorf("%d packets", len(got))
	}
	// The original is whole in the history: its header was borrowed for the number.
	r.run(30 * ms)
	// The leg shows another track with another codec: what was of the first is still answered as it was.
	leg.Bind(other, r.now)
	so.push([]byte{0x65, 0, 'i'})
	so.push([]byte{0x61, 0, 'p'})
	second := c.take()
	c.report(nack(1001, want.SequenceNumber, second[1].SequenceNumber))
	got = c.take()
	if len(got) != 2 {
		t.Fatalf("%d packets", len(got))
	}
	check(got[0])
	if got[1].PayloadType != 103 || string(got[1].payload[2:]) != "\x61\x00p" || got[1].Timestamp != second[1].Timestamp {
		t.Errorf("%+v", got[1].Header)
	}
	whole(t, got)
	// What is not there.
	missed := r.router.Counters.RetransmitMissed
	c.report(nack(1001, want.SequenceNumber-100, want.SequenceNumber+100), nack(2001, 32761))
	if len(c.take()) != 0 || r.router.Counters.RetransmitMissed != missed+2 || r.router.Counters.IgnoredRTCP != 1 {
		t.Errorf("counters %+v", r.router.Counters)
	}
	// After a second it is history no more.
	r.run(3 * sec)
	c.report(nack(1001, want.SequenceNumber))
	if len(c.take()) != 0 || r.pool.InUse() != 0 {
		t.Errorf("%d buffers", r.pool.InUse())
	}
	// And of a track that ended nothing is left.
	so.push([]byte{0x65, 0, 'i'})
	last := c.take()[0]
	other.Close(r.now)
	c.report(nack(1001, last.SequenceNumber))
	if len(c.take()) != 0 || r.pool.InUse() != 0 {
		t.Errorf("%d buffers", r.pool.InUse())
	}
}

// However many requests stand in a compound, it costs no more than 64 packets.
func TestRepairIsBounded(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("0"))
	for range 500 {
		sv.push(delta("x"))
	}
	first := c.take()[0].SequenceNumber
	var ps []pionrtcp.Packet
	for i := range uint16(25) {
		var seqs []uint16
		for j := range uint16(17) {
			seqs = append(seqs, first+17*i+j)
		}
		ps = append(ps, nack(1001, seqs...))
	}
	c.report(ps...)
	if got := c.take(); len(got) != 64 {
		t.Errorf("%d packets", len(got))
	}
	if n := r.router.Counters; n.NACKsIn != 25*17 || n.Retransmitted != 64 {
		t.Errorf("counters %+v", n)
	}
}

// Audio has no retransmission stream; nor has a receiver that did not agree to one.
func TestNoRepair(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	ta, sa := a.audio("0", micSSRC)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindAudio, opus).Bind(ta, r.now)
	c.slot(2, rtp.KindVideo, forward.CodecMap{Codec: rtp.VP8, PayloadType: 96}).Bind(tv, r.now)
	sa.push([]byte("x"))
	sv.push(key("x"))
	c.take()
	c.report(nack(1001, 32761), nack(1002, 32761))
	if len(c.take()) != 0 || r.router.Counters.RetransmitMissed != 2 {
		t.Errorf("counters %+v", r.router.Counters)
	}
}
