//go:build unix

package obs

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A signal begins a profile, another ends it, and so does the end of the process.
func TestCPUProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	ctx, cancel := context.WithCancel(t.Context())
	run := CPUProfile(file, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	for { // the profile runs once its file is there
		if _, err := os.Stat(file + ".part"); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || len(b) == 0 {
		t.Errorf("a profile of %d bytes, %v", len(b), err)
	}
}
