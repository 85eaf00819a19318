package seal_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/seal"
)

// The domain of these tests: keys in boxes.
var (
	boxes  = store.NewDomain("boxes", os.DirFS("testdata/boxes"))
	putBox = boxes.Query(`INSERT INTO box (id, org, kek, wrapped) VALUES (?, ?, ?, ?)`)
	getBox = boxes.Query(`SELECT kek, wrapped FROM box WHERE id = ?`)
	setBox = boxes.Query(`UPDATE box SET kek = ?, wrapped = ? WHERE id = ?`)
	leftBy = boxes.Query(`SELECT id, kek, wrapped FROM box WHERE org = ? AND kek <> ? ORDER BY id LIMIT 5`)
)

var ticks = func() time.Time { return time.UnixMicro(1) }

func TestQueries(t *testing.T) { storetest.Check(t, seal.Domain, boxes) }

func open(t *testing.T, e storetest.Engine) *store.Store {
	t.Helper()
	return storetest.Open(t, e.Fresh(t), seal.Domain, boxes)
}

// unsealed makes a KMS of 3 of 5 shares and unseals it.
func unsealed(t *testing.T, s *store.Store) (*seal.Barrier, []seal.Share) {
	t.Helper()
	k, shares, err := seal.NewShares(3, 5)
	if err != nil {
		t.Fatal(err)
	}
	b := seal.New(ticks)
	if err := b.Init(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Seal(); err != nil {
			t.Error(err)
		}
	})
	return b, shares
}

func gather(t *testing.T, shares ...seal.Share) (seal.Keeper, error) {
	t.Helper()
	var g seal.Gathering
	for _, s := range shares {
		if _, _, err := g.Add(s); err != nil {
			return nil, err
		}
	}
	return g.Keeper()
}

func put(ctx context.Context, s *store.Store, b *seal.Barrier, org, id string) (seal.Key, error) {
	key := seal.RandomKey()
	return key, s.Update(ctx, func(tx *store.Tx) error {
		box, err := b.Wrap(tx, seal.Place{Org: org, Kind: "box", ID: id}, key)
		if err != nil {
			return err
		}
		_, err = tx.Exec(putBox, id, org, box.KEK, box.Bytes)
		return err
	})
}

func get(ctx context.Context, s *store.Store, b *seal.Barrier, p seal.Place) (key seal.Key, box seal.Box, err error) {
	err = s.View(ctx, func(tx *store.Tx) error {
		if err := tx.One(getBox, []any{p.ID}, &box.KEK, &box.Bytes); err != nil {
			return err
		}
		key, err = b.Unwrap(tx, p, box)
		return err
	})
	return key, box, err
}

// Any three of the five shares open, two do not (rows AR1, C16).
func TestThreeOfFiveShares(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := open(t, e)
		b, shares := unsealed(t, s)
		key, err := put(t.Context(), s, b, "a.example", "1")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		place := seal.Place{Org: "a.example", Kind: "box", ID: "1"}
		if _, _, err := get(t.Context(), s, b, place); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("sealed: %v", err)
		}
		for set := range 1 << 5 {
			var some []seal.Share
			for i, share := range shares {
				if set>>i&1 == 1 {
					again, err := seal.ParseShare(strings.ToUpper(share.Text()) + "\n")
					if err != nil {
						t.Fatal(err)
					}
					some = append([]seal.Share{again}, some...)
				}
			}
			k, err := gather(t, some...)
			if len(some) < 3 {
				if !errors.Is(err, seal.ErrFewShares) {
					t.Errorf("%d shares: %v", len(some), err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Unseal(t.Context(), s, k); err != nil {
				t.Fatalf("shares %05b: %v", set, err)
			}
			if got, _, err := get(t.Context(), s, b, place); err != nil || !got.Equal(key) {
				t.Fatalf("shares %05b: another key, %v", set, err)
			}
			if err := b.Seal(); err != nil {
				t.Fatal(err)
			}
		}
		// Shares that were made up, or belong to another KMS, open nothing.
		k, _, err := seal.NewShares(3, 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Unseal(t.Context(), s, k); !errors.Is(err, seal.ErrKeeper) {
			t.Errorf("shares of another KMS: %v", err)
		}
		if sealed, _ := b.Sealed(); !sealed {
			t.Error("not sealed after the wrong shares")
		}
		if err := b.Init(t.Context(), s, k); !errors.Is(err, seal.ErrInitial) {
			t.Errorf("a second root key: %v", err)
		}
	})
}

func TestShares(t *testing.T) {
	_, first, err := seal.NewShares(3, 5)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := seal.NewShares(3, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gather(t, first[0], first[1], second[2]); !errors.Is(err, seal.ErrOtherSet) {
		t.Errorf("a share of another set: %v", err)
	}
	if _, err := gather(t, first[0], first[1], first[1]); !errors.Is(err, seal.ErrDuplicate) {
		t.Errorf("a share twice: %v", err)
	}
	text := first[0].Text()
	for i := range text {
		for _, c := range "a7" {
			typo := text[:i] + string(c) + text[i+1:]
			if _, err := seal.ParseShare(typo); typo != text && !errors.Is(err, seal.ErrShare) {
				t.Errorf("character %d wrong: %v", i, err)
			}
		}
	}
	for _, bad := range [][2]int{{1, 5}, {6, 5}, {0, 0}, {2, 256}} {
		if _, _, err := seal.NewShares(bad[0], bad[1]); err == nil {
			t.Errorf("%d of %d shares were made", bad[0], bad[1])
		}
	}
}

func FuzzParseShare(f *testing.F) {
	_, shares, err := seal.NewShares(2, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].Text())
	f.Add("sotto-share-aaaa")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := seal.ParseShare(text)
		if err != nil {
			return
		}
		if again, err := seal.ParseShare(s.Text()); err != nil || again.Text() != s.Text() {
			t.Errorf("%q is not read back: %v", s.Text(), err)
		}
	})
}

