package main

import (
	"fmt"
	"slices"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/internal/target"
)

// names are how the page calls the servers.
var names = map[string]string{
	target.Sotto: "Sotto", target.BarePion: "bare pion", target.PlainPion: "plain pion", target.Janus: "Janus",
}

// page is the report.
func (t *table) page() report.Page {
	p := report.Page{
		Title: "Sotto beside its peers",
		Lead: fmt.Sprintf("Medians of runs (%d) of %d s each, the servers taking turns, each a process of its own, under the same load from the same generator. "+
			"%s, %d cores, Linux %s, %s.", t.runs, t.seconds, t.machine.CPU, t.machine.Cores, t.machine.Kernel, t.machine.Go),
	}
	if len(t.measured()) > 0 {
		t.pageMedia(&p)
	}
	t.pageRelay(&p)
	p.Notes = append(p.Notes, "docs/performance.md has the method.")
	p.Notes = append(p.Notes, slices.Concat(t.missing, t.failed)...)
	return p
}

// pageMedia adds the loads of the media node.
func (t *table) pageMedia(p *report.Page) {
	targets := report.Table{Title: "Targets", Head: []string{"load"}}
	for _, server := range t.servers {
		targets.Head = append(targets.Head, names[server])
	}
	targets.Head = append(targets.Head, "at most")
	for _, s := range t.measured() {
		for _, r := range s.rows {
			targets.Rows = append(targets.Rows, t.row(s, r))
		}
		for _, r := range s.rows {
			if v, ok := t.ratio(s, r, target.BarePion); ok && r.ratio {
				p.Figures = append(p.Figures, report.Figure{Name: fmt.Sprintf("of bare pion's CPU: %s", s.title), Value: fmt.Sprintf("%.2f", v), Main: true})
			}
		}
	}
	p.Tables = append(p.Tables, targets)
	packets := scenariosWith(t.measured(), "CPU per packet")
	p.Charts = append(p.Charts,
		t.chart("Server CPU per forwarded packet", "µs", packets, 0),
		t.latency(packets))
	if fan := scenariosWith(t.measured(), "memory per receive-only leg"); len(fan) > 0 {
		p.Charts = append(p.Charts, t.chart("Memory per receive-only leg", "kB", fan, 2))
	}
	if idle := slices.IndexFunc(t.measured(), func(s scenario) bool { return s.name == "idle" }); idle >= 0 {
		p.Charts = append(p.Charts, t.chart("CPU of 100 idle connections", "% of a core", t.measured()[idle:idle+1], 0))
	}
	p.Notes = append(p.Notes,
		"CPU is user and system time of the server's process from /proc. Over loopback the system time of a sender holds the way through the receiver's stack too; "+
			"it is the same for all. Thin lines on the bars, and small figures, are the least and the most of the runs; × is our figure as a share of the peer's.",
		"Sotto runs with everything on: transport-wide feedback, RTX, history, layers, pacer, metrics. The peers run what they negotiate. "+
			"Plain pion has pion's default interceptors and a socket for each connection, bare pion none and one socket; Janus has event_loops=2 and ICE-lite.")
}

// scenariosWith are those that have a row of that name.
func scenariosWith(list []scenario, name string) []scenario {
	return slices.DeleteFunc(slices.Clone(list), func(s scenario) bool {
		return !slices.ContainsFunc(s.rows, func(r row) bool { return r.name == name })
	})
}

// row is one of the table.
func (t *table) row(s scenario, r row) []report.Cell {
	own, known := t.met(s, r)
	cells := []report.Cell{{Text: fmt.Sprintf("%s: %s, %s", s.title, r.name, r.unit), Small: t.packets(s) + " packets/s"}}
	for _, server := range t.servers {
		f := t.figure(s, r, server)
		c := report.Cell{Text: "–"}
		if f.n > 0 {
			c.Text = number(f.median)
		}
		if f.n > 1 {
			c.Small = fmt.Sprintf("%s to %s", number(f.low), number(f.high))
		}
		if v, ok := t.ratio(s, r, server); ok && server != target.Sotto {
			if c.Small != "" {
				c.Small += " · "
			}
			c.Small += fmt.Sprintf("×%.2f", v)
		}
		if server == target.Sotto && known {
			c.Mark = report.Bad
			if own {
				c.Mark = report.Good
			}
		}
		cells = append(cells, c)
	}
	return append(cells, report.Cell{Text: limitText(t.limit(s, r)), Small: r.aim()})
}

func limitText(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v)
}

// chart shows one row of several scenarios, server beside server.
func (t *table) chart(title, unit string, list []scenario, row int) report.Chart {
	c := report.Chart{Title: title, Y: unit}
	for _, s := range list {
		c.Labels = append(c.Labels, s.title)
	}
	for _, server := range t.servers {
		line := report.Series{Name: names[server]}
		for i, s := range list {
			if f := t.figure(s, s.rows[row], server); f.n > 0 {
				p := report.Point{X: float64(i), Y: f.median}
				if f.n > 1 {
					p.Low, p.High = f.low, f.high
				}
				line.Points = append(line.Points, p)
			}
		}
		c.Series = append(c.Series, line)
	}
	if len(list) == 1 {
		if limit := t.limit(list[0], list[0].rows[row]); limit > 0 {
			c.Limit, c.LimitName = limit, "at most "+number(limit)
		}
	}
	return c
}

// latency shows the 99th of 100 packets, whether it is aimed at or not.
func (t *table) latency(list []scenario) report.Chart {
	var own []scenario
	for _, s := range list {
		s.rows = []row{late}
		own = append(own, s)
	}
	return t.chart("Latency, 99 of 100 packets within", "ms", own, 0)
}
