package sink

import (
	"encoding/binary"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// sotto is what our own server's offers say.
var sotto = Layout{Transport: 4, Sound: 111, Repair: 97}

const (
	ms      = int64(1e6)
	voice   = 100
	picture = 200
)

// packet is an SRTP packet as far as an account looks at it.
func packet(t testing.TB, ssrc uint32, pt uint8, seq uint16, transport uint16) []byte {
	t.Helper()
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: seq, SSRC: ssrc}, Payload: make([]byte, 40)}
	if err := p.SetExtension(sotto.Transport, binary.BigEndian.AppendUint16(nil, transport)); err != nil {
		t.Fatal(err)
	}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every number counts once; what is missing is asked for, and counts as lost until it comes by whatever way.
func TestAccount(t *testing.T) {
	a := &account{own: 7, layout: sotto, every: SampleEvery}
	handed := 0
	from := map[uint32]int64{}
	for i := range 1000 {
		now := int64(1e9) + int64(i)*ms
		if i == 100 {
			from = a.highest()
		}
		// The pictures' numbers wrap on the way, each seventh is lost, each eleventh comes twice.
		seq := uint16(65000 + i)
		if i%7 != 3 {
			if a.take(packet(t, picture, 96, seq, uint16(2*i)), now) {
				handed++
			}
			if i%11 == 0 && a.take(packet(t, picture, 96, seq, uint16(2*i)), now) {
				t.Errorf("packet %d is handed on twice", i)
			}
		}
		a.take(packet(t, voice, 111, uint16(i), uint16(2*i+1)), now)
	}
	lost := 0
	for i := 100; i < 1000; i++ {
		if i%7 == 3 {
			lost++
		}
	}
	to := a.highest()
	if got := a.lost(from, to); got != uint64(lost) {
		t.Errorf("%d lost, want %d", got, lost)
	}
	if a.packets != 1000+1000-143 || a.duplicates < 70 || len(a.streams) != 2 {
		t.Errorf("%d packets, %d twice, %d streams", a.packets, a.duplicates, len(a.streams))
	}
	if a.first != int64(1e9) || a.picture != int64(1e9) {
		t.Errorf("first packet at %d, first picture at %d", a.first, a.picture)
	}
	if handed < 10 || handed > 30 {
		t.Errorf("%d packets of pictures are handed on", handed)
	}

	end := int64(1e9) + 1000*ms
	asked := a.requests(nil, end)
	list, err := rtcp.Unmarshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	numbers := 0
	for _, p := range list {
		n, ok := p.(*rtcp.TransportLayerNack)
		if !ok || n.MediaSSRC != picture || n.SenderSSRC != 7 {
			t.Fatalf("asks %+v", p)
		}
		for _, pair := range n.Nacks {
			for _, seq := range pair.PacketList() {
				numbers++
				if i := int(seq - 65000&0xffff); i%7 != 3 {
					t.Errorf("asks for number %d, which came", i)
				}
				a.repairedBy(picture, seq, end)
			}
		}
	}
	if numbers == 0 || a.repaired != uint64(numbers) {
		t.Errorf("%d asked for, %d repaired", numbers, a.repaired)
	}
	if got := a.lost(from, to); got != uint64(lost-numbers) {
		t.Errorf("%d lost after %d repairs of %d", got, numbers, lost)
	}
	a.repairedBy(picture, 65000, end)
	a.repairedBy(999, 1, end)
	if a.repaired != uint64(numbers) {
		t.Error("a packet that had come is repaired")
	}
}

// A stream that begins within the measure counts from its first packet; one that is not known has lost nothing.
func TestAccountBegins(t *testing.T) {
	a := &account{layout: sotto, every: SampleEvery}
	from := a.highest()
	for _, seq := range []uint16{10, 11, 13} {
		a.take(packet(t, picture, 96, seq, seq), ms)
	}
	a.take(packet(t, picture, 96, 5, 5), ms) // before the first
	if got := a.lost(from, a.highest()); got != 1 {
		t.Errorf("%d lost", got)
	}
}

// What the server hears is what browsers would tell it.
func TestAccountReports(t *testing.T) {
	a := &account{own: 7, layout: sotto, every: SampleEvery}
	for i := range 100 {
		if i != 50 {
			a.take(packet(t, picture, 96, uint16(i), uint16(i)), int64(i+1)*10*ms)
		}
	}
	list, err := rtcp.Unmarshal(a.report(a.feedback(nil), 1100*ms))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, p := range list {
		switch p := p.(type) {
		case *rtcp.TransportLayerCC:
			told += len(p.RecvDeltas)
		case *rtcp.ReceiverReport:
			if len(p.Reports) != 1 || p.SSRC != 7 || p.Reports[0].SSRC != picture || p.Reports[0].TotalLost != 1 || p.Reports[0].LastSequenceNumber != 99 {
				t.Errorf("report %+v", p)
			}
		default:
			t.Errorf("tells %T", p)
		}
	}
	if told != 99 {
		t.Errorf("%d arrivals are told of", told)
	}
	if b := a.feedback(nil); len(b) != 0 {
		t.Error("arrivals are told of twice")
	}
}

// What is not media passes on untouched.
func TestAccountPasses(t *testing.T) {
	a := &account{layout: sotto, every: SampleEvery}
	for name, b := range map[string][]byte{
		"STUN":       {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0},
		"DTLS":       {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"RTCP":       {0x80, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0},
		"short":      {0x80, 96},
		"retransmit": packet(t, 300, sotto.Repair, 1, 1),
	} {
		if !a.take(b, ms) {
			t.Errorf("%s is kept", name)
		}
	}
	if a.packets != 0 || len(a.streams) != 0 {
		t.Errorf("%d packets, %d streams", a.packets, len(a.streams))
	}
	// Sampled packets are found again by their number.
	if !a.take(packet(t, picture, 96, 100, 1), 5*ms) {
		t.Fatal("packet 100 is not a sample")
	}
	if at, ok := a.arrival(picture, 100); !ok || at != 5*ms {
		t.Errorf("packet 100 came at %d, %t", at, ok)
	}
	for _, seq := range []uint16{99, 150, 0} {
		if _, ok := a.arrival(picture, seq); ok {
			t.Errorf("packet %d is known", seq)
		}
	}
}

func FuzzAccount(f *testing.F) {
	f.Add(packet(f, picture, 96, 1, 1), packet(f, picture, 96, 3, 2))
	f.Add(packet(f, voice, 111, 65535, 1), packet(f, voice, 111, 0, 2))
	f.Add([]byte{0x80}, []byte{0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a := &account{layout: sotto, every: SampleEvery}
		from := a.highest()
		for i, b := range [][]byte{x, y, x, y} {
			a.take(b, int64(i)*ms)
		}
		if n := a.lost(from, a.highest()); n > 1<<16 {
			t.Errorf("%d lost of four packets", n)
		}
		a.report(a.feedback(a.requests(nil, ms)), ms)
	})
}
