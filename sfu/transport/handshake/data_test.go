package handshake_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
	"github.com/sotto-edge/sotto/sfu/transport/internal/shardtest"
)

// Application data goes both ways, whether it was asked for before the handshake or after it, and ends with the association.
func TestData(t *testing.T) {
	for _, early := range []bool{true, false} {
		r := newRig(t, handshake.Config{})
		var server io.ReadWriteCloser
		ask := func() {
			t.Helper()
			c, err := r.shard.Pool.Data(r.id)
			if err != nil {
				t.Fatal(err)
			}
			server = c
			if _, err := r.shard.Pool.Data(r.id); !errors.Is(err, handshake.ErrData) {
				t.Errorf("a second user: %v", err)
			}
		}
		if early {
			ask()
			if _, err := server.Write([]byte("to nobody")); err != nil {
				t.Error(err)
			}
		}
		conn := r.connect()
		r.parked(1)
		if !early {
			ask()
		}
		b := make([]byte, 2000)
		for i := range 200 {
			want := bytes.Repeat([]byte{byte(i)}, 1+6*i)
			for _, way := range []struct {
				from io.Writer
				to   io.Reader
			}{{conn, server}, {server, conn}} {
				if _, err := way.from.Write(want); err != nil {
					t.Fatal(err)
				}
				if n, err := way.to.Read(b); err != nil || !bytes.Equal(b[:n], want) {
					t.Fatalf("early %v, message %d: %d bytes, %v", early, i, n, err)
				}
			}
		}
		if st := r.shard.Pool.Stats(); st.Rejected != 0 || st.Dropped != 0 {
			t.Errorf("stats %+v", st)
		}
		if early {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			r.shard.Do(func(*transport.Mux, int64) { r.sess.Close() })
		}
		if _, err := server.Read(b); !errors.Is(err, io.EOF) {
			t.Errorf("read after the end: %v", err)
		}
		if _, err := server.Write(b[:10]); err == nil {
			t.Error("written after the end")
		}
		if early { // by the client: the session hears of it from who reads
			shardtest.Until(t, "closed", r.seen.is(transport.StateClosed))
		}
		if _, err := r.shard.Pool.Data(r.id); err != nil {
			t.Errorf("after the end: %v", err)
		}
		_ = conn.Close()
	}
}

// A reader who does not read costs the packet thread nothing but a bounded queue, and nobody else anything.
func TestDataNotRead(t *testing.T) {
	r := newRig(t, handshake.Config{})
	server, err := r.shard.Pool.Data(r.id)
	if err != nil {
		t.Fatal(err)
	}
	conn := r.connect()
	r.parked(1)
	for range 1000 {
		if _, err := conn.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	shardtest.Until(t, "the queue is full", func() bool { return r.shard.Pool.Stats().Dropped > 0 })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if st := r.shard.Pool.Stats(); st.Parked != 1 {
		t.Errorf("the association has ended with its data: %+v", st)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	shardtest.Until(t, "closed", r.seen.is(transport.StateClosed))
}
