package turn_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
)

// forms is every way to write an IPv4 address as an IPv6 one that something on the way undoes.
func forms(a netip.Addr) []netip.Addr {
	out := []netip.Addr{a}
	if !a.Is4() {
		return out
	}
	v4 := a.As4()
	for _, e := range []struct {
		prefix string
		at     int
	}{{"::ffff:0:0", 12}, {"::", 12}, {"64:ff9b::", 12}, {"64:ff9b:1::", 12}, {"::ffff:0:0:0", 12}, {"2002::1", 2}} {
		b := netip.MustParseAddr(e.prefix).As16()
		copy(b[e.at:], v4[:])
		out = append(out, netip.AddrFrom16(b))
	}
	teredo := netip.MustParseAddr("2001:0:4136:e378::").As16()
	for i, x := range v4 {
		teredo[12+i] = ^x // RFC 4380 §4
	}
	return append(out, netip.AddrFrom16(teredo))
}

// TestDeniedPeers [A4]: every denied address, in every form, by every request that names a peer.
func TestDeniedPeers(t *testing.T) {
	peers := policy.NewPeers(nil, nil)
	own := netip.MustParsePrefix("8.8.4.10/24")
	peers.Know([]netip.Prefix{own}, nil)
	s := serve(t, func(c *turn.Config) { c.Peers = peers })
	udp := dial(t, s.udp, name)
	udp.allocate()
	tcp, err := net.Dial("tcp", s.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	stream := dial(t, s.udp, name)
	stream.conn = tcp
	both := dial(t, s.udp, "bob")
	if _, code := both.ask(stun.MethodAllocate, wantUDP, bothFamilies); code != 0 {
		t.Fatalf("both families: %d", code)
	}
	if _, code := stream.ask(stun.MethodAllocate, wantTCP); code != 0 {
		t.Fatalf("a TCP allocation: %d", code)
	}
	tried := 0
	for _, text := range []string{
		"127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "240.0.0.1",
		"255.255.255.255", "198.18.0.1", "8.8.4.10", "8.8.4.255", "::1", "::", "fe80::1", "ff02::1", "fc00::1", "fec0::1", "2001:db8::1", "100::1",
		"169.254.0.1", "127.255.255.254", "239.1.2.3", "192.0.0.8", "192.88.99.1", "203.0.113.1", "64:ff9b:1::a00:1", "ff0e::1", "febf::1", "fdff::1",
	} {
		for _, a := range forms(netip.MustParseAddr(text)) {
			to := peer(netip.AddrPortFrom(a, 5000))
			for _, r := range []struct {
				c       *client
				method  stun.Method
				setters []stun.Setter
			}{
				{udp, stun.MethodCreatePermission, []stun.Setter{to}},
				{udp, stun.MethodCreatePermission, []stun.Setter{peer(netip.MustParseAddrPort("9.9.9.9:1")), to}},
				{udp, stun.MethodChannelBind, []stun.Setter{attr(stun.AttrChannelNumber, 0x40, 1, 0, 0), to}},
				{stream, stun.MethodConnect, []stun.Setter{to}},
				{stream, stun.MethodCreatePermission, []stun.Setter{to}},
				{both, stun.MethodCreatePermission, []stun.Setter{to, peer(netip.MustParseAddrPort("[2620:fe::9]:1"))}},
				{both, stun.MethodChannelBind, []stun.Setter{attr(stun.AttrChannelNumber, 0x40, 1, 0, 0), to}},
			} {
				if _, code := r.c.ask(r.method, r.setters...); code != 403 {
					t.Errorf("%s to %s: %d, want 403", r.method, a, code)
				}
				tried++
			}
			// Indications are not answered; they are not relayed either.
			for _, c := range []*client{udp, both} {
				c.indicate(netip.AddrPortFrom(a, 5000), []byte{1, 2, 3})
			}
		}
	}
	if got := s.Stats(); got.Requests.PeerForbidden != uint64(tried) || got.Up.Packets != 0 {
		t.Errorf("%d tried: %+v", tried, got)
	}
	for _, a := range s.Allocations() {
		if len(a.Permissions)+len(a.Channels) != 0 {
			t.Errorf("%+v", a)
		}
	}
}

// TestMediaPort: the appliance's own media port is a peer, everything else of its own is not.
func TestMediaPort(t *testing.T) {
	media, other := echo(t, loopback4), echo(t, loopback4)
	peers := policy.NewPeers(nil, nil)
	peers.Know(nil, []netip.AddrPort{media})
	s := serve(t, func(c *turn.Config) { c.Peers = peers })
	c := dial(t, s.udp, name)
	c.allocate()
	for at, want := range map[netip.AddrPort]int{media: 0, other: 403} {
		channel := attr(stun.AttrChannelNumber, 0x40, byte(at.Port()), 0, 0)
		if _, code := c.ask(stun.MethodChannelBind, channel, peer(at)); code != want {
			t.Errorf("a channel to %s: %d", at, code)
		}
	}
	if _, code := c.ask(stun.MethodCreatePermission, peer(other)); code != 0 {
		t.Errorf("a permission, which is for an address: %d", code)
	}
	send := func(to netip.AddrPort) {
		m := build(t, stun.MethodSend, peer(to), attr(stun.AttrData, 1, 2, 3))
		m.SetType(stun.NewType(stun.MethodSend, stun.ClassIndication))
		if _, err := c.conn.Write(m.Raw); err != nil {
			t.Fatal(err)
		}
	}
	send(other)
	if _, err := c.conn.Write([]byte{0x40, byte(media.Port()), 0, 4, 1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.conn.Read(b); err != nil || n != 8 || b[0] != 0x40 {
		t.Errorf("%x, %v", b[:n], err)
	}
	if got := s.Stats(); got.Up.Packets != 1 || got.Dropped.NoPermission != 1 {
		t.Errorf("%+v", got)
	}
}

// TestQuota [A4]: allocations of one user, and of all.
func TestQuota(t *testing.T) {
	s := serve(t, func(c *turn.Config) { c.Limits.UserAllocations, c.Limits.Allocations = 2, 3 })
	first, second := dial(t, s.udp, name), dial(t, s.udp, name)
	first.allocate()
	second.allocate()
	third := dial(t, s.udp, name)
	if _, code := third.ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("one too many of a user: %d", code)
	}
	dial(t, s.udp, "bob").allocate()
	if _, code := dial(t, s.udp, "bob").ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("one too many of all: %d", code)
	}
	if _, code := first.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
		t.Fatalf("refresh to zero: %d", code)
	}
	third.allocate()
	if got := s.Stats(); got.Requests.QuotaRefused != 2 || got.Allocations.UDP != 3 {
		t.Errorf("%+v", got)
	}
}

