package whip

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/sdp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// The media types of bodies.
const (
	typeOffer    = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag" // RFC 8840 §9
)

// opener is what becomes of an offer: Ingest or Watch of the Service.
type opener func(context.Context, signaling.StreamRequest) (*signaling.Stream, *sfu.Offer, error)

// session is one WHIP or WHEP session.
type session struct {
	url    string
	token  [sha256.Size]byte // of the bearer that it was made with
	from   netip.Prefix
	stream *signaling.Stream
	tagged sfu.Section // what its bundle goes by

	mu         sync.Mutex // held while ICE is restarted
	etag       string     // of the ICE session (RFC 9725 §4.3.1)
	ufrag, pwd string     // the client's
	ice        sfu.ICEParams
}

func (s *session) over() bool {
	select {
	case <-s.stream.Done():
		return true
	default:
		return false
	}
}

func newTag() string { return `"` + id.New("") + `"` }

// offer takes an offer and makes a session of it.
func (h *Handler) offer(w http.ResponseWriter, r *http.Request, path string, open opener) {
	from := network(r.RemoteAddr)
	if p := h.knock(from); p != nil {
		refuse(w, p)
		return
	}
	entered := true
	defer func() {
		if entered { // nothing has come of it
			h.mu.Lock()
			defer h.mu.Unlock()
			h.guests.leave(from)
		}
	}()
	if !accepts(r, typeOffer) {
		refuse(w, problem(http.StatusNotAcceptable, "the answer is of type "+typeOffer, "accept that"))
		return
	}
	text, p := body(w, r, typeOffer, sdp.MaxBytes)
	if p != nil {
		refuse(w, p)
		return
	}
	caller, ok := h.caller(r)
	if !ok {
		refuse(w, problem(http.StatusBadRequest, "the Authorization header is not of the form Bearer TOKEN", ""))
		return
	}
	o, err := sdp.ParseOffer(text)
	if err != nil {
		refuse(w, problem(http.StatusBadRequest, "the offer: "+strings.TrimPrefix(err.Error(), "sdp: "), "send it as the WebRTC library made it, with one bundle and rtcp-mux"))
		return
	}
	query := r.URL.Query()
	stream, answer, err := open(r.Context(), signaling.StreamRequest{
		Room: r.PathValue("room"), Caller: caller, Name: query.Get("name"), Client: software(r), Remote: r.RemoteAddr,
		Screen: query.Get("source") == string(sfu.Screen), Offer: o,
	})
	if err != nil {
		refuse(w, fromService(err))
		return
	}
	entered = false
	s := &session{
		token: sha256.Sum256([]byte(caller.Bearer)), from: from, stream: stream, etag: newTag(),
		ufrag: o.ICE.Ufrag, pwd: o.ICE.Pwd, ice: answer.ICE,
	}
	for _, x := range answer.Sections {
		if !x.Rejected {
			s.tagged = sfu.Section{MID: x.MID, Kind: x.Kind}
			break
		}
	}
	name := id.Secret()
	s.url = path + r.PathValue("room") + "/" + name
	h.mu.Lock()
	h.sessions[name] = s
	h.mu.Unlock()
	h.log.Debug("whip: session", slog.String("stream", stream.ID()), slog.String("path", path))

	w.Header().Set("Location", s.url)
	w.Header().Set("ETag", s.etag)
	w.Header().Set("Accept-Patch", typeFragment)
	for _, x := range stream.ICEServers() { // RFC 9725 §4.6
		for _, u := range x.URLs {
			w.Header().Add("Link", link(u, x))
		}
	}
	w.Header().Set("Content-Type", typeOffer)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, sdp.WriteAnswer(*answer)) // a client that went away is none of ours: its transport will not come up
}

// knock counts an offer of an address, and the session that it may become.
func (h *Handler) knock(from netip.Prefix) *Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	if wait, ok := h.guests.offer(from, time.Now()); !ok {
		p := problem(http.StatusTooManyRequests, "too many offers from this address", "try again later")
		p.retryAfter = wait
		return p
	}
	if !h.guests.enter(from) {
		return problem(http.StatusTooManyRequests, "too many sessions from this address", "end some with DELETE")
	}
	return nil
}

// software is the client as it calls itself.
func software(r *http.Request) string {
	const most = 128
	name := r.UserAgent()
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "")
	}
	return name
}

