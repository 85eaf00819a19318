package netem

import (
	"net"
	"net/netip"
)

// Through makes a client reach a server through a proxy without knowing it: what it sends to the server on the returned connection
// goes to the proxy, and what comes from the proxy comes from the server. Everything else is dropped, as by a firewall, so that no
// other way is found. It is for Go clients, as client.Config.Conn.
func Through(conn net.PacketConn, proxy, server netip.AddrPort) net.PacketConn {
	return &through{PacketConn: conn, proxy: plain(proxy), server: plain(server), to: net.UDPAddrFromAddrPort(proxy), as: net.UDPAddrFromAddrPort(server)}
}

type through struct {
	net.PacketConn
	proxy, server netip.AddrPort
	to, as        *net.UDPAddr
}

func (t *through) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := t.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		if at(from) == t.proxy {
			return n, t.as, nil
		}
	}
}

func (t *through) WriteTo(b []byte, to net.Addr) (int, error) {
	if at(to) != t.server {
		return len(b), nil
	}
	return t.PacketConn.WriteTo(b, t.to)
}

// at is the address of a, or none.
func at(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		return plain(u.AddrPort())
	}
	return netip.AddrPort{}
}
