package udp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// listenIPv4Wildcard is what Listen falls back to on a host without IPv6.
func listenIPv4Wildcard(t *testing.T) *Socket {
	t.Helper()
	s := newSocket(1)
	t.Cleanup(func() { _ = s.Close() })
	s.features.Family = IPv4
	var err error
	if s.fd, err = s.bindTo(Config{}, alone, unix.AF_INET, netip.IPv4Unspecified()); err != nil {
		t.Fatal(err)
	}
	if err := s.setUp(Config{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswersFromTheAddressAsked(t *testing.T) {
	run := func(name string, open func(t *testing.T) *Socket, asked ...string) {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			for _, host := range asked {
				// A connected socket takes an answer from nowhere else.
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(
					netip.AddrPortFrom(netip.MustParseAddr(host), s.LocalAddr().Port())))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Write([]byte("question")); err != nil {
					t.Fatal(err)
				}
				got := receive(t, s, 1, 4)[0]
				if got.Path.Local != netip.MustParseAddr(host) {
					t.Fatalf("asked %s, path says %v", host, got.Path.Local)
				}
				// Alone, and as a run.
				for range 4 {
					send(s, []byte("answer"), got.Path)
				}
				s.Flush()
				if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 100)
				for range 4 {
					n, err := c.Read(b)
					if err != nil || string(b[:n]) != "answer" {
						t.Fatalf("asked %s: %q, %v", host, b[:n], err)
					}
				}
			}
			// The address is really what decides: one that is not ours is refused.
			for _, host := range asked {
				local := netip.MustParseAddr("198.51.100.1")
				if netip.MustParseAddr(host).Is6() {
					local = netip.MustParseAddr("2001:db8::1")
				}
				before := s.Stats().SendErrors
				send(s, []byte("x"), Path{Remote: netip.AddrPortFrom(netip.MustParseAddr(host), 9), Local: local})
				s.Flush()
				if s.Stats().SendErrors != before+1 {
					t.Errorf("sent from %v, which is not an address of this host", local)
				}
			}
		})
	}
	run("AF_INET", listenIPv4Wildcard, "127.0.0.1", "127.0.0.2", "127.1.2.3")
	dual := func(t *testing.T) *Socket {
		needIPv6(t)
		return listen(t, Config{})
	}
	run("AF_INET6 by v4", dual, "127.0.0.1", "127.0.0.2", "127.1.2.3")
	run("AF_INET6 by v6", dual, "::1")
	run("AF_INET6 by both", dual, "127.0.0.2", "::1", "127.0.0.1")
}

// sizes are the datagrams of one flush, to receiver 0 or 1.
type out struct{ to, size int }

func repeat(to, size, n int) []out {
	var o []out
	for range n {
		o = append(o, out{to, size})
	}
	return o
}

func join(parts ...[]out) []out {
	var o []out
	for _, p := range parts {
		o = append(o, p...)
	}
	return o
}

