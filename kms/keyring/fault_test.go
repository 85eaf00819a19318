package keyring_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// server is a PostgreSQL of one test's own, to be killed.
func server(t *testing.T) *storetest.Server {
	t.Helper()
	storetest.Need(t)
	s, err := storetest.StartServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// While the database is away, who has had a key a moment ago gets it again, recorded on the disk first; nobody else gets anything, who was removed
// least of all. The rows are in the chain when it is back (row AU1).
func TestDatabaseAway(t *testing.T) {
	if testing.Short() {
		t.Skip("a server of its own: not in the quick part")
	}
	pg := server(t)
	r := start(t, pg.DSN("postgres"), func(c *keyring.Config) { c.Hurry, c.Window, c.SpoolRows = 300*time.Millisecond, time.Minute, 4 })
	space := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob", "carol", "carol@b.example"}})
	other := r.space(user("alice"), wire.NewResource{})
	var bob wire.URI
	for _, a := range space.Authorizations {
		if a.AuthID == "bob" {
			bob = a.URI
		}
	}
	key := r.key(user("alice"), space.Current)
	r.key(user("bob"), space.Current)
	r.key(peer("carol"), space.Current)
	if _, _, err := r.Deauthorize(t.Context(), user("alice"), bob); err != nil {
		t.Fatal(err)
	}
	r.key(user("alice"), space.Current) // remembered anew: the removal has made the keyring forget
	r.key(peer("carol"), space.Current)
	rows := len(r.rows())
	if err := pg.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 2 {
		if got := r.key(user("alice"), space.Current); !got.Material.Equal(key.Material) {
			t.Error("another key from memory")
		}
	}
	r.key(peer("carol"), space.Current)
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("three releases from memory took %v", d)
	}
	r.refused(wire.StatusUnavailable, user("bob"), space.Current)                // removed
	r.refused(wire.StatusUnavailable, user("carol"), space.Current)              // in, but not remembered
	r.refused(wire.StatusUnavailable, user("alice"), other.Current)              // the same
	r.refused(wire.StatusUnavailable, wire.Caller{User: "alice"}, space.Current) // nobody
	r.refused(wire.StatusUnavailable, peer("alice@a.example"), space.Current)    // another KMS
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "away") || !strings.Contains(err.Error(), "3 rows") {
		t.Errorf("readiness: %v", err)
	}
	r.key(user("alice"), space.Current)
	r.refused(wire.StatusUnavailable, user("alice"), space.Current) // no room for its row
	r.clock.advance(2 * time.Minute)
	r.refused(wire.StatusUnavailable, peer("carol"), space.Current) // remembered for too long

	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	ready(t, r)
	after := r.rows()[rows:]
	n := 0
	for _, row := range after {
		if row.Event == "key.release" && row.Outcome == audit.Done && strings.Contains(row.Reason, "from memory") {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d rows of releases from memory, want 4: %v", n, after)
	}
	r.refused(wire.StatusForbidden, user("bob"), space.Current)
	r.key(user("carol"), space.Current)
	r.whole(t.Context())
}

// ready waits until the keyring says that all is well.
func ready(t *testing.T, r *rig) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); r.Ready() != nil; <-tick.C {
		if time.Since(begin) > time.Minute {
			t.Fatalf("still not ready: %v", r.Ready())
		}
	}
}

// On a full disk nothing is released, because nothing can be recorded; readiness tells; afterwards it goes on (row AU1).
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "size=1500k")
	r := start(t, filepath.Join(dir, "kms.db"), func(c *keyring.Config) { c.Spool = filepath.Join(dir, "spool") })
	space := r.space(user("alice"), wire.NewResource{})
	released := 0
	full := false
	for n := 0; n < 20000 && !full; n++ {
		if n == 50 { // the rest of the way at once
			if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 4<<20), 0o600); err == nil {
				t.Fatal("the disk is not full")
			}
		}
		k, err := r.Key(t.Context(), user("alice"), space.Current)
		switch status(t, err) {
		case 0:
			released++
		case wire.StatusUnavailable:
			full = true
			if k.Material.Expose() != nil {
				t.Error("a key was released")
			}
		default:
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("it never refused")
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "transaction failed") {
		t.Errorf("readiness: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	r.key(user("alice"), space.Current)
	if err := r.Ready(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if n := r.count("key.release", audit.Done, space.Current.String()); n < released+1 {
		t.Errorf("%d releases, %d rows", released+1, n)
	}
	r.whole(t.Context())
}

// The clock goes back: releases go on, in their order; what is remembered counts for nothing; readiness tells (row AU1).
func TestClockSetBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{})
		r.key(user("alice"), space.Current)
		r.clock.advance(-time.Hour)
		r.key(user("alice"), space.Current)
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "clock is 1h0m0s behind") {
			t.Errorf("readiness: %v", err)
		}
		rows := r.rows()
		last := rows[len(rows)-1]
		if !last.At.Equal(begin.Add(-time.Hour)) || last.Seq != int64(len(rows)) {
			t.Errorf("the last row is %v", last)
		}
		r.whole(t.Context())
	})
}

