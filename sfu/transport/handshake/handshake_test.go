package handshake_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
	"github.com/sotto-edge/sotto/sfu/transport/internal/shardtest"
)

const (
	gcm = dtls.SRTP_AEAD_AES_128_GCM
	cm  = dtls.SRTP_AES128_CM_HMAC_SHA1_80
)

// observer is a Handler that keeps payloads and the last state.
type observer struct {
	payloads chan string
	state    atomic.Int32
}

func newObserver() *observer { return &observer{payloads: make(chan string, 16)} }

func (o *observer) RTP(_ *transport.Session, b *pktbuf.Buf, h *rtp.Header, _ uint64, _ int64) {
	o.payloads <- string(b.Bytes()[h.HeaderLen:])
}
func (o *observer) RTCP(*transport.Session, []byte, int64) {}
func (o *observer) State(_ *transport.Session, st transport.State, _ int64) {
	o.state.Store(int32(st))
}

func (o *observer) is(st transport.State) func() bool {
	return func() bool { return transport.State(o.state.Load()) == st }
}

// rig is a shard, a session on it and a client.
type rig struct {
	t     *testing.T
	shard *shardtest.Shard
	seen  *observer
	id    transport.SessionID
	peer  *shardtest.Peer
	cert  tls.Certificate
	sess  *transport.Session
}

func newRig(t *testing.T, cfg handshake.Config) *rig {
	t.Helper()
	r := &rig{t: t, seen: newObserver(), id: 1}
	r.shard = shardtest.New(t, shardtest.Config{Node: 1, Handler: r.seen, Handshake: cfg})
	r.client(1)
	return r
}