func TestRuns(t *testing.T) {
	cases := []struct {
		name string
		out  []out
		runs int // messages handed to the kernel
		in   int // datagrams in runs of two or more
	}{
		{"one", repeat(0, 1200, 1), 1, 0},
		{"equal", repeat(0, 1200, 5), 1, 5},
		{"short tail", join(repeat(0, 1200, 4), repeat(0, 700, 1)), 1, 5},
		{"tail ends the run", join(repeat(0, 1200, 2), repeat(0, 700, 3)), 2, 5},
		{"tail, then a longer one", join(repeat(0, 1200, 2), repeat(0, 700, 1), repeat(0, 1200, 2)), 2, 5},
		{"growing", []out{{0, 100}, {0, 101}, {0, 102}}, 3, 0},
		{"path changes", join(repeat(0, 500, 3), repeat(1, 500, 3), repeat(0, 500, 2)), 3, 8},
		{"paths alternate", []out{{0, 500}, {1, 500}, {0, 500}, {1, 500}}, 4, 0},
		{"more than 64", repeat(0, 100, 150), 3, 150},
		{"more than 65000 bytes", repeat(0, 1400, 60), 2, 60},
		{"nearly 64 KiB each", repeat(0, 40000, 3), 3, 0},
		{"more than an arena", repeat(0, 1200, 400), 8, 400},
		{"more runs than a batch", func() []out {
			var o []out
			for i := range 300 {
				o = append(o, repeat(i%2, 100+i, 2)...)
			}
			return o
		}(), 300, 600},
	}
	for _, v := range []struct {
		name, host string
		gro        bool
	}{{"v4", "127.0.0.1", false}, {"v4 GRO", "127.0.0.1", true}, {"v6", "::1", false}, {"v6 GRO", "::1", true}} {
		t.Run(v.name, func(t *testing.T) {
			if v.host == "::1" {
				needIPv6(t)
			}
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					s := listen(t, Config{Listen: netip.AddrPort{}}) // runs carry a local address too
					if !s.Features().GSO {
						t.Skip("no GSO in this kernel")
					}
					var r [2]*Socket
					var want [2][]string
					for i := range r {
						r[i] = listen(t, Config{Listen: loopback(v.host), NoGRO: !v.gro})
					}
					if !v.gro {
						for i := range r {
							// Whatever arrives is to be seen as it is.
							r[i].rx.bufSize = groSize
							r[i].rx.buf = make([]byte, plainMessages*groSize)
							for j := range r[i].rx.iovs {
								r[i].rx.iovs[j].Base = &r[i].rx.buf[j*groSize]
								r[i].rx.iovs[j].SetLen(groSize)
							}
						}
					}
					for i, o := range c.out {
						m := pattern(i, o.size)
						want[o.to] = append(want[o.to], string(m))
						send(s, m, Path{Remote: r[o.to].LocalAddr(), Local: r[o.to].LocalAddr().Addr()})
					}
					s.Flush()
					for i := range r {
						if len(want[i]) == 0 {
							continue
						}
						got := receive(t, r[i], len(want[i]), 7) // less than a run: left-overs
						if diff := cmp.Diff(want[i], data(got)); diff != "" {
							t.Fatalf("receiver %d: %s", i, diff)
						}
						for _, m := range got {
							if m.Path.Remote != netip.AddrPortFrom(r[i].LocalAddr().Addr(), s.LocalAddr().Port()) {
								t.Fatalf("path %+v", m.Path)
							}
						}
						if n := r[i].Receive(make([]Datagram, 1)); n != 0 {
							t.Errorf("receiver %d: %d datagrams too many", i, n)
						}
						if st := r[i].Stats(); v.gro && c.in == len(c.out) && st.GROSegments == 0 {
							t.Errorf("nothing arrived joined: %+v", st)
						}
					}
					st := s.Stats()
					if int(st.SentDatagrams) != len(c.out) || int(st.GSOSegments) != c.in || st.SendErrors+st.GSORefusals != 0 {
						t.Errorf("%+v", st)
					}
					if c.runs <= sendMessages && c.name != "more than an arena" && st.SendCalls != 1 {
						t.Errorf("%d calls for %d runs", st.SendCalls, c.runs)
					}
				})
			}
		})
	}
}

// TestRunsQueued looks at what would be handed over.
func TestRunsQueued(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1"), NoGSO: true})
	p := Path{Remote: s.LocalAddr()}
	for range 3 {
		send(s, pattern(0, 100), p)
	}
	if s.tx.queue != 3 || s.Features().GSO {
		t.Errorf("%d messages without GSO, %+v", s.tx.queue, s.Features())
	}
	s.Flush()
	s.gso.Store(true)
	for range 3 {
		send(s, pattern(0, 100), p)
	}
	send(s, pattern(0, 100), Path{Remote: p.Remote, Local: netip.MustParseAddr("127.0.0.1")})
	s.Reserve(10)
	send(s, pattern(0, 100), Path{Remote: p.Remote, Local: netip.MustParseAddr("127.0.0.1")})
	if s.tx.queue != 2 || s.tx.runs[0].count != 3 || s.tx.runs[1].count != 2 {
		t.Errorf("queued %+v", s.tx.runs[:s.tx.queue])
	}
	s.Flush()
	if st := s.Stats(); st.SentDatagrams != 8 {
		t.Errorf("%+v", st)
	}
}

