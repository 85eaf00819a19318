package child

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Server is a running appliance.
type Server struct {
	*Process
	URL   string
	Admin string // URL of the admin listener
	Media string // address of the media port
	TLS   *tls.Config
	Cert  string // file that TLS trusts
	admin *tls.Config
	dial  func(context.Context, string, string) (net.Conn, error)
}

// configuration puts everything on loopback, on ports that the system chooses. The media port is on all addresses, of which
// one is offered first.
const configuration = `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"

[media]
port = 0
public_addresses = ["%s"]
max_participants = %d
loudest = %[2]d # everybody is forwarded to everybody, as with peers that do not choose

[log]
level = "warn"
`

// Options are what a bench may change of an appliance.
type Options struct {
	Binary  string
	People  int    // most in one room; 0: a hundred
	Profile string // file for CPU profiles, which SIGUSR2 begins and ends; empty: none
	Public  string // the address that clients are told; empty: 127.0.0.1
	Config  string // more of the configuration: tables that are not in the bench's own
	// Inside calls a function where the appliance is to run, in a namespace for instance; nil: here.
	Inside func(func())
}

// Start runs `serve`, and returns when it serves.
func Start(ctx context.Context, o Options) (*Server, error) {
	var data string
	s := &Server{dial: (&net.Dialer{}).DialContext}
	if o.Inside == nil {
		o.Inside = func(f func()) { f() }
	} else {
		s.dial = func(ctx context.Context, network, address string) (c net.Conn, err error) {
			o.Inside(func() { c, err = (&net.Dialer{}).DialContext(ctx, network, address) })
			return c, err
		}
	}
	var err error
	o.Inside(func() {
		s.Process, err = Run(func(dir string) (*exec.Cmd, error) {
			data = filepath.Join(dir, "data")
			file := filepath.Join(dir, "sotto.toml")
			if err := os.WriteFile(file, append(fmt.Appendf(nil, configuration, cmp.Or(o.Public, "127.0.0.1"), max(100, o.People)), o.Config...), 0o600); err != nil {
				return nil, err
			}
			args := []string{"serve", "-config", file, "-data", data}
			if o.Profile != "" {
				args = append(args, "-cpu-profile", o.Profile)
			}
			return exec.Command(o.Binary, args...), nil
		})
	})
	if err != nil {
		return nil, err
	}
	p := s.Process
	// By node.json the appliance tells the tools on its machine where it listens.
	err = p.Await(ctx, func() (bool, error) {
		var node struct {
			PID               int
			URL, Admin, Media string
		}
		text, err := os.ReadFile(filepath.Join(data, "node.json"))
		if err != nil || json.Unmarshal(text, &node) != nil || node.PID != p.PID {
			return false, nil
		}
		s.URL, s.Admin, s.Media = node.URL, node.Admin, node.Media
		s.Cert = filepath.Join(data, "tls", "cert.pem")
		if s.TLS, err = Trust(s.Cert); err == nil {
			s.admin, err = Trust(filepath.Join(data, "admin", "cert.pem"))
		}
		return true, err
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return s, nil
}

// Trust takes the self-signed certificate that a server has made.
func Trust(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("bench: the server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("bench: %s holds no certificate", file)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, nil
}