// The sealing key is in a file kept apart from the data, which nobody else may read (row AR2).
func TestKeyFile(t *testing.T) {
	data, apart := t.TempDir(), t.TempDir()
	s := storetest.Open(t, filepath.Join(data, "kms.db"), seal.Domain, boxes)
	if _, err := seal.NewFile(filepath.Join(data, "key"), data); err == nil || !strings.Contains(err.Error(), "beside the database") {
		t.Errorf("a key beside the data: %v", err)
	}
	path := filepath.Join(apart, "key")
	k, err := seal.NewFile(path, data)
	if err != nil {
		t.Fatal(err)
	}
	b := seal.New(ticks)
	if err := b.Init(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.NewFile(path, data); err == nil {
		t.Error("a key was overwritten")
	}
	again, err := seal.OpenFile(path, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, again); err != nil {
		t.Fatal(err)
	}
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(data, "elsewhere"), filepath.Join(apart, "link")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "elsewhere"), text, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFile(filepath.Join(apart, "link"), data); err == nil || !strings.Contains(err.Error(), "beside the database") {
		t.Errorf("a link to a key beside the data: %v", err)
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFile(path, data); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.WriteFile(filepath.Join(apart, "short"), text[:40], 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFile(filepath.Join(apart, "short"), data); err == nil || strings.Contains(err.Error(), string(text[20:40])) {
		t.Errorf("half a key: %v", err)
	}
}

// A box opens in its place only, and not at all when a bit of it is another.
func TestBoxesStayWhereTheyAre(t *testing.T) {
	s := open(t, storetest.SQLite)
	b, _ := unsealed(t, s)
	place := seal.Place{Org: "a.example", Kind: "box", ID: "1"}
	key, err := put(t.Context(), s, b, "a.example", "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), s, b, "b.example", "2"); err != nil {
		t.Fatal(err)
	}
	got, box, err := get(t.Context(), s, b, place)
	if err != nil || !got.Equal(key) {
		t.Fatalf("another key, %v", err)
	}
	_, other, err := get(t.Context(), s, b, seal.Place{Org: "b.example", Kind: "box", ID: "2"})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(p seal.Place, box seal.Box) {
		t.Helper()
		if err := s.View(t.Context(), func(tx *store.Tx) error { _, err := b.Unwrap(tx, p, box); return err }); !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, store.ErrNone) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	refused(seal.Place{Org: "b.example", Kind: "box", ID: "1"}, box)
	refused(seal.Place{Org: "a.example", Kind: "xob", ID: "1"}, box)
	refused(seal.Place{Org: "a.example", Kind: "box", ID: "2"}, box)
	refused(seal.Place{Org: "a.example", Kind: "box1", ID: ""}, box)
	refused(place, seal.Box{KEK: other.KEK, Bytes: box.Bytes})
	refused(place, seal.Box{KEK: box.KEK, Bytes: box.Bytes[:len(box.Bytes)-1]})
	for i := range box.Bytes {
		for bit := range 8 {
			changed := slices.Clone(box.Bytes)
			changed[i] ^= 1 << bit
			refused(place, seal.Box{KEK: box.KEK, Bytes: changed})
		}
	}
	fresh := seal.New(ticks) // does not know the KEK yet
	if err := s.View(t.Context(), func(tx *store.Tx) error { _, err := fresh.Unwrap(tx, place, box); return err }); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("a sealed barrier: %v", err)
	}
}

// No printing verb and no encoder gets at a key.
func TestSecretsDoNotPrint(t *testing.T) {
	key := seal.RandomKey()
	_, shares, err := seal.NewShares(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	type nested struct{ K, inner any }
	for _, v := range []any{key, &key, shares[0], shares, nested{key, key}, nested{shares[0], shares}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&out, verb, v)
		}
		log.Info("x", "v", v)
		if err := json.NewEncoder(&out).Encode(v); err == nil {
			t.Errorf("%T was encoded as JSON", v)
		}
		if err := gob.NewEncoder(&out).Encode(v); err == nil {
			t.Errorf("%T was encoded by gob", v)
		}
	}
	for _, form := range []string{string(key.Expose()), fmt.Sprintf("%x", key.Expose()), fmt.Sprint(key.Expose())[1:40], shares[0].Text()[20:40]} {
		if strings.Contains(out.String(), form) {
			t.Errorf("a secret was printed:\n%s", out.String())
		}
	}
	again := key.Copy()
	key.Wipe()
	if again.Equal(key) || !bytes.Equal(key.Expose(), make([]byte, seal.KeyLen)) {
		t.Error("Wipe leaves the key, or reaches a copy with bytes of its own")
	}
}

