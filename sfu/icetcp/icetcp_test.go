package icetcp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/icetcp"
)

const patience = 20 * time.Second

// receiver keeps what it is given.
type receiver chan datagram

type datagram struct {
	path udp.Path
	b    []byte
}

func (r receiver) Deliver(p udp.Path, b []byte) bool {
	select {
	case r <- datagram{p, bytes.Clone(b)}:
		return true
	default:
		return false
	}
}

func serve(t testing.TB, r icetcp.Receiver, edit func(*icetcp.Config)) (*icetcp.Server, func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := icetcp.Config{Receiver: r}
	if edit != nil {
		edit(&cfg)
	}
	s := icetcp.New(cfg)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := s.Stats().Connections; got != 0 {
			t.Errorf("%d connections after the end", got)
		}
	})
	return s, func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
}

func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// TestFrames: datagrams of every length go through, both ways, however the stream is cut.
func TestFrames(t *testing.T) {
	r := make(receiver, 16)
	s, dial := serve(t, r, nil)
	c := dial()
	for _, n := range []int{1, 2, 20, 1200, 1500, 2048} {
		want := bytes.Repeat([]byte{byte(n)}, n)
		stream := append(framed(nil), framed(want)...) // an empty one means nothing
		for _, part := range [][]byte{stream[:3], stream[3:]} {
			if _, err := c.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		got := <-r
		local := netip.MustParseAddrPort(c.LocalAddr().String())
		if want := (udp.Path{Remote: local, Local: netip.MustParseAddr("127.0.0.1"), Way: udp.Stream}); got.path != want {
			t.Fatalf("%+v, want %+v", got.path, want)
		}
		if !bytes.Equal(got.b, want) {
			t.Fatalf("%d bytes came as %d", n, len(got.b))
		}
		s.Send(got.path, got.b)
		back := make([]byte, 2+n)
		if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, framed(want)) {
			t.Fatalf("%d bytes come back otherwise: %v", n, err)
		}
	}
	s.Send(udp.Path{Remote: netip.MustParseAddrPort("127.0.0.1:1"), Way: udp.Stream}, []byte("to nobody"))
	if got := s.Stats(); got.FramesIn != 6 || got.FramesOut != 6 || got.Late != 1 || got.DropsIn+got.DropsOut != 0 {
		t.Errorf("%+v", got)
	}
}

// TestSlowReader: who does not read loses frames, whole ones, and others are served meanwhile.
func TestSlowReader(t *testing.T) {
	r := make(receiver, 4)
	s, dial := serve(t, r, nil)
	slow, good := dial(), dial()
	var paths []udp.Path
	for _, c := range []net.Conn{slow, good} {
		if _, err := c.Write(framed([]byte("here"))); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, (<-r).path)
	}
	b := make([]byte, 1200)
	for i := uint32(0); s.Stats().DropsOut < 100; i++ {
		binary.BigEndian.PutUint32(b, i)
		s.Send(paths[0], b)
	}
	s.Send(paths[1], b)
	if _, err := io.ReadFull(good, make([]byte, 2+len(b))); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	for range 200 { // what does come is whole and in order
		got := make([]byte, 2+len(b))
		if _, err := io.ReadFull(slow, got); err != nil {
			t.Fatal(err)
		}
		n := int64(binary.BigEndian.Uint32(got[2:]))
		if int(binary.BigEndian.Uint16(got)) != len(b) || n <= last {
			t.Fatalf("frame of %d bytes, number %d after %d", binary.BigEndian.Uint16(got), n, last)
		}
		last = n
	}
}

// TestHungUpOn: whoever sends what is no datagram, is not answered, or is one too many.
func TestHungUpOn(t *testing.T) {
	s, dial := serve(t, make(receiver, 64), func(c *icetcp.Config) { c.Source, c.Idle = 2, 300*time.Millisecond })
	long, unanswered := dial(), dial()
	many := dial()
	if n, err := many.Read(make([]byte, 1)); err == nil {
		t.Error(n)
	}
	if _, err := long.Write([]byte{0x08, 0x01, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := long.Read(make([]byte, 1)); err == nil {
		t.Error(n)
	}
	for { // it may say as much as it likes
		if _, err := unanswered.Write(framed([]byte("x"))); err != nil {
			break
		}
		_ = unanswered.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := unanswered.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			break
		}
	}
	if got := s.Stats(); got.Refused != 1 || got.ClosedFraming != 1 || got.ClosedIdle != 1 {
		t.Errorf("%+v", got)
	}
}
