package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/control/admin"
	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/obs"
	"github.com/sotto-edge/sotto/internal/porter"
	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/token"
)

// Time-outs of a stop: how long requests under way have to end, and when the
// process gives up waiting for its own goroutines.
const (
	farewell  = 2 * time.Second
	stopLimit = 15 * time.Second
)

type serveCommand struct {
	location
	CPUProfile string `name:"cpu-profile" hidden:"" placeholder:"FILE" help:"Write CPU profiles here, which SIGUSR2 begins and ends."`
}

// garbage is how much garbage, in percent of what is in use, is let grow before it is collected. Most of what a join allocates is
// dropped at once, the media path allocates nothing: half of Go's default shows in the memory and not in the processor time.
const garbage = 50

// Run serves until SIGINT or SIGTERM.
func (c serveCommand) Run(env environment) error {
	if os.Getenv("GOGC") == "" { // whoever sets it means it
		debug.SetGCPercent(garbage)
	}
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	return c.serve(ctx, env)
}

func (c serveCommand) serve(ctx context.Context, env environment) (err error) {
	cfg, dir, err := c.load(env)
	if err != nil {
		return err
	}
	log, logs := obs.NewLogger(env.err)
	if err := logs.Set(cfg.Log.Format, cfg.Log.Level); err != nil {
		return err
	}
	lock, err := lockData(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()

	a := &appliance{cfg: cfg, dir: dir, log: log, logs: logs, location: c.location, env: env, profile: c.CPUProfile}
	if err := a.open(ctx); err != nil {
		return errors.Join(err, a.stop())
	}
	if err := lock.announce(a.instance()); err != nil {
		return errors.Join(err, a.stop())
	}
	a.greet()
	<-a.group.Context().Done()
	return a.stop()
}

// appliance is everything that a running process holds.
type appliance struct {
	cfg      config.Config
	dir      string
	log      *slog.Logger
	logs     *obs.LogControl
	location location
	env      environment
	profile  string // file for CPU profiles; empty: none

	group      *run.Group
	page       *tlscert.Source
	meetings   *meetings
	ownerToken string
	porter     *porter.Porter // of the port of the page
	public     *server
	admin      *server
	stopping   atomic.Bool
}

// open brings the parts up in the order in which they need each other. What
// it has opened when it fails, stop closes.
func (a *appliance) open(ctx context.Context) error {
	a.group = run.NewGroup(ctx)
	var err error
	if a.page, err = tlscert.New(tlscert.Config{
		Files: ownFiles(a.cfg.TLS), Dir: tlsDir(a.dir), Names: a.outerNames(),
	}, a.log.With("for", "meetings")); err != nil {
		return err
	}
	// The admin interface has an identity of its own, always self-signed:
	// tools on this machine trust the file, whatever the page presents.
	adminCert, err := tlscert.New(tlscert.Config{Dir: adminDir(a.dir)}, a.log.With("for", "admin"))
	if err != nil {
		return err
	}
	adminToken, _, err := token.LoadBearer(adminTokenFile(a.dir))
	if err != nil {
		return err
	}
	metrics := obs.NewMetrics(version)
	if a.porter, err = openPort(a.cfg, a.page); err != nil {
		return err
	}
	obs.Expose(metrics, "sotto_port", "connections to the port of the page", func() (porter.Stats, error) { return a.porter.Stats(), nil })
	if a.meetings, err = openMeetings(ctx, a.cfg, a.dir, a.page, a.porter, a.log, metrics); err != nil {
		return err
	}
	a.ownerToken = a.meetings.ownerToken
	a.public = behind(a.porter, a.page, a.meetings.handler, a.log)
	a.admin, err = listen("server.admin_listen", a.cfg.Server.AdminListen, adminCert, admin.New(admin.Config{
		Authorized:  adminToken.Matches,
		Ready:       a.ready,
		Metrics:     metrics.Handler(),
		Conferences: a.meetings,
		Recordings:  a.meetings,
		Tokens:      a.meetings,
		Relay:       a.meetings.relay,
	}, a.log), a.log)
	if err != nil {
		return err
	}
	a.meetings.url = a.url() // known now: the port may have been 0

	a.group.Go("page certificate", a.page.Watch)
	a.group.Go("admin certificate", adminCert.Watch)
	a.group.Go("reload", run.OnHangup(a.reload))
	if a.profile != "" {
		a.group.Go("profile", obs.CPUProfile(a.profile, a.log))
	}
	a.group.Go("https", a.public.serve)
	a.group.Go("admin", a.admin.serve)
	return nil
}

func (a *appliance) ready() error {
	if a.stopping.Load() {
		return errors.New("stopping")
	}
	return nil
}

// stop takes everything down in the opposite order: no new meetings, a word
// to the clients, then the media, and last the interface that shows it all.
func (a *appliance) stop() error {
	a.stopping.Store(true)
	a.log.Info("stopping")
	// Somebody else has to see a stop that hangs; a second signal ends it too.
	limit := time.AfterFunc(stopLimit, func() {
		a.log.Error("stop takes too long, giving up", "running", a.group.Running())
		os.Exit(1)
	})
	defer limit.Stop()

	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	var errs []error
	if a.meetings != nil {
		a.meetings.sayGoodbye()
	}
	if a.public != nil {
		errs = append(errs, a.public.close(ctx))
	}
	if a.porter != nil {
		errs = append(errs, a.porter.Close())
	}
	if a.meetings != nil {
		errs = append(errs, a.meetings.close())
	}
	if a.admin != nil {
		errs = append(errs, a.admin.close(ctx))
	}
	errs = append(errs, a.group.Stop())
	return errors.Join(errs...)
}

// reload takes over the live part of the file. A file that is refused changes
// nothing.
func (a *appliance) reload() {
	cfg, _, err := a.location.load(a.env)
	if err != nil {
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	if err := a.page.Reload(ownFiles(cfg.TLS)); err != nil {
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	if err := a.logs.Set(cfg.Log.Format, cfg.Log.Level); err != nil {
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	a.log.Info("configuration reloaded")
	if keys := config.NeedsRestart(a.cfg.Static, cfg.Static); len(keys) > 0 {
		a.log.Warn("some changes need a restart", "keys", keys)
	}
}

func ownFiles(t config.TLS) tlscert.Files { return tlscert.Files{Cert: t.CertFile, Key: t.KeyFile} }

// outerNames are the names that the configuration says participants use.
func (a *appliance) outerNames() []string {
	names := append([]string(nil), a.cfg.Media.PublicAddresses...)
	if u, err := url.Parse(a.cfg.Server.URL); err == nil && u.Hostname() != "" {
		names = append(names, u.Hostname())
	}
	return names
}

// url returns the address of the page as it stands in links, for who does not
// ask through a browser.
func (a *appliance) url() string {
	if a.cfg.Server.URL != "" {
		return a.cfg.Server.URL
	}
	return "https://" + nearest(a.public.listener.Addr())
}

// nearest returns a listener's address as one on this machine would write it.
func nearest(listening net.Addr) string {
	ap, err := netip.ParseAddrPort(listening.String())
	if err != nil || !ap.Addr().IsUnspecified() && !ap.Addr().IsLoopback() {
		return listening.String()
	}
	return fmt.Sprintf("localhost:%d", ap.Port())
}

func (a *appliance) instance() instance {
	return instance{
		PID: os.Getpid(), URL: a.url(), Admin: "https://" + a.admin.listener.Addr().String(), Media: a.meetings.node.LocalAddr().String(),
	}
}

// elsewhere returns the addresses of the page for other machines, a few of
// them, when the configuration leaves that open.
func (a *appliance) elsewhere() []string {
	listening, err := netip.ParseAddrPort(a.public.listener.Addr().String())
	if err != nil || a.cfg.Server.URL != "" || !listening.Addr().IsUnspecified() {
		return nil
	}
	var out []string
	for _, c := range a.meetings.node.Candidates() {
		if addr := c.Addr.Addr(); !addr.IsLoopback() && !c.TCP && len(out) < 3 {
			out = append(out, "https://"+netip.AddrPortFrom(addr, listening.Port()).String())
		}
	}
	return out
}

// greet prints what somebody needs who has just started it.
func (a *appliance) greet() {
	in := a.instance()
	var b strings.Builder
	fmt.Fprintf(&b, "\n  Sotto %s\n\n", version)
	fmt.Fprintf(&b, "  Meetings     %s\n", in.URL)
	for _, u := range a.elsewhere() {
		fmt.Fprintf(&b, "               %s\n", u)
	}
	fmt.Fprintf(&b, "  Owner token  %s\n", a.ownerToken)
	fmt.Fprintf(&b, "               asked for when a meeting is opened from another machine\n")
	fmt.Fprintf(&b, "  Admin        %s, token in %s\n", in.Admin, adminTokenFile(a.dir))
	fmt.Fprintf(&b, "  Media        UDP port %d\n", a.meetings.node.LocalAddr().Port())
	fmt.Fprintf(&b, "  Data         %s\n", a.dir)
	if a.cfg.TLS.CertFile == "" {
		fmt.Fprintf(&b, "\n  The certificate is self-signed: browsers ask once whether to trust it.\n")
	}
	fmt.Fprintf(&b, "  `sotto doctor` looks at this machine. Ctrl-C stops.\n\n")
	fmt.Fprint(a.env.out, b.String())
	a.log.Info("serving", "version", version, "url", in.URL, "admin", in.Admin, "media", in.Media)
}

// server is one listener with its HTTP server.
type server struct {
	listener net.Listener
	secure   bool // what it accepts speaks TLS already
	http     *http.Server
}

// openPort opens the port of the page, which carries other things beside it.
func openPort(cfg config.Config, page *tlscert.Source) (*porter.Porter, error) {
	l, err := net.Listen("tcp", cfg.Server.Listen)
	if err != nil {
		return nil, fmt.Errorf("server.listen: %w (`sotto doctor` says more)", err)
	}
	return porter.New(l, porter.Config{TLS: webTLS(page), TURN: cfg.TURN.Enabled && cfg.TURN.SharedPorts, ICE: cfg.Media.TCP}), nil
}

// webTLS is what the page is served with.
func webTLS(page *tlscert.Source) *tls.Config {
	c := page.TLSConfig()
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}

// behind serves what a port has for HTTP.
func behind(p *porter.Porter, page *tlscert.Source, h http.Handler, log *slog.Logger) *server {
	s := newServer(page, knowTLS(h), log)
	s.listener, s.secure, s.http.TLSConfig = p.Web, true, webTLS(page)
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	return s
}

type connKey struct{}

// knowTLS tells handlers of TLS when it is not the HTTP server's own.
func knowTLS(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(interface{ ConnectionState() tls.ConnectionState }); ok && r.TLS == nil {
			state := c.ConnectionState()
			r.TLS = &state
		}
		h.ServeHTTP(w, r)
	})
}

// listen opens a listener; key is the one of the configuration to blame.
func listen(key, addr string, cert *tlscert.Source, h http.Handler, log *slog.Logger) (*server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (`sotto doctor` says more)", key, err)
	}
	s := newServer(cert, h, log)
	s.listener = l
	return s, nil
}

func newServer(cert *tlscert.Source, h http.Handler, log *slog.Logger) *server {
	return &server{http: &http.Server{
		Handler:           h,
		TLSConfig:         cert.TLSConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       30 * time.Second, // a page holds a WebSocket; what it was loaded over costs twice that
		MaxHeaderBytes:    16 << 10,
		// Mostly handshakes that scanners and distrustful browsers break off.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

func (s *server) serve(context.Context) (err error) {
	if s.secure {
		err = s.http.Serve(s.listener)
	} else {
		err = s.http.ServeTLS(s.listener, "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// close lets requests end until the context does, then cuts them. It also
// closes the listener of a server that never served.
func (s *server) close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if closeErr := s.listener.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}
