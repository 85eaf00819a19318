package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/udp"
)

// What sockets hold while a shard is busy, and mailboxes while the server is.
const (
	portBuffer = 4 << 20
	peerBuffer = 512 << 10
	portMail   = 1024
	peerMail   = 64
)

var errUnspecific = errors.New("relay: a socket needs an address of its own, so that packets leave from where they are expected")

// socket is one that a shard reads.
type socket struct {
	fd    int
	id    uint32 // of the port or relayed address
	local netip.AddrPort
	shard *shard
	port  *Port // nil: of a relayed address
	mail  *mailbox

	// Of the shard that reads: when it last has, and how many times in a row there was but one datagram.
	read   uint64
	single int
	// Of the shard that sends: the runs of the batch that is being made.
	batch       uint64
	first, last int32

	life sync.RWMutex // held by who uses the descriptor beside the shards
}

// bind opens a socket. Several share a port when all but the first are told so.
func (s *socket) bind(at netip.AddrPort, further bool, buffer int) error {
	addr := at.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.Zone() != "" {
		return errUnspecific
	}
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("relay: open a socket: %w", err)
	}
	fail := func(op string, err error) error {
		return errors.Join(fmt.Errorf("relay: %s %s: %w", op, at, err), unix.Close(fd))
	}
	if further {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail("share", err)
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{}, Port: int(at.Port())}
	if addr.Is6() {
		sa = &unix.SockaddrInet6{Addr: addr.As16(), Port: int(at.Port())}
	} else {
		sa = &unix.SockaddrInet4{Addr: addr.As4(), Port: int(at.Port())}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fail("name", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(addr, uint16(b.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(addr, uint16(b.Port))
	}
	// As much as the system gives; and a kernel that joins nothing on the way in gives single datagrams.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	s.fd = fd
	return nil
}

// watch lets the shard read the socket.
func (s *socket) watch() error {
	s.shard.sockets[int32(s.fd)] = s
	if err := unix.EpollCtl(s.shard.wait.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		delete(s.shard.sockets, int32(s.fd))
		return fmt.Errorf("relay: wait for %s: %w", s.local, err)
	}
	return nil
}

// close is called while no shard is at work.
func (s *socket) close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.fd < 0 {
		return nil
	}
	delete(s.shard.sockets, int32(s.fd))
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// write sends one datagram of the server's.
func (s *socket) write(b []byte, to netip.AddrPort) error {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if to.Addr().Is4() != s.local.Addr().Is4() {
		return syscall.EAFNOSUPPORT
	}
	var name sockaddr
	n := putName(&name, to)
	s.life.RLock()
	defer s.life.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&name)), uintptr(n))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// Port is a UDP port that clients send to: a socket for each shard, which the kernel spreads clients over.
type Port struct {
	engine  *Batch
	id      uint32
	local   netip.AddrPort
	sockets []*socket
	mail    mailbox
}

