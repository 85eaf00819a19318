package kms_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	client "github.com/sotto-edge/sotto/client/kms"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/channel"
	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/wire"
)

const domain = "example.org"

// shelf is a keyring of a test: it holds keys in memory and releases them to who is authorised.
type shelf struct {
	mu      sync.Mutex
	keys    map[wire.URI]wire.Key
	members map[wire.URI][]string
	asked   []wire.Caller
	hold    chan struct{} // when set, requests wait for it
	done    map[string][]wire.Key
	broken  error
	given   []wire.Key // by CreateKeys to the server
}

func newShelf() *shelf {
	return &shelf{keys: map[wire.URI]wire.Key{}, members: map[wire.URI][]string{}, done: map[string][]wire.Key{}}
}

func (s *shelf) enter(ctx context.Context, who wire.Caller) error {
	s.mu.Lock()
	hold, broken := s.hold, s.broken
	s.asked = append(s.asked, who)
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	return broken
}

func copied(k wire.Key) wire.Key {
	m, err := wire.NewMaterial(k.Material.Expose())
	if err != nil {
		panic(err)
	}
	k.Material = m
	return k
}

func (s *shelf) CreateKeys(ctx context.Context, who wire.Caller, count int, resource wire.URI) (out []wire.Key, err error) {
	if err := s.enter(ctx, who); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if again, ok := s.done[who.User+who.Request]; ok {
		for _, k := range again {
			out = append(out, copied(k))
		}
		return out, nil
	}
	for range count {
		k := wire.Key{URI: wire.NewURI(domain, wire.Keys), Material: wire.RandomMaterial(), User: who.User, Client: who.Client, Created: time.Unix(1, 0).UTC()}
		if resource != (wire.URI{}) {
			k.Resource, k.Bound = resource, time.Unix(2, 0).UTC()
		}
		s.keys[k.URI] = k
		s.done[who.User+who.Request] = append(s.done[who.User+who.Request], k)
		out = append(out, copied(k))
	}
	s.given = append(s.given, out...)
	return out, nil
}

func (s *shelf) may(who wire.Caller, k wire.Key) bool {
	return slices.Contains(s.members[k.Resource], who.User) || k.Resource == wire.URI{} && k.User == who.User
}

func (s *shelf) Key(ctx context.Context, who wire.Caller, key wire.URI) (wire.Key, error) {
	if err := s.enter(ctx, who); err != nil {
		return wire.Key{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[key]
	if !ok || !s.may(who, k) {
		return wire.Key{}, wire.Refuse(wire.StatusForbidden, "not yours")
	}
	return copied(k), nil
}

func (s *shelf) BindKey(ctx context.Context, who wire.Caller, key, resource wire.URI) (wire.Key, error) {
	if err := s.enter(ctx, who); err != nil {
		return wire.Key{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k.Resource != (wire.URI{}) {
		return wire.Key{}, wire.Refuse(wire.StatusConflict, "bound already")
	}
	k.Resource, k.Bound = resource, time.Unix(2, 0).UTC()
	s.keys[key] = k
	return copied(k), nil
}

func (s *shelf) ResourceKeys(ctx context.Context, who wire.Caller, resource wire.URI, which wire.Range) (out []wire.Key, err error) {
	if err := s.enter(ctx, who); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.Resource == resource && s.may(who, k) && len(out) < which.Count && k.Bound.UnixMicro() >= which.After {
			out = append(out, copied(k))
		}
	}
	return out, nil
}

func (s *shelf) CreateResource(ctx context.Context, who wire.Caller, with wire.NewResource) (wire.Resource, error) {
	r := wire.Resource{URI: wire.NewURI(domain, wire.Resources), Moderated: with.Moderated}
	s.mu.Lock()
	s.members[r.URI] = append([]string{who.User}, with.AuthIDs...)
	s.mu.Unlock()
	keys, err := s.CreateKeys(ctx, who, with.Count, r.URI)
	for _, k := range keys {
		r.Keys, r.Current = append(r.Keys, k.URI), k.URI
	}
	return r, err
}

func (s *shelf) Resource(ctx context.Context, who wire.Caller, resource wire.URI) (wire.Resource, error) {
	return wire.Resource{URI: resource}, s.enter(ctx, who)
}

func (s *shelf) Authorize(ctx context.Context, who wire.Caller, resource wire.URI, ids []string, role wire.Role) (out []wire.Authorization, err error) {
	if err := s.enter(ctx, who); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.members[resource] = append(s.members[resource], id)
		out = append(out, wire.Authorization{URI: wire.NewURI(domain, wire.Authorizations), AuthID: id, Role: role, Resource: resource})
	}
	return out, nil
}

func (s *shelf) Deauthorize(ctx context.Context, who wire.Caller, a wire.URI) (wire.Authorization, wire.URI, error) {
	return wire.Authorization{URI: a, AuthID: "u_bob"}, wire.NewURI(domain, wire.Keys), s.enter(ctx, who)
}

// book is a journal of a test.
type book struct {
	mu      sync.Mutex
	opened  []wire.Caller
	refused []kms.Cause
	full    error
}

func (b *book) Opened(_ context.Context, who wire.Caller) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened = append(b.opened, who)
	return b.full
}

func (b *book) Refused(_ context.Context, _ wire.Caller, cause kms.Cause) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = append(b.refused, cause)
}

