// Command netem runs a proxy of package netem, for browsers and whatever else is not Go:
//
//	go run ./bench/netem/cmd/netem -to 198.18.0.1:8443 -listen 198.18.0.1:9443 -seed 7 -script '0s both delay=20ms; 10s down rate=300k; 30s clear'
//
// It prints one line of JSON with its addresses and runs until it is interrupted. With -control it is told more over HTTP, on
// loopback only, as who reaches that port commands it:
//
//	POST /script?seed=N  the timeline in the body plays from now on, with all chance begun anew if a seed is given; see netem.ParseScript
//	GET  /stats          a netem.Report
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/sotto-edge/sotto/bench/netem"
	"github.com/sotto-edge/sotto/internal/run"
)

func main() {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	if err := serve(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

// ready is the line that is printed.
type ready struct {
	Listen  string `json:"listen"`
	Control string `json:"control,omitempty"` // URL
}

func serve(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("netem", flag.ContinueOnError)
	var cfg netem.Config
	flags.TextVar(&cfg.Listen, "listen", netip.MustParseAddrPort("127.0.0.1:0"), "where clients send to")
	flags.TextVar(&cfg.To, "to", netip.AddrPort{}, "the server")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "of all chance")
	flags.DurationVar(&cfg.Interval, "interval", 100*time.Millisecond, "of the series of the statistics")
	script := flags.String("script", "", "timeline that plays from the start on")
	control := flags.String("control", "", "loopback address of the control over HTTP; port 0: any free one; empty: none")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	steps, err := netem.ParseScript(*script)
	if err != nil {
		return err
	}
	proxy, err := netem.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Close()) }()
	if err := proxy.Play(steps); err != nil {
		return err
	}
	line := ready{Listen: proxy.Addr().String()}
	if *control != "" {
		l, refused := listen(*control)
		if refused != nil {
			return refused
		}
		line.Control = "http://" + l.Addr().String()
		server := &http.Server{Handler: handler(proxy), ReadHeaderTimeout: 5 * time.Second}
		work := run.NewGroup(ctx)
		work.Go("control", func(context.Context) error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		defer func() { err = errors.Join(err, server.Close(), work.Stop()) }()
	}
	if err := json.NewEncoder(out).Encode(line); err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	<-ctx.Done()
	return nil
}

// listen opens the port of the control.
func listen(address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("netem: control at %q: want a loopback address and a port, such as 127.0.0.1:0", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("netem: control: %w", err)
	}
	return l, nil
}

// longestScript is more than anybody writes.
const longestScript = 64 << 10

func handler(proxy *netem.Proxy) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /script", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestScript))
		var steps []netem.Step
		if err == nil {
			steps, err = netem.ParseScript(string(text))
		}
		if seed := r.URL.Query().Get("seed"); seed != "" && err == nil {
			var n uint64
			if n, err = strconv.ParseUint(seed, 10, 64); err == nil {
				err = proxy.Seed(n)
			}
		}
		if err == nil {
			err = proxy.Play(steps)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(proxy.Stats()) // who asked has gone away
	})
	return mux
}
