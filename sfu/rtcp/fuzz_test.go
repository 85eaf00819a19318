package rtcp_test

import (
	"bytes"
	"slices"
	"testing"

	pion "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func seeds() [][]byte {
	blocks := []rtcp.ReportBlock{{SSRC: 1, FractionLost: 3, CumulativeLost: -4}, {SSRC: 2, LastSR: 9}}
	all := rtcp.AppendSenderReport(nil, rtcp.SenderReport{SSRC: 3, NTP: 1 << 40}, blocks)
	all = rtcp.AppendSDESCNAME(all, 3, "name")
	out := [][]byte{
		{},
		{0x80},
		{0x80, 200, 0, 0},
		{0x40, 201, 0, 1, 0, 0, 0, 0},
		{0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4}, // padded
		{0xaf, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 1, 0, 0, 1, 7, 0x20, 1, 9, 1},
		{0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 'R', 'E', 'M', 'B', 1, 0x0b, 0xff, 0xff, 0, 0, 0, 9},
		{0x80, 204, 0, 2, 0, 0, 0, 1, 'n', 'a', 'm', 'e'},
		{0x80, 207, 0, 1, 0, 0, 0, 1},
		{0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8},
		rtcp.AppendDelaysSinceRRTR(slices.Clone(all), 1, []rtcp.DelaySinceRRTR{{SSRC: 1, Last: 2, Delay: 3}}),
		slices.Clone(all),
		rtcp.AppendReceiverReport(nil, 7, blocks),
		rtcp.AppendNACK(slices.Clone(all), 1, 2, []uint16{65530, 65535, 3, 400}),
		rtcp.AppendPLI(slices.Clone(all), 1, 2),
		rtcp.AppendFIR(slices.Clone(all), 1, 2, 3),
		rtcp.AppendBYE(slices.Clone(all), []uint32{1, 2}, "going"),
	}
	return append(out, rtcp.AppendTWCC(nil, rtcp.TWCC{BaseSequence: 65535, ReferenceTime: 5}, []int32{
		1, 2, rtcp.TWCCNotReceived, -5, 900, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, rtcp.TWCCNotReceived, 7,
	}))
}

// FuzzCompound opens whatever comes. Nothing may panic or run past its end, and where pion/rtcp can read a packet too,
// both must have read the same.
func FuzzCompound(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		it := rtcp.NewIterator(b)
		total := 0
		for it.Next() {
			p := it.Packet
			total += 4 + len(p.Body())
			if p.Count() != int(p.Format()) || p.Count() > 31 {
				t.Fatalf("count %d, format %d", p.Count(), p.Format())
			}
			open(t, p)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of packets in %d", total, len(b))
		}
		if !bytes.Equal(b, before) {
			t.Fatal("parsing changed the packet")
		}
		ps, err := pion.Unmarshal(b)
		if err != nil {
			return
		}
		it = rtcp.NewIterator(b)
		for _, theirs := range ps {
			if !it.Next() {
				return // padding that lies, which pion does not look at
			}
			if b[0]&0x20 == 0 {
				compare(t, it.Packet, theirs)
			}
			b = b[4*(1+int(b[2])<<8+int(b[3])):]
		}
	})
}

