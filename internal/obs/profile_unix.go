//go:build unix

package obs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// CPUProfile returns a function for a goroutine of its own: one SIGUSR2 begins a CPU profile, the next ends it and writes the file.
// Signals count from the call of CPUProfile on. A process that does not call it is ended by that signal, as ever.
func CPUProfile(file string, log *slog.Logger) func(context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	return func(ctx context.Context) error {
		defer signal.Stop(signals)
		for {
			select {
			case <-signals:
			case <-ctx.Done():
				return nil
			}
			if err := profile(ctx, signals, file); err != nil {
				log.Error("cpu profile", slog.Any("error", err))
			}
		}
	}
}

// profile takes one profile, until the next signal or the end. The file is whole when it has its name.
func profile(ctx context.Context, signals <-chan os.Signal, file string) error {
	part := file + ".part"
	f, err := os.Create(part)
	if err != nil {
		return fmt.Errorf("obs: profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("obs: profile: %w", err), f.Close(), os.Remove(part))
	}
	select {
	case <-signals:
	case <-ctx.Done():
	}
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		return fmt.Errorf("obs: profile: %w", err)
	}
	return os.Rename(part, file)
}
