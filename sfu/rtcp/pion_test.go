package rtcp_test

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/rtcp"
	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// Everything we write must be read by pion/rtcp as what was meant, and the other way round.

func pionOne[P pion.Packet](t interface {
	Helper()
	Fatalf(string, ...any)
}, b []byte,
) P {
	t.Helper()
	ps, err := pion.Unmarshal(b)
	if err != nil {
		t.Fatalf("pion cannot read % x: %v", b, err)
	}
	p, ok := ps[0].(P)
	if !ok || len(ps) != 1 {
		t.Fatalf("pion reads %d packets, the first a %T", len(ps), ps[0])
	}
	return p
}

func marshal(t *rapid.T, p pion.Packet) []byte {
	b, err := p.Marshal()
	if err != nil {
		t.Fatalf("pion cannot write %+v: %v", p, err)
	}
	return b
}

func one(t *rapid.T, b []byte) rtcp.Packet {
	it := rtcp.NewIterator(b)
	if !it.Next() {
		t.Fatalf("no packet in % x", b)
	}
	p := it.Packet
	if it.Next() || it.Malformed() {
		t.Fatalf("more than one packet in % x", b)
	}
	return p
}

func drawBlocks(t *rapid.T, most int) []rtcp.ReportBlock {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rtcp.ReportBlock {
		return rtcp.ReportBlock{
			SSRC:             rapid.Uint32().Draw(t, "ssrc"),
			FractionLost:     rapid.Uint8().Draw(t, "fraction"),
			CumulativeLost:   rapid.Int32Range(-1<<23, 1<<23-1).Draw(t, "lost"),
			HighestSequence:  rapid.Uint32().Draw(t, "highest"),
			Jitter:           rapid.Uint32().Draw(t, "jitter"),
			LastSR:           rapid.Uint32().Draw(t, "lsr"),
			DelaySinceLastSR: rapid.Uint32().Draw(t, "dlsr"),
		}
	}), 0, most).Draw(t, "blocks")
}

func toPion(blocks []rtcp.ReportBlock) []pion.ReceptionReport {
	var out []pion.ReceptionReport
	for _, b := range blocks {
		out = append(out, pion.ReceptionReport{
			SSRC: b.SSRC, FractionLost: b.FractionLost, TotalLost: uint32(b.CumulativeLost) & 0xffffff,
			LastSequenceNumber: b.HighestSequence, Jitter: b.Jitter, LastSenderReport: b.LastSR, Delay: b.DelaySinceLastSR,
		})
	}
	return out
}

func TestReportsAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := drawBlocks(t, 70)
		sr := rtcp.SenderReport{
			SSRC: rapid.Uint32().Draw(t, "ssrc"), NTP: rapid.Uint64().Draw(t, "ntp"), RTPTime: rapid.Uint32().Draw(t, "rtp"),
			Packets: rapid.Uint32().Draw(t, "packets"), Octets: rapid.Uint32().Draw(t, "octets"),
		}
		ours := rtcp.AppendSenderReport(nil, sr, blocks)
		ps, err := pion.Unmarshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		got := ps[0].(*pion.SenderReport)
		if got.SSRC != sr.SSRC || got.NTPTime != sr.NTP || got.RTPTime != sr.RTPTime || got.PacketCount != sr.Packets || got.OctetCount != sr.Octets {
			t.Fatalf("wrote %+v, pion reads %+v", sr, got)
		}
		reports := got.Reports
		for _, p := range ps[1:] {
			rr := p.(*pion.ReceiverReport)
			if rr.SSRC != sr.SSRC {
				t.Fatalf("receiver report of %d, want %d", rr.SSRC, sr.SSRC)
			}
			reports = append(reports, rr.Reports...)
		}
		if d := cmp.Diff(toPion(blocks), reports); d != "" {
			t.Fatal(d)
		}

		n := min(len(blocks), 31)
		theirs := marshal(t, &pion.SenderReport{
			SSRC: sr.SSRC, NTPTime: sr.NTP, RTPTime: sr.RTPTime, PacketCount: sr.Packets, OctetCount: sr.Octets,
			Reports: toPion(blocks[:n]), ProfileExtensions: make([]byte, 4*rapid.IntRange(0, 3).Draw(t, "extensions")),
		})
		p := one(t, theirs)
		back, ok := rtcp.ParseSenderReport(p)
		if !ok || p.Count() != n || back.Blocks.Len() != n || p.SenderSSRC() != sr.SSRC {
			t.Fatalf("cannot read pion's % x", theirs)
		}
		if read := slices.Collect(back.Blocks.All); !slices.Equal(read, blocks[:n]) {
			t.Fatal(cmp.Diff(blocks[:n], read))
		}
		back.Blocks = rtcp.ReportBlocks{}
		if back.NTP != sr.NTP || back.RTPTime != sr.RTPTime || back.Packets != sr.Packets || back.Octets != sr.Octets {
			t.Fatalf("pion wrote %+v, we read %+v", sr, back)
		}

		theirs = marshal(t, &pion.ReceiverReport{SSRC: sr.SSRC, Reports: toPion(blocks[:n])})
		rr, ok := rtcp.ParseReceiverReport(one(t, theirs))
		if !ok || rr.SSRC != sr.SSRC || !slices.Equal(slices.Collect(rr.Blocks.All), blocks[:n]) {
			t.Fatalf("cannot read pion's % x", theirs)
		}
		if d := cmp.Diff(theirs, rtcp.AppendReceiverReport(nil, sr.SSRC, blocks[:n])); d != "" {
			t.Fatal(d)
		}
	})
}

func TestNACKAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint16().Draw(t, "first")
		steps := rapid.SliceOfN(rapid.Uint16Range(0, 40), 0, 600).Draw(t, "steps")
		seqs, seq := []uint16{first}, first
		for _, s := range steps {
			seq += s
			seqs = append(seqs, seq)
		}
		if rapid.Bool().Draw(t, "unsorted") {
			seqs = rapid.Permutation(seqs).Draw(t, "order")
		}
		want := slices.Clone(seqs)
		slices.Sort(want)
		want = slices.Compact(want)

		ours := rtcp.AppendNACK(nil, 1, 2, seqs)
		ps, err := pion.Unmarshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		var theirs []uint16
		for _, p := range ps {
			n := p.(*pion.TransportLayerNack)
			if n.SenderSSRC != 1 || n.MediaSSRC != 2 || n.MarshalSize() > 1200 {
				t.Fatalf("pion reads %+v of %d bytes", n, n.MarshalSize())
			}
			for _, pair := range n.Nacks {
				theirs = append(theirs, pair.PacketList()...)
			}
		}
		var own []uint16
		for it := rtcp.NewIterator(ours); it.Next(); {
			n, ok := rtcp.ParseNACK(it.Packet)
			list := slices.Collect(n.Seqs)
			if !ok || n.Len() != len(list) || n.MediaSSRC != 2 || n.SenderSSRC != 1 {
				t.Fatalf("cannot read our own % x", ours)
			}
			own = append(own, list...)
		}
		if !slices.Equal(own, theirs) {
			t.Fatal(cmp.Diff(theirs, own))
		}
		slices.Sort(own)
		if own = slices.Compact(own); !slices.Equal(own, want) {
			t.Fatal(cmp.Diff(want, own))
		}

		b := marshal(t, &pion.TransportLayerNack{SenderSSRC: 3, MediaSSRC: 4, Nacks: pion.NackPairsFromSequenceNumbers(want[:min(len(want), 200)])})
		n, ok := rtcp.ParseNACK(one(t, b))
		if !ok || n.MediaSSRC != 4 || !slices.Equal(slices.Collect(n.Seqs), want[:min(len(want), 200)]) {
			t.Fatalf("cannot read pion's % x", b)
		}
	})
	if b := rtcp.AppendNACK([]byte{1}, 1, 2, nil); len(b) != 1 {
		t.Errorf("nothing missing writes % x", b)
	}
}

func TestKeyFrameRequestsAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sender, media, command := rapid.Uint32().Draw(t, "sender"), rapid.Uint32().Draw(t, "media"), rapid.Uint8().Draw(t, "command")
		pli := marshal(t, &pion.PictureLossIndication{SenderSSRC: sender, MediaSSRC: media})
		if d := cmp.Diff(pli, rtcp.AppendPLI(nil, sender, media)); d != "" {
			t.Fatal(d)
		}
		if got, ok := rtcp.ParsePLI(one(t, pli)); !ok || got != (rtcp.PLI{SenderSSRC: sender, MediaSSRC: media}) {
			t.Fatalf("read %+v, %v", got, ok)
		}
		fir := marshal(t, &pion.FullIntraRequest{SenderSSRC: sender, FIR: []pion.FIREntry{{SSRC: media, SequenceNumber: command}}})
		if d := cmp.Diff(fir, rtcp.AppendFIR(nil, sender, media, command)); d != "" {
			t.Fatal(d)
		}
		fir = marshal(t, &pion.FullIntraRequest{SenderSSRC: sender, FIR: []pion.FIREntry{{SSRC: media, SequenceNumber: command}, {SSRC: 7, SequenceNumber: 8}}})
		f, ok := rtcp.ParseFIR(one(t, fir))
		if !ok || f.SenderSSRC != sender {
			t.Fatalf("read %+v, %v", f, ok)
		}
		var got []pion.FIREntry
		for ssrc, command := range f.Entries {
			got = append(got, pion.FIREntry{SSRC: ssrc, SequenceNumber: command})
		}
		if d := cmp.Diff([]pion.FIREntry{{SSRC: media, SequenceNumber: command}, {SSRC: 7, SequenceNumber: 8}}, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestREMBAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float32Range(1, 1e12).Draw(t, "rate")
		ssrcs := rapid.SliceOfN(rapid.Uint32(), 0, 255).Draw(t, "ssrcs")
		b := marshal(t, &pion.ReceiverEstimatedMaximumBitrate{SenderSSRC: 9, Bitrate: rate, SSRCs: ssrcs})
		want := pionOne[*pion.ReceiverEstimatedMaximumBitrate](t, b)
		got, ok := rtcp.ParseREMB(one(t, b))
		if !ok || got.SenderSSRC != 9 || !slices.Equal(slices.Collect(got.SSRCs), ssrcs) {
			t.Fatalf("read %+v, %v", got, ok)
		}
		if math.Abs(float64(want.Bitrate)-float64(got.BitsPerSecond)) > 1 {
			t.Fatalf("pion reads %v, we read %v", want.Bitrate, got.BitsPerSecond)
		}
	})
	huge := []byte{0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 'R', 'E', 'M', 'B', 0, 0xff, 0xff, 0xff}
	it := rtcp.NewIterator(huge)
	it.Next()
	if r, ok := rtcp.ParseREMB(it.Packet); !ok || r.BitsPerSecond != math.MaxUint64 {
		t.Errorf("the highest rate reads as %d, %v", r.BitsPerSecond, ok)
	}
}

func TestSourcesAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, -1, 255).Draw(t, "name")
		sdes := pionOne[*pion.SourceDescription](t, rtcp.AppendSDESCNAME(nil, 5, name))
		want := []pion.SourceDescriptionChunk{{Source: 5, Items: []pion.SourceDescriptionItem{{Type: pion.SDESCNAME, Text: name}}}}
		if d := cmp.Diff(want, sdes.Chunks); d != "" {
			t.Fatal(d)
		}

		ssrcs := rapid.SliceOfN(rapid.Uint32(), 0, 70).Draw(t, "ssrcs")
		ps, err := pion.Unmarshal(rtcp.AppendBYE(nil, ssrcs, name))
		if err != nil {
			t.Fatal(err)
		}
		var sources []uint32
		for _, p := range ps {
			bye := p.(*pion.Goodbye)
			if bye.Reason != name {
				t.Fatalf("reason %q, want %q", bye.Reason, name)
			}
			sources = append(sources, bye.Sources...)
		}
		if !slices.Equal(sources, ssrcs) {
			t.Fatal(cmp.Diff(ssrcs, sources))
		}
		n := min(len(ssrcs), 31)
		bye, ok := rtcp.ParseBYE(one(t, marshal(t, &pion.Goodbye{Sources: ssrcs[:n], Reason: name})))
		if !ok || string(bye.Reason()) != name || !slices.Equal(slices.Collect(bye.SSRCs), ssrcs[:n]) {
			t.Fatalf("read %v %q, %v", slices.Collect(bye.SSRCs), bye.Reason(), ok)
		}
	})
}

func TestLongNamesAreCut(t *testing.T) {
	long := string(make([]byte, 300))
	if n := len(pionOne[*pion.SourceDescription](t, rtcp.AppendSDESCNAME(nil, 5, long)).Chunks[0].Items[0].Text); n != 255 {
		t.Errorf("a name of 300 bytes comes out as %d", n)
	}
	if n := len(pionOne[*pion.Goodbye](t, rtcp.AppendBYE(nil, []uint32{1}, long)).Reason); n != 255 {
		t.Errorf("a reason of 300 bytes comes out as %d", n)
	}
}

// fate is what a feedback says of one packet, in ticks on the receiver's clock.
type fate struct {
	seq      uint16
	received bool
	arrival  uint32
}

