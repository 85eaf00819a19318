package policy_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/turn/policy"
)

// forms is every way to write an IPv4 address as an IPv6 one that something on the way undoes.
func forms(a netip.Addr) map[string]netip.Addr {
	out := map[string]netip.Addr{"plain": a}
	if !a.Is4() {
		return out
	}
	v4 := a.As4()
	embed := func(prefix string, at int) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		copy(b[at:], v4[:])
		return netip.AddrFrom16(b)
	}
	out["mapped"] = netip.AddrFrom16(a.As16())
	out["compatible"] = embed("::", 12)
	out["NAT64"] = embed("64:ff9b::", 12)
	out["local NAT64"] = embed("64:ff9b:1::", 12)
	out["translated"] = embed("::ffff:0:0:0", 12)
	out["6to4"] = embed("2002::1", 2)
	teredo := v4
	binary.BigEndian.PutUint32(teredo[:], ^binary.BigEndian.Uint32(v4[:]))
	b := netip.MustParseAddr("2001:0:4136:e378::").As16()
	copy(b[12:], teredo[:])
	out["Teredo"] = netip.AddrFrom16(b)
	return out
}

// machine has a public address in a public network, whose broadcast reaches its neighbours.
var machine = []netip.Prefix{netip.MustParsePrefix("8.8.4.10/24"), netip.MustParsePrefix("2620:fe::10/64"), netip.MustParsePrefix("9.9.9.9/32")}

// Denied is what must not be reached, by the reason.
var denied = map[string][]string{
	"loopback":    {"127.0.0.1", "127.255.255.254", "::1"},
	"link-local":  {"169.254.169.254", "fe80::1", "fe80::1%eth0"},
	"multicast":   {"224.0.0.1", "239.255.255.255", "ff02::1"},
	"unspecified": {"0.0.0.0", "0.1.2.3", "::"},
	"private":     {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fdff::1", "fec0::1"},
	"reserved":    {"240.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.5", "2001:db8::1", "100::1"},
	"broadcast":   {"255.255.255.255", "8.8.4.255"},
	"own":         {"8.8.4.10", "9.9.9.9", "2620:fe::10"},
}

func TestDeniedByDefault(t *testing.T) {
	p := policy.NewPeers(nil, nil)
	p.Know(machine, nil)
	for why, all := range denied {
		for _, text := range all {
			for form, a := range forms(netip.MustParseAddr(text)) {
				if p.Addr(a) {
					t.Errorf("%s: %s (%s of %s) gets a permission", why, a, form, text)
				}
				if p.Peer(netip.AddrPortFrom(a, 5000)) {
					t.Errorf("%s: %s (%s of %s) is reached", why, a, form, text)
				}
			}
		}
	}
	if p.Addr(netip.Addr{}) || p.Peer(netip.AddrPort{}) {
		t.Error("no address is reached")
	}
}

func TestReached(t *testing.T) {
	p := policy.NewPeers(nil, nil)
	p.Know(machine, nil)
	for _, text := range []string{"8.8.8.8", "8.8.4.9", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2620:fe::11", "64:ff9b::808:808", "2002:808:808::1"} {
		if a := netip.MustParseAddr(text); !p.Addr(a) || !p.Peer(netip.AddrPortFrom(a, 1)) {
			t.Errorf("%s is not reached", text)
		}
	}
	if p.Peer(netip.MustParseAddrPort("8.8.8.8:0")) {
		t.Error("port 0 is reached")
	}
}

func TestMediaPort(t *testing.T) {
	p := policy.NewPeers(nil, []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24")})
	media := netip.MustParseAddrPort("8.8.4.10:8443")
	p.Know(machine, []netip.AddrPort{media, netip.MustParseAddrPort("192.168.1.5:8443"), netip.MustParseAddrPort("9.9.9.9:8443")})
	for text, want := range map[string]bool{
		"8.8.4.10:8443": true, "192.168.1.5:8443": true, "[::ffff:8.8.4.10]:8443": true,
		"8.8.4.10:8444": false, "8.8.4.10:22": false, "192.168.1.6:8443": false, "9.9.9.9:8443": false,
	} {
		if got := p.Peer(netip.MustParseAddrPort(text)); got != want {
			t.Errorf("%s reached: %t", text, got)
		}
	}
	if !p.Addr(media.Addr()) || p.Addr(netip.MustParseAddr("9.9.9.9")) {
		t.Error("permissions do not follow the media port and the deny list")
	}
}

func TestLists(t *testing.T) {
	allow := []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::ffff:10.0.0.0/104"), netip.MustParsePrefix("224.0.0.0/4"),
	}
	p := policy.NewPeers(allow, []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("8.0.0.0/8")})
	for text, want := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.0.0.1": true, "::1": true, "10.1.2.3": true,
		"127.0.0.2": false, "::ffff:127.0.0.2": false, "8.8.8.8": false, "64:ff9b::808:808": false, "224.0.0.1": false, "0.0.0.0": false, "192.168.0.1": false,
	} {
		if got := p.Addr(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s reached: %t", text, got)
		}
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := policy.NewBucket(10, 20)
	for i := range 20 {
		if !b.Take(1, now) {
			t.Fatalf("empty after %d", i)
		}
	}
	if b.Take(1, now) {
		t.Error("more than the burst")
	}
	if now = now.Add(time.Second); !b.Take(10, now) || b.Take(1, now) {
		t.Error("not filled at its rate")
	}
	if b.Spend(1000, now) {
		t.Error("a debt looks like none")
	}
	if now = now.Add(1900 * time.Millisecond); b.Take(1, now) {
		t.Error("the debt is forgotten too soon")
	}
	if now = now.Add(200 * time.Millisecond); !b.Take(1, now) {
		t.Error("a debt outlasts its bucket")
	}
	for _, free := range []*policy.Bucket{nil, policy.NewBucket(0, 0)} {
		if !free.Take(1e9, now) || !free.Spend(1e9, now) {
			t.Error("no rate refuses")
		}
	}
}

