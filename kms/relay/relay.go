// Package relay is the way of clients to a KMS, on the side that is not trusted: a WebSocket for each client, and one that the KMS
// has dialled, or a Unix socket behind which it runs.
//
// It owns the paths and who may serve a domain. It promises that a KMS needs no inbound port, and that frames pass as they are: it
// holds no key, imports no part that could open a frame, and keeps nothing of what passes. Who a client is it does not know; how
// many there are at a time it bounds.
package relay

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/kms/link"
)

// Subprotocol is that of the WebSockets.
const Subprotocol = "sotto.kms.v1"

// Config says who may do what.
type Config struct {
	// Authorized says whether a bearer token is that of the KMS of a domain. nil: no KMS may dial in.
	Authorized func(domain, bearer string) bool
	// Clients is how many there are at a time [10 000].
	Clients int
	Log     *slog.Logger // [discards]
}

// Dial reaches a KMS that runs beside the relay.
type Dial func(context.Context) (link.Conn, error)

// Relay serves /kms/DOMAIN for clients and /kms/DOMAIN/serve for KMSes. All methods may be called from any goroutine.
type Relay struct {
	cfg    Config
	mux    *http.ServeMux
	ctx    context.Context
	cancel context.CancelFunc
	busy   sync.WaitGroup
	places chan struct{}

	mu     sync.Mutex
	ended  bool
	beside map[string]Dial
	lines  map[string][]*link.Mux // the latest last
}

// New returns a relay that no KMS has come to yet.
func New(cfg Config) *Relay {
	if cfg.Clients == 0 {
		cfg.Clients = 10_000
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{
		cfg: cfg, mux: http.NewServeMux(), places: make(chan struct{}, cfg.Clients), beside: map[string]Dial{}, lines: map[string][]*link.Mux{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.mux.HandleFunc("GET /kms/{domain}", r.client)
	r.mux.HandleFunc("GET /kms/{domain}/serve", r.serve)
	return r
}

// Pattern is the path to mount the Relay at.
const Pattern = "/kms/"

// ServeHTTP implements http.Handler.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

// Beside has the clients of a domain taken to a KMS that is reached by dialling, where none has dialled in.
func (r *Relay) Beside(domain string, dial Dial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beside[domain] = dial
}

// Close ends all connections and waits. It may be called twice.
func (r *Relay) Close() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.cancel()
	r.busy.Wait()
}

// enter counts a connection in, unless the relay is being closed.
func (r *Relay) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.busy.Add(1)
	return true
}

// client carries one client's frames.
func (r *Relay) client(w http.ResponseWriter, req *http.Request) {
	if !r.enter() {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	defer r.busy.Done()
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	default:
		http.Error(w, "too many clients", http.StatusServiceUnavailable)
		return
	}
	kms, err := r.reach(req.Context(), req.PathValue("domain"))
	if err != nil {
		http.Error(w, "no KMS for this domain is connected", http.StatusServiceUnavailable)
		return
	}
	conn, err := accept(w, req)
	if err != nil {
		_ = kms.Close()
		return // it has been answered
	}
	if err := link.Pump(r.ctx, link.Socket(conn), kms); err != nil {
		r.cfg.Log.Debug("kms client gone", slog.Any("err", err))
	}
}

// accept lets pages of any site in: what a client may do depends on what it proves inside, never on where its page is from.
func accept(w http.ResponseWriter, req *http.Request) (*websocket.Conn, error) {
	return websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, InsecureSkipVerify: true})
}

// errNone is a domain without KMS.
type errNone struct{}

func (errNone) Error() string { return "relay: no KMS" }

// reach opens a connection to the KMS of a domain: the one that dialled in last, or the one beside.
func (r *Relay) reach(ctx context.Context, domain string) (link.Conn, error) {
	r.mu.Lock()
	lines, dial := slices.Clone(r.lines[domain]), r.beside[domain]
	r.mu.Unlock()
	for _, m := range slices.Backward(lines) {
		if c, err := m.Open(); err == nil {
			return c, nil
		}
	}
	if dial == nil {
		return nil, errNone{}
	}
	return dial(ctx)
}

// serve has a KMS that has dialled in serve a domain.
func (r *Relay) serve(w http.ResponseWriter, req *http.Request) {
	domain := req.PathValue("domain")
	bearer, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok || r.cfg.Authorized == nil || !r.cfg.Authorized(domain, bearer) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="kms"`) // RFC 9110 §11.6.1
		http.Error(w, "not the KMS of this domain", http.StatusUnauthorized)
		return
	}
	if !r.enter() {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	defer r.busy.Done()
	conn, err := accept(w, req)
	if err != nil {
		return
	}
	m := link.NewMux(link.Socket(conn), false)
	r.mu.Lock()
	r.lines[domain] = append(r.lines[domain], m)
	r.mu.Unlock()
	log := r.cfg.Log.With(slog.String("domain", domain), slog.String("remote", req.RemoteAddr))
	log.Info("kms connected")
	stop := r.beat(conn)
	err = m.Run(r.ctx)
	stop()
	r.mu.Lock()
	r.lines[domain] = slices.DeleteFunc(r.lines[domain], func(o *link.Mux) bool { return o == m })
	if len(r.lines[domain]) == 0 {
		delete(r.lines, domain)
	}
	r.mu.Unlock()
	log.Info("kms disconnected", slog.Any("err", err))
}

// heartbeat is how often a KMS that is silent is asked whether it is there.
const heartbeat = 20 * time.Second

// beat closes a line that has died without a word. The function that it returns ends it, and waits.
func (r *Relay) beat(conn *websocket.Conn) func() {
	ctx, cancel := context.WithCancel(r.ctx)
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			timed, done := context.WithTimeout(ctx, heartbeat)
			err := conn.Ping(timed)
			done()
			if err != nil {
				_ = conn.CloseNow()
				return
			}
		}
	})
	return func() { cancel(); running.Wait() }
}
