// Package seal keeps the keys of a KMS closed at rest, in three levels: what is kept apart from the database (shares, a file, a
// hardware module: a Keeper) wraps the root key, the root key wraps one key-encryption key (KEK) for each organisation, and that
// wraps the organisation's keys.
//
// It owns the tables of root keys and KEKs, the memory that root keys live in, and the form of what is wrapped. It promises that
// root keys and sealing keys stay in locked memory, that a box opens in the place that it was made for and nowhere else, that each level
// can be changed while the KMS serves, and that a change which was broken off at any point goes on from there: what an old key
// wraps is wrapped anew before that key is dropped, in one transaction each.
//
// Two things that are easily taken for one another: Reshare makes a new sealing key, so that old shares or an old file open nothing
// more; nothing that they protect is touched. RotateRoot makes a new root key and wraps every KEK by it; the shares stay. Who believes that
// shares have leaked re-shares; who believes that the memory of the KMS has leaked rotates the root and every KEK below it.
//
// It does not decide who gets a key, and writes no audit; both are for the caller, in the same transaction.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Domain is the tables of this package.
var Domain = store.NewDomain("kms_seal", sub())

func sub() fs.FS {
	f, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic("seal: " + err.Error()) // the name above is no path
	}
	return f
}

var (
	allRoots   = Domain.Query(`SELECT id, version, keeper, wrapped FROM seal_root ORDER BY version`)
	oneRoot    = Domain.Query(`SELECT id, version, keeper, wrapped FROM seal_root WHERE id = ?`)
	newestRoot = Domain.Query(`SELECT id, version, keeper, wrapped FROM seal_root ORDER BY version DESC LIMIT 1`)
	addRoot    = Domain.Query(`INSERT INTO seal_root (id, version, keeper, wrapped, at) VALUES (?, ?, ?, ?, ?)`)
	wrapRoot   = Domain.Query(`UPDATE seal_root SET keeper = ?, wrapped = ? WHERE id = ?`)
	dropRoots  = Domain.Query(`DELETE FROM seal_root WHERE version < ?`)
	newestKEK  = Domain.Query(`SELECT id, version, root, wrapped FROM seal_kek WHERE org = ? ORDER BY version DESC LIMIT 1`)
	oneKEK     = Domain.Query(`SELECT org, root, wrapped FROM seal_kek WHERE id = ?`)
	addKEK     = Domain.Query(`INSERT INTO seal_kek (id, org, version, root, wrapped, at) VALUES (?, ?, ?, ?, ?, ?)`)
	staleKEKs  = Domain.Query(`SELECT id, org, root, wrapped FROM seal_kek WHERE root <> ? ORDER BY id LIMIT 100`)
	wrapKEK    = Domain.Query(`UPDATE seal_kek SET root = ?, wrapped = ? WHERE id = ? AND root = ?`)
	dropKEKs   = Domain.Query(`DELETE FROM seal_kek WHERE org = ? AND version < ?`)
	changing   = Domain.Query(`SELECT org FROM seal_kek GROUP BY org HAVING count(*) > 1 ORDER BY org`)
)

// Errors to match.
var (
	ErrSealed  = errors.New("seal: sealed: unseal the KMS first")
	ErrInitial = errors.New("seal: there is a root key already")
	ErrNoRoot  = errors.New("seal: no root key yet: initialise the KMS first")
	ErrKeeper  = errors.New("seal: these shares, this file or this module do not open the root key")
)

// Barrier stands between the database and the keys in it. It is made sealed. All methods may be called from any goroutine.
type Barrier struct {
	now func() time.Time

	mu     sync.RWMutex
	keeper Keeper // nil: sealed
	roots  map[string]*memory
	keks   map[string]cipher.Block // by id; what is rolled back never comes again under its id
	how    Protection
}

// maxKEKs bounds how many organisations' keys are held unwrapped.
const maxKEKs = 4096

// New returns a sealed barrier. now is the clock that rows are dated by.
func New(now func() time.Time) *Barrier {
	return &Barrier{now: now, roots: map[string]*memory{}, keks: map[string]cipher.Block{}}
}

type rootRow struct {
	id, keeper string
	version    int64
	wrapped    []byte
}

func scanRoot(r store.Row) (out rootRow, err error) {
	err = r.Scan(&out.id, &out.version, &out.keeper, &out.wrapped)
	return out, err
}

