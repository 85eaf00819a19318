package tlscert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// start is within the life of every certificate made here.
var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func open(t *testing.T, cfg Config) *Source {
	t.Helper()
	s, err := New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSelfSignedIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first := open(t, Config{Dir: dir, Now: at(start)}).Leaf()
	again := open(t, Config{Dir: dir, Now: at(start.Add(time.Hour))}).Leaf()
	if !first.Equal(again) {
		t.Error("a restart made another certificate")
	}
	for _, name := range []string{"localhost", "[127.0.0.1]", "[::1]"} {
		if err := first.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if d := first.NotAfter.Sub(first.NotBefore); d > 398*24*time.Hour {
		t.Errorf("valid for %v, which systems refuse", d)
	}
	for name, want := range map[string]os.FileMode{"key.pem": 0o600, "cert.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSelfSignedIsRenewed(t *testing.T) {
	tests := []struct {
		name   string
		later  time.Duration
		names  []string
		renew  bool
		damage string
	}{
		{name: "in use", later: 100 * 24 * time.Hour},
		{name: "about to end", later: 336 * 24 * time.Hour, renew: true},
		{name: "ended", later: 400 * 24 * time.Hour, renew: true},
		{name: "clock set back", later: -48 * time.Hour, renew: true},
		{name: "a name that it has", names: []string{"localhost", "127.0.0.1", "::1"}},
		{name: "another name", names: []string{"meet.example.org"}, renew: true},
		{name: "another address", names: []string{"198.51.100.7"}, renew: true},
		{name: "damaged", damage: "nonsense", renew: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			first := open(t, Config{Dir: dir, Now: at(start)}).Leaf()
			if tt.damage != "" {
				if err := os.WriteFile(CertFile(dir), []byte(tt.damage), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			now := start.Add(tt.later)
			second := open(t, Config{Dir: dir, Names: tt.names, Now: at(now)}).Leaf()
			if got := !first.Equal(second); got != tt.renew {
				t.Errorf("renewed: %v, want %v", got, tt.renew)
			}
			if now.Before(second.NotBefore) || now.After(second.NotAfter) {
				t.Error("not valid at the time it is used")
			}
			if !covers(second, tt.names) {
				t.Errorf("does not stand for %v", tt.names)
			}
			if !slices.Equal(first.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo) {
				t.Error("the key is another one: pins break")
			}
		})
	}
}

func TestUnusableKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(keyFile(dir), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}, quiet); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("error is %v, want what to do", err)
	}
}

// own writes a certificate of one's own for the name.
func own(t *testing.T, files Files, name string) {
	t.Helper()
	key, err := makeKey(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := issue(key, []string{name}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(files.Cert, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func ownFiles(t *testing.T) Files {
	dir := t.TempDir()
	return Files{Cert: filepath.Join(dir, "own.pem"), Key: filepath.Join(dir, "own.key")}
}

func TestOwnCertificateIsReloadedWithoutADrop(t *testing.T) {
	files := ownFiles(t)
	own(t, files, "one.example.org")
	s := open(t, Config{Files: files, Dir: t.TempDir()})

	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()

	dial := func(name string) *tls.Conn {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(s.Leaf())
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	echo := func(conn net.Conn) {
		t.Helper()
		buf := make([]byte, 5)
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("echo %q, %v", buf, err)
		}
	}

	old := dial("one.example.org")
	echo(old)
	own(t, files, "two.example.org")
	if err := s.Reload(files); err != nil {
		t.Fatal(err)
	}
	echo(old)
	echo(dial("two.example.org"))
}

func TestUnusableFilesLeaveTheOldOneInUse(t *testing.T) {
	files := ownFiles(t)
	own(t, files, "one.example.org")
	s := open(t, Config{Files: files, Dir: t.TempDir()})
	before := s.Leaf()

	if err := s.Reload(Files{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing files: %v", err)
	}
	other := ownFiles(t)
	own(t, other, "two.example.org")
	if err := s.Reload(Files{Cert: files.Cert, Key: other.Key}); err == nil {
		t.Error("a key of another certificate was accepted")
	}
	if !s.Leaf().Equal(before) {
		t.Error("the certificate changed")
	}
	if _, err := New(Config{Files: Files{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem"}}, quiet); err == nil {
		t.Error("a start without its certificate succeeded")
	}
}

func TestFilesToSelfSignedAndBack(t *testing.T) {
	files := ownFiles(t)
	own(t, files, "one.example.org")
	s := open(t, Config{Dir: t.TempDir()})
	for _, step := range []struct {
		files Files
		name  string
	}{{files, "one.example.org"}, {Files{}, "localhost"}, {files, "one.example.org"}} {
		if err := s.Reload(step.files); err != nil {
			t.Fatal(err)
		}
		if err := s.Leaf().VerifyHostname(step.name); err != nil {
			t.Error(err)
		}
	}
}

func TestWatch(t *testing.T) {
	files := ownFiles(t)
	own(t, files, "one.example.org")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Files: files, Dir: t.TempDir()})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Watch(ctx) }()

		valid := func(name string) bool {
			time.Sleep(lookEvery)
			synctest.Wait()
			return s.Leaf().VerifyHostname(name) == nil
		}
		if !valid("one.example.org") {
			t.Error("lost its certificate without a change")
		}
		// The bubble's clock stands still between the writes; the size tells.
		if err := os.WriteFile(files.Cert, []byte("half wri"), 0o644); err != nil {
			t.Fatal(err)
		}
		if !valid("one.example.org") {
			t.Error("took a half-written file over")
		}
		own(t, files, "two.with.a.longer.name.example.org")
		if !valid("two.with.a.longer.name.example.org") {
			t.Error("did not notice the new certificate")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWatchRenewsTheSelfSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		s := open(t, Config{Dir: t.TempDir(), Now: func() time.Time { return start.Add(time.Duration(ahead.Load())) }})
		first := s.Leaf()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Watch(ctx) }()
		ahead.Store(int64(lifetime - renewBefore + time.Minute))
		time.Sleep(lookEvery)
		synctest.Wait()
		if s.Leaf().Equal(first) {
			t.Error("not renewed thirty days before its end")
		}
		stop()
		<-done
	})
}

// Row TR2: TLS 1.3 and 1.2, forward secrecy and AEAD only.
func TestOldVersionsAndSuitesAreRefused(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	roots := x509.NewCertPool()
	roots.AddCert(s.Leaf())
	tests := []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			here, there := net.Pipe()
			defer here.Close()
			go func() {
				_ = tls.Server(there, s.TLSConfig()).Handshake()
				_ = there.Close()
			}()
			tt.client.ServerName, tt.client.RootCAs = "localhost", roots
			err := tls.Client(here, tt.client).Handshake()
			if (err == nil) != tt.ok {
				t.Errorf("handshake: %v", err)
			}
		})
	}
}
