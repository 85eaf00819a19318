package turn

import (
	"errors"
	"net"
	"net/netip"

	"github.com/sotto-edge/sotto/bench/internal/netns"
)

// place is where client, server and peer are: three machines in namespaces, or loopback.
type place struct {
	client, server, peer *netns.Machine // nil on loopback
}

// newPlace makes the machines. Clients have addresses of their own each, as many as are wanted: all of their networks are theirs.
func newPlace(loopback, plain bool) (_ *place, err error) {
	p := &place{}
	if loopback || netns.Possible() != nil {
		return p, nil
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, m := range []**netns.Machine{&p.client, &p.server, &p.peer} {
		if *m, err = netns.NewMachine(); err != nil {
			return nil, err
		}
	}
	return p, errors.Join(
		netns.Join(netns.End{Machine: p.server, Device: "s0", Addresses: []string{"198.18.1.1/24", "2001:db8:1::1/64"}},
			netns.End{Machine: p.client, Device: "c0", Addresses: []string{"198.18.1.2/24", "2001:db8:1::2/64"}}, plain),
		netns.Join(netns.End{Machine: p.server, Device: "s1", Addresses: []string{"198.18.2.1/24", "2001:db8:2::1/64"}},
			netns.End{Machine: p.peer, Device: "p0", Addresses: []string{"198.18.2.2/24", "2001:db8:2::2/64"}}, plain),
		p.client.IP("route add local 198.18.64.0/18 dev lo"), p.client.IP("-6 route add local 2001:db8:40::/48 dev lo"),
		p.server.IP("route add 198.18.64.0/18 via 198.18.1.2"), p.server.IP("-6 route add 2001:db8:40::/48 via 2001:db8:1::2"),
	)
}

func (p *place) close() {
	for _, m := range []*netns.Machine{p.client, p.server, p.peer} {
		if m != nil {
			m.Close()
		}
	}
}

// in calls f on a machine.
func in(m *netns.Machine, f func()) {
	if m == nil {
		f()
		return
	}
	m.Do(f)
}

// addresses are those of one family. Servers count what one source asks for, so that each client has a source of its own.
type addresses struct {
	listen, relay, peer netip.Addr
	client              func(i int) netip.Addr
}

func (p *place) addresses(family string) addresses {
	v6 := family == "ipv6"
	switch {
	case p.server == nil && v6:
		lo := netip.IPv6Loopback()
		return addresses{lo, lo, lo, func(int) netip.Addr { return lo }}
	case p.server == nil:
		lo := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		return addresses{lo, lo, lo, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}) }}
	case v6: // a network of 64 bits for each
		return addresses{
			netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::1"), netip.MustParseAddr("2001:db8:2::2"),
			func(i int) netip.Addr {
				return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: 0x40, 6: byte(i >> 8), 7: byte(i), 15: 1})
			},
		}
	}
	return addresses{
		netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("198.18.2.1"), netip.MustParseAddr("198.18.2.2"),
		func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 64 + byte(i>>8), byte(i)}) },
	}
}

// freePort is one of loopback that nobody has, for a server that has to be told of one.
func freePort(at netip.Addr) (uint16, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return 0, err
	}
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return port, c.Close()
}
