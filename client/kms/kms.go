// Package kms speaks to a KMS: it opens the channel, keeps it, and turns calls into requests (docs/kms-protocol.md). Bots, gateways,
// benches and other KMSes use it.
//
// It owns one connection at a time. It promises that nothing is said, the token least of all, to a KMS that is not certified for the
// domain; that the token is renewed before it expires; and that a request whose answer was lost with the connection is sent again
// once, under the same id, so that nothing is done twice. Keys that it returns are the caller's to wipe. It caches none.
package kms

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/wire"
)

// Conn carries frames.
type Conn interface {
	Receive(ctx context.Context) ([]byte, error)
	Send(ctx context.Context, frame []byte) error
	Close() error
}

// Config says which KMS, and who one is. Either Token and Key are set, or Chain and Key for a KMS that speaks to another.
type Config struct {
	Domain string         // the mail domain
	Roots  *x509.CertPool // who may certify a KMS for it; nil: whom this machine trusts
	Dial   func(context.Context) (Conn, error)

	Client string                                // tells one's clients apart
	Token  func(context.Context) (string, error) // a token for this KMS, bound to Key
	Key    crypto.Signer                         // Ed25519 or P-256; of the certificate with Chain
	Chain  [][]byte

	Suite   channel.Suite    // [the best]
	Timeout time.Duration    // of one request, connecting included [30 s]
	Now     func() time.Time // [time.Now]
}

// ErrClosed is what calls return after Close.
var ErrClosed = errors.New("kms: closed")

// ErrReset is a session that the KMS has ended. A call returns it when trying again did not help.
var ErrReset = errors.New("kms: the session was ended")

// Client is a client. All methods may be called from any goroutine.
type Client struct {
	cfg Config

	connecting chan struct{} // holds one while nobody connects
	mu         sync.Mutex
	closed     bool
	peer       *channel.Peer // verified, good until its end
	live       *session
}

// New returns a client. It connects with the first call.
func New(cfg Config) (*Client, error) {
	if !wire.ValidHost(cfg.Domain) || cfg.Dial == nil || cfg.Key == nil || (cfg.Token == nil) == (len(cfg.Chain) == 0) {
		return nil, errors.New("kms: domain, dial and key are needed, and token or chain")
	}
	if cfg.Suite == 0 {
		cfg.Suite = channel.Hybrid
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{cfg: cfg, connecting: make(chan struct{}, 1)}
	c.connecting <- struct{}{}
	return c, nil
}

// Close ends the connection and waits. It may be called twice.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	live := c.live
	c.live = nil
	c.mu.Unlock()
	if live != nil {
		live.end(ErrClosed)
		<-live.gone
	}
	return nil
}

// Ping sees that the channel is whole.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.do(ctx, &wire.Request{Op: wire.OpPing})
	return err
}

// CreateKeys makes keys, bound to a resource unless that is zero.
func (c *Client) CreateKeys(ctx context.Context, count int, resource wire.URI) ([]wire.Key, error) {
	r, err := c.do(ctx, &wire.Request{Op: wire.OpCreateKeys, Count: count, Resource: resource})
	if err != nil {
		return nil, err
	}
	return r.Keys, nil
}

// Key fetches a key.
func (c *Client) Key(ctx context.Context, key wire.URI) (wire.Key, error) {
	return c.key(ctx, &wire.Request{Op: wire.OpKey, Object: key})
}

// KeyFor fetches a key for a user: what a KMS asks another one.
func (c *Client) KeyFor(ctx context.Context, user string, key wire.URI) (wire.Key, error) {
	return c.key(ctx, &wire.Request{Op: wire.OpKey, Object: key, User: user})
}

// BindKey binds a key that the user has made to a resource.
func (c *Client) BindKey(ctx context.Context, key, resource wire.URI) (wire.Key, error) {
	return c.key(ctx, &wire.Request{Op: wire.OpBindKey, Object: key, Resource: resource})
}

