package mux

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeTemp(t testing.TB, b []byte, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dumped reads a dump as rtptools do.
func dumped(t *testing.T, b []byte) (at []uint32, packets []string, places []uint64) {
	t.Helper()
	const head = "#!rtpplay1.0 0.0.0.0/0\n"
	if len(b) < len(head)+16 || string(b[:len(head)]) != head {
		t.Fatalf("no head: %q", b)
	}
	for off := len(head) + 16; off < len(b); {
		n, rtpLen := int(binary.BigEndian.Uint16(b[off:])), int(binary.BigEndian.Uint16(b[off+2:]))
		if n != rtpLen+8 || off+n > len(b) {
			t.Fatalf("record of %d with %d at %d", n, rtpLen, off)
		}
		at = append(at, binary.BigEndian.Uint32(b[off+4:]))
		packets = append(packets, string(b[off+8:off+n]))
		places = append(places, uint64(off))
		off += n
	}
	return at, packets, places
}

func TestDump(t *testing.T) {
	var m, x memory
	d, err := NewDump(&m, &x, 1_700_000_000_123_456_000)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	var times []uint32
	for i := range 100 {
		ms := uint32(i) * 150
		p := string(make([]byte, i)) + "packet"
		want, times = append(want, p), append(times, ms)
		if err := d.Write(int64(ms)*1e6+999, uint32(i), i == 33, []byte(p)); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			m.full = true // what is held back is lost
			want, times = want[:0], times[:0]
			if d.Flush() == nil {
				t.Fatal("a full disk took it")
			}
			m.full = false
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	at, packets, places := dumped(t, m.b)
	if diff := cmp.Diff(want, packets) + cmp.Diff(times, at); diff != "" {
		t.Error(diff)
	}
	if d.Duration() != 99*150*1e6 {
		t.Errorf("it lasts %d ns", d.Duration())
	}
	if len(x.b)%16 != 0 || len(x.b) == 0 || int64(len(x.b)+len(m.b)) < d.Written() {
		t.Fatalf("index of %d bytes", len(x.b))
	}
	for b := x.b; len(b) > 0; b = b[16:] {
		place, ms, ts := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
		found := false
		for i, p := range places {
			found = found || p == place && at[i] == ms && ms == ts*150
		}
		if !found {
			t.Errorf("entry at %d ms leads to %d, where nothing begins", ms, place)
		}
	}
}
