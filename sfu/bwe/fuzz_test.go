package bwe_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"github.com/sotto-edge/sotto/sfu/bwe"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// feed gives e each feedback in b.
func feed(e *bwe.Estimator, b []byte, now int64) {
	for it := rtcp.NewIterator(b); it.Next(); {
		if f, ok := rtcp.ParseTWCC(it.Packet); ok {
			e.TransportFeedback(f, now)
		}
		if f, ok := rtcp.ParseCCFB(it.Packet); ok {
			e.StreamFeedback(f, now)
		}
	}
}

// FuzzEstimator drives an estimator through whatever order of sending, time and feedback the bytes say. The target stays within
// its bounds, and with nothing sent nothing raises it.
func FuzzEstimator(f *testing.F) {
	twcc := rtcp.AppendTWCC(nil, rtcp.TWCC{BaseSequence: 1}, []int32{1, 4, rtcp.TWCCNotReceived, -9, 400})
	ccfb := rtcp.AppendCCFB(nil, 1, 77, 70_000, 1, []int32{9, -1, 3, 0})
	script := func(steps ...byte) []byte { return steps }
	f.Add(script(0, 40, 1, 40, 0, 40, 2, 20, 5, 3, 7, 1), twcc, true)
	f.Add(script(0, 40, 0, 40, 2, 90, 3, 200, 6, 9), ccfb, true)
	f.Add(script(2, 2, 4, 9, 5, 250, 2, 2, 7, 7), append(twcc, ccfb...), false)
	f.Fuzz(func(t *testing.T, script, feedback []byte, send bool) {
		const least, most = 50_000, 9_000_000
		e := bwe.New(bwe.Config{Max: most, Streams: len(script)%2 == 1})
		var (
			now   = second
			seq   = uint16(1)
			start = e.Target()
			probe bwe.ProbeID
		)
		for ; len(script) >= 2; script = script[2:] {
			arg := int64(script[1])
			switch script[0] % 10 {
			case 0:
				if send {
					e.Sent(seq, int(arg)*10, probe, now)
					seq++
				}
			case 1:
				if send {
					e.SentStream(77, uint16(arg), 1000, probe, now)
				}
			case 2:
				feed(e, feedback, now)
			case 3:
				now += arg * arg * ms / 16
			case 4:
				e.ReceiverReport(uint8(arg), now)
			case 5:
				e.Want(uint64(arg)<<16, now)
			case 6:
				if p, ok := e.Probe(now); ok {
					probe = p.ID
					if p.Bytes <= 0 || p.Rate == 0 {
						t.Fatalf("probe %+v", p)
					}
				}
			case 7:
				if next := e.Tick(now); next <= now {
					t.Fatalf("due again at %d, now is %d", next, now)
				}
			case 8:
				// The same feedback about other packets.
				if len(feedback) > 13 {
					binary.BigEndian.PutUint16(feedback[12:], seq-uint16(arg))
				}
			case 9:
				e.RoundTrip(arg * ms)
				seq += uint16(arg)
			}
			got := e.Target()
			if got < least || got > most {
				t.Fatalf("target %d", got)
			}
			if !send && got > start {
				t.Fatalf("target %d with nothing sent, %d at first", got, start)
			}
			start = min(start, got)
			if r := e.PacingRate(); r < got {
				t.Fatalf("pacing %d below the target %d", r, got)
			}
			if l := e.Loss(); l < 0 || l > 1 {
				t.Fatalf("loss %v", l)
			}
		}
	})
}

