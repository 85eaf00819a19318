package forward_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// However many receivers ask, and in whatever way, a publisher is asked for one key frame in 500 ms; one more asks for all who
// asked since.
func TestKeyRequestsBecomeOne(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	var cs []*client
	for i := range 10 {
		c := r.join(10+i, ours)
		c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
		cs = append(cs, c)
	}
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI before the first packet", p)
	}
	sv.push(delta("x"))
	if p := a.pliOf(cameraSSRC); p != 1 {
		t.Errorf("%d PLI for ten receivers", p)
	}
	sv.push(key("x"))
	r.run(2 * sec)
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI although the key frame has come", p)
	}
	for range 50 { // half a second of everybody asking
		for i, c := range cs {
			if i%2 == 0 {
				c.report(&pionrtcp.PictureLossIndication{MediaSSRC: 1001})
			} else {
				c.report(&pionrtcp.FullIntraRequest{FIR: []pionrtcp.FIREntry{{SSRC: 1001}, {SSRC: 99}}})
			}
		}
		r.run(9 * ms)
	}
	if p := a.pliOf(cameraSSRC); p != 1 {
		t.Errorf("%d PLI within half a second", p)
	}
	r.run(100 * ms)
	if p := a.pliOf(cameraSSRC); p != 1 {
		t.Errorf("%d PLI for those who asked meanwhile", p)
	}
	sv.push(key("x"))
	if n := r.router.Counters; n.KeyRequestsIn != 50*15 || n.KeyRequestsOut != 3 {
		t.Errorf("counters %+v", n)
	}
	// A leg that waits asks for the track's best layer; one that shows nothing asks nobody.
	cs[0].peer.NewTrack(trackOf("9"))
	cs[1].slot(2, rtp.KindVideo, vp8)
	r.run(sec)
	a.pli()
	cs[1].report(&pionrtcp.PictureLossIndication{MediaSSRC: 1002})
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI for a free slot", p)
	}
	// A wish that nobody is left to have is forgotten, a silent publisher is not asked for ever.
	cs[0].report(&pionrtcp.PictureLossIndication{MediaSSRC: 1001})
	cs[0].report(&pionrtcp.PictureLossIndication{MediaSSRC: 1001})
	for _, c := range cs {
		c.peer.Close(r.now)
	}
	a.pli()
	r.run(10 * sec)
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI for nobody", p)
	}
	d := r.join(30, ours)
	d.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(delta("x"))
	r.run(20 * sec)
	if p := a.pli(); p < 5 || p > 7 {
		t.Errorf("%d PLI to a publisher that fell silent", p)
	}
}

func TestTransportFeedback(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	_, sv := a.video("1", cameraSSRC, cameraRTX)
	stray := a.source(5, 0, vp8)
	began := r.now
	arrived := make(map[uint16]int64)
	n := uint16(65000)
	for i := range 1000 {
		n++
		id := element{4, []byte{byte(n >> 8), byte(n)}}
		switch {
		case i%10 == 3: // lost
		case i%10 == 7: // of a stream that belongs nowhere: the sender counts it all the same
			arrived[n] = r.now
			stray.push(delta("x"), id)
		default:
			arrived[n] = r.now
			sv.push(delta("x"), id)
		}
		r.run(3 * ms)
	}
	r.run(200 * ms)
	fbs := reports[*pionrtcp.TransportLayerCC](a)
	if want := int((r.now - began) / (100 * ms)); len(fbs) < want-3 || len(fbs) > want+1 {
		t.Errorf("%d feedbacks in %d ms", len(fbs), (r.now-began)/ms)
	}
	got := make(map[uint16]int64)
	for i, fb := range fbs {
		if fb.FbPktCount != uint8(i) || fb.MediaSSRC != cameraSSRC || fb.SenderSSRC != 0xfeed0001 {
			t.Errorf("feedback %d: count %d, media %x, sender %x", i, fb.FbPktCount, fb.MediaSSRC, fb.SenderSSRC)
		}
		at := int64(fb.ReferenceTime) * 64 * ms
		seq, deltas := fb.BaseSequenceNumber, fb.RecvDeltas
		note := func(symbol uint16) {
			if symbol != pionrtcp.TypeTCCPacketNotReceived {
				at += deltas[0].Delta * 1000
				deltas = deltas[1:]
				got[seq] = at
			}
			seq++
		}
		left := int(fb.PacketStatusCount)
		for _, chunk := range fb.PacketChunks {
			switch c := chunk.(type) {
			case *pionrtcp.RunLengthChunk:
				for range c.RunLength {
					note(c.PacketStatusSymbol)
					left--
				}
			case *pionrtcp.StatusVectorChunk:
				for _, s := range c.SymbolList {
					if left > 0 {
						note(s)
						left--
					}
				}
			}
		}
	}
	if len(got) != len(arrived) {
		t.Errorf("%d packets reported, %d came", len(got), len(arrived))
	}
	first := uint16(65001)
	for seq, at := range arrived {
		d := (got[seq] - got[first]) - (at - arrived[first])
		if d < -ms/4 || d > ms/4 {
			t.Fatalf("packet %d is %d ns off", seq, d)
		}
	}
	if r.router.Counters.FeedbackOut != uint64(len(fbs)) || r.router.Counters.UnknownSSRC != 100 {
		t.Errorf("counters %+v", r.router.Counters)
	}
	r.run(5 * sec)
	if n := len(reports[*pionrtcp.TransportLayerCC](a)); n != 0 {
		t.Errorf("%d feedbacks on nothing", n)
	}
	// What receivers say of us is counted, for now.
	a.report(fbs[0], &pionrtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{1}})
	if n := r.router.Counters; n.FeedbackIn != 1 || n.ReceiverEstimates != 1 {
		t.Errorf("counters %+v", n)
	}
}

