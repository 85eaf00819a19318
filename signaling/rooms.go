package signaling

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/signaling/wire"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Domain is what this package keeps in the store: the rooms that were closed for good.
var Domain = store.NewDomain("signaling", tables())

var (
	closeRoom  = Domain.Query(`INSERT INTO closed_room (room, closed) VALUES (?, ?) ON CONFLICT (room) DO NOTHING`)
	roomClosed = Domain.Query(`SELECT closed FROM closed_room WHERE room = ?`)
)

func tables() fs.FS {
	f, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic("signaling: " + err.Error()) // the name above is no path
	}
	return f
}

// Rooms is the Directory of the nodes that share a room key and a store. Ids carry their own proof, so only the closed rooms
// are recorded.
type Rooms struct {
	ids *id.Rooms
	db  *store.Store // nil: in memory only

	mu     sync.Mutex
	closed map[string]bool // without a store
}

// NewRooms returns the directory for the ids. Without a store closed rooms are known until the process ends.
func NewRooms(ids *id.Rooms, db *store.Store) *Rooms {
	return &Rooms{ids: ids, db: db, closed: map[string]bool{}}
}

// Create implements Directory.
func (r *Rooms) Create(context.Context) (string, error) { return r.ids.New(), nil }

// Lookup implements Directory.
func (r *Rooms) Lookup(ctx context.Context, room string) (string, error) {
	proper, ok := r.ids.Parse(room)
	if !ok {
		return "", refuse(wire.NotFound, "there is no such room on this server", "check the link, or open a new meeting")
	}
	closed, err := r.isClosed(ctx, proper)
	if err != nil {
		return "", err
	}
	if closed {
		return "", refuse(wire.RoomClosed, "the room was closed", "open a new meeting")
	}
	return proper, nil
}

func (r *Rooms) isClosed(ctx context.Context, room string) (bool, error) {
	if r.db == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.closed[room], nil
	}
	err := r.db.View(ctx, func(tx *store.Tx) error { return tx.One(roomClosed, []any{room}, new(int64)) })
	if errors.Is(err, store.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("signaling: closed rooms: %w", err)
	}
	return true, nil
}

// Close implements Directory. To close a room again changes nothing: a repetition needs no key.
func (r *Rooms) Close(ctx context.Context, room string) error {
	proper, ok := r.ids.Parse(room)
	if !ok {
		return refuse(wire.NotFound, "there is no such room on this server", "")
	}
	if r.db == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed[proper] = true
		return nil
	}
	if err := r.db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(closeRoom, proper, store.Micros(time.Now()))
		return err
	}); err != nil {
		return fmt.Errorf("signaling: closed rooms: %w", err)
	}
	return nil
}
