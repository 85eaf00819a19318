package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/obs"
	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/door"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/known"
	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/seal"
)

// kmsCommand is the customer's side of the trust boundary (docs/kms.md).
type kmsCommand struct {
	Serve   kmsServe   `cmd:"" help:"Run a KMS: the keys of one mail domain, for clients that a relay or a socket brings."`
	Audit   kmsAudit   `cmd:"" help:"Look at the audit of a KMS."`
	Init    kmsInit    `cmd:"" help:"Make the first root key, opened by shares, a file or a hardware module."`
	Reshare kmsReshare `cmd:"" help:"Let the root key be opened by other shares, another file or a module, and by the present ones no more."`
}

// kmsServe runs a KMS. It has no configuration file of the appliance's: it may stand on another machine, and knows nothing of meetings.
type kmsServe struct {
	Data     string   `help:"Data folder of the KMS [kms, in that of the appliance]." placeholder:"DIR"`
	Domain   string   `default:"localhost" help:"Mail domain whose keys it holds." placeholder:"DOMAIN"`
	Database string   `help:"SQLite file, or address of a PostgreSQL [kms.db, in the data folder]." placeholder:"WHERE"`
	SealKey  string   `help:"File with the key that opens all others, kept apart from the data folder; made when there is none [beside the data folder]." placeholder:"FILE"`
	Issuers  string   `required:"" type:"existingfile" help:"PEM file of the public keys (Ed25519) of who makes tokens for this KMS; read again on SIGHUP." placeholder:"FILE"`
	Cert     string   `help:"PEM file of the certificate for the domain [one is made that certifies itself]." placeholder:"FILE"`
	Key      string   `help:"PEM file of its key." placeholder:"FILE"`
	Peers    string   `type:"existingfile" help:"PEM file of who certifies the KMSes of other organisations; none may ask without." placeholder:"FILE"`
	Socket   string   `help:"Unix socket to listen on [kms.sock, in the data folder, unless there is a relay]." placeholder:"PATH"`
	Relay    string   `help:"Relay to dial, such as wss://meet.example.org: no port of this machine need be open." placeholder:"URL"`
	Roots    string   `name:"relay-roots" type:"existingfile" help:"PEM file of who certifies the relay [whom this machine trusts]." placeholder:"FILE"`
	Bearer   string   `name:"relay-token-file" type:"existingfile" help:"File with what the relay knows this KMS by; it opens no key." placeholder:"FILE"`
	Audit    syslog   `embed:""`
	By       sealedBy `embed:""`
}

// Run serves until SIGINT or SIGTERM.
func (c kmsServe) Run(env environment) error {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	if err := seal.Harden(); err != nil { // the whole process: nothing else runs in it
		return err
	}
	return c.serve(ctx, env)
}

// fill puts in what was left out.
func (c *kmsServe) fill(env environment) error {
	if c.Data == "" {
		_, dir, err := location{}.load(env)
		if err != nil {
			return err
		}
		c.Data = filepath.Join(dir, "kms")
	}
	c.Database = cmp.Or(c.Database, filepath.Join(c.Data, "kms.db"))
	c.SealKey = cmp.Or(c.SealKey, strings.TrimRight(filepath.Clean(c.Data), "/")+"-seal.key")
	if c.Relay == "" {
		c.Socket = cmp.Or(c.Socket, filepath.Join(c.Data, "kms.sock"))
	} else if c.Bearer == "" {
		return errors.New("kms: a relay wants to know who dials: --relay-token-file is missing")
	}
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("kms: --cert and --key belong together")
	}
	return nil
}

