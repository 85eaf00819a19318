package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the description anew")

const secret = "so_0123456789abcdef"

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// memory is a node with one meeting.
type memory struct {
	conferences map[string]Conference
	broken      error
	recording   *Recording
	full        bool
	allocations []Allocation
	granted     []any
}

func newMemory() *memory {
	relayed := Allocation{
		ID: "a_1", Realm: "r", User: "carol", Transport: "tls", Client: "198.51.100.9:4", Server: "198.51.100.1:5349", Relayed: "198.51.100.1:50000",
		Protocol: "udp", Created: noon, Expires: noon.Add(time.Minute), Permissions: []string{"203.0.113.5"},
		Channels: []Channel{{Number: 0x4000, Peer: "203.0.113.5:7", Engine: "tcx"}},
		Relays:   []Relayed{{Engine: "server", UpPackets: 1, UpBytes: 2, DownPackets: 3, DownBytes: 4}}, OverBandwidth: 5, NoPermission: 6,
	}
	return &memory{allocations: []Allocation{relayed, {ID: "a_2", Created: noon, Expires: noon}}, conferences: map[string]Conference{
		"room-1": {Room: "room-1", Participants: []Participant{
			{ID: "p_ann", Name: "Ann", Role: "host", Connected: true, Client: "web/1", Remote: "198.51.100.7", Joined: noon, Tracks: []Track{{
				ID: "t1", Source: "camera", Codec: "vp8", Live: true, Receivers: 2, Packets: 9, Bytes: 900, Forwarded: 18,
				Layers: []Layer{{RID: "q", Packets: 9, Bytes: 900, Spatial: 1, Temporal: 3, Width: 320, Height: 180}},
			}}, Media: Media{
				State: "connected", Cipher: "SRTP_AEAD_AES_128_GCM", RoundTripSeconds: 0.025, Slots: []Slot{{MID: "4", Track: "t2", Packets: 7, Lost: 1, Sends: &Sent{Spatial: 2, Temporal: 1}}},
			}},
			{ID: "p_bob", Name: "ボブ", Role: "participant", Joined: noon, Media: Media{State: "none", Slots: []Slot{}}},
		}},
	}}
}

func (m *memory) Conferences(context.Context) ([]Conference, error) {
	var out []Conference
	for _, c := range m.conferences {
		out = append(out, c)
	}
	return out, m.broken
}

func (m *memory) Conference(_ context.Context, room string) (Conference, error) {
	c, ok := m.conferences[room]
	if !ok {
		return c, fmt.Errorf("memory: room %s: %w", room, ErrNotFound)
	}
	return c, m.broken
}

func (m *memory) CloseConference(ctx context.Context, room string) error {
	_, err := m.Conference(ctx, room)
	delete(m.conferences, room)
	return err
}

func (m *memory) RemoveParticipant(ctx context.Context, room, participant string) error {
	c, err := m.Conference(ctx, room)
	if err != nil {
		return err
	}
	for i, p := range c.Participants {
		if p.ID == participant {
			c.Participants = append(c.Participants[:i:i], c.Participants[i+1:]...)
			m.conferences[room] = c
			return nil
		}
	}
	return ErrNotFound
}

func (m *memory) OpenMeeting(context.Context) (Meeting, error) {
	return Meeting{Room: "room-2", URL: "https://localhost:8443/m/room-2", HostToken: "h"}, m.broken
}

func (m *memory) JoinToken(ctx context.Context, room string, g Grant) (Issued, error) {
	if _, err := m.Conference(ctx, room); err != nil {
		return Issued{}, err
	}
	m.granted = append(m.granted, g)
	return Issued{Token: "j", ExpiresAt: noon}, nil
}

func (m *memory) StreamToken(_ context.Context, room string, g StreamGrant) (IssuedStream, error) {
	m.granted = append(m.granted, g)
	if _, ok := m.conferences[room]; !ok {
		return IssuedStream{}, fmt.Errorf("%w: %s", ErrNotFound, room)
	}
	return IssuedStream{Issued: Issued{Token: "w", ExpiresAt: noon.Add(g.Lifetime)}, URL: "https://x/whip/" + room}, m.broken
}

