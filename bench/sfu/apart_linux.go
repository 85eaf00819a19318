package sfu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/sink"
	"github.com/sotto-edge/sotto/bench/internal/target"
)

// word is what a process that publishes says: first that it does, then, for each line that it reads, how much it has sent.
type word struct {
	Tracks map[string]string `json:"tracks,omitempty"`
	Sent   uint64            `json:"sent"`
}

// publishApart is the life of such a process. It ends with its standard input.
func publishApart(ctx context.Context, l load, ticket string, in io.Reader, out io.Writer) error {
	at, local, err := target.Enter(ticket)
	if err != nil {
		return err
	}
	r := &run{load: l, pool: sink.NewPool(l.sampled()), failed: make(chan error, l.publishers), tell: func(string, ...any) {}}
	r.rate.Store(int64(l.bitrate))
	ctx, r.stop = context.WithCancel(ctx)
	defer r.leave()
	if err := r.occupy(ctx, ctx, at, local, 0); err != nil {
		return err
	}
	say := json.NewEncoder(out)
	if err := say.Encode(word{Tracks: target.Published(at)}); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		select {
		case err := <-r.failed:
			return err
		default:
		}
		if err := say.Encode(word{Sent: r.totals().sent}); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	return nil
}

// publishers are a process of their own.
type publishers struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder

	mu   sync.Mutex
	last uint64
	err  error
}

// publishApart opens a room and has another process publish there, so that receivers have this one for themselves.
func (r *run) publishApart(ctx context.Context, c *Command) error {
	at, err := r.server.Open(ctx)
	if err != nil {
		return err
	}
	r.rooms = append(r.rooms, at)
	ticket, err := target.Ticket(at)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: find this program: %w", err)
	}
	if c.Server != "" {
		self = c.Server // a test is no bench
	}
	p := &publishers{cmd: exec.Command(
		self, "bench", "sfu", "-ticket", ticket, "-scenario", c.Scenario, "-publishers", strconv.Itoa(r.load.publishers),
		"-video-bitrate", strconv.Itoa(r.load.bitrate), "-fps", strconv.Itoa(r.load.fps), "-srtp", r.load.srtp,
		"-audio="+strconv.FormatBool(r.load.audio), "-paced="+strconv.FormatBool(r.load.paced),
	)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it ends with its standard input
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("bench: start the publishers: %w", err)
	}
	r.apart = p
	limit := time.AfterFunc(joinLimit, func() { _ = p.cmd.Process.Kill() })
	defer limit.Stop()
	var first word
	if err := p.out.Decode(&first); err != nil {
		return fmt.Errorf("bench: the publishers: %w", err)
	}
	target.Announce(at, first.Tracks)
	r.tell("%d publishing, process %d", r.load.publishers, p.cmd.Process.Pid)
	return nil
}

// sent asks how much was sent so far. When the process is gone it is what it has said last; stop tells.
func (p *publishers) sent() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.last
	}
	var w word
	if _, p.err = io.WriteString(p.in, "\n"); p.err == nil {
		if p.err = p.out.Decode(&w); p.err == nil {
			p.last = w.Sent
		}
	}
	return p.last
}

// stop ends the process.
func (p *publishers) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.in.Close() // it may be gone
	limit := time.AfterFunc(joinLimit, func() { _ = p.cmd.Process.Kill() })
	defer limit.Stop()
	if err := errors.Join(p.err, p.cmd.Wait()); err != nil {
		return fmt.Errorf("bench: the publishers: %w", err)
	}
	return nil
}
