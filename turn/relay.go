package turn

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pion "github.com/pion/turn/v5"

	"github.com/sotto-edge/sotto/turn/policy"
)

var (
	errNoRoom = errors.New("turn: the quota is reached")
	errNoPort = errors.New("turn: no port is free")
	errFamily = errors.New("turn: no address of that family")
)

// relays opens relayed addresses for the library.
type relays struct{ *Server }

// Validate implements pion's RelayAddressGenerator.
func (relays) Validate() error { return nil }

// address returns the address to bind for a network of the library's, and what clients are told instead.
func (r relays) address(network string) (bind, tell netip.Addr, err error) {
	bind, tell = r.cfg.Relay4, r.cfg.Public4
	if network[len(network)-1] == '6' {
		bind, tell = r.cfg.Relay6, r.cfg.Public6
	}
	if !bind.IsValid() {
		return bind, tell, errFamily
	}
	if !tell.IsValid() {
		tell = bind
	}
	return bind, tell, nil
}

// attempts is how many ports are tried before there is none.
const attempts = 64

// open calls listen with free ports of the range, even ones only if need be, or with the one that is wanted.
func (r relays) open(bind netip.Addr, wanted int, even bool, listen func(netip.AddrPort) error) error {
	if wanted != 0 {
		return listen(netip.AddrPortFrom(bind, uint16(wanted)))
	}
	span := int(r.cfg.LastPort) - int(r.cfg.FirstPort) + 1
	for range attempts {
		// Not to be guessed from the ports before (RFC 8656 §21.2.3); math/rand/v2's own source is seeded and strong.
		port := r.cfg.FirstPort + uint16(rand.IntN(span))
		if even && (port%2 != 0 || port == r.cfg.LastPort) {
			continue // the one beside it is reserved, perhaps
		}
		if listen(netip.AddrPortFrom(bind, port)) == nil {
			return nil
		}
	}
	return errNoPort
}

// relay opens a relayed address: what UDP and TCP ones have in common.
func (r relays) relay(c pion.AllocateListenerConfig, tcp bool, listen func(netip.AddrPort) (io.Closer, net.Addr, error)) (*relayed, error) {
	bind, tell, err := r.address(c.Network)
	if err != nil {
		return nil, err
	}
	of, name := r.byID(c.UserID)
	u, ok := r.table.enter(of, name, r.cfg.Limits.Allocations)
	if !ok {
		r.counters.quota.Add(1)
		return nil, errNoRoom
	}
	var under io.Closer
	var at net.Addr
	if err := r.open(bind, c.RequestedPort, name == "", func(a netip.AddrPort) (err error) {
		under, at, err = listen(a)
		return err
	}); err != nil {
		r.table.leave(u)
		return nil, err
	}
	local := addrPort(at)
	out := &relayed{server: r.Server, user: u, under: under, tcp: tcp, local: local, told: netip.AddrPortFrom(tell, local.Port()), free: make(chan struct{})}
	r.remember(out)
	return out, nil
}

// AllocatePacketConn implements pion's RelayAddressGenerator.
func (r relays) AllocatePacketConn(c pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	var conn net.PacketConn
	if bind, _, err := r.address(c.Network); err == nil && c.RequestedPort%2 != 0 {
		conn = r.claim(netip.AddrPortFrom(bind, uint16(c.RequestedPort)))
	}
	at, err := r.relay(c, false, func(a netip.AddrPort) (io.Closer, net.Addr, error) {
		if conn == nil {
			c, err := r.cfg.ListenPeers(a)
			if err != nil {
				return nil, nil, err
			}
			conn = c
		}
		return conn, conn.LocalAddr(), nil
	})
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, nil, err
	}
	return &peers{PacketConn: conn, relayed: at}, net.UDPAddrFromAddrPort(at.told), nil
}

// AllocateListener implements pion's RelayAddressGenerator.
func (r relays) AllocateListener(c pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	var l net.Listener
	at, err := r.relay(c, true, func(a netip.AddrPort) (_ io.Closer, _ net.Addr, err error) {
		if l, err = (&net.ListenConfig{Control: share}).Listen(context.Background(), "tcp", a.String()); err != nil {
			return nil, nil, err
		}
		return l, l.Addr(), nil
	})
	if err != nil {
		return nil, nil, err
	}
	return &doorway{Listener: l, relayed: at}, net.TCPAddrFromAddrPort(at.told), nil
}

// dialLimit is how long a peer may take to accept (RFC 6062 §5.2 wants 30 s at least).
const dialLimit = 30 * time.Second

// AllocateConn implements pion's RelayAddressGenerator: a connection from the relayed address to a peer (RFC 6062 §5.2).
func (r relays) AllocateConn(c pion.AllocateConnConfig) (net.Conn, error) {
	from := r.find(c.LocalAddr)
	if from == nil {
		return nil, net.ErrClosed
	}
	if !from.user.realm.Peers.Peer(addrPort(c.RemoteAddr)) {
		r.counters.forbidden.Add(1)
		return nil, errForbidden
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from.local), Timeout: dialLimit, Control: share}
	conn, err := d.Dial(c.Network, c.RemoteAddr.String())
	if err != nil {
		return nil, err
	}
	return &throttled{Conn: conn, relayed: from}, nil
}

// relayed is what UDP and TCP allocations have in common.
type relayed struct {
	server      *Server
	user        *user
	under       io.Closer // the socket
	tcp         bool
	local, told netip.AddrPort
	alloc       atomic.Pointer[allocation] // nil until it is one

	dontFragment bool        // nothing goes out in fragments
	whole        atomic.Bool // the next packet does not
	once         sync.Once
	released     sync.Once
	free         chan struct{} // closed when the library has forgotten it
}

