// Package porter lets one TCP port carry several protocols: HTTPS, TURN over TCP and over TLS, and ICE over TCP.
//
// It looks at the first bytes of each connection, and again at the first ones inside TLS unless the client has said there by ALPN what it
// wants: browsers say nothing for TURN. Each protocol has a listener of its own, that accepts what was found to be for it, with nothing
// read away. It promises that a connection which says too little for too long is closed, that at most so many are looked at at a time,
// and that Close returns when every goroutine it started is gone.
//
// It answers nothing itself and does not know what is behind the listeners.
package porter

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what the first bytes of a connection say.
type Kind uint8

// The kinds of connections.
const (
	Unclear Kind = iota // more bytes are needed
	Other               // whatever it is: an HTTP server knows best how to refuse it
	TLS
	TURN // STUN without framing (RFC 8489 §6.2.2)
	ICE  // STUN in frames of RFC 4571 (RFC 6544 §3)
)

func (k Kind) String() string {
	return [...]string{"unclear", "other", "tls", "turn", "ice"}[k]
}

// most is how many bytes Classify needs at most.
const most = 10

// cookie is the magic cookie of STUN (RFC 8489 §5).
const cookie = 0x2112A442

// Classify tells what a connection that begins with b carries. Neither of the STUN forms can be taken for the other: a length of 0x2112
// and a type of 0xA442 are of no STUN message.
func Classify(b []byte) Kind {
	switch {
	case len(b) == 0:
		return Unclear
	case b[0] == 22: // handshake (RFC 8446 §5.1)
		return TLS
	case b[0] > 3:
		return Other
	case len(b) < 8:
		return Unclear
	case binary.BigEndian.Uint32(b[4:]) == cookie:
		return TURN
	case len(b) < most:
		return Unclear
	case binary.BigEndian.Uint32(b[6:]) == cookie:
		return ICE
	}
	return Other
}

// Config is what a Porter is made of.
type Config struct {
	// TLS is what TLS is spoken with; its NextProtos are those of the HTTP server.
	TLS *tls.Config
	// TURN and ICE say what is spoken beside HTTPS. Other connections of these kinds are closed.
	TURN, ICE bool
	// Patience is how long a connection may take to show what it is [10 s], Most how many may be about to at a time [4096].
	Patience time.Duration
	Most     int
}

// Stats counts connections.
type Stats struct {
	HTTPS, TURN, TURNTLS, ICE uint64
	Refused                   uint64 // too many at once, or of a kind that is not spoken here
	Failed                    uint64 // broken off, or silent for too long
}

// Porter is one port. What it accepts comes out of its listeners.
type Porter struct {
	// Web's connections are *tls.Conn, or have their methods.
	Web, TURN, TURNTLS, ICE net.Listener

	under net.Listener
	cfg   Config

	https, turn, turnTLS, ice, refused, failed atomic.Uint64

	mu      sync.Mutex
	looking map[net.Conn]struct{}
	closed  bool
	running sync.WaitGroup
}

// turnProtocols are how TURN is asked for by ALPN (RFC 7443).
var turnProtocols = []string{"stun.turn", "stun.nat-discovery"}

// New looks after a port.
func New(under net.Listener, cfg Config) *Porter {
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Most == 0 {
		cfg.Most = 4096
	}
	cfg.TLS = cfg.TLS.Clone()
	if cfg.TURN {
		cfg.TLS.NextProtos = append(slices.Clone(cfg.TLS.NextProtos), turnProtocols...)
	}
	p := &Porter{under: under, cfg: cfg, looking: make(map[net.Conn]struct{})}
	p.Web, p.TURN, p.TURNTLS, p.ICE = newHall(under, true), newHall(under, cfg.TURN), newHall(under, cfg.TURN), newHall(under, cfg.ICE)
	p.running.Add(1)
	go p.run()
	return p
}

// Addr is the address of the port.
func (p *Porter) Addr() net.Addr { return p.under.Addr() }

// Stats returns the figures of now.
func (p *Porter) Stats() Stats {
	return Stats{
		HTTPS: p.https.Load(), TURN: p.turn.Load(), TURNTLS: p.turnTLS.Load(), ICE: p.ice.Load(), Refused: p.refused.Load(), Failed: p.failed.Load(),
	}
}

