package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
)

func TestQueries(t *testing.T) { storetest.Check(t, ledger) }

func TestQueryThatAnEngineDoesNotTake(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		d := store.NewDomain("wrong", fstest.MapFS{"00001_x.sql": {Data: []byte("-- +goose Up\nCREATE TABLE wrong (x BIGINT);\n")}})
		d.Query(`SELECT missing FROM wrong`)
		if err := storetest.Open(t, e.Fresh(t), d).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("Check says %v, want the column that is missing", err)
		}
	})
}

// What goes in comes out, on both engines, by one query text.
func TestTypes(t *testing.T) {
	type row struct {
		Balance int64
		Note    sql.NullString
		Secret  []byte
		Open    bool
		Rate    sql.NullFloat64
		Since   time.Time
	}
	when := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	rows := []row{
		{Balance: -1 << 63, Note: sql.NullString{String: "1.50 not a number; ' \" ? $1 漢字", Valid: true}, Secret: []byte{0, 1, 0xff, '1'}, Open: true, Rate: sql.NullFloat64{Float64: 1, Valid: true}, Since: when},
		{Balance: 1<<63 - 1, Note: sql.NullString{String: `{"a": [1, null]}`, Valid: true}, Secret: []byte("12"), Open: false, Since: time.UnixMicro(0).UTC()},
		{Note: sql.NullString{String: "", Valid: true}, Secret: []byte{}, Rate: sql.NullFloat64{Float64: 1e-300, Valid: true}, Since: when},
	}
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := storetest.Open(t, e.Fresh(t), ledger)
		for i, in := range rows {
			name := fmt.Sprint("a", i)
			var out row
			err := s.Update(t.Context(), func(tx *store.Tx) error {
				n, err := tx.Exec(addAccount, name, in.Balance, in.Note, in.Secret, in.Open, in.Rate, store.Micros(in.Since))
				if n != 1 {
					t.Errorf("%d rows changed, want 1", n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			err = s.View(t.Context(), func(tx *store.Tx) error {
				var since int64
				err := tx.One(getAccount, []any{name}, &out.Balance, &out.Note, &out.Secret, &out.Open, &out.Rate, &since)
				out.Since = store.Time(since)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(in, out, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("row %d (-in +out):\n%s", i, d)
			}
		}
		if err := s.View(t.Context(), func(tx *store.Tx) error { return tx.One(getBalance, []any{"nobody"}, new(int64)) }); !errors.Is(err, store.ErrNone) {
			t.Errorf("no row: %v, want ErrNone", err)
		}
		// A question mark in a string is no argument.
		var n, sum int64
		if err := s.View(t.Context(), func(tx *store.Tx) error { return tx.One(countUp, []any{"a2"}, &n, &sum) }); err != nil || n != 1 {
			t.Errorf("%d accounts, %v; want 1", n, err)
		}
	})
}

// Read, think, write: nobody's change is lost, and no failed or cancelled one is there.
func TestTransactionsAreAsIfOneAfterTheOther(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := storetest.Open(t, e.Fresh(t), ledger)
		if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 0); return err }); err != nil {
			t.Fatal(err)
		}
		wrong := errors.New("changed my mind")
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				for i := range 15 {
					err := s.Update(t.Context(), func(tx *store.Tx) error {
						var n int64
						if err := tx.One(getBalance, []any{"x"}, &n); err != nil {
							return err
						}
						if _, err := tx.Exec(setBalance, n+1, "x"); err != nil {
							return err
						}
						if i%3 == 0 {
							return wrong
						}
						return nil
					})
					if i%3 == 0 && !errors.Is(err, wrong) || i%3 != 0 && err != nil {
						t.Errorf("update: %v", err)
					}
				}
			})
		}
		all.Wait()
		if got := balance(t, s, "x"); got != 60 {
			t.Errorf("60 increments came to %d", got)
		}
		if got := s.Stats(); got.Updates != 61 || e == storetest.Postgres && got.Conflicts == 0 {
			t.Errorf("counts %+v: want 61 updates, and conflicts that were tried again on PostgreSQL", got)
		}
	})
}