func (c *Client) key(ctx context.Context, request *wire.Request) (wire.Key, error) {
	r, err := c.do(ctx, request)
	switch {
	case err != nil:
		return wire.Key{}, err
	case r.Key == nil:
		return wire.Key{}, fmt.Errorf("kms: %s: the answer has no key", request.Op)
	}
	return *r.Key, nil
}

// CreateResource makes a resource with its keys and members.
func (c *Client) CreateResource(ctx context.Context, with wire.NewResource) (wire.Resource, error) {
	return c.resource(ctx, &wire.Request{
		Op: wire.OpCreateResource, AuthIDs: with.AuthIDs, ModeratorIDs: with.ModeratorIDs, Moderated: with.Moderated,
		KeyURIs: with.KeyURIs, Count: with.Count,
	})
}

// Resource fetches what a resource is, without its keys.
func (c *Client) Resource(ctx context.Context, resource wire.URI) (wire.Resource, error) {
	return c.resource(ctx, &wire.Request{Op: wire.OpResource, Object: resource})
}

func (c *Client) resource(ctx context.Context, request *wire.Request) (wire.Resource, error) {
	r, err := c.do(ctx, request)
	switch {
	case err != nil:
		return wire.Resource{}, err
	case r.Resource == nil:
		return wire.Resource{}, fmt.Errorf("kms: %s: the answer has no resource", request.Op)
	}
	return *r.Resource, nil
}

// ResourceKeys fetches keys of a resource that were bound in [after, before), the latest count; zero values bound nothing.
func (c *Client) ResourceKeys(ctx context.Context, resource wire.URI, after, before time.Time, count int) ([]wire.Key, error) {
	r, err := c.do(ctx, &wire.Request{Op: wire.OpResourceKeys, Object: resource, BoundAfter: after, BoundBefore: before, Count: count})
	if err != nil {
		return nil, err
	}
	return r.Keys, nil
}

// Authorize lets users in.
func (c *Client) Authorize(ctx context.Context, resource wire.URI, role wire.Role, ids ...string) ([]wire.Authorization, error) {
	r, err := c.do(ctx, &wire.Request{Op: wire.OpCreateAuthorization, Resource: resource, AuthIDs: ids, Role: role})
	if err != nil {
		return nil, err
	}
	return r.Authorizations, nil
}

// Deauthorize lets a user in no more, and returns the new current key of the resource.
func (c *Client) Deauthorize(ctx context.Context, authorization wire.URI) (wire.URI, error) {
	r, err := c.do(ctx, &wire.Request{Op: wire.OpDeleteAuthorization, Object: authorization})
	if err != nil {
		return wire.URI{}, err
	}
	return r.Current, nil
}

// do sends a request, a second time if the session ended before the answer came.
func (c *Client) do(ctx context.Context, r *wire.Request) (*wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	r.ID = id.Secret()
	for attempt := 0; ; attempt++ {
		s, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		response, err := s.ask(ctx, r)
		switch {
		case err == nil && response.Status == wire.StatusReset:
			s.end(ErrReset)
			err = response.Err()
		case err == nil && response.Err() != nil:
			return nil, fmt.Errorf("kms: %s: %w", r.Op, response.Err())
		case err == nil:
			return response, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("kms: %s: %w", r.Op, ctx.Err())
		case errors.Is(err, errUnwritten):
			return nil, err
		}
		if attempt == 1 {
			return nil, fmt.Errorf("kms: %s: %w", r.Op, err)
		}
	}
}

// connect returns a session that is open and whose token is good.
func (c *Client) connect(ctx context.Context) (*session, error) {
	select {
	case <-c.connecting:
		defer func() { c.connecting <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("kms: connect: %w", ctx.Err())
	}
	c.mu.Lock()
	live, closed := c.live, c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if live != nil && live.alive() {
		if c.cfg.Now().Before(live.renewAt()) {
			return live, nil
		}
		if err := c.renew(ctx, live); err == nil {
			return live, nil
		}
		live.end(ErrReset) // it lasts no longer; or the token is not taken, and a new session says why
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.end(ErrClosed)
		return nil, ErrClosed
	}
	c.live = s
	return s, nil
}
