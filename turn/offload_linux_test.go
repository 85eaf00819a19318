package turn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/pion/stun/v4"

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

// A client binds a channel: from then on the kernel relays, and the server counts what it did. When the allocation ends, so does that.
func TestKernelRelays(t *testing.T) {
	clients, server, peers := netlab.New(t), netlab.New(t), netlab.New(t)
	netlab.Join(netlab.End{Namespace: server, Device: "s0", Addresses: []string{"198.18.1.1/24", "2001:db8:1::1/64"}},
		netlab.End{Namespace: clients, Device: "c0", Addresses: []string{"198.18.1.2/24", "2001:db8:1::2/64"}})
	netlab.Join(netlab.End{Namespace: server, Device: "s1", Addresses: []string{"198.18.2.1/24", "2001:db8:2::1/64"}},
		netlab.End{Namespace: peers, Device: "p0", Addresses: []string{"198.18.2.2/24", "2001:db8:2::2/64"}})
	for _, c := range []struct {
		name                 string
		listen, relayed, far string
		family               []stun.Setter
	}{
		{"IPv4", "198.18.1.1:3478", "198.18.2.1", "198.18.2.2:4000", nil},
		{"IPv6", "[2001:db8:1::1]:3478", "2001:db8:2::1", "[2001:db8:2::2]:4000", []stun.Setter{attr(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			listen, relayed, far := netip.MustParseAddrPort(c.listen), netip.MustParseAddr(c.relayed), netip.MustParseAddrPort(c.far)
			var engine *relay.TCX
			var err error
			server.Do(func() { engine, err = relay.NewTCX(16) })
			if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
				t.Skipf("needs CAP_BPF and CAP_NET_ADMIN: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = engine.Close() })
			s := serve(t, func(cfg *turn.Config) {
				var x turn.Socket
				server.Do(func() { x, err = turn.Listen(listen) })
				if err != nil {
					t.Fatal(err)
				}
				cfg.Sockets = append(cfg.Sockets, x)
				cfg.Relay4, cfg.Relay6 = relayed, netip.Addr{}
				if relayed.Is6() {
					cfg.Relay4, cfg.Relay6 = netip.Addr{}, relayed
				}
				cfg.Peers = policy.NewPeers([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}, nil)
				cfg.ListenPeers = func(a netip.AddrPort) (p net.PacketConn, err error) {
					server.Do(func() { p, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) })
					return p, err
				}
				cfg.Offloader = inside{engine, server}
			})
			var cl *client
			clients.Do(func() { cl = dial(t, listen, name) })
			at := cl.allocate(c.family...)
			var remote *net.UDPConn
			peers.Do(func() { remote, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(far), net.UDPAddrFromAddrPort(at)) })
			if err != nil {
				t.Fatal(err)
			}
			defer remote.Close()
			if _, code := cl.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 7, 0, 0), peer(far)); code != 0 {
				t.Fatalf("channel bind: %d", code)
			}
			flow := turn.Flow{Client: netip.MustParseAddrPort(cl.conn.LocalAddr().String()), Server: listen, Relayed: at, Peer: far, Channel: 0x4007}
			const n = 50
			read := func(c net.Conn) []byte {
				b := make([]byte, 2048)
				_ = c.SetReadDeadline(time.Now().Add(patience))
				n, err := c.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				return b[:n]
			}
			var octets uint64
			for i := 1; i <= n; i++ {
				payload := bytes.Repeat([]byte{byte(i)}, i)
				frame := binary.BigEndian.AppendUint16([]byte{0x40, 7}, uint16(i))
				frame = append(frame, payload...)
				octets += uint64(i)
				if _, err := cl.conn.Write(frame); err != nil {
					t.Fatal(err)
				}
				if got := read(remote); !bytes.Equal(got, payload) {
					t.Fatalf("the peer gets %x, want %x", got, payload)
				}
				if _, err := remote.Write(payload); err != nil {
					t.Fatal(err)
				}
				if got := read(cl.conn); !bytes.Equal(got, frame) {
					t.Fatalf("the client gets %x, want %x", got, frame)
				}
			}
			want := turn.Counters{Packets: n, Bytes: octets}
			if up, down, ok := engine.Count(flow); !ok || up != want || down != want {
				t.Errorf("the kernel has relayed %+v up and %+v down, %v; want %+v", up, down, ok, want)
			}
			// Gone with the allocation: what the client sends now reaches the server, which knows of no channel.
			if _, code := cl.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
				t.Fatalf("refresh to zero: %d", code)
			}
			if _, _, ok := engine.Count(flow); ok {
				t.Error("the kernel still relays after the allocation's end")
			}
			if s.Engine() != "tcx" {
				t.Errorf("the engine is %s", s.Engine())
			}
		})
	}
}
