package turn_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	pion3 "github.com/pion/turn/v3"
	pion5 "github.com/pion/turn/v5"

	"github.com/sotto-edge/sotto/turn"
)

// over connects a client of pion's by a transport.
func over(t *testing.T, s *service, transport turn.Transport) (net.PacketConn, netip.AddrPort) {
	t.Helper()
	var c net.Conn
	var err error
	to := s.udp
	switch transport {
	case turn.UDP:
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p, to
	case turn.TCP:
		to = s.tcp
		c, err = net.Dial("tcp", to.String())
	case turn.TLS:
		to = s.tls
		c, err = tls.Dial("tcp", to.String(), &tls.Config{InsecureSkipVerify: true})
	case turn.DTLS:
		to = s.dtls
		c, err = dtls.DialWithOptions("udp", net.UDPAddrFromAddrPort(to), dtls.WithInsecureSkipVerify(true))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return pion5.NewSTUNConn(c), to
}

// TestPionClients [A4]: two generations of a library's client, over every transport, to peers of both families, every byte compared.
func TestPionClients(t *testing.T) {
	s := serve(t, nil)
	silent := &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
	for _, transport := range []turn.Transport{turn.UDP, turn.TCP, turn.TLS, turn.DTLS} {
		for _, family := range []string{"v5 IPv4", "v5 IPv6", "v3 IPv4"} {
			t.Run(fmt.Sprintf("%s %s", transport, family), func(t *testing.T) {
				conn, to := over(t, s, transport)
				var relay net.PacketConn
				far := loopback4
				if strings.HasPrefix(family, "v3") {
					c, err := pion3.NewClient(&pion3.ClientConfig{
						TURNServerAddr: to.String(), Conn: conn, Username: name, Password: password, LoggerFactory: silent,
					})
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if err := c.Listen(); err != nil {
						t.Fatal(err)
					}
					if relay, err = c.Allocate(); err != nil {
						t.Fatal(err)
					}
				} else {
					cfg := pion5.ClientConfig{TURNServerAddr: to.String(), Conn: conn, Username: name, Password: password, LoggerFactory: silent}
					cfg.RequestedAddressFamily = pion5.RequestedAddressFamilyIPv4
					if strings.HasSuffix(family, "6") {
						cfg.RequestedAddressFamily, far = pion5.RequestedAddressFamilyIPv6, loopback6
					}
					c, err := pion5.NewClient(&cfg)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if err := c.Listen(); err != nil {
						t.Fatal(err)
					}
					if relay, err = c.Allocate(); err != nil {
						t.Fatal(err)
					}
				}
				defer relay.Close()
				least := 1
				if transport != turn.UDP {
					least = 5 // this library finds no shorter frame in a stream, as a client neither
				}
				exchange(t, relay, echo(t, far), least)
			})
		}
	}
	if got := s.Stats(); got.Dropped.Malformed != 0 || got.Auth.WrongPassword != 0 || got.Allocations.Created != 12 {
		t.Errorf("%+v", got)
	}
}

// exchange sends payloads of all sizes and compares what comes back.
func exchange(t *testing.T, relay net.PacketConn, far netip.AddrPort, least int) {
	t.Helper()
	to := net.UDPAddrFromAddrPort(far)
	in := make([]byte, 2048)
	random := rand.NewChaCha8([32]byte{1})
	for size := least; size <= 1400; size += 1 + size/7 {
		out := make([]byte, size)
		_, _ = random.Read(out)
		if _, err := relay.WriteTo(out, to); err != nil {
			t.Fatal(err)
		}
		if err := relay.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, from, err := relay.ReadFrom(in)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(in[:n], out) || from.String() != to.String() {
			t.Fatalf("%d bytes came back as %d from %s", size, n, from)
		}
	}
}

var lost = regexp.MustCompile(`Total lost packets (\d+) \(([0-9.]+)%\)`)

// TestCoturnClient [A4, C14]: the client of the server whose place this one takes, in all of its ways. What it needs is
// `make deps`.
func TestCoturnClient(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes its time")
	}
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Skip("turnutils_uclient is not installed: `make deps` brings it")
	}
	s := serve(t, func(c *turn.Config) { c.Limits.UserAllocations = -1 })
	// Its peer answers on the port that it is told.
	far4, far6 := echo(t, loopback4), echo(t, loopback6)
	for _, tt := range []struct {
		title string
		to    netip.AddrPort
		flags string
		far   netip.AddrPort
	}{
		{"UDP channels", s.udp, "", far4},
		{"UDP indications", s.udp, "-s", far4},
		{"UDP client to client", s.udp, "-y", far4},
		{"UDP DONT-FRAGMENT", s.udp, "-g", far4},
		{"UDP to IPv6", s.udp, "-x", far6},
		{"IPv6 UDP to IPv6", s.udp6, "-x", far6},
		{"IPv6 UDP to IPv4", s.udp6, "-X", far4},
		{"time-limited credentials", s.udp, "-W " + rest, far4},
		{"extra requests", s.udp, "-G", far4},
		{"TCP channels", s.tcp, "-t", far4},
		{"TCP indications", s.tcp, "-t -s", far4},
		{"TLS channels", s.tls, "-t -S", far4},
		{"TLS indications", s.tls, "-t -S -s", far4},
		{"DTLS channels", s.dtls, "-S", far4},
		{"DTLS indications", s.dtls, "-S -s", far4},
		{"TCP allocations", s.tcp, "-T", far4},
		{"TCP allocations over TLS", s.tls, "-T -S", far4},
	} {
		t.Run(tt.title, func(t *testing.T) {
			t.Parallel()
			args := []string{"-u", name, "-w", password, "-n", "30", "-m", "2", "-z", "5", "-l", "170", "-c", "-e", tt.far.Addr().String(), "-r", fmt.Sprint(tt.far.Port()), "-p", fmt.Sprint(tt.to.Port())}
			args = append(append(args, strings.Fields(tt.flags)...), tt.to.Addr().String())
			out, err := exec.CommandContext(t.Context(), "timeout", append([]string{"-k", "1", "60", program}, args...)...).CombinedOutput()
			got := lost.FindSubmatch(out)
			if err != nil || got == nil || string(got[1]) != "0" || !bytes.Contains(out, []byte("tot_recv_msgs=60")) {
				t.Errorf("%v, %s %s\n%s\n%+v", err, program, strings.Join(args, " "), out, s.Stats())
			}
		})
	}
}