// close ends what hangs on the relayed address.
func (r *relayed) close() {
	r.once.Do(func() {
		s := r.server
		if a := r.alloc.Load(); a != nil {
			a.end()
			s.counters.deleted.Add(1)
			s.log.Debug("TURN allocation ended", "client", a.at().client, "relayed", a.relayed, "user", a.user.name)
		}
		s.forget(r)
		s.table.leave(r.user)
	})
}

// shut closes the socket, too, which the library may hold no more. The caller holds no lock of the library's.
func (r *relayed) shut() {
	if a := r.alloc.Load(); a != nil {
		r.server.keeper.withdraw(a, calmDown)
	}
	r.close()
	_ = r.under.Close()
}

// release is the library's way to end it: it has struck it from its table before.
func (r *relayed) release() {
	r.close()
	if r.tcp || r.alloc.Load() == nil {
		_ = r.under.Close()
	} else {
		r.server.keeper.tell(wish{socket: r.under}) // behind its flows
	}
	r.released.Do(func() { close(r.free) })
}

// peers is the UDP socket of a relayed address. It lets through what permissions, policy and limits let.
type peers struct {
	net.PacketConn
	*relayed
	known atomic.Pointer[reached] // the last peer that policy let through
}

// reached is a peer that policy lets through.
type reached struct {
	netip.AddrPort
	media bool // of this process
}

// WriteTo relays to a peer.
func (p *peers) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, to := p.alloc.Load(), addrPort(addr)
	if a == nil {
		return len(b), nil
	}
	var peer *reached
	if a.allows(to.Addr()) {
		peer = p.policy(to)
	}
	if peer == nil {
		a.refused.Add(1)
		p.server.counters.refused.Add(1)
		return len(b), nil
	}
	if !a.spend(len(b)) {
		return len(b), nil
	}
	a.up.add(len(b))
	p.server.relayed.up.add(len(b))
	if peer.media {
		if !p.server.cfg.Media.Deliver(p.told, to, b) {
			p.server.counters.sendErrors.Add(1)
		}
		return len(b), nil
	}
	whole := p.whole.Swap(false) && !p.dontFragment
	if whole {
		dontFragment(p.under, p.local.Addr(), true)
	}
	if _, err := p.PacketConn.WriteTo(b, addr); err != nil {
		p.server.counters.sendErrors.Add(1)
	}
	if whole {
		dontFragment(p.under, p.local.Addr(), false)
	}
	return len(b), nil
}

func (p *peers) policy(to netip.AddrPort) *reached {
	if last := p.known.Load(); last != nil && last.AddrPort == to {
		return last
	}
	if !p.user.realm.Peers.Peer(to) {
		return nil
	}
	peer := &reached{AddrPort: to, media: p.server.cfg.Media != nil && p.user.realm.Peers.Media(to)}
	p.known.Store(peer)
	return peer
}

// patience is how many errors in a row a relayed socket survives.
const patience = 16

// ReadFrom waits for a packet of a permitted peer.
func (p *peers) ReadFrom(b []byte) (int, net.Addr, error) {
	for failed := 0; ; {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return 0, nil, err
			}
			p.server.counters.receiveErrors.Add(1)
			if failed++; failed > patience {
				return 0, nil, err
			}
			continue // an ICMP message is no end of the allocation
		}
		a := p.alloc.Load()
		if a == nil {
			continue
		}
		if !a.allows(addrPort(from).Addr()) {
			a.refused.Add(1)
			p.server.counters.refused.Add(1)
			continue
		}
		if !a.spend(n) {
			continue
		}
		a.down.add(n)
		p.server.relayed.down.add(n)
		return n, from, nil
	}
}

// Close ends the allocation. The library stops at the first allocation that does not close, so this one always does.
func (p *peers) Close() error {
	p.release()
	return nil
}

// doorway is the listener of a TCP allocation.
type doorway struct {
	net.Listener
	*relayed
}

// Accept waits for a permitted peer.
func (d *doorway) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a := d.alloc.Load(); a != nil && a.allows(addrPort(c.RemoteAddr()).Addr()) {
			return &throttled{Conn: c, relayed: d.relayed}, nil
		}
		d.server.counters.refused.Add(1)
		_ = c.Close()
	}
}

// Close ends the allocation.
func (d *doorway) Close() error {
	d.release()
	return nil
}

// throttled is a connection to a peer. Bytes are not dropped on a stream: it waits until they are within the limits.
type throttled struct {
	net.Conn
	relayed *relayed
}

// Read takes from the peer.
func (t *throttled) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.account(n, false)
	}
	return n, err
}

// Write gives to the peer.
func (t *throttled) Write(b []byte) (int, error) {
	n, err := t.Conn.Write(b)
	if n > 0 {
		t.account(n, true)
	}
	return n, err
}

func (t *throttled) account(n int, up bool) {
	a := t.relayed.alloc.Load()
	if a == nil {
		return
	}
	if up {
		a.up.add(n)
		t.relayed.server.relayed.up.add(n)
	} else {
		a.down.add(n)
		t.relayed.server.relayed.down.add(n)
	}
	now := time.Now()
	for _, b := range []*policy.Bucket{a.user.bytes, a.user.realm.bytes} {
		if !b.Spend(float64(n), now) {
			select {
			case <-time.After(time.Duration(float64(n) / b.Rate() * float64(time.Second))):
			case <-t.relayed.server.closing:
			}
		}
	}
}

// addrPort is an address of package net as a plain one.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch x := a.(type) {
	case *net.UDPAddr:
		ap = x.AddrPort()
	case *net.TCPAddr:
		ap = x.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
