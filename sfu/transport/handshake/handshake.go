// Package handshake runs the DTLS side of a transport: the handshake as server, the
// SRTP keys that come out of it, and close_notify both ways.
//
// It owns the server's certificate and one association per session. During its
// handshake that is a goroutine, those that pion/dtls needs, and a bounded queue of
// incoming datagrams, into which the packet thread puts copies. After it the association
// is parked: what is left are the keys of the record layer and the server's last flight,
// and a record that comes is dealt with where it comes. Everything for the packet thread
// is posted to it.
//
// It promises that no method which the packet thread calls ever blocks, that at most
// Config.Limit handshakes are under way at a time, that a handshake ends within
// Config.Timeout, that a finished one costs no goroutine, no timer and less than a
// kilobyte, that a parked association acts once on a record that its keys authenticate
// and on nothing else, and that no goroutine is left after Close.
//
// It does not check cookies: a ClientHello reaches it only from an address that has
// passed ICE, which proves more than a HelloVerifyRequest (RFC 6347 §4.2.1). It keeps
// nothing of an association but what the close needs; there is no resumption, no second
// handshake. Application data (RFC 6347 §4.1) goes through the connection that Data returns,
// for those who have asked for it; to all others it is nothing.
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
	// It must not block, nor call the Pool: some calls are made under its lock.
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
	Parked       int    // of Associations: the finished ones
	Refused      uint64 // ClientHellos above the limit
	Done         uint64
	Failed       uint64
	Mismatches   uint64 // of Failed: certificate is not the one in the answer
	Dropped      uint64 // datagrams for which a queue had no room, or of no association
	Rejected     uint64 // records to parked associations: malformed, forged or old
	Repeated     uint64 // last flights sent again
}

// Pool runs handshakes for one Mux. All methods are safe for concurrent use; Start,
// Deliver and End never block.
type Pool struct {
	cfg         Config
	fingerprint transport.Fingerprint
	cancel      context.CancelFunc
	ctx         context.Context
	running     sync.WaitGroup

	refused, done, failed, mismatches, dropped, rejected, repeated atomic.Uint64

	mu           sync.Mutex
	closed       bool
	handshakes   int
	associations map[transport.SessionID]*association // with a handshake under way
	ending       int                                  // associations that are in no table any more, but run
	parked       map[transport.SessionID]*parked
	data         map[transport.SessionID]*dataConn // nil: nobody has asked for it
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
		parked:       make(map[transport.SessionID]*parked),
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
	if p.closed || p.handshakes >= p.cfg.Limit || p.associations[id] != nil || p.parked[id] != nil {
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
	defer p.mu.Unlock()
	if a := p.associations[id]; a != nil {
		if !a.conn.deliver(datagram) {
			p.dropped.Add(1)
		}
		return
	}
	if k := p.parked[id]; k != nil {
		if k.data == nil {
			p.act(id, k, p.receive(k, datagram, nil))
		} else if !k.data.deliver(datagram) {
			p.dropped.Add(1)
		}
		return
	}
	p.dropped.Add(1)
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
	if k := p.parked[id]; k != nil {
		delete(p.parked, id)
		p.leave(id, k)
	}
	p.cut(id)
}

// Close ends all associations, each with a close_notify, and waits for their
// goroutines. Closing twice is harmless.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, k := range p.parked {
		delete(p.parked, id)
		p.leave(id, k)
	}
	for id := range p.data {
		p.cut(id)
	}
	return nil
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Running:      p.handshakes,
		Associations: len(p.associations) + p.ending + len(p.parked),
		Parked:       len(p.parked),
		Refused:      p.refused.Load(),
		Done:         p.done.Load(),
		Failed:       p.failed.Load(),
		Mismatches:   p.mismatches.Load(),
		Dropped:      p.dropped.Load(),
		Rejected:     p.rejected.Load(),
		Repeated:     p.repeated.Load(),
	}
}

// replaced reports whether a later association has the same session id.
func (p *Pool) replaced(a *association) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.associations[a.id]
	return b != nil && b != a
}

// over takes a, whose handshake is over, out of the table, and makes room for the next.
// It answers false if End has been there before. The caller holds the lock.
func (p *Pool) over(a *association) bool {
	p.handshakes--
	if p.associations[a.id] == a {
		delete(p.associations, a.id)
		return true
	}
	p.ending--
	return false
}

// forget lets go of an association whose handshake has failed.
func (p *Pool) forget(a *association) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over(a)
}

// park goes on with what is left of a. From here on the packet thread does its work.
func (p *Pool) park(a *association, k *parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over(a) {
		p.leave(a.id, k)
		return
	}
	p.parked[a.id] = k
	var app func([]byte)
	if c := p.data[a.id]; c != nil {
		k.enliven()
		c.attach(k)
		k.data, app = c, c.early
	}
	last, queued := a.conn.unheard(func(d []byte) { p.Deliver(a.id, d) })
	// The Finished in it, if it is that, has been answered.
	if p.receive(k, last, app) == closed {
		p.act(a.id, k, closed)
		return
	}
	for _, d := range queued {
		v := p.receive(k, d, app)
		p.act(a.id, k, v)
		if v == closed {
			return
		}
	}
}

// receive is k.receive, counted.
func (p *Pool) receive(k *parked, datagram []byte, app func([]byte)) verdict {
	v, refused := k.receive(datagram, app)
	p.rejected.Add(uint64(refused))
	return v
}

// act does what a datagram to a parked association asks for.
func (p *Pool) act(id transport.SessionID, k *parked, v verdict) {
	switch v {
	case again:
		p.repeated.Add(1)
		p.cfg.Post(func(m *transport.Mux, now int64) {
			if p.owner(id) == k {
				m.HandshakePacket(id, k.flight, now)
			}
		})
	case closed:
		delete(p.parked, id)
		p.leave(id, k) // RFC 5246 §7.2.1
		p.cut(id)
		p.cfg.Post(func(m *transport.Mux, now int64) {
			if p.vacant(id) {
				m.HandshakeClosed(id, now)
			}
		})
	}
}

// leave sends a close_notify for an association that has left the table.
func (p *Pool) leave(id transport.SessionID, k *parked) {
	b := k.farewell()
	k.wipe()
	p.cfg.Post(func(m *transport.Mux, now int64) {
		if p.vacant(id) {
			m.HandshakePacket(id, b, now)
		}
	})
}

// owner returns the parked association of a session.
func (p *Pool) owner(id transport.SessionID) *parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parked[id]
}

// vacant reports whether no later association has the id.
func (p *Pool) vacant(id transport.SessionID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.associations[id] == nil && p.parked[id] == nil
}

func (p *Pool) profiles() []dtls.SRTPProtectionProfile {
	out := make([]dtls.SRTPProtectionProfile, len(p.cfg.Profiles))
	for i, s := range p.cfg.Profiles {
		out[i] = dtls.SRTPProtectionProfile(s)
	}
	return out
}
