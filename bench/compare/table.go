package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/quantile"
	"github.com/sotto-edge/sotto/bench/internal/target"
	"github.com/sotto-edge/sotto/bench/sfu"
	"github.com/sotto-edge/sotto/bench/turn"
)

// scenario is one load to compare under, with what is compared and what is aimed at.
type scenario struct {
	name, title string
	rows        []row
	alone       bool // only ours is measured
}

// row is one figure of a scenario.
type row struct {
	name  string
	unit  string
	value func(*sfu.Result) float64
	ratio bool // its ratios are printed as those of the scenario

	// What is aimed at: shares of the peers' figures, or a value. 0: nothing.
	ofBare, ofJanus, most float64
	better                string // in words, where there is more to want
}

// late is compared in every load, and aimed at in one.
var late = row{name: "latency p99", unit: "ms", value: func(r *sfu.Result) float64 { return r.LatencyP99 * 1e3 }, ofBare: 0.5}

var perPacket = func(r *sfu.Result) float64 { return r.ServerCPUNSPerPacket / 1e3 }

// scenarios are those of the table of targets, in its order.
var scenarios = []scenario{
	{name: "fan", title: "1 to 50, 1 Mbit/s", rows: []row{
		{name: "CPU per packet", unit: "µs", value: perPacket, ratio: true, ofBare: 0.6, ofJanus: 0.42, better: "towards 0.4 of bare pion, 0.28 of Janus"},
		{name: "of it in user space", unit: "µs", value: func(r *sfu.Result) float64 { return r.ServerUserNSPerPacket / 1e3 }, most: 4},
		{name: "memory per receive-only leg", unit: "kB", value: func(r *sfu.Result) float64 { return r.RSSPerLeg / 1e3 }, most: 100, better: "towards 40"},
	}},
	{name: "meeting", title: "10 × 10, 1 Mbit/s", rows: []row{
		{name: "CPU per packet", unit: "µs", value: perPacket, ratio: true, ofBare: 0.5, better: "towards 0.32"},
		late,
	}},
	{name: "fan-4m", title: "1 to 20, 4 Mbit/s", rows: []row{
		{name: "CPU per packet", unit: "µs", value: perPacket, ratio: true, ofJanus: 0.4},
	}},
	{name: "fan-8m", title: "1 to 50, 8 Mbit/s", rows: []row{
		{name: "CPU per packet", unit: "µs", value: perPacket, ratio: true, ofBare: 0.35, better: "towards 0.22"},
	}},
	{name: "idle", title: "100 idle connections", rows: []row{
		{name: "CPU, of one core", unit: "%", value: func(r *sfu.Result) float64 { return r.ServerCPURatio * 100 }, ratio: true, most: 2},
	}},
	{name: "residence", title: "half of a core", alone: true, rows: []row{
		{name: "time in the server, p99", unit: "ms", value: func(r *sfu.Result) float64 { return r.StayP99 * 1e3 }, most: 2},
		{name: "CPU, of one core", unit: "%", value: func(r *sfu.Result) float64 { return r.ServerCPURatio * 100 }},
	}},
}

// of returns which of the servers are measured under the load.
func (s scenario) of(list []string) []string {
	if !s.alone {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return name != target.Sotto })
}

// brief says one measure in a line.
func (s scenario) brief(r *sfu.Result) string {
	v := s.rows[0]
	text := fmt.Sprintf("%s %s %s", v.name, number(v.value(r)), v.unit)
	if r.PacketsForwarded > 0 {
		text += fmt.Sprintf(", %.0f packets/s, %d lost", r.PacketsForwardedPerSecond, r.PacketsLost)
	}
	if reached := r.LoadReachedRatio; reached > 0 && reached < 0.95 {
		text += fmt.Sprintf(", only %.0f %% of the load was reached", 100*reached)
	}
	return text
}

// cell is where measures belong.
type cell struct{ scenario, server string }

// table is everything that was measured.
type table struct {
	options
	missing []string
	failed  []string
	machine proc.Machine
	cells   map[cell][]*sfu.Result
	relayed []*turn.Result // by one engine and another
}

// figure is a row's value for one server: the median of the measures, and how far they lie apart.
type figure struct {
	median, low, high float64
	packets           float64 // per second, in the median
	n                 int
}

func (t *table) figure(s scenario, r row, server string) figure {
	var values, packets quantile.Samples
	for _, m := range t.cells[cell{s.name, server}] {
		values = append(values, r.value(m))
		packets = append(packets, m.PacketsForwardedPerSecond)
	}
	if len(values) == 0 {
		return figure{}
	}
	sorted := values.Sorted()
	return figure{median(values), sorted[0], sorted[len(sorted)-1], median(packets), len(values)}
}

