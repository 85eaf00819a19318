package udp

import (
	"net"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// letter is what one system call needs of memory.
type letter struct {
	hdr  unix.Msghdr
	iov  unix.Iovec
	addr sockaddr
	ctl  control
}

var letters = sync.Pool{New: func() any { return new(letter) }}

// Post sends one datagram at once, from any goroutine: it is for who shares the port and not the thread. What does not go out now is
// lost, and said to be.
func (s *Socket) Post(b []byte, p Path) error {
	if len(b) == 0 {
		return nil
	}
	l := letters.Get().(*letter)
	defer letters.Put(l)
	*l = letter{}
	l.hdr.Namelen = s.putSockaddr(&l.addr, p.Remote)
	if l.hdr.Namelen == 0 {
		s.counters.sendErrors.Add(1)
		return unix.EAFNOSUPPORT
	}
	l.hdr.Name = (*byte)(unsafe.Pointer(&l.addr))
	l.iov.Base = &b[0]
	l.iov.SetLen(len(b))
	l.hdr.Iov = &l.iov
	l.hdr.SetIovlen(1)
	if n := s.putLocal(&l.ctl, p.Local); n > 0 {
		l.hdr.Control = (*byte)(unsafe.Pointer(&l.ctl))
		l.hdr.SetControllen(n)
	}
	s.postMu.RLock()
	defer s.postMu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&l.hdr)), unix.MSG_DONTWAIT)
		s.counters.sendCalls.Add(1)
		switch errno {
		case 0:
			s.counters.sentDatagrams.Add(1)
			s.counters.sentBytes.Add(uint64(len(b)))
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.counters.sendDrops.Add(1)
		default:
			s.counters.sendErrors.Add(1)
		}
		return errno
	}
}
