package turn

import (
	"fmt"
	"strconv"

	"github.com/sotto-edge/sotto/bench/internal/report"
)

// reached is the share of the load below which a figure is one of a smaller load.
const reached = 0.95

// label is the short name of a window.
func (w *Window) label() string {
	text := fmt.Sprintf("%s %d B", w.Direction, w.Bytes)
	if w.Order == Bursts {
		text += " bursts"
	}
	if w.Family == "ipv6" {
		text += " v6"
	}
	return text
}

// page is the report.
func (r *Result) page() report.Page {
	p := report.Page{
		Title: "sotto bench turn",
		Lead: fmt.Sprintf("%d clients with a channel each, relayed by %s (engine %s) %s. %s, %d cores, Linux %s.", r.Clients, r.Server, r.Engine, r.place(),
			r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel),
		Notes: []string{
			"CPU is the time of the threads of the server's own process (/proc/PID/task/*/schedstat), for each packet that arrived. The kernel delivers what a process " +
				"sends in that process's time as far as the receiver's socket: a server's figure holds the way to the other end, for every server alike.",
			"The ends are the bench's own process: what it sends, which holds the way to the server's socket, and what it takes. Whoever adds up both sees how little of a " +
				"call a relay is.",
			"Latency is from before the sender's system call to the kernel's time stamp at the receiver's socket.",
		},
	}
	if r.Allocations > 0 {
		p.Figures = append(
			p.Figures,
			report.Figure{Name: "memory per allocation", Value: kilobytes(r.RSSPerAllocation), Main: true},
			report.Figure{Name: "allocations with a channel per second", Value: strconv.FormatFloat(r.AllocationsPerSecond, 'f', 0, 64), Main: true},
			report.Figure{Name: "server CPU per allocation with a channel", Value: microseconds(r.ServerCPUNSPerAllocation), Main: true},
			report.Figure{Name: "allocations made for that", Value: strconv.Itoa(r.Allocations)},
			report.Figure{Name: "memory of the server before them", Value: kilobytes(float64(r.RSS))},
		)
	}
	if len(r.Windows) == 0 {
		return p
	}
	t := report.Table{Title: "Loads", Head: []string{"", "server CPU per packet", "ends", "packets/s", "lost", "latency, half within", "99 of 100"}}
	cpu := report.Chart{Title: "CPU per relayed packet", Y: "µs", Series: []report.Series{{Name: "server"}, {Name: "both ends"}}}
	late := report.Chart{Title: "Latency", Y: "ms", Series: []report.Series{{Name: "half within"}, {Name: "99 of 100 within"}}}
	for i := range r.Windows {
		w := &r.Windows[i]
		lost := report.Cell{Text: strconv.FormatUint(w.PacketsLost, 10)}
		if w.PacketsLost > 0 {
			lost.Mark = report.Bad
		}
		load := report.Cell{Text: strconv.FormatFloat(w.PacketsPerSecond, 'f', 0, 64)}
		if w.LoadReachedRatio < reached {
			load.Mark, load.Small = report.Bad, fmt.Sprintf("%.0f %% of the load", 100*w.LoadReachedRatio)
		}
		t.Rows = append(t.Rows, []report.Cell{
			{Text: w.label(), Small: w.Order},
			{Text: microseconds(w.ServerCPUNSPerPacket), Small: fmt.Sprintf("%.0f %% in the kernel", 100*w.ServerSystemRatio)},
			{Text: microseconds(w.EndsCPUNSPerPacket)},
			load, lost,
			{Text: fmt.Sprintf("%.2f ms", w.LatencyP50*1e3)},
			{Text: fmt.Sprintf("%.2f ms", w.LatencyP99*1e3)},
		})
		at := float64(i)
		cpu.Labels = append(cpu.Labels, w.label())
		cpu.Series[0].Points = append(cpu.Series[0].Points, report.Point{X: at, Y: w.ServerCPUNSPerPacket / 1e3})
		cpu.Series[1].Points = append(cpu.Series[1].Points, report.Point{X: at, Y: w.EndsCPUNSPerPacket / 1e3})
		late.Series[0].Points = append(late.Series[0].Points, report.Point{X: at, Y: w.LatencyP50 * 1e3})
		late.Series[1].Points = append(late.Series[1].Points, report.Point{X: at, Y: w.LatencyP99 * 1e3})
	}
	late.Labels = cpu.Labels
	p.Tables, p.Charts = []report.Table{t}, []report.Chart{cpu, late}
	return p
}
