package sfu

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func timeOf(ns int64) time.Time { return time.Unix(0, ns) }

// scenario is the command as kong makes it without flags.
func scenario(name string) Command {
	return Command{
		Scenario: name, Target: "sotto", Rooms: -1, Publishers: -1, Receivers: -1, VideoBitrate: -1, FPS: 30, Audio: true, Joining: -1, Over: -1,
		Duration: time.Second, SRTP: "gcm", MaxLoss: -1, JSON: true,
	}
}

// Every scenario is a load, and flags go before it.
func TestScenarios(t *testing.T) {
	for name := range scenarios {
		c := scenario(name)
		l, err := c.load()
		if err != nil || l.scenario != name || l.legs() == 0 || l.fan() == 0 || l.String() == "" {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	c := scenario("meeting")
	c.Rooms, c.Publishers, c.Receivers = 3, 4, 2
	l, err := c.load()
	if err != nil || l.legs() != 18 || l.fan() != 5 || l.rate() != 3*4*170 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestValidate(t *testing.T) {
	good := scenario("fan")
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Command){
		"nobody publishes": func(c *Command) { c.Publishers = 0 },
		"nobody receives":  func(c *Command) { c.Receivers = 0 },
		"a crowd":          func(c *Command) { c.Receivers = maxPeople },
		"no scenario":      func(c *Command) { c.Scenario = "unheard of" },
		"no pictures":      func(c *Command) { c.FPS = 0 },
		"nothing":          func(c *Command) { c.VideoBitrate, c.Audio = 0, false },
		"tiny pictures":    func(c *Command) { c.VideoBitrate = 1000 },
		"no time":          func(c *Command) { c.Duration = time.Millisecond },
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

func TestStamp(t *testing.T) {
	b := make([]byte, stampSize)
	if _, ok := stamp(b); ok {
		t.Error("an empty payload has a stamp")
	}
	at := timeOf(1234567890)
	putStamp(b, at, 77, 2)
	if got, ok := stamp(b); !ok || got != (stamped{1234567890, 77, 2}) {
		t.Errorf("stamp %+v, %t", got, ok)
	}
	if _, ok := stamp(b[:stampSize-1]); ok {
		t.Error("a cut payload has a stamp")
	}
	first := make([]byte, 64)
	describe(first, true, true)
	if diff := cmp.Diff([]byte{0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a}, first[:7]); diff != "" {
		t.Error(diff)
	}
}

// What left is remembered under its number, until another takes the place.
func TestDepartures(t *testing.T) {
	d := &departures{}
	first := d.number()
	if _, ok := d.of(first); ok || first == 0 {
		t.Errorf("packet %d is said to have left", first)
	}
	d.left(first, 5)
	if at, ok := d.of(first); !ok || at != 5 {
		t.Errorf("left at %d, %t", at, ok)
	}
	d.left(first+uint32(len(d.at)), 6)
	if _, ok := d.of(first); ok {
		t.Error("an old packet is remembered as the new one")
	}
	if _, ok := d.of(0); ok {
		t.Error("a packet without a number has left")
	}
}