// since is an NTP time of the rig's node in nanoseconds of its packet clock.
func since(ntp uint64) int64 { return int64(ntp>>32)*sec + int64(ntp&math.MaxUint32)*sec>>32 }

// Publishers' clocks differ; receivers are told all times by the node's. Sound and picture of one publisher are moved alike, so that
// what belongs together stays together, even when a report is late.
func TestOneClock(t *testing.T) {
	r := newRig(t)
	c := r.join(9, ours)
	type stream struct {
		s     *source
		clock int64
		ntp   uint64 // its publisher's clock at the packet clock's zero
		first uint32 // timestamp of the leg's first packet
	}
	streams := map[uint32]*stream{}
	at := r.now
	for i, ntp := range []uint64{0xe0000000_00000000, 0xe0000abc_80000000} {
		a := r.join(i+1, theirs)
		tv, sv := a.video("1", uint32(100+i), 0)
		ta, sa := a.audio("2", uint32(200+i))
		for k, x := range []struct {
			t     *forward.Track
			s     *source
			kind  rtp.Kind
			codec forward.CodecMap
			clock int64
		}{{tv, sv, rtp.KindVideo, vp8, 90000}, {ta, sa, rtp.KindAudio, opus, 48000}} {
			n := uint32(1 + 2*i + k)
			c.slot(n, x.kind, x.codec).Bind(x.t, r.now)
			x.s.push(key("picture"))
			streams[1000+n] = &stream{s: x.s, clock: x.clock, ntp: ntp, first: c.take()[0].Timestamp}
		}
	}
	for i := range 5 { // each second; the reports on sound are under way for 40 ms more
		for _, x := range streams {
			went := r.now - at
			sr := &pionrtcp.SenderReport{
				SSRC: x.s.ssrc, NTPTime: x.ntp + uint64(went/sec)<<32 + uint64(went%sec)<<32/uint64(sec), RTPTime: x.s.ts + uint32(went*x.clock/sec),
			}
			if i > 0 && x.clock == 48000 {
				r.run(40 * ms)
			}
			x.s.c.report(sr)
		}
		r.run(1 * sec)
	}
	for range 3 {
		reports[*pionrtcp.SenderReport](c)
		for _, x := range streams {
			x.s.push(key("picture"))
		}
		r.run(1 * sec)
		offsets := map[*client]int64{}
		srs := reports[*pionrtcp.SenderReport](c)
		if len(srs) != 4 {
			t.Fatalf("%d reports in a second", len(srs))
		}
		for _, sr := range srs {
			x := streams[sr.SSRC]
			// By how much the node's clock is ahead of what the stream's own time says.
			off := since(sr.NTPTime) - at - int64(sr.RTPTime-x.first)*sec/x.clock
			if other, ok := offsets[x.s.c]; ok && (off-other > ms/10 || other-off > ms/10) {
				t.Errorf("sound and picture are %d ns apart", off-other)
			}
			offsets[x.s.c] = off
			if off < -50*ms || off > 50*ms {
				t.Errorf("stream %d is %d ns off the node's clock", sr.SSRC, off)
			}
		}
	}
}

