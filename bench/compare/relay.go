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

// relayEngines are what relays in Sotto: user space, and the kernel where it is allowed.
var relayEngines = []string{"batch", "auto"}

// relay measures, one engine after the other.
func (t *table) relay(ctx context.Context, progress io.Writer) error {
	for _, engine := range relayEngines {
		if err := t.relayBy(ctx, progress, engine); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) relayBy(ctx context.Context, progress io.Writer, engine string) error {
	var out, errs bytes.Buffer
	begin := time.Now()
	c := exec.CommandContext(ctx, t.sotto, "bench", "turn", "-engine", engine, "-beside", turn.Coturn, "-runs", fmt.Sprint(relayRuns), "-families", "ipv4",
		"-orders", turn.Interleaved+","+turn.Bursts, "-duration", fmt.Sprintf("%ds", min(t.seconds, relaySeconds)), "-json")
	c.Stdout, c.Stderr = &out, &errs
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it stops its servers
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.failed = append(t.failed, fmt.Sprintf("%s, engine %s: %v: %s", relaying, engine, err, strings.TrimSpace(errs.String())))
		return nil
	}
	r := &turn.Result{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return fmt.Errorf("the relay's figures: %w", err)
	}
	if len(t.relayed) > 0 && r.Servers[0].Engine == t.relayed[0].Servers[0].Engine {
		t.missing = append(t.missing, "the kernel does not relay here")
		return nil
	}
	t.relayed, t.machine = append(t.relayed, r), r.Machine
	fmt.Fprintf(progress, "%s, engine %s: %d loads, %d runs of each server (%s)\n", relaying, r.Servers[0].Engine, len(r.Loads), r.Runs, time.Since(begin).Round(time.Second))
	return t.keep(out.Bytes())
}

// printRelay writes the relay's table, then the ratios one a line.
func (t *table) printRelay(out io.Writer) {
	for _, r := range t.relayed {
		printRelay(out, r)
	}
}

func printRelay(out io.Writer, r *turn.Result) {
	fmt.Fprintf(out, "\nTURN relay, medians of runs (%d):\n%s\n", r.Runs, r.Text())
	for i := range r.Loads {
		l := &r.Loads[i]
		fmt.Fprintf(out, "ratio_%s=%.3f ratio_with_ends=%.3f scenario=%s engine=%s load=%s", turn.Coturn, l.Ratio, l.WholeRatio, relaying, r.Servers[0].Engine,
			strings.ReplaceAll(l.Label(), " ", "-"))
		if most, _ := r.Aim(l); most > 0 {
			fmt.Fprintf(out, " most=%g", most)
		}
		fmt.Fprintln(out)
	}
}

// pageRelay adds the relay to the page.
func (t *table) pageRelay(p *report.Page) {
	for _, r := range t.relayed {
		own := r.Page()
		name := "TURN relay, " + r.Servers[0].Engine + ": "
		for i := range own.Tables {
			own.Tables[i].Title = name + own.Tables[i].Title
		}
		for i := range own.Charts {
			own.Charts[i].Title = name + own.Charts[i].Title
		}
		p.Tables = append(p.Tables, own.Tables...)
		p.Charts = append(p.Charts, own.Charts...)
		p.Notes = append(append(p.Notes, name+own.Lead), own.Notes...)
	}
}
