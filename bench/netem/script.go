package netem

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Step is one entry of a timeline: from At on, counted from its start, the directions behave like this.
type Step struct {
	At         time.Duration
	Directions []Direction
	Impairment Impairment
}

// ParseScript reads a timeline, one step a line or with semicolons between, in the order of time:
//
//	0s  both delay=20ms
//	10s down rate=300k queue=500ms
//	30s clear
//
// A step says when, which way (up, down or both, which need not be said), and what the line does from then on: nothing of what it
// did before remains. Terms are clear; rate=300k (k, M and G of bits); queue=64kB or queue=500ms; loss=5%; burst=20%/8 (the share
// and how many in a row as the mean) or burst=ENTER/LEAVE/LOSSGOOD/LOSSBAD; delay=50ms; jitter=30ms; overtake; reorder=1% or
// reorder=1%/20ms; duplicate=1%. What follows # on a line is a comment.
func ParseScript(text string) ([]Step, error) {
	var out []Step
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, part := range strings.Split(line, ";") {
			words := strings.Fields(part)
			if len(words) == 0 {
				continue
			}
			s, err := parseStep(words)
			if err == nil && len(out) > 0 && s.At < out[len(out)-1].At {
				err = errors.New("before the step above it")
			}
			if err != nil {
				return nil, fmt.Errorf("netem: script, line %d: %w", n+1, err)
			}
			out = append(out, s)
		}
	}
	return out, nil
}

func parseStep(words []string) (Step, error) {
	at, err := time.ParseDuration(words[0])
	if err != nil || at < 0 || at > 24*time.Hour {
		return Step{}, fmt.Errorf("%q: want a time from the start on, such as 10s", words[0])
	}
	directions, im, err := parseChange(words[1:])
	return Step{At: at, Directions: directions, Impairment: im}, err
}

// parseChange reads a step without its time.
func parseChange(words []string) ([]Direction, Impairment, error) {
	directions := Directions[:]
	if len(words) > 0 {
		switch words[0] {
		case "both":
			words = words[1:]
		case "up":
			directions, words = Directions[Up:Up+1], words[1:]
		case "down":
			directions, words = Directions[Down:Down+1], words[1:]
		}
	}
	var im Impairment
	if len(words) == 0 {
		return nil, im, errors.New("says nothing; clear makes a line perfect")
	}
	var seen []string
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if name != "queue" && slices.Contains(seen, name) {
			return nil, im, fmt.Errorf("%s twice", name)
		}
		seen = append(seen, name)
		if err := im.parse(name, value); err != nil {
			return nil, im, fmt.Errorf("%s: %w", w, err)
		}
	}
	if slices.Contains(seen, "clear") && len(seen) > 1 {
		return nil, im, errors.New("clear stands alone")
	}
	if err := im.Validate(); err != nil {
		return nil, im, errors.New(strings.TrimPrefix(err.Error(), "netem: "))
	}
	return slices.Clone(directions), im, nil
}

// parse reads one term.
func (im *Impairment) parse(name, value string) (err error) {
	switch name {
	case "clear", "overtake":
		im.Overtake = name == "overtake"
		if value != "" {
			return errors.New("takes no value")
		}
	case "rate":
		im.Rate, err = parseScaled(strings.TrimSuffix(value, "bit/s"))
		if err == nil && im.Rate == 0 {
			err = errors.New("a rate of 0 would carry nothing")
		}
	case "queue":
		if number, ok := strings.CutSuffix(value, "B"); ok {
			var bytes uint64
			bytes, err = parseScaled(number)
			im.Queue = int(min(bytes, maxQueue+1))
		} else {
			im.QueueTime, err = time.ParseDuration(value)
		}
	case "loss":
		im.Loss, err = parseShare(value)
	case "duplicate":
		im.Duplicate, err = parseShare(value)
	case "burst":
		im.Burst, err = parseBurst(value)
	case "delay":
		im.Delay, err = time.ParseDuration(value)
	case "jitter":
		im.Jitter, err = time.ParseDuration(value)
	case "reorder":
		share, by, timed := strings.Cut(value, "/")
		im.Reorder, err = parseShare(share)
		if timed && err == nil {
			im.ReorderBy, err = time.ParseDuration(by)
		}
	default:
		err = errors.New("no such term")
	}
	return err
}

func parseBurst(value string) (Burst, error) {
	parts := strings.Split(value, "/")
	switch len(parts) {
	case 2:
		share, err := parseShare(parts[0])
		if err != nil {
			return Burst{}, err
		}
		length, err := strconv.ParseFloat(parts[1], 64)
		// Above this the line would have to turn bad more often than always.
		if err != nil || !(length >= 1 && length <= 1e6) || !(share < 1) || share/(1-share) > length {
			return Burst{}, errors.New("want a share below 1 and a mean length of 1 or more, such as 20%/8")
		}
		return Bursts(share, length), nil
	case 4:
		var b Burst
		for i, p := range []*float64{&b.Enter, &b.Leave, &b.LossGood, &b.LossBad} {
			var err error
			if *p, err = parseShare(parts[i]); err != nil {
				return Burst{}, err
			}
		}
		return b, nil
	}
	return Burst{}, errors.New("want SHARE/LENGTH or ENTER/LEAVE/LOSSGOOD/LOSSBAD")
}

// parseShare reads 5% or 0.05.
func parseShare(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q: want a share such as 5%% or 0.05", s)
	}
	return v, nil
}

// parseScaled reads 300000, 300k, 1.5M or 2G.
func parseScaled(s string) (uint64, error) {
	scale := 1.0
	for suffix, value := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			s, scale = number, value
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v*scale <= 1e12) {
		return 0, fmt.Errorf("%q: want a number such as 300k or 1.5M", s)
	}
	return uint64(v*scale + 0.5), nil
}
