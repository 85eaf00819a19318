package udp

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a batched UDP socket. It belongs to one thread; Wake, Post, Stats, Features and
// LocalAddr may be called from any.
type Socket struct {
	// Fixed by Listen.
	fd       int
	aside    int        // the queue of what can wait is a socket too, of the same address; -1 without
	inet6    bool       // AF_INET6, so sockaddrs and control messages are IPv6's
	pinned   netip.Addr // the specific address bound to: Local of every path
	local    netip.AddrPort
	features Features
	group    int // how many sockets share the address

	// Shared with other goroutines.
	counters counters
	gso      atomic.Bool
	awake    atomic.Bool  // a wake-up is in the eventfd
	wakeMu   sync.Mutex   // keeps the eventfd open while Wake writes to it
	postMu   sync.RWMutex // keeps the socket open while Post writes to it

	// The owner's.
	wait  waiter
	woken [8]byte // what counts wake-ups is read into it
	rx    receiver
	late  receiver // of what can wait
	tx    sender
}

func newSocket(group int) *Socket {
	return &Socket{fd: -1, aside: -1, group: group, wait: waiter{epoll: -1, timer: -1, event: -1}}
}

// Listen opens a socket.
func Listen(cfg Config) (*Socket, error) {
	s := newSocket(1)
	if err := s.open(cfg, alone); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// ListenGroup opens n sockets that share an address, each with a queue of its own for what can wait where the kernel can tell it apart.
// The kernel spreads peers over them, by a hash of the source as long as Steer has not said otherwise. It fails when anybody else has
// the address already.
func ListenGroup(cfg Config, n int) (group []*Socket, err error) {
	defer func() {
		if err != nil {
			for _, s := range group {
				_ = s.Close()
			}
			group = nil
		}
	}()
	how := first
	for range n {
		s := newSocket(n)
		group = append(group, s)
		if err := s.open(cfg, how); err != nil {
			return group, err
		}
		how, cfg.Listen = further, netip.AddrPortFrom(cfg.Listen.Addr(), s.local.Port())
		if err := s.setAside(cfg); err != nil {
			return group, err
		}
	}
	for _, s := range group {
		s.features.Aside = true
	}
	if _, err := group[0].Steer(nil); err != nil { // an old kernel: everything comes together
		for _, s := range group {
			_ = unix.Close(s.aside)
			s.aside, s.features.Aside = -1, false
		}
	}
	return group, nil
}

// sharing is what a socket's address is to others.
type sharing uint8

const (
	alone   sharing = iota
	first           // others may follow, and none may have been there before
	further         // it joins the first
)

func (s *Socket) open(cfg Config, how sharing) error {
	if err := s.bind(cfg, how); err != nil {
		return err
	}
	return s.setUp(cfg)
}

// setAside opens the queue of what can wait.
func (s *Socket) setAside(cfg Config) error {
	family := unix.AF_INET
	if s.inet6 {
		family = unix.AF_INET6
	}
	fd, err := s.bindTo(cfg, further, family, s.local.Addr())
	if err != nil {
		return err
	}
	s.aside = fd
	if err := unix.EpollCtl(s.wait.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Fd: int32(fd)}); err != nil {
		return &listenError{"wait for", cfg.Listen, err}
	}
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, cfg.ReceiveBuffer)
	gro := s.features.GRO && unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	s.late.init(s, fd, gro)
	s.late.stamped = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) == nil
	return nil
}

// setUp gives the bound socket all but its address.
func (s *Socket) setUp(cfg Config) error {
	if err := s.wait.open(s.fd); err != nil {
		return &listenError{"wait for", cfg.Listen, err}
	}

	s.features.LocalAddr = true
	s.features.ReceiveBuffer = setBuffer(s.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, cfg.ReceiveBuffer)
	s.features.SendBuffer = setBuffer(s.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, cfg.SendBuffer)
	if !cfg.NoGSO {
		_, err := unix.GetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_SEGMENT)
		s.gso.Store(err == nil)
	}
	if !cfg.NoGRO {
		s.features.GRO = unix.SetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	}
	s.rx.init(s, s.fd, s.features.GRO)
	s.tx.init()
	return nil
}

// bind makes the socket and binds it: to both families for a wildcard where there is
// IPv6, else to the family of the address.
func (s *Socket) bind(cfg Config, how sharing) (err error) {
	addr := cfg.Listen.Addr().Unmap()
	switch {
	case wildcard(cfg.Listen):
		s.fd, err = s.bindTo(cfg, how, unix.AF_INET6, netip.IPv6Unspecified())
		if err == nil {
			s.features.Family = DualStack
			return nil
		}
		if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err // a port in use is not a reason to serve half of the peers
		}
		s.features.Family = IPv4
		s.fd, err = s.bindTo(cfg, how, unix.AF_INET, netip.IPv4Unspecified())
	case addr.Is4():
		s.features.Family = IPv4
		s.pinned = addr
		s.fd, err = s.bindTo(cfg, how, unix.AF_INET, addr)
	default:
		s.features.Family = IPv6
		s.pinned = addr
		s.fd, err = s.bindTo(cfg, how, unix.AF_INET6, addr)
	}
	return err
}

