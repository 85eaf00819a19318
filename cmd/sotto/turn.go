package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/obs"
	"github.com/sotto-edge/sotto/internal/porter"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
)

// relayLife is how long a participant may take to use the relay; what is in use goes on.
const relayLife = 12 * time.Hour

// relayServers is the TURN server of the appliance and what clients are told of it.
type relayServers struct {
	cfg       config.TURN
	log       *slog.Logger
	authority *auth.Authority
	realms    []turn.Realm // further ones
	engine    engine
	guarded   []netip.AddrPort // UDP ports that carry nothing but TURN
	server    *turn.Server     // nil: there is none
	urls      []string
}

// prepare makes the credentials. The node's own secret comes first: it signs what participants get.
func (r *relayServers) prepare(seed token.Seed) error {
	key := seed.Derive("turn").Key()
	cfg := auth.Config{
		Realm: r.cfg.Realm, Secrets: []auth.Secret{auth.NewSecret(hex.EncodeToString(key[:]))},
		Tokens: token.NewSigner(seed.Derive("tokens")), Audiences: []token.Audience{token.Join},
	}
	credentials(&cfg, r.cfg.Users, r.cfg.Secrets)
	var err error
	if r.authority, err = auth.New(cfg); err != nil {
		return err
	}
	for _, x := range r.cfg.Realms {
		cfg := auth.Config{Realm: x.Name}
		credentials(&cfg, x.Users, x.Secrets)
		authority, err := auth.New(cfg)
		if err != nil {
			return fmt.Errorf("turn.realms: %s: %w", x.Name, err)
		}
		r.realms = append(r.realms, turn.Realm{
			Auth: authority, Peers: policy.NewPeers(networks(x.AllowPeers), networks(x.DenyPeers)), Serves: x.Serves,
			Limits: turn.Limits{
				Allocations: x.Allocations, UserAllocations: x.UserAllocations, UserBytes: float64(x.UserBytes), RealmBytes: float64(x.TotalBytes),
			},
		})
	}
	return nil
}

// credentials reads what the configuration has checked.
func credentials(cfg *auth.Config, users, secrets []string) {
	for _, s := range secrets {
		cfg.Secrets = append(cfg.Secrets, auth.NewSecret(s))
	}
	for _, u := range users {
		name, password, _ := strings.Cut(u, ":")
		cfg.Users = append(cfg.Users, auth.User{Name: name, Password: auth.NewSecret(password)})
	}
}