// median is the middle one, or the mean of the two in the middle.
func median(s quantile.Samples) float64 {
	sorted := s.Sorted()
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// ratio is of the medians; false: one of them is not there.
func (t *table) ratio(s scenario, r row, peer string) (float64, bool) {
	own, other := t.figure(s, r, target.Sotto), t.figure(s, r, peer)
	if own.n == 0 || other.n == 0 || other.median <= 0 {
		return 0, false
	}
	return own.median / other.median, true
}

// limit is the most that our figure may be; 0: nothing is aimed at, or what it is a share of was not measured.
func (t *table) limit(s scenario, r row) float64 {
	limit := r.most
	for peer, share := range map[string]float64{target.BarePion: r.ofBare, target.Janus: r.ofJanus} {
		if f := t.figure(s, r, peer); share > 0 && f.n > 0 && (limit == 0 || share*f.median < limit) {
			limit = share * f.median
		}
	}
	return limit
}

// aim says what is aimed at.
func (r row) aim() string {
	var parts []string
	if r.ofBare > 0 {
		parts = append(parts, fmt.Sprintf("%g of bare pion", r.ofBare))
	}
	if r.ofJanus > 0 {
		parts = append(parts, fmt.Sprintf("%g of Janus", r.ofJanus))
	}
	if r.most > 0 {
		parts = append(parts, fmt.Sprintf("%g %s", r.most, r.unit))
	}
	text := strings.Join(parts, " and ")
	if r.better != "" {
		text += "; " + r.better
	}
	return text
}

// met says whether our figure is within what is aimed at; known: both are there.
func (t *table) met(s scenario, r row) (met, known bool) {
	limit, own := t.limit(s, r), t.figure(s, r, target.Sotto)
	return own.median <= limit, limit > 0 && own.n > 0
}

// number writes three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (f figure) String() string {
	switch f.n {
	case 0:
		return "-"
	case 1:
		return number(f.median)
	}
	return fmt.Sprintf("%s (%s..%s)", number(f.median), number(f.low), number(f.high))
}

// measured are the scenarios that were asked for.
func (t *table) measured() []scenario {
	return slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !slices.Contains(t.scenarios, s.name) })
}

// print writes the table, then the ratios one a line.
func (t *table) print(out io.Writer) {
	if len(t.measured()) > 0 {
		t.printMedia(out)
	}
	for _, m := range slices.Concat(t.missing, t.failed) {
		fmt.Fprintf(out, "\n%s\n", m)
	}
}

func (t *table) printMedia(out io.Writer) {
	fmt.Fprintf(out, "%s, %d cores, Linux %s, %s. Medians of runs (%d) of %d s (least..most), AES-128-GCM.\n\n",
		t.machine.CPU, t.machine.Cores, t.machine.Kernel, t.machine.Go, t.runs, t.seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "load\tpackets/s\tfigure\tunit\t%s\tat most\tmet\n", strings.Join(t.servers, "\t"))
	for _, s := range t.measured() {
		for i, r := range s.rows {
			title, packets := "", ""
			if i == 0 {
				title, packets = s.title, t.packets(s)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s", title, packets, r.name, r.unit)
			for _, server := range t.servers {
				fmt.Fprintf(w, "\t%s", t.figure(s, r, server))
			}
			met, known := t.met(s, r)
			fmt.Fprintf(w, "\t%s\t%s\n", r.aim(), map[[2]bool]string{{true, true}: "yes", {false, true}: "NO"}[[2]bool{met, known}])
		}
	}
	_ = w.Flush() // as Fprintf: there is nobody to tell
	for _, s := range t.measured() {
		for _, r := range s.rows {
			if !r.ratio || s.alone {
				continue
			}
			fmt.Fprintf(out, "\n%s, %s, packets/s %s:\n", s.title, r.name, t.packets(s))
			for _, peer := range t.servers {
				if v, ok := t.ratio(s, r, peer); ok && peer != target.Sotto {
					fmt.Fprintf(out, "ratio_%s=%.3f scenario=%s\n", strings.ReplaceAll(peer, "-", "_"), v, s.name)
				}
			}
		}
	}
}

// packets says what was forwarded, by each where that differs.
func (t *table) packets(s scenario) string {
	var all quantile.Samples
	for _, server := range t.servers {
		if f := t.figure(s, s.rows[0], server); f.n > 0 {
			all = append(all, f.packets)
		}
	}
	if len(all) == 0 {
		return "-"
	}
	low, high := all.Sorted()[0], all.Max()
	if high-low <= 0.02*high {
		return fmt.Sprintf("%.0f", median(all))
	}
	return fmt.Sprintf("%.0f..%.0f", low, high)
}

// verdict is an error when something could not be measured. A target that is missed is in the table.
func (t *table) verdict() error {
	if len(t.failed) > 0 {
		return errors.New("not everything could be measured")
	}
	return nil
}