func (c kmsServe) serve(ctx context.Context, env environment) (err error) {
	if err := c.fill(env); err != nil {
		return err
	}
	log, _ := obs.NewLogger(env.err)
	lock, err := lockData(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()

	database, err := store.Open(ctx, store.Config{Database: c.Database, Domains: keyring.Domains(), Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	barrier, err := c.unseal(ctx, database, env, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, barrier.Seal()) }()
	sink, err := c.Audit.start(database, log)
	if err != nil {
		return err
	}
	if sink != nil {
		defer func() { err = errors.Join(err, sink.Close()) }()
	}
	keys, err := keyring.Open(keyring.Config{
		Host: c.Domain, Store: database, Barrier: barrier, Spool: filepath.Join(c.Data, "spool"), Sink: sink, Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	if err := keys.Resume(ctx); err != nil {
		return err
	}
	tokens, err := loadIssuers(c.Issuers)
	if err != nil {
		return err
	}
	var peers *x509.CertPool
	if c.Peers != "" {
		if peers, err = loadRoots(c.Peers); err != nil {
			return err
		}
	}
	from := known.Config{Dir: c.Data, Domain: c.Domain, CertFile: c.Cert, KeyFile: c.Key}
	identity, err := known.Load(from)
	if err != nil {
		return err
	}
	book := newJournal(database, keys.Audit(), c.Domain, log)
	server, err := kms.New(kms.Config{Host: c.Domain}, kms.Parts{
		Keys: keys, Resources: keys, Tokens: tokens, Journal: book, Peers: peers, Log: log,
	}, identity)
	if err != nil {
		return err
	}
	keeping := run.NewGroup(context.WithoutCancel(ctx)) // ends after the sessions
	keeping.Go("journal", book.keep)
	defer func() { err = errors.Join(err, keeping.Stop()) }()
	group := run.NewGroup(ctx)
	group.Go("readiness", readiness(keys, log))
	group.Go("identity", known.Keeping(from, identity, server.SetIdentities, log))
	group.Go("reload", run.OnHangup(func() { tokens.reload(log) }))
	return errors.Join(c.open(group, server, env, log), group.Wait())
}

// open opens the doors. What is wrong with them stops the group.
func (c kmsServe) open(group *run.Group, server *kms.Server, env environment, log *slog.Logger) error {
	serve := func(ctx context.Context, conn link.Conn) { server.Serve(ctx, conn) }
	fail := func(err error) error { return errors.Join(err, group.Stop()) }
	var where []string
	if c.Socket != "" {
		var l net.Listener
		l, err := door.Unix(c.Socket)
		if err != nil {
			return fail(err)
		}
		group.Go("socket", door.Listening(l, serve))
		where = append(where, c.Socket)
	}
	if c.Relay != "" {
		text, err := os.ReadFile(c.Bearer)
		if err != nil {
			return fail(err)
		}
		web := &http.Client{}
		if c.Roots != "" {
			roots, err := loadRoots(c.Roots)
			if err != nil {
				return fail(err)
			}
			web.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		}
		url := strings.TrimRight(c.Relay, "/") + "/kms/" + c.Domain + "/serve"
		group.Go("relay", door.Relay{URL: url, Bearer: strings.TrimSpace(string(text)), Client: web, Log: log}.Dialling(serve))
		where = append(where, url)
	}
	fmt.Fprintf(env.out, "\n  KMS of %s\n\n", c.Domain)
	for _, w := range where {
		fmt.Fprintf(env.out, "  Serving      %s\n", w)
	}
	fmt.Fprintf(env.out, "  Data         %s\n", c.Data)
	if !c.By.set() {
		fmt.Fprintf(env.out, "  Seal key     %s: without it no key can be read; keep a copy elsewhere\n", c.SealKey)
	}
	if c.Cert == "" {
		fmt.Fprintf(env.out, "  Certificate  %s certifies itself: hand it to the clients\n", known.CertificateFile(c.Data))
	}
	fmt.Fprintf(env.out, "  Ctrl-C stops.\n\n")
	return nil
}

// unseal opens the root key with the file that is kept apart, and makes both when the database is new. A file that is missing beside
// a database that has keys is not replaced: it would open none.
func (c kmsServe) unseal(ctx context.Context, database *store.Store, env environment, log *slog.Logger) (*seal.Barrier, error) {
	barrier := seal.New(time.Now)
	keeper, err := c.By.keeper(env, c.SealKey, c.Data)
	fresh := !c.By.set() && errors.Is(err, fs.ErrNotExist)
	if fresh {
		keeper, err = seal.NewFile(c.SealKey, c.Data)
	}
	if err != nil {
		return nil, err
	}
	err = barrier.Unseal(ctx, database, keeper)
	if errors.Is(err, seal.ErrNoRoot) && !c.By.set() {
		log.Info("root key made", slog.String("seal_key", c.SealKey))
		if err = barrier.Init(ctx, database, keeper); err == nil {
			err = barrier.Unseal(ctx, database, keeper)
		}
	} else if err != nil && fresh {
		err = errors.Join(fmt.Errorf("kms: %s was missing, and the database has keys that only it opens: put it back: %w", c.SealKey, err), os.Remove(c.SealKey))
	}
	if err != nil {
		return nil, errors.Join(err, keeper.Close())
	}
	return barrier, nil
}

// issuers verifies tokens by the keys of a file.
type issuers struct {
	file string
	now  atomic.Pointer[token.Verifier]
}

func loadIssuers(file string) (*issuers, error) {
	i := &issuers{file: file}
	return i, i.load()
}

func (i *issuers) load() error {
	text, err := os.ReadFile(i.file)
	if err != nil {
		return err
	}
	var keys []ed25519.PublicKey
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", i.file, err)
		}
		key, ok := public.(ed25519.PublicKey)
		if !ok {
			return fmt.Errorf("%s: a key that is not Ed25519", i.file)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return fmt.Errorf("%s: no public key in PEM", i.file)
	}
	i.now.Store(token.NewVerifier(keys...))
	return nil
}

// reload takes a changed file over. One that is refused changes nothing.
func (i *issuers) reload(log *slog.Logger) {
	if err := i.load(); err != nil {
		log.Error("issuers not reloaded", "err", err)
		return
	}
	log.Info("issuers reloaded")
}

// Verify implements kms.Tokens.
func (i *issuers) Verify(text string, audience token.Audience, now time.Time) (token.Claims, error) {
	return i.now.Load().Verify(text, audience, now)
}

func loadRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return roots, nil
}
