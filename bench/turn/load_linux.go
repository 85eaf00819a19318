package turn

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/bench/internal/quantile"
)

// Of the thread that sends and takes.
const (
	tick        = time.Millisecond
	emptyEvery  = 4 // ticks between looks at the sockets that packets arrive at; their senders do not pay for waking anybody
	burst       = 8 // packets of a client at a time
	mostAtOnce  = 64
	slot        = 2048
	longestDebt = 50 * time.Millisecond // what is behind by more is not made up for
	sampleEvery = 8
	drainFor    = 100 * time.Millisecond
)

// stampSize is what is written at the beginning of each payload: the window's number, the client's, the packet's among the client's, and when it left.
const stampSize = 24

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// queue is a row of messages with a buffer and an address each.
type queue struct {
	messages [mostAtOnce]message
	vectors  [mostAtOnce]unix.Iovec
	names    [mostAtOnce]unix.RawSockaddrInet6
	control  [mostAtOnce][64]byte
	buffer   [mostAtOnce * slot]byte
	n        int
}

func newQueue() *queue {
	q := &queue{}
	for i := range q.messages {
		h := &q.messages[i].header
		q.vectors[i].Base = &q.buffer[i*slot]
		h.Iov = &q.vectors[i]
		h.SetIovlen(1)
	}
	return q
}

func (q *queue) data(i int) []byte { return q.buffer[i*slot : (i+1)*slot] }

// load is one window's: packets of some size, in one direction.
type load struct {
	window    uint32
	up        bool
	bursts    bool
	size      int
	rate      int
	seats     []*seat
	peer      int // the peer's socket
	out, in   *queue
	now       func() int64 // wall clock, as the kernel stamps
	sent      uint64
	seq       []uint64 // next of each client
	seen      []uint64 // of each client: one more than the highest that has arrived
	taken     uint64
	behind    uint64
	broken    uint64
	latencies quantile.Samples
}

func wallClock() int64 {
	var at unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &at) // cannot fail
	return at.Nano()
}

func newLoad(window uint32, direction, order string, size, rate int, seats []*seat, peer int) *load {
	l := &load{
		window: window, up: direction == Up, bursts: order == Bursts, size: size, rate: rate, seats: seats, peer: peer,
		out: newQueue(), in: newQueue(), now: wallClock, seq: make([]uint64, len(seats)), seen: make([]uint64, len(seats)),
	}
	for i := range l.in.messages {
		l.in.vectors[i].SetLen(slot)
		l.in.messages[i].header.Control = &l.in.control[i][0]
	}
	return l
}

// run sends for a time, and takes until nothing has come for a while. It returns how long it has sent.
func (l *load) run(d time.Duration) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := time.Now()
	var due, forgiven uint64
	step := uint64(1)
	if l.bursts {
		step = burst
	}
	debt := uint64(float64(l.rate) * longestDebt.Seconds())
	ended := time.Duration(0)
	for ticks := 1; ; ticks++ {
		ended = time.Since(begin)
		if ended >= d {
			break
		}
		due = uint64(ended.Seconds() * float64(l.rate))
		if due > l.sent+forgiven+debt {
			forgiven = due - l.sent - debt
		}
		for l.sent+forgiven+step <= due {
			l.put()
		}
		l.flush()
		if ticks%emptyEvery == 0 {
			l.take()
		}
		time.Sleep(time.Until(begin.Add(time.Duration(ticks) * tick)))
	}
	for quiet := time.Now(); time.Since(quiet) < drainFor; time.Sleep(emptyEvery * tick) {
		if l.take() {
			quiet = time.Now()
		}
	}
	return ended
}

// put queues the next packet, or the next few of one client.
func (l *load) put() {
	if !l.bursts {
		l.packet(int(l.sent % uint64(len(l.seats))))
		return
	}
	i := int(l.sent / burst % uint64(len(l.seats)))
	for range burst {
		l.packet(i)
	}
}

