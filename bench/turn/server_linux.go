package turn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/sotto-edge/sotto/bench/internal/child"
)

// What clients say who they are.
const (
	realm    = "bench"
	username = "bench"
	password = "bench"
)

// standardPort is TURN's (RFC 8656 §7), where nobody else has it; a second server has the next one.
const standardPort = 3478

// relaying is more of the appliance's configuration.
const relaying = `
[turn]
enabled = true
listen = "%s"
tls_listen = ""
relay_addresses = ["%s"]
realm = "` + realm + `"
users = ["` + username + ":" + password + `"]
allow_peers = ["198.18.0.0/15", "2001:db8::/32", "127.0.0.0/8", "::1/128"]
allocations = 100000
user_allocations = 100000
`

// server is a running one.
type server struct {
	*child.Process
	at     netip.AddrPort
	engine string
}

// start runs a server on the machine that is meant for it.
func start(ctx context.Context, p *place, a addresses, what subject, number int) (*server, error) {
	at := netip.AddrPortFrom(a.listen, uint16(standardPort+number))
	if p.server == nil {
		port, err := freePort(a.listen)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		at = netip.AddrPortFrom(a.listen, port)
	}
	if what.target == Coturn {
		return startCoturn(ctx, p, at, a, what.binary)
	}
	config := fmt.Sprintf(relaying, at, a.relay)
	if what.engine != "auto" { // which older builds do not know the key for
		config += fmt.Sprintf("engine = %q\n", what.engine)
	}
	s, err := child.Start(ctx, child.Options{
		Binary: what.binary, Public: a.relay.String(), Config: config, Inside: func(f func()) { in(p.server, f) },
	})
	if err != nil {
		return nil, err
	}
	out := &server{Process: s.Process, at: at}
	metrics, err := s.Metrics(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	const name = `sotto_turn_engine{engine="`
	for line := range metrics {
		if rest, ok := strings.CutPrefix(line, name); ok {
			out.engine, _, _ = strings.Cut(rest, `"`)
		}
	}
	if out.engine == "" {
		return nil, errors.Join(errors.New("bench: the server does not say what relays"), s.Stop())
	}
	return out, nil
}

// startCoturn runs turnserver with one thread for everything: with more it takes more for each packet on two cores.
func startCoturn(ctx context.Context, p *place, at netip.AddrPort, a addresses, binary string) (*server, error) {
	version, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("bench: coturn: %w", err)
	}
	s := &server{at: at, engine: "coturn " + strings.TrimSpace(string(version))}
	in(p.server, func() {
		s.Process, err = child.Run(func(dir string) (*exec.Cmd, error) {
			return exec.Command(binary, "-n", "-m", "0", "-p", fmt.Sprint(at.Port()), "-L", at.Addr().String(), "-E", a.relay.String(),
				"-a", "-r", realm, "-u", username+":"+password, "--no-tls", "--no-dtls", "--no-tcp", "--no-tcp-relay", "--no-cli",
				"--allow-loopback-peers", "--no-software-attribute", "--log-file", "stdout", "--simple-log",
				"--pidfile", dir+"/pid", "--userdb", dir+"/turndb"), nil
		})
	})
	if err != nil {
		return nil, err
	}
	c, err := newSeat(p, a, 0, at)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	defer c.close()
	if err := s.Await(ctx, func() (bool, error) { return c.answered(), nil }); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}