func TestRunRefusedByPath(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	if !s.Features().GSO {
		t.Skip("no GSO in this kernel")
	}
	a := listen(t, Config{Listen: loopback("127.0.0.1")})
	b := listen(t, Config{Listen: loopback("127.0.0.2")})
	batch := func() {
		for i := range 5 {
			send(s, pattern(i, 300+i/4), Path{Remote: a.LocalAddr()})
		}
		s.Flush()
	}
	want := func() (w []string) {
		for i := range 5 {
			w = append(w, string(pattern(i, 300+i/4)))
		}
		return w
	}()

	// The kernel refuses to cut datagrams of a socket that has checksums off (EINVAL).
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
		t.Fatal(err)
	}
	batch()
	if diff := cmp.Diff(want, data(receive(t, a, 5, 8))); diff != "" {
		t.Error(diff)
	}
	st := s.Stats()
	if st.GSORefusals != 1 || st.SentDatagrams != 5 || st.SendErrors != 0 || st.GSOSegments != 0 {
		t.Errorf("first: %+v", st)
	}
	batch() // the refusal is remembered
	receive(t, a, 5, 8)
	if st := s.Stats(); st.GSORefusals != 1 || st.SentDatagrams != 10 {
		t.Errorf("second: %+v", st)
	}

	// Another path is not punished, and nothing else is forgotten.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 0); err != nil {
		t.Fatal(err)
	}
	if !s.Features().GSO {
		t.Error("one path has turned GSO off for all")
	}
	for i := range 3 {
		send(s, pattern(i, 300), Path{Remote: b.LocalAddr()})
	}
	s.Flush()
	receive(t, b, 3, 8)
	if st := s.Stats(); st.GSOSegments != 3 {
		t.Errorf("other path: %+v", st)
	}
}

func TestRunRefusedByInterface(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	if !s.Features().GSO {
		t.Skip("no GSO in this kernel")
	}
	r := listen(t, Config{Listen: loopback("127.0.0.1")})
	var want []string
	for i := range 5 {
		m := pattern(i, 300-i/4)
		want = append(want, string(m))
		send(s, m, Path{Remote: r.LocalAddr()})
	}
	// As on a path out without checksum offload, before Linux 6.12.
	if n := s.refused(0, unix.EIO); n != 1 {
		t.Errorf("%d runs done", n)
	}
	s.tx.queue = 0
	s.Flush()
	for i := range 5 {
		m := pattern(i, 200)
		want = append(want, string(m))
		send(s, m, Path{Remote: r.LocalAddr()})
	}
	if s.tx.queue != 5 || s.Features().GSO {
		t.Errorf("still in runs: %d queued, %+v", s.tx.queue, s.Features())
	}
	s.Flush()
	if diff := cmp.Diff(want, data(receive(t, r, 10, 8))); diff != "" {
		t.Error(diff)
	}
	if st := s.Stats(); st.SentDatagrams != 10 || st.GSORefusals != 1 || st.SendErrors != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSendBufferFull(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	for i := range 6 {
		send(s, pattern(i, 100+i/3), Path{Remote: s.LocalAddr()}) // two runs
	}
	queued := s.tx.queue
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOBUFS} {
		before := s.Stats().SendDrops
		if n := s.refused(0, errno); n != queued {
			t.Errorf("%v: %d runs done of %d", errno, n, queued)
		}
		if d := s.Stats().SendDrops - before; d != 6 {
			t.Errorf("%v: %d datagrams dropped", errno, d)
		}
	}
}

