// Package sfu is the bench of the media node: publishers' sound and pictures, forwarded to many receivers, over real ICE, DTLS and
// SRTP on loopback.
//
// It owns the load and the measure. It promises that what the server costs is read from the server's own process and nothing else;
// that every receiver takes account of every sequence number it is sent, repaired ones apart; and that nothing of it, the server
// included, runs on when Run returns. The publishers are the Go SDK; so are the receivers, but for media they only look at the clear
// headers and open one packet in fifty: their CPU is the load generator's, and it should not be what limits the measure.
//
// It does not simulate networks, nor browsers' encoders: all packets of a frame have one size and leave at once unless -paced.
package sfu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// Command is `sotto bench sfu`.
type Command struct {
	Publishers   int           `default:"1" help:"Participants that publish, to everybody."`
	Receivers    int           `default:"50" help:"Participants that receive from all publishers."`
	VideoBitrate int           `default:"1000000" help:"Bits per second of each publisher's pictures; 0: none."`
	FPS          int           `default:"30" help:"Pictures per second."`
	Audio        bool          `default:"true" negatable:"" help:"Publish sound too: fifty packets of 90 bytes a second."`
	Paced        bool          `help:"Spread the packets of a picture over half its time, as browsers do, instead of sending them at once."`
	Duration     time.Duration `default:"20s" help:"How long is measured, once everybody is there."`
	Warmup       time.Duration `default:"3s" help:"How long media flows before that."`
	Joining      int           `default:"4" help:"How many join at once."`
	SRTP         string        `name:"srtp" enum:"gcm,cm" default:"gcm" help:"Protection of media: gcm (AES-128-GCM) or cm (AES-CM-SHA1)."`
	MaxLoss      float64       `default:"-1" help:"Fail when more than this share of the packets is lost; negative: never."`
	JSON         bool          `help:"Print one JSON object instead of the table."`
	Report       string        `placeholder:"F.html" help:"Write a page with charts to this file."`

	Server string `hidden:"" help:"Binary whose serve is measured, by default this one." type:"path"`
}

// Validate implements what kong asks for.
func (c *Command) Validate() error {
	switch {
	case c.Publishers < 1 || c.Receivers < 1 || c.Publishers+c.Receivers > maxPeople:
		return fmt.Errorf("one publisher and one receiver at least, %d people at most", maxPeople)
	case c.VideoBitrate < 0 || c.VideoBitrate > 0 && (c.FPS < 1 || c.FPS > 240):
		return errors.New("pictures: 1 to 240 a second")
	case c.VideoBitrate == 0 && !c.Audio:
		return errors.New("neither sound nor pictures: nothing to forward")
	case c.VideoBitrate > 0 && c.VideoBitrate/8/c.FPS < 2*stampSize:
		return fmt.Errorf("%d bit/s at %d pictures a second leaves no room for a time stamp", c.VideoBitrate, c.FPS)
	case c.Duration < time.Second || c.Warmup < 0 || c.Joining < 1:
		return errors.New("a second at least, one joining at least")
	}
	return nil
}

// maxPeople is what a room takes by default.
const maxPeople = 100

// Run measures, and prints what was found.
func (c *Command) Run(t terminal.Terminal) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := c.Server
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return fmt.Errorf("bench: find this program: %w", err)
		}
	}
	r, err := measure(ctx, c, binary, func(format string, args ...any) {
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
			fmt.Fprintf(t.Out, "%-38s %s\n", f.Name, f.Value)
		}
	}
	if c.MaxLoss >= 0 && r.LossRatio > c.MaxLoss {
		return fmt.Errorf("bench: %g of the packets were lost, allowed are %g", r.LossRatio, c.MaxLoss)
	}
	return nil
}

func writeReport(name string, r *Result) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("bench: report: %w", err)
	}
	return errors.Join(report.Write(f, r.page()), f.Close())
}