// open reads a packet as everything; only its own type may answer.
func open(t *testing.T, p rtcp.Packet) {
	opened := 0
	count := func(want rtcp.Type, ok bool) {
		if !ok {
			return
		}
		opened++
		if p.Type() != want {
			t.Fatalf("a packet of type %d opens as %d", p.Type(), want)
		}
	}
	sr, ok := rtcp.ParseSenderReport(p)
	count(rtcp.TypeSenderReport, ok)
	rr, ok := rtcp.ParseReceiverReport(p)
	count(rtcp.TypeReceiverReport, ok)
	if n := len(slices.Collect(sr.Blocks.All)) + len(slices.Collect(rr.Blocks.All)); opened > 0 && n != p.Count() {
		t.Fatalf("%d blocks, want %d", n, p.Count())
	}
	bye, ok := rtcp.ParseBYE(p)
	count(rtcp.TypeBYE, ok)
	if n := len(slices.Collect(bye.SSRCs)); ok && n != p.Count() {
		t.Fatalf("%d sources, want %d", n, p.Count())
	}
	nack, ok := rtcp.ParseNACK(p)
	count(rtcp.TypeTransportFeedback, ok)
	if n := len(slices.Collect(nack.Seqs)); n != nack.Len() {
		t.Fatalf("%d sequence numbers, want %d", n, nack.Len())
	}
	_, ok = rtcp.ParsePLI(p)
	count(rtcp.TypePayloadFeedback, ok)
	fir, ok := rtcp.ParseFIR(p)
	count(rtcp.TypePayloadFeedback, ok)
	for range fir.Entries {
		continue
	}
	remb, ok := rtcp.ParseREMB(p)
	count(rtcp.TypePayloadFeedback, ok)
	for range remb.SSRCs {
		continue
	}
	twcc, ok := rtcp.ParseTWCC(p)
	count(rtcp.TypeTransportFeedback, ok)
	if n := len(ourFates(twcc)); n != int(twcc.StatusCount) {
		t.Fatalf("%d statuses, want %d", n, twcc.StatusCount)
	}
	_, ok = rtcp.ParseReferenceTime(p)
	count(rtcp.TypeXR, ok)
	_, ok = rtcp.ParseCCFB(p)
	count(rtcp.TypeTransportFeedback, ok)
	if opened > 1 {
		t.Fatalf("one packet opens as %d", opened)
	}
	if twcc.StatusCount > 0 {
		rewrite(t, twcc)
	}
}

// rewrite writes a feedback anew, and reads the same from it.
func rewrite(t *testing.T, in rtcp.TWCC) {
	var deltas []int32
	for p := range in.Packets {
		if !p.Received {
			p.Delta = rtcp.TWCCNotReceived
		}
		deltas = append(deltas, p.Delta)
	}
	it := rtcp.NewIterator(rtcp.AppendTWCC(nil, in, deltas))
	if !it.Next() {
		t.Fatal("cannot read our own feedback")
	}
	if out, ok := rtcp.ParseTWCC(it.Packet); !ok || !slices.Equal(ourFates(out), ourFates(in)) || out.FeedbackCount != in.FeedbackCount {
		t.Fatalf("rewritten as %v, want %v", ourFates(out), ourFates(in))
	}
}

func compare(t *testing.T, p rtcp.Packet, theirs pion.Packet) {
	switch theirs := theirs.(type) {
	case *pion.SenderReport:
		got, ok := rtcp.ParseSenderReport(p)
		if !ok || got.SSRC != theirs.SSRC || got.NTP != theirs.NTPTime || got.RTPTime != theirs.RTPTime || got.Blocks.Len() != len(theirs.Reports) {
			t.Fatalf("read %+v, %v; pion %+v", got, ok, theirs)
		}
		if !slices.Equal(toPion(slices.Collect(got.Blocks.All)), theirs.Reports) {
			t.Fatalf("blocks %+v, pion %+v", slices.Collect(got.Blocks.All), theirs.Reports)
		}
	case *pion.ReceiverReport:
		got, ok := rtcp.ParseReceiverReport(p)
		if !ok || got.SSRC != theirs.SSRC || !slices.Equal(toPion(slices.Collect(got.Blocks.All)), theirs.Reports) {
			t.Fatalf("read %+v, %v; pion %+v", got, ok, theirs)
		}
	case *pion.Goodbye:
		got, ok := rtcp.ParseBYE(p)
		if !ok || !slices.Equal(slices.Collect(got.SSRCs), theirs.Sources) || string(got.Reason()) != theirs.Reason {
			t.Fatalf("read %v %q, %v; pion %+v", slices.Collect(got.SSRCs), got.Reason(), ok, theirs)
		}
	case *pion.TransportLayerNack:
		got, ok := rtcp.ParseNACK(p)
		var want []uint16
		for _, n := range theirs.Nacks {
			want = append(want, n.PacketList()...)
		}
		if !ok || got.MediaSSRC != theirs.MediaSSRC || !slices.Equal(slices.Collect(got.Seqs), want) {
			t.Fatalf("read %v, %v; pion %v", slices.Collect(got.Seqs), ok, want)
		}
	case *pion.PictureLossIndication:
		got, ok := rtcp.ParsePLI(p)
		if !ok || got.MediaSSRC != theirs.MediaSSRC || got.SenderSSRC != theirs.SenderSSRC {
			t.Fatalf("read %+v, %v; pion %+v", got, ok, theirs)
		}
	case *pion.FullIntraRequest:
		got, ok := rtcp.ParseFIR(p)
		var entries []pion.FIREntry
		for ssrc, command := range got.Entries {
			entries = append(entries, pion.FIREntry{SSRC: ssrc, SequenceNumber: command})
		}
		if ok != (len(theirs.FIR) > 0) || !slices.Equal(entries, theirs.FIR) {
			t.Fatalf("read %+v, %v; pion %+v", entries, ok, theirs)
		}
	case *pion.ReceiverEstimatedMaximumBitrate:
		got, ok := rtcp.ParseREMB(p)
		if !ok || !slices.Equal(slices.Collect(got.SSRCs), theirs.SSRCs) {
			t.Fatalf("read %+v, %v; pion %+v", got, ok, theirs)
		}
	case *pion.ExtendedReport:
		got, ok := rtcp.ParseReferenceTime(p)
		for _, b := range theirs.Reports {
			if r, is := b.(*pion.ReceiverReferenceTimeReportBlock); is {
				if ok && (got.SSRC != theirs.SenderSSRC || got.NTP != r.NTPTimestamp) {
					t.Fatalf("read %+v; pion %+v", got, theirs)
				}
				break
			}
		}
	case *pion.TransportLayerCC:
		got, ok := rtcp.ParseTWCC(p)
		if !ok {
			return // the reserved symbol, or deltas that pion reads from the bits behind the last status
		}
		want := pionFates(theirs)
		if n := len(pionDeltas(theirs)); n == len(theirs.RecvDeltas) && !slices.Equal(ourFates(got), want) {
			t.Fatalf("read %v; pion %v", ourFates(got), want)
		}
	}
}

