package known

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sotto-edge/sotto/kms/channel"
)

const domain = "example.org"

func load(t *testing.T, cfg Config) *channel.Identity {
	t.Helper()
	i, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// trust is what a client has that was handed the certificate.
func trust(t *testing.T, file string) channel.Trust {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in the file")
	}
	return channel.Trust{Domain: domain, Roots: roots}
}

// Without configuration there is an identity, the same after a restart, and its secrets are for the owner alone.
func TestLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kms")
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	cfg := Config{Dir: dir, Domain: domain, Now: func() time.Time { return now }}
	first := load(t, cfg)
	peer, err := trust(t, CertificateFile(dir)).Verify(first.Frame(), now)
	if err != nil {
		t.Fatal(err)
	}
	if !peer.Until().Equal(now.Add(validity)) || !peer.Has(channel.Hybrid) || !peer.Has(channel.P256) {
		t.Errorf("peer until %v", peer.Until())
	}
	if load(t, cfg).Hash() != first.Hash() {
		t.Error("another identity after a restart")
	}
	// A client that knows the older statement reaches the same static keys.
	now = now.Add(48 * time.Hour)
	later := load(t, cfg)
	if later.Hash() == first.Hash() || !later.Until().Equal(now.Add(validity)) {
		t.Error("the statement was not made anew")
	}
	for _, name := range []string{"static-seed", "certificate-key.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	now = now.Add(selfSigned)
	if _, err := Load(cfg); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
}

// The operator's own certificate goes first, and bounds the statement.
func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Truncate(time.Second)
	chain, signer, err := channel.SelfSigned(domain, now.Add(-time.Hour), now.Add(5*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Domain: domain, CertFile: filepath.Join(dir, "own.pem"), KeyFile: filepath.Join(dir, "own-key.pem")}
	for name, b := range map[string]*pem.Block{cfg.CertFile: {Type: "CERTIFICATE", Bytes: chain[0]}, cfg.KeyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i := load(t, cfg)
	if !i.Until().Equal(now.Add(5 * time.Hour)) {
		t.Errorf("good until %v, the certificate until %v", i.Until(), now.Add(5*time.Hour))
	}
	if _, err := os.Stat(CertificateFile(dir)); err == nil {
		t.Error("a certificate was made although there is one")
	}
	other := cfg
	other.Domain = "example.net"
	if _, err := Load(other); err == nil {
		t.Error("an identity for a domain that is not certified")
	}
	cfg.CertFile = filepath.Join(dir, "missing.pem")
	if _, err := Load(cfg); err == nil {
		t.Error("a certificate that is not there was replaced")
	}
}

func TestKeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Dir: t.TempDir(), Domain: domain}
		first := load(t, cfg)
		var sets [][]*channel.Identity
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Keeping(cfg, first, func(i ...*channel.Identity) error { sets = append(sets, i); return nil }, slog.New(slog.DiscardHandler))(ctx)
		}()
		time.Sleep(again + time.Second)
		synctest.Wait()
		if len(sets) != 1 || len(sets[0]) != 2 || sets[0][1] != first || sets[0][0].Hash() == first.Hash() {
			t.Fatalf("after a day: %v", sets)
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, "static-seed"), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(again)
		synctest.Wait()
		if len(sets) != 1 {
			t.Error("an identity without keys")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
