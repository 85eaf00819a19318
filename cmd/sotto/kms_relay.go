package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms/door"
	"github.com/sotto-edge/sotto/kms/relay"
)

// newKMSRelay returns the way of clients to the key service of the configuration; nil if there is none.
func newKMSRelay(cfg config.KMS, dir string, log *slog.Logger) (*relay.Relay, error) {
	if cfg.Domain == "" {
		return nil, nil
	}
	rc := relay.Config{Log: log}
	if cfg.RelayTokenFile != "" {
		text, err := os.ReadFile(cfg.RelayTokenFile)
		if err != nil {
			return nil, fmt.Errorf("kms.relay_token_file: %w", err)
		}
		line := strings.TrimSpace(string(text))
		if len(line) < 16 {
			return nil, fmt.Errorf("kms.relay_token_file: %s holds %d characters, at least 16 are needed", cfg.RelayTokenFile, len(line))
		}
		bearer := token.NewBearer(line)
		rc.Authorized = func(domain, shown string) bool { return bearer.Matches(shown) && domain == cfg.Domain }
	}
	r := relay.New(rc)
	r.Beside(cfg.Domain, door.Dial(cmp.Or(cfg.Socket, filepath.Join(dir, "kms", "kms.sock"))))
	return r, nil
}