func TestAViewSeesOneState(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := storetest.Open(t, e.Fresh(t), ledger)
		put := func() {
			t.Helper()
			if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 1); return err }); err != nil {
				t.Fatal(err)
			}
		}
		put()
		err := s.View(t.Context(), func(tx *store.Tx) error {
			var before, after int64
			if err := tx.One(getBalance, []any{"x"}, &before); err != nil {
				return err
			}
			put()
			if err := tx.One(getBalance, []any{"x"}, &after); err != nil {
				return err
			}
			if before != 1 || after != 1 {
				t.Errorf("balance %d, then %d in one view", before, after)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.View(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 1); return err }); err == nil {
			t.Error("a view has written")
		}
		if got := balance(t, s, "x"); got != 2 {
			t.Errorf("balance %d, want 2", got)
		}
	})
}

func TestPanicAndCancellation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := storetest.Open(t, e.Fresh(t), ledger)
		func() {
			defer func() {
				if r := recover(); r != "out of order" {
					t.Errorf("recovered %v", r)
				}
			}()
			_ = s.Update(t.Context(), func(tx *store.Tx) error {
				if _, err := add(tx, "x", 1); err != nil {
					t.Error(err)
				}
				panic("out of order")
			})
		}()
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Update(ctx, func(tx *store.Tx) error {
			if _, err := add(tx, "x", 1); err != nil {
				return err
			}
			cancel()
			_, err := add(tx, "x", 1)
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in between: %v", err)
		}
		if err := s.Update(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 5); return err }); err != nil {
			t.Fatal(err)
		}
		if got := balance(t, s, "x"); got != 5 {
			t.Errorf("balance %d, want 5 of the only update that ended well", got)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
		if err := s.Update(t.Context(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := s.View(t.Context(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// A repetition gets the first answer, whoever comes at the same time and whatever else has failed.
func TestOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := storetest.Open(t, e.Fresh(t), ledger)
		key := store.Key{Scope: "alice/pay", ID: "k1", Request: []byte("pay 10")}
		wrong := errors.New("no")
		if _, _, err := s.Once(t.Context(), key, func(tx *store.Tx) ([]byte, error) { return nil, wrong }); !errors.Is(err, wrong) {
			t.Fatalf("what f returns: %v", err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		firsts, answers := 0, map[string]int{}
		for i := range 12 {
			all.Go(func() {
				response, repeated, err := s.Once(t.Context(), key, func(tx *store.Tx) ([]byte, error) {
					n, err := add(tx, "x", 10)
					return fmt.Appendf(nil, "%d by %d", n, i), err
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[string(response)]++
				if !repeated {
					firsts++
				}
			})
		}
		all.Wait()
		if firsts != 1 || len(answers) != 1 || balance(t, s, "x") != 10 {
			t.Errorf("%d did it, answers %v, balance %d; want one, one answer, 10", firsts, answers, balance(t, s, "x"))
		}
		nothing := func(*store.Tx) ([]byte, error) { return nil, nil }
		if _, _, err := s.Once(t.Context(), store.Key{Scope: key.Scope, ID: key.ID, Request: []byte("pay 11")}, nothing); !errors.Is(err, store.ErrReused) {
			t.Errorf("another request under the key: %v", err)
		}
		if _, repeated, err := s.Once(t.Context(), store.Key{Scope: "bob/pay", ID: key.ID}, nothing); err != nil || repeated {
			t.Errorf("the key of somebody else: repeated %v, %v", repeated, err)
		}
		for _, id := range []string{"", strings.Repeat("k", 201)} {
			if _, _, err := s.Once(t.Context(), store.Key{Scope: "s", ID: id}, nothing); err == nil {
				t.Errorf("a key of %d bytes was taken", len(id))
			}
		}
		if n, err := s.Forget(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("forgot %d young keys, %v", n, err)
		}
		if n, err := s.Forget(t.Context(), time.Now().Add(time.Hour)); n != 2 || err != nil {
			t.Errorf("forgot %d keys, %v; want 2", n, err)
		}
		if _, repeated, err := s.Once(t.Context(), key, nothing); err != nil || repeated {
			t.Errorf("a forgotten key: repeated %v, %v", repeated, err)
		}
	})
}

func TestADatabaseOfANewerProgram(t *testing.T) {
	file := func(n int) (string, *fstest.MapFile) {
		return fmt.Sprintf("%05d_x.sql", n), &fstest.MapFile{Data: fmt.Appendf(nil, "-- +goose Up\nCREATE TABLE newer%d (x BIGINT);\n", n)}
	}
	upTo := func(n int) *store.Domain {
		tree := fstest.MapFS{}
		for i := range n {
			name, f := file(i + 1)
			tree[name] = f
		}
		return store.NewDomain("newer", tree)
	}
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		database := e.Fresh(t)
		for _, n := range []int{1, 3} { // an upgrade in between
			s, err := store.Open(t.Context(), store.Config{Database: database, Domains: []*store.Domain{upTo(n)}})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// A domain that comes before it has news, which must not get in either.
		young := store.NewDomain("young", fstest.MapFS{"00001_y.sql": {Data: []byte("-- +goose Up\nCREATE TABLE young (x BIGINT);\n")}})
		_, err := store.Open(t.Context(), store.Config{Database: database, Domains: []*store.Domain{young, upTo(2)}})
		if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("an older program: %v; want the versions and what to do", err)
		}
		d := upTo(3)
		d.Query(`SELECT x FROM young`)
		if err := storetest.Open(t, database, d).Check(t.Context()); err == nil {
			t.Error("the refused program has made tables")
		}
	})
}

// Those that wait are committed together, and one that fails among them takes nobody along.
func TestGroupCommit(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite.Fresh(t), ledger)
	const writers, each = 64, 10
	wrong := errors.New("wrong")
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for range each {
				err := s.Update(t.Context(), func(tx *store.Tx) error {
					if _, err := add(tx, "x", 1); err != nil || i%8 != 0 {
						return err
					}
					return wrong
				})
				if i%8 != 0 && err != nil || i%8 == 0 && !errors.Is(err, wrong) {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	all.Wait()
	got := s.Stats()
	if want := int64(writers * each * 7 / 8); got.Updates != want || balance(t, s, "x") != want {
		t.Errorf("%d updates and a balance of %d, want %d", got.Updates, balance(t, s, "x"), want)
	}
	if got.Commits*3 > got.Updates {
		t.Errorf("%d commits for %d updates of %d writers: want a third at most", got.Commits, got.Updates, writers)
	}
	t.Logf("%d updates in %d commits", got.Updates, got.Commits)
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := storetest.Open(t, path, ledger)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := add(tx, "x", 1); return err }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want readable by its owner only", name, info.Mode(), err)
		}
	}
	if _, err := store.Open(t.Context(), store.Config{Database: filepath.Join(path, "no", "folder")}); err == nil {
		t.Error("opened a file in a folder that is none")
	}
}

// BenchmarkUpdate counts what one update costs with so many writers, and how many of them one commit carries.
func BenchmarkUpdate(b *testing.B) {
	for _, e := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d", e, writers), func(b *testing.B) {
				s := storetest.Open(b, e.Fresh(b), ledger)
				names := make([]string, writers)
				for i := range names {
					names[i] = fmt.Sprint("writer ", i)
				}
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for i := range writers {
					all.Go(func() {
						for range b.N / writers {
							if err := s.Update(b.Context(), func(tx *store.Tx) error { _, err := add(tx, names[i], 1); return err }); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				got := s.Stats()
				b.ReportMetric(float64(got.Updates)/b.Elapsed().Seconds(), "updates/s")
				b.ReportMetric(float64(got.Updates)/float64(max(got.Commits, 1)), "updates/commit")
			})
		}
	}
}
