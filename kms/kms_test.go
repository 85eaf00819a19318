package kms_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	client "github.com/sotto-edge/sotto/client/kms"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/wire"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err error, status int) {
	t.Helper()
	if !errors.Is(err, wire.Refuse(status, "")) {
		t.Fatalf("%v, want status %d", err, status)
	}
}

// TestKeysByToken: a key is released to who is authorised, by the token that opened his channel, and to nobody else (K6, K11). Each
// operation of the protocol reaches whom it is for, in both suites and with both kinds of client keys.
func TestKeysByToken(t *testing.T) {
	l := newLab(t, kms.Config{})
	ctx := t.Context()
	alice, bob, mallory := newUser(t, "u_alice"), newUser(t, "u_bob"), newUser(t, "u_mallory")
	bob.key = p256(t)
	a, m := l.client(alice), l.client(mallory)
	b := l.client(bob, func(c *client.Config) { c.Suite = channel.P256 })

	check(t, a.Ping(ctx))
	space, err := a.CreateResource(ctx, wire.NewResource{AuthIDs: []string{"u_bob"}, Count: 1})
	check(t, err)
	ofAlice, err := a.Key(ctx, space.Current)
	check(t, err)
	ofBob, err := b.Key(ctx, space.Current)
	check(t, err)
	if ofAlice.Material.Expose() == nil || !ofAlice.Material.Equal(ofBob.Material) {
		t.Error("members have different keys")
	}
	_, err = m.Key(ctx, space.Current)
	wants(t, err, wire.StatusForbidden)

	unbound, err := a.CreateKeys(ctx, 2, wire.URI{})
	check(t, err)
	if len(unbound) != 2 || unbound[0].Material.Equal(unbound[1].Material) || unbound[0].Resource != (wire.URI{}) {
		t.Errorf("keys %v", unbound)
	}
	_, err = b.Key(ctx, unbound[0].URI)
	wants(t, err, wire.StatusForbidden)
	bound, err := a.BindKey(ctx, unbound[0].URI, space.URI)
	check(t, err)
	if bound.Resource != space.URI {
		t.Errorf("bound to %v", bound.Resource)
	}
	_, err = a.BindKey(ctx, unbound[0].URI, space.URI)
	wants(t, err, wire.StatusConflict)
	keys, err := b.ResourceKeys(ctx, space.URI, time.Unix(1, 0), time.Time{}, 0)
	check(t, err)
	if len(keys) != 2 {
		t.Errorf("%d keys of the resource", len(keys))
	}
	in, err := a.Authorize(ctx, space.URI, "", "u_mallory")
	check(t, err)
	if len(in) != 1 || in[0].Role != wire.Participant {
		t.Errorf("authorizations %v", in)
	}
	_, err = m.Key(ctx, space.Current)
	check(t, err)
	current, err := a.Deauthorize(ctx, in[0].URI)
	check(t, err)
	if current.Kind != wire.Keys {
		t.Errorf("current key after a removal: %v", current)
	}
	if r, err := a.Resource(ctx, space.URI); err != nil || r.URI != space.URI {
		t.Errorf("resource %v, %v", r, err)
	}

	for _, who := range l.shelf.asked {
		if who.Domain != domain || who.Client != who.User+"'s phone" || who.Token != "t_"+who.User || who.Request == "" || len(who.Session) != 32 {
			t.Errorf("asked by %+v", who)
		}
		if want := map[bool]string{true: "P-256", false: "MLKEM768X25519"}[who.User == "u_bob"]; who.Suite != want {
			t.Errorf("%s came by suite %s", who.User, who.Suite)
		}
	}
	if l.connected != 3 || len(l.book.opened) != 3 {
		t.Errorf("%d connections and %d sessions for three clients", l.connected, len(l.book.opened))
	}
}

// raw is a client's end without the package that behaves.
type raw struct {
	t       *testing.T
	conn    client.Conn
	session *channel.Session
}

func (l *lab) raw() *raw {
	l.t.Helper()
	conn, err := l.dial(context.Background())
	check(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: l.t, conn: conn}
}

