package sfu

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/quantile"
	"github.com/sotto-edge/sotto/bench/internal/report"
)

// Result is what -json prints. Units are in the names; a packet is an RTP packet that reached a receiver.
type Result struct {
	Bench   string       `json:"bench"`
	Machine proc.Machine `json:"machine"`

	Publishers      int     `json:"publishers"`
	Receivers       int     `json:"receivers"`
	VideoBitrate    int     `json:"video_bits_per_second"`
	FPS             int     `json:"video_frames_per_second"`
	Audio           bool    `json:"audio"`
	Paced           bool    `json:"paced"`
	SRTP            string  `json:"srtp"`
	DurationSeconds float64 `json:"duration_seconds"`

	PacketsSent               uint64  `json:"packets_sent"`       // by all publishers
	LoadReachedRatio          float64 `json:"load_reached_ratio"` // of what they should have sent
	PacketsForwarded          uint64  `json:"packets_forwarded"`
	PacketsForwardedPerSecond float64 `json:"packets_forwarded_per_second"`
	BitsForwardedPerSecond    float64 `json:"bits_forwarded_per_second"`

	ServerCPUNSPerPacket    float64 `json:"server_cpu_ns_per_packet"`
	ServerUserNSPerPacket   float64 `json:"server_user_ns_per_packet"`
	ServerSystemNSPerPacket float64 `json:"server_system_ns_per_packet"`
	ServerCPURatio          float64 `json:"server_cpu_ratio"` // of one core
	LoadCPURatio            float64 `json:"load_cpu_ratio"`   // of one core: what the bench itself took

	LossRatio        float64 `json:"loss_ratio"`
	PacketsLost      uint64  `json:"packets_lost"`
	PacketsRepaired  uint64  `json:"packets_repaired"`
	PacketsDuplicate uint64  `json:"packets_duplicate"`

	LatencyP50     float64 `json:"latency_seconds_p50"`
	LatencyP99     float64 `json:"latency_seconds_p99"`
	LatencyMax     float64 `json:"latency_seconds_max"`
	LatencySamples int     `json:"latency_samples"`

	RSS             int64   `json:"rss_bytes"` // with everybody there
	RSSPerLeg       float64 `json:"rss_bytes_per_leg"`
	JoinCPU         float64 `json:"server_cpu_seconds_per_join"` // without what was forwarded meanwhile
	JoinP50         float64 `json:"join_seconds_p50"`            // from the first request to the first packet
	JoinP99         float64 `json:"join_seconds_p99"`
	FirstPictureP50 float64 `json:"first_picture_seconds_p50"` // to the first packet of a key frame
	FirstPictureP99 float64 `json:"first_picture_seconds_p99"`

	// For the report.
	latencies, joins, pictures quantile.Samples
	timeline                   []moment
}

// moment is a look at the server during the measure.
type moment struct {
	at      time.Duration
	server  proc.Usage
	packets uint64
}

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