// open starts the server.
func (r *relayServers) open(cfg config.Config, page *tlscert.Source, port *porter.Porter, node *sfu.Node, metrics *obs.Metrics) (err error) {
	own, err := machineAddresses()
	if err != nil {
		return err
	}
	tc := turn.Config{
		Auth: r.authority, Peers: policy.NewPeers(networks(r.cfg.AllowPeers), networks(r.cfg.DenyPeers)),
		FirstPort: uint16(r.cfg.FirstPort), LastPort: uint16(r.cfg.LastPort), Log: r.log.With("for", "turn"),
		Limits: turn.Limits{
			Allocations: r.cfg.Allocations, UserAllocations: r.cfg.UserAllocations,
			UserBytes: float64(r.cfg.UserBytes), RealmBytes: float64(r.cfg.TotalBytes),
		},
	}
	var media []netip.AddrPort
	for _, c := range node.Candidates() {
		if !c.TCP {
			media = append(media, c.Addr)
		}
	}
	tc.Peers.Know(own, media)
	tc.Realms = r.realms
	for _, text := range r.cfg.Alternates {
		if a, err := netip.ParseAddrPort(text); err == nil {
			tc.Alternates = append(tc.Alternates, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
	for _, x := range r.realms {
		x.Peers.Know(own, media)
	}
	choose(&tc.Relay4, &tc.Relay6, addresses(r.cfg.RelayAddresses), own)
	choose(&tc.Public4, &tc.Public6, addresses(cfg.Media.PublicAddresses), nil)
	at, err := relayAddresses(r.cfg)
	if err == nil {
		r.engine, err = openEngine(r.cfg, at)
	}
	if err != nil {
		return err
	}
	tc.Offloader, tc.ListenPeers = r.engine, r.engine.listenPeers()
	if r.engine.why != nil {
		r.log.Warn("not all is relayed in the kernel", "engine", r.engine.Engine(), "err", reason(r.engine.why))
	}
	if err = r.listen(&tc, own, page); err != nil {
		err = fmt.Errorf("turn.listen: %w", err)
	} else {
		tc.Guard, err = r.openGuard()
	}
	if err != nil {
		for _, s := range tc.Sockets {
			_ = s.Close()
		}
		for _, l := range tc.Listeners {
			_ = l.Close()
		}
		return err
	}
	plain, secure := tc.Sockets[0].LocalAddr().Port(), uint16(0)
	if last := tc.Listeners[len(tc.Listeners)-1]; last.Transport != turn.TCP {
		secure = last.Addr().(*net.UDPAddr).AddrPort().Port()
	}
	r.urls = uris(cfg, tc, ports{plain: plain, secure: secure, page: pagePort(cfg, port)})
	if r.cfg.SharedPorts {
		tc.Sockets = append(tc.Sockets, node.RelayPort())
		tc.Listeners = append(tc.Listeners,
			turn.Listener{Listener: port.TURN, Transport: turn.TCP}, turn.Listener{Listener: port.TURNTLS, Transport: turn.TLS})
	}
	tc.Media = mediaPort{node}
	if r.server, err = turn.New(tc); err != nil {
		return err
	}
	node.Carry(udp.Inside, relayed{r.server, node.LocalAddr().Port()})
	obs.Expose(metrics, "sotto_turn", "TURN relay", func() (turn.Stats, error) { return r.server.Stats(), nil })
	r.engine.expose(metrics)
	r.log.Info("relaying", "urls", r.urls, "engine", r.server.Engine(), "on", r.engine.on, "from4", tc.Relay4, "from6", tc.Relay6)
	return nil
}

// openGuard has the kernel keep strangers away, where it relays. Only one that is needed to keep a promise is missed.
func (r *relayServers) openGuard() (turn.Guard, error) {
	err := r.engine.openGuard(r.cfg, r.guarded)
	switch {
	case err != nil && len(r.cfg.DenySources) > 0:
		return nil, fmt.Errorf("turn.deny_sources: %w", err)
	case err != nil:
		r.log.Warn("nothing guards the relay", "err", err)
		return nil, nil
	case r.engine.guard == nil:
		return nil, nil
	}
	return r.engine.guard, nil
}

// mediaPort is the media port as the relay reaches it, relayed the relay as the media port does: within the process.
type mediaPort struct{ node *sfu.Node }

// Deliver implements turn.Media.
func (m mediaPort) Deliver(from, to netip.AddrPort, b []byte) bool {
	return m.node.Deliver(udp.Path{Remote: from, Local: to.Addr(), Way: udp.Inside}, b)
}

type relayed struct {
	server *turn.Server
	port   uint16
}

// Send implements sfu.Carrier.
func (r relayed) Send(p udp.Path, b []byte) {
	r.server.FromMedia(p.Remote, netip.AddrPortFrom(p.Local, r.port), b)
}

// listen opens the ports. UDP and DTLS have a socket for each address, so that answers leave from where they were asked.
func (r *relayServers) listen(tc *turn.Config, own []netip.Prefix, page *tlscert.Source) error {
	at, err := listening(r.cfg.Listen, own)
	if err != nil {
		return err
	}
	for i := range at {
		s, err := r.listenUDP(at[i])
		if err != nil {
			return err
		}
		tc.Sockets = append(tc.Sockets, s)
		r.guarded = append(r.guarded, s.LocalAddr())
		if at[0].Port() == 0 { // any port, but one for all
			for j := range at {
				at[j] = netip.AddrPortFrom(at[j].Addr(), s.LocalAddr().Port())
			}
		}
		l, err := net.Listen("tcp", s.LocalAddr().String())
		if err != nil {
			return err
		}
		tc.Listeners = append(tc.Listeners, turn.Listener{Listener: l, Transport: turn.TCP})
	}
	if r.cfg.TLSListen == "" {
		return nil
	}
	if at, err = listening(r.cfg.TLSListen, own); err != nil {
		return err
	}
	certificate := page.TLSConfig().GetCertificate
	for i := range at {
		l, err := net.Listen("tcp", at[i].String())
		if err != nil {
			return err
		}
		tc.Listeners = append(tc.Listeners, turn.Listener{Listener: tls.NewListener(l, page.TLSConfig()), Transport: turn.TLS})
		if at[0].Port() == 0 {
			for j := range at {
				at[j] = netip.AddrPortFrom(at[j].Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port())
			}
		}
		d, err := dtls.ListenWithOptions("udp", net.UDPAddrFromAddrPort(at[i]), dtls.WithGetCertificate(
			func(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(nil) },
		))
		if err != nil {
			return err
		}
		tc.Listeners = append(tc.Listeners, turn.Listener{Listener: d, Transport: turn.DTLS})
	}
	return nil
}

// listenUDP opens a port for UDP, which the engine reads if there is one.
func (r *relayServers) listenUDP(at netip.AddrPort) (turn.Socket, error) {
	if r.engine.batch == nil {
		return turn.Listen(at)
	}
	return r.engine.batch.Listen(at)
}

// listening returns the addresses behind one of the configuration, which may stand for all of the machine's.
func listening(text string, own []netip.Prefix) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if addr, err := netip.ParseAddr(host); err == nil && !addr.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(addr, uint16(port))}, nil
	}
	var out []netip.AddrPort
	for _, p := range own {
		out = append(out, netip.AddrPortFrom(p.Addr(), uint16(port)))
	}
	if len(out) == 0 {
		return nil, errors.New("this machine has no address")
	}
	return out, nil
}

