package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// socket is what Socket and the portable stand-in have in common, which is all.
type socket interface {
	LocalAddr() netip.AddrPort
	Receive(dst []Datagram) int
	ReceiveAside(dst []Datagram) int
	Heed(on bool)
	Wait(timeout time.Duration) bool
	Wake()
	Reserve(n int) []byte
	Commit(n int, p Path)
	Flush()
	Stats() Stats
	Features() Features
	Close() error
}

var (
	_ socket = (*Socket)(nil)
	_ socket = (*portable)(nil)
)

// both runs a test on this system's socket and on the portable one.
func both(t *testing.T, f func(t *testing.T, open func(testing.TB, Config) socket)) {
	t.Run("native", func(t *testing.T) {
		f(t, func(t testing.TB, cfg Config) socket { return listen(t, cfg) })
	})
	t.Run("portable", func(t *testing.T) {
		f(t, func(t testing.TB, cfg Config) socket {
			t.Helper()
			p, err := listenPortable(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close() })
			return p
		})
	})
}

func listen(t testing.TB, cfg Config) *Socket {
	t.Helper()
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func loopback(host string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(host), 0) }

func needIPv6(t testing.TB) {
	t.Helper()
	c, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(loopback("::1")))
	if err != nil {
		t.Skipf("no IPv6 on this host: %v", err)
	}
	_ = c.Close()
}

// send queues b for the path, without a flush.
func send(s socket, b []byte, p Path) {
	s.Commit(copy(s.Reserve(len(b)), b), p)
}

// message is a datagram that outlives the next Receive.
type message struct {
	Data string
	Path Path
}

// receive waits for n datagrams, taking at most room at a time.
func receive(t testing.TB, s socket, n, room int) []message {
	t.Helper()
	var got []message
	dst := make([]Datagram, room)
	for len(got) < n {
		if !s.Wait(patience) {
			t.Fatalf("%d datagrams of %d came; %+v", len(got), n, s.Stats())
		}
		for _, d := range dst[:s.Receive(dst)] {
			got = append(got, message{string(d.Data), d.Path})
		}
	}
	return got
}

// pattern is n bytes that tell datagram i from every other.
func pattern(i, n int) []byte {
	b := make([]byte, n)
	for j := range b {
		b[j] = byte(i*31 + j*7)
	}
	return b
}

func data(ms []message) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Data)
	}
	return out
}

func TestClassify(t *testing.T) {
	want := func(c int) Kind {
		for _, r := range []struct {
			lo, hi int
			k      Kind
		}{{0, 3, KindSTUN}, {20, 63, KindDTLS}, {64, 79, KindChannelData}, {128, 191, KindRTP}} {
			if r.lo <= c && c <= r.hi {
				return r.k
			}
		}
		return KindUnknown
	}
	for c := range 256 {
		if got := Classify([]byte{byte(c)}); got != want(c) {
			t.Errorf("first byte %d: %v, want %v", c, got, want(c))
		}
	}
	if got := Classify(nil); got != KindUnknown {
		t.Errorf("nothing: %v", got)
	}
	names := []string{KindUnknown.String(), KindSTUN.String(), KindDTLS.String(), KindChannelData.String(), KindRTP.String()}
	if diff := cmp.Diff([]string{"unknown", "stun", "dtls", "channel-data", "rtp"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestEcho(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		for _, c := range []struct {
			name, listen, client string
			family               Family
		}{
			{"v4", "127.0.0.1", "127.0.0.1", IPv4},
			{"v4 mapped", "::ffff:127.0.0.1", "127.0.0.1", IPv4},
			{"v6", "::1", "::1", IPv6},
			{"dual-stack by v4", "::", "127.0.0.1", DualStack},
			{"dual-stack by v6", "::", "::1", DualStack},
			{"dual-stack from 0.0.0.0", "0.0.0.0", "::1", DualStack},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.family != IPv4 {
					needIPv6(t)
				}
				s := open(t, Config{Listen: loopback(c.listen)})
				if got := s.Features().Family; got != c.family {
					t.Errorf("family %v, want %v", got, c.family)
				}
				client := open(t, Config{Listen: loopback(c.client)})
				server := netip.AddrPortFrom(netip.MustParseAddr(c.client), s.LocalAddr().Port())

				send(client, []byte("question"), Path{Remote: server})
				client.Flush()
				got := receive(t, s, 1, 8)
				want := message{"question", Path{Remote: client.LocalAddr()}}
				if s.Features().LocalAddr {
					want.Path.Local = server.Addr()
				}
				if diff := cmp.Diff(want, got[0], compareNetip); diff != "" {
					t.Fatal(diff)
				}
				send(s, []byte("answer"), got[0].Path)
				s.Flush()
				got = receive(t, client, 1, 8)
				want = message{"answer", Path{Remote: server, Local: client.LocalAddr().Addr()}}
				if diff := cmp.Diff(want, got[0], compareNetip); diff != "" {
					t.Fatal(diff)
				}
				st := s.Stats()
				if st.ReceivedDatagrams != 1 || st.ReceivedBytes != 8 || st.SentDatagrams != 1 || st.SentBytes != 6 {
					t.Errorf("%+v", st)
				}
			})
		}
	})
}

