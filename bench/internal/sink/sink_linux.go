package sink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Sink is a UDP socket as pion sees it: it sends to one server, and RTP that the account has taken note of does not come through.
type Sink struct {
	pool  *Pool
	addr  *net.UDPAddr
	in    chan []byte
	ended chan struct{}
	lost  atomic.Uint64     // datagrams that pion was too slow for
	left  [128]atomic.Int64 // when the last packet of a payload type was handed to the kernel

	mu      sync.Mutex // of what follows
	fd      int        // -1: closed
	server  netip.AddrPort
	via     func(server netip.AddrPort) (netip.AddrPort, error)
	turns   *Turns
	account account
	guard   *guard // nil: nobody looks at indices
}

// Open makes a socket on an address of this machine. Until Connect, nothing comes in by it, and what is sent is lost.
func (s *Pool) Open(local netip.Addr, own uint32) (*Sink, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: socket: %w", err)
	}
	k := &Sink{pool: s, in: make(chan []byte, sinkQueue), ended: make(chan struct{}), fd: fd, account: account{own: own, every: s.every}}
	if err := k.setUp(local); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: socket: %w", err), unix.Close(fd))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guarded {
		k.guard = newGuard()
	}
	s.all = append(s.all, k)
	return k, nil
}

func (k *Sink) setUp(local netip.Addr) error {
	if unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer) != nil { // root only
		_ = unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, sinkBuffer)
	}
	if err := unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	if err := unix.Bind(k.fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return err
	}
	name, err := unix.Getsockname(k.fd)
	if err != nil {
		return err
	}
	own, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return errors.New("no IPv4 address")
	}
	k.addr = &net.UDPAddr{IP: own.Addr[:], Port: own.Port}
	return nil
}

// Connect says where the server is, and what its packets' numbers mean. From here on the socket sends there and hears nobody else.
func (k *Sink) Connect(server netip.AddrPort, l Layout) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return net.ErrClosed
	}
	to := server
	if k.via != nil {
		var err error
		if to, err = k.via(server); err != nil {
			return err
		}
	}
	if err := unix.Connect(k.fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return fmt.Errorf("bench: connect to %s: %w", to, err)
	}
	k.server, k.account.layout = server, l
	return nil
}

// Via has the socket reach the server through something else, which nobody behind it notices. It is for before Connect.
func (k *Sink) Via(find func(server netip.AddrPort) (netip.AddrPort, error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.via = find
}

// Watch counts the datagrams of a join by whose turn it was, until the first of media.
func (k *Sink) Watch(t *Turns) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.turns = t
}

// hand gives pion a datagram. The lock is held.
func (k *Sink) hand(b []byte) {
	select {
	case k.in <- append([]byte(nil), b...):
	default:
		k.lost.Add(1)
	}
}

// ReadFromAddrPort is what pion reads with (ice.AddrPortReaderWriter).
func (k *Sink) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-k.in:
		k.mu.Lock()
		server := k.server
		k.mu.Unlock()
		return copy(b, d), server, nil
	case <-k.ended:
		return 0, netip.AddrPort{}, io.EOF
	}
}

// WriteToAddrPort is what pion writes with. What is not for the server's first address is not sent.
func (k *Sink) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return 0, net.ErrClosed
	}
	if to != k.server {
		return len(b), nil
	}
	now := time.Now().UnixNano()
	if k.turns != nil {
		k.turns.datagram(b, now, client)
	}
	if len(b) > 1 && b[0]>>6 == 2 && !rtp.IsRTCP(b) {
		k.left[b[1]&0x7f].Store(now)
	}
	if err := unix.Send(k.fd, b, 0); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN) {
		return 0, err
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn.
func (k *Sink) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := k.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn.
func (k *Sink) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.ErrClosed
	}
	a := u.AddrPort()
	return k.WriteToAddrPort(b, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// Close implements net.PacketConn. It may be called twice.
func (k *Sink) Close() error {
	k.pool.forget(k)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return nil
	}
	close(k.ended)
	err := unix.Close(k.fd)
	k.fd = -1
	if k.guard != nil {
		k.pool.mu.Lock()
		k.pool.past.add(k.guard.count)
		k.pool.mu.Unlock()
		k.guard = nil
	}
	return err
}

// LocalAddr implements net.PacketConn.
func (k *Sink) LocalAddr() net.Addr { return k.addr }

// SetDeadline implements net.PacketConn; nobody here waits long.
func (k *Sink) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (k *Sink) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (k *Sink) SetWriteDeadline(time.Time) error { return nil }

// State is what has come in so far.
type State struct {
	Packets, Bytes, Duplicates, Repaired uint64
	First, Picture                       int64 // wall clock of the first packet, and of the first of pictures; 0: none
	Streams                              int
	Highest                              map[uint32]int64 // newest sequence number of each stream
}

// State returns it.
func (k *Sink) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := &k.account
	return State{a.packets, a.bytes, a.duplicates, a.repaired, a.first, a.picture, len(a.streams), a.highest()}
}

// Lost counts the packets that are missing between two states, over all streams.
func (k *Sink) Lost(from, to map[uint32]int64) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account.lost(from, to)
}

// Opened notes that a packet was decrypted, and returns the kernel's time stamp of its arrival where it was a sample.
func (k *Sink) Opened(ssrc uint32, seq uint16, repaired bool, now int64) (at int64, sampled bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if repaired {
		k.account.repairedBy(ssrc, seq, now)
		return 0, false
	}
	return k.account.arrival(ssrc, seq)
}

// AppendRTCP appends what the server is to be told now: requests for lost packets always, arrivals and a report where due.
func (k *Sink) AppendRTCP(dst []byte, now int64, arrivals, report bool) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	dst = k.account.requests(dst, now)
	if arrivals {
		dst = k.account.feedback(dst)
	}
	if report {
		dst = k.account.report(dst, now)
	}
	return dst
}

// Missed returns how many datagrams pion was too slow for.
func (k *Sink) Missed() uint64 { return k.lost.Load() }

// Departure returns when the newest packet of a payload type was handed to the kernel, on the wall clock.
func (k *Sink) Departure(payloadType uint8) int64 { return k.left[payloadType&0x7f].Load() }
