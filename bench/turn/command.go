// Package turn is the bench of the TURN relay: allocations, and packets of bound channels over UDP, from clients to a peer and back.
//
// It owns the load and the measure. It promises that what the server costs is read from the server's own process and nothing else;
// that every packet is numbered and its order looked at; that every server is loaded by the same sockets in the same way; and that
// nothing of it runs on when Run returns. As root it plays three machines, client, server and peer, in network namespaces of its own,
// between which the stack of the kernel is gone through as between real ones; else everything is on loopback.
//
// It does not simulate what clients send: packets have one size and come at a steady rate, flow after flow or in bursts of each.
package turn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// The servers.
const (
	Sotto  = "sotto"
	Coturn = "coturn"
)

// The ways that packets take, and the orders that they come in.
const (
	Up   = "up"   // from clients to the peer
	Down = "down" // from the peer to clients

	Interleaved = "interleaved"
	Bursts      = "bursts"
)

// Command is `sotto bench turn`.
type Command struct {
	Target      string        `enum:"sotto,coturn" default:"sotto" help:"The server: sotto, or coturn (turnserver from apt) to compare with."`
	Engine      string        `enum:"auto,tcx,batch,off" default:"auto" help:"What relays in sotto: turn.engine of its configuration."`
	Clients     int           `default:"20" help:"Clients, each with an allocation and a channel, whose packets are relayed."`
	Rate        int           `default:"20000" help:"Packets per second, of all clients together."`
	Sizes       []int         `default:"160,1200" help:"Bytes of payload."`
	Directions  []string      `enum:"up,down" default:"up,down" help:"From clients to the peer (up), from the peer to clients (down)."`
	Families    []string      `enum:"ipv4,ipv6" default:"ipv4,ipv6" help:"Families of all addresses."`
	Orders      []string      `enum:"interleaved,bursts" default:"interleaved" help:"One packet of each client after the other (interleaved), or eight of each (bursts)."`
	Duration    time.Duration `default:"2s" help:"How long each of these is measured."`
	Beside      string        `placeholder:"NAME" help:"A second server that takes turns with the first under each load: coturn, an engine of sotto (tcx, batch, off), or the file of another build of sotto."`
	Runs        int           `default:"1" help:"Measures of each load, of which the medians are told."`
	Allocations int           `default:"1000" help:"Allocations that are made for the memory of one, and how fast they are made; 0: none."`
	Loopback    bool          `help:"Measure on loopback even as root."`
	Offloads    bool          `help:"Let the devices between namespaces leave checksums out and take runs of datagrams whole. Packets are then not as on a wire: the kernel's engine leaves them alone."`
	JSON        bool          `help:"Print one JSON object instead of the table."`
	Report      string        `placeholder:"F.html" help:"Write a page with charts to this file."`

	Server string `hidden:"" help:"Binary whose serve is measured, by default this one." type:"path"`
}

// Bounds of a load.
const (
	minSize        = stampSize
	maxSize        = 1400
	maxClients     = 1000
	maxAllocations = 10000
	maxRate        = 200_000
	maxRuns        = 100
)

// Validate implements what kong asks for.
func (c *Command) Validate() error {
	switch {
	case c.Clients < 1 || c.Clients > maxClients:
		return fmt.Errorf("from one to %d clients", maxClients)
	case c.Allocations < 0 || c.Allocations > maxAllocations:
		return fmt.Errorf("at most %d allocations", maxAllocations)
	case c.Rate < 100 || c.Rate > maxRate:
		return fmt.Errorf("from 100 to %d packets per second", maxRate)
	case c.Runs < 1 || c.Runs > maxRuns:
		return fmt.Errorf("from one to %d runs", maxRuns)
	case c.Duration < 100*time.Millisecond:
		return errors.New("a tenth of a second at least")
	case slices.ContainsFunc(c.Sizes, func(n int) bool { return n < minSize || n > maxSize }):
		return fmt.Errorf("payloads of %d to %d bytes", minSize, maxSize)
	}
	return nil
}

// subject is a server to measure.
type subject struct{ name, target, binary, engine string }

// subjects finds the programs.
func (c *Command) subjects() ([]subject, error) {
	first, err := c.subject(c.Target)
	if err != nil || c.Beside == "" {
		return []subject{first}, err
	}
	second, err := c.subject(c.Beside)
	return []subject{first, second}, err
}

func (c *Command) subject(name string) (subject, error) {
	s := subject{name: name, target: Sotto, binary: c.Server, engine: c.Engine}
	switch name {
	case Coturn:
		file, err := exec.LookPath("turnserver")
		if err != nil {
			return subject{}, fmt.Errorf("bench: coturn is not here (apt-get install coturn): %w", err)
		}
		s.target, s.binary = Coturn, file
	case "tcx", "batch", "off":
		s.name, s.engine = "sotto "+name, name
	case Sotto:
	default:
		s.name, s.binary = filepath.Base(name), name
	}
	if s.binary == "" {
		self, err := os.Executable()
		if err != nil {
			return subject{}, fmt.Errorf("bench: find this program: %w", err)
		}
		s.binary = self
	}
	return s, nil
}

// Missing says why a server cannot be measured here; nil: it can.
func Missing(target string) error {
	_, err := (&Command{}).subject(target)
	return err
}

// Run measures, and prints what was found.
func (c *Command) Run(t terminal.Terminal) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	subjects, err := c.subjects()
	if err != nil {
		return err
	}
	r, err := measure(ctx, c, subjects, func(format string, args ...any) {
		if !c.JSON {
			fmt.Fprintf(t.Err, format+"\n", args...)
		}
	})
	if err != nil {
		return err
	}
	if c.Report != "" {
		if err := writeReport(c.Report, r); err != nil {
			return err
		}
	}
	if !c.JSON {
		fmt.Fprint(t.Out, r.Text())
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	fmt.Fprintf(t.Out, "%s\n", text)
	return nil
}

func writeReport(name string, r *Result) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("bench: report: %w", err)
	}
	return errors.Join(report.Write(f, r.Page()), f.Close())
}

// Text is the result as a table for people.
func (r *Result) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d clients %s\n", r.Clients, r.place())
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "%s, engine %s", s.Server, s.Engine)
		if r.Allocations > 0 {
			fmt.Fprintf(&b, ": %s and %s of CPU for an allocation with a channel, %.0f of them per second",
				kilobytes(s.RSSPerAllocation), microseconds(s.ServerCPUNSPerAllocation), s.AllocationsPerSecond)
		}
		b.WriteString("\n")
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nload\tserver\tpackets/s\tof the load\tlost\tserver µs/packet\tof it kernel\tends µs/packet\tlatency p50, p99\n")
	for _, l := range r.Loads {
		for i := range l.Servers {
			s := &l.Servers[i]
			ratio := ""
			if i == 0 && len(l.Servers) > 1 {
				ratio = fmt.Sprintf(" ×%.2f", l.Ratio)
			}
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.1f %%\t%d\t%s%s\t%.0f %%\t%.2f\t%.2f, %.2f ms\n", l.Label(), s.Server, s.PacketsPerSecond, 100*s.LoadReachedRatio,
				s.PacketsLost, s.spread(), ratio, 100*s.ServerSystemRatio, s.EndsCPUNSPerPacket/1e3, s.LatencyP50*1e3, s.LatencyP99*1e3)
		}
	}
	_ = w.Flush() // into memory
	return b.String()
}
