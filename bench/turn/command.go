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
	"slices"
	"strings"
	"syscall"
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
	Clients     int           `default:"20" help:"Clients, each with an allocation and a channel, whose packets are relayed."`
	Rate        int           `default:"20000" help:"Packets per second, of all clients together."`
	Sizes       []int         `default:"160,1200" help:"Bytes of payload."`
	Directions  []string      `enum:"up,down" default:"up,down" help:"From clients to the peer (up), from the peer to clients (down)."`
	Families    []string      `enum:"ipv4,ipv6" default:"ipv4,ipv6" help:"Families of all addresses."`
	Orders      []string      `enum:"interleaved,bursts" default:"interleaved" help:"One packet of each client after the other (interleaved), or eight of each (bursts)."`
	Duration    time.Duration `default:"2s" help:"How long each of these is measured."`
	Allocations int           `default:"1000" help:"Allocations that are made for the memory of one, and how fast they are made; 0: none."`
	Loopback    bool          `help:"Measure on loopback even as root."`
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
	case c.Duration < 100*time.Millisecond:
		return errors.New("a tenth of a second at least")
	case slices.ContainsFunc(c.Sizes, func(n int) bool { return n < minSize || n > maxSize }):
		return fmt.Errorf("payloads of %d to %d bytes", minSize, maxSize)
	}
	return nil
}

// binary finds the program of the server.
func (c *Command) binary() (string, error) {
	if c.Target == Coturn {
		file, err := exec.LookPath("turnserver")
		if err != nil {
			return "", fmt.Errorf("bench: coturn is not here (apt-get install coturn): %w", err)
		}
		return file, nil
	}
	if c.Server != "" {
		return c.Server, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("bench: find this program: %w", err)
	}
	return self, nil
}

// Missing says why a server cannot be measured here; nil: it can.
func Missing(target string) error {
	_, err := (&Command{Target: target}).binary()
	return err
}

// Run measures, and prints what was found.
func (c *Command) Run(t terminal.Terminal) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary, err := c.binary()
	if err != nil {
		return err
	}
	r, err := measure(ctx, c, binary, func(format string, args ...any) {
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
		fmt.Fprint(t.Out, r.text())
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
	return errors.Join(report.Write(f, r.page()), f.Close())
}

// text is the result as a table for people.
func (r *Result) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (engine %s) %s, %d clients\n", r.Server, r.Engine, r.place(), r.Clients)
	if r.Allocations > 0 {
		fmt.Fprintf(&b, "%-46s %s\n", "memory per allocation", kilobytes(r.RSSPerAllocation))
		fmt.Fprintf(&b, "%-46s %.0f\n", "allocations with a channel per second", r.AllocationsPerSecond)
		fmt.Fprintf(&b, "%-46s %s\n", "server CPU per allocation with a channel", microseconds(r.ServerCPUNSPerAllocation))
	}
	fmt.Fprintf(&b, "%-5s %-5s %5s %-12s %10s %8s %9s %14s %19s %12s %12s\n", "", "", "bytes", "order", "packets/s", "load", "lost",
		"server µs/pkt", "of it kernel", "ends µs/pkt", "latency p99")
	for _, w := range r.Windows {
		fmt.Fprintf(&b, "%-5s %-5s %5d %-12s %10.0f %7.1f%% %9d %14.2f %18.0f%% %12.2f %9.2f ms\n", w.Family, w.Direction, w.Bytes, w.Order,
			w.PacketsPerSecond, 100*w.LoadReachedRatio, w.PacketsLost, w.ServerCPUNSPerPacket/1e3, 100*w.ServerSystemRatio,
			w.EndsCPUNSPerPacket/1e3, w.LatencyP99*1e3)
	}
	return b.String()
}
