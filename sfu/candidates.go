package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sotto-edge/sotto/sfu/transport"
)

// candidates lists what clients are offered: public addresses first, then the machine's own, IPv6 before IPv4 (RFC 8421 §4),
// loopback only if there is nothing else; behind them the same by TCP; above all of them the standbys (decision 3: a client keeps a pair of higher priority
// alive without using it).
func candidates(cfg *Config, local netip.AddrPort) ([]transport.Candidate, error) {
	var own []netip.AddrPort
	for _, a := range cfg.Public {
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), local.Port())
		}
		own = append(own, a)
	}
	if !cfg.OnlyPublic || len(own) == 0 {
		if !local.Addr().IsUnspecified() {
			own = append(own, local)
		} else {
			addrs, err := hostAddresses()
			if err != nil {
				return nil, err
			}
			for _, a := range addrs {
				own = append(own, netip.AddrPortFrom(a, local.Port()))
			}
		}
	}
	var out []transport.Candidate
	seen := make(map[netip.AddrPort]bool)
	add := func(a netip.AddrPort, preference int, standby bool) {
		if seen[a] {
			return
		}
		seen[a] = true
		// RFC 8445 §5.1.2.1: type preference 126 of host candidates, component 1.
		prio := uint32(126)<<24 | uint32(preference)<<8 | 255
		out = append(out, transport.Candidate{Addr: a, Priority: prio, Standby: standby, Foundation: fmt.Sprint(len(out) + 1)})
	}
	const base = 32768
	for i, a := range own {
		add(a, base-i, false)
	}
	for i, a := range cfg.Standby {
		add(a, base+1+i, true)
	}
	for i, a := range own {
		if cfg.StreamPort == 0 {
			break
		}
		// RFC 6544 §4.2: the type preference below that of UDP, and in the local one the direction: 4 stands for passive.
		out = append(out, transport.Candidate{
			Addr: netip.AddrPortFrom(a.Addr(), cfg.StreamPort), TCP: true, Foundation: fmt.Sprint(len(out) + 1),
			Priority: uint32(90)<<24 | uint32(4<<13|(8191-i))<<8 | 255,
		})
	}
	if len(own) == 0 {
		return nil, errors.New("sfu: the machine has no address to offer: set a public address")
	}
	return out, nil
}

// hostAddresses returns the addresses of the machine that a client can reach it at.
func hostAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("sfu: list addresses: %w", err)
	}
	var v6, v4, loop []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		switch ip := p.Addr().Unmap(); {
		case ip.IsLoopback():
			if ip.Is4() {
				loop = append(loop, ip)
			}
		case ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	if len(v6)+len(v4) == 0 {
		return loop, nil
	}
	return append(v6, v4...), nil
}
