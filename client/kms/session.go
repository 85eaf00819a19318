package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/wire"
)

// errUnwritten is a request that is none.
var errUnwritten = errors.New("kms: the request cannot be written")

// session is one open channel. Its reader hands responses to who waits for them.
type session struct {
	domain  string
	conn    Conn
	channel *channel.Session
	cancel  context.CancelFunc
	gone    chan struct{} // closed when the reader has returned

	sending sync.Mutex

	mu      sync.Mutex
	err     error // why it ended
	waiting map[string]chan *wire.Response
	opened  time.Time
	expires time.Time
}

// open dials, verifies who answers, and opens a session. An identity that the KMS does not hold any more is asked for again.
func (c *Client) open(ctx context.Context) (*session, error) {
	for attempt := 0; ; attempt++ {
		s, why, err := c.try(ctx)
		if err == nil {
			return s, nil
		}
		if why != channel.ReasonIdentity || attempt == 1 {
			return nil, err
		}
		c.mu.Lock()
		c.peer = nil
		c.mu.Unlock()
	}
}

func (c *Client) try(ctx context.Context) (_ *session, why channel.Reason, err error) {
	conn, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: dial: %w", err)
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	peer, err := c.verified(ctx, conn)
	if err != nil {
		return nil, 0, err
	}
	opening, frame, err := channel.Open(peer, c.cfg.Suite)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: %w", err)
	}
	defer opening.Wipe()
	answer, why, err := exchange(ctx, conn, frame, channel.KindAccept)
	if err != nil {
		return nil, why, err
	}
	open, err := opening.Finish(answer)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: %w", err)
	}
	own, cancel := context.WithCancel(context.Background()) // lives until it is ended, not as long as the call that began it
	s := &session{
		domain: c.cfg.Domain, conn: conn, channel: open, cancel: cancel, gone: make(chan struct{}), waiting: map[string]chan *wire.Response{},
	}
	go s.read(own)
	if err := c.authenticate(ctx, s); err != nil {
		s.end(err)
		<-s.gone
		return nil, 0, err
	}
	return s, 0, nil
}

