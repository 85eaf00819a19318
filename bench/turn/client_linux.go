package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"
)

// socketBuffer is what sockets of the ends hold while the bench does something else.
const socketBuffer = 8 << 20

// Of a request: how often it is sent, and how long its answer is waited for, each time.
const (
	attempts     = 6
	answerWithin = 500 * time.Millisecond
)

// seat is a client: a socket that is connected to the server, and what it has there.
type seat struct {
	conn    *net.UDPConn
	fd      int // instead of conn, once requests are over; 0 until then
	relayed netip.AddrPort
	channel uint16

	key   stun.MessageIntegrity
	nonce stun.Nonce
	realm stun.Realm
	in    []byte
}

// control makes a socket one of an end's: any address is its own, and datagrams come with the time of their arrival.
func control(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		for _, o := range [][3]int{
			{unix.IPPROTO_IP, unix.IP_FREEBIND, 1}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		} {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
		}
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer))
		}
	}); e != nil {
		return e
	}
	return err
}

// bare takes a socket from the runtime, whose poller every packet would wake: over a line within one machine that is the sender's time,
// which no server would be made to pay by a network card.
func bare(c *net.UDPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("bench: a socket of an end: %w", err)
	}
	var failed error
	if err := raw.Control(func(n uintptr) { fd, failed = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, fmt.Errorf("bench: a socket of an end: %w", err)
	}
	if failed != nil {
		return -1, fmt.Errorf("bench: a socket of an end: %w", failed)
	}
	if err := c.Close(); err != nil {
		return -1, errors.Join(fmt.Errorf("bench: a socket of an end: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// newSeat opens the socket of the client of that number.
func newSeat(p *place, a addresses, i int, to netip.AddrPort) (*seat, error) {
	var conn net.Conn
	var err error
	in(p.client, func() {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.client(i), 0)), Control: control}
		conn, err = d.Dial("udp", to.String())
	})
	if err != nil {
		return nil, fmt.Errorf("bench: a client's socket: %w", err)
	}
	return &seat{
		conn: conn.(*net.UDPConn), channel: uint16(0x4000 + i), in: make([]byte, 1500),
		key: stun.NewLongTermIntegrity(username, realm, password), realm: stun.NewRealm(realm),
	}, nil
}

func (s *seat) close() {
	if s.fd > 0 {
		_ = unix.Close(s.fd)
		return
	}
	_ = s.conn.Close()
}

// settle ends the requests: what follows is the load's.
func (s *seat) settle() (err error) {
	s.fd, err = bare(s.conn)
	return err
}

// raw sends a message once and returns the answer; nil: there is none.
func (s *seat) raw(m *stun.Message) *stun.Message {
	if _, err := s.conn.Write(m.Raw); err != nil {
		return nil // who is not there yet says so by an ICMP message
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(answerWithin))
	for {
		n, err := s.conn.Read(s.in)
		if err != nil {
			return nil
		}
		out := &stun.Message{Raw: append([]byte(nil), s.in[:n]...)}
		if out.Decode() == nil && out.TransactionID == m.TransactionID {
			return out
		}
	}
}

// answered says whether the server answers a Binding request.
func (s *seat) answered() bool {
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	return err == nil && s.raw(m) != nil
}

// ask makes a request, with credentials as soon as the server has said what it wants.
func (s *seat) ask(method stun.Method, setters ...stun.Setter) (*stun.Message, error) {
	kind := stun.NewType(method, stun.ClassRequest)
	for range attempts {
		all := append([]stun.Setter{stun.TransactionID, kind}, setters...)
		if s.nonce != nil {
			all = append(all, stun.NewUsername(username), s.realm, s.nonce, s.key)
		}
		m, err := stun.Build(all...)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		answer := s.raw(m)
		if answer == nil {
			continue
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			return answer, nil
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", method, err)
		}
		if code.Code != stun.CodeUnauthorized && code.Code != stun.CodeStaleNonce || s.nonce != nil && code.Code == stun.CodeUnauthorized {
			return nil, fmt.Errorf("bench: %s: %s", method, code)
		}
		if err := answer.Parse(&s.nonce, &s.realm); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", method, err)
		}
	}
	return nil, fmt.Errorf("bench: %s: the server does not answer", method)
}

// allocate gets a relayed address, and a channel from it to the peer.
func (s *seat) allocate(peer netip.AddrPort) error {
	const udp, four, six = 17, 1, 2
	family := byte(four)
	if peer.Addr().Is6() {
		family = six
	}
	answer, err := s.ask(stun.MethodAllocate, stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{udp, 0, 0, 0}},
		stun.RawAttribute{Type: stun.AttrRequestedAddressFamily, Value: []byte{family, 0, 0, 0}})
	if err != nil {
		return err
	}
	var x stun.XORMappedAddress
	if err := x.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil {
		return fmt.Errorf("bench: the relayed address: %w", err)
	}
	addr, _ := netip.AddrFromSlice(x.IP)
	s.relayed = netip.AddrPortFrom(addr.Unmap(), uint16(x.Port))
	_, err = s.ask(stun.MethodChannelBind, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: binary.BigEndian.AppendUint32(nil, uint32(s.channel)<<16)}, xorPeer(peer))
	return err
}

// xorPeer is XOR-PEER-ADDRESS (RFC 8656 §18.3).
type xorPeer netip.AddrPort

// AddTo implements stun.Setter.
func (x xorPeer) AddTo(m *stun.Message) error {
	a := net.UDPAddrFromAddrPort(netip.AddrPort(x))
	return stun.XORMappedAddress{IP: a.IP, Port: a.Port}.AddToAs(m, stun.AttrXORPeerAddress)
}
