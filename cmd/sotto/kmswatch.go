package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/keyring"
)

// syslog says where the organisation wants its audit.
type syslog struct {
	Syslog      string `help:"Syslog server over TLS (RFC 5425) that gets each row of the audit, such as logs.example.org:6514." placeholder:"HOST:PORT"`
	SyslogRoots string `type:"existingfile" help:"PEM file of who certifies that server [those of the machine]." placeholder:"FILE"`
	SyslogCert  string `type:"existingfile" help:"PEM file of the certificate, and its key, that the server knows this KMS by." placeholder:"FILE"`
}

// start starts the sink, nil if none is wanted.
func (c syslog) start(s *store.Store, log *slog.Logger) (*audit.Sink, error) {
	if c.Syslog == "" {
		return nil, nil
	}
	name, _, err := net.SplitHostPort(c.Syslog)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{ServerName: name}
	if c.SyslogRoots != "" {
		if cfg.RootCAs, err = loadRoots(c.SyslogRoots); err != nil {
			return nil, err
		}
	}
	if c.SyslogCert != "" {
		pair, err := tls.LoadX509KeyPair(c.SyslogCert, c.SyslogCert)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return audit.StartSink(audit.SinkConfig{Store: s, Address: c.Syslog, TLS: cfg, Host: host, Log: log}), nil
}

// readiness returns what tells the log when the keyring becomes ready and when no more.
func readiness(keys *keyring.Keyring, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		was := ""
		for {
			now := ""
			if err := keys.Ready(); err != nil {
				now = err.Error()
			}
			switch {
			case now == "" && was != "":
				log.Info("ready again")
			case (now == "") != (was == ""):
				log.Warn("not ready", "why", now)
			}
			was = now
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
}
