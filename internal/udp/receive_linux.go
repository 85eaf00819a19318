package udp

import (
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/offheap"
)

const (
	// plainMessages datagrams are asked for at a time, into a packet buffer's size each.
	plainMessages = 64
	plainSize     = 2048
	// With GRO one message is a run of up to 64 KiB, so fewer of them do; memory the
	// kernel does not write is never touched.
	groMessages = 32
	groSize     = 64 << 10
)

// control is room for the ancillary data of one message, aligned as the kernel does.
type control [16]uint64

// receiver is the receiving half of a socket.
type receiver struct {
	fd      int
	msgs    []unix.Mmsghdr
	iovs    []unix.Iovec
	addrs   []sockaddr
	ctls    []control
	buf     []byte
	bufSize int

	// What is left of the last recvmmsg: messages next..got, and of message next what
	// lies behind off, cut into segments.
	got, next int
	off, seg  int
	path      Path
	full      bool  // the last call filled every message asked for: there may be more
	stamped   bool  // the kernel says when each came …
	came      int64 // … by the wall clock

	overflow  uint32 // SO_RXQ_OVFL as last seen
	zoneIndex uint32 // the last zone, spelt out in zoneName
	zoneName  string
}

func (r *receiver) init(owner *Socket, fd int, gro bool) {
	r.fd = fd
	n := plainMessages
	r.bufSize = plainSize
	if gro {
		n, r.bufSize = groMessages, groSize
	}
	r.msgs = make([]unix.Mmsghdr, n)
	r.iovs = make([]unix.Iovec, n)
	r.addrs = make([]sockaddr, n)
	r.ctls = make([]control, n)
	r.buf = offheap.Bytes(owner, n*r.bufSize)
	for i := range r.msgs {
		r.iovs[i].Base = &r.buf[i*r.bufSize]
		r.iovs[i].SetLen(r.bufSize)
		h := &r.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.addrs[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.ctls[i]))
	}
}

// zone spells an interface index as the zone of an address. Peers on the link are few:
// remembering the last keeps it from allocating.
func (r *receiver) zone(index uint32) string {
	if index != r.zoneIndex {
		r.zoneIndex, r.zoneName = index, strconv.FormatUint(uint64(index), 10)
	}
	return r.zoneName
}

// Receive fills dst with datagrams that have arrived and tells how many; it never
// blocks. Their data is valid until the next Receive. Runs that the kernel has joined
// are cut into datagrams; what dst has no room for comes with the next call.
func (s *Socket) Receive(dst []Datagram) int { return s.receive(&s.rx, dst) }

// ReceiveAside is Receive for the queue of what can wait: datagrams that begin with feedback on arrivals or with a receiver report,
// binding requests, and answers to ours. There is nothing in it without Features.Aside.
func (s *Socket) ReceiveAside(dst []Datagram) int {
	if s.aside < 0 {
		return 0
	}
	return s.receive(&s.late, dst)
}

// longestWait bounds what is believed of a datagram's wait.
const longestWait = int64(time.Second)

// wallClock is the clock that the kernel stamps by.
func wallClock() int64 {
	var at unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&at)), 0); errno != 0 {
		return 0
	}
	return at.Nano()
}

func (s *Socket) receive(r *receiver, dst []Datagram) int {
	if r.next == r.got && (len(dst) == 0 || !s.receiveMessages(r, len(dst))) {
		return 0
	}
	now := int64(0)
	if r.stamped {
		now = wallClock()
	}
	var n int
	var bytes, joined uint64
	for n < len(dst) && r.next < r.got {
		size := int(r.msgs[r.next].Len)
		base := r.next * r.bufSize
		if r.off == 0 && !s.begin(r, size) {
			r.next++
			continue
		}
		end := size
		if r.seg > 0 {
			end = min(size, r.off+r.seg)
		}
		dst[n] = Datagram{Data: r.buf[base+r.off : base+end : base+end], Path: r.path}
		if r.came != 0 {
			dst[n].Waited = min(max(0, now-r.came), longestWait) // the clock may have been set meanwhile
		}
		n++
		bytes += uint64(end - r.off)
		if r.seg > 0 {
			joined++
		}
		if r.off = end; end == size {
			r.off = 0
			r.next++
		}
	}
	s.counters.receivedDatagrams.Add(uint64(n))
	s.counters.receivedBytes.Add(bytes)
	if joined > 0 {
		s.counters.groSegments.Add(joined)
	}
	return n
}

// receiveMessages asks the kernel for at most max messages and says whether there are any.
func (s *Socket) receiveMessages(r *receiver, max int) bool {
	r.next, r.got, r.off, r.full = 0, 0, 0, false
	asked := min(max, len(r.msgs))
	for i := range r.msgs[:asked] {
		h := &r.msgs[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(int(unsafe.Sizeof(control{})))
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd),
			uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(asked), unix.MSG_DONTWAIT, 0, 0)
		s.counters.receiveCalls.Add(1)
		switch errno {
		case 0:
			r.got = int(n)
			r.full = r.got == asked
			return r.got > 0
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			// An error that a datagram sent earlier came to; reading it cleared it.
			s.counters.receiveErrors.Add(1)
			return false
		}
	}
}

// begin reads what came beside the message r.next and says whether it is to be used.
func (s *Socket) begin(r *receiver, size int) bool {
	h := &r.msgs[r.next].Hdr
	r.path = Path{Remote: s.remote(&r.addrs[r.next]), Local: s.pinned}
	r.seg, r.came = 0, 0
	if n := int(h.Controllen); n > 0 {
		s.parseControl(r, unsafe.Slice((*byte)(unsafe.Pointer(&r.ctls[r.next])), n))
	}
	if r.seg >= size {
		r.seg = 0 // a run of one
	}
	if h.Flags&unix.MSG_TRUNC != 0 {
		s.counters.truncated.Add(1)
		return false
	}
	return true
}

// parseControl reads the ancillary data of a message into the receiver.
func (s *Socket) parseControl(r *receiver, b []byte) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			r.path.Local = netip.AddrFrom16(info.Addr).Unmap()
			if r.path.Local.IsLinkLocalUnicast() && r.path.Local.Is6() {
				r.path.Local = r.path.Local.WithZone(r.zone(info.Ifindex))
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// The address to answer from, which for a broadcast is not the one asked.
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			r.path.Local = netip.AddrFrom4(info.Spec_dst)
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			r.seg = int(*(*int32)(unsafe.Pointer(&data[0])))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			r.came = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			// A 32-bit total that wraps, stamped as datagrams are queued; on several cores
			// at once, so one may come behind a later one.
			total := *(*uint32)(unsafe.Pointer(&data[0]))
			if more := int32(total - r.overflow); more > 0 {
				s.counters.receiveDrops.Add(uint64(more))
				r.overflow = total
			}
		}
		step := unix.CmsgSpace(size - unix.CmsgLen(0))
		if step > len(b) {
			return
		}
		b = b[step:]
	}
}
