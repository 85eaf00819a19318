package signaling

import (
	"errors"
	"testing"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestQueries(t *testing.T) { storetest.Check(t, Domain) }

func TestClosedRoomsSurvive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		ids := id.NewRooms([32]byte{9})
		database := e.Fresh(t)
		closed, open := ids.New(), ids.New()
		for i := range 3 {
			db, err := store.Open(t.Context(), store.Config{Database: database, Domains: []*store.Domain{Domain}})
			if err != nil {
				t.Fatal(err)
			}
			r := NewRooms(ids, db)
			if i < 2 { // the second time it is closed already
				if err := r.Close(t.Context(), closed); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Lookup(t.Context(), closed); !errors.Is(err, &wire.Error{Code: wire.RoomClosed}) {
				t.Errorf("opening %d: %v", i, err)
			}
			if got, err := r.Lookup(t.Context(), open); err != nil || got != open {
				t.Errorf("opening %d: %q, %v", i, got, err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			if _, err := r.Lookup(t.Context(), open); !errors.Is(err, store.ErrClosed) {
				t.Errorf("a room was let in without the database: %v", err)
			}
		}
	})
}
