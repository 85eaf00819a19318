package keyring_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

func TestMain(m *testing.M) {
	if database := os.Getenv("SOTTO_KEYRING_CHILD"); database != "" {
		os.Exit(child(database))
	}
	storetest.Main(m)
}

const host = "a.example"

// clock is set by tests.
type clock struct{ offset atomic.Int64 }

var begin = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func (c *clock) Now() time.Time          { return begin.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// rig is a KMS without its doors.
type rig struct {
	*testing.T
	*keyring.Keyring
	store   *store.Store
	barrier *seal.Barrier
	clock   *clock
}

// start opens a keyring on a database, which gets its first root key if it has none. change is what a test wants otherwise.
func start(t *testing.T, database string, change func(*keyring.Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	s := storetest.Open(t, database, keyring.Domains()...)
	file := filepath.Join(dir, "key")
	k, err := seal.NewFile(file, "/proc")
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{}
	b := seal.New(c.Now)
	if err := b.Init(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	cfg := keyring.Config{Host: host, Store: s, Barrier: b, Spool: filepath.Join(dir, "spool"), Now: c.Now, Hurry: 30 * time.Second}
	if change != nil {
		change(&cfg)
	}
	r, err := keyring.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), b.Seal()); err != nil {
			t.Error(err)
		}
	})
	return &rig{t, r, s, b, c}
}

func user(name string) wire.Caller { return wire.Caller{User: name, Domain: host, Client: "phone"} }

// peer is a user of b.example, for whom that domain's KMS asks.
func peer(name string) wire.Caller {
	return wire.Caller{User: name, Domain: "b.example", Peer: "b.example", Client: "b.example"}
}

func service(kind keyring.Service) wire.Caller {
	return wire.Caller{User: "svc", Domain: host, Service: string(kind)}
}

func with(who wire.Caller, request string) wire.Caller {
	who.Request = request
	return who
}

func (r *rig) space(who wire.Caller, new wire.NewResource) wire.Resource {
	r.Helper()
	out, err := r.CreateResource(r.Context(), who, new)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

func (r *rig) key(who wire.Caller, uri wire.URI) wire.Key {
	r.Helper()
	k, err := r.Key(r.Context(), who, uri)
	if err != nil {
		r.Fatalf("%+v: %v", who, err)
	}
	return k
}

// status is what a caller hears: 0 for no refusal.
func status(t *testing.T, err error) int {
	t.Helper()
	var told *wire.Error
	if err == nil {
		return 0
	}
	if !errors.As(err, &told) {
		t.Fatalf("no refusal: %v", err)
	}
	return told.Status
}

func (r *rig) refused(want int, who wire.Caller, uri wire.URI) {
	r.Helper()
	if k, err := r.Key(r.Context(), who, uri); status(r.T, err) != want || k.Material.Expose() != nil {
		r.Errorf("%+v: %v, want %d", who, err, want)
	}
}

// rows returns the audit of the organisation.
func (r *rig) rows() (out []audit.Row) {
	r.Helper()
	if err := r.store.View(r.Context(), func(tx *store.Tx) (err error) {
		out, err = audit.Rows(tx, host, 0, 1_000_000)
		return err
	}); err != nil {
		r.Fatal(err)
	}
	return out
}

// count counts rows of an event and outcome about an object of anybody.
func (r *rig) count(event string, outcome audit.Outcome, object string) (n int) {
	r.Helper()
	for _, row := range r.rows() {
		if row.Event == event && row.Outcome == outcome && (object == "" || row.Object == object) {
			n++
		}
	}
	return n
}

// whole checks every chain.
func (r *rig) whole(ctx context.Context) {
	r.Helper()
	reports, err := r.Audit().VerifyAll(ctx, r.store)
	if err != nil {
		r.Fatal(err)
	}
	for _, p := range reports {
		if len(p.Problems) > 0 || p.Sealed {
			r.Errorf("chain %q: %+v", p.Org, p)
		}
	}
}
