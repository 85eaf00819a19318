package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/audit"
)

// Rows of the time in which the database is away come into their chains later, each one time, whatever breaks off when.
func TestSpool(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s, _, l := start(t, e.Fresh(t))
		path := filepath.Join(t.TempDir(), "spool")
		at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
		open := func() *audit.Spool {
			t.Helper()
			sp, err := audit.OpenSpool(path, 5)
			if err != nil {
				t.Fatal(err)
			}
			return sp
		}
		sp := open()
		for n := range 5 {
			if err := sp.Add(entry("a", n), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := sp.Add(entry("a", 5), at); !errors.Is(err, audit.ErrSpoolFull) {
			t.Errorf("a sixth row: %v", err)
		}
		// Killed: the file is what it is, with a row that was not acknowledged at its end.
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		length := (len(text) - 36) / 5
		if err := os.WriteFile(path, append(text, text[36:36+length-1]...), 0o600); err != nil {
			t.Fatal(err)
		}
		sp = open()
		if sp.Len() != 5 {
			t.Errorf("%d rows after the kill", sp.Len())
		}
		if n, err := sp.Drain(t.Context(), s, l); n != 5 || err != nil {
			t.Errorf("%d rows drained, %v", n, err)
		}
		if err := sp.Add(entry("a", 6), at); err != nil {
			t.Fatal(err)
		}
		// Killed again, after the rows were committed and before the file was removed.
		if err := errors.Join(sp.Close(), os.WriteFile(path+".draining", text, 0o600)); err != nil {
			t.Fatal(err)
		}
		if sp = open(); sp.Len() != 6 {
			t.Errorf("%d rows are not known to be in their chains, want 6", sp.Len())
		}
		if n, err := sp.Drain(t.Context(), s, l); n != 1 || err != nil {
			t.Errorf("%d rows drained, %v; want the new one", n, err)
		}
		if sp.Len() != 0 {
			t.Errorf("%d rows left", sp.Len())
		}
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := l.Verify(t.Context(), s, "a")
		if err != nil || r.Rows != 6 || len(r.Problems) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if first := rows(t, s, "a")[0]; !first.At.Equal(at) || first.Actor != "user0" {
			t.Errorf("the first row is %v", first)
		}
		// Damage amid the file is no end of it.
		text[60] ^= 1
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.OpenSpool(path, 5); !errors.Is(err, audit.ErrSpoolDamaged) {
			t.Errorf("a damaged file: %v", err)
		}
	})
}

func FuzzSpool(f *testing.F) {
	path := filepath.Join(f.TempDir(), "spool")
	sp, err := audit.OpenSpool(path, 5)
	if err != nil {
		f.Fatal(err)
	}
	if err := sp.Add(entry("a", 1), time.Unix(1, 0)); err != nil {
		f.Fatal(err)
	}
	if err := sp.Close(); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)-1])
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "spool")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		sp, err := audit.OpenSpool(path, 1<<20)
		if err != nil {
			return
		}
		n := sp.Len()
		// Whatever stands at its end, what is added is read back.
		if err := sp.Add(entry("b", 2), time.Unix(2, 0)); err != nil {
			t.Fatal(err)
		}
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := audit.OpenSpool(path, 1<<20)
		if err != nil || again.Len() != n+1 {
			t.Fatalf("%v; want %d rows", err, n+1)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
