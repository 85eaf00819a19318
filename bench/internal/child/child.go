// Package child starts servers as child processes, so that what they cost can be read from their own entries in /proc, and nothing
// of the load counts as theirs.
//
// It owns the process and its folder, which it makes and removes. It promises that Stop returns when the process is gone. It
// does not know what the load is.
package child

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Times of the process's life.
const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
	pollEvery  = 5 * time.Millisecond
)

// Process is a running server.
type Process struct {
	PID int
	// Dir is a folder of the process's own, which goes with it.
	Dir string

	cmd    *exec.Cmd
	gone   chan struct{}
	err    error // before gone is closed: Wait's
	output tail
	once   sync.Once
}

// Run starts a command whose arguments may depend on the folder that was made for it.
func Run(command func(dir string) (*exec.Cmd, error)) (*Process, error) {
	dir, err := os.MkdirTemp("", "sotto-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	p := &Process{Dir: dir, gone: make(chan struct{})}
	if p.cmd, err = command(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), os.RemoveAll(dir))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	// A group of its own: an interrupt from the terminal is for the bench, which stops the server in its time.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: start the server: %w", err), os.RemoveAll(dir))
	}
	p.PID = p.cmd.Process.Pid
	go func() { // ends with the process, which Stop ends
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// Await calls ready until it says true, the process has ended or startLimit is over.
func (p *Process) Await(ctx context.Context, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.gone:
			return fmt.Errorf("bench: the server ended: %w: %s", cmp.Or(p.err, errEnded), p.output.String())
		case <-ctx.Done():
			return fmt.Errorf("bench: the server does not start: %w: %s", ctx.Err(), p.output.String())
		}
	}
}

var errEnded = errors.New("without an error")

// Gone is closed when the process has ended, by Stop or by itself.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Log returns the last lines that the server has written.
func (p *Process) Log() string { return p.output.String() }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("bench: the server: %w", err)
	}
	return nil
}

// Stop ends the process, kindly at first, and removes its folder. It may be called twice.
func (p *Process) Stop() error {
	var err error
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
		limit := time.AfterFunc(stopLimit, func() { _ = p.cmd.Process.Kill() })
		defer limit.Stop()
		<-p.gone
		if p.err != nil && !terminated(p.cmd.ProcessState) {
			err = fmt.Errorf("bench: the server: %w: %s", p.err, p.output.String())
		}
		err = errors.Join(err, os.RemoveAll(p.Dir))
	})
	return err
}

// terminated says whether a process has ended by the signal that it was to end at, as those do that do not catch it.
func terminated(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = bytes.Clone(t.b[over:])
	}
	return len(b), nil
}

// String returns it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
