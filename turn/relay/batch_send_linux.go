package relay

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sendMessages runs go out with one system call, of this many pieces in all.
	sendMessages = 64
	places       = 1024
	// maxRun and maxRunBytes bound what is handed over as one message: 64 segments is what every kernel with GSO takes, and the whole
	// has to fit the length field of one IP packet with its headers.
	maxRun      = 64
	maxRunBytes = 65000
)

// run is a message: one datagram, or several of seg bytes each, of which the last may be shorter.
type run struct {
	way         *way
	seg, bytes  int
	count       int
	first, last int32 // packets
	next        int32 // run of the same socket; -1: the last
}

// sender is what a shard is to send.
type sender struct {
	batch   uint64 // its number
	packets [packets]packet
	n       int32 // of them
	runs    [packets]run
	m       int32     // of them
	outs    []*socket // that they leave from

	msgs [sendMessages]mmsghdr
	of   [sendMessages]int32 // the run that a message is
	ctls [sendMessages]control
	iovs [places]unix.Iovec
}

// packet is a free one, for the next add.
func (s *shard) packet() *packet {
	if s.out.n == packets {
		s.send()
	}
	return &s.out.packets[s.out.n]
}

// down makes ChannelData of what a peer has sent, in front of it where there is room.
func (s *shard) down(w *way, data, whole []byte) {
	p := s.packet()
	h := p.header[:]
	p.data, p.beside = data, whole == nil
	if whole != nil {
		p.data, h = whole, whole
	}
	binary.BigEndian.PutUint16(h, w.channel)
	binary.BigEndian.PutUint16(h[2:], uint16(len(data)))
	s.add(w, w.port.sockets[s.index], headerSize+len(data))
}

// add queues the packet that has been filled, of so many bytes, on its way.
func (s *shard) add(w *way, from *socket, size int) {
	o := &s.out
	p := o.n
	o.n++
	o.packets[p].next = -1
	if w.batch == o.batch {
		if r := &o.runs[w.run]; size <= r.seg && size > 0 && r.bytes == r.seg*r.count && r.count < maxRun && r.bytes+size <= maxRunBytes && !w.plain && s.engine.gso.Load() {
			o.packets[r.last].next = p
			r.last = p
			r.count++
			r.bytes += size
			return
		}
	}
	i := o.m
	o.m++
	o.runs[i] = run{way: w, seg: size, bytes: size, count: 1, first: p, last: p, next: -1}
	w.batch, w.run = o.batch, i
	if from.batch == o.batch {
		o.runs[from.last].next = i
	} else {
		from.batch, from.first = o.batch, i
		o.outs = append(o.outs, from)
	}
	from.last = i
}

// send sends what is queued.
func (s *shard) send() {
	o := &s.out
	if o.m == 0 {
		return
	}
	for _, k := range o.outs {
		n, v := 0, 0
		for i := k.first; i >= 0; i = o.runs[i].next {
			r := &o.runs[i]
			if n == sendMessages || v+2*r.count > places {
				s.hand(k, n)
				n, v = 0, 0
			}
			v = s.lay(n, i, v)
			n++
		}
		s.hand(k, n)
	}
	clear(o.outs)
	o.outs, o.n, o.m = o.outs[:0], 0, 0
	o.batch++
}

// lay makes a run message n, of pieces from v on, and returns the next piece.
func (s *shard) lay(n int, i int32, v int) int {
	o := &s.out
	r := &o.runs[i]
	w := r.way
	s.count(r) // before anybody can have it
	h := &o.msgs[n].hdr
	o.of[n] = i
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&w.name)), w.nameLen
	h.Iov = &o.iovs[v]
	from := v
	for p := r.first; p >= 0; p = o.packets[p].next {
		v += o.packets[p].pieces(o.iovs[v:])
	}
	h.SetIovlen(v - from)
	h.Control = nil
	h.SetControllen(0)
	if r.count > 1 {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&o.ctls[n]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
		*(*uint16)(unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))) = uint16(r.seg)
		h.Control = (*byte)(unsafe.Pointer(c))
		h.SetControllen(unix.CmsgSpace(2))
	}
	return v
}

// pieces lays the packet down, and returns in how many.
func (p *packet) pieces(v []unix.Iovec) int {
	n := 0
	if p.beside {
		v[0].Base = &p.header[0]
		v[0].SetLen(headerSize)
		n++
	}
	v[n].Base = unsafe.SliceData(p.data)
	v[n].SetLen(len(p.data))
	return n + 1
}

// hand gives the first n messages to the kernel. What that or a path refuses does not hold up the rest.
func (s *shard) hand(k *socket, n int) {
	o := &s.out
	for i := 0; i < n; {
		var sent uintptr
		var errno unix.Errno
		switch h := &o.msgs[i].hdr; {
		case n-i == 1 && h.Iovlen == 1 && h.Control == nil: // the kernel has least to copy
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(k.fd), uintptr(unsafe.Pointer(h.Iov.Base)), uintptr(h.Iov.Len), unix.MSG_DONTWAIT,
				uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
			sent = 1
		case n-i == 1:
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(k.fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
			sent = 1
		default:
			sent, _, errno = unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&o.msgs[i])), uintptr(n-i), unix.MSG_DONTWAIT, 0, 0)
		}
		s.engine.stats.sendCalls.Add(1)
		switch errno {
		case 0:
			i += int(sent)
		case unix.EINTR:
		default:
			s.refused(k, &o.runs[o.of[i]], &o.msgs[i].hdr, errno)
			i++
		}
	}
}

// count counts a run.
func (s *shard) count(r *run) {
	bytes := r.bytes
	if r.way.peers == nil {
		bytes -= headerSize * r.count
	}
	r.way.packets.Add(uint64(r.count))
	r.way.bytes.Add(uint64(bytes))
	s.engine.stats.relayed.Add(uint64(r.count))
	if r.count > 1 {
		s.engine.stats.joined.Add(uint64(r.count))
	}
}

// refused deals with a run that the kernel has not taken.
func (s *shard) refused(k *socket, r *run, h *unix.Msghdr, errno unix.Errno) {
	stats := &s.engine.stats
	switch {
	case errno == unix.EAGAIN || errno == unix.ENOBUFS:
		stats.sendDrops.Add(uint64(r.count))
		return
	case r.count > 1 && errno == unix.EIO:
		s.engine.gso.Store(false) // the way out computes no checksums (older kernels): no run ever gets there
	case r.count > 1 && (errno == unix.EINVAL || errno == unix.EMSGSIZE):
		r.way.plain = true // most likely for the path's MTU
	default:
		stats.sendErrors.Add(uint64(r.count))
		return
	}
	stats.gsoRefusals.Add(1)
	h.Control = nil
	h.SetControllen(0)
	o := &s.out
	for p := r.first; p >= 0; p = o.packets[p].next {
		var iovs [2]unix.Iovec
		h.Iov = &iovs[0]
		h.SetIovlen(o.packets[p].pieces(iovs[:]))
		errno = unix.EINTR
		for errno == unix.EINTR {
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(k.fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
			stats.sendCalls.Add(1)
		}
		switch errno {
		case 0:
		case unix.EAGAIN, unix.ENOBUFS:
			stats.sendDrops.Add(1)
		default:
			stats.sendErrors.Add(1)
		}
	}
}