// TestAlternateServer [C14]: who finds no room is sent to another server, of his family, unless the quota is his own (RFC 8489 §10).
func TestAlternateServer(t *testing.T) {
	first, second := netip.MustParseAddrPort("127.0.0.1:1001"), netip.MustParseAddrPort("127.0.0.2:1002")
	s := serve(t, func(c *turn.Config) {
		c.Limits.UserAllocations, c.Limits.Allocations = 1, 2
		c.Alternates = []netip.AddrPort{first, netip.MustParseAddrPort("[2001:db8::1]:1003"), second}
	})
	dial(t, s.udp, name).allocate()
	if _, code := dial(t, s.udp, name).ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("beyond one's own quota: %d", code)
	}
	dial(t, s.udp, "bob").allocate()
	seen := map[string]int{}
	for _, at := range []netip.AddrPort{s.udp, s.udp, s.udp, s.udp, s.udp6} {
		m, code := dial(t, at, name).ask(stun.MethodAllocate, wantUDP)
		var to stun.AlternateServer
		if err := to.GetFrom(m); code != 300 || err != nil {
			t.Fatalf("%d, %v", code, err)
		}
		seen[net.JoinHostPort(to.IP.String(), fmt.Sprint(to.Port))]++
	}
	if len(seen) != 3 || seen[first.String()] == 0 || seen[second.String()] == 0 || seen["[2001:db8::1]:1003"] != 1 || s.Stats().Requests.SentAway != 5 {
		t.Errorf("%v, %+v", seen, s.Stats().Requests)
	}
}

// TestPermissionQuota: one allocation cannot fill the memory.
func TestPermissionQuota(t *testing.T) {
	s := serve(t, func(c *turn.Config) { c.Limits.Permissions = 5 })
	c := dial(t, s.udp, name)
	c.allocate()
	for i := range 7 {
		want := 0
		if i >= 5 {
			want = 508
		}
		if _, code := c.ask(stun.MethodCreatePermission, peer(netip.MustParseAddrPort(fmt.Sprintf("127.0.1.%d:1", i)))); code != want {
			t.Errorf("permission %d: %d, want %d", i, code, want)
		}
	}
	for i := range 8 {
		n := byte(i)
		_, code := c.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, n, 0, 0), peer(netip.AddrPortFrom(netip.MustParseAddr("127.0.1.1"), 100+uint16(i))))
		if i < 5 && code != 0 || i > 6 && code != 508 {
			t.Errorf("channel %d: %d", i, code)
		}
	}
}

// TestStrangersAreFewAndSmall: who has proven nothing gets little, and not much more than it sent.
func TestStrangersAreFewAndSmall(t *testing.T) {
	s := serve(t, func(c *turn.Config) { c.Limits = turn.Limits{SourceRequests: 10, Requests: 1000} })
	established := dial(t, s.udp, name)
	established.allocate()
	stranger := dial(t, s.udp, "mallory")
	var sent, got, answers int
	for range 200 {
		m := build(t, stun.MethodAllocate, wantUDP)
		sent += len(m.Raw)
		if _, err := stranger.conn.Write(m.Raw); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 2048)
	_ = stranger.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for {
		n, err := stranger.conn.Read(b)
		if err != nil {
			break
		}
		got += n
		answers++
	}
	if answers > 60 || got > 2*sent {
		t.Errorf("%d answers, %d bytes for %d", answers, got, sent)
	}
	// Who holds an allocation is asked nothing of that.
	if _, code := established.ask(stun.MethodRefresh); code != 0 {
		t.Errorf("refresh beside a flood: %d", code)
	}
	if s.Stats().Dropped.RateLimited < 100 {
		t.Errorf("%+v", s.Stats().Dropped)
	}
}

// TestBandwidth [A4]: what a user may relay in a second is what is relayed.
func TestBandwidth(t *testing.T) {
	s := serve(t, func(c *turn.Config) { c.Limits.UserBytes = 10000 })
	far := echo(t, loopback4)
	c := dial(t, s.udp, name)
	c.allocate()
	if _, code := c.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 1, 0, 0), peer(far)); code != 0 {
		t.Fatal(code)
	}
	frame := make([]byte, 1004)
	binary.BigEndian.PutUint32(frame, 0x40010000|1000)
	for range 100 {
		if _, err := c.conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	// The server reads in order: when it answers, it has seen all.
	if _, code := c.ask(stun.MethodRefresh); code != 0 {
		t.Fatal(code)
	}
	got := s.Stats()
	if sum := got.Up.Bytes + got.Down.Bytes; sum < 5000 || sum > 15000 || got.Dropped.OverBandwidth < 80 {
		t.Errorf("%+v", got)
	}
}
