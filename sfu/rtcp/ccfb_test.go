package rtcp_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// twoStreams is a feedback as RFC 8888 §3.1 draws it: an odd and an even number of packets, one of them lost, one marked, one
// too old to have a time.
func twoStreams() []byte {
	return []byte{
		0x8b, 205, 0, 9, 0, 0, 0, 1,
		0, 0, 0, 7, 0xff, 0xff, 0, 3, 0x80, 0x10, 0, 0, 0xe0, 0x00, 0, 0,
		0, 0, 0, 8, 0, 5, 0, 2, 0x9f, 0xfe, 0x9f, 0xff,
		0, 1, 0, 0,
	}
}

func lone(t *testing.T, b []byte) rtcp.Packet {
	it := rtcp.NewIterator(b)
	if !it.Next() {
		t.Fatalf("no packet in % x", b)
	}
	return it.Packet
}

func reports(f rtcp.CCFB) map[uint32][]rtcp.CCFBPacket {
	out := map[uint32][]rtcp.CCFBPacket{}
	for r := range f.Reports {
		for i := range r.Len() {
			out[r.SSRC] = append(out[r.SSRC], f.Packet(r, i))
		}
	}
	return out
}

func TestCCFB(t *testing.T) {
	b := twoStreams()
	f, ok := rtcp.ParseCCFB(lone(t, b))
	if !ok {
		t.Fatal("not read")
	}
	want := map[uint32][]rtcp.CCFBPacket{
		7: {{Sequence: 65535, Received: true, Timed: true, Arrival: 65536 - 16*64}, {Sequence: 0}, {Sequence: 1, Received: true, Timed: true, ECN: 3, Arrival: 65536}},
		8: {{Sequence: 5, Received: true}, {Sequence: 6, Received: true}},
	}
	if d := cmp.Diff(want, reports(f)); d != "" {
		t.Error(d)
	}
	if p, ok := f.Find(7, 1); !ok || p.ECN != 3 {
		t.Errorf("found %+v, %v", p, ok)
	}
	if p, ok := f.Find(8, 7); ok {
		t.Errorf("found %+v, of which nothing is said", p)
	}
	for n := range b {
		short := bytes.Clone(b[:n&^3])
		if len(short) < 4 {
			continue
		}
		short[3] = byte(len(short)/4 - 1)
		it := rtcp.NewIterator(short)
		if !it.Next() {
			t.Fatal("no packet")
		}
		if f, ok := rtcp.ParseCCFB(it.Packet); ok && len(reports(f)[8]) != 0 {
			t.Errorf("%d bytes read as %v", n, reports(f))
		}
	}
}

func TestCCFBAgainstPion(t *testing.T) {
	b := rtcp.AppendCCFB(nil, 3, 9, 700_000, 65534, []int32{40, -1, 9000, 0, 8})
	p := pionOne[*pion.CCFeedbackReport](t, b)
	if p.SenderSSRC != 3 || p.ReportTimestamp != 700_000 || len(p.ReportBlocks) != 1 {
		t.Fatalf("pion reads %+v", p)
	}
	f, ok := rtcp.ParseCCFB(lone(t, b))
	if !ok {
		t.Fatal("cannot read our own")
	}
	got := reports(f)[9]
	for i, m := range p.ReportBlocks[0].MetricBlocks {
		if got[i].Received != m.Received || got[i].Timed && got[i].Arrival != 700_000-64*uint32(m.ArrivalTimeOffset) {
			t.Errorf("packet %d: %+v, pion %+v", i, got[i], m)
		}
	}
}

// FuzzCCFB opens whatever comes, and finds by name what it finds in order.
func FuzzCCFB(f *testing.F) {
	f.Add(twoStreams(), uint32(7), uint16(1))
	f.Add(rtcp.AppendCCFB(nil, 1, 2, 3, 4, []int32{5, -1, 7}), uint32(2), uint16(4))
	f.Fuzz(func(t *testing.T, b []byte, ssrc uint32, seq uint16) {
		it := rtcp.NewIterator(b)
		for it.Next() {
			fb, ok := rtcp.ParseCCFB(it.Packet)
			if !ok {
				continue
			}
			found, ok := fb.Find(ssrc, seq)
			seen := false
			for r := range fb.Reports {
				for i := range r.Len() {
					if p := fb.Packet(r, i); r.SSRC == ssrc && p.Sequence == seq && !seen {
						seen = true
						if p != found {
							t.Fatalf("found %+v, in order %+v", found, p)
						}
					}
				}
			}
			if seen != ok {
				t.Fatalf("seen %v, found %v", seen, ok)
			}
		}
	})
}
