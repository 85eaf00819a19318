// Package door is where frames come into a KMS: a Unix socket on the same machine, or a relay that the KMS dials.
//
// It promises that a line to the relay that breaks is dialled again, without an inbound port, for as long as the KMS runs; that the
// socket is for its owner only; and that Serve of either returns when every connection has.
package door

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/relay"
)

// Serve answers on one connection until it ends.
type Serve func(ctx context.Context, conn link.Conn)

// Unix listens on a socket, in place of one that was left behind by a process that is gone.
func Unix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		if c, dialErr := net.Dial("unix", path); dialErr == nil {
			_ = c.Close()
			return nil, fmt.Errorf("door: %s: somebody listens there: %w", path, err)
		}
		if rmErr := os.Remove(path); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return nil, fmt.Errorf("door: %w", errors.Join(err, rmErr))
		}
		if l, err = net.Listen("unix", path); err != nil {
			return nil, fmt.Errorf("door: %w", err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("door: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

// Dial returns how a relay reaches a KMS behind a Unix socket.
func Dial(path string) relay.Dial {
	return func(ctx context.Context) (link.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("door: %w", err)
		}
		return link.Stream(c), nil
	}
}

// Listening serves a listener until the context ends, and closes it.
func Listening(l net.Listener, serve Serve) func(context.Context) error {
	return func(ctx context.Context) error {
		var open sync.WaitGroup
		defer open.Wait()
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		for {
			c, err := l.Accept()
			if err != nil {
				_ = l.Close()
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("door: accept: %w", err)
			}
			open.Go(func() { serve(ctx, link.Stream(c)) })
		}
	}
}

// Relay is where a KMS dials.
type Relay struct {
	URL    string       // wss://HOST/kms/DOMAIN/serve
	Bearer string       // what the relay knows the KMS by; it opens nothing
	Client *http.Client // [http.DefaultClient]
	Log    *slog.Logger // [discards]
}

// Bounds of the pause before a line is dialled again.
const (
	shortest = 200 * time.Millisecond
	longest  = 15 * time.Second
	steady   = time.Minute // a line that has lasted so long was good
)

// Dialling keeps a line to the relay and serves what comes over it, until the context ends.
func (r Relay) Dialling(serve Serve) func(context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	return func(ctx context.Context) error {
		pause := shortest
		for {
			begin := time.Now()
			err := r.line(ctx, serve)
			if ctx.Err() != nil {
				return nil
			}
			if time.Since(begin) > steady {
				pause = shortest
			}
			wait := pause/2 + rand.N(pause) // many KMSes that lost one relay do not come back at once
			r.Log.Warn("no line to the relay", slog.String("relay", r.URL), slog.Duration("again", wait), slog.Any("err", err))
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, longest)
		}
	}
}

// line is one connection to the relay.
func (r Relay) line(ctx context.Context, serve Serve) error {
	dialling, cancel := context.WithTimeout(ctx, 10*time.Second)
	conn, _, err := websocket.Dial(dialling, r.URL, &websocket.DialOptions{
		HTTPClient: r.Client, HTTPHeader: http.Header{"Authorization": {"Bearer " + r.Bearer}}, Subprotocols: []string{relay.Subprotocol},
	})
	cancel()
	if err != nil {
		return fmt.Errorf("door: relay: %w", err)
	}
	m := link.NewMux(link.Socket(conn), true)
	r.Log.Info("line to the relay", slog.String("relay", r.URL))
	var open sync.WaitGroup
	defer open.Wait()
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	open.Go(func() {
		for {
			c, err := m.Accept(ctx)
			if err != nil {
				return
			}
			open.Go(func() { serve(ctx, c) })
		}
	})
	return m.Run(ctx)
}
