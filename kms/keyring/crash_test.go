package keyring_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

// reopen opens a keyring on a database that has its root key already.
func reopen(ctx context.Context, s *store.Store, file, spool string) (*keyring.Keyring, *seal.Barrier, error) {
	k, err := seal.OpenFile(file, "/proc")
	if err != nil {
		return nil, nil, err
	}
	c := &clock{}
	b := seal.New(c.Now)
	if err := b.Unseal(ctx, s, k); err != nil {
		return nil, nil, err
	}
	r, err := keyring.Open(keyring.Config{Host: host, Store: s, Barrier: b, Spool: spool, Now: c.Now})
	if err != nil {
		return nil, nil, err
	}
	return r, b, r.Resume(ctx)
}

// child makes keys, lets somebody in and out, and rotates, until it is killed. It says what it begins and what was acknowledged.
func child(database string) int {
	if err := work(context.Background(), database); err != nil {
		fmt.Println("error", err)
	}
	return 1
}

func work(ctx context.Context, database string) error {
	s, err := store.Open(ctx, store.Config{Database: database, Domains: keyring.Domains()})
	if err != nil {
		return err
	}
	r, _, err := reopen(ctx, s, os.Getenv("SOTTO_KEYRING_FILE"), os.Getenv("SOTTO_KEYRING_FILE")+".spool")
	if err != nil {
		return err
	}
	space, _ := wire.ParseURI(os.Getenv("SOTTO_KEYRING_SPACE"))
	for n := 0; ; n++ {
		id := fmt.Sprint(os.Getenv("SOTTO_KEYRING_ROUND"), "-", n)
		fmt.Println("begin", id)
		keys, err := r.CreateKeys(ctx, with(user("alice"), id), 1, space)
		if err != nil {
			return err
		}
		fmt.Println("key", id, keys[0].URI, digest(keys[0]))
		guest := "guest" + id
		auths, err := r.Authorize(ctx, with(user("alice"), "in"+id), space, []string{guest}, wire.Participant)
		if err != nil {
			return err
		}
		if _, err := r.Key(ctx, user(guest), keys[0].URI); err != nil {
			return err
		}
		if _, _, err := r.Deauthorize(ctx, with(user("alice"), "out"+id), auths[0].URI); err != nil {
			return err
		}
		fmt.Println("removed", id, keys[0].URI, guest)
		if n%4 == 3 {
			if _, err := r.RotateKEK(ctx, "olga"); err != nil {
				return err
			}
			if _, err := r.RotateRoot(ctx, "olga"); err != nil {
				return err
			}
		}
	}
}

func digest(k wire.Key) string { return fmt.Sprintf("%x", sha256.Sum256(k.Material.Expose())) }

// What a killed KMS has acknowledged is there: keys, removals, and each row of the audit; a rotation it died in goes on (rows R4, R7, AU1).
func TestKilledAmidWrites(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	storetest.Each(t, func(t *testing.T, e storetest.Engine) { killed(t, e, rounds) })
}

// The same, long.
func TestSoakKilledAmidWrites(t *testing.T) {
	if os.Getenv("SOTTO_SOAK") == "" {
		t.Skip("SOTTO_SOAK is not set")
	}
	storetest.Each(t, func(t *testing.T, e storetest.Engine) { killed(t, e, 50) })
}

func killed(t *testing.T, e storetest.Engine, rounds int) {
	database, file := e.Fresh(t), filepath.Join(t.TempDir(), "key")
	first := storetest.Open(t, database, keyring.Domains()...)
	k, err := seal.NewFile(file, "/proc")
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.New((&clock{}).Now).Init(t.Context(), first, k); err != nil {
		t.Fatal(err)
	}
	ring, barrier, err := reopen(t.Context(), first, file, file+".spool")
	if err != nil {
		t.Fatal(err)
	}
	space, err := ring.CreateResource(t.Context(), user("alice"), wire.NewResource{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ring.Close(), barrier.Seal(), first.Close()); err != nil {
		t.Fatal(err)
	}
	keys, removed := map[string]string{}, map[string]string{} // digest by URI; key by guest
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "SOTTO_KEYRING_CHILD="+database, "SOTTO_KEYRING_FILE="+file, "SOTTO_KEYRING_SPACE="+space.URI.String(), fmt.Sprint("SOTTO_KEYRING_ROUND=", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last, acknowledged := "", 0
		stop := func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
		for lines, n := bufio.NewScanner(out), 0; lines.Scan(); n++ { // to its end: what was said before the kill counts
			f := strings.Fields(lines.Text())
			switch f[0] {
			case "begin":
				last = f[1]
			case "key":
				keys[f[2]] = f[3]
				acknowledged++
			case "removed":
				removed[f[3]] = f[2]
			default:
				t.Error(lines.Text())
			}
			if n == 7+round*5%23 {
				stop()
			}
		}
		_ = cmd.Wait() // killed is what it says
		s := storetest.Open(t, database, keyring.Domains()...)
		ring, barrier, err := reopen(t.Context(), s, file, file+".spool")
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range keys {
			uri, _ := wire.ParseURI(text)
			if got, err := ring.Key(t.Context(), user("alice"), uri); err != nil || digest(got) != want {
				t.Fatalf("round %d: %s was acknowledged and is lost: %v", round, text, err)
			}
		}
		for guest, text := range removed {
			uri, _ := wire.ParseURI(text)
			if _, err := ring.Key(t.Context(), user(guest), uri); status(t, err) != wire.StatusForbidden {
				t.Fatalf("round %d: %s was removed: %v", round, guest, err)
			}
		}
		// Whoever did not hear asks again, twice, and has one key.
		var uris []wire.URI
		for range 2 {
			made, err := ring.CreateKeys(t.Context(), with(user("alice"), last), 1, space.URI)
			if err != nil {
				t.Fatal(err)
			}
			uris = append(uris, made[0].URI)
		}
		if uris[0] != uris[1] || acknowledged == 0 {
			t.Errorf("round %d: %v, %d acknowledged", round, uris, acknowledged)
		}
		reports, err := ring.Audit().VerifyAll(t.Context(), s)
		if err != nil || len(reports) != 2 {
			t.Fatal(reports, err)
		}
		for _, p := range reports {
			if len(p.Problems) > 0 {
				t.Errorf("round %d: chain %q: %v", round, p.Org, p.Problems)
			}
		}
		if err := errors.Join(ring.Close(), barrier.Seal(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d keys, %d removals", len(keys), len(removed))
}
