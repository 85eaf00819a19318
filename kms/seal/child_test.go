package seal_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/seal"
)

func TestMain(m *testing.M) {
	if what := os.Getenv("SOTTO_SEAL_CHILD"); what != "" {
		if err := child(what); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	storetest.Main(m)
}

// child unseals a KMS by a file. It rotates the root key until it is killed, printing a line before and after each time; or it
// works a little with it and waits.
func child(what string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Database: os.Getenv("SOTTO_SEAL_DATABASE"), Domains: []*store.Domain{seal.Domain, boxes}})
	if err != nil {
		return err
	}
	k, err := seal.OpenFile(os.Getenv("SOTTO_SEAL_FILE"), "/proc")
	if err != nil {
		return err
	}
	b := seal.New(ticks)
	if err := b.Unseal(ctx, s, k); err != nil {
		return err
	}
	if what == "wait" {
		for n := range 50 {
			if _, err := put(ctx, s, b, fmt.Sprint("child", n), fmt.Sprint("child", n)); err != nil {
				return err
			}
		}
		_, how := b.Sealed()
		marker := hex.AppendEncode([]byte("marker "), []byte(os.Getenv("SOTTO_SEAL_MARKER")))
		fmt.Println("ready", how)
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Println(len(marker))
		return err
	}
	for {
		fmt.Println("begin")
		if _, err := b.RotateRoot(ctx, s); err != nil {
			return err
		}
		fmt.Println("done")
	}
}

func start(t *testing.T, what, database, file, marker string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "SOTTO_SEAL_CHILD="+what, "SOTTO_SEAL_DATABASE="+database, "SOTTO_SEAL_FILE="+file, "SOTTO_SEAL_MARKER="+marker)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open until the child is killed
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed is what it says
}

// A rotation that is killed amid its steps goes on after the next start, and every key opens all the time (row R7).
func TestKilledWhileRotating(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		database, file := e.Fresh(t), filepath.Join(t.TempDir(), "key")
		k, err := seal.NewFile(file, "/proc")
		if err != nil {
			t.Fatal(err)
		}
		s := storetest.Open(t, database, seal.Domain, boxes)
		b := seal.New(ticks)
		if err := b.Init(t.Context(), s, k); err != nil {
			t.Fatal(err)
		}
		if err := b.Unseal(t.Context(), s, k); err != nil {
			t.Fatal(err)
		}
		keys := map[string]seal.Key{}
		for n := range 130 { // two steps of a rotation
			org := fmt.Sprint("org", n)
			if keys[org], err = put(t.Context(), s, b, org, org); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		broken, rounds := 0, 4
		if testing.Short() {
			rounds = 2
		}
		for round := range rounds {
			cmd, lines := start(t, "rotate", database, file, "")
			for n := 0; n < 1+2*(round%2) && lines.Scan(); n++ { // amid the first, or amid the second
				if text := lines.Text(); strings.HasPrefix(text, "error") {
					t.Fatal(text)
				}
			}
			// How far it gets is chance; wait until a step of it is there.
			for {
				if roots, mixed := state(t, s); roots > 1 && (mixed || round < 2) {
					break
				}
			}
			kill(t, cmd)
			roots, _ := state(t, s)
			if roots > 1 {
				broken++
			}
			if k, err = seal.OpenFile(file, "/proc"); err != nil {
				t.Fatal(err)
			}
			if err := b.Unseal(t.Context(), s, k); err != nil {
				t.Fatal(err)
			}
			check := func(when string) {
				t.Helper()
				for org, key := range keys {
					if got, _, err := get(t.Context(), s, b, seal.Place{Org: org, Kind: "box", ID: org}); err != nil || !got.Equal(key) {
						t.Fatalf("round %d, %s: %s is lost: %v", round, when, org, err)
					}
				}
			}
			check("after the kill")
			if _, err := b.ResumeRoot(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if roots, _ := state(t, s); roots != 1 {
				t.Errorf("round %d: %d root keys after the rotation went on", round, roots)
			}
			if n := len(b.Roots()); n > 1 {
				t.Errorf("round %d: %d root keys in memory", round, n)
			}
			if err := b.Seal(); err != nil {
				t.Fatal(err)
			}
			if k, err = seal.OpenFile(file, "/proc"); err != nil {
				t.Fatal(err)
			}
			if err := b.Unseal(t.Context(), s, k); err != nil {
				t.Fatal(err)
			}
			check("after it went on")
			if err := b.Seal(); err != nil {
				t.Fatal(err)
			}
		}
		if broken == 0 {
			t.Error("no rotation was broken off: the test has shown nothing")
		}
	})
}

var (
	countRoots = boxes.Query(`SELECT count(*) FROM seal_root`)
	countUsed  = boxes.Query(`SELECT count(DISTINCT root) FROM seal_kek`)
)

func state(t *testing.T, s *store.Store) (roots int64, mixed bool) {
	t.Helper()
	var used int64
	if err := s.View(t.Context(), func(tx *store.Tx) error {
		if err := tx.One(countRoots, nil, &roots); err != nil {
			return err
		}
		return tx.One(countUsed, nil, &used)
	}); err != nil {
		t.Fatal(err)
	}
	return roots, used > 1
}

// The memory of a KMS that works has its root key nowhere that another process could read, and neither has its database (row AR1).
func TestRootKeyIsInLockedMemoryOnly(t *testing.T) {
	dir := t.TempDir()
	database, file := filepath.Join(dir, "kms.db"), filepath.Join(t.TempDir(), "key")
	k, err := seal.NewFile(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	s := storetest.Open(t, database, seal.Domain, boxes)
	b := seal.New(ticks)
	if err := b.Init(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	roots := b.Roots()
	const plain = "3141592653"
	cmd, lines := start(t, "wait", database, file, plain)
	defer kill(t, cmd)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ready ") {
		t.Fatalf("the child says %q", lines.Text())
	}
	how := seal.Protection(strings.TrimPrefix(lines.Text(), "ready "))
	found, marked, read := search(t, cmd.Process.Pid, roots[0], []byte("marker "+hex.EncodeToString([]byte(plain))))
	if marked == 0 || read < 1<<20 {
		t.Fatalf("the search reads %d bytes and does not find what is there", read)
	}
	want := 0
	if how == seal.Locked {
		want = 1 // its own page, which this test may read as root, and a core dump leaves out
	}
	if found != want {
		t.Errorf("the root key is in memory %d times, want %d (%s)", found, want, how)
	}
	t.Logf("%s, %d bytes read", how, read)
	for _, name := range []string{"kms.db", "kms.db-wal"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, roots[0]) {
			t.Errorf("the root key is in %s", name)
		}
	}
}

// search counts two texts in what can be read of the memory of a process.
func search(t *testing.T, pid int, a, b []byte) (na, nb int, read int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }() // only read
	for line := range strings.Lines(string(maps)) {
		span, rest, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		begin, err1 := strconv.ParseUint(from, 16, 63)
		end, err2 := strconv.ParseUint(to, 16, 63)
		if err1 != nil || err2 != nil || !strings.HasPrefix(rest, "rw") {
			continue
		}
		text := make([]byte, end-begin)
		n, _ := mem.ReadAt(text, int64(begin)) // hidden and never touched pages cannot be read
		read += int64(n)
		na += bytes.Count(text[:n], a)
		nb += bytes.Count(text[:n], b)
	}
	return na, nb, read
}