// pionDeltas are the deltas that belong to statuses within the count: pion also makes some of the bits behind the last.
func pionDeltas(p *pion.TransportLayerCC) []*pion.RecvDelta {
	n := 0
	for _, f := range pionFates(p) {
		if f.received {
			n++
		}
	}
	return p.RecvDeltas[:n]
}

func FuzzRestoreReception(f *testing.F) {
	var r rtcp.Reception
	f.Add(r.AppendState(nil, 0), uint16(5))
	for _, seq := range []uint16{1, 2, 5, 4} {
		r.Update(seq, 9, 90000, 1)
	}
	r.SenderReport(1<<40, 7, 2)
	f.Add(r.AppendState(nil, 5), uint16(65000))
	f.Fuzz(func(t *testing.T, b []byte, seq uint16) {
		r, rest, err := rtcp.RestoreReception(b, 100)
		if err != nil {
			return
		}
		if again := r.AppendState(nil, 100); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("% x restored and written again is % x", b, again)
		}
		r.Update(seq, 5, 48000, 200)
		r.Repaired(seq - 1)
		r.Block(300)
	})
}

// FuzzFeedback drives the recorder and the generator with numbers and times from the outside, which is where a sender's
// sequence numbers come from.
func FuzzFeedback(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 2, 0, 0, 5, 9, 255, 255, 255, 0, 4, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			rec rtcp.TWCCRecorder
			gen rtcp.NACKGenerator
			r   rtcp.Reception
			buf [4096]byte
			out [512]uint16
			now int64
		)
		b = b[:min(len(b), 3000)]
		for ; len(b) >= 3; b = b[3:] {
			seq := uint16(b[0])<<8 | uint16(b[1])
			now += int64(b[2]) * int64(b[2]) * 250_000
			rec.Received(seq, now)
			ext, status := r.Update(seq, uint32(now), 90000, now)
			if status != rtcp.Duplicate {
				gen.Received(ext, now)
			}
			for _, s := range gen.Missing(now, 30*ms, out[:0]) {
				if s == seq {
					t.Fatalf("asks for %d, which just came", s)
				}
			}
			if b[2]&3 != 0 {
				continue
			}
			for rounds := 0; rec.Pending(); rounds++ {
				if rounds > 100 {
					t.Fatal("feedback without end")
				}
				it := rtcp.NewIterator(rec.Append(buf[:0], 1, 2, 1200))
				for it.Next() {
					if _, ok := rtcp.ParseTWCC(it.Packet); !ok {
						t.Fatalf("cannot read our own % x", it.Body())
					}
				}
				if it.Malformed() {
					t.Fatal("malformed feedback")
				}
			}
		}
	})
}
