package plain_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/plain"
)

type inner struct {
	N    int32
	Name string
}

type state struct {
	A    uint8
	B    int64
	C    bool
	Text string
	Raw  []byte
	List []inner
}

func (s *state) code(c *plain.Coder) {
	plain.Int(c, &s.A)
	plain.Int(c, &s.B)
	c.Bool(&s.C)
	plain.Text(c, &s.Text)
	c.Blob(&s.Raw)
	plain.List(c, &s.List, func(c *plain.Coder, e *inner) {
		plain.Int(c, &e.N)
		plain.Text(c, &e.Name)
	})
}

func sample() state {
	return state{A: 255, B: math.MinInt64, C: true, Text: "räum", Raw: []byte{1, 2}, List: []inner{{-1, "a"}, {math.MaxInt32, ""}}}
}

func TestOneDescriptionBothWays(t *testing.T) {
	in := sample()
	w := plain.NewWriter([]byte("head"))
	in.code(w)
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	var out state
	r := plain.NewReader(w.Bytes()[4:])
	out.code(r)
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
}

func TestMalformedIsRefused(t *testing.T) {
	in := sample()
	w := plain.NewWriter(nil)
	in.code(w)
	whole := w.Bytes()
	for n := range whole {
		var out state
		r := plain.NewReader(whole[:n])
		out.code(r)
		if !errors.Is(r.End(), plain.ErrMalformed) {
			t.Fatalf("cut after %d bytes: read without an error", n)
		}
	}
	var out state
	r := plain.NewReader(append(whole[:len(whole):len(whole)], 0))
	out.code(r)
	if !errors.Is(r.End(), plain.ErrMalformed) {
		t.Error("a byte too many: read without an error")
	}
	big := append([]byte(nil), whole...)
	big[0] = 1 // A no longer fits its field
	r = plain.NewReader(big)
	out.code(r)
	if !errors.Is(r.End(), plain.ErrMalformed) {
		t.Error("a number that does not fit: read without an error")
	}
}

func FuzzReader(f *testing.F) {
	in := sample()
	w := plain.NewWriter(nil)
	in.code(w)
	f.Add(w.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s state
		r := plain.NewReader(b)
		s.code(r)
		if r.End() != nil {
			return
		}
		w := plain.NewWriter(nil)
		s.code(w)
		if d := cmp.Diff(b, w.Bytes()); d != "" {
			t.Errorf("read and written again it differs: %s", d)
		}
	})
}
