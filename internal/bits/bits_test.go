package bits

import (
	"bytes"
	"testing"
)

func TestReader(t *testing.T) {
	r := Reader{B: []byte{0b1010_0110, 0b0100_0010, 0b1000_0000}}
	if got := r.U(3); got != 5 {
		t.Errorf("three bits: %d", got)
	}
	// 00110 is 5, 010 is 1, 00010 1000 is 4 and what follows: signed, -2 … (ITU-T H.264 §9.1).
	if got := r.UE(); got != 5 {
		t.Errorf("unsigned: %d", got)
	}
	if got := r.SE(); got != 1 {
		t.Errorf("signed: %d", got)
	}
	if r.Flag() || r.Short || r.Pos != 12 {
		t.Errorf("at %d, short %t", r.Pos, r.Short)
	}
	r.Pos = 22
	if r.U(8) != 0 || !r.Short {
		t.Errorf("beyond the end: short %t", r.Short)
	}
	zeros := Reader{B: make([]byte, 5)}
	if zeros.UE() != 0 || !zeros.Short {
		t.Error("a code without an end is one")
	}
}

func TestSignedCodes(t *testing.T) {
	r := Reader{B: []byte{0b1_010_011_0, 0b0100_0010, 0b1_0000000}} // 0 1 -1 2 -2
	for _, want := range []int32{0, 1, -1, 2, -2} {
		if got := r.SE(); got != want || r.Short {
			t.Errorf("%d, want %d", got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, c := range []struct{ in, want []byte }{
		{[]byte{1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3}, []byte{1, 0, 0, 1, 0, 0, 0, 0}},
		{[]byte{0, 3, 0, 0, 2}, []byte{0, 3, 0, 0, 2}},
		{[]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{nil, nil},
	} {
		if got := Unescape(nil, c.in, 8); !bytes.Equal(got, c.want) {
			t.Errorf("%x became %x, want %x", c.in, got, c.want)
		}
	}
}
