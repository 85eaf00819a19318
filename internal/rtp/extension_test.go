package rtp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type element struct {
	ID    uint8
	Value string
}

// packet puts an extension block of one form into a packet.
func packet(profile uint16, content ...byte) []byte {
	for len(content)%4 != 0 {
		content = append(content, 0)
	}
	b := AppendHeader(nil, false, 96, 1, 2, 3, true)
	b = append(b, byte(profile>>8), byte(profile), 0, byte(len(content)/4))
	b = append(b, content...)
	return append(b, "payload"...)
}

func elements(t *testing.T, b []byte) (h Header, all []element) {
	t.Helper()
	if !h.Parse(b) {
		t.Fatalf("%x does not parse", b)
	}
	for id, v := range h.Extensions {
		all = append(all, element{id, string(v)})
	}
	return h, all
}

func TestExtensions(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  []byte
		want []element
	}{
		{"empty block", packet(profileOneByte), nil},
		{"one byte", packet(profileOneByte, 0x10, 'a', 0x21, 'b', 'c'), []element{{1, "a"}, {2, "bc"}}},
		{"padding between", packet(profileOneByte, 0, 0, 0x10, 'a', 0, 0, 0, 0x20, 'b'), []element{{1, "a"}, {2, "b"}}},
		{"id 15 stops", packet(profileOneByte, 0x10, 'a', 0xf0, 'x', 0x20, 'b'), []element{{1, "a"}}},
		{"id 0 with length stops", packet(profileOneByte, 0x10, 'a', 0x01, 'x', 0x20, 'b'), []element{{1, "a"}}},
		{"longest one-byte", packet(profileOneByte, append([]byte{0xef}, "0123456789abcdef"...)...), []element{{14, "0123456789abcdef"}}},
		{"one-byte cut off", packet(profileOneByte, 0x10, 'a', 0x22, 'b'), []element{{1, "a"}}},
		{"only padding", packet(profileOneByte, 0, 0, 0, 0), nil},
		{"two bytes", packet(profileTwoByte, 1, 1, 'a', 0, 200, 2, 'b', 'c'), []element{{1, "a"}, {200, "bc"}}},
		{"no value", packet(profileTwoByte, 1, 0, 15, 1, 'b'), []element{{1, ""}, {15, "b"}}},
		{"application bits", packet(profileTwoByte|0x7, 1, 1, 'a'), []element{{1, "a"}}},
		{"two-byte cut off", packet(profileTwoByte, 1, 1, 'a', 2, 5, 'b', 'c', 'd'), []element{{1, "a"}}},
		{"two-byte without length", packet(profileTwoByte, 1, 1, 'a', 2), []element{{1, "a"}}},
		{"neither form", packet(0x1234, 0x10, 'a', 0x20, 'b'), nil},
		{"almost two-byte", packet(0x1010, 1, 1, 'a'), nil},
		{"twice the same", packet(profileOneByte, 0x10, 'a', 0x10, 'b'), []element{{1, "a"}, {1, "b"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, got := elements(t, tt.raw)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if string(tt.raw[h.HeaderLen:]) != "payload" {
				t.Errorf("payload %q", tt.raw[h.HeaderLen:])
			}
			first := map[uint8]string{}
			for _, e := range got {
				if _, seen := first[e.ID]; !seen {
					first[e.ID] = e.Value
				}
			}
			for id := range 256 {
				v := h.Extension(uint8(id))
				want, there := first[uint8(id)]
				if (v != nil) != there || string(v) != want {
					t.Errorf("Extension(%d) = %q, want %q %t", id, v, want, there)
				}
			}
		})
	}
}

func TestExtensionsStop(t *testing.T) {
	var h Header
	h.Parse(packet(profileOneByte, 0x10, 'a', 0x20, 'b'))
	n := 0
	for range h.Extensions {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d elements after a break", n)
	}
}

// Values alias the packet, so that a leg can write its own value in place, and cannot grow into
// their neighbours.
func TestExtensionAliases(t *testing.T) {
	b := packet(profileOneByte, 0x10, 'a', 0x20, 'b')
	var h Header
	h.Parse(b)
	v := h.Extension(1)
	v[0] = 'z'
	if b[FixedHeaderLen+5] != 'z' {
		t.Error("the value is a copy")
	}
	if cap(v) != 1 {
		t.Error("appending to the value would overwrite its neighbour")
	}
}

func TestExtensionWriter(t *testing.T) {
	long := string(bytes.Repeat([]byte("v"), 255))
	for _, tt := range []struct {
		name    string
		add     []element
		want    []element
		profile uint16
	}{
		{"nothing", nil, nil, profileOneByte},
		{"one", []element{{1, "a"}}, []element{{1, "a"}}, profileOneByte},
		{"limits of one byte", []element{{14, "0123456789abcdef"}, {1, "a"}}, []element{{14, "0123456789abcdef"}, {1, "a"}}, profileOneByte},
		{"id 15 widens", []element{{1, "a"}, {15, "b"}, {2, "c"}}, []element{{1, "a"}, {15, "b"}, {2, "c"}}, profileTwoByte},
		{"long value widens", []element{{1, "a"}, {2, "0123456789abcdef"}, {8, "0123456789abcdefg"}}, []element{{1, "a"}, {2, "0123456789abcdef"}, {8, "0123456789abcdefg"}}, profileTwoByte},
		{"empty value widens", []element{{1, "abc"}, {2, ""}}, []element{{1, "abc"}, {2, ""}}, profileTwoByte},
		{"first widens", []element{{255, long}}, []element{{255, long}}, profileTwoByte},
		{"no id", []element{{0, "a"}, {1, "b"}}, []element{{1, "b"}}, profileOneByte},
		{"too long", []element{{1, long + "v"}, {2, "b"}}, []element{{2, "b"}}, profileOneByte},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := BeginExtensions(AppendHeader(nil, false, 96, 1, 2, 3, true))
			for _, e := range tt.add {
				w.Add(e.ID, []byte(e.Value))
			}
			b := append(w.End(), "payload"...)
			h, got := elements(t, b)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if h.ExtProfile != tt.profile || string(b[h.HeaderLen:]) != "payload" {
				t.Errorf("profile %#x, payload %q", h.ExtProfile, b[h.HeaderLen:])
			}
		})
	}
}
