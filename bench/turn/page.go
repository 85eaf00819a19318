package turn

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/bench/internal/report"
)

// reached is the share of the load below which a figure is one of a smaller load.
const reached = 0.95

// Page is the report.
func (r *Result) Page() report.Page {
	var names []string
	for _, s := range r.Servers {
		names = append(names, fmt.Sprintf("%s (engine %s)", s.Server, s.Engine))
	}
	p := report.Page{
		Title: "sotto bench turn",
		Lead: fmt.Sprintf("%d clients with a channel each, relayed by %s %s. Medians of runs (%d), the servers taking turns. %s, %d cores, Linux %s.", r.Clients,
			strings.Join(names, " and "), r.place(), r.Runs, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel),
		Notes: []string{
			"CPU is the time of the threads of the server's own process (/proc/PID/task/*/schedstat), for each packet that arrived. The kernel delivers what a process " +
				"sends in that process's time, as far as the receiver's socket: a server's figure holds the way to the other end, for every server alike.",
			"The ends are the bench's own process: what it sends, which holds the way to the server's socket, and what it takes. They cost as much as a server, or more: " +
				"a machine whose server takes half carries by no means twice as much.",
			"Latency is from before the sender's system call to the kernel's time stamp at the receiver's socket.",
		},
	}
	if r.Allocations > 0 {
		t := report.Table{Title: fmt.Sprintf("An allocation with a channel (%d of them)", r.Allocations), Head: []string{"", "memory", "server CPU", "made per second"}}
		for _, s := range r.Servers {
			memory := report.Cell{Text: kilobytes(s.RSSPerAllocation), Small: fmt.Sprintf("%.1f MB before", float64(s.RSS)/1e6)}
			if s.Server == Sotto {
				memory.Mark = mark(s.RSSPerAllocation <= MostRSS)
			}
			t.Rows = append(t.Rows, []report.Cell{
				{Text: s.Server, Small: s.Engine},
				memory,
				{Text: microseconds(s.ServerCPUNSPerAllocation)},
				{Text: strconv.FormatFloat(s.AllocationsPerSecond, 'f', 0, 64)},
			})
		}
		p.Tables = append(p.Tables, t)
	}
	if len(r.Loads) == 0 {
		return p
	}
	t := report.Table{Title: "Loads", Head: []string{"", "server CPU per packet", "ends", "packets/s", "lost", "latency, half within", "99 of 100"}}
	for at := range r.Loads {
		for i := range r.Loads[at].Servers {
			t.Rows = append(t.Rows, r.row(&r.Loads[at], i))
		}
	}
	p.Tables = append(p.Tables, t)
	var families []string
	for _, l := range r.Loads {
		if !slices.Contains(families, l.Family) {
			families = append(families, l.Family)
		}
	}
	for _, family := range families {
		p.Charts = append(p.Charts, r.charts(family)...)
	}
	return p
}

// charts show the loads of one family.
func (r *Result) charts(family string) []report.Chart {
	title := map[string]string{"ipv4": "IPv4", "ipv6": "IPv6"}[family]
	cpu := report.Chart{Title: "Server CPU per relayed packet, " + title, Y: "µs"}
	ends := report.Chart{Title: "CPU of both ends per relayed packet, " + title, Y: "µs"}
	for _, s := range r.Servers {
		cpu.Series = append(cpu.Series, report.Series{Name: s.Server})
		ends.Series = append(ends.Series, report.Series{Name: s.Server})
	}
	for _, l := range r.Loads {
		if l.Family != family {
			continue
		}
		label := fmt.Sprintf("%s %d B", l.Direction, l.Bytes)
		if l.Order == Bursts {
			label += " ×8" // in full in the table
		}
		at := float64(len(cpu.Labels))
		cpu.Labels = append(cpu.Labels, label)
		for i, f := range l.Servers {
			point := report.Point{X: at, Y: f.ServerCPUNSPerPacket / 1e3}
			if f.ServerCPUNSPerPacketLow < f.ServerCPUNSPerPacketHigh {
				point.Low, point.High = f.ServerCPUNSPerPacketLow/1e3, f.ServerCPUNSPerPacketHigh/1e3
			}
			cpu.Series[i].Points = append(cpu.Series[i].Points, point)
			ends.Series[i].Points = append(ends.Series[i].Points, report.Point{X: at, Y: f.EndsCPUNSPerPacket / 1e3})
		}
	}
	ends.Labels = cpu.Labels
	return []report.Chart{cpu, ends}
}

// mark says whether something is as it is to be.
func mark(good bool) report.Mark {
	if good {
		return report.Good
	}
	return report.Bad
}

// row is one of the table of loads.
func (r *Result) row(l *Load, i int) []report.Cell {
	f := &l.Servers[i]
	spent := report.Cell{Text: microseconds(f.ServerCPUNSPerPacket), Small: fmt.Sprintf("%.0f %% in the kernel", 100*f.ServerSystemRatio)}
	ends := report.Cell{Text: microseconds(f.EndsCPUNSPerPacket)}
	if server, whole := r.Aim(l); i == 0 && len(l.Servers) > 1 {
		spent.Small += fmt.Sprintf(" · ×%.2f", l.Ratio)
		ends.Small = fmt.Sprintf("with the server ×%.2f", l.WholeRatio)
		if server > 0 {
			spent.Small += fmt.Sprintf(", at most %g", server)
			spent.Mark = mark(l.Ratio <= server)
		}
		if whole > 0 {
			ends.Mark = mark(l.WholeRatio <= whole)
		}
	}
	lost := report.Cell{Text: strconv.FormatUint(f.PacketsLost, 10)}
	if f.PacketsLost > 0 {
		lost.Mark = report.Bad
	}
	load := report.Cell{Text: strconv.FormatFloat(f.PacketsPerSecond, 'f', 0, 64)}
	if f.LoadReachedRatio < reached {
		load.Mark, load.Small = report.Bad, fmt.Sprintf("%.0f %% of the load", 100*f.LoadReachedRatio)
	}
	return []report.Cell{
		{Text: l.Label(), Small: f.Server},
		spent,
		{Text: microseconds(f.EndsCPUNSPerPacket)},
		load, lost,
		{Text: fmt.Sprintf("%.2f ms", f.LatencyP50*1e3)},
		{Text: fmt.Sprintf("%.2f ms", f.LatencyP99*1e3)},
	}
}
