package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

//go:embed migrations/*.sql
var migrations embed.FS

// own is the domain of the store itself.
var own = NewDomain("store", sub(migrations, "migrations"))

func sub(root embed.FS, dir string) fs.FS {
	f, err := fs.Sub(root, dir)
	if err != nil {
		panic("store: " + err.Error()) // the name above is no path
	}
	return f
}

var (
	findKey = own.Query(`SELECT request, response FROM idempotency WHERE scope = ? AND key = ?`)
	keepKey = own.Query(`INSERT INTO idempotency (scope, key, request, response, at) VALUES (?, ?, ?, ?, ?)`)
	dropOld = own.Query(`DELETE FROM idempotency WHERE at < ?`)
)

// Key names a request that its sender may repeat.
type Key struct {
	Scope   string // who sent it and what for: keys of one sender are no business of another
	ID      string // what the sender chose, at random
	Request []byte // the request itself, of which a hash is kept: one key is for one request
}

// Once runs f as Update does, but for each key one time only: a repetition gets the response that f gave then, and repeated is
// true. The response is kept in the same transaction as what f writes. Because a repetition is harmless, an outcome that is not
// known is tried again here. A key that comes with another request is refused as ErrReused.
func (s *Store) Once(ctx context.Context, k Key, f func(*Tx) ([]byte, error)) (response []byte, repeated bool, err error) {
	if k.Scope == "" || k.ID == "" || len(k.ID) > 200 {
		return nil, false, fmt.Errorf("store: an idempotency key has a scope and 1 to 200 bytes, not %d", len(k.ID))
	}
	begin := time.Now()
	sum := sha256.Sum256(k.Request)
	for {
		err = s.Update(ctx, func(tx *Tx) error {
			var request []byte
			switch err := tx.One(findKey, []any{k.Scope, k.ID}, &request, &response); {
			case err == nil && string(request) != string(sum[:]):
				return ErrReused
			case err == nil:
				repeated = true
				return nil
			case !errors.Is(err, ErrNone):
				return err
			}
			repeated = false
			var err error
			if response, err = f(tx); err != nil {
				return err
			}
			if response == nil {
				response = []byte{} // NULL would be another thing
			}
			_, err = tx.Exec(keepKey, k.Scope, k.ID, sum[:], response, Micros(begin))
			return err
		})
		if errors.Is(err, ErrUnknown) && ctx.Err() == nil && time.Since(begin) < s.cfg.Patience {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		return response, repeated, nil
	}
}

// Forget drops keys from before a time, after which a repetition is a new request, and returns how many.
func (s *Store) Forget(ctx context.Context, before time.Time) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n, err = tx.Exec(dropOld, Micros(before))
		return err
	})
	return n, err
}
