package turn

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sotto")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/sotto-edge/sotto/cmd/sotto").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// whole checks what holds however busy the machine is: every packet came, in order and as it was, and the figures are there.
func whole(t *testing.T, c Command) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := c.Run(terminal.Terminal{Out: &out, Err: &errs}); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("progress beside -json: %s", errs.String())
	}
	var r Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: not one object on one line: %s", err, out.String())
	}
	if r.Server != c.Target || r.Engine == "" || r.Namespaces == c.Loopback || r.Allocations != c.Allocations || r.AllocationsPerSecond <= 0 ||
		r.ServerCPUNSPerAllocation <= 0 || r.RSS <= 0 {
		t.Errorf("%+v", r)
	}
	if want := len(c.Sizes) * len(c.Directions) * len(c.Families) * len(c.Orders); len(r.Windows) != want {
		t.Errorf("%d windows, want %d", len(r.Windows), want)
	}
	for _, w := range r.Windows {
		if w.PacketsSent == 0 || w.PacketsRelayed != w.PacketsSent || w.PacketsLost != 0 || w.PacketsDisordered != 0 || w.PacketsBroken != 0 ||
			w.ServerCPUNSPerPacket < 0 || w.EndsCPUNSPerPacket <= 0 || w.LatencyP50 <= 0 || w.LatencyP99 < w.LatencyP50 {
			t.Errorf("%+v", w)
		}
	}
}

// The bench runs the real appliance, and coturn, as its child, and finds every packet at the other end.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	binary := build(t)
	for _, target := range []string{Sotto, Coturn} {
		for _, loopback := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s loopback=%t", target, loopback), func(t *testing.T) {
				if err := Missing(target); err != nil {
					t.Skip(err)
				}
				if !loopback && netns.Possible() != nil {
					t.Skip(netns.Possible())
				}
				c := standard()
				c.Target, c.Loopback, c.Server = target, loopback, binary
				if target != Sotto || loopback {
					c.Sizes, c.Orders = []int{1200}, []string{Bursts}
				}
				whole(t, c)
			})
		}
	}
}

// payload is one as the load writes it.
func payload(window, client uint32, seq uint64, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, window)
	binary.BigEndian.PutUint32(b[4:], client)
	binary.BigEndian.PutUint64(b[8:], seq)
	b[size-1] = byte(seq)
	return b
}

// What arrives is told from what was sent, and from what was sent before.
func TestCount(t *testing.T) {
	const window, size = 7, 100
	l := newLoad(window, Up, Interleaved, size, 1000, make([]*seat, 2), -1)
	for _, seq := range []uint64{0, 1, 4, 3} {
		l.count(payload(window, 1, seq, size), 0)
	}
	l.count(payload(window-1, 0, 0, size), 0) // of the window before
	l.count(payload(window, 2, 0, size), 0)   // of nobody
	l.count(payload(window, 0, 0, size-1), 0) // cut
	l.count(make([]byte, 3), 0)
	spoilt := payload(window, 0, 9, size)
	spoilt[size-1]++
	l.count(spoilt, 0)
	if l.taken != 4 || l.behind != 1 || l.broken != 4 {
		t.Errorf("%d taken, %d behind, %d broken", l.taken, l.behind, l.broken)
	}
}
