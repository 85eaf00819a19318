package rtcp_test

import (
	"testing"

	"github.com/sotto-edge/sotto/sfu/rtcp"
)

func TestIterator(t *testing.T) {
	rr := []byte{0x80, 201, 0, 1, 0, 0, 0, 9}
	for _, c := range []struct {
		name      string
		b         []byte
		packets   int
		malformed bool
	}{
		{"empty", nil, 0, false},
		{"one", rr, 1, false},
		{"two", append(append([]byte{}, rr...), rr...), 2, false},
		{"header cut", append(append([]byte{}, rr...), 0x80, 201, 0), 1, true},
		{"body cut", append(append([]byte{}, rr...), 0x80, 201, 0, 1, 0, 0), 1, true},
		{"version", []byte{0x40, 201, 0, 1, 0, 0, 0, 9}, 0, true},
		{"padding", []byte{0xa0, 201, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4}, 1, false},
		{"all padding", []byte{0xa0, 201, 0, 1, 0, 0, 0, 4}, 1, false},
		{"padding of nothing", []byte{0xa0, 201, 0, 0}, 0, true},
		{"no padding", []byte{0xa0, 201, 0, 1, 0, 0, 0, 0}, 0, true},
		{"padding beyond the body", []byte{0xa0, 201, 0, 1, 0, 0, 0, 8}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			it := rtcp.NewIterator(c.b)
			n := 0
			for it.Next() {
				n++
			}
			if n != c.packets || it.Malformed() != c.malformed || it.Next() {
				t.Errorf("%d packets, malformed %v; want %d, %v", n, it.Malformed(), c.packets, c.malformed)
			}
		})
	}
}

func TestZeroPacket(t *testing.T) {
	var p rtcp.Packet
	if p.Type() != 0 || p.Count() != 0 || p.Body() != nil || p.SenderSSRC() != 0 || p.MediaSSRC() != 0 {
		t.Error("the zero packet is something")
	}
}

// TestFeedbackOfLibwebrtc reads a feedback as libwebrtc writes it: three bytes of RTCP padding, and a report behind it.
func TestFeedbackOfLibwebrtc(t *testing.T) {
	b := []byte{
		0xaf, 205, 0, 6,
		0, 0, 0, 1, 0, 0, 0, 2,
		0xff, 0xff, 0, 2, 0, 0, 1, 7, // from 65535 on, two packets, 64 ms, feedback 7
		0xd8, 0x00, // two-bit symbols: small, large in front
		10, 0xff, 0xf6, 0, 0, 3, // 2.5 ms, -2.5 ms
		0x80, 201, 0, 1, 0, 0, 0, 9,
	}
	it := rtcp.NewIterator(b)
	if !it.Next() {
		t.Fatal("no packet")
	}
	twcc, ok := rtcp.ParseTWCC(it.Packet)
	if !ok || twcc.FeedbackCount != 7 || twcc.ReferenceTime != 1 {
		t.Fatalf("read %+v, %v", twcc, ok)
	}
	var got []rtcp.TWCCPacket
	for p := range twcc.Packets {
		got = append(got, p)
	}
	want := []rtcp.TWCCPacket{
		{Sequence: 65535, Received: true, Delta: 10, Arrival: 266},
		{Sequence: 0, Received: true, Delta: -10, Arrival: 256},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if !it.Next() || it.Type() != rtcp.TypeReceiverReport || it.Next() || it.Malformed() {
		t.Error("the report behind the padding is not read")
	}
}

func TestTWCCThatLies(t *testing.T) {
	for name, tail := range map[string][]byte{
		"no chunk":              {},
		"reserved run":          {0x60, 1, 0, 0},
		"reserved vector":       {0xf0, 0, 0, 0},
		"run without deltas":    {0x20, 9, 0, 0},
		"vector without deltas": {0xbf, 0xff, 0, 0},
		"empty runs only":       {0, 0, 0, 0},
	} {
		b := append([]byte{0x8f, 205, 0, byte(4 + len(tail)/4), 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 9, 0, 0, 1, 7}, tail...)
		it := rtcp.NewIterator(b)
		if !it.Next() {
			t.Fatalf("%s: no packet", name)
		}
		if f, ok := rtcp.ParseTWCC(it.Packet); ok {
			t.Errorf("%s: read as %+v", name, f)
		}
	}
}