// Close closes the port and its listeners. What they have accepted is not the Porter's any more.
func (p *Porter) Close() error {
	err := p.under.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.looking {
		_ = c.Close()
	}
	p.mu.Unlock()
	for _, l := range []net.Listener{p.Web, p.TURN, p.TURNTLS, p.ICE} {
		_ = l.Close()
	}
	p.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run accepts until the port is closed.
func (p *Porter) run() {
	defer p.running.Done()
	for pause := 5 * time.Millisecond; ; {
		c, err := p.under.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no more files: it passes
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
			case <-p.Web.(*hall).closed:
				return
			}
			continue
		}
		pause = 5 * time.Millisecond
		if !p.take(c) {
			p.refused.Add(1)
			_ = c.Close()
			continue
		}
		p.running.Add(1)
		go p.look(c)
	}
}

func (p *Porter) take(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.looking) >= p.cfg.Most {
		return false
	}
	p.looking[c] = struct{}{}
	return true
}

// look finds out what one connection is, and hands it on.
func (p *Porter) look(c net.Conn) {
	defer p.running.Done()
	to, out := p.sort(c)
	p.mu.Lock()
	delete(p.looking, c)
	p.mu.Unlock()
	if to == nil {
		p.failed.Add(1)
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{}) // fails on what is closed, as the next Read will
	count := map[net.Listener]*atomic.Uint64{p.Web: &p.https, p.TURN: &p.turn, p.TURNTLS: &p.turnTLS, p.ICE: &p.ice}[to]
	if !to.(*hall).give(out) {
		p.refused.Add(1)
		_ = out.Close()
		return
	}
	count.Add(1)
}

// sort returns whom a connection is for; nil: nobody.
func (p *Porter) sort(c net.Conn) (net.Listener, net.Conn) {
	_ = c.SetDeadline(time.Now().Add(p.cfg.Patience))
	kind, begins := peek(c)
	c = &begun{c, begins}
	switch kind {
	case Unclear:
		return nil, nil
	case TURN:
		return p.TURN, c
	case ICE:
		return p.ICE, c
	case Other:
		return p.Web, tls.Server(c, p.cfg.TLS) // it will not shake hands, and who tries knows how to say so
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Patience)
	defer cancel()
	inner := tls.Server(c, p.cfg.TLS)
	if inner.HandshakeContext(ctx) != nil {
		return nil, nil
	}
	switch said := inner.ConnectionState().NegotiatedProtocol; {
	case slices.Contains(turnProtocols, said):
		return p.TURNTLS, inner
	case said != "":
		return p.Web, inner
	}
	kind, begins = peek(inner)
	switch kind {
	case Unclear:
		return nil, nil
	case TURN:
		return p.TURNTLS, &begunTLS{inner, begins}
	}
	return p.Web, &begunTLS{inner, begins}
}

// peek reads until it is clear what a connection carries, or that it will never be. It takes what there is: a connection that is closed
// with something unread is reset, and who spoke no TLS would not hear why.
func peek(c net.Conn) (Kind, []byte) {
	b := make([]byte, 0, 512)
	for {
		n, err := c.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if k := Classify(b); k != Unclear || err != nil {
			return k, b
		}
	}
}

// begun is a connection of which the first bytes have been read already.
type begun struct {
	net.Conn
	first []byte
}

// Read takes from the connection.
func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// begunTLS is a *tls.Conn of which the first bytes have been read already.
type begunTLS struct {
	*tls.Conn
	first []byte
}

// Read takes from the connection.
func (c *begunTLS) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// hall is where the connections of one kind wait to be accepted.
type hall struct {
	under  net.Listener
	waits  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHall(under net.Listener, open bool) *hall {
	h := &hall{under: under, waits: make(chan net.Conn), closed: make(chan struct{})}
	if !open {
		_ = h.Close()
	}
	return h
}

func (h *hall) give(c net.Conn) bool {
	select {
	case <-h.closed:
		return false
	default:
	}
	select {
	case h.waits <- c:
		return true
	case <-h.closed:
		return false
	}
}

// Accept implements net.Listener.
func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.waits:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *hall) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *hall) Addr() net.Addr { return h.under.Addr() }
