package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
)

// A KMS is opened by three of five shares from the terminal and not by two, and re-shared to a file and back; what opened it before opens it no more
// (row C16).
func TestSharesOnTheCommandLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "kms")
	file := data + "-apart.key"
	command := func(want int, in string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := execute(append([]string{"kms"}, args...), environment{in: strings.NewReader(in), out: &out, err: &errs, getenv: func(string) string { return "" }, uid: 1})
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s%s", args, code, want, out.String(), errs.String())
		}
		return out.String()
	}
	opens := func(c kmsServe, in string) error {
		t.Helper()
		s, err := store.Open(t.Context(), store.Config{Database: filepath.Join(data, "kms.db"), Domains: keyring.Domains()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		c.Data = data
		b, err := c.unseal(t.Context(), s, environment{in: strings.NewReader(in), out: io.Discard, err: io.Discard}, slog.New(slog.DiscardHandler))
		if err == nil {
			err = b.Seal()
		}
		return err
	}
	written := regexp.MustCompile(`sotto-share-\S+`)
	byShares := kmsServe{By: sealedBy{Shares: true}}

	first := written.FindAllString(command(0, "", "init", "-data", data, "-new-shares", "3/5"), -1)
	if len(first) != 5 {
		t.Fatalf("%d shares", len(first))
	}
	command(1, "", "init", "-data", data, "-new-shares", "3/5")
	typed := "typo\n" + first[4] + "\n\n" + first[4] + "\n" + first[0] + "\n"
	if err := opens(byShares, typed+first[2]+"\n"); err != nil {
		t.Error(err)
	}
	if err := opens(byShares, typed); !errors.Is(err, seal.ErrFewShares) {
		t.Errorf("two shares: %v", err)
	}
	if err := opens(kmsServe{SealKey: file}, ""); err == nil || !strings.Contains(err.Error(), "was missing") {
		t.Errorf("a file of no use: %v", err)
	}

	command(1, typed, "reshare", "-data", data, "-shares", "-new-seal-key", file)
	command(0, strings.Join(first[:3], "\n"), "reshare", "-data", data, "-shares", "-new-seal-key", file)
	if err := opens(byShares, strings.Join(first, "\n")); !errors.Is(err, seal.ErrKeeper) {
		t.Errorf("shares of before: %v", err)
	}
	if err := opens(kmsServe{SealKey: file}, ""); err != nil {
		t.Error(err)
	}
	second := written.FindAllString(command(0, "", "reshare", "-data", data, "-seal-key", file, "-new-shares", "2/3"), -1)
	if err := opens(byShares, strings.Join(second[1:], "\n")); err != nil || len(second) != 3 {
		t.Errorf("%d shares, %v", len(second), err)
	}
	if err := opens(kmsServe{SealKey: file}, ""); !errors.Is(err, seal.ErrKeeper) {
		t.Errorf("the file of before: %v", err)
	}
	if text := command(0, "", "audit", "verify", "-data", data); !strings.Contains(text, "localhost: 2 rows, whole") {
		t.Errorf("the audit: %s", text)
	}
}
