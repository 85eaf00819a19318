package turn_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
)

const (
	realm    = "example.org"
	name     = "alice"
	password = "correct horse"
	rest     = "north"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
	loopback  = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
)

// service is a server on loopback with every transport.
type service struct {
	*turn.Server
	udp, udp6, tcp, tls, dtls netip.AddrPort
	listeners                 []turn.Listener
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "turn"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func authority(t testing.TB) *auth.Authority {
	t.Helper()
	return authorityOf(t, auth.Config{
		Realm: realm, Secrets: []auth.Secret{auth.NewSecret(rest)},
		Users: []auth.User{{Name: name, Password: auth.NewSecret(password)}, {Name: "bob", Password: auth.NewSecret(password)}},
	})
}

func authorityOf(t testing.TB, cfg auth.Config) *auth.Authority {
	t.Helper()
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve starts a server; edit changes its configuration.
func serve(t testing.TB, edit func(*turn.Config)) *service {
	t.Helper()
	s := &service{}
	cfg := turn.Config{
		Auth: authority(t), Peers: policy.NewPeers(loopback, nil), Relay4: loopback4, Relay6: loopback6,
		Limits: turn.Limits{SourceRequests: 10000, Requests: 100000},
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for at, addr := range map[*netip.AddrPort]netip.Addr{&s.udp: loopback4, &s.udp6: loopback6} {
		x, err := turn.Listen(netip.AddrPortFrom(addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		*at = x.LocalAddr()
		cfg.Sockets = append(cfg.Sockets, x)
	}
	listener := func(l net.Listener, err error, over turn.Transport) netip.AddrPort {
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listeners = append(cfg.Listeners, turn.Listener{Listener: l, Transport: over})
		return netip.MustParseAddrPort(l.Addr().String())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.tcp = listener(l, err, turn.TCP)
	cert := certificate(t)
	l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	s.tls = listener(l, err, turn.TLS)
	l, err = dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtls.WithCertificates(cert))
	s.dtls = listener(l, err, turn.DTLS)
	if edit != nil {
		edit(&cfg)
	}
	s.listeners = cfg.Listeners
	if s.Server, err = turn.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// echo answers every datagram with the same.
func echo(t testing.TB, at netip.Addr) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if _, err := c.WriteToUDPAddrPort(b[:n], from); err != nil {
				return
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// client is one that writes what it is told to, right or wrong.
type client struct {
	t     testing.TB
	conn  net.Conn
	name  string
	key   stun.MessageIntegrity
	nonce stun.Nonce
	realm stun.Realm
}

func dial(t testing.TB, to netip.AddrPort, user string) *client {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t: t, conn: c, name: user, key: stun.NewLongTermIntegrity(user, realm, password)}
}

// raw sends a message and returns the answer to it, nil if there is none.
func (c *client) raw(m *stun.Message, wait time.Duration) *stun.Message {
	c.t.Helper()
	if _, err := c.conn.Write(m.Raw); err != nil {
		c.t.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 2048)
	for {
		n, err := c.conn.Read(b)
		if err != nil {
			return nil
		}
		out := &stun.Message{Raw: bytes.Clone(b[:n])}
		if out.Decode() == nil && out.TransactionID == m.TransactionID {
			return out
		}
	}
}

func build(t testing.TB, method stun.Method, setters ...stun.Setter) *stun.Message {
	t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const patience = 5 * time.Second

// ask makes a request with credentials, learning the nonce first, and returns the code of the answer, 0 for success.
func (c *client) ask(method stun.Method, setters ...stun.Setter) (*stun.Message, int) {
	c.t.Helper()
	for range 3 {
		var m *stun.Message
		if c.nonce == nil {
			m = build(c.t, method, setters...)
		} else {
			m = build(c.t, method, append(setters, stun.NewUsername(c.name), c.realm, c.nonce, c.key)...)
		}
		answer := c.raw(m, patience)
		if answer == nil {
			c.t.Fatalf("%s: no answer", method)
		}
		code := codeOf(answer)
		if code != 401 && code != 438 || c.nonce != nil && code == 401 {
			if c.nonce != nil && code != 401 && code != 400 {
				if err := c.key.Check(answer); err != nil {
					c.t.Errorf("%s: the answer is not signed: %v", method, err)
				}
			}
			return answer, code
		}
		if err := answer.Parse(&c.nonce, &c.realm); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Fatal("the server wants nonces without end")
	return nil, 0
}

func codeOf(m *stun.Message) int {
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var e stun.ErrorCodeAttribute
	if e.GetFrom(m) != nil {
		return -1
	}
	return int(e.Code)
}

// attr is an attribute by its value.
func attr(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

var wantUDP, wantTCP = attr(stun.AttrRequestedTransport, 17, 0, 0, 0), attr(stun.AttrRequestedTransport, 6, 0, 0, 0)

func peer(a netip.AddrPort) stun.Setter { return xorPeer(a) }

type xorPeer netip.AddrPort

func (x xorPeer) AddTo(m *stun.Message) error {
	a := netip.AddrPort(x)
	// A mapped address is written as it is: the point of the test.
	b := []byte{0, 1, byte(a.Port()>>8) ^ 0x21, byte(a.Port()) ^ 0x12}
	if a.Addr().Is6() {
		b[1] = 2
	}
	mask := append([]byte{0x21, 0x12, 0xA4, 0x42}, m.TransactionID[:]...)
	for i, v := range a.Addr().AsSlice() {
		b = append(b, v^mask[i])
	}
	m.Add(stun.AttrXORPeerAddress, b)
	return nil
}

// allocate returns the relayed address.
func (c *client) allocate(setters ...stun.Setter) netip.AddrPort {
	c.t.Helper()
	m, code := c.ask(stun.MethodAllocate, append([]stun.Setter{wantUDP}, setters...)...)
	if code != 0 {
		c.t.Fatalf("allocate: %d", code)
	}
	var x stun.XORMappedAddress
	if err := x.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
		c.t.Fatal(err)
	}
	a, _ := netip.AddrFromSlice(x.IP)
	return netip.AddrPortFrom(a.Unmap(), uint16(x.Port))
}
