package sfu

import (
	"testing"
	"time"
)

func timeOf(ns int64) time.Time { return time.Unix(0, ns) }

func TestValidate(t *testing.T) {
	good := Command{Publishers: 1, Receivers: 50, VideoBitrate: 1_000_000, FPS: 30, Audio: true, Duration: time.Second, Joining: 4}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Command){
		"nobody publishes": func(c *Command) { c.Publishers = 0 },
		"nobody receives":  func(c *Command) { c.Receivers = 0 },
		"a crowd":          func(c *Command) { c.Receivers = 100 },
		"no pictures":      func(c *Command) { c.FPS = 0 },
		"nothing":          func(c *Command) { c.VideoBitrate, c.Audio = 0, false },
		"tiny pictures":    func(c *Command) { c.VideoBitrate = 1000 },
		"no time":          func(c *Command) { c.Duration = 0 },
		"nobody joins":     func(c *Command) { c.Joining = 0 },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSeconds(t *testing.T) {
	for v, want := range map[float64]string{20.0006: "20 s", 0.0123456: "12.3 ms", 0.000042: "42 µs", 0: "0 µs"} {
		if got := seconds(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}
