package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/seal"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// What an attacker with the password of the database does.
var (
	attack  = store.NewDomain("attack", attackTables)
	change  = attack.Query(`UPDATE audit_row SET actor = 'nobody' WHERE org = ? AND seq = ?`)
	remove  = attack.Query(`DELETE FROM audit_row WHERE org = ? AND seq >= ? AND seq <= ?`)
	move    = attack.Query(`UPDATE audit_row SET seq = ? WHERE org = ? AND seq = ?`)
	rehash  = attack.Query(`UPDATE audit_row SET hash = ? WHERE org = ? AND seq = ?`)
	setHead = attack.Query(`UPDATE audit_head SET seq = ?, hash = ? WHERE org = ?`)
	oldHead = attack.Query(`UPDATE audit_head SET seq = ?, hash = ?, mac = ? WHERE org = ?`)
	getHead = attack.Query(`SELECT seq, hash, mac FROM audit_head WHERE org = ?`)
	noHead  = attack.Query(`DELETE FROM audit_head WHERE org = ?`)
	noKey   = attack.Query(`DELETE FROM audit_key WHERE org = ?`)
)

func TestQueries(t *testing.T) { storetest.Check(t, seal.Domain, audit.Domain, attack) }

func start(t *testing.T, database string) (*store.Store, *seal.Barrier, *audit.Log) {
	t.Helper()
	s := storetest.Open(t, database, seal.Domain, audit.Domain, attack)
	k, _, err := seal.NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var seconds atomic.Int64
	now := func() time.Time {
		return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC).Add(time.Duration(seconds.Add(1)) * time.Second)
	}
	b := seal.New(now)
	if err := b.Init(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	return s, b, audit.New(b, now)
}

func entry(org string, n int) audit.Entry {
	return audit.Entry{Org: org, Event: "key.release", Outcome: audit.Done, Actor: fmt.Sprint("user", n), Client: "phone", Object: "key 1", Resource: "space"}
}

func appendRows(t testing.TB, s *store.Store, l *audit.Log, org string, n int) {
	t.Helper()
	for i := range n {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := l.Append(tx, entry(org, i)); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

func exec(t *testing.T, s *store.Store, q store.Query, args ...any) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		n, err := tx.Exec(q, args...)
		if err == nil && n == 0 {
			err = errors.New("no row was changed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Whatever is changed, deleted, put elsewhere or cut off is found (row AU1).
func TestVerifyFindsWhatWasDone(t *testing.T) {
	type kms struct {
		*testing.T
		s    *store.Store
		l    *audit.Log
		rows []audit.Row
	}
	type head struct {
		seq       int64
		hash, mac []byte
	}
	read := func(k kms) (h head) {
		if err := k.s.View(k.Context(), func(tx *store.Tx) error { return tx.One(getHead, []any{"a"}, &h.seq, &h.hash, &h.mac) }); err != nil {
			k.Fatal(err)
		}
		return h
	}
	tests := []struct {
		name   string
		attack func(k kms)
		want   []int64 // rows that a problem is told of
	}{
		{"nothing", func(kms) {}, nil},
		{"a row changed", func(k kms) { exec(k.T, k.s, change, "a", 3) }, []int64{3}},
		{"a row changed and hashed again", func(k kms) {
			exec(k.T, k.s, rehash, k.rows[0].Hash[:], "a", 3)
		}, []int64{3, 4}},
		{"a row deleted", func(k kms) { exec(k.T, k.s, remove, "a", 3, 3) }, []int64{3}},
		{"the first row deleted", func(k kms) { exec(k.T, k.s, remove, "a", 1, 1) }, []int64{1}},
		{"a row deleted and the others moved up", func(k kms) {
			exec(k.T, k.s, remove, "a", 3, 3)
			for seq := 4; seq <= 6; seq++ {
				exec(k.T, k.s, move, seq-1, "a", seq)
			}
		}, []int64{3, 4, 5, 6}},
		{"two rows exchanged", func(k kms) {
			exec(k.T, k.s, move, 99, "a", 3)
			exec(k.T, k.s, move, 3, "a", 4)
			exec(k.T, k.s, move, 4, "a", 99)
		}, []int64{3, 4, 5}},
		{"the end cut off", func(k kms) { exec(k.T, k.s, remove, "a", 5, 6) }, []int64{5}},
		{"the end cut off, and the head moved", func(k kms) {
			exec(k.T, k.s, remove, "a", 5, 6)
			exec(k.T, k.s, setHead, 4, k.rows[3].Hash[:], "a")
		}, []int64{4}},
		{"all of it deleted", func(k kms) { exec(k.T, k.s, remove, "a", 1, 6) }, []int64{1}},
		{"the head deleted", func(k kms) { exec(k.T, k.s, noHead, "a") }, []int64{6}},
		{"the whole chain deleted", func(k kms) {
			exec(k.T, k.s, remove, "a", 1, 6)
			exec(k.T, k.s, noHead, "a")
		}, []int64{1}},
		{"the key of the head deleted", func(k kms) { exec(k.T, k.s, noKey, "a") }, []int64{6}},
	}
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				if e == storetest.Postgres && testing.Short() {
					t.Skip("SQLite shows it")
				}
				s, _, l := start(t, e.Fresh(t))
				appendRows(t, s, l, "a", 6)
				appendRows(t, s, l, "b", 2)
				k := kms{t, s, l, rows(t, s, "a")}
				test.attack(k)
				reports, err := l.VerifyAll(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				var got []int64
				for _, r := range reports {
					if r.Org != "a" && len(r.Problems) > 0 {
						t.Errorf("problems of %q: %v", r.Org, r.Problems)
					}
					for _, p := range r.Problems {
						if len(got) == 0 || got[len(got)-1] != p.Seq {
							got = append(got, p.Seq)
						}
					}
				}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Errorf("rows with a problem (-want +got):\n%s%v", d, reports)
				}
			})
		}
	})
	t.Run("an earlier day", func(t *testing.T) {
		s, _, l := start(t, storetest.SQLite.Fresh(t))
		appendRows(t, s, l, "a", 4)
		k := kms{t, s, l, nil}
		was := read(k)
		appendRows(t, s, l, "a", 2)
		noted, err := l.Verify(t.Context(), s, "a")
		if err != nil || noted.Rows != 6 || noted.Head.Seq != 6 {
			t.Fatalf("%+v, %v", noted, err)
		}
		exec(t, s, remove, "a", 5, 6)
		exec(t, s, oldHead, was.seq, was.hash, was.mac, "a")
		if r, err := l.Verify(t.Context(), s, "a"); err != nil || len(r.Problems) != 0 {
			t.Fatalf("without an anchor it looks whole, so this test would show nothing: %+v, %v", r, err)
		}
		if r, err := l.Verify(t.Context(), s, "a", noted.Head); err != nil || len(r.Problems) != 1 || r.Problems[0].Seq != 6 {
			t.Errorf("with an anchor: %+v, %v", r, err)
		}
	})
}

