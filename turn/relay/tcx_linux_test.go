package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/netlab"
)

// patience is for a packet that is to come, or a change that is to be noticed.
const patience = 10 * time.Second

// lab is a client, a server and a peer in namespaces of their own. The server has an engine and no socket: whatever arrives, the
// kernel has relayed.
type lab struct {
	client, server, peer *netlab.Namespace
	engine               *TCX
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{client: netlab.New(t), server: netlab.New(t), peer: netlab.New(t)}
	netlab.Join(netlab.End{Namespace: l.server, Device: "s0", Addresses: []string{"198.18.1.1/24", "2001:db8:1::1/64"}},
		netlab.End{Namespace: l.client, Device: "c0", Addresses: []string{"198.18.1.2/24", "2001:db8:1::2/64"}})
	netlab.Join(netlab.End{Namespace: l.server, Device: "s1", Addresses: []string{"198.18.2.1/24", "2001:db8:2::1/64"}},
		netlab.End{Namespace: l.peer, Device: "p0", Addresses: []string{"198.18.2.2/24", "2001:db8:2::2/64"}})
	var err error
	// Tests read from refusals who had a packet, so each must be said.
	l.server.Do(func() { err = os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0) })
	if err != nil {
		t.Fatal(err)
	}
	l.server.Do(func() { l.engine, err = NewTCX(8) })
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("needs CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := l.engine.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

func flow(six bool) Flow {
	a := [4]string{"198.18.1.2:40000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:4000"}
	if six {
		a = [4]string{"[2001:db8:1::2]:40000", "[2001:db8:1::1]:3478", "[2001:db8:2::1]:50000", "[2001:db8:2::2]:4000"}
	}
	return Flow{
		Client: netip.MustParseAddrPort(a[0]), Server: netip.MustParseAddrPort(a[1]),
		Relayed: netip.MustParseAddrPort(a[2]), Peer: netip.MustParseAddrPort(a[3]), Channel: 0x4abc,
	}
}

func (l *lab) add(t *testing.T, f Flow) {
	t.Helper()
	var err error
	l.server.Do(func() { err = l.engine.Add(f) })
	if err != nil {
		t.Fatal(err)
	}
}

// ends are the sockets of a flow.
func (l *lab) ends(t *testing.T, f Flow) (client, peer *net.UDPConn) {
	t.Helper()
	open := func(n *netlab.Namespace, local, remote netip.AddrPort) (c *net.UDPConn) {
		var err error
		n.Do(func() { c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(remote)) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return open(l.client, f.Client, f.Server), open(l.peer, f.Peer, f.Relayed)
}

// carry sends and returns what arrives at the other end. An error of the sender's socket means that the server's stack got it.
func carry(from, to *net.UDPConn, b []byte) ([]byte, error) {
	if _, err := from.Write(b); err != nil {
		return nil, err
	}
	in := make([]byte, 2048)
	if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	n, err := to.Read(in)
	return in[:n], err
}

// refused sends, and waits until the server's stack says that nobody listens there.
func refused(t *testing.T, from *net.UDPConn, b []byte) {
	t.Helper()
	if err := from.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err := from.Write(b)
	if err == nil {
		_, err = from.Read(make([]byte, 2048))
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("the sender hears %v, want that the server's stack refuses", err)
	}
}

// relayed sends and waits for the one thing that must happen: the packet arrives, or the server's stack refuses it.
func relayed(t *testing.T, from, to *net.UDPConn, b []byte) bool {
	t.Helper()
	in, no := make(chan error, 1), make(chan error, 1)
	for _, end := range []struct {
		*net.UDPConn
		said chan error
	}{{to, in}, {from, no}} {
		if err := end.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		go func() { _, err := end.Read(make([]byte, 2048)); end.said <- err }()
	}
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	var got, other error
	var yes bool
	select {
	case got = <-in:
		yes = true
		from.SetReadDeadline(time.Unix(1, 0))
		other = <-no
	case got = <-no:
		to.SetReadDeadline(time.Unix(1, 0))
		other = <-in
	}
	if yes && got != nil || !yes && !errors.Is(got, unix.ECONNREFUSED) || !errors.Is(other, os.ErrDeadlineExceeded) {
		t.Fatalf("the packet arrives: %v; one end says %v, the other %v", yes, got, other)
	}
	return yes
}

func channelData(payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x4abc)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), payload...)
}

func content(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + seed*31 + i>>8)
	}
	return b
}

// Every length in both directions and both families, every byte compared (row A5).
func TestTCXRelays(t *testing.T) {
	l := newLab(t)
	for _, six := range []bool{false, true} {
		f := flow(six)
		l.add(t, f)
		l.add(t, f) // once is enough
		client, peer := l.ends(t, f)
		var want Counters
		for n := 1; n <= 1400; n++ {
			payload := content(n, n)
			got, err := carry(client, peer, channelData(payload))
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("%d bytes to the peer: %d arrive, %v", n, len(got), err)
			}
			got, err = carry(peer, client, payload)
			if err != nil || !bytes.Equal(got, channelData(payload)) {
				t.Fatalf("%d bytes to the client: %d arrive, %v", n, len(got), err)
			}
			want.Packets, want.Bytes = want.Packets+1, want.Bytes+uint64(n)
		}
		if up, down, ok := l.engine.Count(f); !ok || up != want || down != want {
			t.Errorf("counted %+v up, %+v down, %v; want %+v", up, down, ok, want)
		}
	}
	v, err := l.engine.Verdicts()
	if err != nil || v["relayed-up"] != 2800 || v["relayed-down"] != 2800 || v["dropped"] != 0 {
		t.Errorf("verdicts %v, %v", v, err)
	}
}

