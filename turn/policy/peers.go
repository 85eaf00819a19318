// Package policy says what the users of a relay may do: which peers they reach, and how much of the relay they take.
//
// It promises that an address which means one of this machine, of its networks or of everybody is refused in whatever form it is
// written, and that what is counted is bounded in memory. It reads no packets and no clock.
package policy

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// Peers says which peers may be relayed to. What it knows of this machine can be replaced while it is in use.
type Peers struct {
	allow, deny []netip.Prefix
	machine     atomic.Pointer[machine]
}

type machine struct {
	own   []netip.Prefix
	media []netip.AddrPort
}

// NewPeers makes a policy: what is in allow is reached although it would be refused, what is in deny is not although it would be.
func NewPeers(allow, deny []netip.Prefix) *Peers {
	p := &Peers{}
	for _, x := range allow {
		p.allow = append(p.allow, plainPrefix(x))
	}
	for _, x := range deny {
		p.deny = append(p.deny, plainPrefix(x))
	}
	p.machine.Store(&machine{})
	return p
}

// Know takes over the addresses of this machine, each with the network that it is in, and those of its own that may be reached all
// the same: the media port.
func (p *Peers) Know(own []netip.Prefix, media []netip.AddrPort) {
	m := &machine{media: make([]netip.AddrPort, 0, len(media))}
	for _, x := range own {
		m.own = append(m.own, plainPrefix(x))
	}
	for _, x := range media {
		m.media = append(m.media, netip.AddrPortFrom(x.Addr().Unmap().WithZone(""), x.Port()))
	}
	p.machine.Store(m)
}

// Addr says whether there is a port of that address that may be reached: permissions (RFC 8656 §9) are for addresses.
func (p *Peers) Addr(a netip.Addr) bool {
	a = plain(a)
	if p.addr(a) {
		return true
	}
	return !p.denied(a) && slices.ContainsFunc(p.machine.Load().media, func(m netip.AddrPort) bool { return m.Addr() == a })
}

// Peer says whether this very peer may be reached.
func (p *Peers) Peer(ap netip.AddrPort) bool {
	if ap.Port() == 0 {
		return false
	}
	a := plain(ap.Addr())
	return p.addr(a) || !p.denied(a) && p.Media(ap)
}

// Media says whether the peer is this appliance's own media port.
func (p *Peers) Media(ap netip.AddrPort) bool {
	return slices.Contains(p.machine.Load().media, netip.AddrPortFrom(plain(ap.Addr()), ap.Port()))
}

func (p *Peers) denied(a netip.Addr) bool {
	return !a.IsValid() || within(never, a) || within(p.deny, a)
}

// addr says whether every port of the address may be reached.
func (p *Peers) addr(a netip.Addr) bool {
	switch inner, embedded := embeds(a); {
	case p.denied(a):
		return false
	case within(p.allow, a):
		return true
	case embedded:
		return !within(refused, a) && p.addr(inner)
	case within(refused, a):
		return false
	}
	for _, own := range p.machine.Load().own {
		if a == own.Addr() || a == broadcast(own) {
			return false
		}
	}
	return true
}

// plain is an address without its disguises that every host takes off.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func plainPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return netip.PrefixFrom(p.Addr().WithZone(""), p.Bits())
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// broadcast is the last address of an IPv4 network, which all of its hosts hear.
func broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// embeds returns the IPv4 address that a translator on the way would reach by the IPv6 one.
func embeds(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a): // RFC 6052 §2.1
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a): // RFC 3056 §2
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")

	// never are addresses that no configuration opens: they are not those of one host.
	never = prefixes(
		"0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32",
		"::/128", "ff00::/8",
	)
	// refused are addresses of this machine and of networks behind it, and those that belong to nobody (RFC 6890).
	refused = prefixes(
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
		"192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "192.88.99.0/24", "240.0.0.0/4",
		"::/96",           // loopback, and IPv4-compatible addresses (RFC 4291 §2.5.5.1)
		"fc00::/7",        // unique local
		"fe80::/10",       // link-local
		"fec0::/10",       // site-local, once
		"64:ff9b:1::/48",  // translators of a network's own (RFC 8215)
		"::ffff:0:0:0/96", // IPv4-translated (RFC 2765)
		"2001::/23",       // Teredo, which hides an IPv4 address, and other protocols
		"2001:db8::/32", "3fff::/20", "100::/64", "5f00::/16",
	)
)

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, text := range all {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}
