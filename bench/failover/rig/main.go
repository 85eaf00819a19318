// Command rig serves a meeting on two media nodes to real browsers, and moves it from one to the other when it is told to:
// web/e2e/handover.test.mjs drives it.
//
//	GET  /                      the page: ?room=ID&name=NAME
//	POST /handover?mode=MODE    planned or crash; the answer is a failover.Report
//	POST /client?name=NAME      brings a pion client in, which talks and shows
//	GET  /client                what the pion clients have received
//	GET  /offers                how many offers each participant got
//
// It prints one line of JSON with its addresses and runs until it is interrupted. It is a test rig: who reaches its port commands it.
package main

import (
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/bench/failover"
	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
	"github.com/sotto-edge/sotto/signaling/ws"
)

//go:embed page.html
var page []byte

func main() {
	address := flag.String("address", "127.0.0.1", "where both media ports are; Firefox needs one that is not loopback")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1)
	}
}

// rig is the lab with its doors and its own clients.
type rig struct {
	lab  *failover.Lab
	room string
	url  string // with TLS, for the Go clients
	at   netip.Addr

	mu      sync.Mutex
	clients map[string]*talker
}

func run(ctx context.Context, address string) error {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	lab, err := failover.New(failover.Config{Address: at, Log: log})
	if err != nil {
		return err
	}
	r := &rig{lab: lab, at: at, clients: make(map[string]*talker)}
	err = r.serve(ctx)
	for _, c := range r.clients {
		c.close()
	}
	return errors.Join(err, lab.Close())
}

// serve opens both doors: without TLS for pages, to which localhost is secure enough, and with it for Go clients.
func (r *rig) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	for _, p := range ws.Patterns() {
		mux.Handle(p, r.lab.Handler())
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("POST /handover", r.handOver)
	mux.HandleFunc("POST /client", r.join)
	mux.HandleFunc("GET /client", r.figures)
	mux.HandleFunc("GET /offers", func(w http.ResponseWriter, _ *http.Request) { reply(w, r.lab.Offers(), nil) })

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, plain.Close())
	}
	cert, err := handshake.NewCertificate()
	if err != nil {
		return errors.Join(err, plain.Close(), secure.Close())
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	errs := make(chan error, 2)
	go func() { errs <- server.Serve(plain) }()
	go func() {
		errs <- server.Serve(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}))
	}()
	defer func() {
		_ = server.Close()
		<-errs
		<-errs
	}()

	r.url = "https://" + secure.Addr().String()
	m, err := client.OpenMeeting(ctx, r.url, anybody(), "")
	if err != nil {
		return err
	}
	r.room = m.Room
	first, second := r.lab.Ports()
	_, port, err := net.SplitHostPort(plain.Addr().String())
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"url": "http://localhost:" + port, "room": r.room, "first": first, "second": second,
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// anybody trusts the rig's own certificate, and any other: it is the rig that it talks to.
func anybody() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

func (r *rig) handOver(w http.ResponseWriter, q *http.Request) {
	mode := failover.Mode(q.FormValue("mode"))
	if mode != failover.Planned && mode != failover.Crash {
		reply(w, nil, fmt.Errorf("no mode %q", mode))
		return
	}
	report, err := r.lab.HandOver(q.Context(), mode, 0)
	reply(w, report, err)
}

func (r *rig) join(w http.ResponseWriter, q *http.Request) {
	name := q.FormValue("name")
	c, err := join(q.Context(), client.Config{URL: r.url, TLS: anybody(), Room: r.room, Name: name}, r.at)
	if err == nil {
		r.mu.Lock()
		r.clients[name] = c
		r.mu.Unlock()
	}
	reply(w, map[string]string{}, err)
}

func (r *rig) figures(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string][]figures)
	for name, c := range r.clients {
		out[name] = c.figures()
	}
	reply(w, out, nil)
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}
