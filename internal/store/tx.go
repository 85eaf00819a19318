package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Tx is a transaction, good until the function that got it returns. It is used by one goroutine.
type Tx struct {
	ctx context.Context
	on  statements
}

// statements runs statements in the transaction of an engine.
type statements interface {
	exec(ctx context.Context, q Query, args []any) (sql.Result, error)
	query(ctx context.Context, q Query, args []any) (*sql.Rows, error)
}

// Row is what Scan of a row takes: columns in the order of the query.
type Row interface{ Scan(dest ...any) error }

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(q Query, args ...any) (int64, error) {
	if err := tx.ctx.Err(); err != nil {
		return 0, err
	}
	r, err := tx.on.exec(tx.ctx, q, args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// One scans the first row that a query returns; ErrNone when there is none. An empty BYTEA may be read as a nil slice.
func (tx *Tx) One(q Query, args []any, dest ...any) (err error) {
	if err := tx.ctx.Err(); err != nil {
		return err
	}
	rows, err := tx.on.query(tx.ctx, q, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return ErrNone
	}
	if err := rows.Scan(dest...); err != nil {
		return fmt.Errorf("store: scan: %w", err)
	}
	// An error of a statement that also writes may come with its end.
	for rows.Next() {
	}
	return rows.Err()
}

// All returns what scan makes of each row of a query. The rows are read before it returns: while a query is under way, a
// connection of PostgreSQL does nothing else.
func All[T any](tx *Tx, q Query, args []any, scan func(Row) (T, error)) (out []T, err error) {
	if err := tx.ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := tx.on.query(tx.ctx, q, args)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("store: scan: %w", err)
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Micros is how a point in time is stored: a BIGINT of microseconds since 1970, in UTC by nature. The two engines agree on
// little else about time.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the point in time of a stored one.
func Time(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
