package whip

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/sotto-edge/sotto/signaling/internal/door"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Problem is the body of every refusal (RFC 9457 §3), with a code for programs and a hint for people.
type Problem struct {
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
	Code   wire.Code `json:"code"`
	Hint   string    `json:"hint,omitempty"`

	retryAfter time.Duration
}

// codes are the codes of what this package refuses itself; what is not here is a bad request.
var codes = map[int]wire.Code{
	http.StatusUnauthorized:          wire.Unauthorized,
	http.StatusNotFound:              wire.NotFound,
	http.StatusPreconditionFailed:    wire.Conflict,
	http.StatusRequestEntityTooLarge: wire.TooLarge,
	http.StatusTooManyRequests:       wire.RateLimited,
}

func problem(status int, detail, hint string) *Problem {
	code, ok := codes[status]
	if !ok {
		code = wire.BadRequest
	}
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Code: code, Hint: hint}
}

func nothingHere() *Problem {
	return problem(http.StatusNotFound, "there is no such session", "it has ended; make a new one by an offer")
}

// fromService is the problem of what the Service refuses.
func fromService(err error) *Problem {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = &wire.Error{Code: wire.Internal, Message: "the server failed", Hint: "its log says more"}
	}
	status := door.Status(err)
	switch e.Code {
	case wire.RoomFull:
		status = http.StatusServiceUnavailable
	case wire.SessionGone:
		status = http.StatusNotFound
	}
	return &Problem{
		Title: http.StatusText(status), Status: status, Detail: e.Message, Code: e.Code, Hint: e.Hint,
		retryAfter: time.Duration(e.RetryAfterMs) * time.Millisecond,
	}
}

func refuse(w http.ResponseWriter, p *Problem) {
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sotto"`) // RFC 9110 §11.6.1
	}
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away is none of ours
}

// wrongMethod refuses what a URL does not take; for GET, HEAD and PUT RFC 9725 §4.2 wants that.
func wrongMethod(allowed string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		refuse(w, problem(http.StatusMethodNotAllowed, "the method "+r.Method+" is not for this URL", "it takes "+allowed))
	}
}
