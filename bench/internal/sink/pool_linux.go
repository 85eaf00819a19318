package sfu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Times and sizes of the sinks.
const (
	quietEvery    = 4 * time.Millisecond // how often sockets are emptied while it is measured
	sinkBuffer    = 4 << 20
	sinkBatch     = 64
	sinkDatagram  = 1600
	sinkQueue     = 512 // datagrams on their way to pion
	timestampSize = 64  // of a control message with a time stamp
)

// sinks empties the sockets of all receivers from one thread. While people join it waits for datagrams; later it comes by every few
// milliseconds, so that the server's sendmmsg does not pay for waking anybody: on loopback the sender's system time includes what the
// receiver's wake-up costs, which no network card would make it pay. Arrival is the kernel's time stamp, and does not suffer.
type sinks struct {
	quiet atomic.Bool
	ended atomic.Bool
	work  sync.WaitGroup

	mu  sync.Mutex
	all []*sink

	// Of the thread.
	messages [sinkBatch]message
	vectors  [sinkBatch]unix.Iovec
	control  [sinkBatch][timestampSize]byte
	buffer   []byte
}

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

func newSinks() *sinks {
	s := &sinks{buffer: make([]byte, sinkBatch*sinkDatagram)}
	for i := range s.messages {
		s.vectors[i].Base = &s.buffer[i*sinkDatagram]
		s.vectors[i].SetLen(sinkDatagram)
		s.messages[i].header.Iov = &s.vectors[i]
		s.messages[i].header.SetIovlen(1)
		s.messages[i].header.Control = &s.control[i][0]
	}
	s.work.Go(s.run)
	return s
}

// close ends the thread. The sockets are closed by their owners.
func (s *sinks) close() {
	s.ended.Store(true)
	s.work.Wait()
}

func (s *sinks) run() {
	runtime.LockOSThread()
	var polled []unix.PollFd
	var all []*sink
	for !s.ended.Load() {
		s.mu.Lock()
		all = append(all[:0], s.all...)
		s.mu.Unlock()
		if s.quiet.Load() || len(all) == 0 {
			time.Sleep(quietEvery)
		} else {
			polled = polled[:0]
			for _, k := range all {
				k.mu.Lock()
				polled = append(polled, unix.PollFd{Fd: int32(k.fd), Events: unix.POLLIN}) // a negative one is passed over
				k.mu.Unlock()
			}
			if _, err := unix.Poll(polled, int(quietEvery/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
				time.Sleep(quietEvery)
			}
		}
		for _, k := range all {
			s.empty(k)
		}
	}
}

// empty takes everything that waits in one socket.
func (s *sinks) empty(k *sink) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.fd >= 0 {
		for i := range s.messages {
			s.messages[i].header.SetControllen(timestampSize)
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&s.messages[0])), sinkBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return
		}
		for i := range int(n) {
			b := s.buffer[i*sinkDatagram:][:s.messages[i].length]
			at := timestamp(s.control[i][:s.messages[i].header.Controllen])
			if k.account.take(b, at) {
				k.hand(b)
			}
		}
		if int(n) < sinkBatch {
			return
		}
	}
}

// timestamp reads SCM_TIMESTAMPNS (socket(7)); without one it is now.
func timestamp(control []byte) int64 {
	if len(control) >= unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS {
			t := (*unix.Timespec)(unsafe.Pointer(&control[unix.CmsgSpace(0)]))
			return t.Nano()
		}
	}
	return time.Now().UnixNano()
}

// sink is the socket of one receiver, as pion sees it: RTP that the account has seen does not come through.
type sink struct {
	all    *sinks
	addr   *net.UDPAddr
	server netip.AddrPort
	in     chan []byte
	ended  chan struct{}
	lost   atomic.Uint64 // datagrams that pion was too slow for

	mu      sync.Mutex // of what follows, and of the account
	fd      int        // -1: closed
	account account
}

// open makes a socket that sends to the server and receives from it only.
func (s *sinks) open(server netip.AddrPort, own uint32) (*sink, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: socket: %w", err)
	}
	k := &sink{all: s, server: server, in: make(chan []byte, sinkQueue), ended: make(chan struct{}), fd: fd, account: account{own: own}}
	if err := k.setUp(server); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: socket: %w", err), unix.Close(fd))
	}
	s.mu.Lock()
	s.all = append(s.all, k)
	s.mu.Unlock()
	return k, nil
}

func (k *sink) setUp(server netip.AddrPort) error {
	if unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer) != nil { // root only
		_ = unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, sinkBuffer)
	}
	if err := unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	if err := unix.Bind(k.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Connect(k.fd, &unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}); err != nil {
		return err
	}
	name, err := unix.Getsockname(k.fd)
	if err != nil {
		return err
	}
	own, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return errors.New("no IPv4 address")
	}
	k.addr = &net.UDPAddr{IP: own.Addr[:], Port: own.Port}
	return nil
}

// hand gives pion a datagram. The lock is held.
func (k *sink) hand(b []byte) {
	select {
	case k.in <- append([]byte(nil), b...):
	default:
		k.lost.Add(1)
	}
}

// ReadFromAddrPort is what pion reads with (ice.AddrPortReaderWriter).
func (k *sink) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-k.in:
		return copy(b, d), k.server, nil
	case <-k.ended:
		return 0, netip.AddrPort{}, io.EOF
	}
}

// WriteToAddrPort is what pion writes with. What is not for the server's first address is not sent.
func (k *sink) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if to != k.server {
		return len(b), nil
	}
	k.mu.Lock()
	fd := k.fd
	var err error
	if fd >= 0 {
		err = unix.Send(fd, b, 0)
	} else {
		err = net.ErrClosed
	}
	k.mu.Unlock()
	if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN) {
		return 0, err
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn.
func (k *sink) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := k.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn.
func (k *sink) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.ErrClosed
	}
	a := u.AddrPort()
	return k.WriteToAddrPort(b, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// Close implements net.PacketConn. It may be called twice.
func (k *sink) Close() error {
	k.all.forget(k)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return nil
	}
	close(k.ended)
	err := unix.Close(k.fd)
	k.fd = -1
	return err
}

func (s *sinks) forget(k *sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(o *sink) bool { return o == k })
}

// LocalAddr implements net.PacketConn.
func (k *sink) LocalAddr() net.Addr { return k.addr }

// SetDeadline implements net.PacketConn; nobody here waits long.
func (k *sink) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (k *sink) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (k *sink) SetWriteDeadline(time.Time) error { return nil }
