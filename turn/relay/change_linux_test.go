package relay

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sotto-edge/sotto/bpf"
	"github.com/sotto-edge/sotto/internal/netlab"
)

// write sets a parameter of a namespace's network.
func write(t *testing.T, n *netlab.Namespace, file, value string) {
	t.Helper()
	n.Do(func() {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Error(err)
		}
	})
}

// received returns how many packets an interface has received.
func received(t *testing.T, n *netlab.Namespace, dev string) (packets int) {
	t.Helper()
	n.Do(func() {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			t.Error(err)
			return
		}
		for line := range strings.Lines(string(b)) {
			if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == dev {
				packets, _ = strconv.Atoi(strings.Fields(rest)[1])
				return
			}
		}
		t.Errorf("no interface %s", dev)
	})
	return packets
}

// The kernel's own table of neighbours is what packets leave by: one that gets another hardware address is found there.
func TestTCXFollowsNeighbours(t *testing.T) {
	l := newLab(t)
	write(t, l.peer, "/proc/sys/net/ipv4/conf/p0/arp_notify", "1")
	write(t, l.peer, "/proc/sys/net/ipv6/conf/p0/ndisc_notify", "1")
	for i, six := range []bool{false, true} {
		f := flow(six)
		l.add(t, f)
		client, peer := l.ends(t, f)
		if _, err := carry(client, peer, channelData(content(100, 1))); err != nil {
			t.Fatal(err)
		}
		l.peer.IP("link set p0 address 02:00:00:00:00:0" + strconv.Itoa(i+1))
		before, _, _ := l.engine.Count(f)
		in := make(chan error, 1)
		go func() { _, err := peer.Read(make([]byte, 2048)); in <- err }()
		until(t, func() bool { // some may be on their way to the old address
			if _, err := client.Write(channelData(content(100, 1))); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-in:
				if err != nil {
					t.Fatal(err)
				}
				return true
			default:
				return false
			}
		})
		if after, _, _ := l.engine.Count(f); after.Packets <= before.Packets {
			t.Error("it was not the kernel that relayed")
		}
	}
}

// A route that moves to another interface takes the flow with it.
func TestTCXFollowsAMove(t *testing.T) {
	l := newLab(t)
	netlab.Join(netlab.End{Namespace: l.server, Device: "s2", Addresses: []string{"198.18.3.1/24"}},
		netlab.End{Namespace: l.peer, Device: "p1", Addresses: []string{"198.18.3.2/24"}})
	l.server.Do(func() { // what follows routes is not in the namespace, so it cannot attach there by itself
		i, err := net.InterfaceByName("s2")
		if err == nil {
			err = l.engine.Attach(i.Index)
		}
		if err != nil {
			t.Error(err)
		}
	})
	f := flow(false)
	l.add(t, f)
	client, peer := l.ends(t, f)
	packet := channelData(content(100, 1))
	if _, err := carry(client, peer, packet); err != nil {
		t.Fatal(err)
	}
	l.server.IP("route add 198.18.2.2/32 via 198.18.3.2 dev s2")
	until(t, func() bool {
		before := received(t, l.peer, "p1")
		if _, err := carry(client, peer, packet); err != nil {
			t.Fatal(err)
		}
		return received(t, l.peer, "p1") > before
	})
	if _, err := carry(peer, client, content(100, 1)); err != nil {
		t.Error(err)
	}
	if s := l.engine.Stats(); s.Flows != 1 || s.Stranded != 0 || s.Losses != 0 || s.Interfaces != 3 {
		t.Errorf("%+v", s)
	}
}

func TestTCXReconciles(t *testing.T) {
	l := newLab(t)
	stays, goes := flow(false), flow(true)
	l.add(t, stays)
	l.add(t, goes)
	client, peer := l.ends(t, stays)
	left, _ := l.ends(t, goes)
	packet := channelData(content(100, 1))
	if _, err := carry(client, peer, packet); err != nil {
		t.Fatal(err)
	}
	reconcile := func(want Stats) {
		t.Helper()
		l.server.Do(func() { l.engine.Reconcile([]Flow{stays}) })
		if got := l.engine.Stats(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, err := carry(client, peer, packet); err != nil {
			t.Error(err)
		}
		if _, err := carry(peer, client, content(100, 1)); err != nil {
			t.Error(err)
		}
	}
	reconcile(Stats{Interfaces: 2, Flows: 1, Strays: 1})
	refused(t, left, packet)

	// An entry of nobody's, and one that is missing.
	up, down := keys(stays)
	stray := bpf.Key{Local: stays.Server, Remote: netip.MustParseAddrPort("198.18.1.2:1"), Channel: 0x4001}
	way, err := l.engine.way(stays.Relayed.Addr(), stays.Peer.Addr())
	way.Source, way.Dest = stays.Relayed, stays.Peer
	if err := errors.Join(err, l.engine.kernel.Put(stray, way), l.engine.kernel.Delete(up)); err != nil {
		t.Fatal(err)
	}
	refused(t, client, packet)
	reconcile(Stats{Interfaces: 2, Flows: 1, Strays: 2, Gaps: 1})
	entered, err := l.engine.kernel.Keys()
	if err != nil || len(entered) != 2 || entered[0] != up && entered[0] != down || entered[1] != up && entered[1] != down {
		t.Errorf("%v %v is entered", entered, err)
	}

	// Somebody takes the program off an interface.
	l.server.Do(func() {
		i, err := net.InterfaceByName("s0")
		if err != nil {
			t.Error(err)
			return
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
		if err != nil || len(q.Programs) != 1 {
			t.Error(q, err)
			return
		}
		id, _ := q.Programs[0].LinkID()
		theirs, err := link.NewFromID(id)
		if err == nil {
			err = errors.Join(theirs.Detach(), theirs.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	refused(t, client, packet)
	reconcile(Stats{Interfaces: 2, Flows: 1, Strays: 2, Gaps: 1})
}
