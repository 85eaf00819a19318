package handshake_test

import (
	"context"
	"encoding/binary"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
	"github.com/sotto-edge/sotto/sfu/transport/internal/shardtest"
)

// tap keeps what a client has written.
type tap struct {
	net.PacketConn
	mu   sync.Mutex
	sent [][]byte
}

func (c *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	c.sent = append(c.sent, slices.Clone(b))
	c.mu.Unlock()
	return c.PacketConn.WriteTo(b, to)
}

// sealed returns the last datagram that ends in a record of epoch 1.
func (c *tap) sealed(t *testing.T) []byte {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range slices.Backward(c.sent) {
		for b := d; len(b) >= 13; {
			if b[4] == 1 {
				return slices.Clone(d)
			}
			b = b[min(len(b), 13+int(binary.BigEndian.Uint16(b[11:]))):]
		}
	}
	t.Fatal("the client has sealed nothing")
	return nil
}

// tapped connects, and returns what the client has written too.
func (r *rig) tapped(opts ...dtls.ClientOption) (*dtls.Conn, *tap) {
	r.t.Helper()
	wire := &tap{PacketConn: r.peer.Conn()}
	r.answer(transport.FingerprintOf(r.cert.Certificate[0]))
	conn, err := dtls.ClientWithOptions(wire, wire.LocalAddr(), append([]dtls.ClientOption{
		dtls.WithCertificates(r.cert),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithSRTPProtectionProfiles(gcm),
		dtls.WithFlightInterval(50 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), shardtest.Patience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.parked(1)
	return conn, wire
}

func (r *rig) parked(n int) {
	r.t.Helper()
	shardtest.Until(r.t, "parked", func() bool {
		st := r.shard.Pool.Stats()
		return st.Parked == n && st.Running == 0
	})
}

// Both cipher suites, both ways to close.
func TestParkedCloses(t *testing.T) {
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384} {
		t.Run(suite.String(), func(t *testing.T) {
			t.Run("client", func(t *testing.T) {
				r := newRig(t, handshake.Config{})
				conn, _ := r.tapped(dtls.WithCipherSuites(suite))
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				shardtest.Until(t, "closed", r.seen.is(transport.StateClosed))
				if st := r.shard.Pool.Stats(); st.Associations != 0 || st.Parked != 0 {
					t.Errorf("stats %+v", st)
				}
			})
			t.Run("server", func(t *testing.T) {
				r := newRig(t, handshake.Config{})
				conn, _ := r.tapped(dtls.WithCipherSuites(suite))
				r.shard.Do(func(*transport.Mux, int64) { r.sess.Close() })
				if _, err := conn.Read(make([]byte, 100)); err == nil {
					t.Error("client got data")
				}
				_ = conn.Close()
			})
			t.Run("pool", func(t *testing.T) {
				r := newRig(t, handshake.Config{})
				conn, _ := r.tapped(dtls.WithCipherSuites(suite))
				if err := r.shard.Pool.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 100)); err == nil {
					t.Error("client got data")
				}
				_ = conn.Close()
			})
		})
	}
}

// The server's last flight is lost: the client sends its own again, and gets the
// server's again (RFC 6347 §4.2.4), though nothing is left of the handshake.
func TestLastFlightAgain(t *testing.T) {
	r := newRig(t, handshake.Config{})
	var lost atomic.Int32
	r.peer.Drop = func(b []byte) bool { // ChangeCipherSpec begins it
		return b[0] == 20 && lost.Add(1) <= 3
	}
	conn, _ := r.tapped()
	defer func() { _ = conn.Close() }()
	if st := r.shard.Pool.Stats(); st.Repeated < 3 || st.Done != 1 {
		t.Errorf("stats %+v", st)
	}
}

// Copies of an old record, and records that only look like one, are counted and have
// no effect; a new one still has.
func TestOldAndForgedRecords(t *testing.T) {
	r := newRig(t, handshake.Config{})
	conn, wire := r.tapped()
	old := wire.sealed(t)
	for range 100 {
		r.peer.Send(old)
	}
	shardtest.Until(t, "copies refused", func() bool { return r.shard.Pool.Stats().Rejected >= 99 })
	st := r.shard.Pool.Stats()
	if st.Repeated > 1 {
		t.Errorf("last flight sent %d times for copies of one record", st.Repeated)
	}
	forged := slices.Clone(old[len(old)-61:]) // the Finished
	if forged[0] != 22 {
		t.Fatalf("no Finished at the end of % x", old)
	}
	before := st.Rejected
	forgeries := 0
	for kind := range byte(3) {
		for n := range byte(40) {
			forged[0] = 20 + kind         // an alert among them
			forged[10] = 10 + n + 40*kind // a sequence number that has not been
			forged[len(forged)-1]++
			r.peer.Send(forged)
			forgeries++
		}
	}
	shardtest.Until(t, "forgeries refused", func() bool { return r.shard.Pool.Stats().Rejected >= before+uint64(forgeries) })
	if st := r.shard.Pool.Stats(); st.Parked != 1 || st.Repeated > 1 {
		t.Errorf("stats %+v", st)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	shardtest.Until(t, "closed", r.seen.is(transport.StateClosed))
}

// A finished handshake costs no goroutine.
func TestParkedHasNoGoroutine(t *testing.T) {
	r := newRig(t, handshake.Config{})
	const clients = 5
	var conns []*dtls.Conn
	for n := range clients {
		if n > 0 {
			r.client(transport.SessionID(n + 1))
		}
		r.answer(transport.FingerprintOf(r.cert.Certificate[0]))
		conn, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	r.parked(clients)
	shardtest.Until(t, "no goroutine of the server's associations", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "handshake.(*association)")
	})
	for _, c := range conns {
		_ = c.Close()
	}
}

// A close_notify right behind the handshake finds the association in the middle of
// being parked, and is heard all the same. One that the dtls.Conn reads before it has
// said that the handshake is over makes it a failed one, which ends the session as well.
func TestCloseAtOnce(t *testing.T) {
	r := newRig(t, handshake.Config{})
	for n := range 30 {
		if n > 0 {
			r.client(transport.SessionID(n + 1))
		}
		r.answer(transport.FingerprintOf(r.cert.Certificate[0]))
		conn, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		sess := r.sess
		r.shard.Until(t, "closed", func(*transport.Mux, int64) bool {
			return sess.State() == transport.StateClosed || sess.State() == transport.StateFailed
		})
	}
	if st := r.shard.Pool.Stats(); st.Associations != 0 {
		t.Errorf("stats %+v", st)
	}
}
