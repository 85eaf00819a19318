// Package whip is the front door of the signaling for clients that make the offer themselves and speak plain HTTP: WHIP (RFC 9725) to
// publish into a room, WHEP (draft-ietf-wish-whep) to watch it. docs/whip.md shows both.
//
// It owns the HTTP resources: one URL for each room to post offers to, one for each session to trickle, restart and end it by, with
// its entity tags, and the limits on what one address may do. It promises that nothing is kept of a request that was refused, that a
// session's URL works only for who shows the token that it was made with, and that a session whose media has ended is not found any
// more. It runs no goroutine. What an offer means, who may make it and what viewers see is of package signaling.
package whip

import (
	"log/slog"
	"net/http"
	"sync"

	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/internal/door"
)

// Config is what the front door is made of.
type Config struct {
	// Origins are the hosts, with their port if it is not 443, that pages of this server may come from besides the host they talk to.
	Origins []string
	// PerAddress bounds the sessions that one address has at a time [64]. An IPv6 address stands for its /64.
	PerAddress int
	// OffersPerSecond and OfferBurst bound the offers that one address makes, the refused ones included [2, 64]. Neither bound is for
	// this machine itself: behind a proxy everybody comes from there, and the proxy has to say what one client may do.
	OffersPerSecond float64
	OfferBurst      int
}

func (c *Config) defaults() {
	if c.PerAddress == 0 {
		c.PerAddress = 64
	}
	if c.OffersPerSecond == 0 {
		c.OffersPerSecond = 2
	}
	if c.OfferBurst == 0 {
		c.OfferBurst = 64
	}
}

// Handler serves /whip/ and /whep/.
type Handler struct {
	svc *signaling.Service
	cfg Config
	log *slog.Logger
	mux *http.ServeMux

	mu       sync.Mutex
	sessions map[string]*session
	guests   guests
}

// New returns the front door of a Service.
func New(svc *signaling.Service, cfg Config, log *slog.Logger) *Handler {
	cfg.defaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{svc: svc, cfg: cfg, log: log, mux: http.NewServeMux(), sessions: map[string]*session{}}
	h.guests.init(cfg)
	for _, d := range []struct {
		path string
		open opener
	}{{"/whip/", svc.Ingest}, {"/whep/", svc.Watch}} {
		h.mux.HandleFunc("POST "+d.path+"{room}", func(w http.ResponseWriter, r *http.Request) { h.offer(w, r, d.path, d.open) })
		h.mux.HandleFunc("OPTIONS "+d.path+"{room}", preflight("POST"))
		h.mux.HandleFunc(d.path+"{room}", wrongMethod("POST, OPTIONS"))
		h.mux.HandleFunc("PATCH "+d.path+"{room}/{id}", h.patch)
		h.mux.HandleFunc("DELETE "+d.path+"{room}/{id}", h.end)
		h.mux.HandleFunc("OPTIONS "+d.path+"{room}/{id}", preflight("PATCH, DELETE"))
		h.mux.HandleFunc(d.path+"{room}/{id}", wrongMethod("PATCH, DELETE, OPTIONS"))
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, nothingHere()) })
	return h
}

// Patterns are the paths to mount the Handler at.
func Patterns() []string { return []string{"/whip/", "/whep/"} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Any page may use these URLs, from anywhere, if it has a token: none is sent by a browser of its own accord.
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Patch, Retry-After")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r)
}

// preflight answers what a browser asks before a page of another site may make a request (RFC 9725 §4.2 names the methods).
func preflight(methods string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Methods", methods+", OPTIONS")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
		w.Header().Set("Access-Control-Max-Age", "600")
		if methods == "POST" {
			w.Header().Set("Accept-Post", typeOffer)
		} else {
			w.Header().Set("Accept-Patch", typeFragment)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// caller says who makes a request. Without a token only this machine's own pages and programs are listened to.
func (h *Handler) caller(r *http.Request) (signaling.Caller, bool) {
	bearer, ok := door.Bearer(r)
	return signaling.Caller{
		Loopback: bearer == "" && door.Loopback(r, h.cfg.Origins) && door.SameOrigin(r, h.cfg.Origins), Bearer: bearer,
	}, ok
}

// find returns the session of a URL, nil if it is not there or not there any more.
func (h *Handler) find(r *http.Request) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[r.PathValue("id")]
	if s == nil || s.url != r.URL.Path || s.over() {
		return nil
	}
	return s
}

// sweep forgets the sessions that have ended. The lock is held.
func (h *Handler) sweep() {
	for name, s := range h.sessions {
		if s.over() {
			delete(h.sessions, name)
			h.guests.leave(s.from)
		}
	}
}
