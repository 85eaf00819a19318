package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/seal"
)

// token makes a token of softhsm2 in a folder, and returns the helper program and the arguments for it. The token is found by SOFTHSM2_CONF,
// which is set for the rest of the test.
func token(t *testing.T) (program string, args []string) {
	t.Helper()
	const library = "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(library); err != nil {
		if testing.Short() {
			t.Skip("no softhsm2 here")
		}
		t.Fatal("no softhsm2 here: `make deps` brings it")
	}
	dir := t.TempDir()
	program = filepath.Join(dir, "sotto-hsm")
	build := exec.Command("go", "build", "-o", program, "../../cmd/sotto-hsm")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600),
		os.WriteFile(pin, []byte("123456\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "sotto", "--pin", "123456", "--so-pin", "654321").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program, []string{"-module", library, "-token", "sotto", "-pin-file", pin}
}

// The root key is kept by a hardware module through PKCS#11: its key cannot be read, another process finds it again, and what it wraps opens
// in its place only (row AR3).
func TestModule(t *testing.T) {
	program, args := token(t)
	if _, err := seal.StartHelper(program, args...); err == nil {
		t.Error("a key that is not there")
	}
	// The program makes a key only as one that cannot leave, and uses no other: it tries to read it.
	create := func() ([]byte, error) { return exec.Command(program, append(args, "-create")...).CombinedOutput() }
	if out, err := create(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := create(); err == nil || !strings.Contains(string(out), "there is a key") {
		t.Errorf("a second key: %v: %s", err, out)
	}
	start := func() seal.Keeper {
		t.Helper()
		k, err := seal.StartHelper(program, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
		return k
	}
	s := open(t, storetest.SQLite)
	first := start()
	b := seal.New(ticks)
	if err := b.Init(t.Context(), s, first); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, first); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("a helper that has ended: %v", err)
	}
	if err := b.Unseal(t.Context(), s, start()); err != nil {
		t.Fatal(err)
	}
	key, err := put(t.Context(), s, b, "a.example", "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.RotateRoot(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	// From the module to shares and back: a re-share.
	shares, _, err := seal.NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	again := start()
	if err := errors.Join(b.Reshare(t.Context(), s, shares), b.Reshare(t.Context(), s, again)); err != nil {
		t.Fatal(err)
	}
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := b.Unseal(t.Context(), s, start()); err != nil {
		t.Fatal(err)
	}
	got, _, err := get(context.Background(), s, b, seal.Place{Org: "a.example", Kind: "box", ID: "1"})
	if err != nil || !got.Equal(key) {
		t.Errorf("another key, %v", err)
	}
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}

	k := start()
	root := seal.RandomKey()
	box, err := k.Wrap(root.Expose(), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	into := make([]byte, seal.KeyLen)
	if err := k.Unwrap(into, box, []byte("here")); err != nil || !bytes.Equal(into, root.Expose()) {
		t.Errorf("another key, %v", err)
	}
	if err := k.Unwrap(into, box, []byte("there")); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("in another place: %v", err)
	}
	for i := range box {
		changed := bytes.Clone(box)
		changed[i] ^= 1
		if err := k.Unwrap(into, changed, []byte("here")); !errors.Is(err, seal.ErrDamaged) || !bytes.Equal(into, make([]byte, seal.KeyLen)) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if err := k.Unwrap(into, box, []byte("here")); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if k.ID() != "module sotto/sotto-kms" {
		t.Errorf("it is called %q", k.ID())
	}
}

// loose is a module of a test.
type loose struct{}

func (loose) ID() string                             { return "loose" }
func (loose) Wrap(key, place []byte) ([]byte, error) { return append(bytes.Clone(key), place...), nil }

func (loose) Unwrap(box, place []byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: %d", seal.ErrDamaged, len(box)+len(place))
}

// Whatever comes in, the program answers or ends, and takes no more memory than a request has.
func FuzzServeModule(f *testing.F) {
	f.Add([]byte("i\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("w\x00\x00\x00\x01p\x00\x00\x00\x02ku\x00\x00\x00\x00\x00\x00\x00\x01b"))
	f.Add([]byte("x\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_ = seal.ServeModule(bytes.NewReader(in), &out, loose{}) // how it ends is the input's affair
		if out.Len() > 16*len(in)+64 {
			t.Errorf("%d bytes for %d", out.Len(), len(in))
		}
	})
}
