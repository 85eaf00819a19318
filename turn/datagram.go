package turn

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
)

// mtu is the largest frame that is taken.
const mtu = 2048

// datagrams is a UDP port as the library sees it. One goroutine of the library's reads it.
type datagrams struct {
	server *Server
	socket Socket
	local  net.Addr
	at     netip.AddrPort
	last   key // of the frame that the library has had
	buf    []byte
}

func newDatagrams(s *Server, socket Socket) *datagrams {
	at := socket.LocalAddr()
	return &datagrams{server: s, socket: socket, local: net.UDPAddrFromAddrPort(at), at: at, buf: make([]byte, 65536)}
}

// ReadFrom implements net.PacketConn: what the library is to have.
func (d *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	d.server.done(d.last)
	for {
		n, path, err := d.socket.Read(d.buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return 0, nil, err
			}
			d.server.counters.receiveErrors.Add(1)
			if d.server.over() {
				return 0, nil, net.ErrClosed
			}
			continue
		}
		k := key{client: path.Remote, server: d.at}
		forward, answer := d.server.receive(d.buf[:n], source{key: k, transport: UDP, path: path, port: d})
		if answer != nil {
			d.deliver(answer, path)
		}
		if forward == nil || len(forward) >= mtu {
			continue
		}
		d.last = k
		return copy(b, forward), net.UDPAddrFromAddrPort(path.Remote), nil
	}
}

// deliver implements port.
func (d *datagrams) deliver(b []byte, to udp.Path) {
	if d.socket.Write(b, to) != nil {
		d.server.counters.sendErrors.Add(1)
	}
}

// WriteTo implements net.PacketConn.
func (d *datagrams) WriteTo(b []byte, addr net.Addr) (int, error) {
	k := key{client: addrPort(addr), server: d.at}
	out, r := d.server.answer(b, k)
	path := udp.Path{Remote: k.client}
	if r != nil {
		path = r.path
	} else if a := d.server.table.inner(k); a != nil {
		path = a.at().path
	}
	if isChannelData(out) {
		out = out[:min(len(out), 4+int(binary.BigEndian.Uint16(out[2:])))] // the library pads it as on a stream; engines do not
	}
	if out != nil {
		d.deliver(out, path)
	}
	return len(b), nil
}

// LocalAddr implements net.PacketConn.
func (d *datagrams) LocalAddr() net.Addr { return d.local }

// Close implements net.PacketConn.
func (d *datagrams) Close() error { return d.socket.Close() }

// SetDeadline implements net.PacketConn; the library sets none.
func (d *datagrams) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn; the library sets none.
func (d *datagrams) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn; the library sets none.
func (d *datagrams) SetWriteDeadline(time.Time) error { return nil }

// Listen opens a UDP port at one address of this host, so that answers leave from where they were asked.
func Listen(addr netip.AddrPort) (Socket, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	buffers(c, 4<<20)
	return &socket{c, addrPort(c.LocalAddr())}, nil
}

type socket struct {
	*net.UDPConn
	local netip.AddrPort
}

func (s *socket) Read(b []byte) (int, udp.Path, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	return n, udp.Path{Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), Local: s.local.Addr()}, err
}

func (s *socket) Write(b []byte, to udp.Path) error {
	_, err := s.WriteToUDPAddrPort(b, to.Remote)
	return err
}

func (s *socket) LocalAddr() netip.AddrPort { return s.local }