func (b *book) causes() []kms.Cause {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.refused)
}

// gate shuts out who is on its list.
type gate struct {
	mu   sync.Mutex
	shut map[string]bool
}

func (g *gate) Admit(_ context.Context, who wire.Caller) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut[who.User] {
		return errors.New("shut")
	}
	return nil
}

// lab is a KMS with its surroundings.
type lab struct {
	t          *testing.T
	server     *kms.Server
	shelf      *shelf
	book       *book
	gate       *gate
	issuer     *token.Signer
	chain      [][]byte
	certKey    crypto.Signer
	roots      *x509.CertPool
	peerChain  [][]byte
	peerKey    crypto.Signer
	serving    sync.WaitGroup
	wrap       func(link.Conn) link.Conn // around the client's end of the next connections
	connected  int
	cfg        kms.Config
	mu         sync.Mutex
	identities []*channel.Identity
}

func pool(t *testing.T, chain [][]byte) *x509.CertPool {
	t.Helper()
	c, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

func newLab(t *testing.T, cfg kms.Config) *lab {
	t.Helper()
	l := &lab{t: t, shelf: newShelf(), book: &book{}, gate: &gate{shut: map[string]bool{}}, issuer: token.NewSigner(token.NewSeed()), cfg: cfg}
	l.cfg.Host = domain
	var err error
	from := time.Now().Add(-time.Hour)
	if l.chain, l.certKey, err = channel.SelfSigned(domain, from, from.Add(240*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if l.peerChain, l.peerKey, err = channel.SelfSigned("example.net", from, from.Add(240*time.Hour)); err != nil {
		t.Fatal(err)
	}
	l.roots = pool(t, l.chain)
	l.start(l.identity(token.NewSeed()))
	t.Cleanup(l.serving.Wait)
	return l
}

func (l *lab) identity(seed token.Seed) *channel.Identity {
	l.t.Helper()
	now := time.Now()
	i, err := channel.NewIdentity(channel.IdentityConfig{
		Domain: domain, Seed: seed, Chain: l.chain, Signer: l.certKey, From: now.Add(-time.Minute), Until: now.Add(24 * time.Hour),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return i
}

// start puts a server up, in place of one that may have been there.
func (l *lab) start(identities ...*channel.Identity) {
	l.t.Helper()
	s, err := kms.New(l.cfg, kms.Parts{
		Keys: l.shelf, Resources: l.shelf, Tokens: l.issuer.Verifier(), Journal: l.book, Gate: l.gate, Peers: pool(l.t, l.peerChain),
	}, identities...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.server, l.identities = s, identities
	l.mu.Unlock()
}

// dial connects to the server that is up.
func (l *lab) dial(context.Context) (client.Conn, error) {
	near, far := net.Pipe()
	l.mu.Lock()
	server, wrap := l.server, l.wrap
	l.connected++
	l.mu.Unlock()
	l.serving.Go(func() { server.Serve(context.Background(), link.Stream(far)) })
	c := link.Stream(near)
	if wrap != nil {
		c = wrap(c)
	}
	return c, nil
}

// user is somebody with a key of his own.
type user struct {
	name string
	key  crypto.Signer
	life time.Duration
	edit func(*token.Claims)
	took int // tokens
}

func newUser(t *testing.T, name string) *user {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &user{name: name, key: key, life: 10 * time.Minute}
}

func (l *lab) token(u *user) string {
	proof, err := token.NewProofKey(u.key.Public())
	if err != nil {
		panic(err)
	}
	u.took++
	c := token.Claims{
		Audience: token.KMS, Subject: u.name, Domain: domain, ID: "t_" + u.name, Proof: proof.Thumbprint(), Expires: time.Now().Add(u.life),
	}
	if u.edit != nil {
		u.edit(&c)
	}
	text, err := l.issuer.Sign(c)
	if err != nil {
		panic(err)
	}
	return text
}

func (l *lab) client(u *user, change ...func(*client.Config)) *client.Client {
	l.t.Helper()
	cfg := client.Config{
		Domain: domain, Roots: l.roots, Dial: l.dial, Client: u.name + "'s phone", Key: u.key,
		Token: func(context.Context) (string, error) { return l.token(u), nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

func p256(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
