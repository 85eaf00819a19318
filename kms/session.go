package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/wire"
)

// Cause is why a session was refused: for the journal, never for the client.
type Cause string

// The causes.
const (
	CauseToken     Cause = "token is not one, or not signed by whom is trusted"
	CauseExpired   Cause = "token has expired"
	CauseAudience  Cause = "token is for another audience"
	CauseDomain    Cause = "token is of another domain"
	CauseUnbound   Cause = "token names no key"
	CauseKey       Cause = "token names another key"
	CauseSignature Cause = "signature is not over this session"
	CauseOther     Cause = "fresh token is of another user or key"
	CausePeer      Cause = "certificate of another KMS is not accepted"
	CauseGate      Cause = "shut out"
	CauseEarly     Cause = "request before the session was opened"
)

// connection is one client's, with one session at a time. serve's goroutine reads; workers answer.
type connection struct {
	server *Server
	conn   Conn
	cut    context.CancelFunc
	slots  chan struct{} // one for each request under way
	work   sync.WaitGroup

	session *channel.Session // of serve's goroutine, its sealing half of whoever holds sending
	binding []byte
	proof   string    // thumbprint that the session was opened with
	until   time.Time // when token or session end; zero until it is opened
	longest time.Time // when the session ends whatever tokens come

	sending sync.Mutex

	mu     sync.Mutex
	caller wire.Caller
}

// patience bounds one write: who does not read what he has asked for is let go.
const patience = 10 * time.Second

func (c *connection) send(ctx context.Context, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.conn.Send(ctx, frame)
}

func (c *connection) who() wire.Caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caller
}

func (c *connection) serve(ctx context.Context) {
	defer c.finish()
	limit := c.server.cfg.Now().Add(c.server.cfg.Handshake)
	for {
		if !c.until.IsZero() {
			limit = c.until
		}
		frame, err := c.receive(ctx, limit)
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				c.reset(ctx, c.id(), channel.ReasonExpired)
			}
			return
		}
		opened := !c.until.IsZero()
		if !c.take(ctx, frame) {
			return
		}
		if opened && c.until.IsZero() { // a handshake began anew
			limit = c.server.cfg.Now().Add(c.server.cfg.Handshake)
		}
	}
}

func (c *connection) receive(ctx context.Context, limit time.Time) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit.Sub(c.server.cfg.Now()))
	defer cancel()
	frame, err := c.conn.Receive(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return frame, err
}

// finish waits for the requests under way and forgets the session.
func (c *connection) finish() {
	c.cut()
	c.forget()
}

func (c *connection) forget() {
	c.work.Wait() // from here on nobody else uses the session
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.session.Wipe()
	}
	clear(c.binding)
	c.session, c.binding, c.proof, c.caller = nil, nil, "", wire.Caller{}
	c.until, c.longest = time.Time{}, time.Time{}
}

func (c *connection) id() channel.ID {
	if c.session == nil {
		return channel.ID{}
	}
	return c.session.ID()
}

// take does what a frame asks for, and says whether to go on.
func (c *connection) take(ctx context.Context, frame []byte) bool {
	switch channel.KindOf(frame) {
	case channel.KindIdentify:
		return c.send(ctx, (*c.server.identities.Load())[0].Frame()) == nil
	case channel.KindOpen:
		return c.open(ctx, frame)
	case channel.KindData:
		return c.data(ctx, frame)
	}
	c.reset(ctx, c.id(), channel.ReasonRefused)
	return false
}

func (c *connection) reset(ctx context.Context, id channel.ID, why channel.Reason) {
	c.server.count(func(n *Counts) { n.Resets++ })
	_ = c.send(ctx, channel.Reset(id, why)) // whoever does not get it sees the end of the connection
}

