package rtp

import (
	"bytes"
	"slices"
	"testing"
)

// redundant writes RFC 2198 §3: blocks from the oldest to the primary one.
func redundant(pt uint8, blocks ...[]byte) []byte {
	var head, body []byte
	for i, b := range blocks {
		body = append(body, b...)
		if i == len(blocks)-1 {
			head = append(head, pt)
			break
		}
		bits := uint32(960*(len(blocks)-1-i))<<10 | uint32(len(b))
		head = append(head, 0x80|pt, byte(bits>>16), byte(bits>>8), byte(bits))
	}
	return append(head, body...)
}

func TestPrimaryRED(t *testing.T) {
	long := bytes.Repeat([]byte{7}, redLengthMax)
	for _, blocks := range [][][]byte{
		{[]byte("primary")}, {[]byte("first"), []byte("primary")}, {nil, []byte("primary")}, {long, []byte("second"), []byte("p")},
	} {
		p := redundant(111, blocks...)
		at, ok := PrimaryRED(p, 111)
		if want := blocks[len(blocks)-1]; !ok || !bytes.Equal(p[at:], want) {
			t.Errorf("%d blocks: %v, %q", len(blocks), ok, p[at:])
		}
	}
	good := redundant(111, []byte("first"), []byte("primary"))
	for name, p := range map[string][]byte{
		"empty":                     {},
		"another payload type":      redundant(96, []byte("primary")),
		"another in the first":      slices.Concat([]byte{0x80 | 96}, good[1:]),
		"no primary header":         good[:4],
		"a header cut off":          good[:3],
		"redundant data cut off":    good[:7],
		"no primary block":          good[:10],
		"a header without any data": {111},
	} {
		if at, ok := PrimaryRED(p, 111); ok {
			t.Errorf("%s: primary block at %d", name, at)
		}
	}
}

func FuzzPrimaryRED(f *testing.F) {
	f.Add(redundant(111, []byte("first"), []byte("second"), []byte("primary")), uint8(111))
	f.Add([]byte{0xef, 0, 0, 0, 111}, uint8(111))
	f.Fuzz(func(t *testing.T, p []byte, pt uint8) {
		at, ok := PrimaryRED(p, pt)
		if !ok {
			return
		}
		if at < 1 || at >= len(p) || p[0]&0x7f != pt {
			t.Fatalf("primary block at %d of %d", at, len(p))
		}
		// As many headers as there are must lie in front of it.
		n := 0
		for p[n]&0x80 != 0 {
			n += 4
		}
		if n >= at {
			t.Fatalf("primary block at %d, its header at %d", at, n)
		}
	})
}
