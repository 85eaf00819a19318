package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sendMessages runs go out with one system call.
	sendMessages = 128
	// arenaSize holds that many full-size packets and stays in a core's cache.
	arenaSize = 256 << 10
	// maxRun and maxRunBytes bound what is handed over as one message: 64 segments is
	// what every kernel with GSO takes (128 only from Linux 6.9), and the whole has to fit
	// one IP packet's length field with its headers.
	maxRun      = 64
	maxRunBytes = 65000
	// shunned paths are remembered by a hash of this many places.
	shunPlaces = 64
)

// run is one message: one datagram, or several of seg bytes each to the same path, of
// which the last may be shorter.
type run struct {
	path  Path
	start int // in the arena
	bytes int
	seg   int
	count int
}

// sender is the sending half of a socket.
type sender struct {
	arena    []byte
	off      int // where the next reservation starts
	reserved int // bytes of the open reservation, -1 when there is none

	runs  []run
	queue int // runs waiting
	msgs  []unix.Mmsghdr
	iovs  []unix.Iovec
	addrs []sockaddr
	ctls  []control

	// Peers to whom a run was refused, for instance since a link on the way carries less
	// than a segment. Two that share a place forget each other, and are found out again.
	shun    [shunPlaces]netip.Addr
	shunned bool
}

func (t *sender) init() {
	t.arena = make([]byte, arenaSize)
	t.reserved = -1
	t.runs = make([]run, sendMessages)
	t.msgs = make([]unix.Mmsghdr, sendMessages)
	t.iovs = make([]unix.Iovec, sendMessages)
	t.addrs = make([]sockaddr, sendMessages)
	t.ctls = make([]control, sendMessages)
	for i := range t.msgs {
		h := &t.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&t.addrs[i]))
		h.Iov = &t.iovs[i]
		h.SetIovlen(1)
	}
}

// Reserve returns n bytes to write a datagram into. They are the caller's until Commit,
// or until a Flush or another Reserve takes them back. It flushes by itself when there is
// no room. It panics when n is more than a datagram can hold.
func (s *Socket) Reserve(n int) []byte {
	t := &s.tx
	if n < 0 || n > maxDatagram {
		panic("udp: Reserve of more than a datagram")
	}
	if t.off+n > len(t.arena) {
		s.Flush()
	}
	t.reserved = n
	return t.arena[t.off : t.off+n : t.off+n]
}

// Commit queues the first n bytes of the last Reserve for the path; without any, it only
// gives the reservation back. A path that this socket cannot reach is a counted error. It
// panics when there is no reservation, or not of that many bytes.
func (s *Socket) Commit(n int, p Path) {
	t := &s.tx
	if n < 0 || n > t.reserved {
		panic("udp: Commit of more than is reserved")
	}
	t.reserved = -1
	if n == 0 {
		return
	}
	if t.queue > 0 && s.extend(n, p) {
		return
	}
	if t.queue == len(t.runs) {
		s.send() // and go on in the arena, where this datagram already stands
	}
	i := t.queue
	h := &t.msgs[i].Hdr
	h.Namelen = s.putSockaddr(&t.addrs[i], p.Remote)
	if h.Namelen == 0 {
		s.counters.sendErrors.Add(1)
		return
	}
	t.runs[i] = run{path: p, start: t.off, bytes: n, seg: n, count: 1}
	t.iovs[i].Base = &t.arena[t.off]
	t.iovs[i].SetLen(n)
	s.setControl(i, s.putLocal(&t.ctls[i], p.Local))
	t.off += n
	t.queue++
}

// extend makes the datagram at the end of the arena part of the last run, if it fits.
func (s *Socket) extend(n int, p Path) bool {
	t := &s.tx
	i := t.queue - 1
	r := &t.runs[i]
	if n > r.seg || r.bytes != r.seg*r.count || r.count == maxRun ||
		r.bytes+n > maxRunBytes || r.start+r.bytes != t.off ||
		r.path != p || !s.gso.Load() {
		return false
	}
	if t.shunned && t.shun[shunPlace(p.Remote.Addr())] == p.Remote.Addr() {
		return false
	}
	if r.count == 1 {
		used := int(t.msgs[i].Hdr.Controllen)
		s.setControl(i, used+putSegment(unsafe.Add(unsafe.Pointer(&t.ctls[i]), used), r.seg))
	}
	r.count++
	r.bytes += n
	t.iovs[i].SetLen(r.bytes)
	t.off += n
	return true
}

// Flush sends what is queued. What the kernel or a path refuses is counted and does not
// hold up the rest; when the send buffer is full, the rest of the batch is dropped and
// counted, for later is too late for media.
func (s *Socket) Flush() {
	if s.tx.queue > 0 {
		s.send()
	}
	s.tx.off, s.tx.reserved = 0, -1
}

