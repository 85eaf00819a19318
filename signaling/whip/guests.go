package whip

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// guests counts what addresses do. It is under the Handler's lock.
type guests struct {
	cfg Config
	all map[netip.Prefix]*guest
}

type guest struct {
	sessions int
	offers   *rate.Limiter
}

// manyGuests is when those are looked for of whom nothing need be known any more.
const manyGuests = 1024

func (g *guests) init(cfg Config) { g.cfg, g.all = cfg, map[netip.Prefix]*guest{} }

// network is who counts as one: an address, or for IPv6 the network that a subscriber is given. This machine counts as nobody.
func network(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	a := ap.Addr().Unmap().WithZone("")
	if err != nil || a.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// offer says whether an address may make an offer now, and if not, after how long.
func (g *guests) offer(p netip.Prefix, now time.Time) (wait time.Duration, ok bool) {
	if !p.IsValid() {
		return 0, true
	}
	if len(g.all) >= manyGuests {
		for p, x := range g.all {
			if x.sessions == 0 && x.offers.TokensAt(now) >= float64(g.cfg.OfferBurst) {
				delete(g.all, p)
			}
		}
	}
	x := g.all[p]
	if x == nil {
		x = &guest{offers: rate.NewLimiter(rate.Limit(g.cfg.OffersPerSecond), g.cfg.OfferBurst)}
		g.all[p] = x
	}
	if !x.offers.AllowN(now, 1) {
		return time.Duration(float64(time.Second) / g.cfg.OffersPerSecond), false
	}
	return 0, true
}

// enter counts a session more, unless there are too many.
func (g *guests) enter(p netip.Prefix) bool {
	x := g.all[p]
	if x == nil {
		return true // this machine
	}
	if x.sessions >= g.cfg.PerAddress {
		return false
	}
	x.sessions++
	return true
}

// leave counts one less.
func (g *guests) leave(p netip.Prefix) {
	if x := g.all[p]; x != nil {
		x.sessions--
	}
}