// mine returns the session of the URL to who has made it.
func (h *Handler) mine(w http.ResponseWriter, r *http.Request) *session {
	caller, ok := h.caller(r)
	if !ok {
		refuse(w, problem(http.StatusBadRequest, "the Authorization header is not of the form Bearer TOKEN", ""))
		return nil
	}
	s := h.find(r)
	if s == nil {
		refuse(w, nothingHere())
		return nil
	}
	sum := sha256.Sum256([]byte(caller.Bearer))
	if subtle.ConstantTimeCompare(sum[:], s.token[:]) != 1 {
		refuse(w, problem(http.StatusUnauthorized, "the session was made with another token", "show that"))
		return nil
	}
	return s
}

// end is DELETE.
func (h *Handler) end(w http.ResponseWriter, r *http.Request) {
	s := h.mine(w, r)
	if s == nil {
		return
	}
	s.stream.Close()
	<-s.stream.Done() // somebody else may be at it
	h.mu.Lock()
	h.sweep()
	h.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// patch takes what the client's ICE has to say (RFC 9725 §4.3).
func (h *Handler) patch(w http.ResponseWriter, r *http.Request) {
	s := h.mine(w, r)
	if s == nil {
		return
	}
	text, p := body(w, r, typeFragment, sdp.MaxFragmentBytes)
	if p != nil {
		refuse(w, p)
		return
	}
	match := r.Header.Values("If-Match")
	if len(match) == 0 {
		refuse(w, problem(http.StatusPreconditionRequired, "If-Match is missing", "name the ETag of the ICE session, or * to restart ICE"))
		return
	}
	f, err := sdp.ParseFragment(text)
	if err != nil {
		refuse(w, problem(http.StatusBadRequest, "the fragment: "+strings.TrimPrefix(err.Error(), "sdp: "), ""))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	any, named := matches(match, s.etag)
	if !any && !named {
		w.Header().Set("ETag", s.etag)
		refuse(w, problem(http.StatusPreconditionFailed, "this is not the ETag of the ICE session", "another request has restarted ICE since"))
		return
	}
	news := f.Ufrag != "" && (f.Ufrag != s.ufrag || f.Pwd != s.pwd)
	switch {
	case any && f.Ufrag == "":
		refuse(w, problem(http.StatusBadRequest, "a restart of ICE without ice-ufrag and ice-pwd", "to trickle, name the ETag"))
		return
	case !any && !news: // candidates, which are not needed
		w.WriteHeader(http.StatusNoContent)
		return
	case news:
		ice, err := s.stream.Restart(r.Context(), sfu.ICEParams{Ufrag: f.Ufrag, Pwd: f.Pwd})
		if err != nil {
			refuse(w, fromService(err))
			return
		}
		s.ufrag, s.pwd, s.ice, s.etag = f.Ufrag, f.Pwd, ice, newTag()
	} // else it is the same restart again, whose answer was lost
	w.Header().Set("ETag", s.etag)
	w.Header().Set("Content-Type", typeFragment)
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, sdp.WriteFragment(s.tagged, s.ice))
}

// matches reads If-Match (RFC 9110 §13.1.1): any entity, or this one by a strong comparison.
func matches(values []string, etag string) (any, named bool) {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			switch strings.TrimSpace(t) {
			case "*":
				any = true
			case etag:
				named = true
			}
		}
	}
	return any, named
}

// accepts reads Accept (RFC 9110 §12.5.1). None accepts everything.
func accepts(r *http.Request, kind string) bool {
	values := r.Header.Values("Accept")
	if len(values) == 0 {
		return true
	}
	group, _, _ := strings.Cut(kind, "/")
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			t, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
			if err != nil || t != kind && t != group+"/*" && t != "*/*" {
				continue
			}
			if q, err := strconv.ParseFloat(parameters["q"], 64); err != nil || q > 0 {
				return true
			}
		}
	}
	return false
}

// body reads the text of a request, which must be of that kind.
func body(w http.ResponseWriter, r *http.Request, kind string, most int64) (string, *Problem) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != kind {
		return "", problem(http.StatusUnsupportedMediaType, "the body is not of type "+kind, "send it with Content-Type: "+kind)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return "", problem(http.StatusRequestEntityTooLarge, "the body has more than "+strconv.FormatInt(most, 10)+" bytes", "")
	case err != nil:
		return "", problem(http.StatusBadRequest, "the body could not be read", "")
	}
	return string(text), nil
}

func link(u string, s wire.ICEServer) string {
	l := "<" + u + `>; rel="ice-server"`
	if s.Username != "" {
		l += "; username=" + quoted(s.Username) + "; credential=" + quoted(s.Credential) + `; credential-type="password"`
	}
	return l
}

// quoted is a quoted-string of RFC 9110 §5.6.4.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
