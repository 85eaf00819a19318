package turn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/netlab"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
	"github.com/sotto-edge/sotto/turn/relay"
)

// In these tests time is simulated, and the engines are real: what an engine relays goes through sockets and the kernel, what is said
// to the server, and what it relays by itself, through memory.

// ports is a socket in memory, as the server has them.
type ports struct {
	at   netip.AddrPort
	in   chan parcel
	done chan struct{}
	once sync.Once

	mu  sync.Mutex
	out []parcel
}

type parcel struct {
	b    []byte
	peer netip.AddrPort
}

func newPorts(at netip.AddrPort) *ports {
	return &ports{at: at, in: make(chan parcel, 16), done: make(chan struct{})}
}

func (p *ports) receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-p.in:
		return copy(b, d.b), d.peer, nil
	case <-p.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (p *ports) send(b []byte, to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, parcel{bytes.Clone(b), to})
}

// sent waits until the server has nothing more to do, and returns what it has sent since the last time.
func (p *ports) sent() []parcel {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.out
	p.out = nil
	return out
}

func (p *ports) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// memorySocket is one that clients send to.
type memorySocket struct{ *ports }

func (s memorySocket) Read(b []byte) (int, udp.Path, error) {
	n, from, err := s.receive(b)
	return n, udp.Path{Remote: from, Local: s.at.Addr()}, err
}

func (s memorySocket) Write(b []byte, to udp.Path) error {
	s.send(b, to.Remote)
	return nil
}

func (s memorySocket) LocalAddr() netip.AddrPort { return s.at }

// memoryPeers is a relayed address.
type memoryPeers struct{ *ports }

func (s memoryPeers) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.receive(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

func (s memoryPeers) WriteTo(b []byte, to net.Addr) (int, error) {
	s.send(b, to.(*net.UDPAddr).AddrPort())
	return len(b), nil
}

func (s memoryPeers) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(s.at) }
func (s memoryPeers) SetDeadline(time.Time) error      { return nil }
func (s memoryPeers) SetReadDeadline(time.Time) error  { return nil }
func (s memoryPeers) SetWriteDeadline(time.Time) error { return nil }

// memoryConn is a client's end of a memorySocket.
type memoryConn struct {
	net.Conn
	to   memorySocket
	from netip.AddrPort
}

func (c memoryConn) Write(b []byte) (int, error) {
	c.to.in <- parcel{bytes.Clone(b), c.from}
	return len(b), nil
}

func (c memoryConn) Read(b []byte) (int, error) {
	for _, d := range c.to.sent() {
		return copy(b, d.b), nil
	}
	return 0, os.ErrDeadlineExceeded
}

func (c memoryConn) SetReadDeadline(time.Time) error { return nil }

// wired is an engine between two sockets of the system's.
type wired struct {
	engine       turn.Offloader
	flow         turn.Flow // but for the channel
	client, peer int       // sockets
	left         func() uint64
}

// carry sends, and returns what arrives at the other end; nil: the engine has left it to the server.
func (w *wired) carry(t *testing.T, up bool, b []byte) []byte {
	t.Helper()
	from, to := w.client, w.peer
	if !up {
		from, to = to, from
	}
	before := w.left()
	if _, err := unix.Write(from, b); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 2048)
	for range 5000 {
		polled := []unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}, {Fd: int32(from)}}
		if _, err := unix.Poll(polled, 2); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		if polled[0].Revents&unix.POLLIN != 0 {
			n, err := unix.Read(to, in)
			if err != nil {
				t.Fatal(err)
			}
			return in[:n]
		}
		if refused, err := unix.GetsockoptInt(from, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || refused == int(unix.ECONNREFUSED) {
			return nil // the server's machine has got it, and nobody listens there
		}
		if w.left() != before {
			return nil
		}
	}
	t.Fatal("a packet is lost")
	return nil
}

func socketBetween(t *testing.T, from, to netip.AddrPort) int {
	t.Helper()
	family := unix.AF_INET
	name := func(a netip.AddrPort) unix.Sockaddr {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	if from.Addr().Is6() {
		family = unix.AF_INET6
		name = func(a netip.AddrPort) unix.Sockaddr {
			return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
		}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, name(from)), unix.Connect(fd, name(to))); err != nil {
		t.Fatal(err)
	}
	return fd
}