func (r *raw) exchange(frame []byte) []byte {
	r.t.Helper()
	check(r.t, r.conn.Send(context.Background(), frame))
	return r.receive()
}

func (r *raw) receive() []byte {
	r.t.Helper()
	answer, err := r.conn.Receive(context.Background())
	check(r.t, err)
	return answer
}

// ended waits for the end of the connection.
func (r *raw) ended() {
	r.t.Helper()
	if frame, err := r.conn.Receive(context.Background()); err == nil {
		r.t.Fatalf("the connection goes on with %x", frame)
	}
}

func (r *raw) open(l *lab) {
	r.t.Helper()
	p, err := channel.Trust{Domain: domain, Roots: l.roots}.Verify(r.exchange(channel.Identify()), time.Now())
	check(r.t, err)
	o, frame, err := channel.Open(p, channel.P256)
	check(r.t, err)
	r.session, err = o.Finish(r.exchange(frame))
	check(r.t, err)
}

func (r *raw) seal(request *wire.Request) []byte {
	r.t.Helper()
	text, err := wire.AppendRequest(nil, request, domain)
	check(r.t, err)
	frame, err := r.session.Seal(nil, text)
	check(r.t, err)
	return frame
}

func (r *raw) text(frame []byte) string {
	r.t.Helper()
	text, err := r.session.Open(nil, frame)
	check(r.t, err)
	return string(text)
}

func (r *raw) credential(l *lab, u *user) *wire.Client {
	r.t.Helper()
	key, err := token.NewProofKey(u.key.Public())
	check(r.t, err)
	signature, err := token.Prove(u.key, channel.ClientMessage(r.session.Binding()))
	check(r.t, err)
	return &wire.Client{ID: "raw", Bearer: wire.NewBearer(l.token(u)), Key: key, Signature: signature}
}

func (r *raw) wantReset(frame []byte, why channel.Reason) {
	r.t.Helper()
	if _, got, err := channel.ParseReset(frame); err != nil || got != why {
		r.t.Fatalf("%x: %v, %v; want a reset for %v", frame, got, err, why)
	}
}