// pionFates rebuilds the arrival times from pion's reading of a feedback.
func pionFates(p *pion.TransportLayerCC) []fate {
	var symbols []uint16
	for _, c := range p.PacketChunks {
		switch c := c.(type) {
		case *pion.RunLengthChunk:
			for range c.RunLength {
				symbols = append(symbols, c.PacketStatusSymbol)
			}
		case *pion.StatusVectorChunk:
			symbols = append(symbols, c.SymbolList...)
		}
	}
	var out []fate
	arrival, deltas := p.ReferenceTime<<8, p.RecvDeltas
	for i := range int(p.PacketStatusCount) {
		f := fate{seq: p.BaseSequenceNumber + uint16(i)}
		if symbols[i] == pion.TypeTCCPacketReceivedSmallDelta || symbols[i] == pion.TypeTCCPacketReceivedLargeDelta {
			arrival += uint32(deltas[0].Delta / 250)
			deltas = deltas[1:]
			f.received, f.arrival = true, arrival
		}
		out = append(out, f)
	}
	return out
}

// unpadded is the length of a feedback before its last word is filled.
func unpadded(p *pion.TransportLayerCC) int {
	n := 20 + 2*len(p.PacketChunks)
	for _, d := range p.RecvDeltas {
		n += int(d.Type)
	}
	return n
}

func ourFates(t rtcp.TWCC) []fate {
	var out []fate
	for p := range t.Packets {
		f := fate{seq: p.Sequence, received: p.Received}
		if p.Received {
			f.arrival = p.Arrival
		}
		out = append(out, f)
	}
	return out
}

func TestTWCCAgainstPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Runs of like statuses and mixtures of them, so that every kind of chunk is made.
		var deltas []int32
		for range rapid.IntRange(1, 12).Draw(t, "parts") {
			n := rapid.IntRange(1, 60).Draw(t, "length")
			kind := rapid.IntRange(0, 4).Draw(t, "kind")
			for range n {
				k := kind
				if kind == 4 {
					k = rapid.IntRange(0, 3).Draw(t, "mixed")
				}
				switch k {
				case 0:
					deltas = append(deltas, rtcp.TWCCNotReceived)
				case 1, 3:
					deltas = append(deltas, rapid.Int32Range(0, 255).Draw(t, "small"))
				case 2:
					deltas = append(deltas, rapid.Int32Range(-1<<15, 1<<15-1).Draw(t, "large"))
				}
			}
		}
		deltas = append(deltas, 1) // pion wants a delta behind the chunks
		in := rtcp.TWCC{
			SenderSSRC: rapid.Uint32().Draw(t, "sender"), MediaSSRC: rapid.Uint32().Draw(t, "media"), BaseSequence: rapid.Uint16().Draw(t, "base"),
			ReferenceTime: rapid.Uint32Range(0, 1<<24-1).Draw(t, "reference"), FeedbackCount: rapid.Uint8().Draw(t, "count"),
		}
		var want []fate
		arrival := in.ReferenceTime << 8
		for i, d := range deltas {
			f := fate{seq: in.BaseSequence + uint16(i)}
			if d != rtcp.TWCCNotReceived {
				arrival += uint32(d)
				f.received, f.arrival = true, arrival
			}
			want = append(want, f)
		}

		b := rtcp.AppendTWCC(nil, in, deltas)
		p := pionOne[*pion.TransportLayerCC](t, b)
		if p.SenderSSRC != in.SenderSSRC || p.MediaSSRC != in.MediaSSRC || p.BaseSequenceNumber != in.BaseSequence ||
			p.ReferenceTime != in.ReferenceTime || p.FbPktCount != in.FeedbackCount {
			t.Fatalf("wrote %+v, pion reads %+v", in, p)
		}
		if got := pionFates(p); !slices.Equal(got, want) {
			t.Fatalf("pion reads %v, want %v", got, want)
		}
		back, ok := rtcp.ParseTWCC(one(t, b))
		if !ok || !slices.Equal(ourFates(back), want) {
			t.Fatalf("we read %v, want %v", ourFates(back), want)
		}

		// pion writes the same fields back, its padding being that of libwebrtc: what is left of the last word.
		p.Header = pion.Header{
			Padding: len(b) != unpadded(p), Count: pion.FormatTCC, Type: pion.TypeTransportSpecificFeedback,
			Length: uint16(p.MarshalSize()/4 - 1),
		}
		theirs := marshal(t, p)
		it := rtcp.NewIterator(theirs)
		if !it.Next() {
			t.Fatalf("cannot read pion's % x", theirs)
		}
		if back, ok = rtcp.ParseTWCC(it.Packet); !ok || !slices.Equal(ourFates(back), want) {
			t.Fatalf("we read %v of pion's, want %v", ourFates(back), want)
		}
	})
}
