package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	client "github.com/sotto-edge/sotto/client/kms"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/door"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/known"
	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/relay"
	"github.com/sotto-edge/sotto/kms/wire"
)

// kmsLab is a KMS that is started and stopped as the command does.
type kmsLab struct {
	t      *testing.T
	cmd    kmsServe
	issuer *token.Signer
	stop   context.CancelFunc
	ended  chan error
	out    bytes.Buffer
}

func newKMSLab(t *testing.T) *kmsLab {
	t.Helper()
	l := &kmsLab{t: t, issuer: token.NewSigner(token.NewSeed())}
	der, err := x509.MarshalPKIXPublicKey(l.issuer.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l.cmd = kmsServe{
		Data: filepath.Join(dir, "kms"), Domain: "example.org",
		Issuers: write(t, "issuers.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))),
	}
	return l
}

func (l *kmsLab) start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop, l.ended = stop, make(chan error, 1)
	l.out.Reset()
	go func() {
		l.ended <- l.cmd.serve(ctx, environment{out: &l.out, err: &bytes.Buffer{}, getenv: func(string) string { return "" }})
	}()
}

func (l *kmsLab) end() {
	l.t.Helper()
	l.stop()
	if err := <-l.ended; err != nil {
		l.t.Fatal(err)
	}
}

// up waits until the KMS answers somebody, or has ended.
func (l *kmsLab) up(c *client.Client) {
	l.t.Helper()
	for {
		err := c.Ping(l.t.Context())
		if err == nil {
			return
		}
		select {
		case ended := <-l.ended:
			l.t.Fatalf("the KMS has ended: %v; %v", ended, err)
		case <-l.t.Context().Done():
			l.t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (l *kmsLab) client(user string, dial func(context.Context) (client.Conn, error)) *client.Client {
	l.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	proof, err := token.NewProofKey(key.Public())
	if err != nil {
		l.t.Fatal(err)
	}
	// The certificate is there when the KMS first listens; a client is handed it before it connects.
	var c *client.Client
	for c == nil {
		text, err := os.ReadFile(known.CertificateFile(l.cmd.Data))
		if err != nil {
			select {
			case ended := <-l.ended:
				l.t.Fatalf("the KMS has ended: %v", ended)
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		if c, err = client.New(client.Config{
			Domain: "example.org", Roots: roots, Dial: dial, Client: "test", Key: key,
			Token: func(context.Context) (string, error) {
				return l.issuer.Sign(token.Claims{
					Audience: token.KMS, Subject: user, Domain: "example.org", Proof: proof.Thumbprint(), Expires: time.Now().Add(time.Minute),
				})
			},
		}); err != nil {
			l.t.Fatal(err)
		}
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (l *kmsLab) socket(ctx context.Context) (client.Conn, error) {
	return door.Dial(filepath.Join(l.cmd.Data, "kms.sock"))(ctx)
}

// TestKMSServe: the command holds keys over a restart, releases them to members alone, and has it all in the audit; without the file
// that is kept apart nothing opens (A8, K1, K10).
func TestKMSServe(t *testing.T) {
	l := newKMSLab(t)
	l.start()
	alice, mallory := l.client("u_alice", l.socket), l.client("u_mallory", l.socket)
	l.up(alice)
	space, err := alice.CreateResource(t.Context(), wire.NewResource{AuthIDs: []string{"u_bob"}, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	before, err := alice.Key(t.Context(), space.Current)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mallory.Key(t.Context(), space.Current); err == nil {
		t.Error("a stranger to the space gets its key")
	}
	stranger := newKMSLab(t) // with tokens of another issuer
	stranger.cmd = l.cmd
	if err := stranger.client("u_alice", l.socket).Ping(t.Context()); err == nil {
		t.Error("a token of another issuer is taken")
	}
	l.end()
	for _, part := range []string{"example.org", "kms.sock", "seal key", "certificate.pem"} {
		if !strings.Contains(strings.ToLower(l.out.String()), part) {
			t.Errorf("%q is not in what it prints:\n%s", part, l.out.String())
		}
	}

	l.start()
	l.up(alice)
	after, err := l.client("u_bob", l.socket).Key(t.Context(), space.Current)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Material.Equal(before.Material) {
		t.Error("another key after a restart")
	}
	l.end()

	text, err := os.ReadFile(filepath.Join(l.cmd.Data, "kms.db"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, before.Material.Expose()) || !bytes.Contains(text, []byte(space.Current.String()[len("kms://example.org/keys/"):])) {
		t.Error("the key is in the database in the clear, or its name is not")
	}
	events := map[string]int{}
	for _, r := range l.audited() {
		events[r.Event+" "+string(r.Outcome)]++
	}
	if events["session.open done"] < 3 || events["session.open refused"] != 1 || events["key.release done"] < 2 || events["key.release refused"] != 1 {
		t.Errorf("the audit has %v", events)
	}

	apart := l.cmd.Data + "-seal.key"
	if err := os.Rename(apart, apart+".away"); err != nil {
		t.Fatal(err)
	}
	l.start()
	if err := <-l.ended; err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("without the seal key: %v", err)
	}
	if _, err := os.Stat(apart); err == nil {
		t.Error("another seal key was left in the place of the right one")
	}
	if err := os.Rename(apart+".away", apart); err != nil {
		t.Fatal(err)
	}
	l.start()
	l.up(alice)
	l.end()
}

func (l *kmsLab) audited() []audit.Row {
	l.t.Helper()
	s, err := store.Open(l.t.Context(), store.Config{Database: filepath.Join(l.cmd.Data, "kms.db"), Domains: keyring.Domains()})
	if err != nil {
		l.t.Fatal(err)
	}
	var rows []audit.Row
	if err := s.View(l.t.Context(), func(tx *store.Tx) (err error) {
		rows, err = audit.Rows(tx, "example.org", 0, 1000)
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		l.t.Fatal(err)
	}
	return rows
}

// TestKMSBehindRelay: the command without a socket of its own, dialled out to a relay (TD8).
func TestKMSBehindRelay(t *testing.T) {
	l := newKMSLab(t)
	l.cmd.Bearer = write(t, "relay-token", "so_known\n")
	r := relay.New(relay.Config{Authorized: func(domain, bearer string) bool { return domain == "example.org" && bearer == "so_known" }})
	web := httptest.NewServer(r)
	defer web.Close()
	defer r.Close()
	l.cmd.Relay = "ws" + strings.TrimPrefix(web.URL, "http")
	l.start()
	alice := l.client("u_alice", func(ctx context.Context) (client.Conn, error) {
		conn, _, err := websocket.Dial(ctx, l.cmd.Relay+"/kms/example.org", nil)
		if err != nil {
			return nil, err
		}
		return link.Socket(conn), nil
	})
	l.up(alice)
	keys, err := alice.CreateKeys(t.Context(), 1, wire.URI{})
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if _, err := os.Stat(filepath.Join(l.cmd.Data, "kms.sock")); err == nil {
		t.Error("it listens although it dials out")
	}
	l.end()
}

// TestServeCarriesKMS: clients of the appliance reach a KMS that has dialled in to it, over its one port, and one that runs beside it; the
// appliance holds a token for neither.
func TestServeCarriesKMS(t *testing.T) {
	known := write(t, "relay-token", "so_0123456789abcdef\n")
	l := newKMSLab(t)
	dir := t.TempDir()
	r := start(t, dir, anyPorts+"[kms]\ndomain = \"example.org\"\nrelay_token_file = \""+known+"\"\n")
	web := strings.Replace(r.URL, "https:", "wss:", 1)
	through := func(ctx context.Context) (client.Conn, error) {
		conn, _, err := websocket.Dial(ctx, web+"/kms/example.org", &websocket.DialOptions{HTTPClient: r.client})
		if err != nil {
			return nil, err
		}
		return link.Socket(conn), nil
	}
	if status, _, _ := r.do(t, "GET", r.URL+"/kms/example.org/serve", "", "Authorization", "Bearer "+"so_fedcba9876543210"); status != http.StatusUnauthorized {
		t.Errorf("a stranger dials in: %d", status)
	}
	if _, err := through(t.Context()); err == nil {
		t.Error("there is a KMS before one runs")
	}
	l.cmd.Relay, l.cmd.Bearer, l.cmd.Roots = web, known, tlscert.CertFile(tlsDir(dir))
	l.start()
	alice := l.client("u_alice", through)
	l.up(alice)
	if _, err := alice.CreateKeys(t.Context(), 1, wire.URI{}); err != nil {
		t.Error(err)
	}
	l.end()

	l.cmd.Relay, l.cmd.Data = "", filepath.Join(dir, "kms")
	l.start()
	beside := l.client("u_alice", through) // it has a certificate of its own
	l.up(beside)
	l.end()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestKMSServeRefuses(t *testing.T) {
	l := newKMSLab(t)
	for name, change := range map[string]func(*kmsServe){
		"a relay and no token":       func(c *kmsServe) { c.Relay = "wss://example.org" },
		"a certificate and no key":   func(c *kmsServe) { c.Cert = "x.pem" },
		"issuers that are none":      func(c *kmsServe) { c.Issuers = write(t, "none.pem", "nothing") },
		"no domain":                  func(c *kmsServe) { c.Domain = "Example.org" },
		"a seal key beside the data": func(c *kmsServe) { c.SealKey = filepath.Join(c.Data, "seal.key") },
		"peers that are none":        func(c *kmsServe) { c.Peers = write(t, "peers.pem", "nothing") },
	} {
		c := l.cmd
		c.Data = filepath.Join(t.TempDir(), "kms")
		change(&c)
		if err := c.serve(t.Context(), environment{out: &bytes.Buffer{}, err: &bytes.Buffer{}, getenv: func(string) string { return "" }}); err == nil {
			t.Errorf("%s: it served", name)
		}
	}
	if code, _, errs := shell(t, "kms", "serve"); code != 2 || !strings.Contains(errs, "issuers") {
		t.Errorf("without issuers: %d %s", code, errs)
	}
}