// machineAddresses returns the addresses of this machine with their networks, without those that need a zone.
func machineAddresses() ([]netip.Prefix, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("turn: the addresses of this machine: %w", err)
	}
	var out []netip.Prefix
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		addr = addr.Unmap()
		if ones, _ := n.Mask.Size(); addr.IsValid() && !addr.IsLinkLocalUnicast() {
			out = append(out, netip.PrefixFrom(addr, ones))
		}
	}
	return out, nil
}

// choose takes the first address of each family from those named, else from the machine's, loopback last.
func choose(v4, v6 *netip.Addr, named []netip.Addr, own []netip.Prefix) {
	take := func(a netip.Addr) {
		at := v6
		if a.Is4() {
			at = v4
		}
		if !at.IsValid() {
			*at = a
		}
	}
	for _, a := range named {
		take(a)
	}
	if len(named) > 0 {
		return
	}
	for _, loopback := range []bool{false, true} {
		for _, p := range own {
			if p.Addr().IsLoopback() == loopback {
				take(p.Addr())
			}
		}
	}
}

// addresses and networks read what the configuration has checked.
func addresses(all []string) (out []netip.Addr) {
	for _, text := range all {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func networks(all []string) (out []netip.Prefix) {
	for _, text := range all {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// uris is how clients reach the relay. Browsers do not take a certificate that nobody they know has signed, so TLS is told of only
// with one of the operator's.
func uris(cfg config.Config, tc turn.Config, p ports) []string {
	host := ""
	if u, err := url.Parse(cfg.Server.URL); err == nil {
		host = u.Hostname()
	}
	candidates := []netip.Addr{tc.Public4, tc.Public6}
	if len(tc.Sockets) == 1 { // the one that is listened on
		candidates = append(candidates, tc.Sockets[0].LocalAddr().Addr())
	}
	for _, a := range append(candidates, tc.Relay4, tc.Relay6) {
		if host == "" && a.IsValid() {
			host = a.String()
		}
	}
	at := func(port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	out := []string{"turn:" + at(p.plain) + "?transport=udp", "turn:" + at(p.plain) + "?transport=tcp"}
	if cfg.TLS.CertFile == "" {
		return out
	}
	if p.secure != 0 {
		out = append(out, "turns:"+at(p.secure)+"?transport=tcp")
	}
	if cfg.TURN.SharedPorts { // whoever has the page gets through here
		out = append(out, "turns:"+at(p.page)+"?transport=tcp")
	}
	return out
}

// ports are those by which clients reach the relay: without and with TLS (0: none), and that of the page.
type ports struct{ plain, secure, page uint16 }

// pagePort is the port of the page as clients reach it: with somebody else's in front it is not the one that is listened on.
func pagePort(cfg config.Config, p *porter.Porter) uint16 {
	if u, err := url.Parse(cfg.Server.URL); err == nil && u.Host != "" {
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
			return uint16(port)
		}
		return 443
	}
	return p.Addr().(*net.TCPAddr).AddrPort().Port()
}

// For implements signaling.ICEServers.
func (r *relayServers) For(_ context.Context, p signaling.Principal) ([]wire.ICEServer, error) {
	if r.server == nil {
		return nil, nil
	}
	user := p.ID
	if user == "" {
		user = "guest-" + p.Room
	}
	c, err := r.authority.Issue(user, time.Now().Add(relayLife))
	if err != nil {
		return nil, err
	}
	return []wire.ICEServer{{URLs: r.urls, Username: c.Username, Credential: c.Password}}, nil
}

func (r *relayServers) close() error {
	var errs []error
	if r.server != nil {
		errs = append(errs, r.server.Close())
	}
	if r.engine.Offloader != nil {
		errs = append(errs, r.engine.Close())
	}
	if r.engine.guard != nil {
		errs = append(errs, r.engine.guard.Close())
	}
	return errors.Join(errs...)
}
