package turn

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/report"
)

// standard is the command as kong makes it without flags, but for what takes long.
func standard() Command {
	return Command{
		Target: Sotto, Engine: "auto", Clients: 5, Rate: 1000, Sizes: []int{1200}, Directions: []string{Up, Down}, Families: []string{"ipv4", "ipv6"},
		Orders: []string{Interleaved, Bursts}, Duration: 100 * time.Millisecond, Runs: 1, Allocations: 50, JSON: true,
	}
}

func TestValidate(t *testing.T) {
	good := standard()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Command){
		"nobody":             func(c *Command) { c.Clients = 0 },
		"a crowd":            func(c *Command) { c.Clients = maxClients + 1 },
		"no rate":            func(c *Command) { c.Rate = 1 },
		"a flood":            func(c *Command) { c.Rate = maxRate + 1 },
		"no time":            func(c *Command) { c.Duration = time.Millisecond },
		"no room for stamps": func(c *Command) { c.Sizes = []int{160, minSize - 1} },
		"fragments":          func(c *Command) { c.Sizes = []int{maxSize + 1} },
		"no run":             func(c *Command) { c.Runs = 0 },
		"no number":          func(c *Command) { c.Allocations = -1 },
		"all of memory":      func(c *Command) { c.Allocations = maxAllocations + 1 },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// What was lost, and a load that was not reached, stand out on the page.
func TestPage(t *testing.T) {
	load := Load{Family: "ipv6", Direction: Down, Bytes: 1200, Order: Bursts, Ratio: 0.5, Servers: []Figures{
		summary([]Figures{{Server: Sotto, LoadReachedRatio: 1, ServerCPUNSPerPacket: 4000}}),
		summary([]Figures{
			{Server: Coturn, LoadReachedRatio: 0.25, PacketsLost: 3, ServerCPUNSPerPacket: 9000, PacketsSent: 100},
			{Server: Coturn, LoadReachedRatio: 0.5, PacketsLost: 4, ServerCPUNSPerPacket: 7000, PacketsSent: 100},
			{Server: Coturn, LoadReachedRatio: 1, ServerCPUNSPerPacket: 8000, PacketsSent: 80},
		}),
	}}
	second := load.Servers[1]
	if second.PacketsLost != 7 || second.LossRatio != 0.025 || second.LoadReachedRatio != 0.5 || second.spread() != "8.00 (7.00..9.00)" {
		t.Errorf("medians: %+v", second)
	}
	r := &Result{Servers: []Server{{Server: Sotto, Engine: "batch", RSSPerAllocation: MostRSS + 1}, {Server: Coturn}}, Clients: 20, Allocations: 10, Runs: 3, Loads: []Load{load}}
	if server, whole := r.Aim(&load); server != 0.5 || whole != 0 {
		t.Errorf("aims at %g, %g", server, whole)
	}
	if mark := r.Page().Tables[0].Rows[0][1].Mark; mark != report.Bad {
		t.Errorf("too much memory is marked %v", mark)
	}
	rows := r.Page().Tables[1].Rows
	if rows[0][1].Mark != report.Good || rows[1][1].Mark != report.Plain {
		t.Errorf("marks of ratios: %+v", rows)
	}
	if rows[0][3].Mark != report.Plain || rows[0][4].Mark != report.Plain || rows[1][3].Mark != report.Bad || rows[1][4].Mark != report.Bad {
		t.Errorf("marks: %+v", rows)
	}
	name := filepath.Join(t.TempDir(), "r.html")
	if err := writeReport(name, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil || bytes.Count(text, []byte("<svg")) != 2 || !bytes.Contains(text, []byte("down 1200 B bursts v6")) || bytes.Contains(text, []byte("NaN")) {
		t.Errorf("page of %d bytes, %v", len(text), err)
	}
	if table := r.Text(); !strings.Contains(table, "4.00 ×0.50") || strings.Count(table, "\n") != 7 {
		t.Errorf("table:\n%s", table)
	}
	if err := writeReport(filepath.Join(t.TempDir(), "none", "r.html"), r); err == nil {
		t.Error("a page is written where there is no folder")
	}
}