func TestStrangers(t *testing.T) {
	now := time.Unix(1000, 0)
	take := func(s *policy.Strangers, text string, n int) (taken int) {
		for range n {
			if s.Take(netip.MustParseAddr(text), now) {
				taken++
			}
		}
		return taken
	}
	s := policy.NewStrangers(10, 1000, 100)
	if got := take(s, "192.0.2.1", 200); got != 50 {
		t.Errorf("%d answers to one source", got)
	}
	if take(s, "::ffff:192.0.2.1", 1) != 0 || take(s, "192.0.2.2", 1) != 1 {
		t.Error("sources are not told apart by their address")
	}
	if take(s, "2001:db8::1", 50) != 50 || take(s, "2001:db8::2", 1) != 0 || take(s, "2001:db8:0:1::2", 1) != 1 {
		t.Error("a customer of IPv6 is not one source")
	}
	// A flood from everywhere: bounded, and the memory too; when it is over there is room again.
	s = policy.NewStrangers(10, 1000, 100)
	taken := 0
	for i := range 5000 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i))
		if s.Take(netip.AddrFrom4(b), now) {
			taken++
		}
	}
	if taken < 100 || taken > 1000 {
		t.Errorf("%d answers to a flood", taken)
	}
	if now = now.Add(10 * time.Second); take(s, "192.0.2.77", 60) != 50 {
		t.Error("a source is refused after the flood")
	}
}

func FuzzPeers(f *testing.F) {
	for _, all := range denied {
		for _, text := range all {
			b := netip.MustParseAddr(text).As16()
			f.Add(b[:])
		}
	}
	p := policy.NewPeers(nil, nil)
	p.Know(machine, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 16 && len(b) != 4 {
			return
		}
		a, _ := netip.AddrFromSlice(b)
		if !p.Addr(a) {
			return
		}
		if x := a.Unmap(); x.IsLoopback() || x.IsPrivate() || x.IsMulticast() || x.IsLinkLocalUnicast() || x.IsUnspecified() || !x.IsGlobalUnicast() {
			t.Errorf("%s is reached", a)
		}
	})
}