// compareNetip compares addresses as ==, so that a mapped one is not a plain one.
var compareNetip = cmp.Options{
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestReceiveFindsWithoutWait(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		if n := s.Receive(make([]Datagram, 4)); n != 0 {
			t.Fatalf("%d datagrams from nobody", n)
		}
		if n := s.Receive(nil); n != 0 {
			t.Fatalf("%d datagrams into nothing", n)
		}
		send(s, []byte("self"), Path{Remote: s.LocalAddr()})
		s.Flush()
		dst := make([]Datagram, 4)
		if n := s.Receive(dst); n != 1 || string(dst[0].Data) != "self" {
			t.Fatalf("%d datagrams: %q", n, dst[0].Data)
		}
	})
}

func TestEmptyDatagram(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.LocalAddr()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, m := range []string{"", "x"} {
			if _, err := c.Write([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]string{"", "x"}, data(receive(t, s, 2, 8))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestManyWithoutFlush(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		a := open(t, Config{Listen: loopback("127.0.0.1")})
		b := open(t, Config{Listen: loopback("127.0.0.1")})
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		// More than a batch and more than an arena, turn by turn so that nothing joins.
		const n = 600
		var want [2][]string
		for i := range n {
			m := pattern(i, 1000+i%3)
			want[i%2] = append(want[i%2], string(m))
			send(s, m, Path{Remote: []socket{a, b}[i%2].LocalAddr()})
		}
		s.Flush()
		s.Flush() // of nothing
		for i, r := range []socket{a, b} {
			if diff := cmp.Diff(want[i], data(receive(t, r, n/2, 64))); diff != "" {
				t.Errorf("receiver %d: %s", i, diff)
			}
		}
		if st := s.Stats(); st.SentDatagrams != n || st.SendErrors != 0 || st.GSOSegments != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestReservation(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		p := Path{Remote: s.LocalAddr()}
		mustPanic(t, "Commit", func() { s.Commit(1, p) })
		mustPanic(t, "Reserve", func() { s.Reserve(maxDatagram + 1) })
		mustPanic(t, "Reserve", func() { s.Reserve(-1) })

		s.Reserve(3)
		b := s.Reserve(10) // instead of the first
		if len(b) != 10 || cap(b) != 10 {
			t.Fatalf("len %d cap %d", len(b), cap(b))
		}
		mustPanic(t, "Commit", func() { s.Commit(11, p) })
		copy(b, "0123456789")
		s.Commit(4, p)
		mustPanic(t, "Commit", func() { s.Commit(1, p) }) // used up
		s.Reserve(5)
		s.Commit(0, p) // given back
		s.Reserve(5)   // forgotten
		s.Flush()
		mustPanic(t, "Commit", func() { s.Commit(1, p) }) // taken back
		send(s, []byte("next"), p)
		s.Flush()
		if diff := cmp.Diff([]string{"0123", "next"}, data(receive(t, s, 2, 8))); diff != "" {
			t.Error(diff)
		}
	})
}

func mustPanic(t *testing.T, with string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		v := recover()
		if s, ok := v.(string); !ok || !strings.Contains(s, with) {
			t.Errorf("panic = %v, want one with %q", v, with)
		}
	}()
	f()
}

func TestErrorsDoNotStopOthers(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		r := open(t, Config{Listen: loopback("127.0.0.1")})
		gone := open(t, Config{Listen: loopback("127.0.0.1")})
		closed := gone.LocalAddr() // answers with an ICMP error once it is closed
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		const rounds, each = 5, 4
		var want []string
		var refused uint64
		for range rounds {
			for i := range each {
				send(s, []byte("lost"), Path{Remote: closed})
				send(s, pattern(i, 100), Path{Remote: r.LocalAddr()})
				want = append(want, string(pattern(i, 100)))
				send(s, []byte("other family"), Path{Remote: netip.MustParseAddrPort("[2001:db8::1]:9")})
				send(s, []byte("nowhere"), Path{})
				send(s, pattern(i, 65520), Path{Remote: r.LocalAddr()}) // EMSGSIZE over IPv4
				refused += 3
			}
			s.Flush()
		}
		if diff := cmp.Diff(want, data(receive(t, r, rounds*each, 64))); diff != "" {
			t.Error(diff)
		}
		st := s.Stats()
		// Some systems hand the ICMP error of one datagram to the next: at least the sure ones.
		if st.SendErrors < refused || st.SentDatagrams+st.SendErrors != rounds*each*5 {
			t.Errorf("%d sure errors; %+v", refused, st)
		}
		// And the sender itself still receives.
		send(r, []byte("hello"), Path{Remote: s.LocalAddr()})
		r.Flush()
		if diff := cmp.Diff([]string{"hello"}, data(receive(t, s, 1, 8))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWake(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})

		for range 3 { // many are one
			s.Wake()
		}
		if s.Wait(-1) {
			t.Error("ready after a wake-up alone")
		}
		if s.Wait(5*time.Millisecond) || s.Wait(0) {
			t.Error("ready after a time-out")
		}

		// From another goroutine, at any moment of the sleep; none is lost.
		const n = 2000
		turn := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for range n {
				s.Wake()
				<-turn
			}
		})
		for i := range n {
			if s.Wait(patience) {
				t.Fatalf("round %d: ready", i)
			}
			turn <- struct{}{}
		}
		wg.Wait()

		// A wake-up does not hide a datagram, nor the other way round.
		send(s, []byte("x"), Path{Remote: s.LocalAddr()})
		s.Flush()
		s.Wake()
		for dst := make([]Datagram, 4); s.Receive(dst) == 0; {
			s.Wait(patience)
		}
		s.Wake()
		if s.Wait(-1) {
			t.Error("ready with nothing there")
		}
	})
}