func TestTCXRemoves(t *testing.T) {
	l := newLab(t)
	f := flow(false)
	client, peer := l.ends(t, f)
	packet := channelData(content(100, 1))
	refused(t, client, packet)
	for range 20 { // more than there is room for: what is removed makes room
		l.add(t, f)
		if _, err := carry(client, peer, packet); err != nil {
			t.Fatal(err)
		}
		if up, _, ok := l.engine.Count(f); !ok || up.Packets != 1 {
			t.Fatalf("counted %+v %v since Add, want 1 packet", up, ok)
		}
		l.engine.Remove(f)
		l.engine.Remove(f)
		if _, _, ok := l.engine.Count(f); ok {
			t.Fatal("counts what was removed")
		}
		refused(t, client, packet)
		refused(t, peer, content(100, 1))
	}
	l.add(t, f)
	if err := l.engine.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, client, packet)
	if err := l.engine.Add(f); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Add after Close: %v", err)
	}
}

// A flow whose way is lost goes back to the server, and comes again with its way.
func TestTCXFollowsRoutes(t *testing.T) {
	l := newLab(t)
	f := flow(false)
	client, peer := l.ends(t, f)
	packet := channelData(content(100, 1))
	l.add(t, f)
	if _, err := carry(client, peer, packet); err != nil {
		t.Fatal(err)
	}
	l.server.IP("route add blackhole 198.18.2.2/32")
	until(t, func() bool { return !relayed(t, client, peer, packet) })
	l.server.IP("route del blackhole 198.18.2.2/32")
	before, _, _ := l.engine.Count(f)
	until(t, func() bool { return relayed(t, client, peer, packet) })
	if after, _, _ := l.engine.Count(f); before.Packets == 0 || after.Packets != before.Packets+1 {
		t.Errorf("counted %d packets, then %d: a new way is to lose no count", before.Packets, after.Packets)
	}
}

func until(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("nothing has changed")
		}
	}
}

func TestTCXLeavesToTheServer(t *testing.T) {
	l := newLab(t)
	good := flow(false)
	for name, change := range map[string]func(*Flow){
		"peer of the other family":  func(f *Flow) { f.Relayed, f.Peer = flow(true).Relayed, flow(true).Peer },
		"peer on this machine":      func(f *Flow) { f.Peer = netip.MustParseAddrPort("198.18.1.1:9") },
		"peer nowhere":              func(f *Flow) { f.Peer = netip.MustParseAddrPort("198.19.0.1:9") },
		"peer is a broadcast":       func(f *Flow) { f.Peer = netip.MustParseAddrPort("198.18.2.255:9") },
		"peer is multicast":         func(f *Flow) { f.Peer = netip.MustParseAddrPort("224.0.0.5:9") },
		"loopback":                  func(f *Flow) { f.Peer = netip.MustParseAddrPort("127.0.0.1:9") },
		"relayed address elsewhere": func(f *Flow) { f.Relayed = netip.MustParseAddrPort("198.19.7.7:9") },
		"server unspecified":        func(f *Flow) { f.Server = netip.MustParseAddrPort("0.0.0.0:3478") },
		"nothing":                   func(f *Flow) { *f = Flow{} },
	} {
		f := good
		change(&f)
		l.server.Do(func() {
			if err := l.engine.Add(f); !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	for i := range 9 {
		f := good
		f.Channel += uint16(i)
		f.Peer = netip.AddrPortFrom(f.Peer.Addr(), uint16(4000+i))
		l.server.Do(func() {
			if err := l.engine.Add(f); (i == 8) != errors.Is(err, ErrFull) || (i == 8) != errors.Is(err, ErrUnsupported) {
				t.Errorf("flow %d of 8: %v", i+1, err)
			}
		})
	}
}

const killed = "SOTTO_RELAY_KILLED"

// The other process of TestTCXKilled.
func TestMain(m *testing.M) {
	if os.Getenv(killed) == "" {
		os.Exit(m.Run())
	}
	e, err := NewTCX(8)
	if err == nil {
		err = e.Add(flow(false))
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("ready\n")
	select {}
}

// kill -9 leaves no program attached and no map behind.
func TestTCXKilled(t *testing.T) {
	l := newLab(t)
	client, peer := l.ends(t, flow(false))
	packet := channelData(content(100, 1))
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), killed+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.server.Do(func() { err = c.Start() })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q", line)
	}
	if _, err := carry(client, peer, packet); err != nil {
		t.Fatal(err)
	}
	programs := attached(t, l.server, "s0")
	if len(programs) != 1 {
		t.Fatalf("%d programs attached, want 1", len(programs))
	}
	maps := mapsOf(t, programs[0])
	if len(maps) < 3 {
		t.Fatalf("the program has %d maps, want 3 or more", len(maps))
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	until(t, func() bool { return len(attached(t, l.server, "s0"))+len(attached(t, l.server, "s1")) == 0 })
	refused(t, client, packet)
	for _, id := range maps {
		until(t, func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
}

func attached(t *testing.T, n *netlab.Namespace, dev string) (out []ebpf.ProgramID) {
	t.Helper()
	n.Do(func() {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			t.Error(err)
			return
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			t.Error(err)
			return
		}
		for _, p := range q.Programs {
			out = append(out, p.ID)
		}
	})
	return out
}

func mapsOf(t *testing.T, id ebpf.ProgramID) []ebpf.MapID {
	t.Helper()
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	maps, ok := info.MapIDs()
	if !ok {
		t.Fatal("the program does not tell its maps")
	}
	return maps
}