func TestLeftOversKeepTheirData(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	if f := s.Features(); !f.GSO || !f.GRO {
		t.Skipf("no segmentation offload in this kernel: %+v", f)
	}
	for i := range 10 {
		send(s, pattern(i, 400), Path{Remote: s.LocalAddr()})
	}
	s.Flush()
	if !s.Wait(patience) {
		t.Fatal("nothing came")
	}
	calls := s.Stats().ReceiveCalls
	dst := make([]Datagram, 4)
	var total int
	for _, want := range []int{4, 4, 2, 0} {
		if want > 0 && !s.Wait(0) {
			t.Fatal("left-overs are not seen as ready")
		}
		n := s.Receive(dst)
		if n != want {
			t.Fatalf("%d datagrams, want %d", n, want)
		}
		for _, d := range dst[:n] {
			if diff := cmp.Diff(string(pattern(total, 400)), string(d.Data)); diff != "" {
				t.Fatal(diff)
			}
			total++
		}
	}
	if st := s.Stats(); st.ReceiveCalls != calls+2 || st.GROSegments != 10 {
		t.Errorf("%+v", st)
	}
}

func TestReceiveBufferOverflow(t *testing.T) {
	r := listen(t, Config{Listen: loopback("127.0.0.1"), ReceiveBuffer: 1, NoGRO: true})
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	for i := range 100 {
		send(s, pattern(i, 1000-i), Path{Remote: r.LocalAddr()})
	}
	s.Flush()
	dst := make([]Datagram, 64)
	for r.Receive(dst) > 0 {
	}
	send(s, []byte("the one that brings the news"), Path{Remote: r.LocalAddr()})
	s.Flush()
	receive(t, r, 1, 8)
	st := r.Stats()
	if st.ReceiveDrops == 0 || st.ReceiveDrops+st.ReceivedDatagrams != 101 {
		t.Errorf("%+v", st)
	}
}

func TestTruncated(t *testing.T) {
	r := listen(t, Config{Listen: loopback("127.0.0.1"), NoGRO: true})
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	for _, n := range []int{100, plainSize + 1, plainSize, 9000, 50} {
		send(s, pattern(n, n), Path{Remote: r.LocalAddr()})
	}
	s.Flush()
	want := []string{string(pattern(100, 100)), string(pattern(plainSize, plainSize)), string(pattern(50, 50))}
	if diff := cmp.Diff(want, data(receive(t, r, 3, 8))); diff != "" {
		t.Error(diff)
	}
	if st := r.Stats(); st.Truncated != 2 || st.ReceivedDatagrams != 3 {
		t.Errorf("%+v", st)
	}
}

func TestBuffers(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1"), ReceiveBuffer: 100_000, SendBuffer: 120_000})
	if f := s.Features(); f.ReceiveBuffer != 100_000 || f.SendBuffer != 120_000 {
		t.Errorf("%+v", f)
	}
	// The default is granted whole, or cut by the system's limit.
	d := listen(t, Config{Listen: loopback("127.0.0.1")}).Features()
	if d.ReceiveBuffer <= 0 || d.ReceiveBuffer > defaultBuffer || d.SendBuffer <= 0 || d.SendBuffer > defaultBuffer {
		t.Errorf("%+v", d)
	}
}

