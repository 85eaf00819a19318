// Package admin is the interface for operators: /livez, /readyz and /metrics
// for machines, and the REST API below /admin/v1 for people and tools, with
// its OpenAPI description.
//
// It promises that nothing below /admin is answered without the bearer token,
// which is compared in constant time, and that every change is logged. It
// declares what it shows as small interfaces, and knows neither signaling nor
// media; cmd plugs them in. It listens to nothing itself: that it is reached
// over loopback and TLS only is the business of whoever serves its handler.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Config is what the interface shows, and to whom.
type Config struct {
	// Authorized says in constant time whether a bearer token is the
	// operator's. Nil refuses everybody.
	Authorized func(token string) bool
	// Ready says why the appliance takes no new meetings now; nil means it
	// does.
	Ready func() error
	// Metrics serves /metrics.
	Metrics http.Handler
	// Conferences, Recordings, Tokens and Relay are what the API shows and
	// makes; nil is None.
	Conferences Conferences
	Recordings  Recordings
	Tokens      Tokens
	Relay       Relay
}

// New returns the handler of the admin interface.
func New(cfg Config, log *slog.Logger) http.Handler {
	if cfg.Authorized == nil {
		cfg.Authorized = func(string) bool { return false }
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	if cfg.Metrics == nil {
		cfg.Metrics = http.NotFoundHandler()
	}
	if cfg.Conferences == nil {
		cfg.Conferences = None{}
	}
	if cfg.Recordings == nil {
		cfg.Recordings = None{}
	}
	if cfg.Tokens == nil {
		cfg.Tokens = None{}
	}
	if cfg.Relay == nil {
		cfg.Relay = None{}
	}

	protected := http.NewServeMux()
	description := newAPI(protected, cfg, log)
	protected.HandleFunc("GET /admin/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(description) // a client that went away is none of ours
	})
	protected.HandleFunc("/admin/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, problem(http.StatusNotFound, "no such resource: "+r.Method+" "+r.URL.Path, "GET /admin/v1/openapi.json describes what there is"))
	})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := cfg.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		text(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", cfg.Metrics)
	mux.Handle("/admin/", guard(protected, cfg.Authorized, log))
	return mux
}

// newAPI registers the operations and returns their description.
func newAPI(mux humago.Mux, cfg Config, log *slog.Logger) []byte {
	config := huma.DefaultConfig("Sotto admin API", "1")
	config.Info.Description = "Meetings and relayed traffic of one node, for its operator. Every request carries the token of the node as `Authorization: Bearer …`; " +
		"`serve` keeps it in the file admin-token of its data folder."
	// The pages for people that huma would serve load scripts from elsewhere.
	config.DocsPath, config.SchemasPath, config.OpenAPIPath = "", "", ""
	config.CreateHooks = nil // adds links to the schemas that are not served
	config.Transformers = []huma.Transformer{withCode}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}

	api := humago.New(mux, config)
	operations{cfg: cfg, log: log}.register(api)
	describeProblems(api.OpenAPI())
	out, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		panic("admin: describe the API: " + err.Error()) // the same at every start: a test sees it
	}
	return append(out, '\n')
}

func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(line + "\n")) // a probe that went away is none of ours
}

// guard lets a request pass that carries the operator's token.
func guard(next http.Handler, authorized func(string) bool, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || !authorized(token) {
			if token != "" {
				log.Warn("admin request refused", "remote", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="sotto admin"`)
			refuse(w, problem(http.StatusUnauthorized, "the admin token is missing or wrong", "send Authorization: Bearer with the content of admin-token in the data folder of the node"))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Conferences shows and ends the meetings of the node. Errors that wrap
// ErrNotFound tell that there is no such conference or participant.
type Conferences interface {
	Conferences(ctx context.Context) ([]Conference, error)
	Conference(ctx context.Context, room string) (Conference, error)
	CloseConference(ctx context.Context, room string) error
	RemoveParticipant(ctx context.Context, room, participant string) error
}

// Tokens opens meetings and lets people into them.
type Tokens interface {
	// OpenMeeting makes a room and its link.
	OpenMeeting(ctx context.Context) (Meeting, error)
	// JoinToken lets its holder into one room. An error that wraps
	// ErrNotFound tells that this is no room of the node.
	JoinToken(ctx context.Context, room string, grant Grant) (Issued, error)
	// OpenerToken lets its holder open meetings.
	OpenerToken(ctx context.Context, grant OpenerGrant) (Issued, error)
	// StreamToken lets its holder publish into a room over WHIP, or watch it
	// over WHEP. An error that wraps ErrNotFound tells that this is no room of
	// the node.
	StreamToken(ctx context.Context, room string, grant StreamGrant) (IssuedStream, error)
}