// TestRefusedTokens: what is wrong with a token is in the journal, each cause by its name; the stranger gets one answer, to the byte
// (K6, TD6, TD7).
func TestRefusedTokens(t *testing.T) {
	l := newLab(t, kms.Config{})
	other := newUser(t, "u_other")
	earlier := l.raw()
	earlier.open(l)
	cases := map[string]struct {
		user   func(*user)
		change func(r *raw, c *wire.Client)
		want   kms.Cause
	}{
		"tampered": {change: func(_ *raw, c *wire.Client) {
			text := []byte(c.Bearer.Expose())
			text[20] ^= 1
			c.Bearer = wire.NewBearer(string(text))
		}, want: kms.CauseToken},
		"not one":            {change: func(_ *raw, c *wire.Client) { c.Bearer = wire.NewBearer("so_owner") }, want: kms.CauseToken},
		"of nobody":          {user: func(u *user) { u.edit = func(c *token.Claims) { c.Subject = "" } }, want: kms.CauseToken},
		"expired":            {user: func(u *user) { u.life = -time.Second }, want: kms.CauseExpired},
		"for the cloud":      {user: func(u *user) { u.edit = func(c *token.Claims) { c.Audience = token.Cloud } }, want: kms.CauseAudience},
		"for a meeting":      {user: func(u *user) { u.edit = func(c *token.Claims) { c.Audience = token.Host } }, want: kms.CauseAudience},
		"of another domain":  {user: func(u *user) { u.edit = func(c *token.Claims) { c.Domain = "example.net" } }, want: kms.CauseDomain},
		"bound to no key":    {user: func(u *user) { u.edit = func(c *token.Claims) { c.Proof = "" } }, want: kms.CauseUnbound},
		"bound to another's": {change: func(_ *raw, c *wire.Client) { c.Bearer = wire.NewBearer(l.token(other)) }, want: kms.CauseKey},
		"stolen": {change: func(r *raw, c *wire.Client) { // with the right key named, but not held
			c.Signature, _ = token.Prove(other.key, channel.ClientMessage(r.session.Binding()))
		}, want: kms.CauseSignature},
		"replayed": {change: func(_ *raw, c *wire.Client) { // all of it, from a session that was opened earlier
			*c = *earlier.credential(l, other)
		}, want: kms.CauseSignature},
		"shut out":              {user: func(u *user) { u.name = "u_leaver" }, want: kms.CauseGate},
		"certificate of nobody": {change: func(r *raw, c *wire.Client) { *c = *r.peer(l, "example.com") }, want: kms.CausePeer},
		"own certificate": {change: func(r *raw, c *wire.Client) {
			*c = wire.Client{ID: domain, Chain: l.chain}
			c.Signature, _ = channel.SignPeer(l.certKey, r.session.Binding())
		}, want: kms.CausePeer},
		"certificate and no key": {change: func(r *raw, c *wire.Client) {
			*c = wire.Client{ID: "example.net", Chain: l.peerChain}
			c.Signature, _ = channel.SignPeer(other.key, r.session.Binding())
		}, want: kms.CausePeer},
	}
	l.gate.shut["u_leaver"] = true
	answers := map[string][]string{}
	seen := map[kms.Cause]bool{}
	for name, c := range cases {
		u := newUser(t, "u_alice")
		if c.user != nil {
			c.user(u)
		}
		r := l.raw()
		r.open(l)
		who := r.credential(l, u)
		if c.change != nil {
			c.change(r, who)
		}
		before := len(l.book.causes())
		text := r.text(r.exchange(r.seal(&wire.Request{ID: "r", Op: wire.OpOpenSession, Client: who})))
		answers[text] = append(answers[text], name)
		if got := l.book.causes()[before:]; !slices.Equal(got, []kms.Cause{c.want}) {
			t.Errorf("%s: journal has %q, want %q", name, got, c.want)
		}
		seen[c.want] = true
		r.ended()
	}
	if len(answers) != 1 || !strings.Contains(slices.Collect(keysOf(answers))[0], `"status":401`) {
		t.Errorf("strangers are told apart: %q", answers)
	}
	if len(l.book.opened) != 0 || len(l.shelf.asked) != 0 {
		t.Error("somebody came in")
	}
	if len(seen) != 9 {
		t.Errorf("%d causes were tried", len(seen))
	}
}