func (l *load) packet(i int) {
	q := l.out
	if q.n == mostAtOnce {
		l.flush()
	}
	b := q.data(q.n)
	h := &q.messages[q.n].header
	s := l.seats[i]
	n := 0
	if l.up {
		binary.BigEndian.PutUint16(b, s.channel)
		binary.BigEndian.PutUint16(b[2:], uint16(l.size))
		n = 4
		h.Name, h.Namelen = nil, 0
	} else {
		h.Name = (*byte)(unsafe.Pointer(&q.names[q.n]))
		h.Namelen = putName(&q.names[q.n], s.relayed)
	}
	l.stamp(b[n:n+l.size], i)
	q.vectors[q.n].SetLen(n + l.size)
	q.n++
	l.sent++
	if l.up && (q.n == mostAtOnce || !l.bursts || l.sent%burst == 0) {
		l.send(s.fd)
	}
}

func (l *load) flush() {
	if !l.up {
		l.send(l.peer)
	}
}

// send sends what is queued from one socket. What a full buffer does not take is lost, and shows as such.
func (l *load) send(fd int) {
	q := l.out
	for at := 0; at < q.n; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&q.messages[at])), uintptr(q.n-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			at += int(n)
		case errno == unix.EINTR:
		default:
			at++
		}
	}
	q.n = 0
}

func (l *load) stamp(b []byte, i int) {
	binary.BigEndian.PutUint32(b, l.window)
	binary.BigEndian.PutUint32(b[4:], uint32(i))
	binary.BigEndian.PutUint64(b[8:], l.seq[i])
	binary.BigEndian.PutUint64(b[16:], uint64(l.now()))
	if len(b) > stampSize {
		b[len(b)-1] = byte(l.seq[i])
	}
	l.seq[i]++
}

// take empties the sockets that packets arrive at, and says whether there were any.
func (l *load) take() (any bool) {
	if l.up {
		return l.takeFrom(l.peer, 0, 0)
	}
	for i, s := range l.seats {
		any = l.takeFrom(s.fd, 4, i) || any
	}
	return any
}

func (l *load) takeFrom(fd, header, client int) (any bool) {
	q := l.in
	for {
		for i := range q.messages {
			q.messages[i].header.SetControllen(len(q.control[i]))
		}
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&q.messages[0])), mostAtOnce, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || n == 0 {
			return any
		}
		for i := range int(n) {
			b := q.data(i)[:q.messages[i].length]
			if header > 0 && (len(b) < header || binary.BigEndian.Uint16(b) != l.seats[client].channel || len(b) < header+int(binary.BigEndian.Uint16(b[2:]))) {
				l.broken++
				continue
			}
			if header > 0 {
				b = b[header : header+int(binary.BigEndian.Uint16(b[2:]))]
			}
			l.count(b, q.arrival(i))
			any = true
		}
		if int(n) < mostAtOnce {
			return any
		}
	}
}

// arrival is when the kernel had a message; 0: it does not say.
func (q *queue) arrival(i int) int64 {
	n := int(q.messages[i].header.Controllen)
	if n < unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&q.control[i][0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS {
		return 0
	}
	return (*unix.Timespec)(unsafe.Pointer(&q.control[i][unix.CmsgLen(0)])).Nano()
}

// count takes account of a payload.
func (l *load) count(b []byte, at int64) {
	if len(b) >= stampSize && binary.BigEndian.Uint32(b) != l.window {
		return // of the window before
	}
	if len(b) != l.size {
		l.broken++
		return
	}
	i, seq := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
	if int(i) >= len(l.seats) || len(b) > stampSize && b[len(b)-1] != byte(seq) {
		l.broken++
		return
	}
	l.taken++
	if seq < l.seen[i] {
		l.behind++
	} else {
		l.seen[i] = seq + 1
	}
	if l.taken%sampleEvery == 0 && at != 0 {
		l.latencies = append(l.latencies, float64(at-int64(binary.BigEndian.Uint64(b[16:])))/1e9)
	}
}

// putName writes a socket address and returns its length.
func putName(to *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	port := a.Port()>>8 | a.Port()<<8 // network order, on the little-endian machines that Go runs Linux on and others alike
	if a.Addr().Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(to)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	*to = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: a.Addr().As16()}
	return unix.SizeofSockaddrInet6
}
