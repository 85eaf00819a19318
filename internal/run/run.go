// Package run owns goroutines. A Group starts them by name, stops all of them
// when one fails, and its Wait returns only when every one is gone, so that
// whoever closes a part of the appliance knows that nothing of it still runs.
// It also turns the signals of the process into contexts and calls.
//
// It restarts nothing: a part that can recover does so itself.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"sync"
	"syscall"
)

// Group is a set of goroutines with one owner. Make it with NewGroup; all
// methods may be called from any goroutine.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	err     error
	running map[string]int
}

// NewGroup returns an empty group. Its goroutines see a context that ends
// with ctx, when one of them fails, and on Stop.
func NewGroup(ctx context.Context) *Group {
	ctx, cancel := context.WithCancel(ctx)
	return &Group{ctx: ctx, cancel: cancel, running: map[string]int{}}
}

// Context ends when the group is stopping.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine of the group. The first error stops the others and
// is what Wait returns, under the name given here; that f returns the error
// of its context once that has ended is no failure.
func (g *Group) Go(name string, f func(context.Context) error) {
	g.mu.Lock()
	g.running[name]++
	g.mu.Unlock()
	g.done.Go(func() {
		err := f(g.ctx)
		if err != nil && g.ctx.Err() != nil && errors.Is(err, g.ctx.Err()) {
			err = nil
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[name]--; g.running[name] == 0 {
			delete(g.running, name)
		}
		if err != nil {
			if g.err == nil {
				g.err = fmt.Errorf("%s: %w", name, err)
			}
			g.cancel()
		}
	})
}

// Running returns the sorted names of the goroutines that have not returned:
// what to print when a stop takes too long.
func (g *Group) Running() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := make([]string, 0, len(g.running))
	for name := range g.running {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Wait blocks until every goroutine of the group has returned, and returns
// the first error.
func (g *Group) Wait() error {
	g.done.Wait()
	g.cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Stop ends the context of the group and waits. It may be called twice.
func (g *Group) Stop() error {
	g.cancel()
	return g.Wait()
}

// UntilSignal returns a context that ends with SIGINT or SIGTERM. After the
// first one the process is as it was before, so that a second kills it at
// once: somebody who presses twice does not want to wait.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// OnHangup returns a function for Group.Go that calls f for each SIGHUP.
// Signals count from the call of OnHangup on, not from the start of the
// goroutine.
func OnHangup(f func()) func(context.Context) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return func(ctx context.Context) error {
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
				f()
			case <-ctx.Done():
				return nil
			}
		}
	}
}
