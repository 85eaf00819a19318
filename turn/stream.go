package turn

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/internal/spool"
	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
)

// How long a client may take for its handshake, to get an allocation, and to take in what is sent to it.
const (
	handshakeLimit = 10 * time.Second
	idleLimit      = 30 * time.Second
	writeLimit     = 10 * time.Second
)

// streams is a listener as the library sees it: what it accepts has shaken hands.
type streams struct {
	Listener
	server *Server
	ready  chan *stream
}

func newStreams(s *Server, l Listener) *streams {
	return &streams{Listener: l, server: s, ready: make(chan *stream)}
}

// run accepts until the listener is closed.
func (l *streams) run() {
	defer l.server.running.Done()
	for pause := 5 * time.Millisecond; ; {
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || l.server.over():
			return
		case err != nil: // no more files: it passes
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
			case <-l.server.closing:
				return
			}
			continue
		}
		pause = 5 * time.Millisecond
		st := newStream(l, c)
		if !l.server.admit(st) {
			_ = c.Close()
			continue
		}
		l.server.running.Add(1)
		go l.greet(st)
	}
}

// greet shakes hands with one client and gives it to the library.
func (l *streams) greet(st *stream) {
	defer l.server.running.Done()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
	defer cancel()
	var err error
	switch c := st.Conn.(type) {
	case interface { // *tls.Conn, or what wraps one
		HandshakeContext(context.Context) error
		ConnectionState() tls.ConnectionState
	}:
		err = c.HandshakeContext(ctx)
	case *dtls.Conn:
		err = c.HandshakeContext(ctx)
	}
	if err != nil {
		l.server.counters.handshakes.Add(1)
		_ = st.Close()
		return
	}
	if c, ok := st.Conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		st.source.name = c.ConnectionState().ServerName
	}
	select {
	case l.ready <- st:
	case <-l.server.closing:
		_ = st.Close()
	}
}

// Accept implements net.Listener for the library.
func (l *streams) Accept() (net.Conn, error) {
	select {
	case st := <-l.ready:
		return st, nil
	case <-l.server.closing:
		return nil, net.ErrClosed
	}
}

// stream is one client's connection as the library sees it: each Read gives one frame that the library is to have, until the
// connection is bound to one of a peer's (RFC 6062 §5.4) and carries bytes.
type stream struct {
	net.Conn
	server *Server
	source source
	packet bool // over DTLS each Read is a frame

	// The reader's.
	buf  []byte // what came and has not been read
	idle time.Time

	raw    atomic.Bool
	gone   atomic.Bool
	closed sync.Once

	mu    sync.Mutex
	later *spool.Spool // what is not to wait for the client
	over  bool
}

func newStream(l *streams, c net.Conn) *stream {
	k := key{client: addrPort(c.RemoteAddr()), server: addrPort(c.LocalAddr()), stream: l.Transport != DTLS}
	st := &stream{Conn: c, server: l.server, packet: l.Transport == DTLS, idle: time.Now()}
	st.source = source{key: k, transport: l.Transport, path: udp.Path{Remote: k.client}, port: st}
	return st
}

// Read implements net.Conn for the library.
func (st *stream) Read(b []byte) (int, error) {
	if st.raw.Load() {
		if len(st.buf) > 0 {
			n := copy(b, st.buf)
			st.buf = st.buf[n:]
			return n, nil
		}
		return st.Conn.Read(b)
	}
	st.server.done(st.source.key)
	for {
		f, err := st.next()
		if err != nil {
			return 0, err
		}
		forward, answer := st.server.receive(f, st.source)
		st.buf = st.buf[len(f):]
		if answer != nil {
			if _, err := st.send(answer); err != nil {
				return 0, err
			}
		}
		if forward == nil || len(forward) >= mtu-4 {
			continue
		}
		if isChannelData(forward) && len(forward) < shortest {
			if forward = st.server.asIndication(forward, st.source.key); forward == nil {
				continue
			}
		}
		n := copy(b, forward)
		if isChannelData(forward) {
			for n%4 != 0 { // over DTLS it need not be padded, but the library wants it so
				b[n] = 0
				n++
			}
		}
		return n, nil
	}
}