// Init makes the first root key. The barrier is sealed after it as before: unsealing is how one sees that the shares were written down.
func (b *Barrier) Init(ctx context.Context, s *store.Store, k Keeper) error {
	id, m, box, _, err := freshRoot(k)
	if err != nil {
		return err
	}
	m.wipe()
	return s.Update(ctx, func(tx *store.Tx) error {
		roots, err := store.All(tx, allRoots, nil, scanRoot)
		if err != nil {
			return err
		}
		if len(roots) > 0 {
			return ErrInitial
		}
		_, err = tx.Exec(addRoot, id, 1, k.ID(), box, store.Micros(b.now()))
		return err
	})
}

func freshRoot(k Keeper) (id string, m *memory, box []byte, how Protection, err error) {
	id = newID()
	if m, how, err = lock(); err != nil {
		return "", nil, nil, "", err
	}
	err = m.use(func(key []byte) error {
		_, _ = rand.Read(key)
		box, err = k.Wrap(key, place("root", id))
		return err
	})
	if err != nil {
		m.wipe()
	}
	return id, m, box, how, err
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Unseal opens the root keys and keeps them until Seal. The keeper is closed with the barrier. ErrKeeper when it does not open them; then
// the barrier stays sealed.
func (b *Barrier) Unseal(ctx context.Context, s *store.Store, k Keeper) error {
	var rows []rootRow
	err := s.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = store.All(tx, allRoots, nil, scanRoot)
		return err
	})
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return ErrNoRoot
	}
	roots, how := map[string]*memory{}, Protection("")
	for _, r := range rows {
		m, h, err := openRoot(k, r)
		if err != nil {
			wipeAll(roots)
			return err
		}
		roots[r.id], how = m, h
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
	b.keeper, b.roots, b.how = k, roots, how
	return nil
}

func openRoot(k Keeper, r rootRow) (*memory, Protection, error) {
	m, how, err := lock()
	if err != nil {
		return nil, "", err
	}
	if err := m.use(func(key []byte) error { return k.Unwrap(key, r.wrapped, place("root", r.id)) }); err != nil {
		m.wipe()
		if errors.Is(err, ErrDamaged) {
			return nil, "", fmt.Errorf("%w: it is kept by %s, not by %s", ErrKeeper, r.keeper, k.ID())
		}
		return nil, "", err
	}
	return m, how, nil
}

func wipeAll(roots map[string]*memory) {
	for _, m := range roots {
		m.wipe()
	}
}

// Seal forgets every key. What runs ends first; what comes gets ErrSealed.
func (b *Barrier) Seal() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keeper
	b.forget()
	if k != nil {
		return k.Close()
	}
	return nil
}

// forget is Seal under the lock, except for the keeper.
func (b *Barrier) forget() {
	wipeAll(b.roots)
	for _, block := range b.keks {
		scrub(block)
	}
	b.keeper = nil
	clear(b.roots)
	clear(b.keks)
}

// Sealed says whether the barrier is sealed, and how root keys are kept if it is not.
func (b *Barrier) Sealed() (bool, Protection) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.keeper == nil, b.how
}

// Place is where a box belongs. It opens there only.
type Place struct {
	Org  string // whose KEK; "" for what belongs to the KMS itself
	Kind string
	ID   string
}

func (p Place) aad(kek string) []byte { return place("record", p.Org, p.Kind, p.ID, kek) }

// Box is a wrapped key as a row has it.
type Box struct {
	KEK   string // id of the key that it is wrapped by
	Bytes []byte
}

// Wrap wraps a key by the newest KEK of the organisation, which is made if there is none. It belongs into the transaction that
// stores the box: then a KEK in use is never dropped.
func (b *Barrier) Wrap(tx *store.Tx, p Place, key Key) (Box, error) {
	id, err := b.current(tx, p.Org)
	if err != nil {
		return Box{}, err
	}
	box := Box{KEK: id}
	err = b.with(tx, p.Org, id, func(block cipher.Block) error {
		box.Bytes, err = wrap(block, key.Expose(), p.aad(id))
		return err
	})
	return box, err
}

// Unwrap opens a box.
func (b *Barrier) Unwrap(tx *store.Tx, p Place, box Box) (Key, error) {
	key := Key{k: &keyBytes{new([keyLen]byte)}}
	err := b.with(tx, p.Org, box.KEK, func(block cipher.Block) error {
		return unwrap(block, key.Expose(), box.Bytes, p.aad(box.KEK))
	})
	if err != nil {
		return Key{}, err
	}
	return key, nil
}

