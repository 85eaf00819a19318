package rtcp_test

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func TestReferenceTimeAgainstPion(t *testing.T) {
	const ntp = 0xdc1e2f3a_80000001
	b, err := (&pion.ExtendedReport{SenderSSRC: 1, Reports: []pion.ReportBlock{
		&pion.LossRLEReportBlock{SSRC: 9, Chunks: []pion.Chunk{1, 2}},
		&pion.ReceiverReferenceTimeReportBlock{NTPTimestamp: ntp},
	}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) (rtcp.ReferenceTime, bool) {
		it := rtcp.NewIterator(b)
		if !it.Next() {
			t.Fatalf("no packet in %x", b)
		}
		return rtcp.ParseReferenceTime(it.Packet)
	}
	if got, ok := read(b); !ok || got != (rtcp.ReferenceTime{SSRC: 1, NTP: ntp}) {
		t.Errorf("read %+v, %v", got, ok)
	}
	for name, text := range map[string]string{
		"no block":             "80cf000100000001",
		"another block":        "80cf00040000000106000002" + "0000000000000000",
		"a block that is long": "80cf00040000000104000003" + "0000000000000000",
		"a block that is less": "80cf00030000000104000001" + "00000000",
		"another packet":       "80cc00040000000104000002" + "0000000000000000",
	} {
		bad, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := read(bad); ok {
			t.Errorf("%s: read %+v", name, got)
		}
	}
}

func TestDelaysSinceRRTRAgainstPion(t *testing.T) {
	if b := rtcp.AppendDelaysSinceRRTR(nil, 7, nil); len(b) != 0 {
		t.Errorf("%x for nobody", b)
	}
	b := rtcp.AppendDelaysSinceRRTR([]byte{}, 7, []rtcp.DelaySinceRRTR{
		{SSRC: 1, Last: 0x2f3a8000, Delay: 1500 * ms}, {SSRC: 2, Last: 5, Delay: -1}, {SSRC: 3, Last: 6, Delay: 1 << 62},
	})
	var got pion.ExtendedReport
	if err := got.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	want := []pion.DLRRReport{{SSRC: 1, LastRR: 0x2f3a8000, DLRR: 0x18000}, {SSRC: 2, LastRR: 5}, {SSRC: 3, LastRR: 6, DLRR: 65535 << 16}}
	if len(got.Reports) != 1 || got.SenderSSRC != 7 {
		t.Fatalf("%+v", got)
	}
	dlrr, ok := got.Reports[0].(*pion.DLRRReportBlock)
	if !ok {
		t.Fatalf("%+v", got.Reports[0])
	}
	if d := cmp.Diff(want, dlrr.Reports); d != "" {
		t.Error(d)
	}
}
