package run

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFirstErrorStopsTheGroup(t *testing.T) {
	broken := errors.New("broken")
	g := NewGroup(t.Context())
	g.Go("waiting", untilDone)
	g.Go("breaking", func(context.Context) error { return broken })
	err := g.Wait()
	if !errors.Is(err, broken) || err.Error() != "breaking: broken" {
		t.Errorf("Wait() = %v, want breaking: broken", err)
	}
}

func TestStopWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(t.Context())
		release := make(chan struct{})
		g.Go("prompt", untilDone)
		g.Go("slow", func(ctx context.Context) error {
			<-ctx.Done()
			<-release
			return nil
		})
		stopped := make(chan error, 1)
		go func() { stopped <- g.Stop() }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Stop returned while a goroutine ran")
		default:
		}
		if diff := cmp.Diff([]string{"slow"}, g.Running()); diff != "" {
			t.Errorf("Running (-want +got):\n%s", diff)
		}
		close(release)
		if err := <-stopped; err != nil {
			t.Errorf("Stop() = %v", err)
		}
		if err := g.Stop(); err != nil {
			t.Errorf("second Stop() = %v", err)
		}
	})
}

func TestErrorAfterStopCounts(t *testing.T) {
	g := NewGroup(t.Context())
	lost := errors.New("state lost")
	g.Go("saving", func(ctx context.Context) error {
		<-ctx.Done()
		return lost
	})
	if err := g.Stop(); !errors.Is(err, lost) {
		t.Errorf("Stop() = %v, want state lost", err)
	}
}

func raise(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

func TestUntilSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, stop := UntilSignal(t.Context())
		raise(t, sig)
		<-ctx.Done()
		stop()
	}
}

func TestOnHangup(t *testing.T) {
	g := NewGroup(t.Context())
	heard := make(chan struct{})
	g.Go("hangups", OnHangup(func() { heard <- struct{}{} }))
	for range 2 {
		raise(t, syscall.SIGHUP)
		<-heard
	}
	if err := g.Stop(); err != nil {
		t.Errorf("Stop() = %v", err)
	}
}
