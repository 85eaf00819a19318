package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
)

// What a killed process has acknowledged is there, what it has not is there whole or not at all, and the repetition of the
// write that it died in does not do it twice.
func TestKilledWhileWriting(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		database := e.Fresh(t)
		rounds := 6
		if testing.Short() {
			rounds = 2
		}
		for round := range rounds {
			begun, acknowledged := killed(t, database, 1+round*37%60)
			s := storetest.Open(t, database, ledger)
			all := entries(t, s)
			for i, e := range all {
				if e[0] != int64(i) {
					t.Fatalf("round %d: entry %d has number %d", round, i, e[0])
				}
			}
			if n := int64(len(all)); n <= acknowledged || n > begun+1 || balance(t, s, "child") != n {
				t.Fatalf("round %d: %d entries and a balance of %d, %d acknowledged and %d begun", round, n, balance(t, s, "child"), acknowledged+1, begun+1)
			}
			// Its client did not hear, and asks again.
			_, repeated, err := s.Once(t.Context(), entryKey(begun), func(tx *store.Tx) ([]byte, error) { return nil, writeEntry(tx, begun) })
			if err != nil || repeated != (int64(len(all)) == begun+1) {
				t.Fatalf("round %d: repeated %v, %v", round, repeated, err)
			}
			if n := int64(len(entries(t, s))); n != begun+1 || balance(t, s, "child") != n {
				t.Fatalf("round %d: %d entries and a balance of %d after the repetition, want %d", round, n, balance(t, s, "child"), begun+1)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func entries(t *testing.T, s *store.Store) (out [][2]int64) {
	t.Helper()
	if err := s.View(t.Context(), func(tx *store.Tx) (err error) {
		out, err = store.All(tx, allEntries, []any{"child"}, scanEntry)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// The primary is killed amid writes and its standby promoted: the store finds it by itself, and nothing acknowledged is lost.
func TestFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("two servers: not in the quick part")
	}
	storetest.Need(t)
	primary, err := storetest.StartServer()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = primary.Close() }() // killed by then
	standby, err := primary.Standby("second")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	}()
	// After the copy was made: the standby will wait for nobody.
	for _, q := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (second)'", "SELECT pg_reload_conf()"} {
		if _, err := primary.Query(t.Context(), "postgres", q); err != nil {
			t.Fatal(err)
		}
	}
	s := storetest.Open(t, primary.DSN("postgres", standby), ledger)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "child", 0); return err }); err != nil {
		t.Fatal(err)
	}

	// Each writer goes on through the failover with Once, as a service would.
	const writers = 6
	var all sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[int64]bool{}
	enough := make(chan struct{})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var promoted, resumed time.Time
	for w := range int64(writers) {
		all.Go(func() {
			for n := w; ; n += writers {
				_, _, err := s.Once(ctx, entryKey(n), func(tx *store.Tx) ([]byte, error) {
					_, err := tx.Exec(addEntry, n, "child", 1)
					return nil, err
				})
				if err != nil {
					t.Errorf("entry %d: %v", n, err)
					return
				}
				mu.Lock()
				acknowledged[n] = true
				if len(acknowledged) == 200 {
					close(enough)
				}
				after := !promoted.IsZero()
				if after && resumed.IsZero() {
					resumed = time.Now()
				}
				mu.Unlock()
				if after {
					return
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("no writes before the failover")
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	promoted = time.Now()
	mu.Unlock()
	all.Wait()
	there := map[int64]bool{}
	for _, e := range entries(t, s) {
		there[e[0]] = true
	}
	for n := range acknowledged {
		if !there[n] {
			t.Errorf("entry %d was acknowledged and is lost", n)
		}
	}
	if wait := resumed.Sub(promoted); wait > 15*time.Second {
		t.Errorf("writes resumed %v after the promotion", wait)
	}
	if s.Stats().Waits == 0 {
		t.Error("nobody waited: the primary was not in use")
	}
	t.Logf("%d acknowledged, resumed %v after the promotion, %+v", len(acknowledged), resumed.Sub(promoted), s.Stats())
}

// PostgreSQL reports success for a commit whose wait for the standbys was cancelled. The store does not.
func TestACommitThatDidNotReachTheStandbys(t *testing.T) {
	if testing.Short() {
		t.Skip("a server of its own: not in the quick part")
	}
	storetest.Need(t)
	server, err := storetest.StartServer()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := storetest.Open(t, server.DSN("postgres"), ledger)
	for _, q := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"} {
		if _, err := server.Query(t.Context(), "postgres", q); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { // ends when the wait is cancelled below
		for { // the setting reaches a connection a moment later
			err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 1); return err })
			if err != nil {
				done <- err
				return
			}
		}
	}()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		if _, err := server.Query(t.Context(), "postgres", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if !errors.Is(err, store.ErrUnknown) || s.Stats().Unknown != 1 {
				t.Errorf("the update says %v, want ErrUnknown", err)
			}
			return
		case <-deadline.C:
			t.Fatal("the update does not end")
		default:
		}
	}
}

func TestServersThatWouldLoseWrites(t *testing.T) {
	server := storetest.Shared(t)
	database := storetest.Postgres.Fresh(t)
	name := database[strings.LastIndex(database, "=")+1:]
	for _, value := range []string{"off", "local"} {
		if _, err := server.Query(t.Context(), "postgres", fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = %s", name, value)); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), store.Config{Database: database}); err == nil || !strings.Contains(err.Error(), "synchronous_commit "+value) {
			t.Errorf("synchronous_commit %s: %v", value, err)
		}
	}
}

// A database that is away is waited for, for as long as the configuration and the context say, and that is told.
func TestPatience(t *testing.T) {
	begin := time.Now()
	_, err := store.Open(t.Context(), store.Config{Database: "host=" + t.TempDir() + " user=nobody password=sesame", Patience: 300 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "gave up after") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("nobody there: %v; want how long it tried, and no password", err)
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d > 20*time.Second {
		t.Errorf("gave up after %v of 300ms", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Open(ctx, store.Config{Database: "host=" + t.TempDir() + " user=nobody"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context ends first: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Config{Database: "postgres://u:sesame@h:notaport/x"}); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("an address that is none: %v", err)
	}
}