func keysOf(m map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (r *raw) peer(l *lab, domain string) *wire.Client {
	r.t.Helper()
	signature, err := channel.SignPeer(l.peerKey, r.session.Binding())
	check(r.t, err)
	return &wire.Client{ID: domain, Chain: l.peerChain, Signature: signature}
}

// Nothing is answered before the session is opened, well-formed or not.
func TestNothingBefore(t *testing.T) {
	l := newLab(t, kms.Config{})
	for name, text := range map[string]string{
		"ping":   `{"requestId":"r","method":"update","uri":"/ping"}`,
		"keys":   `{"requestId":"r","method":"create","uri":"/keys","count":1}`,
		"renew":  `{"requestId":"r","method":"update","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t"}}}`,
		"broken": `{"requestId":"r"`,
	} {
		r := l.raw()
		r.open(l)
		frame, err := r.session.Seal(nil, []byte(text))
		check(t, err)
		if got := r.text(r.exchange(frame)); !strings.Contains(got, `"status":401`) || !strings.Contains(got, `"requestId":"r"`) {
			t.Errorf("%s: %s", name, got)
		}
		r.ended()
	}
	if got := l.book.causes(); len(got) != 4 || got[0] != kms.CauseEarly {
		t.Errorf("journal has %q", got)
	}
}

// TestRelayInterferes: frames that a relay replays, reorders, changes or makes up end the session with a reset, and are not answered.
func TestRelayInterferes(t *testing.T) {
	l := newLab(t, kms.Config{})
	ping := &wire.Request{ID: "r", Op: wire.OpPing}
	for name, f := range map[string]func(r *raw) ([]byte, channel.Reason){
		"replayed": func(r *raw) ([]byte, channel.Reason) {
			frame := r.seal(ping)
			r.text(r.exchange(frame))
			return frame, channel.ReasonRefused
		},
		"reordered": func(r *raw) ([]byte, channel.Reason) {
			r.seal(ping)
			return r.seal(ping), channel.ReasonRefused
		},
		"changed": func(r *raw) ([]byte, channel.Reason) {
			frame := r.seal(ping)
			frame[len(frame)-1] ^= 1
			return frame, channel.ReasonRefused
		},
		"reflected": func(r *raw) ([]byte, channel.Reason) {
			answer := r.exchange(r.seal(ping))
			return answer, channel.ReasonRefused
		},
		"cut":         func(r *raw) ([]byte, channel.Reason) { return r.seal(ping)[:30], channel.ReasonRefused },
		"of no kind":  func(*raw) ([]byte, channel.Reason) { return []byte{9}, channel.ReasonRefused },
		"empty":       func(*raw) ([]byte, channel.Reason) { return []byte{}, channel.ReasonRefused },
		"of a server": func(*raw) ([]byte, channel.Reason) { return channel.Reset(channel.ID{}, 1), channel.ReasonRefused },
	} {
		r := l.raw()
		r.open(l)
		if got := r.text(r.exchange(r.seal(&wire.Request{ID: "o", Op: wire.OpOpenSession, Client: r.credential(l, newUser(t, "u_alice"))}))); !strings.Contains(got, `"status":201`) {
			t.Fatalf("%s: %s", name, got)
		}
		before := len(l.shelf.asked)
		frame, want := f(r)
		r.wantReset(r.exchange(frame), want)
		r.ended()
		if len(l.shelf.asked) != before {
			t.Errorf("%s: it was answered", name)
		}
	}

	r, other := l.raw(), l.raw()
	r.open(l)
	other.open(l)
	r.wantReset(r.exchange(other.seal(ping)), channel.ReasonUnknown) // moved to another connection
	second := l.raw()
	second.wantReset(second.exchange(r.seal(ping)), channel.ReasonUnknown)
	_, open, err := channel.Open(mustVerify(t, l), channel.P256)
	check(t, err)
	r.wantReset(r.exchange(open), channel.ReasonRefused) // two handshakes and nobody authenticated
	r.ended()
	if c := l.server.Counts(); c.Opened != 8 || c.Resets != 11 || c.Handshakes != 10 || c.Refused != 0 {
		t.Errorf("counts %+v", c)
	}
}

func mustVerify(t *testing.T, l *lab) *channel.Peer {
	t.Helper()
	p, err := channel.Trust{Domain: domain, Roots: l.roots}.Verify(l.identities[0].Frame(), time.Now())
	check(t, err)
	return p
}

// tap hands the frames of a client's end to a test.
type tap struct {
	link.Conn
	sent func(frame []byte)
	got  func(frame []byte) []byte
	end  func()
}

func (c tap) Send(ctx context.Context, frame []byte) error {
	if c.sent != nil {
		c.sent(slices.Clone(frame))
	}
	return c.Conn.Send(ctx, frame)
}

func (c tap) Receive(ctx context.Context) ([]byte, error) {
	frame, err := c.Conn.Receive(ctx)
	if err == nil && c.got != nil {
		frame = c.got(frame)
	}
	if err != nil && c.end != nil {
		c.end()
	}
	return frame, err
}

// TestClientStops: a client says nothing to a KMS that is certified for another domain, or by somebody else; the token least of all
// (K4).
func TestClientStops(t *testing.T) {
	l := newLab(t, kms.Config{})
	var said [][]byte
	l.wrap = func(c link.Conn) link.Conn { return tap{Conn: c, sent: func(f []byte) { said = append(said, f) }} }
	alice := newUser(t, "u_alice")
	elsewhere := l.client(alice, func(c *client.Config) { c.Domain = "example.net" })
	if err := elsewhere.Ping(t.Context()); !errors.Is(err, channel.ErrDomain) {
		t.Errorf("another domain: %v", err)
	}
	stranger := l.client(alice, func(c *client.Config) { c.Roots = pool(t, l.peerChain) })
	if err := stranger.Ping(t.Context()); !errors.Is(err, channel.ErrUntrusted) {
		t.Errorf("another root: %v", err)
	}
	if len(said) != 2 || !bytes.Equal(said[0], channel.Identify()) || !bytes.Equal(said[1], channel.Identify()) || alice.took != 0 {
		t.Errorf("said %x, %d tokens", said, alice.took)
	}
}

// A frame from the KMS that comes twice or was changed ends the client's session; the call goes on in a new one.
func TestClientGoesOn(t *testing.T) {
	l := newLab(t, kms.Config{})
	var mu sync.Mutex
	bend, connections := false, 0
	l.wrap = func(c link.Conn) link.Conn {
		connections++
		return tap{Conn: c, got: func(f []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if bend && channel.KindOf(f) == channel.KindData {
				bend = false
				f[len(f)-1] ^= 1
			}
			return f
		}}
	}
	a := l.client(newUser(t, "u_alice"))
	check(t, a.Ping(t.Context()))
	mu.Lock()
	bend = true
	mu.Unlock()
	keys, err := a.CreateKeys(t.Context(), 1, wire.URI{})
	check(t, err)
	if connections != 2 || len(l.shelf.keys) != 1 || !l.shelf.keys[keys[0].URI].Material.Equal(keys[0].Material) {
		t.Errorf("%d connections, %d keys made: a write whose answer was lost is not done twice", connections, len(l.shelf.keys))
	}
}

// The server is started anew: sessions are gone, and the client opens another by itself, also under a new identity.
func TestServerRestarts(t *testing.T) {
	l := newLab(t, kms.Config{})
	var ends []link.Conn
	l.wrap = func(c link.Conn) link.Conn { ends = append(ends, c); return c }
	a := l.client(newUser(t, "u_alice"))
	check(t, a.Ping(t.Context()))
	l.start(l.identities...)
	check(t, ends[0].Close())
	check(t, a.Ping(t.Context()))
	l.start(l.identity(token.NewSeed()))
	check(t, ends[1].Close())
	check(t, a.Ping(t.Context()))
	if n := l.server.Counts().Opened; n != 1 {
		t.Errorf("%d sessions", n)
	}
	// While clients know the older one, both are held.
	fresh := l.identity(token.NewSeed())
	check(t, l.server.SetIdentities(fresh, l.identities[0]))
	check(t, ends[len(ends)-1].Close())
	before := len(ends)
	check(t, a.Ping(t.Context()))
	if len(ends) != before+1 {
		t.Errorf("%d connections for a client that knows the older identity", len(ends)-before)
	}
	if err := l.server.SetIdentities(); err == nil {
		t.Error("a server without an identity")
	}
}

// TestLeaver: who is shut out loses his session at once, and every request asks the gate (I10 has the same for accounts).
func TestLeaver(t *testing.T) {
	l := newLab(t, kms.Config{})
	a, b := l.client(newUser(t, "u_alice")), l.client(newUser(t, "u_bob"))
	check(t, a.Ping(t.Context()))
	ended := make(chan struct{}, 9)
	l.wrap = func(c link.Conn) link.Conn { return tap{Conn: c, end: func() { ended <- struct{}{} }} }
	check(t, b.Ping(t.Context()))
	l.gate.mu.Lock()
	l.gate.shut["u_bob"] = true
	l.gate.mu.Unlock()
	wants(t, b.Ping(t.Context()), wire.StatusUnauthorized)
	l.server.Forget("u_bob")
	<-ended
	wants(t, b.Ping(t.Context()), wire.StatusUnauthorized)
	check(t, a.Ping(t.Context()))
	if l.connected != 3 {
		t.Errorf("%d connections", l.connected)
	}
}

// A session that cannot be written down is not opened; a keyring that fails is not explained to the client.
func TestFailures(t *testing.T) {
	l := newLab(t, kms.Config{})
	l.book.full = errors.New("disk full")
	a := l.client(newUser(t, "u_alice"))
	wants(t, a.Ping(t.Context()), wire.StatusUnavailable)
	l.book.full = nil
	l.shelf.broken = errors.New("secret detail")
	_, err := a.Key(t.Context(), wire.NewURI(domain, wire.Keys))
	wants(t, err, wire.StatusInternal)
	if strings.Contains(err.Error(), "detail") {
		t.Errorf("the client is told %v", err)
	}
	if _, err := a.CreateKeys(t.Context(), wire.MaxKeys+1, wire.URI{}); err == nil {
		t.Error("asked for more keys than are given")
	}
	check(t, a.Close())
	check(t, a.Close())
	if err := a.Ping(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Requests of one session run beside each other, so many and no more.
func TestPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, kms.Config{Pending: 3})
		a := l.client(newUser(t, "u_alice"))
		check(t, a.Ping(t.Context()))
		l.shelf.hold = make(chan struct{})
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				if _, err := a.CreateKeys(t.Context(), 1, wire.URI{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		l.shelf.mu.Lock()
		if n := len(l.shelf.asked); n != 3 {
			t.Errorf("%d requests run beside each other", n)
		}
		l.shelf.mu.Unlock()
		close(l.shelf.hold)
		calls.Wait()
		if len(l.shelf.keys) != 5 {
			t.Errorf("%d keys", len(l.shelf.keys))
		}
		// What the keyring handed over is overwritten when it has been sent.
		synctest.Wait()
		for _, k := range l.shelf.given {
			if !bytes.Equal(k.Material.Expose(), make([]byte, wire.KeyLen)) {
				t.Error("a key is left in the server")
			}
		}
		if len(l.shelf.given) != 5 {
			t.Errorf("%d keys were handed over", len(l.shelf.given))
		}
		check(t, a.Close())
		l.serving.Wait()
	})
}

// A session ends with its token, unless a fresh one comes in time: the client sees to that.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, kms.Config{})
		alice := newUser(t, "u_alice")
		a := l.client(alice)
		for range 80 {
			check(t, a.Ping(t.Context()))
			time.Sleep(90 * time.Second)
		}
		before := l.connected
		if before < 2 || before > 3 || alice.took < 12 || alice.took > 30 { // a session lasts an hour

			t.Errorf("%d connections and %d tokens in two hours", l.connected, alice.took)
		}
		time.Sleep(11 * time.Minute) // nobody renews: the session ends
		synctest.Wait()
		if n := l.server.Counts(); n.Connections != 0 {
			t.Errorf("after the token: %+v", n)
		}
		check(t, a.Ping(t.Context()))
		if l.connected != before+1 {
			t.Errorf("%d connections", l.connected)
		}

		// Another user's token does not prolong a session, and his own does not help after that either.
		bob := newUser(t, "u_bob")
		r := l.raw()
		r.open(l)
		r.text(r.exchange(r.seal(&wire.Request{ID: "o", Op: wire.OpOpenSession, Client: r.credential(l, alice)})))
		for name, u := range map[string]*user{"another user": bob, "another key": newUser(t, "u_alice")} {
			got := r.text(r.exchange(r.seal(&wire.Request{ID: "n", Op: wire.OpRenewSession, Client: &wire.Client{ID: "raw", Bearer: wire.NewBearer(l.token(u))}})))
			if !strings.Contains(got, `"status":401`) {
				t.Errorf("%s: %s", name, got)
			}
		}
		if got := l.book.causes(); !slices.Equal(got, []kms.Cause{kms.CauseOther, kms.CauseOther}) {
			t.Errorf("journal has %q", got)
		}
		if got := r.text(r.exchange(r.seal(&wire.Request{ID: "c", Op: wire.OpCloseSession}))); !strings.Contains(got, `"status":204`) {
			t.Errorf("close: %s", got)
		}
		r.ended()
		check(t, a.Close())
		l.serving.Wait()
	})
}

