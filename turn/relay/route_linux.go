package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/bpf"
)

var (
	errNoWay    = errors.New("relay: no way through the kernel")
	errNetlink  = errors.New("relay: the kernel's answer is not understood")
	errEthernet = errors.New("relay: not an Ethernet interface")
)

// way says how packets from one address reach another, and lets the relay see what comes in from there.
func (e *TCX) way(from, to netip.Addr) (bpf.Way, error) {
	w, err := e.routes.find(from, to)
	if err != nil {
		return bpf.Way{}, err
	}
	if err := e.kernel.Attach(int(w.Interface)); err != nil {
		return bpf.Way{}, fmt.Errorf("%w: %w", ErrInterface, err)
	}
	return w, nil
}

// routes asks the kernel for routes and interfaces (rtnetlink). Answers are there when the question has been written.
type routes struct {
	fd   int
	seq  uint32
	mtus map[uint32]uint32 // of interfaces asked for since forget
	buf  [8192]byte
}

func newRoutes() (*routes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("relay: open rtnetlink: %w", err)
	}
	// Should an answer be missing after all, nobody waits for it for long.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return nil, errors.Join(fmt.Errorf("relay: set up rtnetlink: %w", err), unix.Close(fd))
	}
	return &routes{fd: fd, mtus: map[uint32]uint32{}}, nil
}

func (r *routes) close() error { return unix.Close(r.fd) }

// forget is called when interfaces may have changed.
func (r *routes) forget() { clear(r.mtus) }

// find returns the interface, the neighbour and the MTU of the way from an address of this machine to another machine.
func (r *routes) find(from, to netip.Addr) (bpf.Way, error) {
	family, bits := byte(unix.AF_INET), byte(to.BitLen())
	if to.Is6() {
		family = unix.AF_INET6
	}
	body := []byte{family, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0} // struct rtmsg
	body = attribute(attribute(body, unix.RTA_DST, to.AsSlice()), unix.RTA_SRC, from.AsSlice())
	m, err := r.ask(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, body)
	if err != nil {
		return bpf.Way{}, err
	}
	if len(m.Data) < unix.SizeofRtMsg || m.Data[7] != unix.RTN_UNICAST {
		return bpf.Way{}, errNoWay // this machine itself, a broadcast, a blackhole
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return bpf.Way{}, fmt.Errorf("relay: read a route: %w", err)
	}
	w := bpf.Way{Hop: to}
	var mtu uint32
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			w.Interface = number(a.Value)
		case unix.RTA_GATEWAY:
			hop, ok := netip.AddrFromSlice(a.Value)
			if !ok {
				return bpf.Way{}, errNetlink
			}
			w.Hop = hop
		case unix.RTA_VIA, unix.RTA_ENCAP: // a neighbour of the other family, a tunnel
			return bpf.Way{}, errNoWay
		case unix.RTA_METRICS:
			mtu = metric(a.Value, unix.RTAX_MTU)
		}
	}
	device, err := r.mtu(w.Interface)
	if err != nil {
		return bpf.Way{}, err
	}
	if mtu == 0 || mtu > device {
		mtu = device
	}
	w.MTU = uint16(min(mtu, 1<<16-1))
	return w, nil
}

// mtu returns that of an Ethernet interface.
func (r *routes) mtu(index uint32) (uint32, error) {
	if n, ok := r.mtus[index]; ok {
		return n, nil
	}
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], index)
	m, err := r.ask(unix.RTM_GETLINK, unix.RTM_NEWLINK, body)
	if err != nil {
		return 0, err
	}
	if len(m.Data) < unix.SizeofIfInfomsg || binary.NativeEndian.Uint16(m.Data[2:]) != unix.ARPHRD_ETHER {
		return 0, errEthernet
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return 0, fmt.Errorf("relay: read an interface: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_MTU {
			r.mtus[index] = number(a.Value)
			return r.mtus[index], nil
		}
	}
	return 0, errNetlink
}

// ask sends a request and returns the message that answers it.
func (r *routes) ask(request, answer uint16, body []byte) (*syscall.NetlinkMessage, error) {
	r.seq++
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, request)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, r.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	if err := unix.Sendto(r.fd, append(b, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("relay: ask rtnetlink: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(r.fd, r.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("relay: hear rtnetlink: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(r.buf[:n])
		if err != nil {
			return nil, fmt.Errorf("relay: read rtnetlink: %w", err)
		}
		for i := range messages {
			m := &messages[i]
			switch {
			case m.Header.Seq != r.seq: // of a question that was given up
			case m.Header.Type == answer:
				return m, nil
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				return nil, fmt.Errorf("%w: %w", errNoWay, syscall.Errno(-int32(number(m.Data))))
			default:
				return nil, errNetlink
			}
		}
	}
}

// attribute appends an rtnetlink attribute whose value is a multiple of four bytes.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	return append(binary.NativeEndian.AppendUint16(b, kind), value...)
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// metric finds one among the attributes in an attribute; 0: it is not there.
func metric(b []byte, kind uint16) uint32 {
	for len(b) >= 8 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return 0
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return number(b[4:size])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0
}

// watch hears of changes of routes and interfaces.
type watch struct{ file *os.File }

func newWatch() (*watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("relay: open rtnetlink: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("relay: listen to rtnetlink: %w", err), unix.Close(fd))
	}
	return &watch{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// wait returns when something has changed since the last time; false after close. What it was does not matter, and neither does it
// if some of it was lost (ENOBUFS).
func (w *watch) wait() bool {
	var b [8192]byte
	_, err := w.file.Read(b[:])
	return err == nil || errors.Is(err, unix.ENOBUFS)
}

func (w *watch) close() error { return w.file.Close() }