// Rewrap returns the box under the newest KEK, and false when it is that already.
func (b *Barrier) Rewrap(tx *store.Tx, p Place, box Box) (Box, bool, error) {
	id, err := b.current(tx, p.Org)
	if err != nil || id == box.KEK {
		return box, false, err
	}
	key, err := b.Unwrap(tx, p, box)
	if err != nil {
		return Box{}, false, err
	}
	defer key.Wipe()
	out, err := b.Wrap(tx, p, key)
	return out, err == nil, err
}

// current returns the id of the newest KEK of an organisation. It is asked in every transaction that wraps: a change of keys that is
// going on is in its way, or it in that one's.
func (b *Barrier) current(tx *store.Tx, org string) (string, error) {
	var id, root string
	var version int64
	var wrapped []byte
	err := tx.One(newestKEK, []any{org}, &id, &version, &root, &wrapped)
	if errors.Is(err, store.ErrNone) {
		return b.addKEK(tx, org, 1)
	}
	return id, err
}

func (b *Barrier) addKEK(tx *store.Tx, org string, version int64) (string, error) {
	var r rootRow
	if err := tx.One(newestRoot, nil, &r.id, &r.version, &r.keeper, &r.wrapped); err != nil {
		return "", err
	}
	key, id := RandomKey(), newID()
	defer key.Wipe()
	box, err := b.wrapKEK(r, key, org, id)
	if err != nil {
		return "", err
	}
	_, err = tx.Exec(addKEK, id, org, version, r.id, box, store.Micros(b.now()))
	return id, err
}

func (b *Barrier) wrapKEK(r rootRow, key Key, org, id string) (box []byte, err error) {
	err = b.withRoot(r, func(block cipher.Block) error {
		box, err = wrap(block, key.Expose(), place("kek", org, id))
		return err
	})
	return box, err
}

// root returns a root key, which another node of the KMS may have made since this one was unsealed.
func (b *Barrier) root(r rootRow) (*memory, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keeper == nil {
		return nil, ErrSealed
	}
	if m := b.roots[r.id]; m != nil {
		return m, nil
	}
	m, _, err := openRoot(b.keeper, r)
	if err != nil {
		return nil, err
	}
	b.roots[r.id] = m
	return m, nil
}

// with runs f with the cipher of a KEK.
func (b *Barrier) with(tx *store.Tx, org, id string, f func(cipher.Block) error) error {
	b.mu.RLock()
	if b.keeper == nil {
		b.mu.RUnlock()
		return ErrSealed
	}
	if block := b.keks[id]; block != nil {
		defer b.mu.RUnlock() // Seal waits for it
		return f(block)
	}
	b.mu.RUnlock()
	key, err := b.openKEK(tx, org, id)
	if err != nil {
		return err
	}
	defer key.Wipe()
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	b.mu.Lock()
	if b.keeper == nil {
		b.mu.Unlock()
		scrub(block)
		return ErrSealed
	}
	if len(b.keks) >= maxKEKs {
		clear(b.keks)
	}
	b.keks[id] = block
	b.mu.Unlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keeper == nil {
		return ErrSealed
	}
	return f(block)
}

func (b *Barrier) openKEK(tx *store.Tx, org, id string) (Key, error) {
	var of, rootID string
	var box []byte
	if err := tx.One(oneKEK, []any{id}, &of, &rootID, &box); err != nil {
		return Key{}, fmt.Errorf("seal: key-encryption key %s: %w", id, err)
	}
	if of != org {
		return Key{}, ErrDamaged
	}
	var r rootRow
	if err := tx.One(oneRoot, []any{rootID}, &r.id, &r.version, &r.keeper, &r.wrapped); err != nil {
		return Key{}, fmt.Errorf("seal: root key %s: %w", rootID, err)
	}
	key := Key{k: &keyBytes{new([keyLen]byte)}}
	err := b.withRoot(r, func(block cipher.Block) error { return unwrap(block, key.Expose(), box, place("kek", org, id)) })
	if err != nil {
		return Key{}, err
	}
	return key, nil
}

// withRoot runs f with the cipher of a root key. A transaction that sees the state from before a rotation may come for a key that was dropped
// meanwhile: it is opened for this once.
func (b *Barrier) withRoot(r rootRow, f func(cipher.Block) error) error {
	m, err := b.root(r)
	if err != nil {
		return err
	}
	run := func(k []byte) error { return under(k, f) }
	if err := m.use(run); !errors.Is(err, ErrSealed) {
		return err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keeper == nil {
		return ErrSealed
	}
	if m, _, err = openRoot(b.keeper, r); err != nil {
		return err
	}
	defer m.wipe()
	return m.use(run)
}