// client adds a session and a client for it.
func (r *rig) client(id transport.SessionID) {
	r.t.Helper()
	var err error
	if r.cert, err = handshake.NewCertificate(); err != nil {
		r.t.Fatal(err)
	}
	r.id = id
	var local transport.LocalParams
	r.shard.Do(func(m *transport.Mux, now int64) {
		if r.sess, err = m.Open(id, now); err == nil {
			local = r.sess.Local()
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.peer = shardtest.NewPeer(r.t, r.shard.Addr(), local)
}

// answer gives the session the client's parameters and starts the client.
func (r *rig) answer(fp transport.Fingerprint) {
	r.t.Helper()
	r.shard.Do(func(_ *transport.Mux, now int64) {
		if err := r.sess.SetRemote(r.peer.Params(fp), now); err != nil {
			r.t.Error(err)
		}
	})
	r.peer.Start()
}

// dial does the client's side of a handshake.
func (r *rig) dial(opts ...dtls.ClientOption) (*dtls.Conn, error) {
	all := append([]dtls.ClientOption{
		dtls.WithCertificates(r.cert),
		dtls.WithInsecureSkipVerify(true), // the fingerprint is checked below
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithSRTPProtectionProfiles(gcm, cm),
		dtls.WithFlightInterval(50 * time.Millisecond),
	}, opts...)
	conn, err := dtls.ClientWithOptions(r.peer.Conn(), r.peer.Conn().LocalAddr(), all...)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), shardtest.Patience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (r *rig) connect(opts ...dtls.ClientOption) *dtls.Conn {
	r.t.Helper()
	r.answer(transport.FingerprintOf(r.cert.Certificate[0]))
	conn, err := r.dial(opts...)
	if err != nil {
		r.t.Fatalf("client: %v", err)
	}
	shardtest.Until(r.t, "connected", r.seen.is(transport.StateConnected))
	return conn
}

// keys are the client's contexts.
func keys(t *testing.T, conn *dtls.Conn) (p srtp.Profile, send, recv *srtp.Context) {
	t.Helper()
	profile, _ := conn.SelectedSRTPProtectionProfile()
	st, ok := conn.ConnectionState()
	if !ok {
		t.Fatal("no state")
	}
	p = srtp.Profile(profile)
	material, err := st.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, p.ExporterLen())
	if err != nil {
		t.Fatal(err)
	}
	client, server, err := srtp.SplitExported(p, material)
	if err != nil {
		t.Fatal(err)
	}
	if send, err = srtp.New(client, srtp.Sender); err != nil {
		t.Fatal(err)
	}
	if recv, err = srtp.New(server, srtp.Receiver); err != nil {
		t.Fatal(err)
	}
	return p, send, recv
}

func TestServerChoosesProfile(t *testing.T) {
	for _, tc := range []struct {
		name   string
		client []dtls.SRTPProtectionProfile
		want   srtp.Profile
	}{
		{"GCM first", []dtls.SRTPProtectionProfile{gcm, cm}, srtp.AEADAES128GCM},
		{"CM first", []dtls.SRTPProtectionProfile{cm, gcm}, srtp.AEADAES128GCM},
		{"weak first", []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_32, dtls.SRTP_AEAD_AES_256_GCM, cm, gcm}, srtp.AEADAES128GCM},
		{"CM only", []dtls.SRTPProtectionProfile{cm}, srtp.AES128CMHMACSHA1_80},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, handshake.Config{})
			conn := r.connect(dtls.WithSRTPProtectionProfiles(tc.client...))
			defer func() { _ = conn.Close() }()
			got, send, recv := keys(t, conn)
			if got != tc.want {
				t.Fatalf("profile %v, want %v", got, tc.want)
			}
			if st, _ := conn.ConnectionState(); !r.shard.Pool.Fingerprint().Matches(st.PeerCertificates[0]) {
				t.Error("server's certificate is not the one in the offer")
			}
			// The keys fit, both ways.
			st, err := send.Stream(7)
			if err != nil {
				t.Fatal(err)
			}
			h := slices.Clip(rtp.AppendHeader(nil, false, 111, 1, 0, 7, false))
			b, err := send.SealRTP(st, 1, h, []byte("up"))
			if err != nil {
				t.Fatal(err)
			}
			r.peer.Send(b)
			if got := <-r.seen.payloads; got != "up" {
				t.Errorf("server got %q", got)
			}
			r.shard.Do(func(*transport.Mux, int64) {
				if err := r.sess.SendRTCP([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}); err != nil {
					t.Error(err)
				}
				if got := r.sess.Cipher(); got != tc.want.String() {
					t.Errorf("Cipher() = %q", got)
				}
			})
			if _, err := recv.OpenRTCP(nil, <-r.peer.Media); err != nil {
				t.Errorf("client: %v", err)
			}
		})
	}
}

func sha512Fingerprint(t *testing.T, name string, der []byte) transport.Fingerprint {
	t.Helper()
	var sum []byte
	switch name {
	case "sha-384":
		s := sha512.Sum384(der)
		sum = s[:]
	case "sha-512":
		s := sha512.Sum512(der)
		sum = s[:]
	}
	var parts []string
	for _, b := range sum {
		parts = append(parts, hex.EncodeToString([]byte{b}))
	}
	fp, err := transport.ParseFingerprint(name, strings.Join(parts, ":"))
	if err != nil {
		t.Fatal(err)
	}
	return fp
}

func TestFingerprints(t *testing.T) {
	for _, name := range []string{"sha-384", "sha-512"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, handshake.Config{})
			r.answer(sha512Fingerprint(t, name, r.cert.Certificate[0]))
			conn, err := r.dial()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		})
	}
}

