package tap_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// Everything that is put comes out as it was, whatever its length and wherever the ring wraps.
func TestRing(t *testing.T) {
	r := tap.NewRing(0)
	var got tap.Record
	for i := range 5000 {
		want := tap.Record{
			Kind: tap.Kind(1 + i%5), Codec: rtp.Codec(i % 6), Layer: uint8(i % 3), Key: i%7 == 0, Stream: uint32(i) * 77777,
			At: int64(i) << 33, Sequence: int64(-i) << 20, NTP: uint64(i) << 50, Data: bytes.Repeat([]byte{byte(i)}, 1+i%1500),
		}
		if !r.Put(&want) || !r.Take(&got) {
			t.Fatalf("record %d does not come through", i)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
	if r.Take(&got) {
		t.Error("more than was put")
	}
}

// Packets that find no room are counted by the next record that does, and leave room for what is no packet.
func TestFull(t *testing.T) {
	r := tap.NewRing(0)
	p := tap.Record{Kind: tap.Packet, Data: make([]byte, 1000)}
	n := 0
	for r.Put(&p) {
		n++
	}
	if n < 10 || r.Put(&p) {
		t.Fatalf("%d packets found room", n)
	}
	if !r.Put(&tap.Record{Kind: tap.Muted}) || !r.Put(&tap.Record{Kind: tap.End}) {
		t.Fatal("no room for what is no packet")
	}
	var got tap.Record
	for range n {
		if !r.Take(&got) || got.Kind != tap.Packet || got.Lost != 0 {
			t.Fatalf("%+v", got)
		}
	}
	if !r.Take(&got) || got.Kind != tap.Muted || got.Lost != 2 {
		t.Errorf("after two losses: %+v", got)
	}
	if !r.Take(&got) || got.Kind != tap.End || got.Lost != 0 {
		t.Errorf("%+v", got)
	}
}

// Two goroutines at the two ends: nothing is torn, and what is missing is what was counted.
func TestConcurrent(t *testing.T) {
	const total = 20_000
	r := tap.NewRing(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		data := make([]byte, 1200)
		for i := range total {
			b := data[:8+i%1192]
			for j := range b {
				b[j] = byte(i)
			}
			binary.LittleEndian.PutUint64(b, uint64(i))
			r.Put(&tap.Record{Kind: tap.Packet, Sequence: int64(i), Data: b})
		}
		for !r.Put(&tap.Record{Kind: tap.End}) {
			runtime.Gosched()
		}
	}()
	var rec tap.Record
	next, lost := int64(0), int64(0)
	for rec.Kind != tap.End {
		if !r.Take(&rec) {
			runtime.Gosched()
			continue
		}
		lost += int64(rec.Lost)
		if rec.Kind == tap.End {
			break
		}
		next += int64(rec.Lost)
		if rec.Sequence != next || binary.LittleEndian.Uint64(rec.Data) != uint64(next) || len(rec.Data) != 8+int(next)%1192 {
			t.Fatalf("record %d with %d bytes, want %d", rec.Sequence, len(rec.Data), next)
		}
		for _, x := range rec.Data[8:] {
			if x != byte(next) {
				t.Fatalf("record %d is torn", next)
			}
		}
		next++
	}
	<-done
	// Waiting for room at the end counts, too.
	if next+lost < total {
		t.Errorf("%d came or were counted of %d", next+lost, total)
	}
}

func TestPutAllocatesNothing(t *testing.T) {
	r := tap.NewRing(0)
	p := tap.Record{Kind: tap.Packet, Data: make([]byte, 1000)}
	var got tap.Record
	r.Put(&p)
	r.Take(&got) // makes the taker's buffer
	if n := testing.AllocsPerRun(1000, func() {
		r.Put(&p)
		r.Take(&got)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPut(b *testing.B) {
	r := tap.NewRing(1 << 20)
	p := tap.Record{Kind: tap.Packet, Data: make([]byte, 1200)}
	var got tap.Record
	b.ReportAllocs()
	for b.Loop() {
		r.Put(&p)
		r.Take(&got)
	}
}
