package icetcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzFrames: a stream is cut into the same frames however it arrives, and what is cut is what was framed.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0, 0, 2, 'b', 'c'})
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte{8, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		read := func(r io.Reader) (out [][]byte, err error) {
			in := &frames{conn: r}
			for {
				b, err := in.next()
				if err != nil {
					return out, err
				}
				out = append(out, bytes.Clone(b))
			}
		}
		all, err := read(bytes.NewReader(stream))
		single, errSingle := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if len(all) != len(single) || !errors.Is(errSingle, err) {
			t.Fatalf("%d frames and %v, by the byte %d and %v", len(all), err, len(single), errSingle)
		}
		rest := stream
		for i, b := range all {
			for binary.BigEndian.Uint16(rest) == 0 {
				rest = rest[2:]
			}
			if !bytes.Equal(b, single[i]) || int(binary.BigEndian.Uint16(rest)) != len(b) || !bytes.Equal(rest[2:2+len(b)], b) {
				t.Fatalf("frame %d is %x", i, b)
			}
			rest = rest[2+len(b):]
		}
	})
}
