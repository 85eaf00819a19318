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
	if r.Namespaces == c.Loopback || r.Allocations != c.Allocations {
		t.Errorf("%+v", r)
	}
	for i, s := range r.Servers {
		if want := []string{c.Target, c.Beside}[i]; s.Server != want || s.Engine == "" || s.AllocationsPerSecond <= 0 || s.ServerCPUNSPerAllocation <= 0 || s.RSS <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if want := len(c.Sizes) * len(c.Directions) * len(c.Families) * len(c.Orders); len(r.Loads) != want {
		t.Errorf("%d loads, want %d", len(r.Loads), want)
	}
	for _, l := range r.Loads {
		// The kernel may relay so few without any time of the server's.
		if len(l.Servers) != len(r.Servers) || (l.Ratio > 0) != (c.Beside != "" && l.Servers[0].ServerCPUNSPerPacket > 0) {
			t.Errorf("%+v", l)
		}
		for _, f := range l.Servers {
			if f.PacketsSent == 0 || f.PacketsRelayed != f.PacketsSent || f.PacketsLost != 0 || f.PacketsDisordered != 0 || f.PacketsBroken != 0 ||
				f.ServerCPUNSPerPacket < 0 || f.EndsCPUNSPerPacket <= 0 ||
				f.PacketsRelayed >= sampleEvery && f.LatencyP50 <= 0 || f.LatencyP99 < f.LatencyP50 {
				t.Errorf("%+v", f)
			}
		}
	}
}

// The bench runs the real appliance, and coturn, as its child, and finds every packet at the other end.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	binary := build(t)
	for _, loopback := range []bool{false, true} {
		t.Run(fmt.Sprintf("loopback=%t", loopback), func(t *testing.T) {
			if !loopback && netns.Possible() != nil {
				t.Skip(netns.Possible())
			}
			c := standard()
			c.Loopback, c.Server = loopback, binary
			if loopback {
				c.Orders = []string{Bursts}
			}
			if Missing(Coturn) == nil {
				c.Beside = Coturn
			}
			whole(t, c)
		})
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
