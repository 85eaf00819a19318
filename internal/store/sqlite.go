package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sotto-edge/sotto/internal/run"
)

// sqliteEngine has one writer, a goroutine that commits together what waits together, and readers that it does not disturb
// (write-ahead log).
type sqliteEngine struct {
	counts  *counters
	readers *sql.DB
	writer  *sql.DB // of the goroutine; migrations, before it writes
	group   *run.Group
	queue   chan *write

	// Of the goroutine.
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

// write is an Update on its way through the writer.
type write struct {
	ctx   context.Context
	f     func(*Tx) error
	ran   chan error // what f returned
	done  chan error // what the commit returned; after nil on ran only
	panic any
}

// groupSize bounds what is committed at once, and with it what a crash takes along of what nobody has been told of.
const groupSize = 128

func openSQLite(ctx context.Context, s *Store) (*sqliteEngine, error) {
	// Made before SQLite makes it, for the mode; its log files get the same.
	f, err := os.OpenFile(s.cfg.Database, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(s.cfg.Database)
	if err != nil {
		return nil, err
	}
	address := func(more ...string) string {
		q := url.Values{"_pragma": append([]string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, more...), "_txlock": {"immediate"}}
		return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
	}
	e := &sqliteEngine{counts: &s.counts, queue: make(chan *write), prepared: map[string]*sql.Stmt{}}
	if e.writer, err = sql.Open("sqlite", address()); err != nil {
		return nil, err
	}
	if e.readers, err = sql.Open("sqlite", address("query_only(1)")); err != nil {
		return nil, errors.Join(err, e.writer.Close())
	}
	e.readers.SetMaxOpenConns(s.cfg.Connections)
	e.readers.SetMaxIdleConns(s.cfg.Connections)
	e.group = run.NewGroup(context.Background())
	if err := e.durable(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.group.Go("store writer", e.serve)
	return e, nil
}

// durable opens the writer's connection and asks whether commits on it will last: a file system without shared memory, for one,
// has no write-ahead log, and SQLite falls back without an error.
func (e *sqliteEngine) durable(ctx context.Context) error {
	var err error
	if e.conn, err = e.writer.Conn(ctx); err != nil {
		return err
	}
	var journal string
	var synchronous int
	if err := e.conn.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&journal); err != nil {
		return err
	}
	if err := e.conn.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&synchronous); err != nil {
		return err
	}
	if journal != "wal" || synchronous != 2 {
		return fmt.Errorf("SQLite would not keep what it acknowledges here (journal_mode %s, synchronous %d, wanted wal and 2): put the file on a local disk", journal, synchronous)
	}
	return nil
}

func (e *sqliteEngine) update(ctx context.Context, f func(*Tx) error) error {
	w := &write{ctx: ctx, f: f, ran: make(chan error, 1), done: make(chan error, 1)}
	select {
	case e.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.group.Context().Done():
		return ErrClosed
	}
	// f uses the caller's variables: it is waited for, whatever the context says. Its statements look at the context.
	err := <-w.ran
	if w.panic != nil {
		panic(w.panic)
	}
	if err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrUnknown, ctx.Err())
	}
}

func (e *sqliteEngine) serve(ctx context.Context) error {
	for {
		select {
		case w := <-e.queue:
			e.commit(w)
		case <-ctx.Done():
			return nil
		}
	}
}

var errGroup = errors.New("store: the transaction that it was to be committed with failed")

// commit runs a write, and those that wait by then, in one transaction of the database. Each has a savepoint of its own, so that
// one which fails takes nobody along.
func (e *sqliteEngine) commit(first *write) {
	// Statements do not see the context: an interrupted one makes SQLite roll back the whole transaction.
	ctx := context.Background()
	if err := e.command(ctx, "BEGIN IMMEDIATE"); err != nil {
		first.ran <- err
		return
	}
	var group []*write
	for w := first; w != nil; w = e.waiting(len(group)) {
		err := e.command(ctx, "SAVEPOINT one")
		if err == nil {
			err = e.run(w)
			if err != nil {
				// The whole transaction is gone after a full disk and the like. Then there is no savepoint any more.
				err = errors.Join(err, e.command(ctx, "ROLLBACK TO one"))
			}
			if end := e.command(ctx, "RELEASE one"); end != nil {
				w.ran <- errors.Join(err, end)
				e.abandon(ctx, group)
				return
			}
		}
		w.ran <- err
		if err == nil {
			group = append(group, w)
		}
	}
	if len(group) == 0 {
		e.abandon(ctx, nil)
		return
	}
	err := e.command(ctx, "COMMIT")
	if err != nil {
		// Rolled back in this process; what a crash from here on would find in the log, nobody knows.
		err = fmt.Errorf("%w (%w)", ErrUnknown, errors.Join(err, e.command(ctx, "ROLLBACK")))
	} else {
		e.counts.commits.Add(1)
	}
	for _, w := range group {
		w.done <- err
	}
}