func TestSenderReports(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	leg := c.slot(1, rtp.KindVideo, vp8)
	leg.Bind(tv, r.now)
	sv.push(key("12345678"))
	r.run(2 * sec)
	if n := len(reports[*pionrtcp.SenderReport](c)); n != 0 {
		t.Errorf("%d reports before the publisher's clock is known", n)
	}
	const ntp = 0xe0000000_80000000
	a.report(&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: ntp, RTPTime: sv.ts + 500, PacketCount: 1, OctetCount: 10})
	at := r.now
	first := c.take()[0]
	for range 10 {
		sv.push(delta("12345678"))
		r.run(1 * sec)
	}
	srs := reports[*pionrtcp.SenderReport](c)
	if len(srs) != 10 {
		t.Fatalf("%d reports in ten seconds", len(srs))
	}
	for i, sr := range srs {
		// The leg's clock is the publisher's, moved; NTP times are by the node's clock.
		ticks := int64(sr.RTPTime-first.Timestamp) - 500
		ns := since(sr.NTPTime) - at
		if d := ticks - ns*90000/sec; d < -1 || d > 1 || sr.SSRC != 1001 || sr.PacketCount != uint32(2+i) || sr.OctetCount != uint32(20+10*i) {
			t.Errorf("%d ticks off: %+v", d, sr)
		}
		if ns <= 0 || ns > r.now-at {
			t.Errorf("report is %d ns after the publisher's", ns)
		}
	}
	names := reports[*pionrtcp.SourceDescription](c)
	if len(names) != 10 || names[0].Chunks[0].Source != 1001 || names[0].Chunks[0].Items[0].Text != "the node" {
		t.Errorf("names %v", names)
	}
	// The receiver answers 30 ms later, having kept it for all but 20 ms since it was sent.
	last := srs[9]
	r.run(30 * ms)
	kept := uint32((r.now - since(last.NTPTime) - 20*ms) * 65536 / sec)
	c.report(&pionrtcp.ReceiverReport{SSRC: 1, Reports: []pionrtcp.ReceptionReport{
		{SSRC: 99}, {SSRC: 1001, LastSenderReport: uint32(last.NTPTime >> 16), Delay: kept, FractionLost: 25, TotalLost: 3, Jitter: 44},
	}})
	st := leg.Stats()
	if st.Lost != 3 || st.FractionLost != 25 || st.Jitter != 44 {
		t.Errorf("%+v", st)
	}
	if st.RoundTrip < 20*ms-ms/10 || st.RoundTrip > 30*ms || c.peer.RoundTrip() != st.RoundTrip {
		t.Errorf("round trip %d", st.RoundTrip)
	}
	// One that answers another report, or claims a delay longer than has passed, measures nothing.
	for _, b := range []pionrtcp.ReceptionReport{
		{SSRC: 1001, LastSenderReport: 1, Delay: 1},
		{SSRC: 1001, LastSenderReport: uint32(last.NTPTime >> 16), Delay: 65536 * 5},
	} {
		c.report(&pionrtcp.ReceiverReport{SSRC: 1, Reports: []pionrtcp.ReceptionReport{b}})
		if got := leg.Stats().RoundTrip; got != st.RoundTrip {
			t.Errorf("round trip %d", got)
		}
	}
	// Of a stream that has stopped nothing is said, but for the second just after, until it goes on.
	c.take()
	reports[*pionrtcp.SenderReport](c)
	r.run(5 * sec)
	if n := len(reports[*pionrtcp.SenderReport](c)); n != 1 {
		t.Errorf("%d reports of a stream that has stopped", n)
	}
	sv.push(delta("12345678"))
	r.run(1 * sec)
	if n := len(reports[*pionrtcp.SenderReport](c)); n != 1 {
		t.Errorf("%d reports of a stream that goes on", n)
	}
	// A free leg reports nothing.
	leg.Bind(nil, r.now)
	r.run(3 * sec)
	if n := len(reports[*pionrtcp.SenderReport](c)); n != 0 {
		t.Errorf("%d reports of a free leg", n)
	}
}

