// Package storetest runs tests on both engines of the store. A package whose tests use it has
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
//
// so that one PostgreSQL serves all its tests. It listens on a socket in a folder of its own and ends with them; no service of the
// machine is used or touched. Without PostgreSQL tests on it are skipped under -short and fail otherwise.
package storetest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sotto-edge/sotto/internal/store"
)

var shared struct {
	sync.Mutex
	server    *Server
	databases atomic.Int64
}

// Main runs the tests of a package and stops the server that they have started.
func Main(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "storetest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Shared returns the server of all tests of the package.
func Shared(t testing.TB) *Server {
	t.Helper()
	Need(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := StartServer()
		if err != nil {
			t.Fatal(err)
		}
		shared.server = s
	}
	return shared.server
}

// Engine is one of the two.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Fresh returns the address of an empty database.
func (e Engine) Fresh(t testing.TB) string {
	t.Helper()
	if e == SQLite {
		return filepath.Join(t.TempDir(), "test #1?.db") // a name that needs quoting in addresses
	}
	s := Shared(t)
	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	if err := Run("createdb", "-h", s.Dir, "-U", "postgres", name); err != nil {
		t.Fatal(err)
	}
	return s.DSN(name)
}

// Each runs a test on both engines, each time with an empty database.
func Each(t *testing.T, f func(t *testing.T, e Engine)) {
	t.Helper()
	for _, e := range []Engine{SQLite, Postgres} {
		t.Run(string(e), func(t *testing.T) { f(t, e) })
	}
}

// Open opens a database for a test, which closes it.
func Open(t testing.TB, database string, domains ...*store.Domain) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Database: database, Domains: domains})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// Check is the test that every domain has: its migrations run on both engines, and both take every query of it.
func Check(t *testing.T, domains ...*store.Domain) {
	t.Helper()
	Each(t, func(t *testing.T, e Engine) {
		if err := Open(t, e.Fresh(t), domains...).Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
