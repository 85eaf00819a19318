// Package sfu is the bench of the media node: publishers' sound and pictures, forwarded to many receivers, over real ICE, DTLS and
// SRTP in one machine.
//
// It owns the loads and the measure. It promises that what the server costs is read from the server's own process and nothing else;
// that every receiver takes account of every sequence number it is sent, repaired ones apart; that every server it can load is loaded
// by the same sockets in the same way; and that nothing of it, the server included, runs on when Run returns. For media, receivers
// only look at the clear headers and open one packet in fifty: their CPU is the load generator's, and it should not be what limits
// the measure.
//
// It does not simulate browsers' encoders: all packets of a picture have one size and leave at once unless -paced.
package sfu

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// Command is `sotto bench sfu`. Numbers that are negative are the scenario's.
type Command struct {
	Scenario     string        `enum:"fan,fan-4m,fan-8m,meeting,rooms,simulcast,idle,storm,large,residence" default:"fan" help:"The load: fan (one to 50, 1 Mbit/s), fan-4m (to 20), fan-8m, meeting (10 to each other), rooms (8 of 4), simulcast (three layers over lines that change), idle (100 who receive nothing), storm (60 join in 6 s), large (one to 500), residence (how long packets stay, at half of a core)."`
	Target       string        `enum:"sotto,plain-pion,bare-pion,janus" default:"sotto" help:"The server: sotto, or a peer to compare with: plain-pion, bare-pion (both need -peer), janus (from apt, needs root)."`
	Rooms        int           `default:"-1" placeholder:"N" help:"Rooms with the same load each."`
	Publishers   int           `default:"-1" placeholder:"N" help:"Participants that publish, in each room."`
	Receivers    int           `default:"-1" placeholder:"N" help:"Participants that receive from all publishers of their room, in each."`
	VideoBitrate int           `default:"-1" placeholder:"N" help:"Bits per second of each publisher's pictures; 0: none."`
	FPS          int           `default:"30" help:"Pictures per second."`
	Audio        bool          `default:"true" negatable:"" help:"Publish sound too: fifty packets of 90 bytes a second."`
	Paced        bool          `help:"Spread the packets of a picture over half its time, as browsers do, instead of sending them at once."`
	Duration     time.Duration `default:"0s" placeholder:"D" help:"How long is measured, once everybody is there: 20s unless the scenario says otherwise."`
	Warmup       time.Duration `default:"3s" help:"How long media flows before that."`
	Joining      int           `default:"-1" placeholder:"N" help:"How many join at once; 4 unless the scenario says otherwise."`
	Over         time.Duration `default:"-1s" placeholder:"D" help:"Receivers join at even distances over this time, however long each takes; 0: one after the other."`
	SRTP         string        `name:"srtp" enum:"gcm,cm" default:"gcm" help:"Protection of media: gcm (AES-128-GCM) or cm (AES-CM-SHA1)."`
	MaxLoss      float64       `default:"-1" help:"Fail when more than this share of the packets is lost; negative: never."`
	JSON         bool          `help:"Print one JSON object instead of the table."`
	Report       string        `placeholder:"F.html" help:"Write a page with charts to this file."`
	Profile      string        `placeholder:"F.pprof" help:"Write a CPU profile of the server over the measure, or over the joins of a storm, to this file."`
	Peer         string        `type:"path" placeholder:"FILE" help:"The pion SFU to compare with (go build ./bench/peer); by default sotto-peer beside this program."`

	Server string `hidden:"" help:"Binary whose serve is measured, by default this one." type:"path"`
	Ticket string `hidden:"" help:"Publish only, in a room that another process has opened, and say what is asked on standard input."`
}

// How many join at once and how long is measured, where nobody says.
const (
	defaultJoining  = 4
	defaultDuration = 20 * time.Second
)

// load resolves the scenario and the flags.
func (c *Command) load() (load, error) {
	l, ok := scenarios[c.Scenario]
	if !ok {
		return l, fmt.Errorf("no scenario is called %q", c.Scenario)
	}
	for _, n := range []struct {
		to   *int
		flag int
	}{{&l.rooms, c.Rooms}, {&l.publishers, c.Publishers}, {&l.receivers, c.Receivers}, {&l.bitrate, c.VideoBitrate}, {&l.joining, c.Joining}} {
		if n.flag >= 0 {
			*n.to = n.flag
		}
	}
	if c.Over >= 0 {
		l.over = c.Over
	}
	if l.joining == 0 && c.Joining < 0 {
		l.joining = defaultJoining
	}
	l.scenario, l.fps, l.audio, l.srtp = c.Scenario, c.FPS, c.Audio, c.SRTP
	l.paced = l.paced || c.Paced
	l.duration, l.warmup = cmp.Or(c.Duration, l.duration, defaultDuration), c.Warmup
	return l, l.validate()
}

// Validate implements what kong asks for.
func (c *Command) Validate() error {
	_, err := c.load()
	return err
}

// binary finds the program of the server.
func (c *Command) binary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("bench: find this program: %w", err)
	}
	switch {
	case c.Target == "plain-pion" || c.Target == "bare-pion":
		if c.Peer != "" {
			return c.Peer, nil
		}
		return filepath.Join(filepath.Dir(self), "sotto-peer"), nil
	case c.Server != "":
		return c.Server, nil
	}
	return self, nil
}

// Run measures, and prints what was found.
func (c *Command) Run(t terminal.Terminal) error {
	if done, err := c.elsewhere(); done || err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := c.load()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if c.Ticket != "" {
		return publishApart(ctx, l, c.Ticket, os.Stdin, t.Out)
	}
	binary, err := c.binary()
	if err != nil {
		return err
	}
	s := subject{name: c.Target, binary: binary, profile: c.Profile, command: c}
	r, err := measure(ctx, l, s, func(format string, args ...any) {
		if !c.JSON {
			fmt.Fprintf(t.Err, format+"\n", args...)
		}
	})
	if err != nil {
		return err
	}
	if c.Report != "" {
		if err := writeReport(c.Report, r); err != nil {
			return err
		}
	}
	if c.JSON {
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		fmt.Fprintf(t.Out, "%s\n", text)
	} else {
		for _, f := range r.figures() {
			fmt.Fprintf(t.Out, "%-46s %s\n", f.Name, f.Value)
		}
	}
	if c.MaxLoss >= 0 && r.LossRatio > c.MaxLoss {
		return fmt.Errorf("bench: %g of the packets were lost, allowed are %g", r.LossRatio, c.MaxLoss)
	}
	return nil
}

// subject is the server to measure.
type subject struct {
	name, binary, profile string
	command               *Command // for processes of its own that the bench starts
}

func writeReport(name string, r *Result) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("bench: report: %w", err)
	}
	return errors.Join(report.Write(f, r.page()), f.Close())
}