// bindTo returns a socket that is bound to addr and the port of cfg, or -1.
func (s *Socket) bindTo(cfg Config, how sharing, family int, addr netip.Addr) (fd int, err error) {
	fail := func(op string, err error) (int, error) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return -1, &listenError{op, netip.AddrPortFrom(addr, cfg.Listen.Port()), err}
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail("socket for", err)
	}
	s.inet6 = family == unix.AF_INET6

	if how == further {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail("reuse port of", err)
		}
	}
	var sa unix.Sockaddr
	if s.inet6 {
		only := 1
		if addr.IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fail("choose families of", err)
		}
		zone, err := zoneIndex(addr.Zone())
		if err != nil {
			return fail("find zone of", err)
		}
		sa = &unix.SockaddrInet6{Addr: addr.As16(), Port: int(cfg.Listen.Port()), ZoneId: zone}
	} else {
		sa = &unix.SockaddrInet4{Addr: addr.As4(), Port: int(cfg.Listen.Port())}
	}
	if !s.pinned.IsValid() {
		// Before bind, so that no datagram is queued without its address. On an IPv6
		// socket this covers IPv4 too: the kernel maps the address.
		if s.inet6 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
		if err != nil {
			return fail("ask for local addresses of", err)
		}
	}
	// A kernel without it only leaves ReceiveDrops at zero.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if err := unix.Bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	if how == first { // only now: it was to fail if somebody was there before
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail("reuse port of", err)
		}
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fail("name of", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(addr, uint16(b.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(addr, uint16(b.Port))
	}
	return fd, nil
}

// setBuffer asks for a kernel buffer beyond the system's limit, then within it, and
// tells what came of it.
func setBuffer(fd, force, plain, size int) int {
	if size <= 0 {
		size = defaultBuffer
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		// Never fails for a size: the kernel takes what its limit allows.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain)
	if err != nil {
		return 0
	}
	return got / 2 // the kernel doubles what is asked, for its own bookkeeping
}

// zoneIndex finds the interface of an IPv6 zone, given by number or by name.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(ifi.Index), nil
}

// LocalAddr is the address bound, with the port that the kernel chose.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Features tells what the kernel granted.
func (s *Socket) Features() Features {
	f := s.features
	f.GSO = s.gso.Load()
	return f
}

// Stats is a snapshot of the counters.
func (s *Socket) Stats() Stats { return s.counters.snapshot() }

// Close closes the socket. The owner calls it after its last use of the socket; others
// may still call Wake, Post, Stats, Features and LocalAddr. What was queued and not flushed
// is lost. A second Close does nothing.
func (s *Socket) Close() error {
	s.postMu.Lock()
	defer s.postMu.Unlock()
	s.wakeMu.Lock()
	s.wait.close()
	s.wakeMu.Unlock()
	if s.aside >= 0 {
		_ = unix.Close(s.aside)
		s.aside = -1
	}
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// sockaddr has room for either family's address.
type sockaddr = unix.RawSockaddrInet6

// putSockaddr writes ap for the socket's family and returns its length, 0 when the
// socket cannot reach that family.
func (s *Socket) putSockaddr(sa *sockaddr, ap netip.AddrPort) uint32 {
	addr := ap.Addr()
	if !s.inet6 {
		if !addr.Is4() && !addr.Is4In6() {
			return 0
		}
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*sa4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap16(ap.Port()), Addr: addr.As4()}
		return unix.SizeofSockaddrInet4
	}
	if !addr.IsValid() || (addr.Is4() && s.features.Family == IPv6) {
		return 0
	}
	*sa = sockaddr{Family: unix.AF_INET6, Port: swap16(ap.Port()), Addr: addr.As16()}
	sa.Scope_id = scope(addr)
	return unix.SizeofSockaddrInet6
}

// remote reads the address that the kernel wrote.
func (s *Socket) remote(sa *sockaddr) netip.AddrPort {
	if !s.inet6 {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), swap16(sa4.Port))
	}
	addr := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(s.rx.zone(sa.Scope_id))
	}
	return netip.AddrPortFrom(addr, swap16(sa.Port))
}

// scope is the interface of an address that Receive has given a zone, else 0.
func scope(addr netip.Addr) uint32 {
	zone := addr.Zone()
	if zone == "" {
		return 0
	}
	n, err := strconv.ParseUint(zone, 10, 32)
	if err != nil {
		return 0 // a name: the routing table decides
	}
	return uint32(n)
}

// swap16 turns a port between the order of the network and of this host.
func swap16(v uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&v))
	return uint16(b[0])<<8 | uint16(b[1])
}
