// Package known keeps on disk what a KMS is known by: the seed of its static keys, and a certificate with its key where the operator
// has given none.
//
// It promises that clients keep knowing a KMS over restarts; that without any configuration there is an identity, whose certificate
// the operator can hand on; and that a statement is made anew long before it ends. It knows nothing of clients.
package known

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/channel"
)

// Config says where it is.
type Config struct {
	Dir      string // of the KMS
	Domain   string
	CertFile string // PEM, leaf first; empty: one is made that certifies itself
	KeyFile  string
	Suites   []channel.Suite  // [all]
	Now      func() time.Time // [time.Now]
}

const (
	// validity is how long a statement is good for.
	validity = 30 * 24 * time.Hour
	// skew is how far the clocks of clients may be behind.
	skew = 10 * time.Minute
	// again is how often a statement is made anew.
	again = 24 * time.Hour
	// selfSigned is how long a certificate that is made is good for.
	selfSigned = 10 * 365 * 24 * time.Hour
)

// CertificateFile is where the certificate is that is made when none is given: what clients are to trust.
func CertificateFile(dir string) string { return filepath.Join(dir, "certificate.pem") }

// Load returns the identity, and makes what is not there yet.
func Load(cfg Config) (*channel.Identity, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	now := cfg.Now()
	seed, err := token.LoadSeed(filepath.Join(cfg.Dir, "static-seed"))
	if err != nil {
		return nil, fmt.Errorf("known: %w", err)
	}
	own := cfg.CertFile == ""
	if own {
		cfg.CertFile, cfg.KeyFile = CertificateFile(cfg.Dir), filepath.Join(cfg.Dir, "certificate-key.pem")
		if err := certify(cfg, now); err != nil {
			return nil, err
		}
	}
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("known: %w", err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("known: %s holds no key that signs", cfg.KeyFile)
	}
	until := now.Add(validity)
	if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return nil, fmt.Errorf("known: %w", err)
	} else if leaf.NotAfter.Before(until) {
		until = leaf.NotAfter
	}
	if !until.After(now) {
		return nil, fmt.Errorf("known: the certificate in %s has expired", cfg.CertFile)
	}
	return channel.NewIdentity(channel.IdentityConfig{
		Domain: cfg.Domain, Seed: seed, Chain: pair.Certificate, Signer: signer, From: now.Add(-skew), Until: until, Suites: cfg.Suites,
	})
}

// certify makes the certificate if there is none. The key goes first: without a certificate it is made anew.
func certify(cfg Config, now time.Time) error {
	if _, err := os.Stat(cfg.CertFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	chain, signer, err := channel.SelfSigned(cfg.Domain, now.Add(-skew), now.Add(selfSigned))
	if err != nil {
		return fmt.Errorf("known: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return fmt.Errorf("known: %w", err)
	}
	defer clear(key)
	if err := write(cfg.KeyFile, "PRIVATE KEY", key); err != nil {
		return err
	}
	return write(cfg.CertFile, "CERTIFICATE", chain[0])
}

// write makes a file whole or not at all.
func write(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	defer clear(text)
	aside, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("known: %w", err)
	}
	defer func() { _ = os.Remove(aside.Name()) }()
	_, err = aside.Write(text)
	if err == nil {
		err = aside.Sync()
	}
	if err := errors.Join(err, aside.Close()); err != nil {
		return fmt.Errorf("known: %w", err)
	}
	if err := os.Rename(aside.Name(), path); err != nil {
		return fmt.Errorf("known: %w", err)
	}
	return nil
}

// Keeping returns a function for run.Group.Go that makes the statement anew each day and hands it to set, with the one before, which
// clients still know. One that cannot be made is tried again; the one before is good for weeks.
func Keeping(cfg Config, now *channel.Identity, set func(...*channel.Identity) error, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(again)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
			next, err := Load(cfg)
			if err == nil {
				err = set(next, now)
			}
			if err != nil {
				log.Error("identity not renewed", slog.Any("err", err), slog.Time("until", now.Until()))
				continue
			}
			now = next
		}
	}
}
