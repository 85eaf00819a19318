// Package handshake runs the DTLS side of a transport: the handshake as server, the
// SRTP keys that come out of it, and the wait for close_notify.
//
// It owns the server's certificate and one association per session: a goroutine, the
// three that pion/dtls needs, and a bounded queue of incoming datagrams. The packet
// thread only puts copies into that queue; everything for the packet thread is posted
// to it.
//
// It promises that no method which the packet thread calls ever blocks, that at most
// Config.Limit handshakes are under way at a time, that a handshake ends within
// Config.Timeout, and that no goroutine is left after Close.
//
// It does not check cookies: a ClientHello reaches it only from an address that has
// passed ICE, which proves more than a HelloVerifyRequest (RFC 6347 §4.2.1). It keeps
// nothing of an association but what the close needs; there is no resumption and no
// application data.
package handshake

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Config is what a Pool needs to know. Post is required.
type Config struct {
	// Post runs f on the thread that owns the Mux, soon and in the order of the calls.
	// It must not block.
	Post func(f func(m *transport.Mux, now int64))
	// Certificate is the server's; without one the Pool makes its own.
	Certificate tls.Certificate
	// Profiles in order of the server's preference; nil means AES-128-GCM, then
	// AES-CM-SHA1-80.
	Profiles []srtp.Profile
	// Limit is how many handshakes may be under way at a time; 0 means 64.
	Limit int
	// Timeout ends a handshake that does not come to an end; 0 means 20 s.
	Timeout time.Duration
	// MTU is the largest datagram; 0 means 1200.
	MTU int
}

const (
	defaultLimit   = 64
	defaultTimeout = 20 * time.Second
	defaultMTU     = 1200
	// RFC 6347 §4.2.4.1 begins at one second; people wait for this handshake, and
	// ICE has shown the path to work.
	retransmitAfter = 200 * time.Millisecond
)

// Stats are a Pool's counters.
type Stats struct {
	Running      int    // handshakes under way
	Associations int    // these, and the finished ones that are not closed
	Refused      uint64 // ClientHellos above the limit
	Done         uint64
	Failed       uint64
	Mismatches   uint64 // of Failed: certificate is not the one in the answer
	Dropped      uint64 // datagrams for which a queue had no room
}

// Pool runs handshakes for one Mux. All methods are safe for concurrent use; Start,
// Deliver and End never block.
type Pool struct {
	cfg         Config
	fingerprint transport.Fingerprint
	cancel      context.CancelFunc
	ctx         context.Context
	running     sync.WaitGroup

	refused, done, failed, mismatches, dropped atomic.Uint64

	mu           sync.Mutex
	closed       bool
	handshakes   int
	associations map[transport.SessionID]*association
	ending       int // associations that are in no table any more
}

// NewPool makes a pool. Close it.
func NewPool(cfg Config) (*Pool, error) {
	switch {
	case cfg.Post == nil:
		return nil, errors.New("handshake: config: no way to post results")
	case cfg.Limit < 0 || cfg.Timeout < 0 || cfg.MTU < 0:
		return nil, errors.New("handshake: config: negative limit")
	}
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.Profiles == nil {
		cfg.Profiles = []srtp.Profile{srtp.AEADAES128GCM, srtp.AES128CMHMACSHA1_80}
	}
	for _, p := range cfg.Profiles {
		if p.KeyLen() == 0 {
			return nil, fmt.Errorf("handshake: config: unknown SRTP profile %#04x", uint16(p))
		}
	}
	if len(cfg.Certificate.Certificate) == 0 {
		c, err := NewCertificate()
		if err != nil {
			return nil, err
		}
		cfg.Certificate = c
	}
	if _, ok := cfg.Certificate.PrivateKey.(*ecdsa.PrivateKey); !ok {
		return nil, errors.New("handshake: config: certificate has no ECDSA key")
	}
	p := &Pool{
		cfg:          cfg,
		fingerprint:  transport.FingerprintOf(cfg.Certificate.Certificate[0]),
		associations: make(map[transport.SessionID]*association),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// NewCertificate makes a self-signed ECDSA P-256 certificate. It says nothing: the
// client knows it by the fingerprint in the offer (RFC 8827 §6.5).
func NewCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("handshake: key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("handshake: serial number: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "WebRTC"},
		NotBefore:    now.AddDate(0, 0, -1),
		NotAfter:     now.AddDate(10, 0, 0), // a node runs long, and nobody looks
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("handshake: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Fingerprint returns that of the server's certificate, for the offer.
func (p *Pool) Fingerprint() transport.Fingerprint { return p.fingerprint }

// Start implements transport.Handshaker.
func (p *Pool) Start(id transport.SessionID, fp transport.Fingerprint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.handshakes >= p.cfg.Limit || p.associations[id] != nil {
		p.refused.Add(1)
		return false
	}
	a := newAssociation(p, id, fp)
	p.associations[id] = a
	p.handshakes++
	p.running.Add(1)
	go a.run()
	return true
}

// Deliver implements transport.Handshaker.
func (p *Pool) Deliver(id transport.SessionID, datagram []byte) {
	p.mu.Lock()
	a := p.associations[id]
	p.mu.Unlock()
	if a == nil || !a.conn.deliver(datagram) {
		p.dropped.Add(1)
	}
}

// End implements transport.Handshaker.
func (p *Pool) End(id transport.SessionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.associations[id]; a != nil {
		delete(p.associations, id)
		p.ending++
		a.ended.Store(true)
		a.cancel()
	}
}

// Close ends all associations, each with a close_notify, and waits for their
// goroutines. Closing twice is harmless.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
	return nil
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Running:      p.handshakes,
		Associations: len(p.associations) + p.ending,
		Refused:      p.refused.Load(),
		Done:         p.done.Load(),
		Failed:       p.failed.Load(),
		Mismatches:   p.mismatches.Load(),
		Dropped:      p.dropped.Load(),
	}
}

// replaced reports whether a later association has the same session id.
func (p *Pool) replaced(a *association) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.associations[a.id]
	return b != nil && b != a
}

// handshakeOver makes room for the next handshake.
func (p *Pool) handshakeOver() {
	p.mu.Lock()
	p.handshakes--
	p.mu.Unlock()
}

// forget takes a out of the table, if End has not.
func (p *Pool) forget(a *association) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.associations[a.id] == a {
		delete(p.associations, a.id)
	} else {
		p.ending--
	}
}

func (p *Pool) profiles() []dtls.SRTPProtectionProfile {
	out := make([]dtls.SRTPProtectionProfile, len(p.cfg.Profiles))
	for i, s := range p.cfg.Profiles {
		out[i] = dtls.SRTPProtectionProfile(s)
	}
	return out
}