// kernelWire has the relay of the kernel between two machines, and no socket between them.
func kernelWire(t *testing.T, six bool) *wired {
	t.Helper()
	clients, server, peers := threeMachines(t)
	a := [4]string{"198.18.1.2:40000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:4000"}
	if six {
		a = [4]string{"[2001:db8:1::2]:40000", "[2001:db8:1::1]:3478", "[2001:db8:2::1]:50000", "[2001:db8:2::2]:4000"}
	}
	w := &wired{left: func() uint64 { return 0 }, flow: turn.Flow{
		Client: netip.MustParseAddrPort(a[0]), Server: netip.MustParseAddrPort(a[1]),
		Relayed: netip.MustParseAddrPort(a[2]), Peer: netip.MustParseAddrPort(a[3]),
	}}
	w.engine = kernelIn(t, server).TCX
	server.Do(func() {
		// What is left to the server is known by refusals, so each must be said.
		if err := os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0); err != nil {
			t.Error(err)
		}
	})
	clients.Do(func() { w.client = socketBetween(t, w.flow.Client, w.flow.Server) })
	peers.Do(func() { w.peer = socketBetween(t, w.flow.Peer, w.flow.Relayed) })
	return w
}

// batchWire has the engine of user space, on loopback.
func batchWire(t *testing.T, six bool) *wired {
	t.Helper()
	e, err := relay.NewBatch(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	at := loopback4
	if six {
		at = loopback6
	}
	port, err := e.Listen(netip.AddrPortFrom(at, 0))
	if err != nil {
		t.Fatal(err)
	}
	relayed, err := e.ListenPeers(netip.AddrPortFrom(at, 0))
	if err != nil {
		t.Fatal(err)
	}
	w := &wired{engine: e, left: func() uint64 { s := e.Stats(); return s.Left + s.Overflowed }}
	free := func() netip.AddrPort {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return netip.MustParseAddrPort(c.LocalAddr().String())
	}
	w.flow = turn.Flow{Client: free(), Server: port.LocalAddr(), Relayed: netip.MustParseAddrPort(relayed.LocalAddr().String()), Peer: free()}
	w.client, w.peer = socketBetween(t, w.flow.Client, w.flow.Server), socketBetween(t, w.flow.Peer, w.flow.Relayed)
	return w
}

func threeMachines(t *testing.T) (clients, server, peers *netlab.Namespace) {
	t.Helper()
	clients, server, peers = netlab.New(t), netlab.New(t), netlab.New(t)
	netlab.Join(netlab.End{Namespace: server, Device: "s0", Addresses: []string{"198.18.1.1/24", "2001:db8:1::1/64"}},
		netlab.End{Namespace: clients, Device: "c0", Addresses: []string{"198.18.1.2/24", "2001:db8:1::2/64"}})
	netlab.Join(netlab.End{Namespace: server, Device: "s1", Addresses: []string{"198.18.2.1/24", "2001:db8:2::1/64"}},
		netlab.End{Namespace: peers, Device: "p0", Addresses: []string{"198.18.2.2/24", "2001:db8:2::2/64"}})
	return clients, server, peers
}

// kernelIn is an engine in a namespace, attached to its interfaces.
func kernelIn(t *testing.T, server *netlab.Namespace) inside {
	t.Helper()
	var e *relay.TCX
	var err error
	server.Do(func() {
		if e, err = relay.NewTCX(16); err != nil {
			return
		}
		for _, dev := range []string{"s0", "s1"} {
			i, err2 := net.InterfaceByName(dev)
			if err2 == nil {
				err2 = e.Attach(i.Index)
			}
			err = errors.Join(err, err2)
		}
	})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("engine tcx: needs CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return inside{e, server}
}

// life is an allocation with a channel, of a server whose time is simulated.
type life struct {
	t       *testing.T
	wire    *wired
	server  *turn.Server
	client  *client
	near    memorySocket
	far     memoryPeers
	flow    turn.Flow
	carried uint64 // packets that the engine has relayed, each way
}

const lifeChannel = 0x4007

func live(t *testing.T, w *wired, edit func(*turn.Config)) *life {
	t.Helper()
	l := &life{t: t, wire: w, near: memorySocket{newPorts(w.flow.Server)}, flow: w.flow}
	l.flow.Channel = lifeChannel
	cfg := turn.Config{
		Auth: authority(t), Peers: policy.NewPeers(append(slices.Clone(loopback), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")), nil),
		Sockets: []turn.Socket{l.near}, FirstPort: w.flow.Relayed.Port(), LastPort: w.flow.Relayed.Port(),
		ListenPeers: func(at netip.AddrPort) (net.PacketConn, error) {
			l.far = memoryPeers{newPorts(at)}
			return l.far, nil
		},
		Offloader: w.engine, Limits: turn.Limits{SourceRequests: 10000, Requests: 100000},
	}
	cfg.Relay4 = w.flow.Relayed.Addr()
	family := []stun.Setter{}
	if cfg.Relay4.Is6() {
		cfg.Relay4, cfg.Relay6 = netip.Addr{}, cfg.Relay4
		family = append(family, attr(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if l.server, err = turn.New(cfg); err != nil {
		t.Fatal(err)
	}
	l.client = &client{
		t: t, conn: memoryConn{to: l.near, from: w.flow.Client}, name: name, key: stun.NewLongTermIntegrity(name, realm, password),
	}
	if at := l.client.allocate(family...); at != w.flow.Relayed {
		t.Fatalf("relayed address %s, want %s", at, w.flow.Relayed)
	}
	l.bind()
	return l
}

func (l *life) ask(m stun.Method, setters ...stun.Setter) {
	l.t.Helper()
	if _, code := l.client.ask(m, setters...); code != 0 {
		l.t.Fatalf("%s: %d", m, code)
	}
}

func (l *life) bind() {
	l.t.Helper()
	l.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, lifeChannel>>8, lifeChannel&0xff, 0, 0), peer(l.flow.Peer))
}
func (l *life) permit() { l.t.Helper(); l.ask(stun.MethodCreatePermission, peer(l.flow.Peer)) }
func (l *life) refresh(seconds uint32) {
	l.t.Helper()
	l.ask(stun.MethodRefresh, attr(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, seconds)...))
}

// is fails unless packets are relayed in both directions by the engine, by the server, or not at all.
func (l *life) is(by string) {
	l.t.Helper()
	payload := []byte("what is said")
	frame := append([]byte{lifeChannel >> 8, lifeChannel & 0xff, 0, byte(len(payload))}, payload...)
	synctest.Wait()
	for _, up := range []bool{true, false} {
		sent, want := payload, frame
		if up {
			sent, want = want, sent
		}
		got := l.wire.carry(l.t, up, sent)
		if engine := by == "engine"; (got != nil) != engine || engine && !bytes.Equal(got, want) {
			l.t.Fatalf("up: %t, the engine has relayed %x; it is to be by %s", up, got, by)
		}
		if by == "engine" {
			continue
		}
		from, to := l.near.ports, l.far.ports
		if !up {
			from, to = to, from
		}
		to.sent()
		from.in <- parcel{sent, map[bool]netip.AddrPort{true: l.flow.Client, false: l.flow.Peer}[up]}
		relayed := slices.ContainsFunc(to.sent(), func(d parcel) bool { return bytes.Equal(d.b, want) })
		if relayed != (by == "server") {
			l.t.Fatalf("up: %t, the server relays: %t; it is to be by %s", up, relayed, by)
		}
	}
	if by == "engine" {
		l.carried++
		n := len(payload)
		want := turn.Counters{Packets: l.carried, Bytes: l.carried * uint64(n)}
		if up, down, ok := l.wire.engine.Count(l.flow); ok && (up.Packets < 1 || up.Packets > want.Packets || down != up) {
			l.t.Fatalf("the engine counts %+v and %+v of %+v", up, down, want)
		}
	}
}

// TestLives: what the life of a channel, a permission and an allocation means does not depend on who relays. A flow is the server's
// again before its end, and ends when it ends.
func TestLives(t *testing.T) {
	second := time.Second
	tests := []struct {
		name string
		edit func(*turn.Config)
		run  func(*life)
	}{
		{"refreshed for an hour", nil, func(l *life) {
			for minute := range 60 {
				time.Sleep(time.Minute)
				if minute%4 == 3 {
					l.bind()
				}
				if minute%9 == 8 {
					l.refresh(600)
				}
				l.is("engine")
			}
			want := turn.Counters{Packets: 60, Bytes: 60 * 12}
			if up, down, ok := l.wire.engine.Count(l.flow); !ok || up != want || down != want {
				l.t.Errorf("the engine has relayed %+v and %+v in one piece: %t, want %+v", up, down, ok, want)
			}
			time.Sleep(second)
			if s := l.server.Stats(); s.OffloadedUp.Packets != 60 || s.Up.Packets != 0 || s.Flows != 1 {
				l.t.Errorf("%+v", s)
			}
		}},
		{"channel expires", nil, func(l *life) {
			for range 2 {
				time.Sleep(240 * second)
				l.permit()
				l.refresh(600)
			}
			time.Sleep(118 * second)
			l.is("engine")
			time.Sleep(1900 * time.Millisecond)
			l.is("server")
			time.Sleep(second)
			l.is("nobody")
			l.bind()
			l.is("engine")
		}},
		{"permission expires", nil, func(l *life) {
			time.Sleep(298 * second)
			l.is("engine")
			time.Sleep(1900 * time.Millisecond)
			l.is("server")
			time.Sleep(second)
			l.is("nobody")
			l.permit()
			l.is("engine")
		}},
		{"permission renewed at the last moment", nil, func(l *life) {
			time.Sleep(299_900 * time.Millisecond)
			l.is("server")
			l.permit()
			l.is("engine")
			time.Sleep(200 * second)
			l.is("engine")
		}},
		{"channel binding renews the permission", nil, func(l *life) {
			time.Sleep(200 * second)
			l.bind()
			time.Sleep(200 * second)
			l.is("engine")
		}},
		{"allocation expires", nil, func(l *life) {
			for range 2 {
				time.Sleep(240 * second)
				l.bind()
			}
			time.Sleep(118 * second)
			l.is("engine")
			time.Sleep(1900 * time.Millisecond)
			l.is("server")
			time.Sleep(second)
			l.is("nobody")
		}},
		{"refreshed to nothing", nil, func(l *life) {
			l.is("engine")
			l.refresh(0)
			l.is("nobody")
		}},
		{"ended by the operator", nil, func(l *life) {
			l.is("engine")
			if !l.server.End(l.server.Allocations()[0].ID) {
				l.t.Error("nothing was there to end")
			}
			l.is("nobody")
		}},
		{"over the bandwidth", func(c *turn.Config) { c.Limits.UserBytes = 100 }, func(l *life) {
			for range 20 {
				l.is("engine")
			}
			time.Sleep(second)
			synctest.Wait()
			if s := l.server.Stats(); s.Flows != 0 || s.Dropped.FlowsTakenBack != 1 {
				l.t.Errorf("%+v", s)
			}
			l.is("nobody") // for the user is in debt
			time.Sleep(10 * second)
			l.is("engine")
		}},
		{"the server closes", nil, func(l *life) {
			l.is("engine")
			if err := l.server.Close(); err != nil {
				l.t.Error(err)
			}
			if got := l.wire.carry(l.t, true, []byte{lifeChannel >> 8, lifeChannel & 0xff, 0, 1, 'x'}); got != nil {
				l.t.Error("the engine still relays")
			}
		}},
	}
	for _, engine := range []struct {
		name string
		wire func(*testing.T, bool) *wired
	}{{"tcx", kernelWire}, {"batch", batchWire}} {
		for _, six := range []bool{false, true} {
			family := map[bool]string{false: "IPv4", true: "IPv6"}[six]
			t.Run(engine.name+"/"+family, func(t *testing.T) {
				for _, test := range tests {
					t.Run(test.name, func(t *testing.T) {
						w := engine.wire(t, six)
						synctest.Test(t, func(t *testing.T) {
							l := live(t, w, test.edit)
							defer func() {
								if err := l.server.Close(); err != nil {
									t.Error(err)
								}
							}()
							test.run(l)
						})
					})
				}
			})
		}
	}
}
