// Command peer is the SFU that everybody writes first with pion/webrtc: a TrackLocalStaticRTP for each track that comes in, added to
// a PeerConnection for each who listens. It is there to be compared with, and has to be as quick as such a program can be: nothing
// of it stands on the packet path but pion.
//
// Its shapes are those of the comparison: as it comes, with pion's default interceptors and a socket for each connection; and with
// -bare, without interceptors and with one socket for all. It listens on loopback only, and asks nobody who they are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/internal/obs"
)

func main() {
	var o options
	listen := flag.String("listen", "127.0.0.1:0", "address of the HTTP side")
	profile := flag.String("cpu-profile", "", "file for CPU profiles, which SIGUSR2 begins and ends")
	flag.BoolVar(&o.bare, "bare", false, "without interceptors, and with one socket for all connections")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, *profile, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// farewell is how long requests under way have to end.
const farewell = time.Second

// serve runs until the context ends. The address is printed once it can be called.
func serve(ctx context.Context, listen, profile string, o options, out io.Writer) error {
	s, err := newServer(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, s.close())
	}
	var work sync.WaitGroup
	failed := make(chan error, 2)
	ctx, stop := context.WithCancel(ctx)
	if profile != "" {
		run := obs.CPUProfile(profile, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		work.Go(func() { failed <- run(ctx) })
	}
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	work.Go(func() { failed <- h.Serve(l) })
	if _, err = fmt.Fprintf(out, "http://%s\n", l.Addr()); err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	stop()
	timed, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if h.Shutdown(timed) != nil {
		_ = h.Close()
	}
	work.Wait()
	return errors.Join(err, s.close())
}