// shortest is the length of the shortest frame that the library finds in a stream: it waits for more than the 8 bytes that a
// channel's shortest have.
const shortest = 12

// next returns the next frame, which stays at the head of the buffer.
func (st *stream) next() ([]byte, error) {
	for {
		n := frame(st.buf)
		switch {
		case st.packet && len(st.buf) > 0:
			return st.buf, nil
		case n < 0:
			st.server.counters.malformed.Add(1)
			return nil, errFrame
		case n > 0 && len(st.buf) >= n:
			return st.buf[:n], nil
		}
		if err := st.more(); err != nil {
			return nil, err
		}
	}
}

var errFrame = errors.New("turn: not a frame of TURN")

// more reads what has come. A client without an allocation has to get one before long.
func (st *stream) more() error {
	var chunk [4096]byte
	for {
		_ = st.Conn.SetReadDeadline(st.idle.Add(idleLimit)) // fails on what is closed, as Read will
		n, err := st.Conn.Read(chunk[:])
		if n > 0 {
			st.buf = append(st.buf, chunk[:n]...)
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err == nil {
				continue
			}
			return err
		}
		if st.server.table.get(st.source.key) == nil {
			st.server.counters.idle.Add(1)
			return err
		}
		st.idle = time.Now()
	}
}

// Write implements net.Conn for the library.
func (st *stream) Write(b []byte) (int, error) {
	if st.raw.Load() {
		return st.Conn.Write(b)
	}
	out, r := st.server.answer(b, st.source.key)
	if out == nil {
		return len(b), nil
	}
	bound := r != nil && binary.BigEndian.Uint16(out) == uint16(stun.NewType(methodConnectionBind, stun.ClassSuccess))
	if bound {
		_ = st.Conn.SetReadDeadline(time.Time{})
		st.server.counters.bound.Add(1)
		st.raw.Store(true)
	}
	if _, err := st.send(out); err != nil {
		return 0, err
	}
	if bound {
		_ = st.Conn.SetWriteDeadline(time.Time{})
	}
	return len(b), nil
}

// send writes one frame. One that was cut short makes the rest of the stream worthless.
func (st *stream) send(b []byte) (int, error) {
	_ = st.Conn.SetWriteDeadline(time.Now().Add(writeLimit))
	n, err := st.Conn.Write(b)
	if err != nil {
		st.server.counters.sendErrors.Add(1)
		_ = st.Conn.Close()
	}
	return n, err
}

// deliver implements port: what comes from the annex and from the media port, which others wait for, too. A client that is too slow
// loses frames.
func (st *stream) deliver(b []byte, _ udp.Path) {
	switch {
	case st.raw.Load():
	case st.packet: // over DTLS frames are datagrams, which nothing holds up
		_, _ = st.send(b) // counted
	case !st.spool().Put(b):
		st.server.counters.sendErrors.Add(1)
	}
}

// spool returns what writes to the client beside the library. After the end it takes nothing.
func (st *stream) spool() *spool.Spool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.later == nil {
		st.later = spool.New(st.Conn, spool.Config{Patience: writeLimit})
		if st.over {
			_ = st.later.Close()
		}
	}
	return st.later
}

// hangUp closes the connection and ends what writes to it.
func (st *stream) hangUp() error {
	st.mu.Lock()
	st.over = true
	later := st.later
	st.mu.Unlock()
	err := st.Conn.Close()
	if later != nil {
		_ = later.Close() // once more
	}
	return err
}

// Close implements net.Conn. With the connection ends what the library does not know to be of it, unless it may move.
func (st *stream) Close() error {
	st.closed.Do(func() {
		st.server.done(st.source.key)
		st.server.dismiss(st)
		st.gone.Store(true)
		if a, to, ok := st.server.table.left(st.source.key); ok {
			st.server.arrive(a, to)
		}
		for a := st.server.table.get(st.source.key); a != nil; a = a.other.Load() {
			if a.inner != st.source.key && !a.mobile {
				a.rel.shut()
				break
			}
		}
	})
	return st.hangUp()
}
