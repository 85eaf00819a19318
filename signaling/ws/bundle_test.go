package ws

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"
)

// pieces is a connection that keeps what is written, piece by piece.
type pieces struct {
	net.Conn
	all   [][]byte
	until time.Time
	err   error
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.all = append(p.all, bytes.Clone(b))
	return len(b), nil
}

func (p *pieces) SetWriteDeadline(t time.Time) error {
	p.until = t
	return nil
}

// What is held goes out in one piece, or in pieces of about a record; without holding everything goes out as it comes.
func TestBundle(t *testing.T) {
	p := &pieces{}
	b := &bundle{Conn: p}
	write := func(s []byte) {
		t.Helper()
		if n, err := b.Write(s); n != len(s) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	sizes := func() (out []int) {
		for _, x := range p.all {
			out = append(out, len(x))
		}
		p.all = nil
		return out
	}
	write([]byte("a"))
	write([]byte("b"))
	if got := sizes(); len(got) != 2 {
		t.Errorf("pieces %v", got)
	}
	b.hold()
	for range 10 {
		write([]byte("abc"))
	}
	if got := sizes(); len(got) != 0 {
		t.Errorf("pieces %v before release", got)
	}
	if err := b.release(time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	if len(p.all) != 1 || string(p.all[0]) != "abcabcabcabcabcabcabcabcabcabc" || !p.until.IsZero() {
		t.Errorf("%q, deadline %v", p.all, p.until)
	}
	sizes()
	if b.held != nil {
		t.Error("an idle connection has a buffer")
	}
	b.hold()
	for range 5 {
		write(make([]byte, 5000))
	}
	if err := b.release(time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	if got := sizes(); len(got) != 2 || got[0] != 20000 || got[1] != 5000 {
		t.Errorf("pieces %v", got)
	}
	b.hold()
	write([]byte("abc"))
	p.err = errors.New("gone")
	if err := b.release(time.Unix(1, 0)); !errors.Is(err, p.err) {
		t.Errorf("release: %v", err)
	}
}
