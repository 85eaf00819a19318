package sfu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/bench/internal/quantile"
	"github.com/sotto-edge/sotto/bench/internal/report"
)

// seconds writes a time with three digits that mean something.
func seconds(v float64) string {
	switch {
	case v >= 1:
		return strconv.FormatFloat(v, 'g', 3, 64) + " s"
	case v >= 1e-3:
		return strconv.FormatFloat(v*1e3, 'g', 3, 64) + " ms"
	}
	return strconv.FormatFloat(v*1e6, 'g', 3, 64) + " µs"
}

// tied keeps a value and its unit on one line.
func tied(s string) string { return strings.ReplaceAll(s, " ", "\u00a0") }

func microseconds(ns float64) string { return strconv.FormatFloat(ns/1000, 'f', 2, 64) + " µs" }

func size(v float64) string {
	switch {
	case v >= 1<<20:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case v >= 1<<10:
		return fmt.Sprintf("%.1f KiB", v/(1<<10))
	}
	return fmt.Sprintf("%.0f B", v)
}

func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }

// figures are what people read, in that order; the large ones are what the scenario is about.
func (r *Result) figures() []report.Figure {
	idle, storm, stay := r.load.idle, r.load.over > 0, r.load.aim > 0
	arrival := "time to join"
	if r.load.everybody {
		arrival = "time to the first packet" // who publishes is there already
	}
	media := !idle && !storm && !stay
	f := []report.Figure{
		{Name: "server CPU, of one core", Value: percent(r.ServerCPURatio), Main: idle || stay},
		{Name: "memory of the server", Value: size(float64(r.RSS)), Main: idle},
		{Name: "memory per receiver", Value: size(r.RSSPerLeg), Main: idle},
	}
	if !idle {
		f = append([]report.Figure{
			{Name: "packets forwarded per second", Value: grouped(r.PacketsForwardedPerSecond), Main: media || stay},
			{Name: "server CPU per packet", Value: microseconds(r.ServerCPUNSPerPacket), Main: media},
			{Name: "server CPU per packet, in user space", Value: microseconds(r.ServerUserNSPerPacket)},
			{Name: "server CPU per packet, in the kernel", Value: microseconds(r.ServerSystemNSPerPacket)},
			{Name: "bits forwarded", Value: fmt.Sprintf("%.1f Mbit/s", r.BitsForwardedPerSecond/1e6)},
			{Name: "packets lost", Value: fmt.Sprintf("%d of %s", r.PacketsLost, grouped(float64(r.PacketsForwarded+r.PacketsLost))), Main: media},
			{Name: "receivers that lost nothing", Value: fmt.Sprintf("%d of %d", r.ReceiversWhole, r.load.legs()), Main: r.load.apart},
			{Name: "packets repaired", Value: strconv.FormatUint(r.PacketsRepaired, 10)},
			{Name: "packets that came twice", Value: strconv.FormatUint(r.PacketsDuplicate, 10)},
			{Name: "latency, half within", Value: seconds(r.LatencyP50)},
			{Name: "latency, 99 of 100 within", Value: seconds(r.LatencyP99), Main: media},
			{Name: fmt.Sprintf("latency, longest of %d samples", r.LatencySamples), Value: seconds(r.LatencyMax)},
		}, f...)
		if r.StaySamples > 0 {
			f = append(
				f,
				report.Figure{Name: "time in the server, half within", Value: seconds(r.StayP50), Main: stay},
				report.Figure{Name: "time in the server, 99 of 100 within", Value: seconds(r.StayP99), Main: stay},
				report.Figure{Name: "time of sound in the server, 99 of 100 within", Value: seconds(r.StaySoundP99)},
			)
		}
	}
	f = append(
		f,
		report.Figure{Name: "server CPU per join", Value: seconds(r.JoinCPU), Main: storm},
		report.Figure{Name: arrival + ", half within", Value: seconds(r.JoinP50), Main: storm},
		report.Figure{Name: arrival + ", 99 of 100 within", Value: seconds(r.JoinP99)},
	)
	if r.JoinServerP50 > 0 {
		f = append(
			f,
			report.Figure{Name: "server's share of a join, half within", Value: seconds(r.JoinServerP50), Main: storm},
			report.Figure{Name: "server's share of a join, 99 of 100 within", Value: seconds(r.JoinServerP99), Main: storm},
			report.Figure{Name: "client's share of a join, half within", Value: seconds(r.JoinClientP50)},
		)
	}
	if r.VideoBitrate > 0 {
		f = append(f, report.Figure{Name: "time to the first picture, half within", Value: seconds(r.FirstPictureP50)},
			report.Figure{Name: "time to the first picture, 99 of 100 within", Value: seconds(r.FirstPictureP99)})
	}
	for _, l := range r.Lines {
		f = append(f, report.Figure{Name: l.Line + ": longest gap, layer then, top again after", Value: fmt.Sprintf("%s, %d, %s", seconds(l.PictureGap), l.LayerBad+1, l.up())})
	}
	f = append(f, report.Figure{Name: "CPU of the load generator, of one core", Value: percent(r.LoadCPURatio)},
		report.Figure{Name: "CPU of all else on the machine, of one core", Value: percent(r.OthersCPURatio)})
	if !idle {
		f = append(f, report.Figure{Name: "load reached, of what was asked for", Value: percent(r.LoadReachedRatio)})
	}
	return append(f, report.Figure{Name: "machine", Value: fmt.Sprintf("%s, %d cores, Linux %s, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)})
}

// grouped writes a whole number with spaces between its thousands.
func grouped(v float64) string {
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	out := ""
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out += "\u2009"
		}
		out += string(d)
	}
	return out
}

// busy is the share of a core from which on the load generator may be what loses packets.
const busy = 0.9

// reached is the share of the load below which a run is of a smaller one than was asked for.
const reached = 0.95

// aimFar is how far below the share of a core that was aimed at a page says so.
const aimFar = 0.1

// page is the report.
func (r *Result) page() report.Page {
	what := r.load.String()
	p := report.Page{
		Title:   "sotto bench sfu: " + r.Scenario,
		Lead:    fmt.Sprintf("%s. Server: %s. Measured for %s on one machine, %s.", upper(what), r.Server, tied(seconds(r.DurationSeconds)), r.SRTP),
		Figures: r.figures(),
		Notes: []string{"Server figures are those of the server's own process (/proc), which shares the machine's cores with the load generator. " +
			"CPU time is counted in hundredths of a second: a step of 1 % from one second to the next says nothing."},
	}
	if r.load.idle {
		p.Lead += " Nobody sends while it is measured; receivers report once a second, as browsers do."
	}
	if !r.load.idle && r.LoadReachedRatio < reached {
		p.Lead += fmt.Sprintf(" The machine had other things to do: %s of the load was reached, and times are those of a machine without time.", percent(r.LoadReachedRatio))
	}
	if r.load.aim > 0 && r.ServerCPURatio < r.load.aim*(1-aimFar) {
		p.Lead += fmt.Sprintf(" The server was to have %s of a core, and had %s.", tied(percent(r.load.aim)), tied(percent(r.ServerCPURatio)))
	}
	if r.load.apart {
		p.Lead += " Publishers and receivers are processes of their own."
	}
	for _, l := range r.lines {
		p.Charts = append(p.Charts, l.chart())
	}
	if len(r.lines) > 0 {
		p.Charts = append(p.Charts, layersChart(r.lines))
		p.Tables = append(p.Tables, r.linesTable())
		p.Notes = append(p.Notes, fmt.Sprintf("Each receiver is behind a line of its own (bench/netem, seeds 1 and up), which is bad from %s to %s of the measure, towards the receiver. "+
			"Here every packet is opened. A gap is the longest time in which no new picture began to arrive.", seconds(badFrom*r.DurationSeconds), seconds(badTo*r.DurationSeconds)))
	}
	if len(r.latencies) > 0 {
		within := cumulative("Latency, the slowest of 100 left out", "ms", 1e3, report.Series{Name: "publisher to receiver"}, r.latencies, 0.99)
		if len(r.stays) > 0 {
			within.Series = append(within.Series, cumulative("", "", 1e3, report.Series{Name: "in the server"}, r.stays, 0.99).Series...)
		}
		within.LogX = true
		p.Charts = append(p.Charts, r.rate(), within)
		p.Notes = append(p.Notes,
			"Latency is from the moment the publisher hands a packet to its stack to the moment the kernel hands it to the receiver's socket. "+
				"Loss counts every sequence number at every receiver, after repair.")
	}
	if len(r.stays) > 0 {
		p.Notes = append(p.Notes,
			fmt.Sprintf("Time in the server is from before the publisher's system call to the kernel's time stamp at the receiver's socket, less %s, "+
				"the median of the same between two sockets with nobody in between. The server's pacing and its waiting for a core are in it.", seconds(r.Loopback)))
	}
	if r.PacketsLost > 0 && r.LoadCPURatio > busy {
		p.Notes = append(p.Notes, fmt.Sprintf("The load generator had %s of a core: the receivers were the limit, of whom %d carried all they were sent.",
			percent(r.LoadCPURatio), r.ReceiversWhole))
	}
	p.Charts = append(p.Charts, cpu("CPU of the server", r.timeline), r.memory(), r.arrivals())
	if len(r.shares) > 0 {
		p.Charts = append(p.Charts, r.turns())
		p.Notes = append(p.Notes, "A join is shared out by turns: what passes before a message, of signaling or of media, belongs to the side that sends it. "+
			"What the server sends while the client works counts as the server's, so that its share is an upper bound. It ends with the first packet of media, "+
			"whose own wait is not in it: that is the publisher's rhythm.")
	}
	if r.load.over > 0 {
		r.pageStorm(&p)
	}
	return p
}

// pageStorm puts the joins before what came after them.
func (r *Result) pageStorm(p *report.Page) {
	people := report.Chart{Title: "Who has joined", X: "seconds", Y: "receivers", Series: []report.Series{
		counted("have asked", r.storm.asked), counted("have a packet", r.storm.heard),
	}}
	if len(r.storm.seen) > 0 {
		people.Series = append(people.Series, counted("have a picture", r.storm.seen))
	}
	p.Charts = append([]report.Chart{people, cpu("CPU of the server while they join", r.storm.timeline)}, p.Charts...)
	p.Notes = append(p.Notes, "The first two charts begin with the first join. All others over seconds begin when everybody has been there for a while.")
}

// counted counts what has come to pass.
func counted(name string, at quantile.Samples) report.Series {
	s := report.Series{Name: name, Points: []report.Point{{}}}
	for i, x := range at.Sorted() {
		s.Points = append(s.Points, report.Point{X: x, Y: float64(i)}, report.Point{X: x, Y: float64(i + 1)})
	}
	return s
}

// up says when the highest layer came again.
func (l LineResult) up() string {
	if l.UpSwitch < 0 {
		return "never"
	}
	return seconds(l.UpSwitch)
}

// linesTable says how each receiver fared.
func (r *Result) linesTable() report.Table {
	t := report.Table{Title: "Receivers", Head: []string{"the line, while it is bad", "received then", "layer then", "longest gap", "packets lost", "top layer again after"}}
	for _, l := range r.Lines {
		t.Rows = append(t.Rows, []report.Cell{
			{Text: l.Line},
			{Text: fmt.Sprintf("%.2f Mbit/s", l.BitsBad/1e6)},
			{Text: strconv.Itoa(l.LayerBad + 1)},
			{Text: seconds(l.PictureGap)},
			{Text: strconv.FormatUint(l.PacketsLost, 10)},
			{Text: l.up()},
		})
	}
	return t
}

// upper begins a sentence.
func upper(s string) string {
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// over makes a series of what changed between moments.
func over(list []moment, name string, value func(from, to moment) float64) report.Series {
	s := report.Series{Name: name}
	for i := 1; i < len(list); i++ {
		from, to := list[i-1], list[i]
		if i == 1 {
			s.Points = append(s.Points, report.Point{Y: value(from, to)})
		}
		s.Points = append(s.Points, report.Point{X: to.at.Seconds(), Y: value(from, to)})
	}
	return s
}

func (r *Result) rate() report.Chart {
	return report.Chart{Title: "Packets forwarded", X: "seconds", Y: "packets per second", Series: []report.Series{
		over(r.timeline, "packets", func(from, to moment) float64 { return float64(to.packets-from.packets) / (to.at - from.at).Seconds() }),
	}}
}

func cpu(title string, list []moment) report.Chart {
	return report.Chart{Title: title, X: "seconds", Y: "% of one core", Series: []report.Series{
		over(list, "user", func(from, to moment) float64 {
			return 100 * (to.server.User - from.server.User).Seconds() / (to.at - from.at).Seconds()
		}),
		over(list, "user and system", func(from, to moment) float64 {
			return 100 * (to.server.CPU() - from.server.CPU()).Seconds() / (to.at - from.at).Seconds()
		}),
	}}
}

func (r *Result) memory() report.Chart {
	return report.Chart{Title: "Memory of the server", X: "seconds", Y: "MiB", Series: []report.Series{
		over(r.timeline, "resident", func(_, to moment) float64 { return float64(to.server.RSS) / (1 << 20) }),
	}}
}

func (r *Result) arrivals() report.Chart {
	title := "Time to join"
	if r.load.everybody {
		title = "Time to the first media"
	}
	c := cumulative(title, "ms", 1e3, report.Series{Name: "first packet"}, r.joins, 1)
	c.LogX = true
	if len(r.pictures) > 0 {
		p := cumulative("", "", 1e3, report.Series{Name: "first picture"}, r.pictures, 1)
		c.Series = append(c.Series, p.Series...)
	}
	return c
}

// turns shows whose time the joins took.
func (r *Result) turns() report.Chart {
	c := cumulative("Whose time a join takes", "ms", 1e3, report.Series{Name: "the server's"}, r.shares, 1)
	c.LogX = true
	c.Series = append(c.Series, cumulative("", "", 1e3, report.Series{Name: "the client's"}, r.others, 1).Series...)
	return c
}

// cumulative shows which share of the samples is within what, up to a share of them.
func cumulative(title, unit string, scale float64, s report.Series, samples quantile.Samples, upTo float64) report.Chart {
	sorted := samples.Sorted()
	const points = 200
	for i := range points + 1 {
		if n := int(upTo * float64(len(sorted)-1)); n >= 0 {
			j := i * n / points
			s.Points = append(s.Points, report.Point{X: sorted[j] * scale, Y: 100 * float64(j+1) / float64(len(sorted))})
		}
	}
	return report.Chart{Title: title, X: unit, Y: "% within", Series: []report.Series{s}}
}
