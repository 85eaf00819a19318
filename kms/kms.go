// Package kms serves keys: it opens channels, finds out who is at the other end, and hands each request to whom it concerns.
//
// It owns sessions, from the first frame of a connection to its last. It promises that nothing but the opening of a session is
// answered before a token for this KMS was verified and its key proved in the channel itself; that a stranger learns one thing from
// every refusal, and the journal the cause; that each request is answered for the one whom the session was opened for, while the
// token lasts and the gate admits him; and that keys are overwritten when they have been sent. It keeps no keys and decides nothing
// about them (kms/keyring), makes no tokens and cannot, and does not care what carries its frames.
package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/wire"
)

// Conn carries frames, in order. Send and Receive may run beside each other. A frame that was received belongs to the receiver.
type Conn interface {
	Receive(ctx context.Context) ([]byte, error)
	Send(ctx context.Context, frame []byte) error
	Close() error
}

// Keys is what the server asks about single keys. What is returned belongs to the server, which overwrites it: no part of it may be
// kept. An error that is a *wire.Error reaches the client, any other one is logged and reaches it as 500.
type Keys interface {
	// CreateKeys makes keys, bound to the resource unless that is zero, the last of them its current one.
	CreateKeys(ctx context.Context, who wire.Caller, count int, resource wire.URI) ([]wire.Key, error)
	Key(ctx context.Context, who wire.Caller, key wire.URI) (wire.Key, error)
	BindKey(ctx context.Context, who wire.Caller, key, resource wire.URI) (wire.Key, error)
	ResourceKeys(ctx context.Context, who wire.Caller, resource wire.URI, which wire.Range) ([]wire.Key, error)
}

// Resources is what it asks about resources and who is authorised on them, by the rules of Keys.
type Resources interface {
	CreateResource(ctx context.Context, who wire.Caller, with wire.NewResource) (wire.Resource, error)
	Resource(ctx context.Context, who wire.Caller, resource wire.URI) (wire.Resource, error)
	Authorize(ctx context.Context, who wire.Caller, resource wire.URI, ids []string, role wire.Role) ([]wire.Authorization, error)
	// Deauthorize returns what was removed and the new current key of the resource.
	Deauthorize(ctx context.Context, who wire.Caller, authorization wire.URI) (wire.Authorization, wire.URI, error)
}

// Journal is told who came. A session whose opening cannot be written down is not opened.
type Journal interface {
	Opened(ctx context.Context, who wire.Caller) error
	Refused(ctx context.Context, who wire.Caller, cause Cause)
}

// Gate says who is shut out although his token is good: a leaver, a lost device. It is asked before every request.
type Gate interface {
	Admit(ctx context.Context, who wire.Caller) error
}

// Tokens verifies. *token.Verifier does.
type Tokens interface {
	Verify(text string, audience token.Audience, now time.Time) (token.Claims, error)
}

// OpenGate shuts nobody out.
type OpenGate struct{}

// Admit implements Gate.
func (OpenGate) Admit(context.Context, wire.Caller) error { return nil }

// LogJournal writes to a log what a Journal is told.
type LogJournal struct{ Log *slog.Logger }

// Opened implements Journal.
func (j LogJournal) Opened(_ context.Context, who wire.Caller) error {
	j.Log.Info("session opened", attributes(who)...)
	return nil
}

// Refused implements Journal.
func (j LogJournal) Refused(_ context.Context, who wire.Caller, cause Cause) {
	j.Log.Warn("session refused", append(attributes(who), slog.String("cause", string(cause)))...)
}

func attributes(who wire.Caller) []any {
	return []any{
		slog.String("user", who.User), slog.String("domain", who.Domain), slog.String("client", who.Client), slog.String("service", who.Service),
		slog.String("peer", who.Peer), slog.String("token", who.Token), slog.String("suite", who.Suite), slog.String("session", who.Session),
	}
}

// Config is what a server goes by.
type Config struct {
	Host        string           // the domain whose keys it holds, as in their URLs
	Session     time.Duration    // how long a session lasts at most [1 h]
	Handshake   time.Duration    // how long a connection has to open one [10 s]
	Connections int              // how many there may be [10 000]
	Pending     int              // requests under way in one session [16]
	Now         func() time.Time // [time.Now]
}

// Parts is what a server asks.
type Parts struct {
	Keys      Keys
	Resources Resources
	Tokens    Tokens
	Journal   Journal        // [LogJournal]
	Gate      Gate           // [OpenGate]
	Peers     *x509.CertPool // who certifies other KMSes; nil: none may ask
	Log       *slog.Logger   // [discards]
}

// Server is a KMS. All methods may be called from any goroutine.
type Server struct {
	cfg        Config
	parts      Parts
	identities atomic.Pointer[[]*channel.Identity]
	handshakes chan struct{} // as many as may run beside each other

	mu     sync.Mutex
	open   map[*connection]struct{}
	counts Counts
}

// Counts is what happened since the start, and how many connections there are.
type Counts struct {
	Connections int
	Handshakes  int64
	Opened      int64 // sessions
	Refused     int64 // sessions
	Requests    int64
	Resets      int64
}

// New returns a server that is known by the identities, the newest first: the others are those that clients may still know.
func New(cfg Config, parts Parts, identities ...*channel.Identity) (*Server, error) {
	if !wire.ValidHost(cfg.Host) {
		return nil, errors.New("kms: the host is no domain name in lower case")
	}
	if parts.Keys == nil || parts.Resources == nil || parts.Tokens == nil {
		return nil, errors.New("kms: keys, resources and tokens are needed")
	}
	if cfg.Session == 0 {
		cfg.Session = time.Hour
	}
	if cfg.Handshake == 0 {
		cfg.Handshake = 10 * time.Second
	}
	if cfg.Connections == 0 {
		cfg.Connections = 10_000
	}
	if cfg.Pending == 0 {
		cfg.Pending = 16
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if parts.Log == nil {
		parts.Log = slog.New(slog.DiscardHandler)
	}
	if parts.Journal == nil {
		parts.Journal = LogJournal{parts.Log}
	}
	if parts.Gate == nil {
		parts.Gate = OpenGate{}
	}
	s := &Server{cfg: cfg, parts: parts, handshakes: make(chan struct{}, runtime.GOMAXPROCS(0)), open: map[*connection]struct{}{}}
	return s, s.SetIdentities(identities...)
}

// SetIdentities replaces what the server is known by. Sessions that are open go on.
func (s *Server) SetIdentities(identities ...*channel.Identity) error {
	if len(identities) == 0 {
		return errors.New("kms: an identity is needed")
	}
	s.identities.Store(&identities)
	return nil
}

// Counts returns what was counted.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Connections = len(s.open)
	return c
}

func (s *Server) count(what func(*Counts)) {
	s.mu.Lock()
	what(&s.counts)
	s.mu.Unlock()
}

// Forget ends the sessions of a user at once; the Gate has to keep him out.
func (s *Server) Forget(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.who().User == user {
			c.cut()
		}
	}
}

// Serve answers on a connection until that ends, the context does, or the client does not behave, and closes it. It returns when
// nothing of it runs any more.
func (s *Server) Serve(ctx context.Context, conn Conn) {
	ctx, cut := context.WithCancel(ctx)
	c := &connection{server: s, conn: conn, cut: cut, slots: make(chan struct{}, s.cfg.Pending)}
	defer cut()
	defer func() { _ = conn.Close() }()
	s.mu.Lock()
	full := len(s.open) >= s.cfg.Connections
	if !full {
		s.open[c] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		c.reset(ctx, channel.ID{}, channel.ReasonBusy)
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
	}()
	c.serve(ctx)
}
