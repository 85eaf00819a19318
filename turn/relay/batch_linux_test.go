package relay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/netlab"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn/relay"
)

// patient is how long something that is to come is waited for.
const patient = 10 * time.Second

var (
	lo4 = netip.MustParseAddr("127.0.0.1")
	lo6 = netip.MustParseAddr("::1")
)

// wires is an engine with a client, a peer, and a flow between them.
type wires struct {
	t            testing.TB
	engine       *relay.Batch
	port         *relay.Port
	relayed      net.PacketConn
	client, peer *net.UDPConn
	flow         relay.Flow
}

func batch(t testing.TB, shards int) *relay.Batch {
	t.Helper()
	e, err := relay.NewBatch(shards)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

func open(t testing.TB, at netip.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func addr(c interface{ LocalAddr() net.Addr }) netip.AddrPort {
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func lay(t testing.TB, e *relay.Batch, near, far netip.Addr) *wires {
	t.Helper()
	w := &wires{t: t, engine: e, client: open(t, near), peer: open(t, far)}
	var err error
	if w.port, err = e.Listen(netip.AddrPortFrom(near, 0)); err != nil {
		t.Fatal(err)
	}
	if w.relayed, err = e.ListenPeers(netip.AddrPortFrom(far, 0)); err != nil {
		t.Fatal(err)
	}
	w.flow = relay.Flow{Client: addr(w.client), Server: w.port.LocalAddr(), Relayed: addr(w.relayed), Peer: addr(w.peer), Channel: 0x4001}
	if err := e.Add(w.flow); err != nil {
		t.Fatal(err)
	}
	return w
}

func channelData(channel uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, channel)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), payload...)
}

func write(t testing.TB, c *net.UDPConn, b []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

// expect reads a datagram and compares all of it.
func expect(t testing.TB, c *net.UDPConn, want []byte, from netip.AddrPort) {
	t.Helper()
	b := make([]byte, 65536)
	_ = c.SetReadDeadline(time.Now().Add(patient))
	n, at, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("%d bytes are to come: %v", len(want), err)
	}
	if !bytes.Equal(b[:n], want) || netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) != from {
		t.Fatalf("%d bytes from %s, want %d from %s:\n%x\n%x", n, at, len(want), from, b[:min(n, 64)], want[:min(len(want), 64)])
	}
}

var families = map[string][2]netip.Addr{"IPv4": {lo4, lo4}, "IPv6": {lo6, lo6}, "IPv4 to IPv6": {lo4, lo6}, "IPv6 to IPv4": {lo6, lo4}}

