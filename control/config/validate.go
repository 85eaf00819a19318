package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// validate returns what is wrong with values that have the right type. Lines
// are filled in by the caller, who has the document.
func (c Config) validate() []Problem {
	var problems []Problem
	wrong := func(key, format string, args ...any) {
		problems = append(problems, Problem{Key: key, What: fmt.Sprintf(format, args...)})
	}
	for key, value := range map[string]string{"server.listen": c.Server.Listen, "server.admin_listen": c.Server.AdminListen} {
		if err := checkListen(value); err != nil {
			wrong(key, "%q: %v", value, err)
		}
	}
	if u := c.Server.URL; u != "" {
		if parsed, err := url.Parse(u); err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
			wrong("server.url", "%q: want https://host or https://host:port, and nothing behind it", u)
		}
	}
	if p := c.Media.Port; p < 0 || p > 65535 {
		wrong("media.port", "%d: a port is 0 to 65535", p)
	}
	for _, a := range c.Media.PublicAddresses {
		addr, err := netip.ParseAddr(a)
		switch {
		case err != nil:
			wrong("media.public_addresses", "%q: want an IPv4 or IPv6 address, without a port; names are not looked up", a)
		case addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "":
			wrong("media.public_addresses", "%q: not an address that others can send to", a)
		}
	}
	for key, n := range map[string]int{
		"media.max_sessions": c.Media.MaxSessions, "media.max_participants": c.Media.MaxParticipants, "media.max_viewers": c.Media.MaxViewers, "media.loudest": c.Media.Loudest, "media.videos": c.Media.Videos, "media.receive_buffer": c.Media.ReceiveBuffer, "media.send_buffer": c.Media.SendBuffer,
	} {
		if n <= 0 {
			wrong(key, "%d: want more than 0", n)
		}
	}
	if n := c.Media.Shards; n < 0 || n > 256 {
		wrong("media.shards", "%d: want 0 to 256", n)
	}
	if d := c.Store.Database; d != "" && !strings.HasPrefix(d, "postgres://") && !strings.HasPrefix(d, "postgresql://") {
		wrong("store.database", "want postgres://… or nothing") // it may hold a password: not repeated
	}
	c.TURN.validate(wrong)
	if n := c.Recording.MaxBytes; n < 0 {
		wrong("recording.max_bytes", "%d: want 0 or more", n)
	}
	if d := c.KMS.Domain; d == "" && c.KMS.RelayTokenFile != "" {
		wrong("kms.relay_token_file", "set without domain: say whose key service may dial in")
	} else if d != strings.ToLower(d) || strings.ContainsAny(d, "/: @") {
		wrong("kms.domain", "%q: want a domain name in lower case", d)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		given, missing := "tls.cert_file", "key_file"
		if c.TLS.CertFile == "" {
			given, missing = "tls.key_file", "cert_file"
		}
		wrong(given, "set without %s: a certificate of one's own needs both", missing)
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, c.Log.Level) {
		wrong("log.level", "%q: want debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		wrong("log.format", "%q: want text or json", c.Log.Format)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Key, b.Key) })
	return problems
}

// validate reports what is wrong with the relay. What users say of their passwords is not repeated.
func (t TURN) validate(wrong func(key, format string, args ...any)) {
	if err := checkListen(t.Listen); err != nil {
		wrong("turn.listen", "%q: %v", t.Listen, err)
	}
	if t.TLSListen != "" {
		if err := checkListen(t.TLSListen); err != nil {
			wrong("turn.tls_listen", "%q: %v", t.TLSListen, err)
		}
	}
	checkRealm("realm", Realm{Name: t.Realm, Users: t.Users, Secrets: t.Secrets, AllowPeers: t.AllowPeers, DenyPeers: t.DenyPeers}, func(key, format string, args ...any) {
		wrong("turn."+key, format, args...)
	})
	names := map[string]bool{t.Realm: true}
	for i, r := range t.Realms {
		report := func(key, format string, args ...any) {
			wrong("turn.realms", "number %d: %s: %s", i+1, key, fmt.Sprintf(format, args...))
		}
		checkRealm("name", r, report)
		if names[r.Name] {
			report("name", "%q is there already", r.Name)
		}
		names[r.Name] = true
		for key, n := range map[string]int{"allocations": r.Allocations, "user_allocations": r.UserAllocations, "user_bytes_per_second": r.UserBytes, "total_bytes_per_second": r.TotalBytes} {
			if n < 0 {
				report(key, "%d: want 0 or more", n)
			}
		}
	}
	for _, a := range t.RelayAddresses {
		if addr, err := netip.ParseAddr(a); err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
			wrong("turn.relay_addresses", "%q: want an address of this machine", a)
		}
	}
	for _, a := range t.Alternates {
		if to, err := netip.ParseAddrPort(a); err != nil || to.Port() == 0 || to.Addr().Zone() != "" {
			wrong("turn.alternate_servers", "%q: want an address with a port, such as 198.51.100.7:3478", a)
		}
	}
	for key, all := range map[string][]string{"turn.allow_sources": t.AllowSources, "turn.deny_sources": t.DenySources} {
		for _, p := range all {
			if _, err := netip.ParsePrefix(p); err != nil {
				wrong(key, "%q: want a network such as 10.1.0.0/16", p)
			}
		}
	}
	if t.FirstPort < 1024 || t.LastPort > 65535 || t.FirstPort > t.LastPort {
		wrong("turn.first_port", "%d to %d: want a range within 1024 to 65535", t.FirstPort, t.LastPort)
	}
	if !slices.Contains([]string{EngineAuto, EngineTCX, EngineBatch, EngineOff}, t.Engine) {
		wrong("turn.engine", "%q: want auto, tcx, batch or off", t.Engine)
	}
	for key, n := range map[string]int{"turn.allocations": t.Allocations, "turn.user_allocations": t.UserAllocations} {
		if n <= 0 {
			wrong(key, "%d: want more than 0", n)
		}
	}
	for key, n := range map[string]int{"turn.user_bytes_per_second": t.UserBytes, "turn.total_bytes_per_second": t.TotalBytes} {
		if n < 0 {
			wrong(key, "%d: want 0 or more", n)
		}
	}
}

// checkRealm reports what is wrong with a realm, by the keys below it.
func checkRealm(nameKey string, r Realm, wrong func(key, format string, args ...any)) {
	if r.Name == "" || len(r.Name) > 127 || strings.ContainsAny(r.Name, "\"\\") {
		wrong(nameKey, "%q: want 1 to 127 bytes without quotes", r.Name)
	}
	for i, u := range r.Users {
		if name, password, ok := strings.Cut(u, ":"); !ok || name == "" || password == "" {
			wrong("users", "number %d: want name:password", i+1)
		}
	}
	for i, s := range r.Secrets {
		if len(s) < 16 {
			wrong("secrets", "number %d: want 16 characters or more", i+1)
		}
	}
	for key, all := range map[string][]string{"allow_peers": r.AllowPeers, "deny_peers": r.DenyPeers} {
		for _, p := range all {
			if _, err := netip.ParsePrefix(p); err != nil {
				wrong(key, "%q: want a network such as 10.1.0.0/16", p)
			}
		}
	}
}

func checkListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("want host:port or :port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("a port is 0 to 65535")
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return errors.New("host must be an address of this machine, localhost, or empty for all")
	}
	return nil
}
