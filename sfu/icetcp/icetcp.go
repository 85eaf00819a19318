// Package icetcp is ICE over TCP, passive (RFC 6544): clients connect, and each datagram of ICE, DTLS and SRTP is a frame of RFC 4571.
//
// It owns the connections and their buffers. It promises that nobody waits for a client that is too slow (it loses frames instead, and is
// hung up on when it takes nothing for ten seconds), that a connection over which nobody has been answered for half a minute is closed,
// that there is a most of connections in all and from one address, and that Close returns when everything is closed.
//
// It knows nothing of what is in a frame: who is answered is decided by whom the frames are delivered to.
package icetcp

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/spool"
	"github.com/sotto-edge/sotto/internal/udp"
)

// Receiver takes what comes, as datagrams. It copies b and does not block; false: there was no room.
type Receiver interface {
	Deliver(p udp.Path, b []byte) bool
}

// Config is what a Server is made of.
type Config struct {
	Receiver Receiver
	// Connections are taken at once [4000], of one address or IPv6 /64 [200]: a whole office may be behind one.
	Connections, Source int
	// Idle is how long a connection is kept without an answer over it [30 s].
	Idle time.Duration
}

// Stats are the figures of a Server.
type Stats struct {
	Connections               int    // of now
	Accepted, Refused         uint64 // refused for there were too many
	FramesIn, FramesOut       uint64
	BytesIn, BytesOut         uint64
	DropsIn, DropsOut         uint64 // for want of room
	ClosedIdle, ClosedFraming uint64
	Late                      uint64 // frames for connections that had ended
}

// longest is the longest frame that is taken: longer ones are no datagrams of a media session.
const longest = 2048

// Server takes connections.
type Server struct {
	cfg Config

	accepted, refused, framesIn, framesOut, bytesIn, bytesOut, dropsIn, dropsOut, idle, framing, late atomic.Uint64

	mu        sync.Mutex
	conns     map[udp.Path]*conn
	sources   map[netip.Addr]int
	listeners map[net.Listener]struct{}
	closed    bool
	running   sync.WaitGroup
}

type conn struct {
	net.Conn
	path  udp.Path
	out   *spool.Spool
	began time.Time
	said  atomic.Int64 // when something was last sent, since began
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Connections == 0 {
		cfg.Connections = 4000
	}
	if cfg.Source == 0 {
		cfg.Source = 200
	}
	if cfg.Idle == 0 {
		cfg.Idle = 30 * time.Second
	}
	return &Server{cfg: cfg, conns: make(map[udp.Path]*conn), sources: make(map[netip.Addr]int), listeners: make(map[net.Listener]struct{})}
}

// Serve accepts connections until the listener or the Server is closed.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if x := s.take(c); x != nil {
			go s.read(x)
		} else {
			s.refused.Add(1)
			_ = c.Close()
		}
	}
}

// take makes a connection one of the server's, if there is room.
func (s *Server) take(c net.Conn) *conn {
	remote, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	x := &conn{Conn: c, path: udp.Path{Remote: remote, Local: local.Addr(), Way: udp.Stream}, began: time.Now()}
	from := source(remote.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !remote.IsValid() || len(s.conns) >= s.cfg.Connections || s.sources[from] >= s.cfg.Source || s.conns[x.path] != nil {
		return nil
	}
	x.out = spool.New(c, spool.Config{})
	s.conns[x.path] = x
	s.sources[from]++
	s.running.Add(1)
	s.accepted.Add(1)
	return x
}

// read delivers frames until the connection ends.
func (s *Server) read(c *conn) {
	defer s.running.Done()
	defer s.drop(c)
	in := &frames{conn: c.Conn}
	for {
		until := c.began.Add(time.Duration(c.said.Load()) + s.cfg.Idle)
		if !time.Now().Before(until) {
			s.idle.Add(1)
			return
		}
		_ = c.SetReadDeadline(until) // fails on what is closed, as Read will
		b, err := in.next()
		switch {
		case errors.Is(err, errTooLong):
			s.framing.Add(1)
			return
		case err != nil:
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				continue // something may have been sent meanwhile
			}
			return
		}
		s.framesIn.Add(1)
		s.bytesIn.Add(uint64(len(b)))
		if !s.cfg.Receiver.Deliver(c.path, b) {
			s.dropsIn.Add(1)
		}
	}
}

func (s *Server) drop(c *conn) {
	s.mu.Lock()
	delete(s.conns, c.path)
	from := source(c.path.Remote.Addr())
	if s.sources[from]--; s.sources[from] == 0 {
		delete(s.sources, from)
	}
	s.mu.Unlock()
	_ = c.out.Close() // and the connection
}

// Send sends a datagram to who is connected by that path. It copies b and does not block.
func (s *Server) Send(p udp.Path, b []byte) {
	s.mu.Lock()
	c := s.conns[p]
	s.mu.Unlock()
	if c == nil {
		s.late.Add(1)
		return
	}
	length := [2]byte{byte(len(b) >> 8), byte(len(b))}
	if len(b) > 0xffff || !c.out.Put(length[:], b) {
		s.dropsOut.Add(1)
		return
	}
	c.said.Store(int64(time.Since(c.began)))
	s.framesOut.Add(1)
	s.bytesOut.Add(uint64(len(b)))
}

// Stats returns the figures of now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	return Stats{
		Connections: n, Accepted: s.accepted.Load(), Refused: s.refused.Load(), FramesIn: s.framesIn.Load(), FramesOut: s.framesOut.Load(),
		BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(), DropsIn: s.dropsIn.Load(), DropsOut: s.dropsOut.Load(),
		ClosedIdle: s.idle.Load(), ClosedFraming: s.framing.Load(), Late: s.late.Load(),
	}
}

// Close closes the listeners and all connections.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for _, c := range s.conns {
		_ = c.Conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// frames reads a stream frame by frame (RFC 4571 §2). A frame that has come in part stays until the rest has.
type frames struct {
	conn io.Reader
	buf  [2 + longest]byte
	have int // bytes in buf
	used int // of these, of frames that were returned
}

var errTooLong = errors.New("icetcp: a frame longer than any datagram")

// next returns the next frame, which is the caller's until he asks for another. Empty ones are skipped.
func (f *frames) next() ([]byte, error) {
	for {
		if b := f.buf[f.used:f.have]; len(b) >= 2 {
			switch n := int(binary.BigEndian.Uint16(b)); {
			case n > longest:
				return nil, errTooLong
			case len(b) >= 2+n:
				f.used += 2 + n
				if n == 0 {
					continue
				}
				return b[2 : 2+n : 2+n], nil
			}
		}
		f.have, f.used = copy(f.buf[:], f.buf[f.used:f.have]), 0
		n, err := f.conn.Read(f.buf[f.have:])
		if f.have += n; n == 0 && err != nil {
			return nil, err
		}
	}
}

// source is what connections are counted by.
func source(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64) // never fails for 64 bits of an IPv6 address
		return p.Addr()
	}
	return a
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