func (m *memory) OpenerToken(_ context.Context, g OpenerGrant) (Issued, error) {
	m.granted = append(m.granted, g)
	return Issued{Token: "o", ExpiresAt: noon.Add(g.Lifetime)}, m.broken
}

func (m *memory) Recording(ctx context.Context, room string) (Recording, error) {
	if _, err := m.Conference(ctx, room); err != nil {
		return Recording{}, err
	}
	if m.recording == nil {
		return Recording{}, ErrNotFound
	}
	return *m.recording, nil
}

func (m *memory) StartRecording(ctx context.Context, room string) (Recording, error) {
	if _, err := m.Conference(ctx, room); err != nil {
		return Recording{}, err
	}
	if m.full {
		return Recording{}, fmt.Errorf("%w: no room", ErrRefused)
	}
	m.recording = &Recording{ID: "r-1", Started: noon, Tracks: 2, Bytes: 9, Lost: 1}
	return *m.recording, nil
}

func (m *memory) StopRecording(ctx context.Context, room string) error {
	_, err := m.Recording(ctx, room)
	m.recording = nil
	return err
}

func (m *memory) Allocations(context.Context) ([]Allocation, error) { return m.allocations, m.broken }

func (m *memory) EndAllocation(_ context.Context, id string) error {
	for i, a := range m.allocations {
		if a.ID == id {
			m.allocations = append(m.allocations[:i:i], m.allocations[i+1:]...)
			return nil
		}
	}
	return ErrNotFound
}

// serve runs the interface over a real listener.
func serve(t *testing.T, m *memory, ready func() error) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(New(Config{
		Authorized:  func(token string) bool { return token == secret },
		Ready:       ready,
		Metrics:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sotto_up 1\n") }),
		Conferences: m, Recordings: m, Tokens: m, Relay: m,
	}, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	return server
}

func call(t *testing.T, server *httptest.Server, method, path, body, authorization string) (int, http.Header, string) {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, in)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(out)
}

func TestHealthNeedsNoToken(t *testing.T) {
	var draining error
	server := serve(t, newMemory(), func() error { return draining })
	for path, want := range map[string]string{"/livez": "ok\n", "/readyz": "ok\n", "/metrics": "sotto_up 1\n"} {
		status, _, body := call(t, server, "GET", path, "", "")
		if status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	draining = errors.New("stopping")
	if status, _, body := call(t, server, "GET", "/readyz", "", ""); status != http.StatusServiceUnavailable || body != "stopping\n" {
		t.Errorf("draining: %d %q", status, body)
	}
	if status, _, _ := call(t, server, "GET", "/livez", "", ""); status != http.StatusOK {
		t.Errorf("draining is alive: %d", status)
	}
}

// Row A13: nothing below /admin is answered without the token.
func TestEverythingElseNeedsTheToken(t *testing.T) {
	m := newMemory()
	server := serve(t, m, nil)
	requests := []struct{ method, path, body string }{
		{"GET", "/admin/v1/openapi.json", ""},
		{"GET", "/admin/v1/conferences", ""},
		{"POST", "/admin/v1/conferences", "{}"},
		{"GET", "/admin/v1/conferences/room-1", ""},
		{"DELETE", "/admin/v1/conferences/room-1", ""},
		{"GET", "/admin/v1/conferences/room-1/participants", ""},
		{"DELETE", "/admin/v1/conferences/room-1/participants/p_bob", ""},
		{"GET", "/admin/v1/conferences/room-1/recording", ""},
		{"PUT", "/admin/v1/conferences/room-1/recording", ""},
		{"DELETE", "/admin/v1/conferences/room-1/recording", ""},
		{"POST", "/admin/v1/conferences/room-1/tokens", "{}"},
		{"POST", "/admin/v1/conferences/room-1/stream-tokens", "{}"},
		{"POST", "/admin/v1/opener-tokens", "{}"},
		{"GET", "/admin/v1/turn/allocations", ""},
		{"DELETE", "/admin/v1/turn/allocations/a_1", ""},
		{"GET", "/admin/v1/nothing", ""},
		{"GET", "/admin/", ""},
	}
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Bearer " + secret + "x", "Basic " + secret, secret} {
		for _, r := range requests {
			status, header, body := call(t, server, r.method, r.path, r.body, authorization)
			var p Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%s %s: %q: %v", r.method, r.path, body, err)
			}
			if status != http.StatusUnauthorized || p.Code != "unauthorized" || p.Hint == "" || header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with %q: %d %s", r.method, r.path, authorization, status, body)
			}
		}
	}
	if len(m.conferences["room-1"].Participants) != 2 || len(m.granted) != 0 || len(m.allocations) != 2 {
		t.Error("a refused request changed something")
	}
	if status, _, _ := call(t, server, "GET", "/admin/v1/conferences", "", "bearer "+secret); status != http.StatusOK {
		t.Errorf("the scheme is case-insensitive (RFC 9110 §11.1): %d", status)
	}
	closed := httptest.NewServer(New(Config{}, slog.New(slog.DiscardHandler)))
	defer closed.Close()
	if status, _, _ := call(t, closed, "GET", "/admin/v1/conferences", "", "Bearer "+secret); status != http.StatusUnauthorized {
		t.Errorf("no way to check a token: %d", status)
	}
}

