package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	start  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	signer = NewSigner(Seed{[32]byte{7}})
	claims = Claims{Audience: Join, Room: "aaaaa-bbbbb", Role: "host", Name: "名前", ID: "t_1", Expires: start.Add(5 * time.Minute)}
)

func sign(t testing.TB, c Claims) string {
	t.Helper()
	s, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	got, err := signer.Verifier().Verify(sign(t, claims), Join, start)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(claims, got); diff != "" {
		t.Errorf("claims (-signed +verified):\n%s", diff)
	}
}

func TestExpiry(t *testing.T) {
	text := sign(t, claims)
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{start, nil},
		{claims.Expires.Add(-time.Nanosecond), nil},
		{claims.Expires, ErrExpired},
		{claims.Expires.Add(time.Hour), ErrExpired},
	} {
		if _, err := signer.Verifier().Verify(text, Join, c.at); !errors.Is(err, c.want) {
			t.Errorf("at %v: %v, want %v", c.at, err, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	good := sign(t, claims)
	other, err := NewSigner(Seed{[32]byte{8}}).Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	body, mark, _ := cutLast(good)
	for name, text := range map[string]string{
		"empty":            "",
		"dots":             "...",
		"another key":      other,
		"another version":  "st2." + strings.TrimPrefix(good, prefix),
		"no signature":     body + ".",
		"short signature":  good[:len(good)-2],
		"padded":           good + "=",
		"trailing newline": good + "\n",
		"claims of others": prefix + encoding.EncodeToString([]byte(`{"aud":"join","exp":9999999999}`)) + "." + mark,
		"too long":         good + strings.Repeat("A", MaxLen),
	} {
		if c, err := signer.Verifier().Verify(text, Join, start); !errors.Is(err, ErrInvalid) || c != (Claims{}) {
			t.Errorf("%s: claims %v, error %v", name, c, err)
		}
	}
	if _, err := signer.Verifier().Verify(good, Host, start); !errors.Is(err, ErrInvalid) {
		t.Errorf("a join token passes as a host token: %v", err)
	}
	if _, err := NewVerifier().Verify(good, Join, start); !errors.Is(err, ErrInvalid) {
		t.Errorf("a verifier without keys: %v", err)
	}
	if _, err := signer.Sign(Claims{Audience: Join}); err == nil {
		t.Error("a token without an expiry was signed")
	}
}

// Any single changed character must make the token fail: base64 has spare bits that a lenient decoder ignores.
func TestNotMalleable(t *testing.T) {
	good := sign(t, claims)
	for i := range good {
		for _, c := range "AQgw_-.~" {
			bad := good[:i] + string(c) + good[i+1:]
			if bad == good {
				continue
			}
			if _, err := signer.Verifier().Verify(bad, Join, start); err == nil {
				t.Fatalf("accepted with character %d changed to %c", i, c)
			}
		}
	}
}

func TestTwoKeys(t *testing.T) {
	next := NewSigner(Seed{[32]byte{8}})
	both := NewVerifier(signer.Verifier().keys[0], next.Verifier().keys[0])
	fresh, err := next.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{sign(t, claims), fresh} {
		if _, err := both.Verify(text, Join, start); err != nil {
			t.Error(err)
		}
	}
}

func TestSeedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "seed")
	seeds := make([]Seed, 8)
	var wg sync.WaitGroup
	for i := range seeds {
		wg.Go(func() {
			s, err := LoadSeed(path)
			if err != nil {
				t.Error(err)
			}
			seeds[i] = s
		})
	}
	wg.Wait()
	for _, s := range seeds {
		if s != seeds[0] || s == (Seed{}) {
			t.Fatal("starting together gave different seeds")
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSeed(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged seed: %v", err)
	}
}

func TestDerive(t *testing.T) {
	s := Seed{[32]byte{1}}
	again := Seed{[32]byte{1}}
	if s.Derive("a") == s.Derive("b") || s.Derive("a") == s || s.Derive("a") != again.Derive("a") {
		t.Error("derived seeds are not one per purpose")
	}
}

func TestBearer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "owner")
	b, text, err := LoadBearer(path)
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := LoadBearer(path)
	if err != nil || same != text || again != b {
		t.Fatalf("second load: %v", err)
	}
	if !b.Matches(text) || b.Matches(text[1:]) || b.Matches("") || (Bearer{}).Matches("") {
		t.Error("matches wrongly")
	}
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadBearer(path); err == nil {
		t.Error("a token of one character was taken")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	seed := Seed{[32]byte{0xab, 0xcd, 0xef}}
	for _, v := range []any{seed, &seed, NewBearer("secret"), NewSigner(seed)} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "171") || strings.Contains(strings.ToLower(s), "abcd") {
				t.Errorf("%T with %s prints %q", v, format, s)
			}
		}
	}
	if _, err := json.Marshal(seed); err == nil {
		t.Error("a seed was marshalled")
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "seed", seed)
	if strings.Contains(log.String(), "171") {
		t.Errorf("logged: %s", log.String())
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(sign(f, claims))
	f.Add("st1.e30.AA")
	f.Add("")
	v := signer.Verifier()
	good := sign(f, claims)
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := v.Verify(text, Join, start); err == nil && text != good {
			t.Errorf("accepted %q: %v", text, c)
		}
	})
}
