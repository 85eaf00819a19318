package turn_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/internal/netlab"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
)

// TestFlood [A4]: strangers who ask for everything, from many addresses, cost an established relay no packet. The rates are moderate,
// for a machine that does other things beside; on one that loses packets without strangers nothing is judged.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes its time")
	}
	clients, server, peers, strangers := netlab.New(t), netlab.New(t), netlab.New(t), netlab.New(t)
	for device, c := range map[string]struct {
		far          *netlab.Namespace
		ours, theirs string
	}{
		"s0": {clients, "198.18.1.1/24", "198.18.1.2/24"}, "s1": {peers, "198.18.2.1/24", "198.18.2.2/24"}, "s2": {strangers, "198.18.3.1/24", "198.18.3.2/24"},
	} {
		netlab.Join(netlab.End{Namespace: server, Device: device, Addresses: []string{c.ours}}, netlab.End{Namespace: c.far, Device: "x0", Addresses: []string{c.theirs}})
	}
	const sources = 40
	for i := range sources {
		strangers.IP("addr add 198.18.3." + string([]byte{'1', byte('0' + i/10), byte('0' + i%10)}) + "/24 dev x0")
	}
	clients.IP("route add 198.18.3.0/24 via 198.18.1.1")
	strangers.IP("route add 198.18.1.0/24 via 198.18.3.1")
	listen := netip.MustParseAddrPort("198.18.1.1:3478")
	s := serve(t, func(cfg *turn.Config) {
		var x turn.Socket
		var err error
		server.Do(func() { x, err = turn.Listen(listen) })
		if err != nil {
			t.Fatal(err)
		}
		cfg.Sockets = append(cfg.Sockets, x)
		cfg.Relay4, cfg.Relay6 = netip.MustParseAddr("198.18.2.1"), netip.Addr{}
		cfg.Peers = policy.NewPeers([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, nil)
		cfg.ListenPeers = func(a netip.AddrPort) (p net.PacketConn, err error) {
			server.Do(func() { p, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) })
			return p, err
		}
		cfg.Limits = turn.Limits{} // those of an appliance
	})
	var far netip.AddrPort
	peers.Do(func() { far = echo(t, netip.MustParseAddr("198.18.2.2")) })
	var c *client
	clients.Do(func() { c = dial(t, listen, name) })
	c.allocate()
	if _, code := c.ask(stun.MethodChannelBind, channelNumber(0x4001), peer(far)); code != 0 {
		t.Fatal(code)
	}

	// relay sends numbered packets at a steady rate and returns how many do not come back.
	const packets, every = 400, 5 * time.Millisecond
	relay := func() (missing int) {
		seen := make(map[uint32]bool)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 2048)
			for len(seen) < packets {
				_ = c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
				n, err := c.conn.Read(b)
				if err != nil {
					return
				}
				if n == 164 {
					seen[binary.BigEndian.Uint32(b[4:])] = true
				}
			}
		}()
		frame := make([]byte, 164)
		binary.BigEndian.PutUint32(frame, 0x40010000|160)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range uint32(packets) {
			binary.BigEndian.PutUint32(frame[4:], i)
			if _, err := c.conn.Write(frame); err != nil {
				t.Error(err)
			}
			<-tick.C
		}
		<-done
		return packets - len(seen)
	}
	if missing := relay(); missing > 0 {
		t.Skipf("%d of %d packets are lost without strangers", missing, packets)
	}

	// 40 addresses, ten packets of each kind in turn, 10 000 a second at most.
	all := kinds(t)
	var kindsOf [][]byte
	for _, b := range all {
		kindsOf = append(kindsOf, b)
	}
	wrong := stun.NewLongTermIntegrity(name, realm, "wrong")
	kindsOf = append(kindsOf, build(t, stun.MethodAllocate, wantUDP, stun.NewUsername(name), c.realm, c.nonce, wrong).Raw, []byte("nothing at all"))
	var conns []net.Conn
	strangers.Do(func() {
		for i := range sources {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(198, 18, 3, byte(100+i))}}
			x, err := d.Dial("udp", listen.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = x.Close() })
			conns = append(conns, x)
		}
	})
	for attempt := 1; ; attempt++ {
		var flood sync.WaitGroup
		stop := make(chan struct{})
		sent := 0
		flood.Add(1)
		go func() {
			defer flood.Done()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				for j := range 10 {
					if _, err := conns[(10*i+j)%sources].Write(kindsOf[(i+j)%len(kindsOf)]); err == nil {
						sent++
					}
				}
			}
		}()
		before := s.Stats()
		missing := relay()
		close(stop)
		flood.Wait()
		got := s.Stats()
		limited, malformed := got.Dropped.RateLimited-before.Dropped.RateLimited, got.Dropped.Malformed-before.Dropped.Malformed
		answered := got.Auth.None - before.Auth.None + got.Requests.Bindings - before.Requests.Bindings + got.Auth.WrongPassword - before.Auth.WrongPassword
		t.Logf("%d packets of strangers, %d limited, %d malformed, %d answered; %d of %d relayed packets lost", sent, limited, malformed, answered, missing, packets)
		if sent < 2000 || limited == 0 || answered > sources*(100+20*10) {
			t.Errorf("it was no flood: %+v", got)
		}
		if missing == 0 {
			return
		}
		if attempt == 3 {
			t.Fatalf("%d of %d packets are lost beside strangers", missing, packets)
		}
	}
}

