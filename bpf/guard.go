package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// GuardConfig is what a Guard is made of.
type GuardConfig struct {
	Ports, Sessions, Sources int // most of each; of sources, those heard of last are remembered
	// Rate is how many packets per second a stranger may send, an IPv4 address or an IPv6 network of 64 bits, and Burst how many at once.
	Rate, Burst int
	// Allow are networks that may send as much as they like, Deny those that may send nothing. The longer prefix counts.
	Allow, Deny []netip.Prefix
}

// Guard drops what comes to guarded ports from those without a session, unless it is STUN and not too much of it. Its methods may be
// called from one goroutine at a time, but for Verdicts.
type Guard struct {
	objects guardObjects
	links   map[int]link.Link
}

// NewGuard loads the guard. It drops nothing until it is attached, and has a port to guard.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	spec, err := loadGuard()
	if err != nil {
		return nil, fmt.Errorf("bpf: read the guard: %w", err)
	}
	for name, most := range map[string]int{
		"guarded": cfg.Ports, "sessions": cfg.Sessions, "sources": cfg.Sources, "networks": max(1, len(cfg.Allow)+len(cfg.Deny)),
	} {
		spec.Maps[name].MaxEntries = uint32(most)
	}
	packet := uint64(time.Second) / uint64(cfg.Rate)
	for name, value := range map[string]uint64{"packet_time": packet, "burst_time": packet * uint64(cfg.Burst-1)} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("bpf: set up the guard: %w", err)
		}
	}
	g := &Guard{links: map[int]link.Link{}}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return nil, fmt.Errorf("bpf: load the guard: %w", err)
	}
	const allow, deny = 1, 2
	for verdict, networks := range map[uint8][]netip.Prefix{allow: cfg.Allow, deny: cfg.Deny} {
		for _, p := range networks {
			p = p.Masked()
			bits := p.Bits()
			if p.Addr().Is4() {
				bits += 96
			}
			key := guardNetwork{Bits: uint32(bits)}
			key.Addr.Word = words(p.Addr())
			if err := g.objects.Networks.Put(key, verdict); err != nil {
				return nil, errors.Join(fmt.Errorf("bpf: enter network %s: %w", p, err), g.Close())
			}
		}
	}
	return g, nil
}

// Attach has the guard see what comes in by an interface, before anybody else does. It does so once, however often it is called.
func (g *Guard) Attach(index int) error {
	if g.links[index] != nil {
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: g.objects.GuardTcx, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("bpf: attach the guard to interface %d: %w", index, err)
	}
	g.links[index] = l
	return nil
}

// Watch guards a UDP port.
func (g *Guard) Watch(local netip.AddrPort) error {
	key := guardPort{Port: big(local.Port())}
	key.Local.Word = words(local.Addr())
	if err := g.objects.Guarded.Put(key, uint8(1)); err != nil {
		return fmt.Errorf("bpf: guard %s: %w", local, err)
	}
	return nil
}

// Admit lets everything through that a client sends to a guarded port.
func (g *Guard) Admit(client, server netip.AddrPort) error {
	if err := g.objects.Sessions.Put(session(client, server), uint8(1)); err != nil {
		return fmt.Errorf("bpf: admit a session: %w", err)
	}
	return nil
}

// Forget makes a stranger of a client.
func (g *Guard) Forget(client, server netip.AddrPort) error {
	if err := g.objects.Sessions.Delete(session(client, server)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("bpf: forget a session: %w", err)
	}
	return nil
}

func session(client, server netip.AddrPort) guardSession {
	out := guardSession{LocalPort: big(server.Port()), RemotePort: big(client.Port())}
	out.Local.Word, out.Remote.Word = words(server.Addr()), words(client.Addr())
	return out
}

// guardVerdicts are their names, by number.
var guardVerdicts = [...]string{
	guardGuardVerdictKNOWN: "known", guardGuardVerdictALLOWED: "allowed", guardGuardVerdictSTRANGER: "stranger",
	guardGuardVerdictDENIED: "denied", guardGuardVerdictMALFORMED: "malformed", guardGuardVerdictSTRAY: "stray", guardGuardVerdictFLOOD: "flood",
}

// GuardVerdicts returns what a guard counts: packets that passed as known, allowed or stranger, and those dropped as denied, malformed,
// stray or flood.
func GuardVerdicts() []string { return append([]string(nil), guardVerdicts[:]...) }

// Verdicts returns how many packets met which end; those of none are left out.
func (g *Guard) Verdicts() (map[string]uint64, error) {
	return tally(g.objects.GuardVerdicts, guardVerdicts[:])
}

// Close takes the guard off all interfaces. It may be called twice.
func (g *Guard) Close() error {
	var errs []error
	for index, l := range g.links {
		errs = append(errs, l.Close())
		delete(g.links, index)
	}
	if err := errors.Join(append(errs, g.objects.Close())...); err != nil {
		return fmt.Errorf("bpf: close the guard: %w", err)
	}
	return nil
}
