package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/turn"
)

// relaying is the comparison of the TURN relay with coturn: a scenario of its own kind, as its servers are others and take turns within
// one bench.
const relaying = "turn"

// Of that comparison: measures of each server under each load, and the longest of them in seconds. Such loads are steady at once.
const (
	relayRuns    = 5
	relaySeconds = 2
)

// relay measures.
func (t *table) relay(ctx context.Context, progress io.Writer) error {
	var out, errs bytes.Buffer
	begin := time.Now()
	c := exec.CommandContext(ctx, t.sotto, "bench", "turn", "-beside", turn.Coturn, "-runs", fmt.Sprint(relayRuns), "-families", "ipv4",
		"-orders", turn.Interleaved+","+turn.Bursts, "-duration", fmt.Sprintf("%ds", min(t.seconds, relaySeconds)), "-json")
	c.Stdout, c.Stderr = &out, &errs
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it stops its servers
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.failed = append(t.failed, fmt.Sprintf("%s: %v: %s", relaying, err, strings.TrimSpace(errs.String())))
		return nil
	}
	r := &turn.Result{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return fmt.Errorf("the relay's figures: %w", err)
	}
	t.relayed, t.machine = r, r.Machine
	fmt.Fprintf(progress, "%s: %d loads, %d runs of each server (%s)\n", relaying, len(r.Loads), r.Runs, time.Since(begin).Round(time.Second))
	return t.keep(out.Bytes())
}

// printRelay writes the relay's table, then the ratios one a line.
func (t *table) printRelay(out io.Writer) {
	r := t.relayed
	if r == nil {
		return
	}
	fmt.Fprintf(out, "\nTURN relay, medians of runs (%d):\n%s\n", r.Runs, r.Text())
	for i := range r.Loads {
		l := &r.Loads[i]
		fmt.Fprintf(out, "ratio_%s=%.3f ratio_with_ends=%.3f scenario=%s load=%s", turn.Coturn, l.Ratio, l.WholeRatio, relaying,
			strings.ReplaceAll(l.Label(), " ", "-"))
		if most, _ := r.Aim(l); most > 0 {
			fmt.Fprintf(out, " most=%g", most)
		}
		fmt.Fprintln(out)
	}
}

// pageRelay adds the relay to the page.
func (t *table) pageRelay(p *report.Page) {
	if t.relayed == nil {
		return
	}
	own := t.relayed.Page()
	for i := range own.Tables {
		own.Tables[i].Title = "TURN relay: " + own.Tables[i].Title
	}
	for i := range own.Charts {
		own.Charts[i].Title = "TURN relay: " + own.Charts[i].Title
	}
	p.Tables = append(p.Tables, own.Tables...)
	p.Charts = append(p.Charts, own.Charts...)
	p.Notes = append(append(p.Notes, "TURN relay: "+own.Lead), own.Notes...)
}
