// Package netem is a bad network on purpose: a proxy between UDP clients (browsers, Go clients) and one UDP server that loses,
// delays, reorders, duplicates and queues what passes, by direction, as it is told or by a timeline.
//
// It owns the model of a line (Link), which is pure and runs in any time that it is handed, and the sockets around two of them
// (Proxy). It promises that what becomes of the nth packet after a change depends on the seed, the direction and n alone, as far as
// chance goes: a packet that a full queue drops still takes its turn, and switching one impairment on moves no other's dice. What a
// queue drops depends on when packets come, too. All clients of one proxy share its two lines, as a household does; clients with
// lines of their own need a proxy each.
//
// It does not look into packets, does not touch TCP, and does not imitate the kernel below it: what the machine itself is late by
// comes on top.
package netem

import (
	"errors"
	"fmt"
	"time"
)

// Direction is one of the two ways through a proxy.
type Direction uint8

// Up is from the clients to the server, Down from the server to the clients.
const (
	Up Direction = iota
	Down
)

// Directions are both.
var Directions = [2]Direction{Up, Down}

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Impairment is what a line does to packets, in the order of its fields: they wait for the line, take their time on it, get lost or
// doubled, and arrive late. The zero value is a perfect line.
type Impairment struct {
	// Rate is how many bits a second the line carries, headers of IP and UDP included; 0: any number.
	Rate uint64
	// Queue and QueueTime are how much may wait for the line, in bytes and in time at the present rate; what comes beyond is dropped.
	// With both the smaller counts, with neither 200 ms. A packet that finds the line idle always passes.
	Queue     int
	QueueTime time.Duration

	// Loss is the share of packets lost, each by itself.
	Loss float64
	// Burst loses packets in a row.
	Burst Burst
	// Duplicate is the share of packets that arrive twice.
	Duplicate float64

	// Delay is how long every packet is on its way.
	Delay time.Duration
	// Jitter is the most that chance adds to that, evenly spread. Packets keep their order, so that one that is late holds up those
	// behind it, unless Overtake lets them pass.
	Jitter   time.Duration
	Overtake bool
	// Reorder is the share of packets that are held back for another ReorderBy (0: 20 ms) while others pass.
	Reorder   float64
	ReorderBy time.Duration
}

// Burst is loss by the model of Gilbert and Elliott: a line is good or bad, and changes between the two by chance after each packet.
type Burst struct {
	Enter, Leave      float64 // chance per packet that a good line turns bad, and a bad one good
	LossGood, LossBad float64 // share of packets lost in either state
}

// Bursts is a line that loses the given share of its packets, in bursts of so many in a row as the mean.
func Bursts(share, length float64) Burst {
	leave := 1 / length
	return Burst{Enter: share * leave / (1 - share), Leave: leave, LossBad: 1}
}

// Defaults of an Impairment, and limits that keep numbers in range.
const (
	defaultQueueTime = 200 * time.Millisecond
	defaultReorderBy = 20 * time.Millisecond
	maxDelay         = time.Minute
	maxRate          = 100e9
	maxQueue         = 1 << 30
)

// Validate says what is out of range.
func (im Impairment) Validate() error {
	for _, share := range []float64{im.Loss, im.Burst.Enter, im.Burst.Leave, im.Burst.LossGood, im.Burst.LossBad, im.Duplicate, im.Reorder} {
		if !(share >= 0 && share <= 1) { // so that NaN fails too
			return fmt.Errorf("netem: %v: shares and chances are 0 to 1", share)
		}
	}
	for _, d := range []time.Duration{im.QueueTime, im.Delay, im.Jitter, im.ReorderBy} {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("netem: %v: times are 0 to %v", d, maxDelay)
		}
	}
	switch {
	case im.Rate > maxRate:
		return fmt.Errorf("netem: rate %d: %d bit/s at most", im.Rate, uint64(maxRate))
	case im.Queue < 0 || im.Queue > maxQueue:
		return fmt.Errorf("netem: queue of %d bytes: 0 to %d", im.Queue, maxQueue)
	case im.Rate == 0 && (im.Queue != 0 || im.QueueTime != 0):
		return errors.New("netem: a queue needs a rate")
	case im.Overtake && im.Jitter == 0:
		return errors.New("netem: overtaking needs jitter")
	case im.ReorderBy != 0 && im.Reorder == 0:
		return errors.New("netem: a time to hold packets back needs a share of them")
	}
	return nil
}