// FuzzAllocate shares whatever budget between whatever streams.
func FuzzAllocate(f *testing.F) {
	f.Add(uint64(1_000_000), []byte{0x10, 3, 1, 40, 2, 80, 9, 120, 0x30, 1, 1, 4})
	f.Add(uint64(0), []byte{0xff, 9})
	f.Fuzz(func(t *testing.T, budget uint64, b []byte) {
		budget %= 1 << 40
		var streams []bwe.Stream
		for len(b) >= 2 && len(streams) < 60 {
			s := bwe.Stream{
				Audio: b[0]&7 == 0, Screen: b[0]&8 != 0, Pinned: b[0]&16 != 0, Speaker: b[0]&32 != 0,
				Pixels: uint32(b[0]>>6) * 300_000, Current: int(b[1]>>4) - 1,
			}
			n := int(b[1] & 7)
			b = b[2:]
			rate := uint64(0)
			for ; n > 0 && len(b) >= 2; n, b = n-1, b[2:] {
				rate += uint64(b[0]) * 1000
				s.Candidates = append(s.Candidates, bwe.Candidate{Rate: rate, Pixels: uint32(b[1]) * 10_000, Frames: b[1] & 63})
			}
			s.Current = min(s.Current, len(s.Candidates)-1)
			streams = append(streams, s)
		}
		out := make([]int, len(streams))
		a := bwe.Allocate(budget, streams, out)
		var used, audio uint64
		for i, s := range streams {
			if out[i] < -1 || out[i] >= len(s.Candidates) {
				t.Fatalf("stream %d of %d candidates gets %d", i, len(s.Candidates), out[i])
			}
			if out[i] < 0 {
				continue
			}
			if s.Pixels == 0 && !s.Audio {
				t.Fatalf("stream %d is not shown and gets %d", i, out[i])
			}
			used += s.Candidates[out[i]].Rate
			if s.Audio {
				audio += s.Candidates[out[i]].Rate
			}
		}
		if used != a.Used {
			t.Fatalf("used %d, told %d", used, a.Used)
		}
		if used > audio && float64(used-audio) > (float64(budget)-float64(audio))/0.95+1 {
			t.Fatalf("used %d of %d", used, budget)
		}
		// Applied, and asked again with the same budget, it comes to rest.
		before := make([]int, len(streams))
		for round := range 20 {
			copy(before, out)
			for i := range streams {
				streams[i].Current = out[i]
			}
			bwe.Allocate(budget, streams, out)
			if slices.Equal(before, out) {
				return
			}
			if round == 19 {
				t.Fatalf("flaps: %v, %v", before, out)
			}
		}
	})
}

// busy is an estimator in the midst of a call of some megabits, with the feedback for the last 50 packets.
type busy struct {
	e    *bwe.Estimator
	rec  rtcp.TWCCRecorder
	now  int64
	seq  uint16
	buf  []byte
	back rtcp.TWCC
}

func newBusy() *busy {
	b := &busy{e: bwe.New(bwe.Config{}), now: second, buf: make([]byte, 0, 2000)}
	for range 2000 {
		b.send()
		b.hear()
	}
	return b
}

func (b *busy) send() {
	for range 50 {
		b.one()
	}
	b.buf = b.rec.Append(b.buf[:0], 1, 2, 1200)
	it := rtcp.NewIterator(b.buf)
	it.Next()
	b.back, _ = rtcp.ParseTWCC(it.Packet)
}

func (b *busy) one() {
	b.now += ms
	b.seq++
	b.e.Sent(b.seq, 1000, bwe.NoProbe, b.now)
	b.rec.Received(b.seq, b.now+20*ms+int64(b.seq%3)*ms)
}

func (b *busy) hear() {
	b.e.TransportFeedback(b.back, b.now)
	b.e.Tick(b.now)
}

func TestNothingAllocates(t *testing.T) {
	b := newBusy()
	if n := testing.AllocsPerRun(200, func() {
		b.send()
		b.hear()
		b.e.Want(9e6, b.now)
		b.e.Probe(b.now)
	}); n != 0 {
		t.Errorf("%v allocations for 50 packets and their feedback", n)
	}
	streams := conference(20)
	out := make([]int, len(streams))
	if n := testing.AllocsPerRun(100, func() { bwe.Allocate(5e6, streams, out) }); n != 0 {
		t.Errorf("%v allocations for an allocation", n)
	}
	if got := b.e.Target(); got < 5e6 {
		t.Errorf("target %d after 8 Mbit/s without loss", got)
	}
	if size := unsafe.Sizeof(*b.e); size > 4096 {
		t.Errorf("an estimator takes %d bytes", size)
	} else {
		t.Logf("%d bytes, and 1 to 16 KiB for what is in flight", size)
	}
}

func BenchmarkSent(b *testing.B) {
	x := newBusy()
	b.ReportAllocs()
	for b.Loop() {
		x.now += ms
		x.seq++
		x.e.Sent(x.seq, 1000, bwe.NoProbe, x.now)
	}
}

// BenchmarkFeedback is 50 packets and the feedback on them; BenchmarkSent and the recorder's part are to be taken off.
func BenchmarkFeedback(b *testing.B) {
	x := newBusy()
	b.ReportAllocs()
	for b.Loop() {
		x.send()
		x.hear()
	}
}

// BenchmarkRecorder is BenchmarkFeedback without the feedback's being read.
func BenchmarkRecorder(b *testing.B) {
	x := newBusy()
	b.ReportAllocs()
	for b.Loop() {
		x.send()
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		bwe.New(bwe.Config{}).Sent(1, 1000, bwe.NoProbe, second)
	}
}

func BenchmarkAllocate(b *testing.B) {
	streams := conference(25)
	out := make([]int, len(streams))
	b.ReportAllocs()
	for b.Loop() {
		bwe.Allocate(5e6, streams, out)
	}
}
