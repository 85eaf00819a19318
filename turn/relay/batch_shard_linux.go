package relay

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/offheap"
)

const (
	// messages are read before anything is sent, each of which is a datagram or a run that the kernel has joined.
	messages = 64
	// ofOne are read at most from a relayed address before others have their turn, and alwaysOne in a row were alone when the next is
	// believed to be.
	ofOne     = 32
	alwaysOne = 4
	// room is for the largest of them. That is no power of two: buffers that lie so apart share few places of a core's cache.
	room = 64<<10 + 1088
	// head is how much of it stays free before the datagram, of which a header takes what it needs.
	head = 16
	// packets are queued before they are sent, all the same.
	packets = 1024
	// events are looked at at a time.
	events = 128
)

// control is room for the ancillary data of one message, aligned as the kernel does.
type control [8]uint64

// packet is one that is to leave, in the buffer it came in: all of it, or its payload with the header beside it.
type packet struct {
	data   []byte
	header [headerSize]byte
	beside bool
	next   int32 // of the run; -1: the last
}

// shard waits for a share of the sockets and relays what comes.
type shard struct {
	engine *Batch
	index  int
	wait   waiter

	mu      sync.Mutex // held while it works
	sockets map[int32]*socket
	turn    uint64 // how often it has looked

	// What comes in.
	buffer []byte
	filled int
	names  [messages]sockaddr
	ctls   [messages]control
	iovs   [messages]unix.Iovec
	msgs   [messages]mmsghdr

	out sender
}

// mmsghdr is struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func newShard(e *Batch, index int) (*shard, error) {
	s := &shard{engine: e, index: index, sockets: map[int32]*socket{}}
	if err := s.wait.open(); err != nil {
		return nil, err
	}
	s.buffer = offheap.Bytes(s, messages*room)
	for i := range s.msgs {
		s.iovs[i].Base = &s.buffer[i*room+head]
		s.iovs[i].SetLen(room - head)
		h := &s.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&s.ctls[i]))
	}
	s.out.batch = 1
	return s, nil
}

// run relays until the engine closes.
func (s *shard) run() {
	defer s.engine.running.Done()
	for s.wait.wait() {
		s.engine.stats.waits.Add(1)
		s.mu.Lock()
		s.turn++
		for _, e := range s.wait.events[:s.wait.got] {
			// A socket that has been closed since is not there any more, or another one: reading that does no harm.
			if k := s.sockets[e.Fd]; k != nil {
				s.read(k)
			}
		}
		s.send()
		s.filled = 0
		s.mu.Unlock()
	}
}

// ask says how many datagrams are asked for. To ask for more than there are costs a look in vain, and to ask for less splits a run: a
// relayed address that has had but one for a while is asked for one, until it has another right after that.
func (k *socket) ask(turn uint64) int {
	soon := k.read+1 == turn
	k.read = turn
	switch {
	case k.port != nil:
		return messages
	case k.single >= alwaysOne && !soon:
		return 1
	}
	return ofOne
}

// read takes what a socket has, or some of it: the rest is there at the next look.
func (s *shard) read(k *socket) {
	if s.filled == messages {
		s.send()
		s.filled = 0
	}
	asked := min(k.ask(s.turn), messages-s.filled)
	first := s.filled
	for i := range asked {
		h := &s.msgs[first+i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(int(unsafe.Sizeof(control{})))
	}
	n, errno := uintptr(0), unix.EINTR
	for errno == unix.EINTR {
		// The runtime is not told of calls that do not wait: for each that it is told of it wakes the thread that would look after others.
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&s.msgs[first])), uintptr(asked), unix.MSG_DONTWAIT, 0, 0)
	}
	s.engine.stats.receiveCalls.Add(1)
	if errno != 0 {
		if errno != unix.EAGAIN { // what a datagram that was sent earlier came to
			s.engine.stats.receiveErrors.Add(1)
		}
		return
	}
	if k.single++; n > 1 {
		k.single = 0
	}
	s.filled += int(n)
	for i := first; i < s.filled; i++ {
		s.take(k, i)
	}
}

