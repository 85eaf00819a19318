package transport

import (
	"crypto/sha512"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestTimers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h timers
	sessions := make([]*Session, 200)
	for i := range sessions {
		sessions[i] = &Session{deadline: Never}
	}
	for range 20000 {
		s := sessions[r.IntN(len(sessions))]
		switch r.IntN(4) {
		case 0:
			h.remove(s)
			s.deadline = Never
		case 1:
			h.set(s, Never)
		default:
			h.set(s, r.Int64N(1000))
		}
		soonest, n := Never, 0
		for _, s := range sessions {
			if s.timer != 0 {
				soonest = min(soonest, s.deadline)
				n++
				if h.heap[s.timer-1] != s {
					t.Fatal("session does not know its place")
				}
			} else if s.deadline != Never {
				t.Fatal("deadline of a session that is not in the heap")
			}
		}
		if n != len(h.heap) || (n > 0 && h.first().deadline != soonest) {
			t.Fatalf("first at %d, want %d; %d in the heap, want %d", h.first().deadline, soonest, len(h.heap), n)
		}
	}
}

func TestUfrag(t *testing.T) {
	k, err := NewUfragKey([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewUfragKey([]byte("0123456789abcdeX"))
	c, d := newUfragCodec(k), newUfragCodec(other)
	for _, want := range []ufragFields{{}, {1, 2, 3}, {0xffff, 1<<64 - 1, 0xff}} {
		u := c.format(want)
		if len(u) != ufragLen || !iceChars(u, 4) {
			t.Errorf("ufrag %q", u)
		}
		if got, ok := c.parse([]byte(u)); !ok || got != want {
			t.Errorf("parse(%q) = %+v, %v", u, got, ok)
		}
		if _, ok := d.parse([]byte(u)); ok {
			t.Error("accepted under another key")
		}
		for i := range u {
			b := []byte(u)
			for _, x := range []byte("Aa/\n=:") {
				if b[i] = x; string(b) != u {
					if _, ok := c.parse(b); ok {
						t.Errorf("accepted %q", b)
					}
				}
			}
			if _, ok := c.parse([]byte(u[:i])); ok {
				t.Errorf("accepted %q", u[:i])
			}
		}
	}
	if _, err := NewUfragKey(make([]byte, 15)); err == nil {
		t.Error("short key accepted")
	}
}

func FuzzUfrag(f *testing.F) {
	k, err := NewUfragKey([]byte("0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	c := newUfragCodec(k)
	f.Add([]byte(c.format(ufragFields{1, 2, 3})))
	f.Add([]byte("AQABAAAAAAAAAAIDAAAAAAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := c.parse(b); ok && c.format(got) != string(b) {
			t.Fatalf("%q is not the ufrag of %+v", b, got)
		}
	})
}

func TestFingerprint(t *testing.T) {
	der := []byte("a certificate")
	f := FingerprintOf(der)
	g, err := ParseFingerprint("SHA-256", strings.ToLower(f.Value()))
	if err != nil || f != g || !g.Matches(der) || g.Matches([]byte("another")) {
		t.Errorf("%v, %v, %v", f, g, err)
	}
	sum := sha512.Sum512(der)
	var parts []string
	for _, b := range sum {
		parts = append(parts, hex.EncodeToString([]byte{b}))
	}
	if g, err = ParseFingerprint("sha-512", strings.Join(parts, ":")); err != nil || !g.Matches(der) {
		t.Errorf("sha-512: %v", err)
	}
	for _, bad := range [][2]string{
		{"sha-1", "AA:BB"},
		{"md5", ""},
		{"", f.Value()},
		{"sha-384", f.Value()},
		{"sha-256", f.Value() + ":00"},
		{"sha-256", strings.ReplaceAll(f.Value(), ":", "-")},
		{"sha-256", "G" + f.Value()[1:]},
		{"sha-256", ""},
	} {
		if _, err := ParseFingerprint(bad[0], bad[1]); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	if (Fingerprint{}).Matches(der) || !(Fingerprint{}).IsZero() || (Fingerprint{}).Value() != "" {
		t.Error("zero fingerprint matches something")
	}
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add("sha-256", FingerprintOf(nil).Value())
	f.Add("sha-1", "00:11")
	f.Fuzz(func(t *testing.T, algorithm, value string) {
		p, err := ParseFingerprint(algorithm, value)
		if err != nil {
			return
		}
		if !strings.EqualFold(p.Algorithm(), algorithm) || !strings.EqualFold(p.Value(), value) {
			t.Fatalf("%q %q became %v", algorithm, value, p)
		}
	})
}

func TestPairPriority(t *testing.T) {
	// RFC 8445 §6.1.2.3: 2^32*MIN(G,D) + 2*MAX(G,D) + (G>D ? 1 : 0), G being ours.
	for _, tc := range []struct {
		g, d uint32
		want uint64
	}{{1, 2, 1<<32 + 4}, {2, 1, 1<<32 + 5}, {3, 3, 3<<32 + 6}} {
		if got := pairPriority(tc.g, tc.d); got != tc.want {
			t.Errorf("pairPriority(%d, %d) = %d, want %d", tc.g, tc.d, got, tc.want)
		}
	}
}

func TestBucket(t *testing.T) {
	b := newBucket(10)
	n := 0
	for range 100 {
		if b.take(5) {
			n++
		}
	}
	if n != 10 || !b.take(5+second) || newBucketZero().take(1) {
		t.Errorf("%d tokens at once", n)
	}
}

func newBucketZero() *bucket { return &bucket{} }
