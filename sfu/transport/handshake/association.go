package handshake

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/internal/silence"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// exporterLabel is that of RFC 5764 §4.2.
const exporterLabel = "EXTRACTOR-dtls_srtp"

var errFingerprint = errors.New("handshake: certificate is not the one that the answer names")

// association is one session's DTLS, from its ClientHello to the end of its handshake.
// What comes after that is parked.
type association struct {
	pool   *Pool
	id     transport.SessionID
	peer   transport.Fingerprint
	conn   *packetConn
	ctx    context.Context
	cancel context.CancelFunc
	ended  atomic.Bool // by End: nobody wants its results any more

	mu   sync.Mutex
	last [][]byte // the server's last flight, which waits for the keys
}

func newAssociation(p *Pool, id transport.SessionID, fp transport.Fingerprint) *association {
	a := &association{pool: p, id: id, peer: fp}
	a.ctx, a.cancel = context.WithCancel(p.ctx)
	a.conn = newPacketConn(a.send)
	return a
}

// run is the association's goroutine. It ends with the handshake, and with everything
// that it started.
func (a *association) run() {
	defer a.pool.running.Done()
	defer a.cancel()

	keys, rest, err := a.shake()
	if err != nil {
		a.pool.forget(a)
		a.pool.failed.Add(1)
		if errors.Is(err, errFingerprint) {
			a.pool.mismatches.Add(1)
		}
		a.post((*transport.Mux).HandshakeFailed)
		return
	}
	a.pool.done.Add(1)
	a.post(func(m *transport.Mux, id transport.SessionID, now int64) {
		m.HandshakeDone(id, keys, now)
		keys.Local.Zero()
		keys.Remote.Zero()
	})
	a.finish()
	a.pool.park(a, rest)
}

// shake does the handshake, and returns what comes out of it: the keys of the media, and
// the association without its dtls.Conn, whose goroutines and buffers only a handshake
// needs.
func (a *association) shake() (transport.Keys, *parked, error) {
	p := a.pool
	conn, err := dtls.ServerWithOptions(a.conn, a.conn.LocalAddr(),
		dtls.WithCertificates(p.cfg.Certificate),
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		dtls.WithVerifyPeerCertificate(a.verify),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithSRTPProtectionProfiles(p.profiles()...),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
		dtls.WithInsecureSkipVerifyHello(true), // ICE has verified the address
		dtls.WithFlightInterval(retransmitAfter),
		dtls.WithMTU(p.cfg.MTU),
		dtls.WithLoggerFactory(silence.Logger{}),
	)
	if err != nil {
		return transport.Keys{}, nil, fmt.Errorf("handshake: %w", err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(a.ctx, p.cfg.Timeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return transport.Keys{}, nil, fmt.Errorf("handshake: %w", err)
	}
	a.conn.silence() // no close_notify, and no sequence number used after those that are read below
	keys, err := exportKeys(conn)
	if err != nil {
		return transport.Keys{}, nil, err
	}
	rest, err := park(conn, a.conn.lastWritten())
	return keys, rest, err
}

// verify checks the client's certificate against the answer (RFC 8122 §6.2). That the
// client has its key, pion/dtls has checked before.
func (a *association) verify(certs [][]byte, _ [][]*x509.Certificate) error {
	if len(certs) == 0 || !a.peer.Matches(certs[0]) {
		return errFingerprint
	}
	return nil
}

// exportKeys is RFC 5764 §4.2 for the server.
func exportKeys(conn *dtls.Conn) (transport.Keys, error) {
	profile, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return transport.Keys{}, errors.New("handshake: client does not use SRTP")
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return transport.Keys{}, errors.New("handshake: no connection state")
	}
	p := srtp.Profile(profile)
	material, err := state.ExportKeyingMaterial(exporterLabel, nil, p.ExporterLen())
	if err != nil {
		return transport.Keys{}, fmt.Errorf("handshake: export: %w", err)
	}
	client, server, err := srtp.SplitExported(p, material)
	clear(material)
	if err != nil {
		return transport.Keys{}, fmt.Errorf("handshake: export: %w", err)
	}
	return transport.Keys{Local: server, Remote: client}, nil
}

// send posts an outgoing datagram, which it keeps. An association that has been ended
// still sends, unless its session id has found a new owner.
func (a *association) send(datagram []byte) {
	if !a.hold(datagram) {
		a.emit(datagram)
	}
}

// changeCipherSpec is the first record of the server's last flight (RFC 6347 §4.3.1, RFC 5246 §7.1).
const changeCipherSpec = 20

// hold keeps the last flight until the keys are where media needs them. With it the handshake is over for the client, which sends
// at once, perhaps a key frame and never another; on a busy machine that would come before its keys.
func (a *association) hold(datagram []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) == 0 && (len(datagram) == 0 || datagram[0] != changeCipherSpec) {
		return false
	}
	a.last = append(a.last, datagram)
	return true
}

// finish lets the last flight go, behind the keys.
func (a *association) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, datagram := range a.last {
		a.emit(datagram)
	}
	a.last = nil
}

func (a *association) emit(datagram []byte) {
	a.pool.cfg.Post(func(m *transport.Mux, now int64) {
		if !a.pool.replaced(a) {
			m.HandshakePacket(a.id, datagram, now)
		}
	})
}

// post posts a result, which is void if the session has ended the association by then.
func (a *association) post(f func(*transport.Mux, transport.SessionID, int64)) {
	a.pool.cfg.Post(func(m *transport.Mux, now int64) {
		if !a.ended.Load() {
			f(m, a.id, now)
		}
	})
}
