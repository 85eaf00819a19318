package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Key is the 5-tuple by which packets of a flow come in, in one direction.
type Key struct {
	Local, Remote netip.AddrPort
	Channel       uint16 // of ChannelData from a client; 0: what a peer sends
}

// Way is what becomes of them.
type Way struct {
	Source, Dest netip.AddrPort
	Hop          netip.Addr // the neighbour they are handed to: Dest's address when that is on link
	Channel      uint16     // of the header put in front; 0: one is taken off
	MTU          uint16
	Interface    uint32
	Slot         uint32 // where they are counted
}

// Traffic is payload relayed.
type Traffic struct{ Packets, Bytes uint64 }

// Relay is the relay in the kernel. Its methods may be called from one goroutine at a time.
type Relay struct {
	objects relayObjects
	links   map[int]link.Link
}

// NewRelay loads the relay for as many keys. It relays nothing until it is attached.
func NewRelay(keys int) (*Relay, error) {
	spec, err := loadRelay()
	if err != nil {
		return nil, fmt.Errorf("bpf: read the relay: %w", err)
	}
	spec.Maps["flows"].MaxEntries = uint32(keys)
	spec.Maps["traffic"].MaxEntries = uint32(keys)
	r := &Relay{links: map[int]link.Link{}}
	if err := spec.LoadAndAssign(&r.objects, nil); err != nil {
		return nil, fmt.Errorf("bpf: load the relay: %w", err)
	}
	return r, nil
}

// Attach lets the relay see what comes in by an interface, by tcx. It does so once, however often it is called.
func (r *Relay) Attach(index int) error {
	if r.links[index] != nil {
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: r.objects.RelayTcx, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("bpf: attach the relay to interface %d: %w", index, err)
	}
	r.links[index] = l
	return nil
}

// Prune forgets interfaces that are gone, and those from which somebody else has taken the relay, so that Attach can attach it again.
func (r *Relay) Prune() {
	for index, l := range r.links {
		info, err := l.Info()
		if err != nil || info.TCX() == nil || info.TCX().Ifindex != uint32(index) {
			_ = l.Close() // of a program that is attached nowhere
			delete(r.links, index)
		}
	}
}

// Interfaces returns how many interfaces the relay sees.
func (r *Relay) Interfaces() int { return len(r.links) }

// Keys returns the keys that are entered.
func (r *Relay) Keys() ([]Key, error) {
	var out []Key
	var k relayFlowKey
	var w relayFlowOut
	all := r.objects.Flows.Iterate()
	for all.Next(&k, &w) {
		out = append(out, Key{
			Local: netip.AddrPortFrom(address(k.Local.Word), big(k.LocalPort)), Remote: netip.AddrPortFrom(address(k.Remote.Word), big(k.RemotePort)),
			Channel: big(k.Channel),
		})
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("bpf: list flows: %w", err)
	}
	return out, nil
}

// Put enters a key or gives it another way.
func (r *Relay) Put(k Key, w Way) error {
	if err := r.objects.Flows.Put(k.wire(), w.wire()); err != nil {
		return fmt.Errorf("bpf: enter a flow: %w", err)
	}
	return nil
}

// Delete forgets a key: no packet is relayed by it that comes in later.
func (r *Relay) Delete(k Key) error {
	if err := r.objects.Flows.Delete(k.wire()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("bpf: forget a flow: %w", err)
	}
	return nil
}

// Clear sets what was counted in a slot to zero.
func (r *Relay) Clear(slot uint32) error {
	if err := r.objects.Traffic.Put(slot, relayTraffic{}); err != nil {
		return fmt.Errorf("bpf: clear a count: %w", err)
	}
	return nil
}

// Traffic returns what was counted in a slot.
func (r *Relay) Traffic(slot uint32) (Traffic, error) {
	var t relayTraffic
	if err := r.objects.Traffic.Lookup(slot, &t); err != nil {
		return Traffic{}, fmt.Errorf("bpf: read a count: %w", err)
	}
	return Traffic{Packets: t.Packets, Bytes: t.Bytes}, nil
}

// verdicts are their names, by number.
var verdicts = [...]string{
	relayVerdictRELAYED_UP: "relayed-up", relayVerdictRELAYED_DOWN: "relayed-down", relayVerdictMISS: "miss", relayVerdictOTHER: "other",
	relayVerdictTAGGED: "tagged", relayVerdictOPTIONS: "options", relayVerdictFRAGMENT: "fragment", relayVerdictSEGMENTS: "segments",
	relayVerdictHOPS: "hops", relayVerdictLENGTH: "length", relayVerdictCHECKSUM: "checksum", relayVerdictROOM: "room",
	relayVerdictDROPPED: "dropped",
}

// VerdictNames returns the names of all ends that a packet can meet.
func VerdictNames() []string { return slices.Clone(verdicts[:]) }

// Verdicts returns how many packets met which end; those of none are left out.
func (r *Relay) Verdicts() (map[string]uint64, error) { return tally(r.objects.Verdicts, verdicts[:]) }

// tally sums up a counter of each CPU for each name.
func tally(m *ebpf.Map, names []string) (map[string]uint64, error) {
	out := map[string]uint64{}
	for i, name := range names {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("bpf: read verdicts: %w", err)
		}
		for _, n := range perCPU {
			out[name] += n
		}
		if out[name] == 0 {
			delete(out, name)
		}
	}
	return out, nil
}

// Close takes the relay off all interfaces and gives its maps back. It may be called twice.
func (r *Relay) Close() error {
	var errs []error
	for index, l := range r.links {
		errs = append(errs, l.Close())
		delete(r.links, index)
	}
	errs = append(errs, r.objects.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bpf: close the relay: %w", err)
	}
	return nil
}

func (k Key) wire() relayFlowKey {
	out := relayFlowKey{LocalPort: big(k.Local.Port()), RemotePort: big(k.Remote.Port()), Channel: big(k.Channel)}
	out.Local.Word = words(k.Local.Addr())
	out.Remote.Word = words(k.Remote.Addr())
	return out
}

func (w Way) wire() relayFlowOut {
	out := relayFlowOut{
		SourcePort: big(w.Source.Port()), DestPort: big(w.Dest.Port()), Channel: big(w.Channel),
		Mtu: w.MTU, Ifindex: w.Interface, Slot: w.Slot,
	}
	out.Source.Word = words(w.Source.Addr())
	out.Dest.Word = words(w.Dest.Addr())
	out.Hop.Word = words(w.Hop)
	return out
}

// big is a number as the network has it, on a little-endian machine.
func big(n uint16) uint16 { return bits.ReverseBytes16(n) }

// words are an address as it lies in memory, IPv4 in its mapped form.
func words(a netip.Addr) (out [4]uint32) {
	b := a.As16()
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out
}

// address is the inverse of words.
func address(words [4]uint32) netip.Addr {
	var b [16]byte
	for i, w := range words {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}
