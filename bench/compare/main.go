// Command compare measures Sotto beside its peers, in one run, and prints how they compare: the plain pion SFU in both its shapes
// (bench/peer) and Janus; its TURN relay beside coturn. docs/performance.md says how it is done and what it is worth.
//
// It owns the order of the measures and the arithmetic. Each measure is a process of its own, `sotto bench sfu`, that starts the
// server as another: nothing of one is left in the next. Of each load, the servers take turns, so that a machine that becomes slower
// does so for all. For the relay that is done by its bench, `sotto bench turn -beside coturn`, with both servers running. What cannot be
// measured here (no Janus, not root) is said, and left out.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/internal/target"
	"github.com/sotto-edge/sotto/bench/sfu"
	"github.com/sotto-edge/sotto/bench/turn"
)

// servers are compared in this order.
var servers = []string{target.Sotto, target.BarePion, target.PlainPion, target.Janus}

// options are the command line.
type options struct {
	sotto, peer string
	runs        int
	seconds     int
	scenarios   []string
	servers     []string
	report      string
	results     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	var missing []string
	if slices.Contains(o.servers, target.Janus) {
		if err := target.Missing(target.Janus); err != nil {
			missing = append(missing, fmt.Sprintf("Janus is not compared: %v", err))
			o.servers = slices.DeleteFunc(o.servers, func(s string) bool { return s == target.Janus })
		} else if done, err := netns.Enter(); done || err != nil {
			return err // all of it runs again in a network namespace
		}
	}
	if slices.Contains(o.scenarios, relaying) {
		if err := turn.Missing(turn.Coturn); err != nil {
			missing = append(missing, fmt.Sprintf("coturn is not compared: %v", err))
			o.scenarios = slices.DeleteFunc(o.scenarios, func(s string) bool { return s == relaying })
		}
	}
	for _, m := range missing {
		fmt.Fprintln(progress, m)
	}
	t := &table{options: o, missing: missing, cells: map[cell][]*sfu.Result{}}
	if err := t.measure(ctx, progress); err != nil {
		return err
	}
	if slices.Contains(o.scenarios, relaying) {
		if err := t.relay(ctx, progress); err != nil {
			return err
		}
	}
	t.print(out)
	t.printRelay(out)
	if o.report == "" {
		return t.verdict()
	}
	f, err := os.Create(o.report)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := errors.Join(report.Write(f, t.page()), f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nreport: %s\n", o.report)
	return t.verdict()
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	names := []string{}
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	names = append(names, relaying)
	set := flag.NewFlagSet("compare", flag.ContinueOnError)
	set.SetOutput(errs)
	set.StringVar(&o.sotto, "sotto", "bin/sotto", "our binary")
	set.StringVar(&o.peer, "peer", "bin/sotto-peer", "the pion SFU (go build ./bench/peer)")
	set.IntVar(&o.runs, "runs", 3, "measures of each server under each load")
	set.IntVar(&o.seconds, "seconds", 20, "length of each")
	list := set.String("scenarios", strings.Join(names, ","), "loads to compare under")
	who := set.String("servers", strings.Join(servers, ","), "servers to compare")
	set.StringVar(&o.report, "report", "", "page with charts")
	set.StringVar(&o.results, "results", "", "file that the object of each measure is added to, one a line")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.scenarios, o.servers = strings.Split(*list, ","), strings.Split(*who, ",")
	switch {
	case set.NArg() > 0:
		return o, fmt.Errorf("%q is not understood", set.Args())
	case o.runs < 1 || o.seconds < 1:
		return o, errors.New("one run of a second at least")
	}
	for _, s := range o.scenarios {
		if !slices.Contains(names, s) {
			return o, fmt.Errorf("no scenario is called %q: there are %s", s, strings.Join(names, ", "))
		}
	}
	for _, s := range o.servers {
		if !slices.Contains(servers, s) {
			return o, fmt.Errorf("no server is called %q: there are %s", s, strings.Join(servers, ", "))
		}
	}
	return o, nil
}

// measure goes through all loads, the servers taking turns: A B C A B C, each beginning once.
func (t *table) measure(ctx context.Context, progress io.Writer) error {
	n, all := 0, 0
	for _, s := range scenarios {
		if slices.Contains(t.scenarios, s.name) {
			all += t.runs * len(s.of(t.servers))
		}
	}
	for _, s := range scenarios {
		if !slices.Contains(t.scenarios, s.name) {
			continue
		}
		for turn := range t.runs {
			who := s.of(t.servers)
			for i := range who {
				server := who[(turn+i)%len(who)]
				n++
				begin := time.Now()
				r, err := t.one(ctx, s.name, server)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					fmt.Fprintf(progress, "%d/%d %s, %s: %v\n", n, all, s.name, server, err)
					t.failed = append(t.failed, fmt.Sprintf("%s, %s: %v", s.name, server, err))
					continue
				}
				t.machine = r.Machine
				at := cell{s.name, server}
				t.cells[at] = append(t.cells[at], r)
				fmt.Fprintf(progress, "%d/%d %s, %s: %s (%s)\n", n, all, s.name, server, s.brief(r), time.Since(begin).Round(time.Second))
			}
		}
	}
	return nil
}

// one runs one measure.
func (t *table) one(ctx context.Context, scenario, server string) (*sfu.Result, error) {
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, t.sotto, "bench", "sfu", "-scenario", scenario, "-target", server, "-json",
		"-duration", fmt.Sprintf("%ds", t.seconds), "-peer", t.peer)
	c.Stdout, c.Stderr = &out, &errs
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it stops its server
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	r := &sfu.Result{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("its figures: %w", err)
	}
	return r, t.keep(out.Bytes())
}

// keep adds an object to the file of results.
func (t *table) keep(object []byte) error {
	if t.results == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(t.results), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(t.results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(object)
	return errors.Join(err, f.Close())
}