// Listen opens a port at one address of this host.
func (e *Batch) Listen(at netip.AddrPort) (*Port, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	e.id++
	p := &Port{engine: e, id: e.id}
	p.mail.open(portMail)
	var err error
	for i, sh := range e.shards {
		s := &socket{fd: -1, id: p.id, shard: sh, port: p, mail: &p.mail}
		if err = s.bind(at, i > 0, portBuffer); err != nil {
			break
		}
		p.sockets = append(p.sockets, s)
		p.local, at = s.local, s.local
		// The first was to fail if somebody was there before.
		if i == 0 && len(e.shards) > 1 {
			if err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				break
			}
		}
	}
	e.alone(func() {
		for _, s := range p.sockets {
			if err == nil {
				err = s.watch()
			}
		}
		if err != nil {
			for _, s := range p.sockets {
				err = errors.Join(err, s.close())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	e.ports[p.local] = p
	return p, nil
}

// Read waits for a datagram that is no flow's.
func (p *Port) Read(b []byte) (int, udp.Path, error) {
	n, from, err := p.mail.get(b)
	return n, udp.Path{Remote: from, Local: p.local.Addr()}, err
}

// Write sends a datagram.
func (p *Port) Write(b []byte, to udp.Path) error { return p.sockets[0].write(b, to.Remote) }

// LocalAddr is the address bound, with the port that the kernel chose.
func (p *Port) LocalAddr() netip.AddrPort { return p.local }

// Close ends it, and the flows of its clients.
func (p *Port) Close() error {
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ports[p.local] == p {
		delete(e.ports, p.local)
	}
	for _, f := range e.flows {
		if f.port == p {
			e.drop(f)
		}
	}
	var err error
	e.alone(func() {
		for _, s := range p.sockets {
			err = errors.Join(err, s.close())
		}
	})
	p.mail.close()
	return err
}

// Peers is the socket of a relayed address.
type Peers struct {
	socket
	engine *Batch
	flows  []*entry // under the engine's lock
	box    mailbox
}

// ListenPeers opens the socket of a relayed address.
func (e *Batch) ListenPeers(at netip.AddrPort) (net.PacketConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	e.id++
	e.turn = (e.turn + 1) % len(e.shards)
	p := &Peers{engine: e, socket: socket{fd: -1, id: e.id, shard: e.shards[e.turn]}}
	p.mail = &p.box
	p.box.open(peerMail)
	if err := p.bind(at, false, peerBuffer); err != nil {
		return nil, err
	}
	var err error
	e.alone(func() {
		if err = p.watch(); err != nil {
			err = errors.Join(err, p.close())
		}
	})
	if err != nil {
		return nil, err
	}
	e.peers[p.local] = p
	return p, nil
}

// ReadFrom waits for a datagram that is no flow's.
func (p *Peers) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.box.get(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo sends a datagram.
func (p *Peers) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, syscall.EAFNOSUPPORT
	}
	if err := p.write(b, a.AddrPort()); err != nil {
		return 0, fmt.Errorf("relay: send from %s: %w", p.local, err)
	}
	return len(b), nil
}

// LocalAddr is the relayed address as it is bound.
func (p *Peers) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.local) }

// Close ends it, and its flows.
func (p *Peers) Close() error {
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peers[p.local] == p {
		delete(e.peers, p.local)
	}
	for len(p.flows) > 0 {
		e.drop(p.flows[0])
	}
	var err error
	e.alone(func() { err = p.socket.close() })
	p.box.close()
	return err
}

// SetDeadline is for sockets that are waited for with one.
func (p *Peers) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is for sockets that are waited for with one.
func (p *Peers) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is for sockets that are waited for with one.
func (p *Peers) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// SyscallConn is for options of the socket.
func (p *Peers) SyscallConn() (syscall.RawConn, error) { return options{&p.socket}, nil }

// options lets a socket's options be set.
type options struct{ *socket }

// Control calls f with the descriptor.
func (o options) Control(f func(fd uintptr)) error {
	o.life.RLock()
	defer o.life.RUnlock()
	if o.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(o.fd))
	return nil
}

// Read is the shard's.
func (o options) Read(func(uintptr) bool) error { return errors.ErrUnsupported }

// Write is the shard's.
func (o options) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// putName writes a socket address and returns its length.
func putName(to *sockaddr, a netip.AddrPort) uint32 {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], a.Port())
	if a.Addr().Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(to))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: binary.NativeEndian.Uint16(port[:]), Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	*to = sockaddr{Family: unix.AF_INET6, Port: binary.NativeEndian.Uint16(port[:]), Addr: a.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

// nameOf reads a socket address.
func nameOf(from *sockaddr) netip.AddrPort {
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], from.Port) // at the same place in both
	p := binary.BigEndian.Uint16(port[:])
	if from.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(from)).Addr), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(from.Addr), p)
}
