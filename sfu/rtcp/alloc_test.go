package rtcp_test

import (
	"testing"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func TestNothingAllocates(t *testing.T) {
	var (
		buf    = make([]byte, 0, 4096)
		out    = make([]uint16, 0, 512)
		blocks = make([]rtcp.ReportBlock, 40)
		seqs   = []uint16{1, 2, 3, 40, 41, 90}
		ssrcs  = []uint32{1, 2}
		deltas = []int32{1, 2, 300, rtcp.TWCCNotReceived, 5}
		r      rtcp.Reception
		gen    rtcp.NACKGenerator
		rec    rtcp.TWCCRecorder
		now    int64
		seq    uint16
		sum    int
	)
	write := func() {
		buf = rtcp.AppendSenderReport(buf[:0], rtcp.SenderReport{SSRC: 1, NTP: uint64(now)}, blocks)
		buf = rtcp.AppendReceiverReport(buf, 1, blocks[:3])
		buf = rtcp.AppendSDESCNAME(buf, 1, "someone")
		buf = rtcp.AppendNACK(buf, 1, 2, seqs)
		buf = rtcp.AppendPLI(buf, 1, 2)
		buf = rtcp.AppendFIR(buf, 1, 2, 3)
		buf = rtcp.AppendTWCC(buf, rtcp.TWCC{BaseSequence: 3}, deltas)
		buf = rtcp.AppendBYE(buf, ssrcs, "over")
	}
	read := func() {
		for it := rtcp.NewIterator(buf); it.Next(); {
			switch it.Type() {
			case rtcp.TypeSenderReport:
				sr, _ := rtcp.ParseSenderReport(it.Packet)
				for b := range sr.Blocks.All {
					sum += int(b.SSRC) + int(rtcp.NTPMiddle(sr.NTP))
				}
			case rtcp.TypeReceiverReport:
				rr, _ := rtcp.ParseReceiverReport(it.Packet)
				sum += rr.Blocks.Len()
			case rtcp.TypeBYE:
				bye, _ := rtcp.ParseBYE(it.Packet)
				for ssrc := range bye.SSRCs {
					sum += int(ssrc)
				}
			case rtcp.TypeTransportFeedback:
				if nack, ok := rtcp.ParseNACK(it.Packet); ok {
					for s := range nack.Seqs {
						sum += int(s)
					}
				}
				if twcc, ok := rtcp.ParseTWCC(it.Packet); ok {
					for p := range twcc.Packets {
						sum += int(p.Delta)
					}
				}
			case rtcp.TypePayloadFeedback:
				if fir, ok := rtcp.ParseFIR(it.Packet); ok {
					for ssrc := range fir.Entries {
						sum += int(ssrc)
					}
				}
			}
		}
	}
	receive := func() {
		for range 50 {
			now += 2 * ms
			seq++
			if seq%7 == 0 {
				continue
			}
			ext, _ := r.Update(seq, uint32(now), 90000, now)
			gen.Received(ext, now)
			rec.Received(seq, now)
			out = gen.Missing(now, 50*ms, out[:0])
			r.Repaired(seq - 3)
		}
		blocks[0] = r.Block(now)
		buf = rec.Append(buf[:0], 1, 2, 1200)
		buf = r.AppendState(buf[:0], now)
		_, _, _ = rtcp.RestoreReception(buf, now)
	}
	for name, f := range map[string]func(){"write": write, "read": read, "receive": receive} {
		write()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if sum == 0 {
		t.Error("nothing was read")
	}
}

func BenchmarkReceive(b *testing.B) {
	var (
		r   rtcp.Reception
		gen rtcp.NACKGenerator
		rec rtcp.TWCCRecorder
		buf = make([]byte, 0, 4096)
		out = make([]uint16, 0, 512)
		now int64
		seq uint16
	)
	b.ReportAllocs()
	for b.Loop() {
		now += ms
		seq++
		ext, _ := r.Update(seq, uint32(now), 90000, now)
		gen.Received(ext, now)
		rec.Received(seq, now)
		out = gen.Missing(now, 50*ms, out[:0])
		if seq%100 == 0 {
			buf = rec.Append(buf[:0], 1, 2, 1200)
		}
	}
}
