// Package ws is the front door of the signaling for browsers and SDKs: the WebSocket at /ws and the two HTTP calls before it
// (docs/signaling.md).
//
// It owns the sockets: it checks where they come from, reads frames with a bound, writes with a time limit, finds dead ones by
// WebSocket pings, and closes them with the code that package signaling names. It promises that a connection is disconnected from
// the Service, whose Close waits for that, only when nothing of it runs any more; and that one on which nothing happens costs one
// goroutine, which reads. What frames mean it does not know.
package ws

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/internal/door"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Config is what the front door is made of. The zero value is that of an appliance without other names.
type Config struct {
	// Origins are the hosts, with their port if it is not 443, that pages may come from besides the host they talk to: names under
	// which a proxy in front of this server is known.
	Origins []string
	// WriteTimeout bounds one write to a socket [10 s].
	WriteTimeout time.Duration
}

// Handler serves /ws and /api/v1/meetings.
type Handler struct {
	svc *signaling.Service
	cfg Config
	log *slog.Logger
	mux *http.ServeMux

	watched watched
}

// New returns the front door of a Service. The handlers are through when the Service is closed.
func New(svc *signaling.Service, cfg Config, log *slog.Logger) *Handler {
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 10 * time.Second
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{svc: svc, cfg: cfg, log: log, mux: http.NewServeMux()}
	h.watched = watched{began: time.Now(), open: make(map[*socket]struct{})}
	h.mux.HandleFunc("GET /ws", h.socket)
	h.mux.HandleFunc("POST /api/v1/meetings", h.openMeeting)
	h.mux.HandleFunc("POST /api/v1/meetings/{room}/token", h.joinToken)
	h.mux.HandleFunc("POST /api/v1/meetings/{room}/watch-token", h.watchToken)
	for _, p := range []string{"/ws", "/api/v1/meetings", "/api/v1/meetings/{room}/token"} {
		h.mux.HandleFunc(p, wrongMethod)
	}
	h.mux.HandleFunc("/", notFound)
	return h
}

// Patterns are the paths to mount the Handler at.
func Patterns() []string { return []string{"/ws", "/api/v1/meetings", "/api/v1/meetings/"} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// readLimit is above the limit of a frame, so that one which is too large is refused by name and not by a cut.
const readLimit = 4 * wire.MaxFrameBytes

// socket is one WebSocket, from its handshake to its end.
func (h *Handler) socket(w http.ResponseWriter, r *http.Request) {
	if !door.SameOrigin(r, h.cfg.Origins) {
		refuse(w, http.StatusForbidden, &wire.Error{
			Code: wire.Forbidden, Message: "a page of another site may not connect", Hint: "add its host to the allowed origins of this server",
		})
		return
	}
	if !offers(r, wire.Subprotocol) {
		refuse(w, http.StatusBadRequest, &wire.Error{
			Code: wire.UnsupportedVersion, Message: "the subprotocol " + wire.Subprotocol + " is not offered", Hint: "name it in the WebSocket handshake",
		})
		return
	}
	link, err := h.svc.Connect(r.RemoteAddr)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	own := &thrifty{ResponseWriter: w}
	conn, err := websocket.Accept(own, r, &websocket.AcceptOptions{
		Subprotocols:       []string{wire.Subprotocol},
		InsecureSkipVerify: true, // the origin is checked above, against the configured ones too
	})
	if err != nil {
		h.log.Debug("ws: handshake failed", slog.Any("error", err), slog.String("remote", r.RemoteAddr))
		link.Disconnect()
		return // Accept has answered
	}
	conn.SetReadLimit(readLimit)
	// A goroutine of its own, so that the request, its buffers and the stack that has grown with it are let go.
	go newSocket(h, conn, own.bundle, link).serve()
}

func offers(r *http.Request, protocol string) bool {
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(p) == protocol {
				return true
			}
		}
	}
	return false
}
