package sink

import (
	"errors"
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

// Pool empties the sockets of all receivers from one thread. While people join it waits for datagrams; later it comes by every few
// milliseconds, so that the server's sendmmsg does not pay for waking anybody: on loopback the sender's system time includes what the
// receiver's wake-up costs, which no network card would make it pay. Arrival is the kernel's time stamp, and does not suffer.
type Pool struct {
	every uint16 // packets of a stream go by for one that is opened
	quiet atomic.Bool
	ended atomic.Bool
	work  sync.WaitGroup

	mu      sync.Mutex // may be taken under a socket's
	all     []*Sink
	guarded bool
	past    Indices // of sockets that are closed

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

// NewPool returns a pool without sockets, of which one packet in so many is opened: SampleEvery, or 1 for all. Close ends it.
func NewPool(every uint16) *Pool {
	s := &Pool{every: every, buffer: make([]byte, sinkBatch*sinkDatagram)}
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

// Quiet says whether datagrams may wait a few milliseconds.
func (s *Pool) Quiet(on bool) { s.quiet.Store(on) }

// Guard has sockets that are opened from now on watch the indices that the server seals under.
func (s *Pool) Guard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guarded = true
}

// Indices is what all guarded sockets have seen.
func (s *Pool) Indices() Indices {
	s.mu.Lock()
	sum, all := s.past, slices.Clone(s.all)
	s.mu.Unlock()
	for _, k := range all {
		k.mu.Lock()
		if k.guard != nil {
			sum.add(k.guard.count)
		}
		k.mu.Unlock()
	}
	return sum
}

// Close ends the thread. The sockets are closed by their owners.
func (s *Pool) Close() {
	s.ended.Store(true)
	s.work.Wait()
}

func (s *Pool) run() {
	runtime.LockOSThread()
	var polled []unix.PollFd
	var all []*Sink
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
func (s *Pool) empty(k *Sink) {
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
			if k.turns != nil {
				k.turns.datagram(b, at, server)
			}
			if k.guard != nil {
				k.guard.take(b)
			}
			if k.account.take(b, at) {
				k.hand(b)
			}
		}
		if int(n) < sinkBatch {
			return
		}
	}
}

// forget leaves a socket to its owner.
func (s *Pool) forget(k *Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(o *Sink) bool { return o == k })
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
