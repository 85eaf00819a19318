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
		Target: Sotto, Clients: 5, Rate: 1000, Sizes: []int{160, 1200}, Directions: []string{Up, Down}, Families: []string{"ipv4", "ipv6"},
		Orders: []string{Interleaved, Bursts}, Duration: 100 * time.Millisecond, Allocations: 50, JSON: true,
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
	r := &Result{Server: Coturn, Engine: "coturn 0", Clients: 20, Allocations: 10, Windows: []Window{
		{Family: "ipv4", Direction: Up, Bytes: 160, Order: Interleaved, LoadReachedRatio: 1, ServerCPUNSPerPacket: 4000},
		{Family: "ipv6", Direction: Down, Bytes: 1200, Order: Bursts, LoadReachedRatio: 0.5, PacketsLost: 7, ServerCPUNSPerPacket: 8000},
	}}
	p := r.page()
	rows := p.Tables[0].Rows
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
	if table := r.text(); !strings.Contains(table, "8.00") || strings.Count(table, "\n") != 7 {
		t.Errorf("table:\n%s", table)
	}
	if err := writeReport(filepath.Join(t.TempDir(), "none", "r.html"), r); err == nil {
		t.Error("a page is written where there is no folder")
	}
}
