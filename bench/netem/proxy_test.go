package netem_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/bench/netem"
)

const patience = 10 * time.Second

// listen opens a socket on loopback.
func listen(t *testing.T, host string) *net.UDPConn {
	t.Helper()
	s, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func address(s *net.UDPConn) netip.AddrPort { return s.LocalAddr().(*net.UDPAddr).AddrPort() }

// echo is a server that answers every datagram with itself, and with the address that it saw.
func echo(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	s := listen(t, host)
	done := make(chan struct{})
	t.Cleanup(func() { _ = s.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, from, err := s.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = s.WriteToUDPAddrPort(append(binary.BigEndian.AppendUint16(nil, from.Port()), buf[:n]...), from)
		}
	}()
	return address(s)
}

func start(t *testing.T, cfg netem.Config) *netem.Proxy {
	t.Helper()
	p, err := netem.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// write sends a numbered datagram.
func write(t *testing.T, c net.PacketConn, to netip.AddrPort, n int) {
	t.Helper()
	if _, err := c.WriteTo(binary.BigEndian.AppendUint32(nil, uint32(n)), net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// read returns the number of the next datagram, the port under which the server saw it, and from where it came. ok is false when
// none comes within the time.
func read(t *testing.T, c net.PacketConn, within time.Duration) (n int, port uint16, from netip.AddrPort, ok bool) {
	t.Helper()
	buf := make([]byte, 2000)
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	size, a, err := c.ReadFrom(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, 0, netip.AddrPort{}, false
	}
	if err != nil || size != 6 {
		t.Fatal(size, err)
	}
	return int(binary.BigEndian.Uint32(buf[2:])), binary.BigEndian.Uint16(buf), a.(*net.UDPAddr).AddrPort(), true
}

func TestProxyOfAllFamilies(t *testing.T) {
	for _, tc := range []struct{ client, server string }{{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"127.0.0.1", "::1"}, {"::1", "127.0.0.1"}} {
		t.Run(tc.client+" to "+tc.server, func(t *testing.T) {
			p := start(t, netem.Config{Listen: netip.AddrPortFrom(netip.MustParseAddr(tc.client), 0), To: echo(t, tc.server)})
			ports := map[uint16]bool{}
			for range 2 {
				c := listen(t, tc.client)
				for n := range 3 {
					write(t, c, p.Addr(), n)
					got, port, from, ok := read(t, c, patience)
					if !ok || got != n || from != p.Addr() {
						t.Fatalf("%d from %v (%v), want %d from %v", got, from, ok, n, p.Addr())
					}
					ports[port] = true
				}
			}
			if len(ports) != 2 {
				t.Errorf("two clients came from %d sockets", len(ports))
			}
			if s := p.Stats(); s.Clients != 2 || s.Failed != 0 || s.Up.Delivered != 6 || s.Down.Delivered != 6 || s.Up.Bytes != 24 || s.Down.Bytes != 36 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// What arrives is what the model of the line says for this seed, in both directions.
func TestProxyFollowsTheModel(t *testing.T) {
	im := netem.Impairment{Loss: 0.2, Burst: netem.Bursts(0.1, 3)}
	run := func(up, down netem.Impairment) (out []int) {
		p := start(t, netem.Config{To: echo(t, "127.0.0.1"), Seed: 11, Up: up, Down: down})
		c := listen(t, "127.0.0.1")
		for n := range 200 { // one at a time: a socket may not be asked to hold them all
			write(t, c, p.Addr(), n)
			for s := p.Stats(); ; s = p.Stats() {
				gone := s.Up.Lost + s.Up.LostBurst + s.Down.Lost + s.Down.LostBurst
				if s.Down.Delivered+gone == uint64(n+1) {
					break
				}
			}
		}
		for len(out) < int(p.Stats().Down.Delivered) {
			n, _, _, ok := read(t, c, patience)
			if !ok {
				t.Fatal("what was delivered does not come")
			}
			out = append(out, n)
		}
		return out
	}
	up, down := run(im, netem.Impairment{}), run(netem.Impairment{}, im)
	for name, got := range map[string][]int{"up": up, "down": down} {
		if len(got) == 200 || len(got) < 100 {
			t.Errorf("%s: %d of 200 arrive", name, len(got))
		}
	}
	if !slices.Equal(up, run(im, netem.Impairment{})) {
		t.Error("two runs with one seed differ")
	}
	if slices.Equal(up, down) {
		t.Error("both directions lose the same")
	}
}

func TestProxyDelays(t *testing.T) {
	p := start(t, netem.Config{To: echo(t, "127.0.0.1"), Up: netem.Impairment{Delay: 30 * ms}, Down: netem.Impairment{Delay: 50 * ms}})
	c := listen(t, "127.0.0.1")
	began := time.Now()
	write(t, c, p.Addr(), 1)
	if _, _, _, ok := read(t, c, patience); !ok {
		t.Fatal("nothing comes back")
	}
	if took := time.Since(began); took < 80*ms {
		t.Errorf("there and back in %v", took)
	}
}

func TestProxySet(t *testing.T) {
	p := start(t, netem.Config{To: echo(t, "127.0.0.1")})
	c := listen(t, "127.0.0.1")
	set := func(d netem.Direction, im netem.Impairment) {
		t.Helper()
		if err := p.Set(d, im); err != nil {
			t.Fatal(err)
		}
	}
	set(netem.Down, netem.Impairment{Loss: 1})
	write(t, c, p.Addr(), 1)
	for p.Stats().Down.Lost == 0 { // until it has been there
	}
	set(netem.Down, netem.Impairment{})
	set(netem.Up, netem.Impairment{Duplicate: 1})
	write(t, c, p.Addr(), 2)
	for range 2 {
		if n, _, _, ok := read(t, c, patience); !ok || n != 2 {
			t.Fatalf("%d (%v), want 2 twice", n, ok)
		}
	}
	if err := p.Set(netem.Up, netem.Impairment{Loss: 2}); err == nil {
		t.Error("a loss of 200 % is taken")
	}
}

func TestProxyPlays(t *testing.T) {
	p := start(t, netem.Config{To: echo(t, "127.0.0.1")})
	c := listen(t, "127.0.0.1")
	steps, err := netem.ParseScript("0s up loss=100%; 100ms clear")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := p.Play(steps); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		write(t, c, p.Addr(), n)
		if _, _, _, ok := read(t, c, 5*ms); ok {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the second step does not come")
		}
	}
	if took := time.Since(began); took < 100*ms {
		t.Errorf("the second step comes after %v", took)
	}
	if s := p.Stats(); s.Up.Lost == 0 {
		t.Error("the first step does nothing")
	}
	if err := p.Play([]netem.Step{{At: 2}, {At: 1}}); err == nil {
		t.Error("a timeline out of order is taken")
	}
}

// A server that is away, and then there, costs what was sent meanwhile and nothing else.
func TestProxyOutlivesTheServer(t *testing.T) {
	s := listen(t, "127.0.0.1")
	at := address(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, netem.Config{To: at})
	c := listen(t, "127.0.0.1")
	for n := range 5 {
		write(t, c, p.Addr(), n)
	}
	for r := p.Stats(); r.Up.Delivered < 5; r = p.Stats() {
	}
	back, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Skipf("somebody else took the port: %v", err)
	}
	defer func() { _ = back.Close() }()
	buf := make([]byte, 10)
	for range 20 { // the first may find the refusal of one before it
		write(t, c, p.Addr(), 7)
		if err := back.SetReadDeadline(time.Now().Add(500 * ms)); err != nil {
			t.Fatal(err)
		}
		if n, err := back.Read(buf); err == nil && n == 4 && binary.BigEndian.Uint32(buf) == 7 {
			return
		}
	}
	t.Error("nothing passes after the server is back")
}

func TestProxyBoundsClients(t *testing.T) {
	p := start(t, netem.Config{To: echo(t, "127.0.0.1"), MaxClients: 2})
	for i := range 3 {
		c := listen(t, "127.0.0.1")
		write(t, c, p.Addr(), i)
		if i < 2 {
			if _, _, _, ok := read(t, c, patience); !ok {
				t.Fatalf("client %d is not served", i)
			}
		}
	}
	for r := p.Stats(); r.Failed == 0; r = p.Stats() {
	}
	if r := p.Stats(); r.Clients != 2 || r.Up.Packets != 2 {
		t.Errorf("%d clients, %d packets", r.Clients, r.Up.Packets)
	}
}

func TestProxyRefuses(t *testing.T) {
	to := netip.MustParseAddrPort("127.0.0.1:9")
	for name, cfg := range map[string]netem.Config{
		"no server":   {},
		"no port":     {To: netip.MustParseAddrPort("127.0.0.1:0")},
		"interval":    {To: to, Interval: 1},
		"clients":     {To: to, MaxClients: -1},
		"impairment":  {To: to, Down: netem.Impairment{Loss: 3}},
		"not our own": {To: to, Listen: netip.MustParseAddrPort("192.0.2.1:0")},
	} {
		if p, err := netem.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
			_ = p.Close()
		}
	}
}

func TestProxyCloses(t *testing.T) {
	p := start(t, netem.Config{To: echo(t, "127.0.0.1"), Down: netem.Impairment{Delay: time.Minute}})
	c := listen(t, "127.0.0.1")
	write(t, c, p.Addr(), 1)
	for p.Stats().Down.Packets == 0 {
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Set(netem.Up, netem.Impairment{}); err == nil {
		t.Error("a closed proxy can be set")
	}
	if s := p.Stats(); s.Elapsed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestThrough(t *testing.T) {
	server := echo(t, "127.0.0.1")
	p := start(t, netem.Config{To: server, Up: netem.Impairment{Loss: 0.5}, Seed: 3})
	other := listen(t, "127.0.0.1")
	own := listen(t, "127.0.0.1")
	c := netem.Through(own, p.Addr(), server)
	write(t, other, address(own), 99) // not from the proxy: dropped
	write(t, c, address(other), 98)   // not to the server: dropped
	for n := 0; p.Stats().Up.Delivered == 0; n++ {
		write(t, c, server, n)
	}
	if n, _, from, ok := read(t, c, patience); !ok || from != server || n > 50 {
		t.Errorf("%d from %v (%v), want one from %v", n, from, ok, server)
	}
	write(t, own, address(other), 97)
	buf := make([]byte, 10)
	if err := other.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := other.Read(buf); err != nil || n != 4 || binary.BigEndian.Uint32(buf) != 97 {
		t.Errorf("the first to come past the proxy: %x, %v", buf[:n], err)
	}
}
