package porter_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/porter"
)

const patience = 10 * time.Second

func config(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
}

func open(t *testing.T, edit func(*porter.Config)) *porter.Porter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := porter.Config{TLS: config(t), TURN: true, ICE: true}
	if edit != nil {
		edit(&cfg)
	}
	p := porter.New(l, cfg)
	t.Cleanup(func() {
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// stun is the beginning of a STUN message.
var stun = []byte{0, 3, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// TestProtocols [N4]: all that a port carries comes out where it belongs, whole, however it comes in pieces.
func TestProtocols(t *testing.T) {
	p := open(t, nil)
	framed := append([]byte{0, byte(len(stun))}, stun...)
	secure := func(protocols ...string) func() (net.Conn, error) {
		return func() (net.Conn, error) {
			return tls.Dial("tcp", p.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		}
	}
	plain := func() (net.Conn, error) { return net.Dial("tcp", p.Addr().String()) }
	for _, x := range []struct {
		name string
		dial func() (net.Conn, error)
		says []byte
		at   net.Listener
	}{
		{"TURN over TCP", plain, stun, p.TURN},
		{"ICE over TCP", plain, framed, p.ICE},
		{"TURN over TLS", secure(), stun, p.TURNTLS},
		{"TURN over TLS by ALPN", secure("stun.turn"), stun, p.TURNTLS},
		{"HTTPS without ALPN", secure(), []byte("GET / HTTP/1.1\r\n\r\n"), p.Web},
		{"HTTPS", secure("http/1.1"), []byte("GET / HTTP/1.1\r\n\r\n"), p.Web},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := x.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := make(chan error, 1)
			go func() {
				for i := range x.says {
					if _, err := c.Write(x.says[i : i+1]); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			got, err := x.at.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			_ = got.SetDeadline(time.Now().Add(patience))
			b := make([]byte, len(x.says))
			if _, err := io.ReadFull(got, b); err != nil || !bytes.Equal(b, x.says) {
				t.Errorf("%q: %v", b, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
	if got, want := p.Stats(), (porter.Stats{HTTPS: 2, TURN: 1, TURNTLS: 2, ICE: 1}); got != want {
		t.Errorf("%+v", got)
	}
}

// TestWeb: an HTTP server behind it speaks HTTP/2 and HTTP/1.1, and tells who speaks no TLS so.
func TestWeb(t *testing.T) {
	p := open(t, nil)
	srv := &http.Server{TLSConfig: config(t), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(p.Web) }()
	defer func() { _ = srv.Close(); <-served }()
	for _, http2 := range []bool{true, false} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
		r, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if (string(b) == "HTTP/2.0") != http2 {
			t.Errorf("%s, with HTTP/2: %v", b, http2)
		}
		tr.CloseIdleConnections()
	}
	r, err := (&http.Client{Timeout: patience}).Get("http://" + p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if r.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "HTTPS") {
		t.Errorf("%d %s", r.StatusCode, b)
	}
}

// TestRefusals: who says nothing, who is one too many, and who wants what is not spoken here is hung up on.
func TestRefusals(t *testing.T) {
	p := open(t, func(c *porter.Config) { c.TURN, c.Most, c.Patience = false, 1, 200*time.Millisecond })
	dial := func(b []byte) net.Conn {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = c.Write(b)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		return c
	}
	gone := func(what string, c net.Conn) {
		if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
			t.Errorf("%s gets an answer", what)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s stays", what)
		}
	}
	silent := dial(stun[:5])
	gone("one too many", dial(stun))
	gone("who says nothing", silent)
	gone("a client of TURN", dial(stun))
	if got, want := p.Stats(), (porter.Stats{Refused: 2, Failed: 1}); got != want {
		t.Errorf("%+v", got)
	}
}

// FuzzClassify: more bytes never change what has become clear, ten are enough, and only what has the cookie is STUN.
func FuzzClassify(f *testing.F) {
	for _, b := range [][]byte{stun, append([]byte{0, 20}, stun...), {22, 3, 1}, []byte("GET / HTTP/1.1"), {0}, {3, 255, 0, 0, 0, 0, 0, 0, 0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := porter.Unclear
		for n := range len(b) + 1 {
			k := porter.Classify(b[:n])
			if was != porter.Unclear && k != was {
				t.Fatalf("%x is %v, and with more %v", b[:n], was, k)
			}
			if n >= 10 && k == porter.Unclear {
				t.Fatalf("%x is unclear", b[:n])
			}
			was = k
		}
		at := map[porter.Kind]int{porter.TURN: 4, porter.ICE: 6}
		if i, ok := at[was]; ok && binary.BigEndian.Uint32(b[i:]) != 0x2112A442 {
			t.Fatalf("%x is %v", b, was)
		}
	})
}