// TestDontFragment [C14]: what a client wants whole is not sent in pieces (RFC 8656 §15): one Send indication, or all of an allocation.
func TestDontFragment(t *testing.T) {
	clients, server, peers := netlab.New(t), netlab.New(t), netlab.New(t)
	netlab.Join(netlab.End{Namespace: server, Device: "s0", Addresses: []string{"198.18.1.1/24"}}, netlab.End{Namespace: clients, Device: "c0", Addresses: []string{"198.18.1.2/24"}})
	netlab.Join(netlab.End{Namespace: server, Device: "s1", Addresses: []string{"198.18.2.1/24"}}, netlab.End{Namespace: peers, Device: "p0", Addresses: []string{"198.18.2.2/24"}})
	server.IP("link set s1 mtu 800")
	listen := netip.MustParseAddrPort("198.18.1.1:3478")
	s := serve(t, func(cfg *turn.Config) {
		var x turn.Socket
		var err error
		server.Do(func() { x, err = turn.Listen(listen) })
		if err != nil {
			t.Fatal(err)
		}
		cfg.Sockets = append(cfg.Sockets, x)
		cfg.Relay4, cfg.Relay6 = netip.MustParseAddr("198.18.2.1"), netip.Addr{}
		cfg.Peers = policy.NewPeers([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, nil)
		cfg.ListenPeers = func(a netip.AddrPort) (p net.PacketConn, err error) {
			server.Do(func() { p, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) })
			return p, err
		}
	})
	var far *net.UDPConn
	var err error
	peers.Do(func() {
		far, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.18.2.2:4000")))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	b := make([]byte, 2048)
	for _, tt := range []struct {
		title  string
		whole  bool
		mobile bool
	}{{"pieces", false, false}, {"whole", true, false}, {"pieces, moving", false, true}} {
		var c *client
		clients.Do(func() { c = dial(t, listen, name) })
		var setters []stun.Setter
		if tt.whole {
			setters = append(setters, attr(stun.AttrDontFragment))
		}
		if tt.mobile {
			setters = append(setters, attr(attrMobilityTicket))
		}
		c.allocate(setters...)
		if _, code := c.ask(stun.MethodCreatePermission, peer(to)); code != 0 {
			t.Fatal(code)
		}
		before := s.Stats().Dropped.SendErrors
		// Long ones with and without the wish, each followed by a short one that tells that it has been dealt with.
		for i, wish := range []bool{false, true, false} {
			var more []stun.Setter
			if wish {
				more = append(more, attr(stun.AttrDontFragment))
			}
			c.indicate(to, make([]byte, 1200), more...)
			c.indicate(to, []byte{byte(i)})
			want := []int{1200, 1}
			if wish || tt.whole {
				want = want[1:]
			}
			for _, n := range want {
				_ = far.SetReadDeadline(time.Now().Add(patience))
				if got, err := far.Read(b); err != nil || got != n {
					t.Errorf("%s, %d: %d bytes come, want %d, %v", tt.title, i, got, n, err)
				}
			}
		}
		refused := uint64(1)
		if tt.whole {
			refused = 3
		}
		if got := s.Stats().Dropped.SendErrors - before; got != refused {
			t.Errorf("%s: %d were not sent", tt.title, got)
		}
	}
}
