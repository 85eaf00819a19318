// Package child starts the appliance as a child process, so that what it costs can be read from its own entry in /proc, and nothing
// of the load counts as its.
//
// It owns the process and its data folder, which it makes and removes. It promises that Stop returns when the process is gone. It
// does not know what the load is.
package child

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// Server is a running appliance.
type Server struct {
	PID   int
	URL   string
	Media string // address of the media port
	TLS   *tls.Config

	dir    string
	cmd    *exec.Cmd
	gone   chan struct{}
	err    error // before gone is closed: Wait's
	stderr tail
	once   sync.Once
}

// configuration puts everything on loopback, on ports that the system chooses. The media port is on all addresses, of which
// 127.0.0.1 is offered first.
const configuration = `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"

[media]
port = 0
public_addresses = ["127.0.0.1"]

[log]
level = "warn"
`

// Start runs `serve` of a binary, and returns when it serves.
func Start(ctx context.Context, binary string) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "sotto-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &Server{dir: dir, gone: make(chan struct{})}
	file := filepath.Join(dir, "sotto.toml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), os.RemoveAll(dir))
	}
	data := filepath.Join(dir, "data")
	s.cmd = exec.Command(binary, "serve", "-config", file, "-data", data)
	s.cmd.Stderr = &s.stderr
	// A group of its own: an interrupt from the terminal is for the bench, which stops the server in its time.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: start the server: %w", err), os.RemoveAll(dir))
	}
	s.PID = s.cmd.Process.Pid
	go func() { // ends with the process, which Stop ends
		s.err = s.cmd.Wait()
		close(s.gone)
	}()
	if err := s.await(ctx, data); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// await waits for node.json, by which the appliance tells the tools on its machine where it listens.
func (s *Server) await(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var node struct {
			PID        int
			URL, Media string
		}
		text, err := os.ReadFile(filepath.Join(data, "node.json"))
		if err == nil && json.Unmarshal(text, &node) == nil && node.PID == s.PID {
			s.URL, s.Media = node.URL, node.Media
			return s.trust(filepath.Join(data, "tls", "cert.pem"))
		}
		select {
		case <-tick.C:
		case <-s.gone:
			return fmt.Errorf("bench: the server ended: %w: %s", s.err, s.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("bench: the server does not start: %w: %s", ctx.Err(), s.stderr.String())
		}
	}
}

// trust takes the self-signed certificate that the server has made.
func (s *Server) trust(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("bench: the server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("bench: %s holds no certificate", file)
	}
	s.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	return nil
}

// Gone is closed when the process has ended, by Stop or by itself.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// Log returns the last lines that the server has logged: warnings and errors.
func (s *Server) Log() string { return s.stderr.String() }

// Stop ends the process, kindly at first, and removes its folder. It may be called twice.
func (s *Server) Stop() error {
	var err error
	s.once.Do(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
		limit := time.AfterFunc(stopLimit, func() { _ = s.cmd.Process.Kill() })
		defer limit.Stop()
		<-s.gone
		if s.err != nil {
			err = fmt.Errorf("bench: the server: %w: %s", s.err, s.stderr.String())
		}
		err = errors.Join(err, os.RemoveAll(s.dir))
	})
	return err
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