// send hands the queued runs to the kernel and leaves the arena as it is. The runtime is not told of system calls that do not wait
// (RawSyscall): for each that it is told of it wakes the thread that would look after those that do.
func (s *Socket) send() {
	t := &s.tx
	for i := 0; i < t.queue; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&t.msgs[i])), uintptr(t.queue-i), unix.MSG_DONTWAIT, 0, 0)
		s.counters.sendCalls.Add(1)
		switch errno {
		case 0:
			s.countSent(t.runs[i : i+int(n)])
			i += int(n) // what comes next failed; the next call says how
		case unix.EINTR:
		default:
			i += s.refused(i, errno)
		}
	}
	t.queue = 0
}

// refused deals with the error of the queued run i and tells how many runs are done with.
func (s *Socket) refused(i int, errno unix.Errno) int {
	t := &s.tx
	r := &t.runs[i]
	switch {
	case errno == unix.EAGAIN || errno == unix.ENOBUFS:
		for _, r := range t.runs[i:t.queue] {
			s.counters.sendDrops.Add(uint64(r.count))
		}
		return t.queue - i
	case r.count > 1 && errno == unix.EIO:
		// The way out computes no checksums (older kernels), so no run ever gets there.
		s.gso.Store(false)
	case r.count > 1 && (errno == unix.EINVAL || errno == unix.EMSGSIZE):
		// This path takes no run, most likely for its MTU. Not a reason to give up on
		// all: whoever can forge an ICMP error could then slow down everybody.
		addr := r.path.Remote.Addr()
		t.shun[shunPlace(addr)] = addr
		t.shunned = true
	default:
		s.counters.sendErrors.Add(uint64(r.count))
		return 1
	}
	s.counters.gsoRefusals.Add(1)
	s.sendSingly(i)
	return 1
}

// sendSingly sends the datagrams of run i one by one.
func (s *Socket) sendSingly(i int) {
	t := &s.tx
	r := t.runs[i]
	s.setControl(i, s.putLocal(&t.ctls[i], r.path.Local))
	for off := 0; off < r.bytes; off += r.seg {
		one := run{start: r.start + off, bytes: min(r.seg, r.bytes-off), count: 1}
		t.iovs[i].Base = &t.arena[one.start]
		t.iovs[i].SetLen(one.bytes)
		errno := unix.EINTR
		for errno == unix.EINTR {
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd),
				uintptr(unsafe.Pointer(&t.msgs[i].Hdr)), unix.MSG_DONTWAIT)
			s.counters.sendCalls.Add(1)
		}
		switch errno {
		case 0:
			s.countSent([]run{one})
		case unix.EAGAIN, unix.ENOBUFS:
			s.counters.sendDrops.Add(1)
		default:
			s.counters.sendErrors.Add(1)
		}
	}
}

func (s *Socket) countSent(runs []run) {
	var datagrams, bytes, joined uint64
	for i := range runs {
		r := &runs[i]
		datagrams += uint64(r.count)
		bytes += uint64(r.bytes)
		if r.count > 1 {
			joined += uint64(r.count)
		}
	}
	s.counters.sentDatagrams.Add(datagrams)
	s.counters.sentBytes.Add(bytes)
	if joined > 0 {
		s.counters.gsoSegments.Add(joined)
	}
}

// setControl makes the first n bytes of the ancillary data of message i count.
func (s *Socket) setControl(i, n int) {
	h := &s.tx.msgs[i].Hdr
	h.Control = nil
	if n > 0 {
		h.Control = (*byte)(unsafe.Pointer(&s.tx.ctls[i]))
	}
	h.SetControllen(n)
}

// putLocal writes the control message that chooses the address to send from, and returns
// its size; 0 when there is nothing to choose.
func (s *Socket) putLocal(c *control, local netip.Addr) int {
	if s.pinned.IsValid() || !local.IsValid() || local.IsUnspecified() {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	data := unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))
	if s.inet6 {
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: scope(local)}
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	if !local.Is4() && !local.Is4In6() {
		return 0
	}
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// putSegment writes the control message that cuts a run into datagrams of seg bytes.
func putSegment(c unsafe.Pointer, seg int) int {
	h := (*unix.Cmsghdr)(c)
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Add(c, unix.CmsgLen(0))) = uint16(seg)
	return unix.CmsgSpace(2)
}

// shunPlace is where an address is remembered.
func shunPlace(addr netip.Addr) int {
	var h byte
	for _, b := range addr.As16() {
		h = h*31 + b
	}
	return int(h) % shunPlaces
}
