package kms_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	client "github.com/sotto-edge/sotto/client/kms"
	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/door"
	"github.com/sotto-edge/sotto/kms/link"
	"github.com/sotto-edge/sotto/kms/relay"
	"github.com/sotto-edge/sotto/kms/wire"
)

func (l *lab) serve(ctx context.Context, c link.Conn) { l.server.Serve(ctx, c) }

// over dials a KMS through a relay, and keeps what the relay sees.
func over(url string, seen func([]byte)) func(*client.Config) {
	return func(c *client.Config) {
		c.Dial = func(ctx context.Context) (client.Conn, error) {
			conn, _, err := websocket.Dial(ctx, url, nil)
			if err != nil {
				return nil, err
			}
			return tap{Conn: link.Socket(conn), sent: seen, got: func(f []byte) []byte { seen(f); return f }}, nil
		}
	}
}

// TestThroughRelay: a KMS without an inbound port, dialled out to a relay, serves clients that come to the relay. What the relay
// carries has neither token nor names nor keys in it (K3, TD8).
func TestThroughRelay(t *testing.T) {
	l := newLab(t, kms.Config{})
	r := relay.New(relay.Config{Authorized: func(domain, bearer string) bool { return domain == "example.org" && bearer == "known" }})
	web := httptest.NewServer(r)
	defer web.Close()
	defer r.Close()
	url := "ws" + strings.TrimPrefix(web.URL, "http") + "/kms/example.org"

	var mu sync.Mutex
	var all []byte
	alice := newUser(t, "u_alice")
	a := l.client(alice, over(url, func(f []byte) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, f...)
	}))
	if err := a.Ping(t.Context()); err == nil {
		t.Fatal("there is a KMS before one has dialled")
	}
	serving := make(chan struct{}, 9)
	group := run.NewGroup(t.Context())
	group.Go("relay", door.Relay{URL: url + "/serve", Bearer: "known"}.Dialling(func(ctx context.Context, c link.Conn) {
		serving <- struct{}{}
		l.serve(ctx, c)
	}))
	var space wire.Resource
	var err error
	for { // the line comes when it comes
		if space, err = a.CreateResource(t.Context(), wire.NewResource{AuthIDs: []string{"u_bob"}, Count: 1}); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	<-serving
	k, err := a.Key(t.Context(), space.Current)
	check(t, err)
	b := l.client(newUser(t, "u_bob"), over(url, func([]byte) {}))
	same, err := b.Key(t.Context(), space.Current)
	check(t, err)
	if !k.Material.Equal(same.Material) {
		t.Error("the keys differ")
	}
	mu.Lock()
	if !bytes.Contains(all, []byte("example.org")) {
		t.Error("the search does not find the name of the KMS, which is there")
	}
	for name, secret := range map[string][]byte{
		"a token": []byte("st1."), "a user": []byte("u_alice"), "a member": []byte("u_bob"), "a key": k.Material.Expose(), "a URL": []byte("kms://"),
	} {
		if bytes.Contains(all, secret) {
			t.Errorf("the relay sees %s", name)
		}
	}
	mu.Unlock()
	check(t, group.Stop())

	stranger, _, err := websocket.Dial(t.Context(), url+"/serve", nil)
	if err == nil {
		_ = stranger.CloseNow()
		t.Error("somebody serves the domain without a word")
	}
}

// The KMS beside the relay is reached by a socket for the owner alone; a second one does not take it over.
func TestUnixSocket(t *testing.T) {
	l := newLab(t, kms.Config{})
	path := filepath.Join(t.TempDir(), "kms.sock")
	listener, err := door.Unix(path)
	check(t, err)
	group := run.NewGroup(t.Context())
	group.Go("socket", door.Listening(listener, l.serve))
	if _, err := door.Unix(path); err == nil {
		t.Error("two listen on one socket")
	}
	a := l.client(newUser(t, "u_alice"), func(c *client.Config) {
		c.Dial = func(ctx context.Context) (client.Conn, error) { return door.Dial(path)(ctx) }
	})
	check(t, a.Ping(t.Context()))

	r := relay.New(relay.Config{Clients: 1})
	r.Beside("example.org", door.Dial(path))
	web := httptest.NewServer(r)
	defer web.Close()
	url := "ws" + strings.TrimPrefix(web.URL, "http") + "/kms/"
	b := l.client(newUser(t, "u_bob"), over(url+"example.org", func([]byte) {}))
	check(t, b.Ping(t.Context()))
	c := l.client(newUser(t, "u_carol"), over(url+"example.org", func([]byte) {}))
	if err := c.Ping(t.Context()); err == nil {
		t.Error("more clients than there are places")
	}
	check(t, b.Close())
	if _, _, err := websocket.Dial(t.Context(), url+"example.net", nil); err == nil {
		t.Error("a domain that is not served")
	}
	if _, _, err := websocket.Dial(t.Context(), url+"example.org/serve", nil); err == nil {
		t.Error("a KMS dials in where none may")
	}
	r.Close()
	r.Close()
	check(t, a.Close())
	check(t, group.Stop())
	again, err := door.Unix(path)
	check(t, err)
	check(t, again.Close())
}