// Every byte of every length in both directions and all families, one by one and in bursts, by one shard and by several, in order.
func TestBatchRelays(t *testing.T) {
	for name, f := range families {
		for _, shards := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d", name, shards), func(t *testing.T) {
				w := lay(t, batch(t, shards), f[0], f[1])
				random := rand.NewChaCha8([32]byte{2})
				var packets, octets uint64
				pass := func(sizes ...int) {
					payloads := make([][]byte, len(sizes))
					for i, n := range sizes {
						payloads[i] = make([]byte, n)
						_, _ = random.Read(payloads[i])
						packets++
						octets += uint64(n)
					}
					for _, p := range payloads {
						b := channelData(w.flow.Channel, p)
						if len(p)%2 == 1 { // some clients pad it as on a stream (RFC 8656 §12.5)
							b = append(b, make([]byte, 4-len(p)%4)...)
						}
						write(t, w.client, b, w.flow.Server)
					}
					for _, p := range payloads {
						expect(t, w.peer, p, w.flow.Relayed)
					}
					for _, p := range payloads {
						write(t, w.peer, p, w.flow.Relayed)
					}
					for _, p := range payloads {
						expect(t, w.client, channelData(w.flow.Channel, p), w.flow.Server)
					}
				}
				for n := range 1401 {
					pass(n)
				}
				pass(slices.Repeat([]int{1200}, 40)...)
				pass(slices.Repeat([]int{160}, 40)...)
				pass(append(slices.Repeat([]int{900}, 9), 1, 900, 900, 901, 900, 0, 0, 900)...) // the end of a run, and longer than one
				for range 20 {
					sizes := make([]int, 30)
					for i := range sizes {
						sizes[i] = 300 * (1 + rand.IntN(3))
					}
					pass(sizes...)
				}
				pass(9000, 20000) // in fragments, on real wires
				want := relay.Counters{Packets: packets, Bytes: octets}
				if up, down, ok := w.engine.Count(w.flow); !ok || up != want || down != want {
					t.Errorf("%+v up, %+v down, %v; want %+v", up, down, ok, want)
				}
				if s := w.engine.Stats(); s.Relayed != 2*packets || s.Left != 0 || s.Overflowed != 0 || s.SendErrors != 0 || s.SendDrops != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// Runs of equal size leave as one.
func TestBatchJoins(t *testing.T) {
	w := lay(t, batch(t, 1), lo4, lo4)
	p := make([]byte, 500)
	for range 1000 { // how many come together is not in our hand
		for range 16 {
			write(t, w.client, channelData(w.flow.Channel, p), w.flow.Server)
		}
		for range 16 {
			expect(t, w.peer, p, w.flow.Relayed)
		}
		if w.engine.Stats().Joined > 0 {
			return
		}
	}
	t.Error("nothing was joined")
}

// What is no flow's reaches the server, from whom it came and as it was; and the server's own datagrams leave.
func TestBatchLeaves(t *testing.T) {
	for name, f := range families {
		t.Run(name, func(t *testing.T) {
			w := lay(t, batch(t, 2), f[0], f[1])
			b := make([]byte, 2048)
			for what, data := range map[string][]byte{
				"STUN": append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42}, make([]byte, 12)...), "another channel": channelData(0x4002, []byte("x")),
				"too short": channelData(w.flow.Channel, []byte("x"))[:3], "cut": channelData(w.flow.Channel, []byte("xyz"))[:6], "nothing": {},
			} {
				write(t, w.client, data, w.flow.Server)
				n, from, err := w.port.Read(b)
				if err != nil || !bytes.Equal(b[:n], data) || from != (udp.Path{Remote: w.flow.Client, Local: w.flow.Server.Addr()}) {
					t.Errorf("%s: %x from %v, %v", what, b[:n], from, err)
				}
			}
			stranger := open(t, f[0])
			write(t, stranger, channelData(w.flow.Channel, []byte("x")), w.flow.Server)
			if _, from, err := w.port.Read(b); err != nil || from.Remote != addr(stranger) {
				t.Errorf("from %v, %v", from, err)
			}
			if err := w.port.Write([]byte("answer"), udp.Path{Remote: addr(stranger)}); err != nil {
				t.Error(err)
			}
			expect(t, stranger, []byte("answer"), w.flow.Server)

			other := open(t, f[1])
			long := bytes.Repeat([]byte{7}, 3000)
			write(t, other, long, w.flow.Relayed)
			if n, from, err := w.relayed.ReadFrom(b); err != nil || n != len(b) || !bytes.Equal(b, long[:n]) || addrOf(from) != addr(other) {
				t.Errorf("%d bytes from %v, %v", n, from, err)
			}
			if _, err := w.relayed.WriteTo(long, net.UDPAddrFromAddrPort(addr(other))); err != nil {
				t.Error(err)
			}
			expect(t, other, long, w.flow.Relayed)
			if s := w.engine.Stats(); s.Relayed != 0 || s.Left != 7 {
				t.Errorf("%+v", s)
			}
			wrong := addr(open(t, map[netip.Addr]netip.Addr{lo4: lo6, lo6: lo4}[f[1]]))
			if _, err := w.relayed.WriteTo(long, net.UDPAddrFromAddrPort(wrong)); err == nil {
				t.Error("sent to an address of the other family")
			}
		})
	}
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.UDPAddr).AddrPort() }

// From Remove on the server has everything again; what it has no time for is dropped at some point.
func TestBatchRemove(t *testing.T) {
	e := batch(t, 1)
	w := lay(t, e, lo4, lo4)
	write(t, w.client, channelData(w.flow.Channel, []byte("x")), w.flow.Server)
	expect(t, w.peer, []byte("x"), w.flow.Relayed)
	for range 2 {
		e.Remove(w.flow)
	}
	if _, _, ok := e.Count(w.flow); ok {
		t.Error("a flow that was removed is counted")
	}
	b := make([]byte, 100)
	write(t, w.client, channelData(w.flow.Channel, []byte("y")), w.flow.Server)
	if n, _, err := w.port.Read(b); err != nil || !bytes.Equal(b[:n], channelData(w.flow.Channel, []byte("y"))) {
		t.Errorf("%x, %v", b[:n], err)
	}
	const flood = 1000
	for i := range flood {
		write(t, w.peer, []byte{byte(i)}, w.flow.Relayed)
		for i%10 == 9 && e.Stats().Left+e.Stats().Overflowed < uint64(i) { // not to flood the kernel
			runtime.Gosched()
		}
	}
	for e.Stats().Left+e.Stats().Overflowed < flood+1 {
		runtime.Gosched()
	}
	if s := e.Stats(); s.Overflowed < flood/2 || s.Relayed != 1 {
		t.Errorf("%+v", s)
	}
	if n, _, err := w.relayed.ReadFrom(b); err != nil || n != 1 || b[0] != 0 {
		t.Errorf("%x, %v", b[:n], err)
	}
	if err := e.Add(w.flow); err != nil {
		t.Error(err)
	}
	write(t, w.peer, []byte("z"), w.flow.Relayed)
	expect(t, w.client, channelData(w.flow.Channel, []byte("z")), w.flow.Server)
}

