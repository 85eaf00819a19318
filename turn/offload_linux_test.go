package turn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/netlab"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
	"github.com/sotto-edge/sotto/turn/relay"
)

// inside is an engine whose interfaces are in a namespace.
type inside struct {
	*relay.TCX
	*netlab.Namespace
}

func (i inside) Add(f turn.Flow) (err error) {
	i.Do(func() { err = i.TCX.Add(f) })
	return err
}

// world is where a test with real sockets takes place: the server's engine, and who runs something at each place.
type world struct {
	engine                  turn.Offloader
	batch                   *relay.Batch
	clients, servers, peers func(func())
	near, relayed, far      [2]string // addresses, of both families
}

// kernelWorld is three machines, the middle one with the relay in the kernel, and the batch engine below it.
func kernelWorld(t *testing.T) world {
	clients, server, peers := threeMachines(t)
	batch, err := relay.NewBatch(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = batch.Close() })
	return world{
		engine: relay.NewStack(kernelIn(t, server), batch), batch: batch, clients: clients.Do, servers: server.Do, peers: peers.Do,
		near: [2]string{"198.18.1.1", "2001:db8:1::1"}, relayed: [2]string{"198.18.2.1", "2001:db8:2::1"}, far: [2]string{"198.18.2.2", "2001:db8:2::2"},
	}
}

func loopbackWorld() world {
	here, both := func(f func()) { f() }, [2]string{"127.0.0.1", "::1"}
	return world{engine: turn.NoOffloader{}, clients: here, servers: here, peers: here, near: both, relayed: both, far: both}
}

func batchWorld(t *testing.T) world {
	w := loopbackWorld()
	batch, err := relay.NewBatch(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = batch.Close() })
	w.engine, w.batch = batch, batch
	return w
}

// serve starts a server that listens at one address.
func (w world) serve(t *testing.T, at netip.AddrPort) (*service, netip.AddrPort) {
	s := serve(t, func(cfg *turn.Config) {
		var x turn.Socket
		var err error
		w.servers(func() {
			if w.batch != nil {
				x, err = w.batch.Listen(at)
			} else {
				x, err = turn.Listen(at)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		at = x.LocalAddr()
		cfg.Sockets = append(cfg.Sockets, x)
		cfg.Relay4, cfg.Relay6 = netip.MustParseAddr(w.relayed[0]), netip.MustParseAddr(w.relayed[1])
		cfg.Peers = policy.NewPeers(append(loopback, netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")), nil)
		cfg.ListenPeers = func(a netip.AddrPort) (p net.PacketConn, err error) {
			w.servers(func() {
				if w.batch != nil {
					p, err = w.batch.ListenPeers(a)
				} else {
					p, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
				}
			})
			return p, err
		}
		cfg.Offloader = w.engine
	})
	return s, at
}

// until waits for something that another goroutine or the kernel is to do.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// TestEveryByte [A5]: clients and peers do not notice who relays. Every length from 1 to 1400 in both directions, every byte compared,
// and the server knows how many there were and who relayed them.
func TestEveryByte(t *testing.T) {
	for _, engine := range []struct {
		name string
		in   func(*testing.T) world
	}{
		{"tcx", kernelWorld},
		{"batch", batchWorld},
		{"none", func(*testing.T) world { return loopbackWorld() }},
	} {
		for _, c := range []struct {
			name      string
			near, far int // 0: IPv4, 1: IPv6
		}{{"IPv4", 0, 0}, {"IPv6", 1, 1}, {"IPv4 to IPv6", 0, 1}, {"IPv6 to IPv4", 1, 0}} {
			t.Run(engine.name+"/"+c.name, func(t *testing.T) {
				w := engine.in(t)
				s, listen := w.serve(t, netip.AddrPortFrom(netip.MustParseAddr(w.near[c.near]), 0))
				if s.Engine() != engine.name {
					t.Errorf("the engine is %s", s.Engine())
				}
				var cl *client
				w.clients(func() { cl = dial(t, listen, name) })
				at := cl.allocate(attr(stun.AttrRequestedAddressFamily, byte(c.far+1), 0, 0, 0))
				var remote *net.UDPConn
				var err error
				w.peers(func() {
					remote, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(w.far[c.far])}, net.UDPAddrFromAddrPort(at))
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = remote.Close() })
				if _, code := cl.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 7, 0, 0), peer(netip.MustParseAddrPort(remote.LocalAddr().String()))); code != 0 {
					t.Fatalf("channel bind: %d", code)
				}
				relays := engine.name
				if relays == "tcx" && c.near != c.far {
					relays = "batch" // from one family to the other is not for the kernel
				}
				if relays == "none" {
					relays = "server"
				}
				until(t, "relayed by "+relays, func() bool { return s.Allocations()[0].Channels[0].Engine == relays })
				read := func(c net.Conn) []byte {
					b := make([]byte, 2048)
					_ = c.SetReadDeadline(time.Now().Add(patience))
					n, err := c.Read(b)
					if err != nil {
						t.Fatal(err)
					}
					return b[:n]
				}
				var want turn.Traffic
				for n := 1; n <= 1400; n++ {
					payload := make([]byte, n)
					for i := range payload {
						payload[i] = byte(i*7 + n*31 + i>>8)
					}
					frame := append(binary.BigEndian.AppendUint16([]byte{0x40, 7}, uint16(n)), payload...)
					if _, err := cl.conn.Write(frame); err != nil {
						t.Fatal(err)
					}
					if got := read(remote); !bytes.Equal(got, payload) {
						t.Fatalf("%d bytes to the peer: it gets %x, want %x", n, got, payload)
					}
					if _, err := remote.Write(payload); err != nil {
						t.Fatal(err)
					}
					if got := read(cl.conn); !bytes.Equal(got, frame) {
						t.Fatalf("%d bytes to the client: it gets %x, want %x", n, got, frame)
					}
					want.Packets, want.Bytes = want.Packets+1, want.Bytes+uint64(n)
				}
				if _, code := cl.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
					t.Fatalf("refresh to zero: %d", code)
				}
				got, none := s.Stats(), turn.Traffic{}
				counted := []turn.Traffic{want, want, none, none}
				if relays == "server" {
					counted = []turn.Traffic{none, none, want, want}
				}
				if diff := cmp.Diff(counted, []turn.Traffic{got.OffloadedUp, got.OffloadedDown, got.Up, got.Down}); diff != "" || got.Flows != 0 {
					t.Errorf("%d flows are left; (-want +got):\n%s", got.Flows, diff)
				}
			})
		}
	}
}