// Row A13: conferences, participants, remove, close and tokens over REST.
func TestAPI(t *testing.T) {
	m := newMemory()
	server := serve(t, m, nil)
	const room1 = `{"participants":[` +
		`{"client":"web/1","connected":true,"id":"p_ann","joined":"2030-01-01T12:00:00Z","media":{"state":"connected","cipher":"SRTP_AEAD_AES_128_GCM","roundTripSeconds":0.025,` +
		`"slots":[{"mid":"4","track":"t2","packets":7,"lost":1,"sends":{"stream":0,"spatial":2,"temporal":1}}]},"name":"Ann","remote":"198.51.100.7","role":"host","tracks":[{"codec":"vp8","id":"t1","muted":false,"source":"camera","live":true,` +
		`"receivers":2,"packets":9,"bytes":900,"forwarded":18,"layers":[{"rid":"q","packets":9,"bytes":900,"spatial":1,"temporal":3,"width":320,"height":180}]}]},` +
		`{"client":"","connected":false,"id":"p_bob","joined":"2030-01-01T12:00:00Z","media":{"state":"none","cipher":"","roundTripSeconds":0,"slots":[]},"name":"ボブ","remote":"","role":"participant","tracks":[]}],"room":"room-1"}`
	const recording = `{"id":"r-1","started":"2030-01-01T12:00:00Z","by":"","tracks":2,"bytes":9,"lost":1}`
	steps := []struct {
		method, path, body string
		status             int
		want               string // JSON; "" no body, "~x" part of the body
	}{
		{"GET", "/admin/v1/conferences", "", 200, `{"conferences":[` + room1 + `]}`},
		{"GET", "/admin/v1/conferences/room-1", "", 200, room1},
		{"GET", "/admin/v1/conferences/room-9", "", 404, `~"code":"not_found"`},
		{"GET", "/admin/v1/conferences/room-9/participants", "", 404, `~"hint":`},
		{"DELETE", "/admin/v1/conferences/room-1/participants/p_bob", "", 204, ""},
		{"DELETE", "/admin/v1/conferences/room-1/participants/p_bob", "", 404, `~"code":"not_found"`},
		{"GET", "/admin/v1/conferences/room-1/participants", "", 200, `~"p_ann"`},
		{"POST", "/admin/v1/conferences", "", 201, `{"hostToken":"h","room":"room-2","url":"https://localhost:8443/m/room-2"}`},
		{"GET", "/admin/v1/conferences/room-1/recording", "", 404, `~"code":"not_found"`},
		{"PUT", "/admin/v1/conferences/room-9/recording", "", 404, `~"code":"not_found"`},
		{"PUT", "/admin/v1/conferences/room-1/recording", "", 200, recording},
		{"GET", "/admin/v1/conferences/room-1/recording", "", 200, recording},
		{"DELETE", "/admin/v1/conferences/room-1/recording", "", 204, ""},
		{"DELETE", "/admin/v1/conferences/room-1/recording", "", 404, `~"code":"not_found"`},
		{"POST", "/admin/v1/conferences/room-1/tokens", `{}`, 201, `{"expiresAt":"2030-01-01T12:00:00Z","token":"j"}`},
		{"POST", "/admin/v1/conferences/room-1/tokens", `{"name":"Bob","role":"host"}`, 201, `{"expiresAt":"2030-01-01T12:00:00Z","token":"j"}`},
		{"POST", "/admin/v1/conferences/room-9/tokens", `{}`, 404, `~"code":"not_found"`},
		{"POST", "/admin/v1/conferences/room-1/tokens", `{"role":"king"}`, 422, `~"code":"bad_request"`},
		{"POST", "/admin/v1/opener-tokens", `{"lifetimeSeconds":31536001}`, 422, `~"code":"bad_request"`},
		{"POST", "/admin/v1/conferences/room-1/tokens", `{"color":"red"}`, 422, `~unexpected property`},
		{"POST", "/admin/v1/conferences/room-1/tokens", `{`, 400, `~"code":"bad_request"`},
		{"POST", "/admin/v1/conferences/room-1/stream-tokens", `{"use":"watch","lifetimeSeconds":60}`, 201, `{"expiresAt":"2030-01-01T12:01:00Z","token":"w","url":"https://x/whip/room-1"}`},
		{"POST", "/admin/v1/conferences/room-1/stream-tokens", `{"use":"x"}`, 422, `~"code":"bad_request"`},
		{"POST", "/admin/v1/conferences/room-9/stream-tokens", `{}`, 404, `~"code":"not_found"`},
		{"POST", "/admin/v1/opener-tokens", `{}`, 201, `{"expiresAt":"2030-01-02T12:00:00Z","token":"o"}`},
		{"DELETE", "/admin/v1/conferences/room-1", "", 204, ""},
		{"DELETE", "/admin/v1/conferences/room-1", "", 404, `~"code":"not_found"`},
		{"GET", "/admin/v1/conferences", "", 200, `{"conferences":[]}`},
		{"GET", "/admin/v1/turn/allocations", "", 200, `{"allocations":[` +
			`{"id":"a_1","realm":"r","user":"carol","transport":"tls","client":"198.51.100.9:4","server":"198.51.100.1:5349","relayed":"198.51.100.1:50000",` +
			`"protocol":"udp","mobile":false,"created":"2030-01-01T12:00:00Z","expires":"2030-01-01T12:01:00Z","permissions":["203.0.113.5"],` +
			`"channels":[{"number":16384,"peer":"203.0.113.5:7","engine":"tcx"}],` +
			`"relays":[{"engine":"server","upPackets":1,"upBytes":2,"downPackets":3,"downBytes":4}],"overBandwidth":5,"noPermission":6},` +
			`{"id":"a_2","realm":"","user":"","transport":"","client":"","server":"","relayed":"","protocol":"","mobile":false,` +
			`"created":"2030-01-01T12:00:00Z","expires":"2030-01-01T12:00:00Z","permissions":[],"channels":[],"relays":[],"overBandwidth":0,"noPermission":0}]}`},
		{"DELETE", "/admin/v1/turn/allocations/a_1", "", 204, ""},
		{"DELETE", "/admin/v1/turn/allocations/a_1", "", 404, `~/admin/v1/turn/allocations what is relayed`},
		{"GET", "/admin/v1/turn/allocations", "", 200, `~{"allocations":[{"id":"a_2"`},
		{"PATCH", "/admin/v1/conferences", "", 404, `~no such resource`},
		{"GET", "/admin/v2/conferences", "", 404, `~openapi.json`},
	}
	for _, s := range steps {
		status, header, body := call(t, server, s.method, s.path, s.body, "Bearer "+secret)
		what := s.method + " " + s.path + " " + s.body
		if status != s.status {
			t.Errorf("%s: status %d, want %d: %s", what, status, s.status, body)
		}
		if part, ok := strings.CutPrefix(s.want, "~"); ok {
			if !strings.Contains(body, part) {
				t.Errorf("%s: no %s in %s", what, part, body)
			}
		} else if diff := cmp.Diff(normal(t, s.want), normal(t, body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		want := "application/json"
		if status >= 400 {
			want = "application/problem+json"
		}
		if got := header.Get("Content-Type"); body != "" && got != want {
			t.Errorf("%s: content type %s", what, got)
		}
	}
	m.full, m.conferences["room-1"] = true, Conference{Room: "room-1"}
	if status, _, body := call(t, server, "PUT", "/admin/v1/conferences/room-1/recording", "", "Bearer "+secret); status != http.StatusConflict || !strings.Contains(body, "no room") {
		t.Errorf("a disk that is full: %d %s", status, body)
	}
	wantGrants := []any{
		Grant{Role: "participant"},
		Grant{Name: "Bob", Role: "host"},
		StreamGrant{Watch: true, Lifetime: time.Minute},
		StreamGrant{Lifetime: 24 * time.Hour},
		OpenerGrant{Lifetime: 24 * time.Hour},
	}
	if diff := cmp.Diff(wantGrants, m.granted); diff != "" {
		t.Errorf("granted (-want +got):\n%s", diff)
	}
}

func normal(t *testing.T, text string) any {
	t.Helper()
	if text == "" {
		return nil
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

func TestInnerFailuresStayInside(t *testing.T) {
	m := newMemory()
	m.broken = errors.New("disk on fire at /var/lib/secret")
	var log bytes.Buffer
	handler := New(Config{
		Authorized: func(string) bool { return true }, Conferences: m, Recordings: m, Tokens: m, Relay: m,
	}, slog.New(slog.NewTextHandler(&log, nil)))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/admin/v1/conferences", nil)
	r.Header.Set("Authorization", "Bearer x")
	handler.ServeHTTP(w, r)
	if w.Code != 500 || strings.Contains(w.Body.String(), "fire") || !strings.Contains(w.Body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("log is %q", &log)
	}
}

func TestChangesAreLoggedWithoutSecrets(t *testing.T) {
	m := newMemory()
	var log bytes.Buffer
	handler := New(Config{
		Authorized: func(string) bool { return true }, Conferences: m, Recordings: m, Tokens: m, Relay: m,
	}, slog.New(slog.NewTextHandler(&log, nil)))
	for _, step := range []struct{ method, path, logged string }{
		{"POST", "/admin/v1/conferences", "opened a meeting"},
		{"POST", "/admin/v1/conferences/room-1/tokens", "join token"},
		{"POST", "/admin/v1/conferences/room-1/stream-tokens", "stream token"},
		{"POST", "/admin/v1/opener-tokens", "opener token"},
		{"DELETE", "/admin/v1/conferences/room-1/participants/p_bob", "participant=p_bob"},
		{"PUT", "/admin/v1/conferences/room-1/recording", "recording=r-1"},
		{"DELETE", "/admin/v1/conferences/room-1/recording", "ended a recording"},
		{"DELETE", "/admin/v1/conferences/room-1", "closed a conference"},
	} {
		log.Reset()
		r := httptest.NewRequest(step.method, step.path, nil)
		if strings.HasSuffix(step.path, "tokens") {
			r = httptest.NewRequest(step.method, step.path, strings.NewReader("{}"))
		}
		r.Header.Set("Authorization", "Bearer "+secret)
		handler.ServeHTTP(httptest.NewRecorder(), r)
		if got := log.String(); !strings.Contains(got, step.logged) || strings.Contains(got, secret) || strings.Contains(got, "token=") {
			t.Errorf("%s %s logs %q", step.method, step.path, got)
		}
	}
}

// Row C18: the description in docs is that of the API.
func TestDescription(t *testing.T) {
	const golden = "../../docs/admin-openapi.json"
	server := serve(t, newMemory(), nil)
	_, header, got := call(t, server, "GET", "/admin/v1/openapi.json", "", "Bearer "+secret)
	if header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("content type %s", header.Get("Content-Type"))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("description (-docs +got), -update writes it anew:\n%s", diff)
	}
	for _, path := range []string{"/docs", "/schemas/Conference.json", "/openapi.json"} {
		if status, _, _ := call(t, server, "GET", path, "", "Bearer "+secret); status != http.StatusNotFound {
			t.Errorf("%s is served: %d", path, status)
		}
	}
}
