package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
)

func receive(t *testing.T, c Conn, want string) {
	t.Helper()
	got, err := c.Receive(context.Background())
	if err != nil || string(got) != want {
		t.Fatalf("received %.40q, %v; want %.40q", got, err, want)
	}
}

// both runs a test over a byte stream and over a WebSocket.
func both(t *testing.T, f func(t *testing.T, near, far Conn)) {
	t.Run("stream", func(t *testing.T) {
		a, b := net.Pipe()
		near, far := Stream(a), Stream(b)
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		f(t, near, far)
	})
	t.Run("socket", func(t *testing.T) {
		conns := make(chan Conn, 1)
		end := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			conns <- Socket(c)
			<-end
		}))
		t.Cleanup(server.Close)
		t.Cleanup(func() { close(end) })
		c, _, err := websocket.Dial(t.Context(), server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		near, far := Socket(c), <-conns
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		f(t, near, far)
	})
}

func TestFrames(t *testing.T) {
	both(t, func(t *testing.T, near, far Conn) {
		big := strings.Repeat("x", MaxFrame)
		go func() {
			for _, s := range []string{"one", "", big, "two"} {
				if err := near.Send(context.Background(), []byte(s)); err != nil {
					t.Error(err)
				}
			}
		}()
		for _, s := range []string{"one", "", big, "two"} {
			receive(t, far, s)
		}
		if err := near.Send(context.Background(), make([]byte, MaxFrame+1)); !errors.Is(err, ErrTooLong) {
			t.Errorf("sent a frame above the limit: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := far.Receive(ctx); err == nil {
			t.Error("received after the end of the context")
		}
	})
}

func TestStreamLimits(t *testing.T) {
	a, b := net.Pipe()
	go func() { _, _ = a.Write([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}) }()
	if _, err := Stream(b).Receive(context.Background()); !errors.Is(err, ErrTooLong) {
		t.Errorf("a length of 4 GB: %v", err)
	}
	a, b = net.Pipe()
	go func() { _, _ = a.Write([]byte{0, 0, 0, 5, 1}); _ = a.Close() }()
	if _, err := Stream(b).Receive(context.Background()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a frame: %v", err)
	}
}

// line is a Mux at each end, running.
func line(t *testing.T, near, far Conn) (relay, kms *Mux) {
	t.Helper()
	relay, kms = NewMux(near, false), NewMux(far, true)
	var running sync.WaitGroup
	for _, m := range []*Mux{relay, kms} {
		running.Go(func() { _ = m.Run(context.Background()) })
	}
	t.Cleanup(func() {
		_, _ = near.Close(), far.Close()
		running.Wait()
	})
	return relay, kms
}

func accept(t *testing.T, m *Mux) *Channel {
	t.Helper()
	c, err := m.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMux(t *testing.T) {
	both(t, func(t *testing.T, near, far Conn) {
		relay, kms := line(t, near, far)
		var clients, served []*Channel
		for n := range 3 {
			c, err := relay.Open()
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			served = append(served, accept(t, kms))
			if err := c.Send(t.Context(), fmt.Appendf(nil, "hello %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		for n, c := range served {
			receive(t, c, fmt.Sprintf("hello %d", n))
			if err := c.Send(t.Context(), fmt.Appendf(nil, "answer %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := served[1].Send(t.Context(), []byte("last")); err != nil {
			t.Fatal(err)
		}
		if err := served[1].Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, clients[1], "answer 1")
		receive(t, clients[1], "last")
		if _, err := clients[1].Receive(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("after the end of a channel: %v", err)
		}
		if err := clients[1].Send(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("sent after the end of a channel: %v", err)
		}
		receive(t, clients[0], "answer 0")
		receive(t, clients[2], "answer 2")
		if err := clients[0].Send(t.Context(), make([]byte, MaxFrame)); !errors.Is(err, ErrTooLong) {
			t.Errorf("a frame above the limit: %v", err)
		}
		_ = near.Close()
		<-kms.Done()
		if _, err := served[0].Receive(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("after the end of the line: %v", err)
		}
		if _, err := kms.Accept(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("accepted after the end of the line: %v", err)
		}
		<-relay.Done()
		if _, err := relay.Open(); !errors.Is(err, ErrClosed) {
			t.Errorf("opened after the end of the line: %v", err)
		}
	})
}

// A channel that nobody reads is closed, and the others go on.
func TestMuxDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		relay, kms := line(t, Stream(a), Stream(b))
		slow, err := relay.Open()
		if err != nil {
			t.Fatal(err)
		}
		deaf := accept(t, kms)
		other, err := relay.Open()
		if err != nil {
			t.Fatal(err)
		}
		served := accept(t, kms)
		for range queued + 1 {
			if err := slow.Send(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := slow.Send(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a channel that nobody reads goes on: %v", err)
		}
		receive(t, deaf, "x")
		if err := other.Send(t.Context(), []byte("y")); err != nil {
			t.Fatal(err)
		}
		receive(t, served, "y")
		_, _ = a.Close(), b.Close()
		synctest.Wait()
	})
}

func TestMuxRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		message []byte
		accepts bool
	}{
		"empty":                   {nil, true},
		"short":                   {[]byte{muxFrame, 0, 0, 0}, true},
		"of no kind":              {[]byte{4, 0, 0, 0, 1}, true},
		"an opening with a frame": {[]byte{muxOpen, 0, 0, 0, 1, 9}, true},
		"an opening from the KMS": {[]byte{muxOpen, 0, 0, 0, 1}, false},
	} {
		a, b := net.Pipe()
		m := NewMux(Stream(b), c.accepts)
		go func() { _ = Stream(a).Send(context.Background(), c.message) }()
		if err := m.Run(t.Context()); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		<-m.Done()
	}
}

func TestPump(t *testing.T) {
	a, b := net.Pipe()
	c, d := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- Pump(context.Background(), Stream(b), Stream(c)) }()
	near, far := Stream(a), Stream(d)
	for _, s := range []string{"one", "two"} {
		go func() { _ = near.Send(context.Background(), []byte(s)) }()
		receive(t, far, s)
		go func() { _ = far.Send(context.Background(), []byte(s+" back")) }()
		receive(t, near, s+" back")
	}
	_ = near.Close()
	if err := <-done; err == nil {
		t.Error("no reason for the end")
	}
	if _, err := far.Receive(context.Background()); err == nil {
		t.Error("one side goes on without the other")
	}
}

// script is a line on which a peer says what a test hands it.
type script struct{ messages [][]byte }

func (s *script) Receive(context.Context) ([]byte, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}
func (s *script) Send(context.Context, []byte) error { return nil }
func (s *script) Close() error                       { return nil }

// FuzzMux lets a relay say anything: messages are cut from the input by their first byte.
func FuzzMux(f *testing.F) {
	f.Add([]byte{5, muxOpen, 0, 0, 0, 1, 7, muxFrame, 0, 0, 0, 1, 8, 9, 5, muxClose, 0, 0, 0, 1})
	f.Add(bytes.Repeat([]byte{5, muxOpen, 0, 0, 0, 1}, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s script
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			s.messages = append(s.messages, slices.Clone(b[1:1+n]))
			b = b[1+n:]
		}
		m := NewMux(&s, true)
		if err := m.Run(context.Background()); err == nil {
			t.Error("no reason for the end")
		}
		if len(m.channels) != 0 {
			t.Errorf("%d channels are left", len(m.channels))
		}
	})
}