// capabilities that the kernel's engine and the tests of it need.
var capabilities = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON}

// TestWithoutCapabilities: where eBPF is not allowed, the same tests pass, or say what they would need, and all is relayed by the
// engines that are left.
func TestWithoutCapabilities(t *testing.T) {
	c := exec.Command(os.Args[0], "-test.run=^(TestEveryByte|TestLives)$", "-test.v")
	var out []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: what it has lost does not come back, and the thread ends with the goroutine
		for _, which := range capabilities {
			if err = unix.Prctl(unix.PR_CAPBSET_DROP, which, 0, 0, 0); err != nil {
				return
			}
		}
		out, err = c.CombinedOutput()
	}()
	<-done
	if err != nil {
		if c.Process == nil {
			t.Skipf("needs CAP_SETPCAP to drop others: %v", err)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{
		`TestEveryByte/tcx/IPv4\n.*: needs CAP_SYS_ADMIN for network namespaces`, `--- SKIP: TestEveryByte/tcx/IPv4 `, `--- SKIP: TestLives/tcx/IPv6/`,
		`--- PASS: TestEveryByte/batch/IPv4 `, `--- PASS: TestEveryByte/batch/IPv6 `, `--- PASS: TestEveryByte/none/IPv4 `, `--- PASS: TestEveryByte/none/IPv6 `,
		`--- PASS: TestLives/batch/IPv4/refreshed_for_an_hour `,
	} {
		if !regexp.MustCompile(line).Match(out) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
}

// Without capabilities the engine cannot be had, and says so.
func TestKernelNeedsCapabilities(t *testing.T) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		header, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capset(&header, &data[0]); err != nil {
			done <- err
			return
		}
		e, err := relay.NewTCX(8)
		if err == nil {
			_ = e.Close()
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, os.ErrPermission) {
		t.Errorf("the kernel's engine without capabilities: %v", err)
	}
}