func TestReceiverReports(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	_, sv := a.video("1", cameraSSRC, cameraRTX)
	_, sa := a.audio("0", micSSRC)
	for i := range 100 {
		if i%4 == 3 {
			sv.next(delta("lost"))
		} else {
			sv.push(delta("x"))
		}
		sa.push([]byte("x"))
		r.run(5 * ms)
	}
	a.report(&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: 0x1234_5678_9abc_def0})
	at := r.now
	r.run(sec)
	for i, p := range a.rtcp { // no compound without a name (RFC 3550 §6.1)
		if _, ok := p.(*pionrtcp.ReceiverReport); !ok {
			continue
		}
		want := &pionrtcp.SourceDescription{Chunks: []pionrtcp.SourceDescriptionChunk{{
			Source: 0xfeed0001, Items: []pionrtcp.SourceDescriptionItem{{Type: pionrtcp.SDESCNAME, Text: "the node"}},
		}}}
		if i+1 == len(a.rtcp) {
			t.Error("a report without a name")
		} else if d := cmp.Diff(pionrtcp.Packet(want), a.rtcp[i+1]); d != "" {
			t.Error(d)
		}
	}
	rrs := reports[*pionrtcp.ReceiverReport](a)
	last := rrs[len(rrs)-1]
	if len(rrs) > 3 || len(last.Reports) != 2 || last.SSRC != 0xfeed0001 {
		t.Fatalf("%d reports, %+v", len(rrs), last)
	}
	v, au := last.Reports[0], last.Reports[1]
	if v.SSRC != cameraSSRC || v.TotalLost != 24 || v.LastSequenceNumber != uint32(sv.seq-1) || v.LastSenderReport != 0x5678_9abc {
		t.Errorf("video %+v", v)
	}
	if d := int64(v.Delay) * sec / 65536; d <= 0 || d > r.now-at {
		t.Errorf("delay %d", d)
	}
	if au.SSRC != micSSRC || au.TotalLost != 0 || au.FractionLost != 0 || au.LastSenderReport != 0 {
		t.Errorf("audio %+v", au)
	}
	lost := uint32(0)
	for _, rr := range rrs {
		for _, b := range rr.Reports {
			lost += uint32(b.FractionLost)
		}
	}
	if lost == 0 {
		t.Error("no loss reported")
	}
}

// Many legs take several compounds, none above what a path carries.
func TestReportsOfManyLegs(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	ta, sa := a.audio("0", micSSRC)
	for i := range uint32(50) {
		c.slot(i, rtp.KindAudio, opus).Bind(ta, r.now)
	}
	sa.push([]byte("x"))
	a.report(&pionrtcp.SenderReport{SSRC: micSSRC, NTPTime: 1 << 40})
	c.rtcp = nil
	r.sent, r.moved = nil, 0
	r.run(sec)
	if n := len(reports[*pionrtcp.SenderReport](c)); n != 50 {
		t.Errorf("%d reports", n)
	}
	for _, d := range r.sent {
		if len(d.data) > 1200 {
			t.Errorf("datagram of %d bytes", len(d.data))
		}
	}
}

// A goodbye ends a layer at once, whatever else of it is still under way, and the next one is asked for its key frame.
func TestGoodbye(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	for _, x := range s {
		x.push(key("x"))
	}
	r.run(600 * ms) // the rate limit of key frames
	late := s[2].next(delta("late"))
	s[2].push(delta("x"))
	c.take()
	a.pli()
	a.report(&pionrtcp.Goodbye{Sources: []uint32{s[0].ssrc, 42}})
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI for a layer that nobody is shown", p)
	}
	a.report(&pionrtcp.Goodbye{Sources: []uint32{s[2].ssrc}})
	if p := a.pliOf(s[1].ssrc); p != 1 {
		t.Errorf("%d PLI to the next layer", p)
	}
	a.deliver(late) // what was under way does not bring it back
	s[1].push(key("h"))
	s[1].push(delta("h1"))
	if d := cmp.Diff([]string{"late", "h", "h1"}, texts(c.take())); d != "" {
		t.Error(d)
	}
	r.run(sec)
	a.pli()
	a.report(&pionrtcp.Goodbye{Sources: []uint32{s[1].ssrc}})
	if p := a.pli(); p != 0 {
		t.Errorf("%d PLI although no layer is left", p)
	}
	s[0].push(key("q")) // it goes on after all
	if d := cmp.Diff([]string{"q"}, texts(c.take())); d != "" {
		t.Error(d)
	}
}

// Who comes shortly after another one need not wait until the rate limit is over; but only a few times.
func TestKeyFramesForManyAtOnce(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	track, s := a.video("1", cameraSSRC, cameraRTX)
	s.push(key("begin"))
	s.stream(300, delta("x"))
	a.pli()
	var asked []int
	for i := range 8 {
		r.join(10+i, ours).slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
		r.run(120 * ms)
		asked = append(asked, a.pli())
		s.push(key("k"))
	}
	if d := cmp.Diff([]int{1, 1, 1, 0, 0, 0, 1, 0}, asked); d != "" {
		t.Error(d)
	}
}
