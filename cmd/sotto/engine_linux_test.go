package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/control/admin"
	"github.com/sotto-edge/sotto/internal/netlab"
)

// asSotto makes the test binary the appliance.
const asSotto = "SOTTO_TEST_IS_SOTTO"

func TestMain(m *testing.M) {
	if os.Getenv(asSotto) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// box is an appliance in a process and a network of its own, between clients and peers.
type box struct {
	t                      *testing.T
	clients, server, peers *netlab.Namespace
	file, dir              string
	process                *exec.Cmd
	out                    *lines
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, clients: netlab.New(t), server: netlab.New(t), peers: netlab.New(t), dir: t.TempDir()}
	netlab.Join(netlab.End{Namespace: b.server, Device: "s0", Addresses: []string{"198.18.1.1/24"}},
		netlab.End{Namespace: b.clients, Device: "c0", Addresses: []string{"198.18.1.2/24"}})
	b.joinPeers()
	b.file = filepath.Join(t.TempDir(), "sotto.toml")
	document := "[server]\nlisten = \"198.18.1.1:8443\"\nadmin_listen = \"127.0.0.1:8444\"\n[turn]\nenabled = true\nengine = \"tcx\"\nlisten = \"198.18.1.1:3478\"\n" +
		"tls_listen = \"\"\nrelay_addresses = [\"198.18.2.1\"]\nallow_peers = [\"198.18.0.0/15\"]\nusers = [\"alice:correct horse\"]\n"
	if err := os.WriteFile(b.file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) joinPeers() {
	netlab.Join(netlab.End{Namespace: b.server, Device: "s1", Addresses: []string{"198.18.2.1/24"}},
		netlab.End{Namespace: b.peers, Device: "p0", Addresses: []string{"198.18.2.2/24"}})
}

// command is sotto inside the box.
func (b *box) command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], append(args, "-config", b.file, "-data", b.dir)...)
	c.Env = append(os.Environ(), asSotto+"=1")
	return c
}

func (b *box) start() {
	b.t.Helper()
	b.process, b.out = b.command("serve"), newLines()
	b.process.Stderr = b.out
	var err error
	b.server.Do(func() { err = b.process.Start() })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = b.process.Process.Kill() })
	until(b.t, "serving", func() bool {
		if s := b.out.String(); strings.Contains(s, "not permitted") {
			b.t.Skipf("needs CAP_BPF and CAP_NET_ADMIN: %s", s)
		}
		return strings.Contains(b.out.String(), "msg=serving")
	})
}

func (b *box) allocations() []admin.Allocation {
	b.t.Helper()
	c := b.command("ctl", "turn", "list", "-json")
	var out []byte
	var err error
	b.server.Do(func() { out, err = c.CombinedOutput() })
	var listed struct{ Allocations []admin.Allocation }
	if err == nil {
		err = json.Unmarshal(out, &listed)
	}
	if err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	return listed.Allocations
}

// channel has a client make an allocation and bind a channel to a peer.
func (b *box) channel() (client, peer *net.UDPConn) {
	t := b.t
	t.Helper()
	dial := func(n *netlab.Namespace, from, to string) (c *net.UDPConn) {
		var err error
		n.Do(func() {
			c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	client = dial(b.clients, "198.18.1.2:0", "198.18.1.1:3478")
	var nonce stun.Nonce
	var relayed stun.XORMappedAddress
	ask := func(method stun.Method, setters ...stun.Setter) *stun.Message {
		setters = append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, setters...)
		if nonce != nil {
			setters = append(setters, stun.NewUsername("alice"), stun.NewRealm("sotto"), nonce, stun.NewLongTermIntegrity("alice", "sotto", "correct horse"))
		}
		if _, err := client.Write(stun.MustBuild(setters...).Raw); err != nil {
			t.Fatal(err)
		}
		answer := &stun.Message{Raw: receive(t, client)}
		if err := answer.Decode(); err != nil || (nonce != nil) != (answer.Type.Class == stun.ClassSuccessResponse) {
			t.Fatalf("%s: %s, %v", method, answer, err)
		}
		return answer
	}
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	if err := nonce.GetFrom(ask(stun.MethodAllocate, transport)); err != nil {
		t.Fatal(err)
	}
	if err := relayed.GetFromAs(ask(stun.MethodAllocate, transport), stun.AttrXORRelayedAddress); err != nil {
		t.Fatal(err)
	}
	peer = dial(b.peers, "198.18.2.2:4000", relayed.String())
	ask(stun.MethodChannelBind, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 7, 0, 0}}, peerAddress{})
	return client, peer
}

// peerAddress is the peer of a box.
type peerAddress struct{}

func (peerAddress) AddTo(m *stun.Message) error {
	return (&stun.XORMappedAddress{IP: net.IPv4(198, 18, 2, 2), Port: 4000}).AddToAs(m, stun.AttrXORPeerAddress)
}

func receive(t *testing.T, c *net.UDPConn) []byte {
	t.Helper()
	in := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(in)
	if err != nil {
		t.Fatal(err)
	}
	return in[:n]
}

