package turn

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/stun"
)

// FromMedia takes what the media port of this process has for a relayed address, and is given to its client at once, under the same
// rules as what comes by a socket. One goroutine calls it. It blocks no longer than a datagram takes to leave.
func (s *Server) FromMedia(relayed, from netip.AddrPort, b []byte) {
	s.mu.Lock()
	r := s.open[told{addr: relayed}]
	s.mu.Unlock()
	if r == nil {
		return
	}
	a := r.alloc.Load()
	if a == nil {
		return
	}
	number, bound, allowed := a.towards(from)
	switch {
	case !allowed:
		a.refused.Add(1)
		s.counters.refused.Add(1)
		return
	case !a.spend(len(b)):
		return
	}
	a.down.add(len(b))
	s.relayed.down.add(len(b))
	at := a.at()
	if !bound { // RFC 8656 §11.3
		var tx stun.TxID
		_, _ = rand.Read(tx[:]) // never fails (crypto/rand)
		m := newMessage(stun.NewType(methodData, stun.ClassIndication), tx)
		at.port.deliver(m.add(attrXORPeerAddress, xorAddress(from, tx)).add(attrData, b), at.path)
		return
	}
	f := binary.BigEndian.AppendUint16(s.frame[:0], number) // RFC 8656 §12.4
	f = append(binary.BigEndian.AppendUint16(f, uint16(len(b))), b...)
	if at.transport != UDP { // over DTLS, too: there are clients that read it as a stream
		for len(f)%4 != 0 {
			f = append(f, 0)
		}
	}
	s.frame = f
	at.port.deliver(f, at.path)
}

// towards returns the channel that is bound to a peer, if one is, and whether the peer has a permission.
func (a *allocation) towards(peer netip.AddrPort) (number uint16, bound, allowed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, allowed = a.permitted[peer.Addr()]; !allowed {
		return 0, false, false
	}
	if c := a.channels[a.inside]; c != nil && c.peer == peer {
		return a.inside, true, true
	}
	for n, c := range a.channels {
		if c.peer == peer {
			a.inside = n
			return n, true, true
		}
	}
	return 0, false, true
}
