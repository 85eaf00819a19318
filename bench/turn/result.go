package turn

import (
	"fmt"
	"strconv"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/quantile"
)

// Result is what -json prints. Units are in the names.
type Result struct {
	Bench   string       `json:"bench"`
	Machine proc.Machine `json:"machine"`

	Namespaces bool `json:"namespaces"` // else on loopback
	Offloads   bool `json:"device_offloads"`
	Clients    int  `json:"clients"`
	Rate       int  `json:"packets_per_second"` // that were asked for
	Runs       int  `json:"runs"`
	// Allocations is how many were made for the servers' figures of one.
	Allocations int      `json:"allocations"`
	Servers     []Server `json:"servers"`
	Loads       []Load   `json:"loads"`
}

// Server is one that was measured, and what an allocation with a channel costs it, over the first family.
type Server struct {
	Server string `json:"server"`
	Engine string `json:"engine"` // what relays bound channels

	AllocationsPerSecond     float64 `json:"allocations_per_second"`
	ServerCPUNSPerAllocation float64 `json:"server_cpu_ns_per_allocation"`
	RSSPerAllocation         float64 `json:"rss_bytes_per_allocation"`
	RSS                      int64   `json:"rss_bytes"` // before there were any
}

// Load is one kind of packets, and how the servers fared.
type Load struct {
	Family    string `json:"family"`
	Direction string `json:"direction"`
	Bytes     int    `json:"payload_bytes"`
	Order     string `json:"order"`

	// Servers are the medians of the runs, in the order of the servers.
	Servers []Figures `json:"servers"`
	// Ratio is the first server's CPU per packet as a share of the second's; 0 without one.
	Ratio float64 `json:"server_cpu_ratio,omitempty"`
	// WholeRatio is the same of server and ends together.
	WholeRatio float64 `json:"whole_cpu_ratio,omitempty"`
}

// Aim is the most that Sotto's CPU per packet is to be, as a share of coturn's under the same load, and Sotto's and the ends' together
// as a share of coturn's and its ends'; 0: nothing is aimed at.
func (r *Result) Aim(l *Load) (server, whole float64) {
	switch {
	case len(r.Servers) < 2 || r.Servers[0].Server != Sotto || r.Servers[1].Server != Coturn || len(l.Servers) < 2:
		return 0, 0
	case r.Servers[0].Engine == "tcx" || r.Servers[0].Engine == "xdp":
		return 0.02, 0.9
	case l.Order == Bursts:
		return 0.5, 0
	}
	return 0.8, 0
}

// MostRSS is what an allocation with a channel is to take at most.
const MostRSS = 20_000

// Figures are what a load costs a server. A packet is one that was relayed. Counts are of all runs.
type Figures struct {
	Server string `json:"server"`

	DurationSeconds   float64 `json:"duration_seconds"`
	PacketsSent       uint64  `json:"packets_sent"`
	LoadReachedRatio  float64 `json:"load_reached_ratio"` // of what should have been sent
	PacketsRelayed    uint64  `json:"packets_relayed"`
	PacketsPerSecond  float64 `json:"packets_relayed_per_second"`
	PacketsLost       uint64  `json:"packets_lost"`
	LossRatio         float64 `json:"loss_ratio"`
	PacketsDisordered uint64  `json:"packets_out_of_order"` // behind a later one of the same client
	PacketsBroken     uint64  `json:"packets_broken"`       // that are not what was sent

	ServerCPUNSPerPacket     float64 `json:"server_cpu_ns_per_packet"`
	ServerCPUNSPerPacketLow  float64 `json:"server_cpu_ns_per_packet_low"`
	ServerCPUNSPerPacketHigh float64 `json:"server_cpu_ns_per_packet_high"`
	ServerSystemRatio        float64 `json:"server_system_ratio"` // of the server's CPU time, in the kernel
	EndsCPUNSPerPacket       float64 `json:"ends_cpu_ns_per_packet"`
	OthersCPURatio           float64 `json:"others_cpu_ratio"` // of one core: what else ran on the machine

	LatencyP50 float64 `json:"latency_seconds_p50"`
	LatencyP99 float64 `json:"latency_seconds_p99"`
}

// summary is the medians of runs of one load.
func summary(runs []Figures) Figures {
	out := runs[0]
	median := func(value func(*Figures) float64) (middle, low, high float64) {
		var all quantile.Samples
		for i := range runs {
			all = append(all, value(&runs[i]))
		}
		all = all.Sorted()
		n := len(all)
		return (all[(n-1)/2] + all[n/2]) / 2, all[0], all[n-1]
	}
	out.ServerCPUNSPerPacket, out.ServerCPUNSPerPacketLow, out.ServerCPUNSPerPacketHigh = median(func(f *Figures) float64 { return f.ServerCPUNSPerPacket })
	for _, value := range []func(*Figures) *float64{
		func(f *Figures) *float64 { return &f.LoadReachedRatio }, func(f *Figures) *float64 { return &f.PacketsPerSecond },
		func(f *Figures) *float64 { return &f.ServerSystemRatio }, func(f *Figures) *float64 { return &f.EndsCPUNSPerPacket },
		func(f *Figures) *float64 { return &f.OthersCPURatio }, func(f *Figures) *float64 { return &f.LatencyP50 },
		func(f *Figures) *float64 { return &f.LatencyP99 },
	} {
		*value(&out), _, _ = median(func(f *Figures) float64 { return *value(f) })
	}
	for _, f := range runs[1:] {
		out.DurationSeconds += f.DurationSeconds
		out.PacketsSent += f.PacketsSent
		out.PacketsRelayed += f.PacketsRelayed
		out.PacketsLost += f.PacketsLost
		out.PacketsDisordered += f.PacketsDisordered
		out.PacketsBroken += f.PacketsBroken
	}
	out.LossRatio = float64(out.PacketsLost) / float64(max(1, out.PacketsSent))
	return out
}

// spread is the median with the least and the most.
func (f *Figures) spread() string {
	middle := strconv.FormatFloat(f.ServerCPUNSPerPacket/1e3, 'f', 2, 64)
	if f.ServerCPUNSPerPacketLow == f.ServerCPUNSPerPacketHigh {
		return middle
	}
	return fmt.Sprintf("%s (%.2f..%.2f)", middle, f.ServerCPUNSPerPacketLow/1e3, f.ServerCPUNSPerPacketHigh/1e3)
}

// Label is the short name of a load.
func (l *Load) Label() string {
	text := fmt.Sprintf("%s %d B", l.Direction, l.Bytes)
	if l.Order == Bursts {
		text += " bursts"
	}
	if l.Family == "ipv6" {
		text += " v6"
	}
	return text
}

// place says where it was measured.
func (r *Result) place() string {
	switch {
	case !r.Namespaces:
		return "over loopback"
	case r.Offloads:
		return "between network namespaces, devices with offloads"
	}
	return "between network namespaces"
}

func microseconds(ns float64) string { return strconv.FormatFloat(ns/1000, 'f', 2, 64) + " µs" }

func kilobytes(v float64) string { return strconv.FormatFloat(v/1000, 'f', 1, 64) + " kB" }