// carry sends so many packets in both directions.
func carry(t *testing.T, client, peer *net.UDPConn, packets int) {
	t.Helper()
	for n := range packets {
		payload := bytes.Repeat([]byte{byte(n)}, n+1)
		frame := append(binary.BigEndian.AppendUint16([]byte{0x40, 7}, uint16(len(payload))), payload...)
		for _, way := range []struct {
			from, to  *net.UDPConn
			out, want []byte
		}{{client, peer, frame, payload}, {peer, client, payload, frame}} {
			if _, err := way.from.Write(way.out); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, way.to); !bytes.Equal(got, way.want) {
				t.Fatalf("%x arrives, want %x", got, way.want)
			}
		}
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// relayedBy waits until one allocation's channel is the engine's, and until that has relayed so many packets each way.
func (b *box) relayedBy(engine string, packets uint64) {
	b.t.Helper()
	until(b.t, "relayed by "+engine, func() bool {
		all := b.allocations()
		return len(all) == 1 && all[0].Channels[0].Engine == engine && slices.ContainsFunc(all[0].Relays, func(r admin.Relayed) bool {
			return r.Engine == engine && r.UpPackets >= packets && r.DownPackets >= packets
		})
	})
}

// programs returns those that see what comes in by an interface of the server, with their maps.
func (b *box) programs(dev string) (out []ebpf.ProgramID, maps []ebpf.MapID) {
	b.t.Helper()
	b.server.Do(func() {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			b.t.Error(err)
			return
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			b.t.Error(err)
			return
		}
		for _, p := range q.Programs {
			out = append(out, p.ID)
		}
	})
	for _, id := range out {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil {
			ids, _ := info.MapIDs()
			maps = append(maps, ids...)
		}
		_ = p.Close()
	}
	return out, maps
}

// verdicts returns how many packets the kernel has relayed, from clients and to them.
func (b *box) verdicts() (out [2]uint64) {
	b.t.Helper()
	copy(out[:], b.counted("verdicts", 2))
	return out
}

// counted returns the first counters of a map of that name.
func (b *box) counted(name string, most int) []uint64 {
	b.t.Helper()
	out := make([]uint64, most)
	_, maps := b.programs("s0")
	for _, id := range maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			b.t.Fatal(err)
		}
		info, err := m.Info()
		if err == nil && info.Name == name {
			for i := range out {
				var perCPU []uint64
				err = errors.Join(err, m.Lookup(uint32(i), &perCPU))
				for _, n := range perCPU {
					out[i] += n
				}
			}
		}
		if err = errors.Join(err, m.Close()); err != nil {
			b.t.Fatal(err)
		}
	}
	return out
}

// carry sends so many packets in both directions, and fails unless the kernel relays them.
func (b *box) carry(client, peer *net.UDPConn, packets uint64) {
	b.t.Helper()
	before := b.verdicts()
	carry(b.t, client, peer, int(packets))
	if after := b.verdicts(); after[0] != before[0]+packets || after[1] != before[1]+packets {
		b.t.Errorf("the kernel has relayed %d, then %d, want %d more each way", before, after, packets)
	}
}

// TestKernelOfAppliance [A5]: an appliance relays in the kernel; it follows an interface that goes and comes again; killed, it leaves
// nothing behind in the kernel; and it starts again.
func TestKernelOfAppliance(t *testing.T) {
	b := newBox(t)
	b.start()
	doctor := b.command("doctor")
	b.server.Do(func() { // its verdict on other things does not matter
		if out, _ := doctor.CombinedOutput(); !regexp.MustCompile(`(?m)^ok +turn engine +tcx on s0, s1$`).Match(out) {
			t.Errorf("doctor says\n%s", out)
		}
	})
	client, peer := b.channel()
	b.relayedBy("tcx", 0)
	b.carry(client, peer, 20)
	b.relayedBy("tcx", 20)

	// Not the interface that was attached to, though of its name.
	b.server.IP("link del s1")
	b.joinPeers()
	var err error
	_ = peer.Close()
	b.peers.Do(func() {
		peer, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(198, 18, 2, 2), Port: 4000}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(b.allocations()[0].Relayed)))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	until(t, "the kernel's again", func() bool {
		carry(t, client, peer, 1)
		return b.verdicts()[1] > 20
	})
	b.carry(client, peer, 20)

	on, maps := b.programs("s0")
	if len(on) != 2 || len(maps) < 8 { // the guard and the relay
		t.Fatalf("%d programs with %d maps see the clients", len(on), len(maps))
	}
	if err := b.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.process.Wait()
	until(t, "detached", func() bool {
		near, _ := b.programs("s0")
		far, _ := b.programs("s1")
		return len(near)+len(far) == 0
	})
	for _, id := range maps {
		until(t, "gone", func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				_ = m.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}

	b.start()
	_ = peer.Close()
	client, peer = b.channel()
	b.relayedBy("tcx", 0)
	b.carry(client, peer, 20)
	b.relayedBy("tcx", 20)
	if err := b.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := b.process.Wait(); err != nil {
		t.Errorf("stopped: %v\n%s", err, b.out)
	}
}

// TestGuardOfAppliance: the kernel stops what strangers send beyond reason, and never those who have an allocation, even from the
// same address.
func TestGuardOfAppliance(t *testing.T) {
	b := newBox(t)
	b.start()
	client, peer := b.channel()
	b.relayedBy("tcx", 0)
	var stranger *net.UDPConn
	var err error
	b.clients.Do(func() { stranger, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(198, 18, 1, 1), Port: 3478}) })
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	const each = 1000
	for range each {
		for _, payload := range [][]byte{request, []byte("nonsense"), {0x40, 7, 0, 1, 'x'}} {
			if _, err := stranger.Write(payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	const known, answered, malformed, stray, flood, all = 0, 2, 4, 5, 6, 7
	var got []uint64
	until(t, "all seen", func() bool {
		got = b.counted("guard_verdicts", all)
		return got[answered]+got[malformed]+got[stray]+got[flood] >= 3*each
	})
	if got[malformed] != each || got[stray] != each || got[answered] < 500 || got[answered]+got[flood] < each {
		t.Errorf("the guard counts %d", got)
	}
	b.carry(client, peer, 200)
	if after := b.counted("guard_verdicts", all); after[known] < got[known]+200 {
		t.Errorf("the guard counts %d, then %d", got, after)
	}
	_ = b.process.Process.Kill()
	_ = b.process.Wait()
}
