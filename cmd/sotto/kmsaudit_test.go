package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

// What somebody with the database does.
var (
	intruder = store.NewDomain("intruder", fstest.MapFS{"00001_none.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}})
	intrude  = intruder.Query(`UPDATE audit_row SET actor = 'nobody' WHERE org = ? AND seq = ?`)
)

// The command finds what was done to the audit, beside a KMS that runs, and says where the chain ends (row AU1).
func TestAuditVerify(t *testing.T) {
	data := filepath.Join(t.TempDir(), "kms")
	if lock, err := lockData(data); err != nil {
		t.Fatal(err)
	} else if err := lock.release(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Config{Database: filepath.Join(data, "kms.db"), Domains: append(keyring.Domains(), intruder)})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := seal.NewFile(data+"-seal.key", data)
	if err != nil {
		t.Fatal(err)
	}
	barrier := seal.New(time.Now)
	if err := errors.Join(barrier.Init(t.Context(), s, keeper), barrier.Unseal(t.Context(), s, keeper)); err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Open(keyring.Config{Host: "a.example", Store: s, Barrier: barrier})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(ring.Close(), barrier.Seal(), s.Close()); err != nil {
			t.Error(err)
		}
	}()
	alice := wire.Caller{User: "alice", Domain: "a.example"}
	if _, err := ring.CreateKeys(t.Context(), alice, 5, wire.URI{}); err != nil {
		t.Fatal(err)
	}
	verify := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := execute(append([]string{"kms", "audit", "verify", "-data", data}, args...), environment{out: &out, err: &errs, getenv: func(string) string { return "" }, uid: 1})
		if code != want {
			t.Errorf("exit %d, want %d: %s%s", code, want, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	text := verify(0)
	head := regexp.MustCompile(`a\.example: 5 rows, whole; head (a\.example/5/[0-9a-f]{64})\n`).FindStringSubmatch(text)
	if head == nil || !strings.Contains(text, "the KMS itself: 1 rows, whole") {
		t.Fatalf("it says %q", text)
	}
	if _, err := ring.CreateKeys(t.Context(), alice, 1, wire.URI{}); err != nil {
		t.Fatal(err)
	}
	verify(0, "-anchor", head[1])
	verify(1, "-anchor", strings.Replace(head[1], "/5/", "/4/", 1))
	verify(1, "-anchor", "b"+head[1])
	verify(1, "-anchor", head[1][:20])
	verify(1, "-seal-key", filepath.Join(t.TempDir(), "none"))
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(intrude, "a.example", 2); return err }); err != nil {
		t.Fatal(err)
	}
	if text := verify(1); !strings.Contains(text, "NOT whole") || !strings.Contains(text, "row 2: changed") {
		t.Errorf("it says %q", text)
	}
}