// Re-share: old shares open nothing, no box and no root key is another (row C16).
func TestReshare(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := open(t, e)
		b, old := unsealed(t, s)
		key, err := put(t.Context(), s, b, "a.example", "1")
		if err != nil {
			t.Fatal(err)
		}
		place := seal.Place{Org: "a.example", Kind: "box", ID: "1"}
		_, before, err := get(t.Context(), s, b, place)
		if err != nil {
			t.Fatal(err)
		}
		k, fresh, err := seal.NewShares(2, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Reshare(t.Context(), s, k); err != nil {
			t.Fatal(err)
		}
		got, after, err := get(t.Context(), s, b, place)
		if err != nil || !got.Equal(key) || !bytes.Equal(before.Bytes, after.Bytes) {
			t.Errorf("after the re-share: %v", err)
		}
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		oldKeeper, err := gather(t, old[:3]...)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Unseal(t.Context(), s, oldKeeper); !errors.Is(err, seal.ErrKeeper) {
			t.Errorf("old shares: %v", err)
		}
		newKeeper, err := gather(t, fresh[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Unseal(t.Context(), s, newKeeper); err != nil {
			t.Fatal(err)
		}
		if got, _, err := get(t.Context(), s, b, place); err != nil || !got.Equal(key) {
			t.Errorf("by the new shares: %v", err)
		}
	})
}

// Root keys and KEKs change while keys are made and read; none is lost, the shares stay (rows R7, FI6).
func TestRotationDuringLoad(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		s := open(t, e)
		b, shares := unsealed(t, s)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var all sync.WaitGroup
		var mu sync.Mutex
		made := map[seal.Place]seal.Key{}
		for w := range 3 {
			all.Go(func() {
				for n := 0; ctx.Err() == nil && n < 200; n++ {
					p := seal.Place{Org: fmt.Sprint("org", n%4), Kind: "box", ID: fmt.Sprintf("%d-%03d", w, n)}
					key, err := put(t.Context(), s, b, p.Org, p.ID)
					if err != nil {
						t.Errorf("%+v: %v", p, err)
						return
					}
					if got, _, err := get(t.Context(), s, b, p); err != nil || !got.Equal(key) {
						t.Errorf("%+v is another: %v", p, err)
						return
					}
					mu.Lock()
					made[p] = key
					mu.Unlock()
				}
			})
		}
		for round := range 4 {
			if _, err := b.RotateRoot(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := rotateOrg(t.Context(), s, b, fmt.Sprint("org", round)); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		all.Wait()
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		k, err := gather(t, shares[1], shares[3], shares[4])
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Unseal(t.Context(), s, k); err != nil {
			t.Fatal(err)
		}
		if len(made) == 0 {
			t.Fatal("no keys were made")
		}
		for p, key := range made {
			if got, _, err := get(t.Context(), s, b, p); err != nil || !got.Equal(key) {
				t.Errorf("%+v is another: %v", p, err)
			}
		}
	})
}

// rotateOrg changes the KEK of an organisation as the owner of boxes does.
func rotateOrg(ctx context.Context, s *store.Store, b *seal.Barrier, org string) error {
	if err := s.Update(ctx, func(tx *store.Tx) error { return b.NewKEK(tx, org) }); err != nil {
		return err
	}
	for done := false; !done; {
		err := s.Update(ctx, func(tx *store.Tx) error {
			newest, err := b.Newest(tx, org)
			if err != nil {
				return err
			}
			type row struct {
				id  string
				box seal.Box
			}
			rows, err := store.All(tx, leftBy, []any{org, newest}, func(r store.Row) (out row, err error) {
				err = r.Scan(&out.id, &out.box.KEK, &out.box.Bytes)
				return out, err
			})
			if err != nil {
				return err
			}
			for _, r := range rows {
				box, changed, err := b.Rewrap(tx, seal.Place{Org: org, Kind: "box", ID: r.id}, r.box)
				if err != nil || !changed {
					return errors.Join(err, fmt.Errorf("box %s: changed %v", r.id, changed))
				}
				if _, err := tx.Exec(setBox, box.KEK, box.Bytes, r.id); err != nil {
					return err
				}
			}
			done = len(rows) == 0
			if done {
				return b.DropKEKs(tx, org)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
