package id

import (
	"fmt"
	"strings"
	"testing"
)

func TestRoomRoundTrip(t *testing.T) {
	rooms := NewRooms([32]byte{1})
	seen := map[string]bool{}
	for range 200 {
		room := rooms.New()
		if seen[room] {
			t.Fatalf("room %s made twice", room)
		}
		seen[room] = true
		for _, spelling := range []string{room, strings.ToUpper(room), " " + room + "\n", strings.ReplaceAll(room, "-", "")} {
			got, ok := rooms.Parse(spelling)
			if !ok || got != room {
				t.Errorf("Parse(%q) = %q, %v; want %q", spelling, got, ok, room)
			}
		}
		if _, ok := NewRooms([32]byte{2}).Parse(room); ok {
			t.Errorf("another key accepts %s", room)
		}
	}
}

// Every change of one character, the spare bits of the last included, is another room or none.
func TestRoomForgery(t *testing.T) {
	rooms := NewRooms([32]byte{1})
	room := rooms.New()
	for i, c := range room {
		for _, d := range "abcdefghijklmnopqrstuvwxyz234567" {
			if c == '-' || c == d {
				continue
			}
			forged := room[:i] + string(d) + room[i+1:]
			if got, ok := rooms.Parse(forged); ok {
				t.Errorf("Parse(%q) accepts a forgery of %q as %q", forged, room, got)
			}
		}
	}
	for _, s := range []string{"", "-", room[:len(room)-1], room + "a", strings.Repeat("-", 1<<20), "00000-00000-00000-00000-000000"} {
		if _, ok := rooms.Parse(s); ok {
			t.Errorf("Parse accepts %d bytes %.40q", len(s), s)
		}
	}
}

func TestRoomKeyIsNotPrinted(t *testing.T) {
	rooms := NewRooms([32]byte{0xab, 0xcd})
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if s := fmt.Sprintf(format, rooms); s != "redacted" {
			t.Errorf("%s prints %q", format, s)
		}
	}
}

func TestNew(t *testing.T) {
	a, b := New("p_"), New("p_")
	if a == b || !strings.HasPrefix(a, "p_") || len(a) != 18 {
		t.Errorf("New returns %q and %q", a, b)
	}
	if len(Secret()) != 32 {
		t.Errorf("Secret returns %q", Secret())
	}
}

func FuzzParse(f *testing.F) {
	rooms := NewRooms([32]byte{1})
	f.Add(rooms.New())
	f.Add("aaaaa-aaaaa-aaaaa-aaaaa-aaaaaa")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		room, ok := rooms.Parse(s)
		if !ok {
			return
		}
		if again, ok := rooms.Parse(room); !ok || again != room {
			t.Errorf("Parse(%q) gives %q, which is not its own spelling", s, room)
		}
	})
}
