package turn_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	pion5 "github.com/pion/turn/v5"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
)

// mediaPort answers what it is given with the same, from another goroutine, as the media port of the process does.
type mediaPort struct {
	at   netip.AddrPort
	came chan handed
}

type handed struct {
	from, to netip.AddrPort
	b        []byte
}

func (m *mediaPort) Deliver(from, to netip.AddrPort, b []byte) bool {
	select {
	case m.came <- handed{from, to, bytes.Clone(b)}:
		return true
	default:
		return false
	}
}

// withMedia starts a server that may relay to its own media port and to nobody else. Nothing listens there.
func withMedia(t *testing.T) (*service, *mediaPort) {
	t.Helper()
	m := &mediaPort{at: netip.MustParseAddrPort("127.0.0.1:8443"), came: make(chan handed, 64)}
	peers := policy.NewPeers(nil, nil)
	peers.Know([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}, []netip.AddrPort{m.at})
	s := serve(t, func(c *turn.Config) { c.Peers, c.Media = peers, m })
	var echoing sync.WaitGroup
	echoing.Go(func() {
		for d := range m.came {
			s.FromMedia(d.from, d.to, d.b)
		}
	})
	t.Cleanup(func() { close(m.came); echoing.Wait() })
	return s, m
}

// TestMediaPortInside [A4]: the media port is a peer that no socket leads to, over every transport, by indications and by channels, every byte
// compared; it is the only one of the machine.
func TestMediaPortInside(t *testing.T) {
	s, m := withMedia(t)
	silent := &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
	for _, transport := range []turn.Transport{turn.UDP, turn.TCP, turn.TLS, turn.DTLS} {
		t.Run(string(transport), func(t *testing.T) {
			conn, to := over(t, s, transport)
			c, err := pion5.NewClient(&pion5.ClientConfig{
				TURNServerAddr: to.String(), STUNServerAddr: to.String(), Conn: conn, Username: name, Password: password, LoggerFactory: silent,
				RequestedAddressFamily: pion5.RequestedAddressFamilyIPv4,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Listen(); err != nil {
				t.Fatal(err)
			}
			relay, err := c.Allocate()
			if err != nil {
				t.Fatal(err)
			}
			defer relay.Close()
			if err := c.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:8443"))); err == nil {
				t.Error("a permission for another address of the machine")
			}
			// The client binds a channel behind the first packets.
			for round := range 40 {
				want := bytes.Repeat([]byte(fmt.Sprint(round)), 5+round*17) // in a stream this client finds no shorter frame
				if _, err := relay.WriteTo(want, net.UDPAddrFromAddrPort(m.at)); err != nil {
					t.Fatal(err)
				}
				_ = relay.SetReadDeadline(time.Now().Add(patience))
				b := make([]byte, 2048)
				n, from, err := relay.ReadFrom(b)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if from.String() != m.at.String() || !bytes.Equal(b[:n], want) {
					t.Fatalf("round %d: %q from %s", round, b[:n], from)
				}
			}
			a := s.Allocations()[0]
			if len(a.Channels) != 1 || a.Up.Packets != 40 || a.Down.Packets != 40 || a.Up.Bytes != a.Down.Bytes {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestMediaPortWithoutPermission: what the media port has for a relayed address needs a permission of its client's, as from any peer.
func TestMediaPortWithoutPermission(t *testing.T) {
	s, m := withMedia(t)
	c := dial(t, s.udp, name)
	relayed := c.allocate()
	s.FromMedia(relayed, m.at, []byte("unasked"))
	s.FromMedia(netip.MustParseAddrPort("127.0.0.1:1"), m.at, []byte("to nobody"))
	if a := s.Allocations()[0]; a.RefusedByPolicy != 1 || a.Down.Packets != 0 {
		t.Errorf("%+v", a)
	}
}