// The organisation's syslog is away: releases go on and are recorded, readiness tells after a while (row AU1).
func TestSinkAway(t *testing.T) {
	s := storetest.SQLite.Fresh(t)
	var sink *audit.Sink
	var seconds atomic.Int64
	r := start(t, s, func(c *keyring.Config) {
		sink = audit.StartSink(audit.SinkConfig{
			Store: c.Store, Address: "127.0.0.1:1", TLS: &tls.Config{}, Every: time.Millisecond, Patience: time.Hour,
			Now: func() time.Time { return time.Unix(seconds.Load(), 0) },
		})
		c.Sink = sink
	})
	defer func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}()
	space := r.space(user("alice"), wire.NewResource{})
	released := 0
	for begin := time.Now(); r.Ready() == nil && time.Since(begin) < 30*time.Second; seconds.Add(1800) {
		r.key(user("alice"), space.Current)
		released++
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("readiness: %v", err)
	}
	r.key(user("alice"), space.Current)
	if n := r.count("key.release", audit.Done, ""); n != released+1 {
		t.Errorf("%d releases, %d rows", released+1, n)
	}
}

// Every level of keys changes while keys are made and fetched: none is lost, no request fails (rows R7, AR1, C16).
func TestRotationDuringLoad(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var all sync.WaitGroup
		var mu sync.Mutex
		made := map[wire.URI]string{}
		for w := range 3 {
			all.Go(func() {
				for ctx.Err() == nil {
					keys, err := r.CreateKeys(t.Context(), with(user("alice"), wire.NewID().String()), 2, space.URI)
					if err != nil {
						t.Errorf("writer %d: %v", w, err)
						return
					}
					mu.Lock()
					for _, k := range keys {
						made[k.URI] = digest(k)
					}
					mu.Unlock()
					if got, err := r.Key(t.Context(), user("alice"), keys[0].URI); err != nil || digest(got) != digest(keys[0]) {
						t.Errorf("writer %d: another key, %v", w, err)
						return
					}
				}
			})
		}
		k, shares, err := seal.NewShares(3, 5)
		if err != nil {
			t.Fatal(err)
		}
		rewrapped := 0
		for round := range 3 {
			n, err := r.RotateKEK(t.Context(), "olga")
			if err != nil {
				t.Fatal(err)
			}
			rewrapped += n
			if _, err := r.RotateRoot(t.Context(), "olga"); err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				if err := r.Reshare(t.Context(), "olga", k); err != nil {
					t.Fatal(err)
				}
			}
		}
		stop()
		all.Wait()
		if err := r.barrier.Seal(); err != nil {
			t.Fatal(err)
		}
		var g seal.Gathering
		for _, s := range shares[2:] {
			if _, _, err := g.Add(s); err != nil {
				t.Fatal(err)
			}
		}
		if k, err = g.Keeper(); err != nil {
			t.Fatal(err)
		}
		if err := r.barrier.Unseal(t.Context(), r.store, k); err != nil {
			t.Fatal(err)
		}
		if rewrapped == 0 || len(made) == 0 {
			t.Errorf("%d keys, %d wrapped anew", len(made), rewrapped)
		}
		for uri, want := range made {
			if got := r.key(user("alice"), uri); digest(got) != want {
				t.Errorf("%s is another key", uri)
			}
		}
		r.whole(t.Context())
	})
}

// A rotation that breaks off after any of its transactions is finished by Resume.
func TestResume(t *testing.T) {
	s := storetest.SQLite.Fresh(t)
	r := start(t, s, nil)
	space := r.space(user("alice"), wire.NewResource{})
	keys, err := r.CreateKeys(t.Context(), user("alice"), 150, space.URI)
	if err != nil {
		t.Fatal(err)
	}
	// The first transaction of a rotation, and no more.
	if err := r.store.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(r.barrier.NewKEK(tx, host), r.barrier.NewKEK(tx, ""))
	}); err != nil {
		t.Fatal(err)
	}
	changing := func() (orgs []string) {
		if err := r.store.View(t.Context(), func(tx *store.Tx) (err error) {
			orgs, err = r.barrier.Changing(tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return orgs
	}
	if n := changing(); len(n) != 2 {
		t.Fatalf("%v", n)
	}
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := changing(); len(n) != 0 {
		t.Errorf("unfinished: %v", n)
	}
	for _, k := range keys {
		if got := r.key(user("alice"), k.URI); !got.Material.Equal(k.Material) {
			t.Errorf("%s is another key", k.URI)
		}
	}
	r.whole(t.Context())
}

// The database has no key in the clear, and no other organisation's rows open a key (rows TD7, AR1).
func TestDatabaseAlone(t *testing.T) {
	path := storetest.SQLite.Fresh(t)
	r := start(t, path, nil)
	space := r.space(user("alice"), wire.NewResource{})
	keys, err := r.CreateKeys(t.Context(), user("alice"), 20, space.URI)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), keys[0].URI.ID.String()) {
			t.Errorf("%s has no ids: this test would show nothing", f)
		}
		for _, k := range keys {
			if strings.Contains(string(text), string(k.Material.Expose())) || strings.Contains(string(text), fmt.Sprintf("%x", k.Material.Expose())) {
				t.Errorf("%s has a key in the clear", f)
			}
		}
	}
}