// figures are what people read, in that order.
func (r *Result) figures() []report.Figure {
	f := []report.Figure{
		{Name: "packets forwarded per second", Value: fmt.Sprintf("%.0f", r.PacketsForwardedPerSecond), Main: true},
		{Name: "server CPU per packet", Value: microseconds(r.ServerCPUNSPerPacket), Main: true},
		{Name: "packets lost", Value: fmt.Sprintf("%d of %d (%.4f %%)", r.PacketsLost, r.PacketsForwarded+r.PacketsLost, 100*r.LossRatio), Main: true},
		{Name: "latency, 99 of 100 within", Value: seconds(r.LatencyP99), Main: true},
		{Name: "server user time per packet", Value: microseconds(r.ServerUserNSPerPacket)},
		{Name: "server system time per packet", Value: microseconds(r.ServerSystemNSPerPacket)},
		{Name: "server CPU, of one core", Value: percent(r.ServerCPURatio)},
		{Name: "bits forwarded per second", Value: fmt.Sprintf("%.1f M", r.BitsForwardedPerSecond/1e6)},
		{Name: "packets repaired", Value: strconv.FormatUint(r.PacketsRepaired, 10)},
		{Name: "packets that came twice", Value: strconv.FormatUint(r.PacketsDuplicate, 10)},
		{Name: "latency, half within", Value: seconds(r.LatencyP50)},
		{Name: fmt.Sprintf("latency, longest of %d samples", r.LatencySamples), Value: seconds(r.LatencyMax)},
		{Name: "memory of the server", Value: size(float64(r.RSS))},
		{Name: "memory per receiver", Value: size(r.RSSPerLeg)},
		{Name: "server CPU per join", Value: seconds(r.JoinCPU)},
		{Name: "time to join, half within", Value: seconds(r.JoinP50)},
		{Name: "time to join, 99 of 100 within", Value: seconds(r.JoinP99)},
	}
	if r.VideoBitrate > 0 {
		f = append(f, report.Figure{Name: "time to the first picture, half within", Value: seconds(r.FirstPictureP50)},
			report.Figure{Name: "time to the first picture, 99 of 100", Value: seconds(r.FirstPictureP99)})
	}
	return append(f, report.Figure{Name: "CPU of the load generator, of one core", Value: percent(r.LoadCPURatio)},
		report.Figure{Name: "load reached, of what was asked for", Value: percent(r.LoadReachedRatio)},
		report.Figure{Name: "machine", Value: fmt.Sprintf("%s, %d cores, Linux %s, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)})
}

// page is the report.
func (r *Result) page() report.Page {
	media := "sound"
	if r.VideoBitrate > 0 {
		media = fmt.Sprintf("pictures of %.3g Mbit/s at %d a second", float64(r.VideoBitrate)/1e6, r.FPS)
		if r.Audio {
			media += " and sound"
		}
	}
	return report.Page{
		Title:   "sotto bench sfu",
		Lead:    fmt.Sprintf("%d publishing %s to %d receivers for %s over loopback, %s.", r.Publishers, media, r.Receivers, seconds(r.DurationSeconds), r.SRTP),
		Figures: r.figures(),
		Charts: []report.Chart{
			r.rate(), r.cpu(), r.memory(),
			cumulative("Latency from publisher to receiver, the slowest of 100 left out", "ms", 1e3, report.Series{}, r.latencies, 0.99),
			r.arrivals(),
		},
		Notes: []string{
			"Server figures are those of the server's own process (/proc). Latency is from the moment the publisher hands a packet to its " +
				"stack to the moment the kernel hands it to the receiver's socket. Loss counts every sequence number at every receiver, after repair.",
		},
	}
}

// over makes a series of what changed between the moments.
func (r *Result) over(name string, value func(from, to moment) float64) report.Series {
	s := report.Series{Name: name}
	for i := 1; i < len(r.timeline); i++ {
		from, to := r.timeline[i-1], r.timeline[i]
		s.Points = append(s.Points, report.Point{X: to.at.Seconds(), Y: value(from, to)})
	}
	return s
}

func (r *Result) rate() report.Chart {
	return report.Chart{Title: "Packets forwarded", X: "seconds", Y: "packets per second", Series: []report.Series{
		r.over("packets", func(from, to moment) float64 { return float64(to.packets-from.packets) / (to.at - from.at).Seconds() }),
	}}
}

func (r *Result) cpu() report.Chart {
	return report.Chart{Title: "CPU of the server", X: "seconds", Y: "% of one core", Series: []report.Series{
		r.over("user", func(from, to moment) float64 {
			return 100 * (to.server.User - from.server.User).Seconds() / (to.at - from.at).Seconds()
		}),
		r.over("system", func(from, to moment) float64 {
			return 100 * (to.server.System - from.server.System).Seconds() / (to.at - from.at).Seconds()
		}),
	}}
}

func (r *Result) memory() report.Chart {
	return report.Chart{Title: "Memory of the server", X: "seconds", Y: "MiB", Series: []report.Series{
		r.over("resident", func(_, to moment) float64 { return float64(to.server.RSS) / (1 << 20) }),
	}}
}

func (r *Result) arrivals() report.Chart {
	c := cumulative("Time to join", "ms", 1e3, report.Series{Name: "first packet"}, r.joins, 1)
	if len(r.pictures) > 0 {
		p := cumulative("", "", 1e3, report.Series{Name: "first picture"}, r.pictures, 1)
		c.Series = append(c.Series, p.Series...)
	}
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
