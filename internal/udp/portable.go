package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// portable is the stand-in for systems other than Linux: the same promises over
// net.UDPConn, one system call a datagram. It does not learn which local address a peer
// asked when it listens on all of them (Path.Local is then the zero Addr), a group is of one,
// and nothing is set aside. With a full send buffer its Flush waits instead of
// dropping. It is compiled on Linux too, for its tests.
type portable struct {
	conn     *net.UDPConn
	local    netip.AddrPort
	pinned   netip.Addr
	features Features

	counters counters
	awake    atomic.Bool
	timer    *time.Timer // cuts a read short

	in       []byte
	pending  bool // in holds a datagram that Receive has not handed out
	inSize   int
	inPath   Path
	out      []byte
	reserved int
	queue    []queued
}

// queued is a committed datagram, at the end of those before it in portable.out.
type queued struct {
	end  int
	path Path
}

// pollTime is how long a look at the socket may take: net.UDPConn cannot be asked
// without waiting.
const pollTime = time.Millisecond

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func listenPortable(cfg Config) (*portable, error) {
	p := &portable{reserved: -1, in: make([]byte, maxDatagram)}
	network := "udp"
	listen := net.UDPAddrFromAddrPort(unmap(cfg.Listen))
	if wildcard(cfg.Listen) {
		listen.IP = nil // both families, or the one that the host has
	} else {
		p.pinned = cfg.Listen.Addr().Unmap()
		if network = "udp6"; p.pinned.Is4() {
			network = "udp4"
		}
	}
	conn, err := net.ListenUDP(network, listen)
	if err != nil {
		return nil, &listenError{"listen on", cfg.Listen, err}
	}
	p.conn = conn
	p.features.LocalAddr = p.pinned.IsValid()
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		p.local = unmap(a.AddrPort())
	}
	switch {
	case p.local.Addr().Is4():
		p.features.Family = IPv4
	case p.pinned.IsValid():
		p.features.Family = IPv6
	default:
		p.features.Family = DualStack
	}
	// Less than asked is what the system allows, and it does not tell.
	_ = conn.SetReadBuffer(bufferOr(cfg.ReceiveBuffer))
	_ = conn.SetWriteBuffer(bufferOr(cfg.SendBuffer))
	p.timer = time.AfterFunc(time.Hour, p.interrupt)
	p.timer.Stop()
	return p, nil
}

// bufferOr is size, or the default where none is given.
func bufferOr(size int) int {
	if size <= 0 {
		return defaultBuffer
	}
	return size
}

func (p *portable) interrupt() { _ = p.conn.SetReadDeadline(past) }

// LocalAddr is the address bound, with the port that the system chose.
func (p *portable) LocalAddr() netip.AddrPort { return p.local }

// Features tells what there is.
func (p *portable) Features() Features { return p.features }

// Stats is a snapshot of the counters.
func (p *portable) Stats() Stats { return p.counters.snapshot() }

// Receive hands out the datagram that Wait has found, or looks for one.
func (p *portable) Receive(dst []Datagram) int {
	if len(dst) == 0 || (!p.pending && !p.read(pollTime, false)) {
		return 0
	}
	p.pending = false
	dst[0] = Datagram{Data: p.in[:p.inSize:p.inSize], Path: p.inPath}
	p.counters.receivedDatagrams.Add(1)
	p.counters.receivedBytes.Add(uint64(p.inSize))
	return 1
}

// ReceiveAside finds nothing.
func (p *portable) ReceiveAside([]Datagram) int { return 0 }

// Wait sleeps until there is something to receive, somebody calls Wake, or the timeout
// has passed; a negative timeout never passes.
func (p *portable) Wait(timeout time.Duration) (ready bool) {
	if p.pending {
		return true
	}
	p.counters.waitCalls.Add(1)
	if timeout >= 0 {
		timeout = max(timeout, pollTime)
	}
	return p.read(timeout, true)
}

// Heed changes nothing: nothing is aside.
func (p *portable) Heed(bool) {}

// read takes a datagram off the socket and says whether there was one. Its deadline is a
// timer that sets a past one, as the clock is not to be read here; one that fires late
// only ends the next read early.
func (p *portable) read(timeout time.Duration, wakeable bool) bool {
	_ = p.conn.SetReadDeadline(time.Time{})
	if wakeable && p.awake.Swap(false) {
		return false
	}
	if timeout >= 0 {
		p.timer.Reset(timeout)
		defer p.timer.Stop()
	}
	n, remote, err := p.conn.ReadFromUDPAddrPort(p.in)
	p.counters.receiveCalls.Add(1)
	if err != nil {
		if wakeable {
			p.awake.Store(false)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			p.counters.receiveErrors.Add(1)
		}
		return false
	}
	p.pending, p.inSize = true, n
	p.inPath = Path{Remote: unmap(remote), Local: p.pinned}
	return true
}

// Wake ends the current or the next Wait, from any goroutine.
func (p *portable) Wake() {
	p.awake.Store(true)
	p.interrupt()
}

// Reserve returns n bytes to write a datagram into.
func (p *portable) Reserve(n int) []byte {
	if n < 0 || n > maxDatagram {
		panic("udp: Reserve of more than a datagram")
	}
	if p.out == nil {
		p.out = make([]byte, 0, 4*maxDatagram)
	}
	if len(p.out)+n > cap(p.out) {
		p.Flush()
	}
	p.reserved = n
	return p.out[len(p.out) : len(p.out)+n : len(p.out)+n]
}

// Commit queues the first n bytes of the last Reserve for the path.
func (p *portable) Commit(n int, path Path) {
	if n < 0 || n > p.reserved {
		panic("udp: Commit of more than is reserved")
	}
	p.reserved = -1
	if n == 0 {
		return
	}
	p.out = p.out[:len(p.out)+n]
	p.queue = append(p.queue, queued{len(p.out), path})
}

// Flush sends what is queued.
func (p *portable) Flush() {
	start := 0
	for _, q := range p.queue {
		n, err := p.conn.WriteToUDPAddrPort(p.out[start:q.end], q.path.Remote)
		p.counters.sendCalls.Add(1)
		if err != nil {
			p.counters.sendErrors.Add(1)
		} else {
			p.counters.sentDatagrams.Add(1)
			p.counters.sentBytes.Add(uint64(n))
		}
		start = q.end
	}
	p.queue, p.out, p.reserved = p.queue[:0], p.out[:0], -1
}

// Post sends one datagram at once, from any goroutine.
func (p *portable) Post(b []byte, path Path) error {
	_, err := p.conn.WriteToUDPAddrPort(b, path.Remote)
	return err
}

// Steer is refused: there is nothing to steer between.
func (p *portable) Steer([]Steered) (int, error) {
	return 0, &listenError{"steer to", p.local, errors.ErrUnsupported}
}

// Close closes the socket. A second Close does nothing.
func (p *portable) Close() error {
	p.timer.Stop()
	if err := p.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
