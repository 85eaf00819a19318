package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/sotto-edge/sotto/internal/store"
)

// Reshare wraps the root keys by a new keeper and drops what the old one opened: old shares, an old file, an old module open nothing
// more from here on. The root keys and everything below stay as they are. The old keeper is closed.
func (b *Barrier) Reshare(ctx context.Context, s *store.Store, k Keeper) error {
	err := s.Update(ctx, func(tx *store.Tx) error {
		rows, err := store.All(tx, allRoots, nil, scanRoot)
		if err != nil {
			return err
		}
		for _, r := range rows {
			root, err := b.root(r)
			if err != nil {
				return err
			}
			var box []byte
			err = root.use(func(key []byte) error {
				box, err = k.Wrap(key, place("root", r.id))
				return err
			})
			if err != nil {
				return err
			}
			if _, err := tx.Exec(wrapRoot, k.ID(), box, r.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.keeper
	if old == nil { // sealed meanwhile: the new keeper opens it again
		return nil
	}
	b.keeper = k
	if old != k {
		return old.Close()
	}
	return nil
}

// RotateRoot makes a new root key, wraps every KEK by it and drops the older ones, while everything is in use. It returns how many
// KEKs it has wrapped. Broken off, it is finished by ResumeRoot or by the next RotateRoot.
func (b *Barrier) RotateRoot(ctx context.Context, s *store.Store) (int, error) {
	b.mu.RLock()
	k := b.keeper
	b.mu.RUnlock()
	if k == nil {
		return 0, ErrSealed
	}
	id, m, box, _, err := freshRoot(k)
	if err != nil {
		return 0, err
	}
	m.wipe() // read again from its row: what was not committed is not used
	err = s.Update(ctx, func(tx *store.Tx) error {
		var r rootRow
		if err := tx.One(newestRoot, nil, &r.id, &r.version, &r.keeper, &r.wrapped); err != nil {
			return err
		}
		if r.keeper != k.ID() {
			return fmt.Errorf("%w: another node has re-shared; unseal this one again", ErrKeeper)
		}
		_, err := tx.Exec(addRoot, id, r.version+1, k.ID(), box, store.Micros(b.now()))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrUnknown) { // not known: the next step sees what is there
		return 0, err
	}
	return b.ResumeRoot(ctx, s)
}

// ResumeRoot finishes a RotateRoot that was broken off. It is for after each Unseal, and does nothing when there is nothing to do.
func (b *Barrier) ResumeRoot(ctx context.Context, s *store.Store) (int, error) {
	total := 0
	for {
		n := 0
		var newest rootRow
		err := s.Update(ctx, func(tx *store.Tx) (err error) {
			n, newest, err = b.rewrapKEKs(tx)
			return err
		})
		total += n
		if err != nil {
			return total, err
		}
		if n > 0 {
			continue
		}
		b.mu.Lock()
		for id, m := range b.roots {
			if id != newest.id {
				m.wipe()
				delete(b.roots, id)
			}
		}
		b.mu.Unlock()
		return total, nil
	}
}

// rewrapKEKs wraps some KEKs by the newest root key; when there are none it drops the root keys before.
func (b *Barrier) rewrapKEKs(tx *store.Tx) (n int, newest rootRow, err error) {
	if err := tx.One(newestRoot, nil, &newest.id, &newest.version, &newest.keeper, &newest.wrapped); err != nil {
		return 0, newest, err
	}
	type row struct {
		id, org, root string
		wrapped       []byte
	}
	rows, err := store.All(tx, staleKEKs, []any{newest.id}, func(r store.Row) (out row, err error) {
		err = r.Scan(&out.id, &out.org, &out.root, &out.wrapped)
		return out, err
	})
	if err != nil {
		return 0, newest, err
	}
	for _, r := range rows {
		key, err := b.openKEK(tx, r.org, r.id)
		if err != nil {
			return 0, newest, err
		}
		box, err := b.wrapKEK(newest, key, r.org, r.id)
		key.Wipe()
		if err != nil {
			return 0, newest, err
		}
		if changed, err := tx.Exec(wrapKEK, newest.id, box, r.id, r.root); err != nil || changed != 1 {
			return 0, newest, errors.Join(err, fmt.Errorf("seal: key-encryption key %s: %d rows changed", r.id, changed))
		}
	}
	if len(rows) > 0 {
		return len(rows), newest, nil
	}
	_, err = tx.Exec(dropRoots, newest.version)
	return 0, newest, err
}

// NewKEK makes a new KEK for an organisation. What is wrapped from here on is wrapped by it; what was is for its owners to Rewrap, who
// call DropKEKs when nothing is left.
func (b *Barrier) NewKEK(tx *store.Tx, org string) error {
	var id, root string
	var version int64
	var wrapped []byte
	err := tx.One(newestKEK, []any{org}, &id, &version, &root, &wrapped)
	if err != nil && !errors.Is(err, store.ErrNone) {
		return err
	}
	_, err = b.addKEK(tx, org, version+1)
	return err
}

// Newest returns the id of the KEK that an organisation's keys are to be wrapped by.
func (b *Barrier) Newest(tx *store.Tx, org string) (string, error) { return b.current(tx, org) }

// DropKEKs drops the KEKs of an organisation except the newest. The caller has seen in the same transaction that no box names them.
func (b *Barrier) DropKEKs(tx *store.Tx, org string) error {
	var id, root string
	var version int64
	var wrapped []byte
	if err := tx.One(newestKEK, []any{org}, &id, &version, &root, &wrapped); err != nil {
		return err
	}
	_, err := tx.Exec(dropKEKs, org, version)
	return err
}

// Changing returns the organisations whose change of KEK was begun and is not finished.
func (b *Barrier) Changing(tx *store.Tx) ([]string, error) {
	return store.All(tx, changing, nil, func(r store.Row) (org string, err error) {
		err = r.Scan(&org)
		return org, err
	})
}
