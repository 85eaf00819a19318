// Package bench is the command line of `sotto bench`: what benches there are, and under which names.
//
// It owns the list and nothing else. Each bench is a package of its own below, which starts the appliance as a child of the same
// binary, loads it, and reports what the child's /proc entry says: a benchmark with client and server in one process cannot say what
// the server costs.
package bench

import (
	"fmt"
	"reflect"

	"github.com/sotto-edge/sotto/bench/internal/terminal"
	"github.com/sotto-edge/sotto/bench/sfu"
	"github.com/sotto-edge/sotto/bench/turn"
)

// Terminal is where a bench writes to. The command line binds one for the Run methods.
type Terminal = terminal.Terminal

// Commands are the benches, for the command line to embed.
type Commands struct {
	Names Names `cmd:"" default:"withargs" hidden:"" help:"Print the names of the benches."`

	SFU  sfu.Command  `cmd:"" name:"sfu" help:"Forward publishers' sound and pictures to many receivers: CPU per packet, loss, latency, memory, time to join."`
	TURN turn.Command `cmd:"" name:"turn" help:"Relay packets of TURN channels: CPU per packet, loss, latency, memory of an allocation, allocations per second."`
}

// Names prints the names of the benches, one a line.
type Names struct {
	List bool `help:"Print the names of the benches, one a line."`
}

// Run prints them.
func (Names) Run(t Terminal) error {
	list := reflect.TypeFor[Commands]()
	for i := range list.NumField() {
		if name, ok := list.Field(i).Tag.Lookup("name"); ok {
			if _, err := fmt.Fprintln(t.Out, name); err != nil {
				return fmt.Errorf("bench: %w", err)
			}
		}
	}
	return nil
}