// abandon ends a transaction of which nothing is to be kept. SQLite may have ended it before: an error says no more.
func (e *sqliteEngine) abandon(ctx context.Context, group []*write) {
	_ = e.command(ctx, "ROLLBACK")
	for _, w := range group {
		w.done <- errGroup
	}
}

// waiting returns a write that waits, nil when there is none or the group is full.
func (e *sqliteEngine) waiting(have int) *write {
	if have >= groupSize {
		return nil
	}
	for range 2 {
		select {
		case w := <-e.queue:
			return w
		default:
			runtime.Gosched() // those whom the last commit has released are about to come again
		}
	}
	return nil
}

func (e *sqliteEngine) run(w *write) (err error) {
	defer func() {
		if w.panic = recover(); w.panic != nil {
			err = errors.New("store: panic in a transaction")
		}
	}()
	return w.f(&Tx{ctx: w.ctx, on: (*sqliteWriter)(e)})
}

func (e *sqliteEngine) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	if s := e.prepared[text]; s != nil {
		return s, nil
	}
	s, err := e.conn.PrepareContext(ctx, text)
	if err == nil {
		e.prepared[text] = s // as many as there are queries in the program
	}
	return s, err
}

func (e *sqliteEngine) command(ctx context.Context, text string) error {
	s, err := e.statement(ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// sqliteWriter is the engine as statements of the writer's transaction use it.
type sqliteWriter sqliteEngine

func (w *sqliteWriter) exec(_ context.Context, q Query, args []any) (sql.Result, error) {
	ctx := context.Background()
	s, err := (*sqliteEngine)(w).statement(ctx, q.text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (w *sqliteWriter) query(_ context.Context, q Query, args []any) (*sql.Rows, error) {
	ctx := context.Background()
	s, err := (*sqliteEngine)(w).statement(ctx, q.text)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (e *sqliteEngine) view(ctx context.Context, f func(*Tx) error) (err error) {
	conn, err := e.readers.Conn(ctx)
	if err != nil {
		if e.group.Context().Err() != nil {
			return ErrClosed
		}
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// Not by BeginTx, which would take the writer's lock. The snapshot is that of the first query.
	if _, err := conn.ExecContext(ctx, "BEGIN DEFERRED"); err != nil {
		return err
	}
	defer func() {
		_, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, end)
	}()
	return f(&Tx{ctx: ctx, on: plainText{conn}})
}

// plainText runs statements as they are written.
type plainText struct{ conn *sql.Conn }

func (p plainText) exec(ctx context.Context, q Query, args []any) (sql.Result, error) {
	return p.conn.ExecContext(ctx, q.text, args...)
}

func (p plainText) query(ctx context.Context, q Query, args []any) (*sql.Rows, error) {
	return p.conn.QueryContext(ctx, q.text, args...)
}

func (e *sqliteEngine) verdict(err error) verdict {
	if errors.Is(err, ErrUnknown) {
		return final
	}
	if errors.Is(err, errGroup) {
		return conflict
	}
	var s *sqlite.Error
	if errors.As(err, &s) {
		switch s.Code() & 0xff { // the low byte of an extended code is the plain one
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return conflict
		}
	}
	return final
}

// close ends the writer first; what has been handed to it is committed. Its connection goes last: the last one moves the log into
// the file.
func (e *sqliteEngine) close() error {
	errs := []error{e.group.Stop(), e.readers.Close()}
	for _, s := range e.prepared { // SQLite keeps a connection with statements half open
		errs = append(errs, s.Close())
	}
	clear(e.prepared)
	if e.conn != nil {
		if err := e.conn.Close(); !errors.Is(err, sql.ErrConnDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, e.writer.Close())...)
}