// group opens sockets that share an address.
func group(t *testing.T, cfg Config, n int) []*Socket {
	t.Helper()
	g, err := ListenGroup(cfg, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g {
		t.Cleanup(func() { _ = s.Close() })
		if s.LocalAddr() != g[0].LocalAddr() {
			t.Errorf("%v and %v", g[0].LocalAddr(), s.LocalAddr())
		}
	}
	return g
}

// say sends one datagram.
func say(c *Socket, to netip.AddrPort, what ...byte) {
	copy(c.Reserve(len(what)), what)
	c.Commit(len(what), Path{Remote: to})
	c.Flush()
}

func TestGroup(t *testing.T) {
	g := group(t, Config{Listen: loopback("127.0.0.1")}, 2)
	at := g[0].LocalAddr()
	if _, err := ListenGroup(Config{Listen: at}, 2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second group: %v", err)
	}
	if _, err := Listen(Config{Listen: at}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a socket: %v", err)
	}
	// A port in use for one family is not served on the other alone.
	if _, err := ListenGroup(Config{Listen: netip.AddrPortFrom(netip.Addr{}, at.Port())}, 2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("wildcard: %v", err)
	}
	// Peers are spread over both, and each is kept where it is.
	for range 64 {
		c := listen(t, Config{Listen: loopback("127.0.0.1")})
		for range 2 {
			say(c, at, 1)
		}
	}
	var got [2]map[netip.AddrPort]int
	for i, s := range g {
		got[i] = make(map[netip.AddrPort]int)
		batch := make([]Datagram, 256)
		for s.Wait(0) {
			for _, d := range batch[:s.Receive(batch)] {
				got[i][d.Path.Remote]++
			}
		}
	}
	if len(got[0]) == 0 || len(got[1]) == 0 || len(got[0])+len(got[1]) != 64 {
		t.Errorf("%d peers at one, %d at the other", len(got[0]), len(got[1]))
	}
}

// Feedback waits in its queue, on every kind of address, until it is asked for.
func TestFeedback(t *testing.T) {
	for _, server := range []string{"127.0.0.1", "::1", ""} {
		for _, n := range []int{1, 2} {
			cfg := Config{}
			if server != "" {
				cfg.Listen = loopback(server)
			}
			g := group(t, cfg, n)
			if !g[0].Features().Aside {
				t.Skip("this kernel does not tell feedback apart")
			}
			from := server
			if from == "" {
				from = "::1"
			}
			c := listen(t, Config{Listen: loopback(from)})
			to := netip.AddrPortFrom(netip.MustParseAddr(from), g[0].LocalAddr().Port())
			if _, err := g[0].Steer([]Steered{{Remote: c.LocalAddr(), Index: n - 1}}); err != nil {
				t.Fatal(err)
			}
			s := g[n-1]
			say(c, to, 0x8f, 205, 0, 4, 1)
			if s.Wait(0) {
				t.Errorf("%q: feedback ends a wait", server)
			}
			batch := make([]Datagram, 4)
			if k := s.Receive(batch); k != 0 {
				t.Errorf("%q: %d datagrams among the others", server, k)
			}
			say(c, to, 0x8b, 205, 0, 4, 2)
			say(c, to, 0x90, 96, 3)
			if !s.Wait(patience) {
				t.Errorf("%q: media does not end a wait", server)
			}
			if k := s.Receive(batch); k != 1 || batch[0].Data[2] != 3 {
				t.Errorf("%q: %d datagrams: %v", server, k, batch[:k])
			}
			k := 0
			for range 2 { // two of one size may come as one run, or not
				k += s.ReceiveAside(batch[k:])
			}
			if k != 2 || batch[k-1].Data[4] != 2 || batch[1].Path.Remote != c.LocalAddr() || batch[1].Path.Local != to.Addr() {
				t.Errorf("%q: %d datagrams of feedback: %v", server, k, batch[:k])
			}
		}
	}
}

// The kernel does as the program of Steer says, for peers of both families.
func TestSteer(t *testing.T) {
	for _, server := range []string{"127.0.0.1", "::1", ""} {
		cfg := Config{}
		if server != "" {
			cfg.Listen = loopback(server)
		}
		group := group(t, cfg, 3)
		var peers []*Socket
		var rows []Steered
		for i := range 30 {
			from := server
			if server == "" {
				from = []string{"127.0.0.1", "::1"}[i%2]
			}
			c := listen(t, Config{Listen: loopback(from)})
			peers = append(peers, c)
			rows = append(rows, Steered{c.LocalAddr(), i % 3})
		}
		for range 2 { // again, in place of the first
			if n, err := group[1].Steer(rows); err != nil || n != len(rows) {
				t.Fatalf("%d, %v", n, err)
			}
		}
		for i, c := range peers {
			to := server
			if to == "" {
				to = []string{"127.0.0.1", "::1"}[i%2]
			}
			say(c, netip.AddrPortFrom(netip.MustParseAddr(to), group[0].LocalAddr().Port()), byte(i))
		}
		for i, s := range group {
			batch := make([]Datagram, 64)
			n := 0
			for s.Wait(0) {
				for _, d := range batch[:s.Receive(batch)] {
					if n++; int(d.Data[0])%3 != i {
						t.Errorf("%q: peer %d at socket %d", server, d.Data[0], i)
					}
				}
			}
			if n != 10 {
				t.Errorf("%q: %d datagrams at socket %d", server, n, i)
			}
		}
	}
}

func TestWaitSurvivesSignals(t *testing.T) {
	s := listen(t, Config{Listen: loopback("127.0.0.1")})
	tid := make(chan int)
	var wg sync.WaitGroup
	var took time.Duration
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		start := time.Now()
		if s.Wait(200 * time.Millisecond) {
			t.Error("ready")
		}
		took = time.Since(start)
	})
	thread := <-tid
	for {
		select {
		case <-done:
			wg.Wait()
			if took < 200*time.Millisecond {
				t.Errorf("woke after %v", took)
			}
			return
		default:
		}
		// The signal that the Go runtime preempts with.
		if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

func TestZones(t *testing.T) {
	s := &Socket{inet6: true}
	ap := netip.MustParseAddrPort("[fe80::1%7]:5000")
	var sa sockaddr
	if n := s.putSockaddr(&sa, ap); n != unix.SizeofSockaddrInet6 || sa.Scope_id != 7 {
		t.Errorf("%d bytes, scope %d", n, sa.Scope_id)
	}
	if got := s.remote(&sa); got != ap {
		t.Errorf("back as %v", got)
	}
	s.putSockaddr(&sa, netip.MustParseAddrPort("[fe80::1%eth7]:5000")) // never from Receive
	if sa.Scope_id != 0 {
		t.Errorf("scope %d of a name", sa.Scope_id)
	}
	if n, err := zoneIndex("3"); n != 3 || err != nil {
		t.Errorf("zone 3: %d, %v", n, err)
	}
	if n, err := zoneIndex("lo"); n == 0 || err != nil {
		t.Errorf("zone lo: %d, %v", n, err)
	}
	if _, err := Listen(Config{Listen: netip.MustParseAddrPort("[fe80::1%no-such-link]:0")}); err == nil {
		t.Error("bound to a link that is not there")
	}
}

func TestNoAllocation(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{{"offload", Config{}}, {"plain", Config{NoGSO: true, NoGRO: true}}} {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, c.cfg)
			to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.LocalAddr().Port())
			dst := make([]Datagram, 64)
			const hops = 16
			for i := range hops {
				send(s, pattern(i, 1000), Path{Remote: to})
			}
			s.Flush()
			// Every datagram goes round for ever: received, copied, answered.
			turn := func() {
				s.Wake()
				s.Wait(time.Second)
				for n := 0; n < hops; {
					s.Wait(patience)
					got := dst[:s.Receive(dst)]
					for i := range got {
						b := s.Reserve(len(got[i].Data))
						s.Commit(copy(b, got[i].Data), got[i].Path)
					}
					n += len(got)
				}
				s.Flush()
				_ = s.Stats()
			}
			turn()
			if n := testing.AllocsPerRun(200, turn); n != 0 {
				t.Errorf("%v allocations in %d datagrams", n, hops)
			}
			if st := s.Stats(); st.SendErrors+st.SendDrops+st.ReceiveDrops != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func FuzzControl(f *testing.F) {
	add := func(level, typ int32, data []byte) {
		b := make([]byte, unix.CmsgSpace(len(data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		h.Level, h.Type = level, typ
		h.SetLen(unix.CmsgLen(len(data)))
		copy(b[unix.CmsgLen(0):], data)
		f.Add(b)
	}
	add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, make([]byte, unix.SizeofInet6Pktinfo))
	add(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, unix.SizeofInet4Pktinfo))
	add(unix.SOL_UDP, unix.UDP_GRO, []byte{0xb0, 4, 0, 0})
	add(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, []byte{1, 0, 0, 0})
	f.Add([]byte{})
	s := &Socket{inet6: true}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c control
		mem := unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c))
		before := s.Stats().ReceiveDrops
		s.rx.path, s.rx.seg = Path{}, 0
		s.parseControl(&s.rx, mem[:copy(mem, b)])
		if s.rx.path.Local.Is4In6() {
			t.Errorf("mapped address %v", s.rx.path.Local)
		}
		if s.Stats().ReceiveDrops < before {
			t.Error("drops ran backwards")
		}
	})
}
