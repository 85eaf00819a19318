package sfu

import (
	"time"

	"github.com/sotto-edge/sotto/bench/internal/proc"
	"github.com/sotto-edge/sotto/bench/internal/quantile"
)

// Result is what -json prints. Units are in the names; a packet is an RTP packet that reached a receiver.
type Result struct {
	Bench   string       `json:"bench"`
	Machine proc.Machine `json:"machine"`

	Scenario        string  `json:"scenario"`
	Server          string  `json:"server"`
	Rooms           int     `json:"rooms"`
	Publishers      int     `json:"publishers"` // in each room
	Everybody       bool    `json:"publishers_receive"`
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
	OthersCPURatio          float64 `json:"others_cpu_ratio"` // of one core: what else ran on the machine

	LossRatio        float64 `json:"loss_ratio"`
	PacketsLost      uint64  `json:"packets_lost"`
	PacketsRepaired  uint64  `json:"packets_repaired"`
	PacketsDuplicate uint64  `json:"packets_duplicate"`
	ReceiversWhole   int     `json:"receivers_without_loss"`

	LatencyP50     float64 `json:"latency_seconds_p50"`
	LatencyP99     float64 `json:"latency_seconds_p99"`
	LatencyMax     float64 `json:"latency_seconds_max"`
	LatencySamples int     `json:"latency_samples"`

	// How long packets stay in the server: from their hand-over to the kernel by the publisher to the kernel's time stamp at the
	// receiver, less what the same takes with no server in between.
	StayP50      float64 `json:"residence_seconds_p50"`
	StayP99      float64 `json:"residence_seconds_p99"`
	StaySoundP99 float64 `json:"residence_sound_seconds_p99"` // of sound, which no pacer holds
	StaySamples  int     `json:"residence_samples"`           // 0 where the publishers are another process
	Loopback     float64 `json:"loopback_seconds_p50"`

	RSS             int64   `json:"rss_bytes"` // with everybody there
	RSSPerLeg       float64 `json:"rss_bytes_per_leg"`
	JoinCPU         float64 `json:"server_cpu_seconds_per_join"` // without what was forwarded meanwhile
	JoinP50         float64 `json:"join_seconds_p50"`            // from the first request to the first packet
	JoinP99         float64 `json:"join_seconds_p99"`
	JoinServerP50   float64 `json:"join_server_seconds_p50"` // of the time to join, what was waited for the server
	JoinServerP99   float64 `json:"join_server_seconds_p99"`
	JoinClientP50   float64 `json:"join_client_seconds_p50"`
	FirstPictureP50 float64 `json:"first_picture_seconds_p50"` // to the first packet of a key frame
	FirstPictureP99 float64 `json:"first_picture_seconds_p99"`

	Lines []LineResult `json:"lines,omitempty"` // of receivers behind lines that change

	// For the report.
	load                                                      load
	latencies, stays, sounds, joins, pictures, shares, others quantile.Samples
	lines                                                     []*line
	timeline                                                  []moment
	storm                                                     storm
}

// storm is how the joins went when they were spread over a time, in seconds from its beginning.
type storm struct {
	asked, heard, seen quantile.Samples // of each receiver: its first request, packet, and picture
	timeline           []moment
}

// moment is a look at the server during the measure.
type moment struct {
	at      time.Duration
	server  proc.Usage
	packets uint64
}

func newResult(l load, server string) *Result {
	return &Result{
		Bench: "sfu", Machine: proc.Here(), Scenario: l.scenario, Server: server, Rooms: l.rooms, Publishers: l.publishers, Everybody: l.everybody,
		Receivers: l.receivers, VideoBitrate: l.bitrate, FPS: l.fps, Audio: l.audio, Paced: l.paced,
		SRTP: map[string]string{"gcm": "AEAD_AES_128_GCM", "cm": "AES128_CM_HMAC_SHA1_80"}[l.srtp], load: l,
	}
}
