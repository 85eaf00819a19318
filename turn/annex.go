package turn

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
)

// annex is a socket of the library's that no client sees. The library knows an allocation by the 5-tuple of its client and makes one
// for each; what this server has beyond that has a made-up 5-tuple here: the second relayed address of a client that wants both
// families (RFC 8656 §7.2), and allocations that move with their client (RFC 8016).
type annex struct {
	server *Server
	queue  chan queued
	closed chan struct{}
	once   sync.Once

	last key // of the frame that the library has had; the reader's
}

// queued is what a client has sent, on its way to the library.
type queued struct {
	b     []byte
	to    key
	r     *request // nil: it is no request
	whole *relayed // not to be sent on in fragments
}

// queueLength is how many frames may wait for the library.
const queueLength = 1024

// annexed is where made-up clients connect to: an address that is nowhere (RFC 6666).
var annexed = netip.MustParseAddrPort("[100::]:1")

func newAnnex(s *Server) *annex {
	return &annex{server: s, queue: make(chan queued, queueLength), closed: make(chan struct{})}
}

// push hands a frame to the library, unless too many wait.
func (x *annex) push(f queued) bool {
	select {
	case x.queue <- f:
		return true
	default:
		x.server.counters.overflows.Add(1)
		return false
	}
}

// ReadFrom implements net.PacketConn for the library.
func (x *annex) ReadFrom(b []byte) (int, net.Addr, error) {
	x.server.done(x.last)
	select {
	case f := <-x.queue:
		x.last = f.to
		if f.r != nil {
			x.server.begin(f.to, f.r)
		}
		if f.whole != nil {
			f.whole.whole.Store(true)
		}
		return copy(b, f.b), net.UDPAddrFromAddrPort(f.to.client), nil
	case <-x.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn for the library: it goes to where the client is.
func (x *annex) WriteTo(b []byte, addr net.Addr) (int, error) {
	k := key{client: addrPort(addr), server: annexed}
	out, r := x.server.answer(b, k)
	switch {
	case out == nil:
	case r != nil:
		r.port.deliver(out, r.path)
	default:
		if a := x.server.table.inner(k); a != nil {
			at := a.at()
			at.port.deliver(out, at.path)
		}
	}
	return len(b), nil
}

// LocalAddr implements net.PacketConn.
func (x *annex) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(annexed) }

// Close implements net.PacketConn.
func (x *annex) Close() error {
	x.once.Do(func() { close(x.closed) })
	return nil
}

// SetDeadline implements net.PacketConn; the library sets none.
func (x *annex) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn; the library sets none.
func (x *annex) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn; the library sets none.
func (x *annex) SetWriteDeadline(time.Time) error { return nil }

// madeUp are the 5-tuples of a client's allocations that are being made: a request that is repeated must not make more.
type madeUp struct{ first, second key }

// makeUp returns the made-up 5-tuples of a client.
func (s *Server) makeUp(client key) madeUp {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.madeUp[client]
	if !ok {
		draw := func() key {
			s.drawn++
			ip := annexed.Addr().As16()
			binary.BigEndian.PutUint64(ip[8:], s.drawn)
			return key{client: netip.AddrPortFrom(netip.AddrFrom16(ip), 1), server: annexed}
		}
		m = madeUp{draw(), draw()}
		s.madeUp[client] = m
	}
	return m
}

// step is one of the requests that the library gets for one of a client's.
type step struct {
	to key
	b  []byte
}

// hand gives what is no request to the library, and returns what is to be read from the client's own socket.
func (s *Server) hand(b []byte, a *allocation, from source, whole bool) []byte {
	if a.inner == from.key {
		if whole {
			a.rel.whole.Store(true)
		}
		return b
	}
	f := queued{b: bytes.Clone(b), to: a.inner}
	if whole {
		f.whole = a.rel
	}
	s.annex.push(f)
	return nil
}

// submit gives a request to the library. It returns what is to be read from the client's own socket.
func (s *Server) submit(r *request, steps ...step) []byte {
	r.steps = steps[1:]
	if steps[0].to == r.key {
		s.begin(r.key, r)
		return steps[0].b
	}
	s.next(r, steps[0])
	return nil
}

func (s *Server) next(r *request, st step) {
	if !s.annex.push(queued{b: st.b, to: st.to, r: r}) && r.method == methodAllocate {
		s.mu.Lock()
		delete(s.madeUp, r.key)
		s.mu.Unlock()
	}
}

// route finds the allocations that a request is for.
func (s *Server) route(m *stun.Message, raw []byte, r *request, held *allocation) []byte {
	switch r.method {
	case methodAllocate:
		to, second := r.key, key{}
		if held != nil {
			to = held.inner
		}
		if r.mobile || r.bothFamilies {
			up := s.makeUp(r.key)
			second = up.second
			if held == nil && r.mobile {
				to = up.first
			}
		}
		var steps []step
		if r.family != 0 { // the other family is not to be had
			steps = append(steps, step{to, s.sign(m, raw, r, familyAttr(r.family), nil)})
		} else {
			steps = append(steps, step{to, s.sign(m, raw, r, nil, nil)})
		}
		if r.bothFamilies && r.family == 0 {
			if held != nil {
				if other := held.other.Load(); other != nil {
					second = other.inner
				}
			}
			steps = append(steps, step{second, s.sign(m, raw, r, familyAttr(6), nil)})
		}
		return s.submit(r, steps...)
	case methodConnectionBind:
		return s.submit(r, step{r.key, s.sign(m, raw, r, nil, nil)})
	case methodRefresh:
		if r.moving != nil {
			held = r.moving
		}
		other := held.other.Load()
		if family, ok := m.Attr(attrRequestedAddressFamily); ok && other != nil && len(family) == 4 {
			if is6(other) == (family[0] == 2) {
				held, other = other, nil
			} else {
				other = nil
			}
		}
		steps := []step{{held.inner, s.sign(m, raw, r, nil, nil)}}
		if other != nil {
			steps = append(steps, step{other.inner, steps[0].b})
		}
		return s.submit(r, steps...)
	}
	// The rest names peers: each is for the allocation of its family.
	other := held.other.Load()
	if other == nil {
		return s.submit(r, step{held.inner, s.sign(m, raw, r, nil, nil)})
	}
	var steps []step
	for _, a := range []*allocation{held, other} {
		mine := false
		b := s.sign(m, raw, r, nil, func(t stun.AttrType, v []byte) bool {
			if t != attrXORPeerAddress {
				return true
			}
			p, _ := parseXORAddress(v, m.Tx)
			fits := is6(a) == p.Addr().Unmap().Is6()
			mine = mine || fits
			return fits
		})
		if mine {
			steps = append(steps, step{a.inner, b})
		}
	}
	if len(steps) == 0 {
		return s.submit(r, step{held.inner, s.sign(m, raw, r, nil, nil)}) // it is answered 400
	}
	return s.submit(r, steps...)
}

func is6(a *allocation) bool { return a.relayed.Addr().Is6() }

func familyAttr(family byte) []byte {
	if family == 6 {
		return []byte{2, 0, 0, 0}
	}
	return []byte{1, 0, 0, 0}
}

// arrive lets an allocation go on where its client has announced itself and has now sent data from (RFC 8016 §3.2.2): until then
// it was spoken to where it was before.
func (s *Server) arrive(a *allocation, at key) {
	to, ok := s.table.arrive(a, at)
	if !ok {
		return
	}
	other := a.other.Load()
	a.move(to)
	if other != nil {
		other.move(to)
	}
	s.counters.moved.Add(1)
	s.log.Debug("TURN allocation moved", "relayed", a.relayed, "user", a.user.name, "to", to.client, "over", string(to.transport))
}
