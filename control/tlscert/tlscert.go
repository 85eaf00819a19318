// Package tlscert supplies the certificate of the appliance's TLS listeners:
// one's own, read from files and taken over when they change, or a
// self-signed one that is made at the first start and kept.
//
// It promises that a listener never has to be closed for a new certificate,
// that a change to something unusable is refused while the old one stays in
// use, and that the self-signed key outlives renewals, so that whoever pins
// it keeps trusting the appliance. Certificates from an ACME authority are
// not its business.
package tlscert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Files names a certificate of one's own. The zero value asks for the
// self-signed one.
type Files struct {
	Cert, Key string
}

// Config is what a Source needs.
type Config struct {
	Files Files
	// Dir is where the self-signed certificate is kept.
	Dir string
	// Names are names and addresses that the self-signed certificate must
	// stand for, besides those of the machine at the time it is made.
	Names []string
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
}

// lookEvery is how often files are looked at for a change.
const lookEvery = 5 * time.Second

// Source hands out one certificate, the current one.
type Source struct {
	cfg     Config
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]

	mu    sync.Mutex // guards the rest; never held during a handshake
	files Files
	seen  [2]stamp
}

// stamp tells whether a file has changed without reading it.
type stamp struct {
	modified time.Time
	size     int64
}

// New loads the certificate, or makes it.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Source{cfg: cfg, log: log}
	if err := s.Reload(cfg.Files); err != nil {
		return nil, err
	}
	return s, nil
}

// TLSConfig returns the configuration of a listener that always presents the
// current certificate: TLS 1.2 or later, forward secrecy and AEAD only.
func (s *Source) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
		// For TLS 1.2; those of TLS 1.3 are all good and not configurable.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// Leaf returns the certificate in use.
func (s *Source) Leaf() *x509.Certificate { return s.current.Load().Leaf }

// Reload reads the files, or the self-signed certificate when none are named.
// When they cannot be used the present certificate stays and the error says
// why.
func (s *Source) Reload(files Files) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cert *tls.Certificate
	var err error
	seen := s.seen
	if files == (Files{}) {
		cert, err = s.selfSigned()
	} else {
		seen = look(files) // before reading: a change in between is seen again
		cert, err = Load(files)
	}
	if err != nil {
		return err
	}
	before := s.current.Swap(cert)
	s.files, s.seen = files, seen
	if before != nil && bytes.Equal(before.Leaf.Raw, cert.Leaf.Raw) {
		return nil
	}
	s.log.Info("certificate in use", "subject", cert.Leaf.Subject.String(), "issuer", cert.Leaf.Issuer.String(),
		"names", Names(cert.Leaf), "not_after", cert.Leaf.NotAfter)
	return nil
}

// Watch takes over changed files and renews the self-signed certificate until
// the context ends.
func (s *Source) Watch(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var refused error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := s.refresh()
		// A file that is half written is refused, and whole five seconds
		// later; one that stays bad is reported once.
		if err != nil && (refused == nil || err.Error() != refused.Error()) {
			s.log.Warn("certificate not taken over, the present one stays in use", "err", err)
		}
		refused = err
	}
}

func (s *Source) refresh() error {
	s.mu.Lock()
	files, seen := s.files, s.seen
	s.mu.Unlock()
	if files == (Files{}) {
		if !due(s.Leaf(), s.cfg.Now()) {
			return nil
		}
	} else if look(files) == seen {
		return nil
	}
	return s.Reload(files)
}

// look returns the stamps of both files; those of a missing one are zero.
func look(files Files) (seen [2]stamp) {
	for i, name := range []string{files.Cert, files.Key} {
		if info, err := os.Stat(name); err == nil {
			seen[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return seen
}

// Load reads a certificate of one's own, with its leaf parsed.
func Load(files Files) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("tlscert: %s and %s: %w", files.Cert, files.Key, err)
	}
	return &cert, nil
}

// Names returns the names and addresses that a certificate stands for.
func Names(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// CertFile is where the self-signed certificate lies below a folder. It is
// what a client on the same machine trusts.
func CertFile(dir string) string { return filepath.Join(dir, "cert.pem") }

func keyFile(dir string) string { return filepath.Join(dir, "key.pem") }

// selfSigned returns the kept certificate, made anew when there is none, when
// it is due, or when it lacks a configured name. That the machine has other
// addresses than then is no reason: who has accepted a certificate would have
// to do so again in every other network.
func (s *Source) selfSigned() (*tls.Certificate, error) {
	key, err := loadKey(keyFile(s.cfg.Dir))
	if err != nil {
		return nil, err
	}
	if kept, err := os.ReadFile(CertFile(s.cfg.Dir)); err == nil {
		cert, err := pair(kept, key)
		if err == nil && !due(cert.Leaf, s.cfg.Now()) && covers(cert.Leaf, s.cfg.Names) {
			return cert, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("tlscert: %w", err)
	}
	der, err := issue(key, append(localNames(), s.cfg.Names...), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writeFile(CertFile(s.cfg.Dir), text, 0o644); err != nil {
		return nil, err
	}
	return pair(text, key)
}

// pair joins a certificate with its key; the error of one that is not of this
// key is not nil.
func pair(text []byte, key crypto.Signer) (*tls.Certificate, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("tlscert: %w", err)
	}
	cert, err := tls.X509KeyPair(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, fmt.Errorf("tlscert: %w", err)
	}
	return &cert, nil
}

func covers(c *x509.Certificate, names []string) bool {
	for _, name := range names {
		if c.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}
