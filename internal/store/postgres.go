package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// oldest is the oldest PostgreSQL that is tested.
const oldest = 150000

// postgresEngine is a pool of connections to whichever node takes writes.
type postgresEngine struct {
	counts *counters
	db     *sql.DB
	closed atomic.Bool
}

func openPostgres(ctx context.Context, s *Store) (*postgresEngine, error) {
	cfg, err := pgx.ParseConfig(s.cfg.Database)
	if err != nil {
		return nil, err // pgx keeps the password out of it
	}
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 3 * time.Second // for each host: the next one may answer
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "sotto"
	}
	// A node that dies without a word should be noticed before a caller loses patience.
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	cfg.DialFunc = dialer.DialContext
	cfg.OnNotice = notReplicated
	e := &postgresEngine{counts: &s.counts, db: stdlib.OpenDB(*cfg)}
	e.db.SetMaxOpenConns(s.cfg.Connections)
	e.db.SetMaxIdleConns(s.cfg.Connections)
	e.db.SetConnMaxLifetime(time.Hour)
	s.engine = e
	if err := s.retry(ctx, func() error { return e.durable(ctx) }); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// durable refuses a server that acknowledges what it may lose.
func (e *postgresEngine) durable(ctx context.Context) error {
	var version int
	var fsync, commit string
	if err := e.db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&version, &fsync, &commit); err != nil {
		return err
	}
	switch {
	case version < oldest:
		return fmt.Errorf("PostgreSQL %d.%d is too old: 15 or later is needed", version/10000, version%10000)
	case fsync != "on" || commit == "off" || commit == "local":
		return fmt.Errorf("PostgreSQL would not keep what it acknowledges (fsync %s, synchronous_commit %s): set both to on", fsync, commit)
	}
	return nil
}

// unreplicated is set on a connection whose last commit did not wait for the standbys. PostgreSQL says so in a warning, and
// reports success.
const unreplicated = "sotto_unreplicated"

func notReplicated(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" && n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unreplicated] = true
	}
}

func (e *postgresEngine) update(ctx context.Context, f func(*Tx) error) error {
	return e.transaction(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, f)
}

func (e *postgresEngine) view(ctx context.Context, f func(*Tx) error) error {
	return e.transaction(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, f)
}

func (e *postgresEngine) transaction(ctx context.Context, o *sql.TxOptions, f func(*Tx) error) (err error) {
	if e.closed.Load() {
		return ErrClosed
	}
	conn, err := e.db.Conn(ctx)
	if err != nil {
		return lost{err}
	}
	defer func() { _ = conn.Close() }() // gives it back; that it is broken has been said by then
	tx, err := conn.BeginTx(ctx, o)
	if err != nil {
		return lost{err}
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing; what f left undone ends with it, or with the connection
	if err := f(&Tx{ctx: ctx, on: numbered{tx}}); err != nil {
		if pg := (*pgconn.PgError)(nil); o.ReadOnly && errors.As(err, &pg) && pg.Code == readOnly {
			return fmt.Errorf("store: a view cannot write: %s", pg.Message) // and no sign of a failover
		}
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if o.ReadOnly || refused(err) {
			return err
		}
		return fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	if o.ReadOnly {
		return nil
	}
	e.counts.commits.Add(1)
	return conn.Raw(func(dc any) error {
		data := dc.(*stdlib.Conn).Conn().PgConn().CustomData()
		if data[unreplicated] != nil {
			delete(data, unreplicated)
			return fmt.Errorf("%w (committed on one node, but the wait for its standbys was cancelled)", ErrUnknown)
		}
		return nil
	})
}

// refused says whether the server itself said, in so many words, that a commit was not done. FATAL is no such word: the server
// may have committed and not have heard from its standbys.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR" || errors.Is(err, pgx.ErrTxCommitRollback)
}

// lost is an error from before the first statement.
type lost struct{ error }

func (l lost) Unwrap() error { return l.error }

// numbered runs statements with numbered arguments.
type numbered struct{ tx *sql.Tx }

func (n numbered) exec(ctx context.Context, q Query, args []any) (sql.Result, error) {
	return n.tx.ExecContext(ctx, q.numbered, args...)
}

func (n numbered) query(ctx context.Context, q Query, args []any) (*sql.Rows, error) {
	return n.tx.QueryContext(ctx, q.numbered, args...)
}

// readOnly is the code of a write where none is taken.
const readOnly = "25006"

// verdict goes by the codes of PostgreSQL, appendix A of its manual.
func (e *postgresEngine) verdict(err error) verdict {
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*pgconn.ConnectError)) {
		return final
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01": // serialization failure, deadlock
			return conflict
		case readOnly, // the node has become a standby
			"57P01", "57P02", "57P03", // shutting down, crashed, starting
			"53300": // too many connections
			return unreachable
		}
		if pg.Code[:2] == "08" { // connection exceptions
			return unreachable
		}
		return final
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.As(err, new(lost)) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) {
		return unreachable
	}
	return final
}

func (e *postgresEngine) close() error {
	e.closed.Store(true)
	return e.db.Close()
}
