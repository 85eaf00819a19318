// Package store keeps what must not be lost: one schema and one query text on two engines, an SQLite file beside the appliance or
// PostgreSQL (15 and later) behind it. docs/storage.md tells operators about both.
//
// It owns the connections, the transactions and the versions of the schema; the SQL belongs to each Domain. It promises that
// what Update has acknowledged is on the disk, and with synchronous standbys on theirs; that transactions are as if one ran after
// the other, on both engines; that conflicts and failovers are tried again for a bounded time, which is then told; that an
// outcome that nobody can know is called ErrUnknown and never success; and that a database which a newer program wrote is not touched.
//
// It has no objects, builds no queries and caches no rows. Secrets are for the caller to encrypt before they come here.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// Errors to match. ErrUnknown is the one to take seriously: the write may be there or not. Once knows how to go on.
var (
	ErrNone    = errors.New("store: no such row")
	ErrUnknown = errors.New("store: whether it was written is not known: repeat it under the same idempotency key")
	ErrNewer   = errors.New("store: the database was written by a newer program")
	ErrClosed  = errors.New("store: closed")
	ErrReused  = errors.New("store: the idempotency key was used for another request")
)

// Config is where the database is and what is in it.
type Config struct {
	// Database is the path of an SQLite file, which is made when it is not there, or a PostgreSQL address: postgres://… or
	// host=… with as many hosts as there are nodes. The one that takes writes is found among them.
	Database string
	// Domains are whose tables are there. The store's own, for idempotency keys, comes by itself.
	Domains []*Domain
	// Connections is how many transactions run at a time; SQLite writes in one more. [8]
	Connections int
	// Patience is how long a database is waited for that is not reachable: longer than a failover takes. A context that ends
	// before goes first. [40 s]
	Patience time.Duration
	// Log is told of waiting and of reconnecting. [discards]
	Log *slog.Logger
}

// conflicts is how often a transaction is tried that others get in the way of.
const conflicts = 20

// engine is one of the two databases.
type engine interface {
	update(ctx context.Context, f func(*Tx) error) error
	view(ctx context.Context, f func(*Tx) error) error
	// verdict says what an error means.
	verdict(err error) verdict
	close() error
}

type verdict int

const (
	final       verdict = iota // somebody has to know of it
	conflict                   // nothing was written; another one was in the way
	unreachable                // nothing was written; the database is away
)

// Store is an open database. All methods may be called from any goroutine.
type Store struct {
	cfg    Config
	engine engine
	counts counters
}

type counters struct{ updates, commits, conflicts, waits, unknown atomic.Int64 }

// Stats counts since the start.
type Stats struct {
	Updates   int64 // transactions that were acknowledged
	Commits   int64 // of the database; fewer than updates when SQLite commits several at once
	Conflicts int64 // tries that another transaction was in the way of
	Waits     int64 // tries that found the database away
	Unknown   int64 // outcomes nobody could know
}

// Open opens the database, makes it if it is an SQLite file that is not there, and brings its tables up to date.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open leaves the schema as it is.
func open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Connections == 0 {
		cfg.Connections = 8
	}
	if cfg.Patience == 0 {
		cfg.Patience = 40 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Domains = append([]*Domain{own}, cfg.Domains...)
	s := &Store{cfg: cfg}
	var err error
	if Remote(cfg.Database) {
		s.engine, err = openPostgres(ctx, s)
	} else {
		s.engine, err = openSQLite(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return s, nil
}

// Remote says whether a Config.Database names a PostgreSQL rather than a file.
func Remote(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") || strings.Contains(database, "host=")
}

// Update runs f in a transaction and returns when what it wrote is durable. f may run several times: it must do nothing but use its Tx and set
// variables of its own, and it must not call the Store. When f returns an error nothing is written, and Update returns that error.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	err := s.retry(ctx, func() error { return s.engine.update(ctx, f) })
	switch {
	case err == nil:
		s.counts.updates.Add(1)
	case errors.Is(err, ErrUnknown):
		s.counts.unknown.Add(1)
	}
	return err
}

// View runs f in a transaction that only reads, and sees one state of the database throughout. f may run several times.
func (s *Store) View(ctx context.Context, f func(*Tx) error) error {
	return s.retry(ctx, func() error { return s.engine.view(ctx, f) })
}

// retry repeats what failed without a trace, and says how long it tried.
func (s *Store) retry(ctx context.Context, try func() error) error {
	begin := time.Now()
	pause := time.Millisecond
	clashes, waited := 0, false
	for attempt := 1; ; attempt++ {
		err := try()
		if err == nil {
			if waited {
				s.cfg.Log.Info("database reached again", "after", time.Since(begin).Round(time.Millisecond))
			}
			return nil
		}
		again, most := false, 50*time.Millisecond
		switch s.engine.verdict(err) {
		case final:
			return err
		case conflict:
			s.counts.conflicts.Add(1)
			clashes++
			again = clashes < conflicts
		case unreachable:
			s.counts.waits.Add(1)
			if !waited {
				s.cfg.Log.Warn("database not reachable, trying again", "for", s.cfg.Patience, "err", err)
			}
			waited, most = true, 500*time.Millisecond
			again = time.Since(begin) < s.cfg.Patience
		}
		if !again || ctx.Err() != nil {
			return fmt.Errorf("store: gave up after %d tries in %v: %w", attempt, time.Since(begin).Round(time.Millisecond), errors.Join(ctx.Err(), err))
		}
		pause = min(2*pause, most)
		wait := time.NewTimer(pause/2 + rand.N(pause)) // those that clashed should not meet again
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

// Stats returns what was counted.
func (s *Store) Stats() Stats {
	c := &s.counts
	return Stats{c.updates.Load(), c.commits.Load(), c.conflicts.Load(), c.waits.Load(), c.unknown.Load()}
}

// Close waits for transactions under way and closes the database. It may be called twice.
func (s *Store) Close() error { return s.engine.close() }
