package turn

import (
	"net"
	"net/netip"
	"time"
)

// reservationLife is how long the port beside an even one waits for whoever holds its token (RFC 8656 §7.2 wants 30 s at least).
const reservationLife = 30 * time.Second

// reservation is a port beside an even one. It takes the room of one allocation of its user.
type reservation struct {
	conn  net.PacketConn
	user  *user
	timer *time.Timer
}

// reserve holds the port beside that of an allocation open, once, and says whether it is the client's.
func (s *Server) reserve(a *allocation) bool {
	s.mu.Lock()
	again := a.reserved
	a.reserved = true
	s.mu.Unlock()
	if again {
		return true
	}
	u, ok := s.table.enter(a.user.realm, a.user.name, s.cfg.Limits.Allocations)
	if !ok {
		return false
	}
	at := netip.AddrPortFrom(a.local.Addr(), a.local.Port()+1)
	conn, err := s.cfg.ListenPeers(at)
	if err != nil {
		s.table.leave(u)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved[at] = &reservation{conn, u, time.AfterFunc(reservationLife, func() {
		if c := s.claim(at); c != nil {
			_ = c.Close()
		}
	})}
	return true
}

// claim takes a reserved port; nil: it is not reserved.
func (s *Server) claim(at netip.AddrPort) net.PacketConn {
	s.mu.Lock()
	r := s.reserved[at]
	delete(s.reserved, at)
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	r.timer.Stop()
	s.table.leave(r.user)
	return r.conn
}