// Who connects and does nothing is let go, and there are only so many connections.
func TestIdleStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, kms.Config{Connections: 2, Handshake: 10 * time.Second})
		one, two, three := l.raw(), l.raw(), l.raw()
		synctest.Wait()
		var busy int
		for _, r := range []*raw{one, two, three} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if frame, err := r.conn.Receive(ctx); err == nil {
				r.wantReset(frame, channel.ReasonBusy)
				busy++
			}
			cancel()
		}
		if busy != 1 {
			t.Errorf("%d of three found no place", busy)
		}
		four := l.raw()
		_ = four.conn.Close()
		time.Sleep(21 * time.Second) // the time to open a session, and to read why it ended
		synctest.Wait()
		if n := l.server.Counts().Connections; n != 0 {
			t.Errorf("%d connections are still there", n)
		}
		l.serving.Wait()
	})
}

// TestPeer: another KMS fetches for the users of its own domain, and does nothing else.
func TestPeer(t *testing.T) {
	l := newLab(t, kms.Config{})
	a := l.client(newUser(t, "u_alice"))
	space, err := a.CreateResource(t.Context(), wire.NewResource{AuthIDs: []string{"u_bob"}, Count: 1})
	check(t, err)
	peer := l.client(newUser(t, "example.net"), func(c *client.Config) {
		c.Client, c.Token, c.Chain, c.Key = "example.net", nil, l.peerChain, l.peerKey
	})
	k, err := peer.KeyFor(t.Context(), "u_bob", space.Current)
	check(t, err)
	if who := l.shelf.asked[len(l.shelf.asked)-1]; who.User != "u_bob" || who.Domain != "example.net" || who.Peer != "example.net" || k.Material.Expose() == nil {
		t.Errorf("asked by %+v", who)
	}
	_, err = peer.KeyFor(t.Context(), "u_mallory", space.Current)
	wants(t, err, wire.StatusForbidden)
	_, err = peer.Key(t.Context(), space.Current)
	wants(t, err, wire.StatusBadRequest)
	_, err = peer.CreateKeys(t.Context(), 1, wire.URI{})
	wants(t, err, wire.StatusForbidden)
	_, err = a.KeyFor(t.Context(), "u_bob", space.Current)
	wants(t, err, wire.StatusForbidden)
	check(t, peer.Ping(t.Context()))
}