// verified returns the KMS at the other end, if it is certified for the domain.
func (c *Client) verified(ctx context.Context, conn Conn) (*channel.Peer, error) {
	c.mu.Lock()
	peer := c.peer
	c.mu.Unlock()
	if peer != nil && c.cfg.Now().Before(peer.Until()) {
		return peer, nil
	}
	frame, _, err := exchange(ctx, conn, channel.Identify(), channel.KindIdentity)
	if err != nil {
		return nil, err
	}
	peer, err = channel.Trust{Domain: c.cfg.Domain, Roots: c.cfg.Roots}.Verify(frame, c.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	c.mu.Lock()
	c.peer = peer
	c.mu.Unlock()
	return peer, nil
}

// exchange sends a frame before there is a session, and returns the answer.
func exchange(ctx context.Context, conn Conn, frame []byte, want channel.Kind) ([]byte, channel.Reason, error) {
	if err := conn.Send(ctx, frame); err != nil {
		return nil, 0, fmt.Errorf("kms: send: %w", err)
	}
	answer, err := conn.Receive(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: receive: %w", err)
	}
	switch channel.KindOf(answer) {
	case want:
		return answer, 0, nil
	case channel.KindReset:
		_, why, err := channel.ParseReset(answer)
		if err != nil {
			return nil, 0, fmt.Errorf("kms: %w", err)
		}
		return nil, why, fmt.Errorf("%w: %s", ErrReset, why)
	}
	return nil, 0, fmt.Errorf("kms: %w", channel.ErrMalformed)
}

// authenticate proves who holds the session.
func (c *Client) authenticate(ctx context.Context, s *session) error {
	who := &wire.Client{ID: c.cfg.Client}
	binding := s.channel.Binding()
	defer clear(binding)
	var err error
	if len(c.cfg.Chain) > 0 {
		who.Chain = c.cfg.Chain
		who.Signature, err = channel.SignPeer(c.cfg.Key, binding)
	} else {
		if who.Key, err = token.NewProofKey(c.cfg.Key.Public()); err != nil {
			return fmt.Errorf("kms: %w", err)
		}
		if who.Signature, err = token.Prove(c.cfg.Key, channel.ClientMessage(binding)); err != nil {
			return fmt.Errorf("kms: %w", err)
		}
		var bearer string
		bearer, err = c.cfg.Token(ctx)
		who.Bearer = wire.NewBearer(bearer)
	}
	if err != nil {
		return fmt.Errorf("kms: credential: %w", err)
	}
	return c.session(ctx, s, &wire.Request{Op: wire.OpOpenSession, Client: who})
}

func (c *Client) renew(ctx context.Context, s *session) error {
	if c.cfg.Token == nil {
		return ErrReset // a KMS opens a new session
	}
	bearer, err := c.cfg.Token(ctx)
	if err != nil {
		return fmt.Errorf("kms: credential: %w", err)
	}
	return c.session(ctx, s, &wire.Request{Op: wire.OpRenewSession, Client: &wire.Client{ID: c.cfg.Client, Bearer: wire.NewBearer(bearer)}})
}

func (c *Client) session(ctx context.Context, s *session, r *wire.Request) error {
	r.ID = id.Secret()
	response, err := s.ask(ctx, r)
	if err == nil {
		err = response.Err()
	}
	if err != nil {
		return fmt.Errorf("kms: %s: %w", r.Op, err)
	}
	if response.Session == nil || response.Session.Expires.IsZero() {
		return fmt.Errorf("kms: %s: the answer has no session", r.Op)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !response.Session.Expires.After(s.expires) {
		return fmt.Errorf("%w: it cannot be prolonged", ErrReset)
	}
	s.opened, s.expires = c.cfg.Now(), response.Session.Expires
	return nil
}

// renewAt is when four fifths of the token's time are over.
func (s *session) renewAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened.Add(s.expires.Sub(s.opened) * 4 / 5)
}

func (s *session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil
}

// end ends the session; the first reason counts.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = why
	}
	for id, w := range s.waiting {
		close(w)
		delete(s.waiting, id)
	}
	s.mu.Unlock()
	s.cancel()
	_ = s.conn.Close()
}

// read is the session's goroutine.
func (s *session) read(ctx context.Context) {
	defer close(s.gone)
	defer func() {
		s.sending.Lock() // nobody seals any more
		defer s.sending.Unlock()
		s.channel.Wipe()
	}()
	for {
		frame, err := s.conn.Receive(ctx)
		if err == nil {
			err = s.take(frame)
		}
		if err != nil {
			s.end(fmt.Errorf("kms: %w", err))
			return
		}
	}
}

func (s *session) take(frame []byte) error {
	if channel.KindOf(frame) == channel.KindReset {
		_, why, err := channel.ParseReset(frame)
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: %s", ErrReset, why)
	}
	text, err := s.channel.Open(nil, frame)
	if err != nil {
		return err
	}
	r, err := wire.ParseResponse(text)
	clear(text)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.waiting[r.ID]
	if !ok {
		r.Wipe() // nobody waits any more
		return nil
	}
	delete(s.waiting, r.ID)
	w <- r
	return nil
}

// ask sends a request and waits for its response.
func (s *session) ask(ctx context.Context, r *wire.Request) (*wire.Response, error) {
	text, err := wire.AppendRequest(nil, r, s.domain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnwritten, err)
	}
	w := make(chan *wire.Response, 1)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	s.waiting[r.ID] = w
	s.mu.Unlock()
	if err := s.send(ctx, text); err != nil {
		s.end(fmt.Errorf("kms: send: %w", err))
	}
	select {
	case response, ok := <-w:
		if !ok {
			s.mu.Lock()
			defer s.mu.Unlock()
			return nil, s.err
		}
		return response, nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.waiting[r.ID] == w {
			delete(s.waiting, r.ID)
		} else if response, ok := <-w; ok {
			response.Wipe()
		}
		return nil, ctx.Err()
	}
}

// send seals and sends, one text after the other.
func (s *session) send(ctx context.Context, text []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	frame, err := s.channel.Seal(nil, text)
	clear(text)
	if err != nil {
		return err
	}
	return s.conn.Send(ctx, frame)
}