func TestHandshakeRefused(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		change   func(*rig)
		opts     []dtls.ClientOption
		mismatch uint64
	}{
		{name: "other certificate", change: func(r *rig) { r.cert, _ = handshake.NewCertificate() }, mismatch: 1},
		{name: "certificate of another key", change: func(r *rig) {
			key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			r.cert.PrivateKey = key
		}},
		{name: "certificate of an RSA key", change: func(r *rig) { r.cert.PrivateKey = rsaKey }},
		{name: "no certificate", opts: []dtls.ClientOption{dtls.WithGetClientCertificate(
			func(*dtls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil })}},
		{name: "no extended master secret", opts: []dtls.ClientOption{dtls.WithExtendedMasterSecret(dtls.DisableExtendedMasterSecret)}},
		{name: "no common profile", opts: []dtls.ClientOption{dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_32)}},
		{name: "weak cipher", opts: []dtls.ClientOption{dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, handshake.Config{})
			fp := transport.FingerprintOf(r.cert.Certificate[0])
			if tc.change != nil {
				tc.change(r)
			}
			r.answer(fp)
			// A client sometimes believes that it is through before the server's alert
			// comes; what counts is what the server believes.
			if conn, err := r.dial(tc.opts...); err == nil {
				_, err = conn.Read(make([]byte, 100))
				if err == nil {
					t.Error("client got data")
				}
				_ = conn.Close()
			}
			shardtest.Until(t, "failed", r.seen.is(transport.StateFailed))
			st := r.shard.Pool.Stats()
			if st.Done != 0 || st.Failed != 1 || st.Mismatches != tc.mismatch {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// No HelloVerifyRequest: ICE has shown that the client is where it says.
func TestOneRoundTripLess(t *testing.T) {
	r := newRig(t, handshake.Config{})
	first := make(chan byte, 1)
	r.peer.Drop = func(b []byte) bool {
		select {
		case first <- b[13]:
		default:
		}
		if len(b) > 1200 {
			t.Errorf("datagram of %d bytes", len(b))
		}
		return false
	}
	conn := r.connect()
	defer func() { _ = conn.Close() }()
	if got := <-first; got != 2 {
		t.Errorf("first handshake message is of type %d, want ServerHello", got)
	}
}

func TestRetransmission(t *testing.T) {
	r := newRig(t, handshake.Config{})
	var n atomic.Int32
	r.peer.Drop = func([]byte) bool { return n.Add(1) <= 3 }
	conn := r.connect()
	_ = conn.Close()
}

// A ClientHello that comes before the answer is kept until there is a fingerprint.
func TestHelloBeforeAnswer(t *testing.T) {
	r := newRig(t, handshake.Config{})
	r.peer.Start()
	done := make(chan error, 1)
	go func() {
		conn, err := r.dial(dtls.WithFlightInterval(time.Hour)) // repeats nothing
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	// The client's first check may have been lost on its way to a session that did not
	// know the client's credentials; DTLS needs only that it was authenticated.
	r.shard.Until(t, "hello", func(m *transport.Mux, _ int64) bool { return m.Counters().HellosBeforeAnswer > 0 })
	r.shard.Do(func(_ *transport.Mux, now int64) {
		if err := r.sess.SetRemote(r.peer.Params(transport.FingerprintOf(r.cert.Certificate[0])), now); err != nil {
			t.Error(err)
		}
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestLimit(t *testing.T) {
	r := newRig(t, handshake.Config{Limit: 1, Timeout: 400 * time.Millisecond})
	fp := transport.FingerprintOf(r.cert.Certificate[0])
	r.answer(fp)
	hello := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	r.shard.Until(t, "path", func(*transport.Mux, int64) bool { _, ok := r.sess.Path(); return ok })
	r.peer.Send(hello) // the only place is taken by a client that goes no further
	shardtest.Until(t, "running", func() bool { return r.shard.Pool.Stats().Running == 1 })

	first := r.sess
	r.client(2)
	r.answer(transport.FingerprintOf(r.cert.Certificate[0]))
	conn, err := r.dial() // repeats its ClientHello until there is room
	if err != nil {
		t.Fatal(err)
	}
	shardtest.Until(t, "done", func() bool { return r.shard.Pool.Stats().Done == 1 }) // the client knows sooner than we do
	_ = conn.Close()
	if st := r.shard.Pool.Stats(); st.Refused == 0 || st.Done != 1 || st.Failed != 1 {
		t.Errorf("stats %+v", st)
	}
	r.shard.Do(func(m *transport.Mux, _ int64) {
		if first.State() != transport.StateFailed {
			t.Errorf("stuck handshake in %v", first.State())
		}
		if m.Counters().HandshakesDeferred == 0 {
			t.Error("no handshake counted as deferred")
		}
	})
}

// The queue of an association is bounded, and delivering never blocks.
func TestQueueIsBounded(t *testing.T) {
	posted := make(chan func(*transport.Mux, int64), 1000)
	p, err := handshake.NewPool(handshake.Config{Post: func(f func(*transport.Mux, int64)) { posted <- f }})
	if err != nil {
		t.Fatal(err)
	}
	p.Deliver(1, []byte("nobody"))
	if !p.Start(1, transport.FingerprintOf([]byte("x"))) || p.Start(1, transport.Fingerprint{}) {
		t.Error("start")
	}
	for range 10000 {
		p.Deliver(1, make([]byte, 1200))
	}
	p.End(1)
	p.End(1)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p.Start(2, transport.FingerprintOf([]byte("x"))) {
		t.Error("closed pool starts")
	}
	if st := p.Stats(); st.Associations != 0 || st.Running != 0 || st.Dropped == 0 {
		t.Errorf("stats %+v", st)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestClientCloses(t *testing.T) {
	r := newRig(t, handshake.Config{})
	conn := r.connect()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	shardtest.Until(t, "closed", r.seen.is(transport.StateClosed))
	shardtest.Until(t, "association gone", func() bool { return r.shard.Pool.Stats().Associations == 0 })
}

func TestServerCloses(t *testing.T) {
	r := newRig(t, handshake.Config{})
	conn := r.connect()
	r.shard.Do(func(*transport.Mux, int64) { r.sess.Close() })
	if _, err := conn.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("client read %v, want EOF after close_notify", err)
	}
	_ = conn.Close()
	shardtest.Until(t, "association gone", func() bool { return r.shard.Pool.Stats().Associations == 0 })
}

// After Close no goroutine is left, whatever the associations were doing.
func TestNoGoroutineLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("rig", func(t *testing.T) {
		r := newRig(t, handshake.Config{})
		conn := r.connect()
		r.shard.Do(func(m *transport.Mux, now int64) {
			for id := transport.SessionID(100); id < 110; id++ { // handshakes that never get anywhere
				if !r.shard.Pool.Start(id, transport.FingerprintOf([]byte("x"))) {
					t.Error("not started")
				}
			}
		})
		r.shard.Stop()
		if st := r.shard.Pool.Stats(); st.Associations != 0 || st.Running != 0 {
			t.Errorf("stats %+v", st)
		}
		r.peer.Close()
		_ = conn.Close()
	})
	shardtest.Until(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before })
}

func TestConfigIsChecked(t *testing.T) {
	post := func(func(*transport.Mux, int64)) {}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]handshake.Config{
		"no post":         {},
		"negative limit":  {Post: post, Limit: -1},
		"unknown profile": {Post: post, Profiles: []srtp.Profile{0x7777}},
		"RSA":             {Post: post, Certificate: tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: rsaKey}},
	} {
		if _, err := handshake.NewPool(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// When the server's last flight reaches the client, with which the client may send media, the keys for it are there.
func TestKeysComeBeforeTheLastFlight(t *testing.T) {
	r := newRig(t, handshake.Config{})
	for id := range transport.SessionID(10) {
		if id > 0 {
			r.client(id + 1)
		}
		sess, ready := r.sess, make(chan bool, 16)
		r.peer.Drop = func(b []byte) bool {
			if b[0] == 20 { // ChangeCipherSpec
				r.shard.Do(func(*transport.Mux, int64) { ready <- sess.Sender() != nil })
			}
			return false
		}
		conn := r.connect()
		if !<-ready {
			t.Errorf("client %d: no keys yet", id)
		}
		_ = conn.Close()
	}
}
