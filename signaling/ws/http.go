package ws

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/internal/door"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// maxBody bounds the body of an HTTP call: two tokens and a name.
const maxBody = 8 << 10

func (h *Handler) openMeeting(w http.ResponseWriter, r *http.Request) {
	if !h.body(w, r, &wire.MeetingRequest{}) {
		return
	}
	bearer, ok := door.Bearer(r)
	if !ok {
		refuse(w, http.StatusBadRequest, &wire.Error{
			Code: wire.BadRequest, Message: "the Authorization header is not of the form Bearer TOKEN", Hint: "",
		})
		return
	}
	m, err := h.svc.OpenMeeting(r.Context(), signaling.Caller{Loopback: door.Loopback(r, h.cfg.Origins), Bearer: bearer})
	if err != nil {
		refuse(w, door.Status(err), err)
		return
	}
	m.URL = "https://" + r.Host + "/m/" + m.Room
	respond(w, http.StatusCreated, m)
}

func (h *Handler) joinToken(w http.ResponseWriter, r *http.Request) {
	var body wire.TokenRequest
	if !h.body(w, r, &body) {
		return
	}
	t, err := h.svc.JoinToken(r.Context(), r.PathValue("room"), body)
	if err != nil {
		refuse(w, door.Status(err), err)
		return
	}
	respond(w, http.StatusOK, t)
}

func (h *Handler) watchToken(w http.ResponseWriter, r *http.Request) {
	var body wire.WatchRequest
	if !h.body(w, r, &body) {
		return
	}
	t, err := h.svc.WatchToken(r.Context(), r.PathValue("room"), body)
	if err != nil {
		refuse(w, door.Status(err), err)
		return
	}
	respond(w, http.StatusOK, t)
}

func wrongMethod(w http.ResponseWriter, r *http.Request) {
	refuse(w, http.StatusMethodNotAllowed, &wire.Error{
		Code: wire.BadRequest, Message: "the method " + r.Method + " is not for this path", Hint: "/ws takes GET, the others POST",
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusNotFound, &wire.Error{Code: wire.NotFound, Message: "there is nothing at this path"})
}

// body reads the JSON body of a call from a page that may make it. An empty one stands for {}.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, into any) bool {
	if !door.SameOrigin(r, h.cfg.Origins) {
		refuse(w, http.StatusForbidden, &wire.Error{
			Code: wire.Forbidden, Message: "a page of another site may not call", Hint: "add its host to the allowed origins of this server",
		})
		return false
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, &wire.Error{
			Code: wire.TooLarge, Message: "the body has more than " + strconv.Itoa(maxBody) + " bytes",
		})
		return false
	case err != nil:
		refuse(w, http.StatusBadRequest, &wire.Error{Code: wire.BadRequest, Message: "the body could not be read"})
		return false
	case len(text) == 0:
		return true
	}
	// A form of another site can send JSON as text/plain without being asked for leave; application/json it cannot.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, &wire.Error{
			Code: wire.BadRequest, Message: "the body is not JSON", Hint: "send it with Content-Type: application/json",
		})
		return false
	}
	if refusal := wire.DecodeBody(text, into); refusal != nil {
		refuse(w, door.Status(refusal), refusal)
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, status int, err error) {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = &wire.Error{Code: wire.Internal, Message: "the server failed", Hint: "its log says more"}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sotto"`) // RFC 9110 §11.6.1
	}
	if e.RetryAfterMs > 0 {
		w.Header().Set("Retry-After", strconv.Itoa((e.RetryAfterMs+999)/1000))
	}
	respond(w, status, wire.HTTPError{Error: *e})
}

func respond(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // tokens
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
