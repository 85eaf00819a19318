// Package door is what the front doors over HTTP have in common: where a request comes from, what token it shows, and by which status
// a refusal is said. It keeps nothing and decides nothing.
package door

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// SameOrigin says whether the page that makes the request may. Programs that are no browser send no Origin.
func SameOrigin(r *http.Request, also []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || r.TLS != nil && u.Scheme != "https" {
		return false // "null" among others, and pages that somebody on the way could have changed
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, o := range also {
		if strings.EqualFold(u.Host, o) {
			return true
		}
	}
	return false
}

// Loopback says whether the request comes from this machine itself. What counts is the peer's real address; a forwarded header
// only ever takes the privilege away, because then the peer is a proxy. The Host must be a name of this machine or a configured
// one: a page of another site whose name was bent to 127.0.0.1 must not open meetings.
func Loopback(r *http.Request, also []string) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(header)) > 0 {
			return false
		}
	}
	for _, o := range also {
		if strings.EqualFold(r.Host, o) {
			return true
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 §6.3
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// Bearer returns the token of the Authorization header (RFC 6750 §2.1), empty if there is no header.
func Bearer(r *http.Request) (string, bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", true
	}
	scheme, text, _ := strings.Cut(header, " ")
	text = strings.TrimSpace(text)
	return text, strings.EqualFold(scheme, "Bearer") && text != ""
}

// statuses are the HTTP statuses of error codes; what is not here is a 400.
var statuses = map[wire.Code]int{
	wire.Unauthorized: http.StatusUnauthorized,
	wire.TokenExpired: http.StatusUnauthorized,
	wire.Forbidden:    http.StatusForbidden,
	wire.NotFound:     http.StatusNotFound,
	wire.RoomClosed:   http.StatusGone,
	wire.RoomFull:     http.StatusConflict,
	wire.Conflict:     http.StatusConflict,
	wire.TooLarge:     http.StatusRequestEntityTooLarge,
	wire.RateLimited:  http.StatusTooManyRequests,
	wire.TooMany:      http.StatusServiceUnavailable,
	wire.Internal:     http.StatusInternalServerError,
}

// Status returns the HTTP status of an error.
func Status(err error) int {
	var e *wire.Error
	if errors.As(err, &e) {
		if s, ok := statuses[e.Code]; ok {
			return s
		}
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