// take cuts a message into datagrams.
func (s *shard) take(k *socket, i int) {
	m := &s.msgs[i]
	if m.hdr.Flags&unix.MSG_TRUNC != 0 {
		s.engine.stats.truncated.Add(1)
		return
	}
	size := int(m.len)
	data := s.buffer[i*room+head : i*room+head+size]
	seg := size
	if n := int(m.hdr.Controllen); n > 0 {
		if v := segment(unsafe.Slice((*byte)(unsafe.Pointer(&s.ctls[i])), n)); v > 0 {
			seg = min(v, size)
		}
	}
	if size == seg {
		s.sort(k, &s.names[i], data, s.buffer[i*room+head-headerSize:i*room+head+size])
		return
	}
	for len(data) > 0 {
		n := min(seg, len(data))
		s.sort(k, &s.names[i], data[:n], nil)
		data = data[n:]
	}
}

// segment finds the size of the datagrams in a message that the kernel has joined; 0: it has not.
func segment(b []byte) int {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return 0
		}
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && size >= unix.CmsgLen(4) {
			return int(binary.NativeEndian.Uint32(b[unix.CmsgLen(0):]))
		}
		b = b[min(len(b), unix.CmsgSpace(size-unix.CmsgLen(0))):]
	}
	return 0
}

// sort finds the way of a datagram, which may be to the server. With room for a header it is given too, as whole.
func (s *shard) sort(k *socket, from *sockaddr, data, whole []byte) {
	var id key
	if from.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		copy(id[:4], sa.Addr[:])
	} else {
		copy(id[:16], from.Addr[:])
	}
	binary.NativeEndian.PutUint16(id[16:], from.Port) // both are in the order of the network
	binary.NativeEndian.PutUint32(id[20:], k.id)
	if k.port == nil {
		if w := s.engine.ways[id]; w != nil {
			s.down(w, data, whole)
			return
		}
	} else if n := len(data) - headerSize; n >= 0 && data[0]&0xC0 == 0x40 {
		length := int(binary.BigEndian.Uint16(data[2:]))
		id[18], id[19] = data[0], data[1]
		if w := s.engine.ways[id]; w != nil && length <= n {
			p := s.packet()
			p.data, p.beside = data[headerSize:headerSize+length], false
			s.add(w, &w.peers.socket, length)
			return
		}
	}
	if k.mail.put(nameOf(from), data) {
		s.engine.stats.left.Add(1)
	} else {
		s.engine.stats.overflowed.Add(1)
	}
}

// headerSize is what ChannelData has before its payload (RFC 8656 §12.4).
const headerSize = 4

// waiter is the sleep of a shard. A thread that blocks in poll(2) by itself is one that Go's scheduler keeps looking after; so the epoll
// set is handed to the runtime's own poller, in which the last thread with nothing to do sleeps.
type waiter struct {
	epoll  int
	file   *os.File
	raw    syscall.RawConn
	look   func(fd uintptr) bool // bound once: a closure made for each wait would be an allocation
	events [events]unix.EpollEvent
	got    int
}

func (w *waiter) open() error {
	var err error
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(w.epoll, true); err != nil { // or the runtime would not poll it
		return err
	}
	w.file = os.NewFile(uintptr(w.epoll), "relay")
	w.look = w.ready
	w.raw, err = w.file.SyscallConn()
	return err
}

// ready looks what has happened. The runtime calls it before it sleeps and after.
func (w *waiter) ready(fd uintptr) bool {
	n, errno := uintptr(0), unix.EINTR
	for errno == unix.EINTR {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&w.events[0])), events, 0, 0, 0)
	}
	w.got = 0
	if errno == 0 {
		w.got = int(n)
	}
	return w.got > 0
}

// wait returns when sockets have something; false after close.
func (w *waiter) wait() bool { return w.raw.Read(w.look) == nil }

func (w *waiter) close() { _ = w.file.Close() } // an epoll set has nothing to lose