// open begins a session in place of the one before. A second one may follow when the first was authenticated: an encapsulation costs
// the client little.
func (c *connection) open(ctx context.Context, frame []byte) bool {
	if c.session != nil && c.until.IsZero() {
		c.reset(ctx, c.id(), channel.ReasonRefused)
		return false
	}
	c.forget()
	select {
	case c.server.handshakes <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	session, suite, answer, err := channel.Accept(*c.server.identities.Load(), frame)
	<-c.server.handshakes
	switch {
	case errors.Is(err, channel.ErrIdentity):
		c.reset(ctx, channel.ID{}, channel.ReasonIdentity)
		return true // the client asks for the new one
	case errors.Is(err, channel.ErrSuite):
		c.reset(ctx, channel.ID{}, channel.ReasonVersion)
		return true
	case err != nil:
		c.reset(ctx, channel.ID{}, channel.ReasonRefused)
		return false
	}
	c.server.count(func(n *Counts) { n.Handshakes++ })
	c.session, c.binding = session, session.Binding()
	c.mu.Lock()
	c.caller = wire.Caller{Suite: suite.String(), Session: session.ID().String()}
	c.mu.Unlock()
	return c.send(ctx, answer) == nil
}

// data opens a frame and has its request answered.
func (c *connection) data(ctx context.Context, frame []byte) bool {
	id, _ := channel.DataSession(frame)
	if c.session == nil || id != c.session.ID() {
		c.reset(ctx, id, channel.ReasonUnknown)
		return true
	}
	if !c.until.IsZero() && !c.server.cfg.Now().Before(c.until) {
		c.reset(ctx, id, channel.ReasonExpired)
		return false
	}
	text, err := c.session.Open(nil, frame)
	if err != nil {
		c.server.parts.Log.Warn("frame refused", slog.String("session", id.String()), slog.Any("err", err))
		c.reset(ctx, id, channel.ReasonRefused)
		return false
	}
	c.server.count(func(n *Counts) { n.Requests++ })
	r, refusal := wire.ParseRequest(text, c.server.cfg.Host)
	clear(text)
	opened := !c.until.IsZero()
	switch {
	case !opened && (refusal != nil || r.Op != wire.OpOpenSession):
		c.refused(ctx, c.who(), CauseEarly)
		c.answer(ctx, wire.Refusal(r.ID, strange()))
		return false
	case refusal != nil:
		return c.answer(ctx, wire.Refusal(r.ID, refusal))
	case r.Op == wire.OpOpenSession && opened:
		return c.answer(ctx, wire.Refusal(r.ID, wire.Refuse(wire.StatusConflict, "the session is open")))
	case r.Op == wire.OpOpenSession:
		return c.authenticate(ctx, r)
	case r.Op == wire.OpRenewSession:
		return c.renew(ctx, r)
	case r.Op == wire.OpCloseSession:
		c.work.Wait()
		c.answer(ctx, &wire.Response{ID: r.ID, Status: wire.StatusNoContent})
		return false
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	who := c.who()
	c.work.Go(func() {
		defer func() { <-c.slots }()
		if !c.answer(ctx, c.server.handle(ctx, who, r)) {
			c.cut()
		}
	})
	return true
}

// answer seals and sends a response, and overwrites the keys in it.
func (c *connection) answer(ctx context.Context, r *wire.Response) bool {
	defer r.Wipe()
	text, err := wire.AppendResponse(nil, r)
	if err != nil {
		c.server.parts.Log.Error("response not written", slog.Any("err", err))
		if text, err = wire.AppendResponse(nil, wire.Refusal(r.ID, wire.Refuse(wire.StatusInternal, "the response is too long; ask for less at a time"))); err != nil {
			return false
		}
	}
	defer clear(text)
	c.sending.Lock() // frames leave in the order in which they were counted
	defer c.sending.Unlock()
	frame, err := c.session.Seal(nil, text)
	if err != nil {
		return false
	}
	return c.send(ctx, frame) == nil
}

// strange is what every stranger is told.
func strange() *wire.Error { return wire.Refuse(wire.StatusUnauthorized, "not authenticated") }

func (c *connection) refused(ctx context.Context, who wire.Caller, cause Cause) {
	c.server.count(func(n *Counts) { n.Refused++ })
	c.server.parts.Journal.Refused(ctx, who, cause)
}

// authenticate finds out who holds the session. Who fails has to begin again, with a handshake.
func (c *connection) authenticate(ctx context.Context, r *wire.Request) bool {
	who, until, proof, cause := c.identify(r)
	who.Request = r.ID
	if cause == "" && c.server.parts.Gate.Admit(ctx, who) != nil {
		cause = CauseGate
	}
	if cause != "" {
		c.refused(ctx, who, cause)
		c.answer(ctx, wire.Refusal(r.ID, strange()))
		return false
	}
	if err := c.server.parts.Journal.Opened(ctx, who); err != nil {
		c.server.parts.Log.Error("session not journalled", slog.Any("err", err))
		c.answer(ctx, wire.Refusal(r.ID, wire.Refuse(wire.StatusUnavailable, "try again later")))
		return false
	}
	c.server.count(func(n *Counts) { n.Opened++ })
	c.longest = c.server.cfg.Now().Add(c.server.cfg.Session)
	c.until, c.proof = c.capped(until), proof
	c.mu.Lock()
	c.caller = who
	c.mu.Unlock()
	return c.answer(ctx, &wire.Response{ID: r.ID, Status: wire.StatusCreated, Session: &wire.Session{User: who.User, Expires: c.until}})
}

// capped returns the earlier of an end and that of the session.
func (c *connection) capped(until time.Time) time.Time {
	if until.After(c.longest) {
		return c.longest
	}
	return until
}

// identify verifies the credential of a request that opens a session.
func (c *connection) identify(r *wire.Request) (who wire.Caller, until time.Time, proof string, cause Cause) {
	who = c.who()
	who.Client = r.Client.ID
	now := c.server.cfg.Now()
	if len(r.Client.Chain) > 0 {
		who.Peer = r.Client.ID
		trust := channel.Trust{Domain: r.Client.ID, Roots: c.server.parts.Peers}
		if trust.Roots == nil || r.Client.ID == c.server.cfg.Host || trust.VerifyPeer(r.Client.Chain, c.binding, r.Client.Signature, now) != nil {
			return who, until, "", CausePeer
		}
		return who, now.Add(c.server.cfg.Session), "", ""
	}
	claims, cause := c.claims(r.Client.Bearer, now)
	who.User, who.Domain, who.Service, who.Token = claims.Subject, claims.Domain, claims.Service, claims.ID
	switch {
	case cause != "":
	case claims.Proof != r.Client.Key.Thumbprint():
		cause = CauseKey
	case !r.Client.Key.Verify(channel.ClientMessage(c.binding), r.Client.Signature):
		cause = CauseSignature
	}
	return who, claims.Expires, claims.Proof, cause
}

// claims verifies a token.
func (c *connection) claims(bearer wire.Bearer, now time.Time) (token.Claims, Cause) {
	claims, err := c.server.parts.Tokens.Verify(bearer.Expose(), token.KMS, now)
	switch {
	case errors.Is(err, token.ErrExpired):
		return claims, CauseExpired
	case errors.Is(err, token.ErrAudience):
		return claims, CauseAudience
	case err != nil || claims.Subject == "":
		return claims, CauseToken
	case claims.Domain != c.server.cfg.Host:
		return claims, CauseDomain
	case claims.Proof == "":
		return claims, CauseUnbound
	}
	return claims, ""
}

// renew prolongs the session by a fresh token of the same user and key. Who fails keeps what he had, until it ends.
func (c *connection) renew(ctx context.Context, r *wire.Request) bool {
	claims, cause := c.claims(r.Client.Bearer, c.server.cfg.Now())
	who := c.who()
	fresh := who
	fresh.Token, fresh.Request = claims.ID, r.ID
	switch {
	case cause != "":
	case who.Peer != "" || claims.Subject != who.User || claims.Service != who.Service || claims.Proof != c.proof:
		cause = CauseOther
	case c.server.parts.Gate.Admit(ctx, fresh) != nil:
		cause = CauseGate
	}
	if cause != "" {
		c.refused(ctx, fresh, cause)
		return c.answer(ctx, wire.Refusal(r.ID, strange()))
	}
	c.until = c.capped(claims.Expires)
	c.mu.Lock()
	c.caller.Token = claims.ID
	c.mu.Unlock()
	return c.answer(ctx, &wire.Response{ID: r.ID, Status: wire.StatusOK, Session: &wire.Session{User: who.User, Expires: c.until}})
}