func TestSharedWithOtherGoroutines(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				last := s.Stats()
				for {
					select {
					case <-stop:
						return
					default:
					}
					s.Wake()
					_, _ = s.Features(), s.LocalAddr()
					now := s.Stats()
					if now.SentDatagrams < last.SentDatagrams || now.ReceivedDatagrams < last.ReceivedDatagrams {
						t.Error("a counter ran backwards")
						return
					}
					last = now
				}
			})
		}
		dst := make([]Datagram, 16)
		for got := 0; got < 500; {
			for i := range 8 {
				send(s, pattern(i, 200), Path{Remote: s.LocalAddr(), Local: s.LocalAddr().Addr()})
			}
			s.Flush()
			s.Wait(patience)
			got += s.Receive(dst)
		}
		close(stop)
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s.Wake() // harmless after the end
		if err := s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestListenErrors(t *testing.T) {
	both(t, func(t *testing.T, open func(testing.TB, Config) socket) {
		s := open(t, Config{Listen: loopback("127.0.0.1")})
		cfg := Config{Listen: s.LocalAddr()}
		for name, f := range map[string]func() error{
			"native":   func() error { _, err := Listen(cfg); return err },
			"portable": func() error { _, err := listenPortable(cfg); return err },
		} {
			err := f()
			var le *listenError
			if !errors.As(err, &le) || le.Unwrap() == nil {
				t.Errorf("%s: error %v", name, err)
				continue
			}
			if m := err.Error(); !strings.HasPrefix(m, "udp: ") || !strings.Contains(m, cfg.Listen.String()) {
				t.Errorf("%s: message %q", name, m)
			}
		}
	})
}

func TestFamilyNames(t *testing.T) {
	got := []string{IPv4.String(), IPv6.String(), DualStack.String(), Family(0).String()}
	if want := []string{"ipv4", "ipv6", "dual-stack", "unknown"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDataMayBeModified(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	for i := range 3 {
		send(s, pattern(i, 500), Path{Remote: s.LocalAddr()})
	}
	s.Flush()
	dst := make([]Datagram, 8)
	var n int
	for n < 3 {
		s.Wait(patience)
		for _, d := range dst[:s.Receive(dst)] {
			if !bytes.Equal(d.Data, pattern(n, 500)) {
				t.Errorf("datagram %d damaged", n)
			}
			if cap(d.Data) != len(d.Data) {
				t.Errorf("an append to datagram %d reaches the next", n)
			}
			clear(d.Data)
			n++
		}
	}
}
