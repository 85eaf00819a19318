package turn_test

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
)

// doorman writes down what a guard is told.
type doorman struct {
	mu   sync.Mutex
	told []string
}

func (d *doorman) tell(what string, client, server netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, what+" "+client.String()+" at "+server.String())
	return nil
}

func (d *doorman) Admit(client, server netip.AddrPort) error {
	return d.tell("admit", client, server)
}

func (d *doorman) Forget(client, server netip.AddrPort) error {
	return d.tell("forget", client, server)
}

// A guard hears of a client once, however many allocations he has, and where he goes.
func TestGuardIsTold(t *testing.T) {
	const both, mobility = stun.AttrType(0x8000), stun.AttrType(0x8030)
	d := &doorman{}
	s := serve(t, func(c *turn.Config) { c.Guard = d })
	heard := func(want ...string) {
		t.Helper()
		until(t, "told", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.told) >= len(want)
		})
		d.mu.Lock()
		defer d.mu.Unlock()
		if diff := cmp.Diff(want, d.told); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	cl := dial(t, s.udp, name)
	of := cl.conn.LocalAddr().String() + " at " + s.udp.String()
	cl.allocate(attr(both, 2, 0, 0, 0))
	heard("admit " + of)
	if _, code := cl.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
		t.Fatal(code)
	}
	heard("admit "+of, "forget "+of)

	m, code := cl.ask(stun.MethodAllocate, wantUDP, attr(mobility))
	if code != 0 {
		t.Fatal(code)
	}
	ticket, err := m.Get(mobility)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := dial(t, s.udp, name)
	if _, code := elsewhere.ask(stun.MethodRefresh, attr(mobility, slices.Clone(ticket)...)); code != 0 {
		t.Fatal(code)
	}
	there := elsewhere.conn.LocalAddr().String() + " at " + s.udp.String()
	heard("admit "+of, "forget "+of, "admit "+of, "admit "+there) // both are good until data comes from there
	if _, err := elsewhere.conn.Write([]byte{0x40, 7, 0, 1, 'x'}); err != nil {
		t.Fatal(err)
	}
	heard("admit "+of, "forget "+of, "admit "+of, "admit "+there, "forget "+of)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	heard("admit "+of, "forget "+of, "admit "+of, "admit "+there, "forget "+of, "forget "+there)
}