// Flows end with their sockets, readers too, and ports are free again.
func TestBatchClose(t *testing.T) {
	e := batch(t, 2)
	w := lay(t, e, lo4, lo4)
	read := make(chan error, 2)
	go func() { _, _, err := w.relayed.ReadFrom(make([]byte, 10)); read <- err }()
	go func() { _, _, err := w.port.Read(make([]byte, 10)); read <- err }()
	for range 2 {
		if err := errors.Join(w.relayed.Close(), w.port.Close()); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := w.relayed.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(w.flow.Peer)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, _, ok := e.Count(w.flow); ok {
		t.Error("the flow is there without its sockets")
	}
	if err := e.Add(w.flow); !errors.Is(err, relay.ErrUnsupported) {
		t.Error(err)
	}
	again, err := e.Listen(w.flow.Server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Listen(w.flow.Server); err == nil {
		t.Error("a port is had twice")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := again.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := e.Listen(w.flow.Server); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := e.ListenPeers(w.flow.Relayed); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// The engine refuses what it cannot relay.
func TestBatchRefuses(t *testing.T) {
	e := batch(t, 1)
	w := lay(t, e, lo4, lo4)
	if err := e.Add(w.flow); err != nil || e.Engine() != "batch" {
		t.Errorf("again: %v", err)
	}
	for name, change := range map[string]func(*relay.Flow){
		"another's port":            func(f *relay.Flow) { f.Server = addr(w.client) },
		"another's relayed address": func(f *relay.Flow) { f.Relayed = addr(w.peer) },
		"a peer of another family":  func(f *relay.Flow) { f.Peer = netip.AddrPortFrom(lo6, 9) },
		"a client of another":       func(f *relay.Flow) { f.Client = netip.AddrPortFrom(lo6, 9) },
		"a peer that has a channel": func(f *relay.Flow) { f.Channel++ },
		"a channel that has a peer": func(f *relay.Flow) { f.Peer = netip.AddrPortFrom(lo4, 9) },
		"a zone":                    func(f *relay.Flow) { f.Client = netip.MustParseAddrPort("[fe80::1%lo]:9") },
		"nobody":                    func(f *relay.Flow) { f.Client = netip.AddrPort{} },
	} {
		f := w.flow
		change(&f)
		if err := e.Add(f); !errors.Is(err, relay.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, at := range []string{"0.0.0.0:0", "[::]:0", "[fe80::1%lo]:0"} {
		if _, err := e.Listen(netip.MustParseAddrPort(at)); err == nil {
			t.Errorf("listens on %s", at)
		}
	}
}

// A path that takes no runs, here for its MTU, gets datagrams one by one.
func TestBatchSmallMTU(t *testing.T) {
	server, far := netlab.New(t), netlab.New(t)
	netlab.Join(netlab.End{Namespace: server, Device: "s0", Addresses: []string{"198.18.1.1/24"}},
		netlab.End{Namespace: far, Device: "f0", Addresses: []string{"198.18.1.2/24"}})
	server.IP("route replace 198.18.1.0/24 dev s0 src 198.18.1.1 mtu 1000")
	near := netip.MustParseAddr("198.18.1.1")
	var w *wires
	server.Do(func() { w = lay(t, batch(t, 1), near, near) })
	var client, peer *net.UDPConn
	far.Do(func() {
		client, peer = open(t, netip.MustParseAddr("198.18.1.2")), open(t, netip.MustParseAddr("198.18.1.2"))
	})
	w.engine.Remove(w.flow)
	w.flow.Client, w.flow.Peer = addr(client), addr(peer)
	if err := w.engine.Add(w.flow); err != nil {
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte("0123456789"), 120)
	for range 200 {
		for range 16 {
			write(t, client, channelData(w.flow.Channel, payload), w.flow.Server)
		}
		for range 16 {
			expect(t, peer, payload, w.flow.Relayed)
		}
		for range 16 {
			write(t, peer, payload, w.flow.Relayed)
		}
		for range 16 {
			expect(t, client, channelData(w.flow.Channel, payload), w.flow.Server)
		}
		if w.engine.Stats().GSORefusals > 1 {
			break
		}
	}
	if s := w.engine.Stats(); s.GSORefusals == 0 || s.SendErrors != 0 {
		t.Errorf("%+v", s)
	}
}

// A packet costs no memory.
func TestBatchAllocatesNothing(t *testing.T) {
	w := lay(t, batch(t, 1), lo4, lo4)
	payload := make([]byte, 1000)
	frame, in := channelData(w.flow.Channel, payload), make([]byte, 2048)
	_ = w.peer.SetReadDeadline(time.Now().Add(patient))
	_ = w.client.SetReadDeadline(time.Now().Add(patient))
	if n := testing.AllocsPerRun(2000, func() {
		write(t, w.client, frame, w.flow.Server)
		if _, _, err := w.peer.ReadFromUDPAddrPort(in); err != nil {
			t.Fatal(err)
		}
		write(t, w.peer, payload, w.flow.Relayed)
		if _, _, err := w.client.ReadFromUDPAddrPort(in); err != nil {
			t.Fatal(err)
		}
	}); n >= 1 {
		t.Errorf("%.1f allocations for two packets", n)
	}
}
