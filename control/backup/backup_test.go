package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/control/backup"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// The domain of these tests. The table that refers comes first in the alphabet.
var (
	things = store.NewDomain("things", fstest.MapFS{"00001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE thing (id BIGINT PRIMARY KEY, t TEXT, b BYTEA, o BOOLEAN NOT NULL, f DOUBLE PRECISION);
CREATE TABLE part (id BIGINT PRIMARY KEY, thing BIGINT NOT NULL REFERENCES thing (id));
INSERT INTO thing (id, o) VALUES (-1, TRUE);
`)}})
	addThing  = things.Query(`INSERT INTO thing (id, t, b, o, f) VALUES (?, ?, ?, ?, ?)`)
	addPart   = things.Query(`INSERT INTO part (id, thing) VALUES (?, ?)`)
	allThings = things.Query(`SELECT id, t, b, o, f FROM thing ORDER BY id`)
	dropThing = things.Query(`DELETE FROM part WHERE id = ?`)
)

func row(r store.Row) (string, error) {
	var id int64
	var text *string
	var bytes []byte
	var open bool
	var f *float64
	err := r.Scan(&id, &text, &bytes, &open, &f)
	out := fmt.Sprint(id, " ", open)
	if text != nil {
		out += fmt.Sprintf(" %q", *text)
	}
	if f != nil {
		out += fmt.Sprint(" ", *f)
	}
	return fmt.Sprintf("%s %x", out, bytes), err
}

func rows(t *testing.T, database string) (out []string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Database: database, Domains: []*store.Domain{things}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx *store.Tx) (err error) { out, err = store.All(tx, allThings, nil, row); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func cfg(database string) store.Config {
	return store.Config{Database: database, Domains: []*store.Domain{things}}
}

// filled makes a data folder with a database, open and being written to while the backup is made.
func filled(t *testing.T, e storetest.Engine) (dir, database string) {
	t.Helper()
	dir, database = t.TempDir(), e.Fresh(t)
	for name, content := range map[string]string{"seed": "secret\n", "admin/token": "t", "lock": "not kept"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := storetest.Open(t, database, things)
	_, _, err := s.Once(t.Context(), store.Key{Scope: "s", ID: "1"}, func(tx *store.Tx) ([]byte, error) {
		for i := range 50 {
			if _, err := tx.Exec(addThing, i, strings.Repeat("漢'\n", i*300), []byte{0, byte(i)}, i%2 == 0, float64(i)/3); err != nil {
				return nil, err
			}
		}
		_, err := tx.Exec(addThing, 50, nil, []byte{}, true, 1.0)
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(addThing, 51, "", nil, false, nil)
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(addPart, 1, 7)
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir, database
}

func written(t *testing.T, dir, database string, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := backup.Write(t.Context(), &out, backup.Source{
		Dir: dir, Files: []string{"seed", "owner-token", "admin"}, Store: cfg(database), Program: "test", Now: time.Unix(1, 0),
	}, to...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// From each engine into each, beside a process that has the database open.
func TestBackupAndRestore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, from storetest.Engine) {
		key := identity(t)
		dir, database := filled(t, from)
		file := written(t, dir, database, key.Recipient())
		if bytes.Contains(file, []byte("secret")) {
			t.Error("the backup is readable")
		}
		want := rows(t, database)
		if len(want) != 53 {
			t.Fatalf("%d rows to begin with", len(want))
		}
		storetest.Each(t, func(t *testing.T, to storetest.Engine) {
			o, err := backup.Open(bytes.NewReader(file), t.TempDir(), key)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := o.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := o.Verify(t.Context(), []*store.Domain{things}); err != nil {
				t.Fatal(err)
			}
			target, empty := t.TempDir(), to.Fresh(t)
			if err := o.Restore(t.Context(), target, cfg(empty), false); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, rows(t, empty)); d != "" {
				t.Errorf("rows (-before +restored):\n%s", d)
			}
			for name, content := range map[string]string{"seed": "secret\n", "admin/token": "t"} {
				if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != content {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			if _, err := os.Stat(filepath.Join(target, "lock")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file came along that was not asked for: %v", err)
			}
		})
	})
}

func TestRestoreOverwritesNothing(t *testing.T) {
	key := identity(t)
	dir, database := filled(t, storetest.SQLite)
	file := written(t, dir, database, key.Recipient())
	open := func() *backup.Opened {
		t.Helper()
		o, err := backup.Open(bytes.NewReader(file), t.TempDir(), key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = o.Close() })
		return o
	}
	target := t.TempDir()
	live := filepath.Join(target, "core.db")
	if err := open().Restore(t.Context(), target, cfg(live), false); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), cfg(live))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(dropThing, 1); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	if err := open().Restore(t.Context(), target, cfg(live), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over what is there: %v", err)
	}
	if err := open().Restore(t.Context(), t.TempDir(), cfg(live), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a database: %v", err)
	}
	if after, err := os.ReadFile(live); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the refused restore has changed the database: %v", err)
	}
	if err := open().Restore(t.Context(), target, cfg(live), true); err != nil {
		t.Errorf("by force: %v", err)
	}
	if got := rows(t, live); len(got) != 53 {
		t.Errorf("%d rows after it", len(got))
	}
}

func TestOnlyWholeBackups(t *testing.T) {
	key := identity(t)
	dir, database := filled(t, storetest.SQLite)
	file := written(t, dir, database, key.Recipient())
	open := func(b []byte, i age.Identity) error {
		parent := t.TempDir()
		o, err := backup.Open(bytes.NewReader(b), parent, i)
		if err == nil {
			err = o.Close()
			return errors.Join(err, nil)
		}
		if left, listErr := os.ReadDir(parent); listErr != nil || len(left) > 0 {
			t.Errorf("a refused backup leaves %v, %v", left, listErr)
		}
		return err
	}
	if err := open(file, key); err != nil {
		t.Fatal(err)
	}
	if err := open(file, identity(t)); err == nil {
		t.Error("opened with another key")
	}
	for _, n := range []int{0, 10, 200, len(file) / 2, len(file) - 1} {
		if open(file[:n], key) == nil {
			t.Errorf("opened %d of %d bytes", n, len(file))
		}
	}
	for at := 3; at < len(file); at += len(file) / 15 {
		bad := bytes.Clone(file)
		bad[at] ^= 4
		if open(bad, key) == nil {
			t.Errorf("opened with byte %d changed", at)
		}
	}
	// Whoever has the public key can write a backup. It must not reach outside, and its manifest has to be true.
	for name, content := range map[string][]byte{
		"no manifest":  sealed(t, key, "files/seed", "x"),
		"wrong sum":    sealed(t, key, "files/seed", "x", "manifest.json", `{"format":1,"entries":[{"name":"files/seed","size":1,"sha256":"00"}]}`),
		"unnamed file": sealed(t, key, "files/seed", "x", "manifest.json", `{"format":1,"entries":[]}`),
		"way out":      sealed(t, key, "../../seed", "x", "manifest.json", `{"format":1}`),
		"twice":        sealed(t, key, "files/seed", "x", "files/seed", "y", "manifest.json", `{"format":1}`),
		"later format": sealed(t, key, "manifest.json", `{"format":2}`),
	} {
		if open(content, key) == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := backup.Write(context.Background(), &bytes.Buffer{}, backup.Source{Store: cfg(filepath.Join(t.TempDir(), "none.db"))}, key.Recipient()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database that is not there: %v", err)
	}
}
