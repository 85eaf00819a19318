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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	pion3 "github.com/pion/turn/v3"
	pion5 "github.com/pion/turn/v5"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
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

var (
	lost = regexp.MustCompile(`Total lost packets (\d+) \(([0-9.]+)%\)`)
	took = regexp.MustCompile(`tot_recv_msgs=(\d+)\n`)
)

// TestCoturnClient [A4, C14]: the client of the server whose place this one takes, in all of its ways, and nothing is lost. What it
// needs is `make deps`.
func TestCoturnClient(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes its time")
	}
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Skip("turnutils_uclient is not installed: `make deps` brings it")
	}
	far4, far6 := echo(t, loopback4), echo(t, loopback6) // its peer answers on the port that it is told
	other := authorityOf(t, auth.Config{Realm: "other.example", Users: []auth.User{{Name: name, Password: auth.NewSecret(password)}}})
	s := serve(t, func(c *turn.Config) {
		c.Limits.UserAllocations = -1
		c.Realms = []turn.Realm{{Auth: other, Peers: c.Peers, Serves: []string{"https://other.example"}}}
		tcp6, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		tls6, err := tls.Listen("tcp", "[::1]:0", &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
		if err != nil {
			t.Fatal(err)
		}
		dtls6, err := dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv6loopback}, dtls.WithCertificates(certificate(t)))
		if err != nil {
			t.Fatal(err)
		}
		c.Listeners = append(c.Listeners, turn.Listener{Listener: tcp6, Transport: turn.TCP}, turn.Listener{Listener: tls6, Transport: turn.TLS}, turn.Listener{Listener: dtls6, Transport: turn.DTLS})
	})
	at6 := func(over turn.Transport) netip.AddrPort {
		for _, l := range s.listeners {
			if a := netip.MustParseAddrPort(l.Addr().String()); l.Transport == over && a.Addr().Is6() {
				return a
			}
		}
		t.Fatalf("no %s over IPv6", over)
		return netip.AddrPort{}
	}
	at := make(chan struct{}, 18) // each of them mostly waits
	var running sync.WaitGroup
	for _, tt := range []struct {
		title string
		to    netip.AddrPort
		flags string
		far   netip.AddrPort
	}{
		{"UDP channels", s.udp, "-c", far4},
		{"UDP indications", s.udp, "-c -s", far4},
		{"UDP client to client", s.udp, "-c -y", far4},
		{"UDP client to client, indications", s.udp, "-c -y -s", far4},
		{"UDP with RTCP: EVEN-PORT and RESERVATION-TOKEN", s.udp, "-y", far4},
		{"UDP DONT-FRAGMENT", s.udp, "-c -g", far4},
		{"UDP DONT-FRAGMENT in indications", s.udp, "-c -g -s", far4},
		{"UDP padded channels", s.udp, "-c -D", far4},
		{"UDP to IPv6", s.udp, "-c -x", far6},
		{"UDP to IPv6 indications", s.udp, "-c -x -s", far6},
		{"IPv6 UDP to IPv6", s.udp6, "-c -x", far6},
		{"IPv6 UDP to IPv6 indications", s.udp6, "-c -x -s", far6},
		{"IPv6 UDP to IPv4", s.udp6, "-c -X", far4},
		{"both families", s.udp, "-Z", far4},
		{"mobility", s.udp, "-c -M", far4},
		{"mobility, both families, indications", s.udp, "-Z -M -s", far4},
		{"another realm, by its origin", s.udp, "-c -o https://other.example", far4},
		{"time-limited credentials", s.udp, "-c -W " + rest, far4},
		{"extra requests", s.udp, "-c -G", far4},
		{"TCP channels", s.tcp, "-c -t", far4},
		{"TCP indications", s.tcp, "-c -t -s", far4},
		{"TCP both families", s.tcp, "-Z -t", far4},
		{"TCP mobility", s.tcp, "-c -t -M", far4},
		{"TLS channels", s.tls, "-c -t -S", far4},
		{"TLS indications", s.tls, "-c -t -S -s", far4},
		{"DTLS channels", s.dtls, "-c -S", far4},
		{"DTLS indications", s.dtls, "-c -S -s", far4},
		{"IPv6 TCP", at6(turn.TCP), "-c -t -x", far6},
		{"IPv6 TCP indications", at6(turn.TCP), "-c -t -x -s", far6},
		{"IPv6 TLS", at6(turn.TLS), "-c -t -S -x", far6},
		{"IPv6 DTLS", at6(turn.DTLS), "-c -S -x", far6},
		{"TCP allocations", s.tcp, "-c -T", far4},
		{"TCP allocations over TLS", s.tls, "-c -T -S", far4},
		{"TCP allocations of IPv6", at6(turn.TCP), "-c -T -x", far6},
	} {
		running.Add(1)
		go func() {
			defer running.Done()
			at <- struct{}{}
			defer func() { <-at }()
			args := []string{"-k", "1", "60", program, "-u", name, "-w", password, "-n", "30", "-m", "2", "-z", "10", "-l", "170", "-e", tt.far.Addr().String(), "-r", fmt.Sprint(tt.far.Port()), "-p", fmt.Sprint(tt.to.Port())}
			args = append(append(args, strings.Fields(tt.flags)...), tt.to.Addr().String())
			out, err := exec.CommandContext(t.Context(), "timeout", args...).CombinedOutput()
			missing, came := lost.FindSubmatch(out), took.FindAllSubmatch(out, -1)
			n := 0
			if len(came) > 0 {
				n, _ = strconv.Atoi(string(came[len(came)-1][1]))
			}
			if err != nil || missing == nil || string(missing[1]) != "0" || n < 60 {
				t.Errorf("%s: %v, %d came, %s\n%s\n%+v", tt.title, err, n, strings.Join(args, " "), out, s.Stats())
			}
		}()
	}
	running.Wait()
	if got := s.Stats().Auth; got.WrongPassword != 0 || got.UnknownUser != 0 {
		t.Errorf("%+v", got)
	}
}

// TestCoturnPassive: its -P has a peer that connects to the relayed address (RFC 6062 §5.3). Of its messages the client reports half
// as lost, with any server: its peer reads plain bytes as if they were STUN and counts none. So the server's figures tell what came.
func TestCoturnPassive(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes its time")
	}
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Skip("turnutils_uclient is not installed: `make deps` brings it")
	}
	s := serve(t, nil)
	out, err := exec.CommandContext(t.Context(), "timeout", "-k", "1", "60", program, "-P", "-u", name, "-w", password, "-n", "30", "-m", "2",
		"-z", "5", "-l", "170", "-c", "-p", fmt.Sprint(s.tcp.Port()), s.tcp.Addr().String()).CombinedOutput()
	got := s.Stats()
	if err != nil || !bytes.Contains(out, []byte("tot_send_msgs=60, tot_recv_msgs=30")) || got.Up.Bytes != 30*170 || got.Down.Bytes != 30*170 {
		t.Errorf("%v, relayed %+v up, %+v down\n%s", err, got.Up, got.Down, out)
	}
}