func TestNewRefuses(t *testing.T) {
	l := newLab(t, kms.Config{})
	good := kms.Parts{Keys: l.shelf, Resources: l.shelf, Tokens: l.issuer.Verifier()}
	for name, c := range map[string]struct {
		host  string
		parts kms.Parts
		with  []*channel.Identity
	}{
		"no host":      {"", good, l.identities},
		"a URL":        {"https://example.org", good, l.identities},
		"no keys":      {domain, kms.Parts{Resources: l.shelf, Tokens: good.Tokens}, l.identities},
		"no tokens":    {domain, kms.Parts{Keys: l.shelf, Resources: l.shelf}, l.identities},
		"no identity":  {domain, good, nil},
		"no resources": {domain, kms.Parts{Keys: l.shelf, Tokens: good.Tokens}, l.identities},
	} {
		if _, err := kms.New(kms.Config{Host: c.host}, c.parts, c.with...); err == nil {
			t.Errorf("%s: it is made", name)
		}
	}
	if _, err := kms.New(kms.Config{Host: domain}, good, l.identities...); err != nil {
		t.Error(err)
	}
	if _, err := client.New(client.Config{Domain: domain}); err == nil {
		t.Error("a client that cannot dial is made")
	}
	if diff := cmp.Diff(kms.Counts{}, l.server.Counts()); diff != "" {
		t.Errorf("counts of a new server:\n%s", diff)
	}
}

// FuzzServe lets a stranger say anything: the server answers or hangs up, and nobody is let in.
func FuzzServe(f *testing.F) {
	f.Add([]byte{1}, []byte{3, 1, 0, 2})
	f.Add([]byte{5}, channel.Reset(channel.ID{1}, 1))
	f.Add([]byte{}, []byte{4})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		l := newLab(t, kms.Config{})
		near, far := net.Pipe()
		c := link.Stream(near)
		go func() { // reads until the end
			for {
				if _, err := c.Receive(context.Background()); err != nil {
					return
				}
			}
		}()
		go func() {
			for _, frame := range [][]byte{one, two} {
				if c.Send(context.Background(), frame) != nil {
					break
				}
			}
			_ = c.Close()
		}()
		l.server.Serve(t.Context(), link.Stream(far))
		if n := l.server.Counts(); n.Opened != 0 || n.Connections != 0 {
			t.Errorf("counts %+v", n)
		}
	})
}
