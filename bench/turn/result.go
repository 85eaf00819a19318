package turn

import (
	"strconv"

	"github.com/sotto-edge/sotto/bench/internal/proc"
)

// Result is what -json prints. Units are in the names.
type Result struct {
	Bench   string       `json:"bench"`
	Machine proc.Machine `json:"machine"`

	Server     string `json:"server"`
	Engine     string `json:"engine"` // what relays bound channels
	Namespaces bool   `json:"namespaces"`
	Clients    int    `json:"clients"`

	// Of allocations with a channel each, over the first family.
	Allocations              int     `json:"allocations"`
	AllocationsPerSecond     float64 `json:"allocations_per_second"`
	ServerCPUNSPerAllocation float64 `json:"server_cpu_ns_per_allocation"`
	RSSPerAllocation         float64 `json:"rss_bytes_per_allocation"`
	RSS                      int64   `json:"rss_bytes"` // before there were any

	Windows []Window `json:"windows"`
}

// Window is one load and what it cost. A packet is one that was relayed.
type Window struct {
	Family    string `json:"family"`
	Direction string `json:"direction"`
	Bytes     int    `json:"payload_bytes"`
	Order     string `json:"order"`

	DurationSeconds   float64 `json:"duration_seconds"`
	PacketsSent       uint64  `json:"packets_sent"`
	LoadReachedRatio  float64 `json:"load_reached_ratio"` // of what should have been sent
	PacketsRelayed    uint64  `json:"packets_relayed"`
	PacketsPerSecond  float64 `json:"packets_relayed_per_second"`
	PacketsLost       uint64  `json:"packets_lost"`
	LossRatio         float64 `json:"loss_ratio"`
	PacketsDisordered uint64  `json:"packets_out_of_order"` // behind a later one of the same client
	PacketsBroken     uint64  `json:"packets_broken"`       // that are not what was sent

	ServerCPUNSPerPacket float64 `json:"server_cpu_ns_per_packet"`
	ServerSystemRatio    float64 `json:"server_system_ratio"` // of the server's CPU time, in the kernel
	EndsCPUNSPerPacket   float64 `json:"ends_cpu_ns_per_packet"`
	OthersCPURatio       float64 `json:"others_cpu_ratio"` // of one core: what else ran on the machine

	LatencyP50 float64 `json:"latency_seconds_p50"`
	LatencyP99 float64 `json:"latency_seconds_p99"`
}

// place says where it was measured.
func (r *Result) place() string {
	if r.Namespaces {
		return "between network namespaces"
	}
	return "over loopback"
}

func microseconds(ns float64) string { return strconv.FormatFloat(ns/1000, 'f', 2, 64) + " µs" }

func kilobytes(v float64) string { return strconv.FormatFloat(v/1000, 'f', 1, 64) + " kB" }
