package rtp

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	pion "github.com/pion/rtp"
)

func TestAudioLevelLikePion(t *testing.T) {
	for x := range 256 {
		v := []byte{byte(x)}
		level, voice, ok := ParseAudioLevel(v)
		var theirs pion.AudioLevelExtension
		if err := theirs.Unmarshal(v); err != nil {
			t.Fatal(err)
		}
		if !ok || level != theirs.Level || voice != theirs.Voice {
			t.Errorf("%#x: level %d voice %t ok %t, pion %+v", x, level, voice, ok, theirs)
		}
	}
	for _, v := range [][]byte{nil, {}, {1, 2}} {
		if _, _, ok := ParseAudioLevel(v); ok {
			t.Errorf("%x is a level", v)
		}
	}
}

func TestAbsSendTimeLikePion(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 10000 {
		ns := r.Int64N(4e18)
		v := AbsSendTime(ns)
		theirs, err := pion.NewAbsSendTimeExtension(time.Unix(0, ns)).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if string(v[:]) != string(theirs) {
			t.Fatalf("%d: %x, pion %x", ns, v, theirs)
		}
	}
}

func TestAbsSendTime(t *testing.T) {
	for _, tt := range []struct {
		ns   int64
		want uint32
	}{
		{0, 0},
		{1e9, 1 << 18},
		{63_999_999_999, 1<<24 - 1},
		{64e9, 0},
		{65e9, 1 << 18},
		{-1e9, 63 << 18}, // a steady clock may begin anywhere
		{math.MaxInt64, 0x136b4a},
		{math.MinInt64, 0xec94b5},
	} {
		v := AbsSendTime(tt.ns)
		if got, ok := ParseAbsSendTime(v[:]); !ok || got != tt.want {
			t.Errorf("%d: %#x, want %#x", tt.ns, got, tt.want)
		}
	}
	for _, v := range [][]byte{nil, {1, 2}, {1, 2, 3, 4}} {
		if _, ok := ParseAbsSendTime(v); ok {
			t.Errorf("%x is a time", v)
		}
	}
}

func TestExtend(t *testing.T) {
	for _, tt := range []struct {
		highest int64
		seq     uint16
		want    int64
	}{
		{0, 0, 0},
		{0, 1, 1},
		{0, 65535, -1},
		{65535, 0, 65536},
		{65536, 65535, 65535},
		{65536 + 10, 5, 65536 + 5},
		{1 << 40, 32767, 1<<40 + 32767},
		{1 << 40, 32768, 1<<40 - 32768}, // exactly half-way counts as old
		{-5, 65535, -1},
	} {
		if got := Extend(tt.highest, tt.seq); got != tt.want {
			t.Errorf("Extend(%d, %d) = %d, want %d", tt.highest, tt.seq, got, tt.want)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 10000 {
		highest := r.Int64N(1 << 47)
		near := highest + r.Int64N(65535) - 32767
		if got := Extend(highest, uint16(near)); got != near {
			t.Fatalf("Extend(%d, %d) = %d, want %d", highest, uint16(near), got, near)
		}
	}
}

func TestSeqNewer(t *testing.T) {
	for _, tt := range []struct {
		a, b uint16
		want bool
	}{
		{1, 0, true},
		{0, 1, false},
		{0, 0, false},
		{0, 65535, true},
		{65535, 0, false},
		{32767, 0, true},
		{32768, 0, false},
		{0, 32768, false},
	} {
		if got := SeqNewer(tt.a, tt.b); got != tt.want {
			t.Errorf("SeqNewer(%d, %d) = %t", tt.a, tt.b, got)
		}
	}
}
