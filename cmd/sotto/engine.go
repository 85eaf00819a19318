package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/sotto-edge/sotto/bpf"
	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/doctor"
	"github.com/sotto-edge/sotto/internal/obs"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/relay"
)

// engine is what relays bound channels.
type engine struct {
	turn.Offloader
	kernel *relay.TCX   // nil: none of it is in the kernel
	batch  *relay.Batch // nil: the server reads its sockets by itself
	on     []string     // interfaces whose packets the kernel relays
	guard  *bpf.Guard   // nil: the server sees everything that is sent to it
	why    error        // not the kernel, or not on all interfaces; nil: nobody wants to know
}

// Most flows that the kernel has room for: channelsEach for an allocation, a packet counter of 32 bytes for each flow.
const (
	channelsEach = 4
	mostFlows    = 1 << 18
)

// openEngine finds out what is to relay between these addresses of the machine. Asked for by name, an engine that is not to be had is
// an error; by itself it gives way to user space and says why.
func openEngine(cfg config.TURN, at []netip.Addr) (engine, error) {
	e := engine{Offloader: turn.NoOffloader{}}
	if cfg.Engine == config.EngineOff {
		return e, nil
	}
	if cfg.Engine != config.EngineBatch {
		e.openKernel(min(channelsEach*cfg.Allocations, mostFlows), at)
		if cfg.Engine == config.EngineTCX && e.kernel == nil {
			return engine{}, fmt.Errorf("turn.engine: %w", e.why)
		}
	}
	var err error
	if e.batch, err = relay.NewBatch(max(1, runtime.NumCPU()/2)); err != nil {
		e.batch, e.why = nil, errors.Join(e.why, err)
	}
	switch {
	case e.kernel != nil && e.batch != nil:
		e.Offloader = relay.NewStack(e.kernel, e.batch)
	case e.kernel != nil:
		e.Offloader = e.kernel
	case e.batch != nil:
		e.Offloader = e.batch
	}
	return e, nil
}

func (e *engine) openKernel(flows int, at []netip.Addr) {
	k, err := relay.NewTCX(flows)
	if errors.Is(err, os.ErrPermission) {
		err = errors.New("eBPF is not permitted to this process")
	}
	if err != nil {
		e.why = err
		return
	}
	if e.on, e.why = attach(k, at); len(e.on) > 0 {
		e.kernel = k
		return
	}
	e.why = errors.Join(e.why, k.Close())
}

// listenPeers opens relayed addresses; nil: as the server does by itself.
func (e engine) listenPeers() func(netip.AddrPort) (net.PacketConn, error) {
	if e.batch == nil {
		return nil
	}
	return e.batch.ListenPeers
}

// attach lets the kernel see what comes in by the interfaces that have the addresses, and says which those are, and why others are not.
func attach(k *relay.TCX, at []netip.Addr) (on []string, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("turn: the interfaces of this machine: %w", err)
	}
	var errs []error
	slices.SortStableFunc(all, func(a, b net.Interface) int { return int(a.Flags&net.FlagLoopback) - int(b.Flags&net.FlagLoopback) })
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || !slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && slices.Contains(at, p.Addr().Unmap())
		}) {
			continue
		}
		if i.Flags&net.FlagLoopback != 0 && len(on) > 0 {
			continue // nobody wants it there
		}
		if err := k.Attach(i.Index); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", i.Name, err))
			continue
		}
		on = append(on, i.Name)
	}
	return on, errors.Join(errs...)
}

// reason is an error on one line.
func reason(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// What strangers may send to the UDP ports of the relay before the kernel stops them: five times what the server answers to.
const (
	guardRate    = 100
	guardBurst   = 500
	guardSources = 65536
)

// openGuard has the kernel keep strangers from the ports, if it is to.
func (e *engine) openGuard(cfg config.TURN, ports []netip.AddrPort) error {
	if !cfg.Guard || e.kernel == nil {
		if len(cfg.DenySources) > 0 {
			return errors.New("they need turn.guard, and an engine in the kernel")
		}
		return nil
	}
	g, err := bpf.NewGuard(bpf.GuardConfig{
		Ports: len(ports), Sessions: cfg.Allocations + cfg.Allocations/8 + 1, Sources: guardSources, Rate: guardRate, Burst: guardBurst,
		Allow: networks(cfg.AllowSources), Deny: networks(cfg.DenySources),
	})
	if err != nil {
		return err
	}
	for _, p := range ports {
		err = errors.Join(err, g.Watch(p))
	}
	for _, name := range e.on {
		i, missing := net.InterfaceByName(name)
		if missing == nil {
			missing = g.Attach(i.Index)
		}
		err = errors.Join(err, missing)
	}
	if err != nil {
		return errors.Join(err, g.Close())
	}
	e.guard = g
	return nil
}

// expose shows what the engine does.
func (e engine) expose(metrics *obs.Metrics) {
	metrics.GaugeFunc("sotto_turn_engine", "Constant 1, labelled with what relays bound channels.", func() float64 { return 1 },
		obs.Label{Name: "engine", Value: e.Engine()})
	if e.batch != nil {
		obs.Expose(metrics, "sotto_turn_batch", "Relaying of bound channels in user space", func() (relay.BatchStats, error) { return e.batch.Stats(), nil })
	}
	if e.guard != nil {
		for _, name := range bpf.GuardVerdicts() {
			metrics.CounterFunc("sotto_turn_guard_packets_total", "Packets to the UDP ports of the relay, by what the kernel's guard made of them.", func() float64 {
				v, err := e.guard.Verdicts()
				if err != nil {
					return 0
				}
				return float64(v[name])
			}, obs.Label{Name: "verdict", Value: name})
		}
	}
	if e.kernel == nil {
		return
	}
	obs.Expose(metrics, "sotto_turn_kernel", "TURN relay in the kernel", func() (relay.Stats, error) { return e.kernel.Stats(), nil })
	for _, name := range relay.Verdicts() {
		metrics.CounterFunc("sotto_turn_kernel_packets_total", "Packets that the kernel's part has seen, by what became of them.", func() float64 {
			v, err := e.kernel.Verdicts()
			if err != nil {
				return 0
			}
			return float64(v[name])
		}, obs.Label{Name: "verdict", Value: name})
	}
}

// examineEngine tries for doctor what serve would choose, and lets go of it.
func examineEngine(cfg config.Config) *doctor.Engine {
	if !cfg.TURN.Enabled {
		return nil
	}
	out := &doctor.Engine{Wanted: cfg.TURN.Engine}
	at, err := relayAddresses(cfg.TURN)
	if err == nil {
		var e engine
		if e, err = openEngine(cfg.TURN, at); err == nil {
			out.Name, out.Interfaces = e.Engine(), e.on
			err = cmp.Or(e.why, e.Close())
		}
	}
	if err != nil {
		out.Why = reason(err)
	}
	return out
}

// relayAddresses returns the addresses of this machine that UDP of clients and of peers comes in by.
func relayAddresses(cfg config.TURN) ([]netip.Addr, error) {
	own, err := machineAddresses()
	if err != nil {
		return nil, err
	}
	at, err := listening(cfg.Listen, own)
	if err != nil {
		return nil, err
	}
	var v4, v6 netip.Addr
	choose(&v4, &v6, addresses(cfg.RelayAddresses), own)
	out := []netip.Addr{v4, v6}
	for _, a := range at {
		out = append(out, a.Addr())
	}
	return out, nil
}