func rows(t *testing.T, s *store.Store, org string) (out []audit.Row) {
	t.Helper()
	if err := s.View(t.Context(), func(tx *store.Tx) (err error) {
		out, err = audit.Rows(tx, org, 0, 100000)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A row is there if what it records is, and neither is without the other.
func TestARowIsPartOfItsTransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s, b, l := start(t, e.Fresh(t))
		appendRows(t, s, l, "a", 1)
		wrong := errors.New("changed my mind")
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := l.Append(tx, entry("a", 1))
			return errors.Join(err, wrong)
		}); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
		// The first row of a chain, too: its key was made in a transaction that is not there.
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := l.Append(tx, entry("new", 1))
			return errors.Join(err, wrong)
		}); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
		appendRows(t, s, l, "new", 2)
		appendRows(t, s, l, "a", 1)
		reports, err := l.VerifyAll(t.Context(), s)
		if err != nil || len(reports) != 3 {
			t.Fatalf("%+v, %v", reports, err)
		}
		for _, r := range reports {
			if r.Rows != 2 || len(r.Problems) > 0 || r.Sealed {
				t.Errorf("%+v", r)
			}
		}
		// The text of a stranger is no way to stop the audit.
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			e := entry("a", 1)
			e.Actor, e.Client = "nul \x00 and \xff", "漢字 \"]\\"
			_, err := l.Append(tx, e)
			return err
		}); err != nil {
			t.Error(err)
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			e := entry("a", 1)
			e.Actor = strings.Repeat("x", 2000)
			_, err := l.Append(tx, e)
			return err
		}); !errors.Is(err, audit.ErrTooLong) {
			t.Errorf("a long text: %v", err)
		}
		if r, err := l.Verify(t.Context(), s, "a"); err != nil || r.Rows != 3 || len(r.Problems) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		// Sealed, nothing is recorded, so nothing can be released; the chain itself can be checked.
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := l.Append(tx, entry("a", 1)); return err }); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("sealed: %v", err)
		}
		if r, err := l.Verify(t.Context(), s, "a"); err != nil || !r.Sealed || len(r.Problems) > 0 {
			t.Errorf("sealed: %+v, %v", r, err)
		}
	})
}

// Chains of several organisations are written at once, and the key of their heads changes meanwhile.
func TestChainsUnderLoad(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s, b, l := start(t, e.Fresh(t))
		done := make(chan error, 3)
		for w := range cap(done) {
			go func() { // ends with its rows
				for n := range 30 {
					if err := s.Update(context.Background(), func(tx *store.Tx) error {
						_, err := l.Append(tx, entry(fmt.Sprint("org", w), n))
						return err
					}); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 5 {
			if err := s.Update(t.Context(), func(tx *store.Tx) error {
				if err := b.NewKEK(tx, "org1"); err != nil {
					return err
				}
				if err := l.Rewrap(tx, "org1"); err != nil {
					return err
				}
				return b.DropKEKs(tx, "org1")
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		reports, err := l.VerifyAll(t.Context(), s)
		if err != nil || len(reports) != 4 {
			t.Fatalf("%d chains, %v", len(reports), err)
		}
		for _, r := range reports {
			if len(r.Problems) > 0 || r.Org != "" && r.Rows != 30 {
				t.Errorf("%+v", r)
			}
		}
	})
}
