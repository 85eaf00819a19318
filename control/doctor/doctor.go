// Package doctor looks at a machine before, or while, an appliance runs on
// it, and says in one line each what is well, what will bite later, and what
// stops it, with what to do.
//
// It changes nothing, asks nobody outside the machine, and judges a
// configuration only by what the machine makes of it; whether the file itself
// is sound is the business of package config.
package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/sotto-edge/sotto/control/config"
)

// Status is the verdict of one line.
type Status string

// The verdicts.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it runs, but not for everybody or not as well as it could
	Fail Status = "fail" // it does not run
)

// Line is what one check found.
type Line struct {
	Status Status `json:"status"`
	Check  string `json:"check"`
	Found  string `json:"found"`
	Do     string `json:"do,omitempty"` // empty when all is well
}

// Machine is what the checks ask of the system.
type Machine interface {
	// ListenTCP says whether the address can be listened on.
	ListenTCP(addr string) error
	// OpenMedia opens the media port as the appliance would, and closes it.
	OpenMedia(m config.Media) (Media, error)
	// Addresses returns the addresses of the interfaces that are up.
	Addresses() ([]netip.Addr, error)
	// Clock returns the wall clock, and whether something keeps it right.
	Clock() (now time.Time, synchronised bool, err error)
	// Files looks at files and limits.
	Files() Files
}

// Media is what the kernel grants a media port.
type Media struct {
	Family                    string
	GSO, GRO                  bool
	ReceiveBuffer, SendBuffer int // 0: not known
}

// Config is what to look at.
type Config struct {
	Config  config.Config
	DataDir string
	// RunningPID is the process that runs on the data folder, 0 for none.
	// That its ports are taken is as it should be.
	RunningPID int
	Machine    Machine
	// Engine is what was found out about the relay's engine; nil: there is no relay.
	Engine *Engine
}

// Engine is what would relay the channels of TURN.
type Engine struct {
	Wanted     string   // turn.engine
	Name       string   // what it would be, as "tcx"; empty: the appliance would not start
	Interfaces []string // that it sees
	Why        string   // not the kernel, or not all interfaces
}

// Examine runs all checks, in the order in which they matter.
func Examine(cfg Config) []Line {
	var lines []Line
	add := func(check string, found ...Line) {
		for _, l := range found {
			l.Check = check
			lines = append(lines, l)
		}
	}
	now, synchronised, clockErr := cfg.Machine.Clock()
	add("clock", clock(now, synchronised, clockErr))
	add("data folder", dataFolder(cfg))
	add("https port", tcpPort(cfg, cfg.Config.Server.Listen, "server.listen"))
	add("admin port", tcpPort(cfg, cfg.Config.Server.AdminListen, "server.admin_listen"), adminScope(cfg.Config.Server.AdminListen))
	media, mediaErr := cfg.Machine.OpenMedia(cfg.Config.Media)
	add("media port", mediaPort(cfg, media, mediaErr))
	if mediaErr == nil || cfg.RunningPID != 0 {
		if mediaErr != nil { // taken by the running one: any other port tells the same
			any := cfg.Config.Media
			any.Port = 0
			media, mediaErr = cfg.Machine.OpenMedia(any)
		}
		if mediaErr == nil {
			add("udp buffers", buffers(cfg.Config.Media, media))
			add("udp offload", offload(media))
		}
	}
	add("addresses", addresses(cfg)...)
	add("certificate", certificate(cfg, now)...)
	add("open files", openFiles(cfg))
	add("turn engine", turnEngine(cfg.Engine))
	kept := lines[:0]
	for _, l := range lines {
		if l.Status != "" {
			kept = append(kept, l)
		}
	}
	return kept
}

// Worst returns the gravest verdict.
func Worst(lines []Line) Status {
	worst := OK
	for _, l := range lines {
		if l.Status == Fail || l.Status == Warn && worst == OK {
			worst = l.Status
		}
	}
	return worst
}

func clock(now time.Time, synchronised bool, err error) Line {
	// Certificates and tokens are about time. No build of this program is
	// older than this date.
	sane := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	shown := now.UTC().Format(time.RFC3339)
	switch {
	case now.Before(sane):
		return Line{Status: Fail, Found: shown + " lies in the past", Do: "set the clock: certificates and tokens are refused otherwise"}
	case err != nil:
		return Line{Status: OK, Found: shown + "; the kernel does not say whether it is kept right"}
	case !synchronised:
		return Line{Status: Warn, Found: shown + ", not synchronised", Do: "run chrony, systemd-timesyncd or another NTP client: tokens live for minutes only"}
	}
	return Line{Status: OK, Found: shown + ", synchronised"}
}

func dataFolder(cfg Config) Line {
	dir := cfg.DataDir
	mode, err := cfg.Machine.Files().Mode(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := cfg.Machine.Files().Creatable(dir); err != nil {
			return Line{Status: Fail, Found: dir + " cannot be made: " + err.Error(), Do: "make it yourself, or name another with -data or server.data_dir"}
		}
		return Line{Status: OK, Found: dir + ", made at the first start"}
	case err != nil:
		return Line{Status: Fail, Found: err.Error(), Do: "name another folder with -data or server.data_dir"}
	case !mode.IsDir():
		return Line{Status: Fail, Found: dir + " is no folder", Do: "name another with -data or server.data_dir"}
	}
	if err := cfg.Machine.Files().Creatable(dir); err != nil {
		return Line{Status: Fail, Found: dir + " cannot be written: " + err.Error(), Do: "run as its owner, or name another with -data or server.data_dir"}
	}
	if mode.Perm()&0o077 != 0 {
		return Line{Status: Warn, Found: fmt.Sprintf("%s is open to others (mode %04o)", dir, mode.Perm()), Do: "chmod 700 " + dir + ": keys and tokens lie in it"}
	}
	return Line{Status: OK, Found: dir}
}

func tcpPort(cfg Config, addr, key string) Line {
	err := cfg.Machine.ListenTCP(addr)
	switch {
	case err == nil:
		return Line{Status: OK, Found: addr + " is free"}
	case cfg.RunningPID != 0 && errors.Is(err, syscall.EADDRINUSE):
		return Line{Status: OK, Found: fmt.Sprintf("%s is held by the appliance itself (process %d)", addr, cfg.RunningPID)}
	}
	return portTrouble(addr, key, "ss -ltnp", err)
}

func portTrouble(addr, key, who string, err error) Line {
	do := "choose another with " + key
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		do = "`" + who + "` shows who holds it; stop that, or " + do
	case errors.Is(err, syscall.EACCES):
		do = "ports below 1024 need root or CAP_NET_BIND_SERVICE; or " + do
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		do = "this machine does not hold the address; " + do
	}
	return Line{Status: Fail, Found: addr + ": " + err.Error(), Do: do}
}

// adminScope warns of an admin interface that strangers can reach; no line
// otherwise.
func adminScope(addr string) Line {
	ap, err := netip.ParseAddrPort(addr)
	if strings.HasPrefix(addr, "localhost:") || err == nil && (ap.Addr().IsLoopback() || ap.Addr().IsPrivate()) {
		return Line{}
	}
	return Line{Status: Warn, Found: addr + " can be reached from outside", Do: "keep server.admin_listen on loopback or an inside network; metrics need no token"}
}

func mediaPort(cfg Config, m Media, err error) Line {
	port := fmt.Sprintf("%d/udp", cfg.Config.Media.Port)
	switch {
	case err == nil && m.Family == "ipv4":
		return Line{Status: Warn, Found: port + " is free, but over IPv4 only", Do: "turn IPv6 on in the kernel if participants may come over it"}
	case err == nil:
		return Line{Status: OK, Found: port + " is free"}
	case cfg.RunningPID != 0 && errors.Is(err, syscall.EADDRINUSE):
		return Line{Status: OK, Found: fmt.Sprintf("%s is held by the appliance itself (process %d)", port, cfg.RunningPID)}
	}
	return portTrouble(port, "media.port", "ss -lunp", err)
}

func buffers(asked config.Media, m Media) Line {
	if m.ReceiveBuffer == 0 && m.SendBuffer == 0 {
		return Line{Status: OK, Found: "the system does not say what it grants"}
	}
	found := fmt.Sprintf("%s to receive, %s to send", size(m.ReceiveBuffer), size(m.SendBuffer))
	var do []string
	if m.ReceiveBuffer < asked.ReceiveBuffer {
		do = append(do, fmt.Sprintf("sysctl -w net.core.rmem_max=%d", asked.ReceiveBuffer))
	}
	if m.SendBuffer < asked.SendBuffer {
		do = append(do, fmt.Sprintf("sysctl -w net.core.wmem_max=%d", asked.SendBuffer))
	}
	if len(do) > 0 {
		return Line{
			Status: Warn, Found: found + fmt.Sprintf(", of %s and %s asked", size(asked.ReceiveBuffer), size(asked.SendBuffer)),
			Do: strings.Join(do, " && ") + ": bursts are lost otherwise",
		}
	}
	return Line{Status: OK, Found: found}
}

func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func offload(m Media) Line {
	switch {
	case m.GSO && m.GRO:
		return Line{Status: OK, Found: "segmentation offload both ways (GSO, GRO)"}
	case m.GSO:
		return Line{Status: Warn, Found: "GSO, but no GRO", Do: "Linux 5.0 or later takes several datagrams at a time; without it each costs more"}
	}
	return Line{Status: Warn, Found: "no GSO", Do: "Linux 4.18 or later sends several datagrams at a time; without it each costs more"}
}

func addresses(cfg Config) []Line {
	all, err := cfg.Machine.Addresses()
	if err != nil {
		return []Line{{Status: Fail, Found: err.Error(), Do: "the appliance has to know its addresses to offer them"}}
	}
	var offered, public []string
	for _, a := range all {
		a = a.Unmap()
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			continue
		}
		offered = append(offered, a.String())
		if !a.IsPrivate() && !shared.Contains(a) {
			public = append(public, a.String())
		}
	}
	public = append(public, cfg.Config.Media.PublicAddresses...)
	switch {
	case len(offered) == 0 && len(cfg.Config.Media.PublicAddresses) == 0:
		return []Line{{Status: Warn, Found: "loopback only", Do: "connect a network: Firefox does not reach a server that is on loopback only, and nobody else does"}}
	case len(public) == 0:
		return []Line{{
			Status: Warn, Found: strings.Join(offered, ", ") + ": private ones only",
			Do: "fine inside; for participants elsewhere forward the media port and name the outer address in media.public_addresses",
		}}
	}
	return []Line{{Status: OK, Found: strings.Join(append(offered, cfg.Config.Media.PublicAddresses...), ", ")}}
}

// shared is the address space of carrier-grade NAT (RFC 6598 §7).
var shared = netip.MustParsePrefix("100.64.0.0/10")

func certificate(cfg Config, now time.Time) []Line {
	own := cfg.Config.TLS.CertFile != ""
	leaf, err := cfg.Machine.Files().Certificate(cfg.Config.TLS, cfg.DataDir)
	switch {
	case !own && errors.Is(err, fs.ErrNotExist):
		return []Line{{Status: OK, Found: "self-signed, made at the first start; browsers ask once"}}
	case err != nil:
		return []Line{{Status: Fail, Found: err.Error(), Do: "tls.cert_file and tls.key_file must hold a chain and its key in PEM"}}
	}
	until := leaf.NotAfter.UTC().Format("2006-01-02")
	lines := []Line{}
	switch {
	case now.After(leaf.NotAfter) && !own:
		lines = append(lines, Line{Status: OK, Found: "self-signed, ended on " + until + ", made anew at the next start"})
	case now.After(leaf.NotAfter):
		lines = append(lines, Line{Status: Fail, Found: "ended on " + until, Do: "renew it; the appliance takes the new files over by itself"})
	case now.Before(leaf.NotBefore):
		lines = append(lines, Line{Status: Fail, Found: "begins on " + leaf.NotBefore.UTC().Format("2006-01-02"), Do: "look at the clock, or take another certificate"})
	case own && now.After(leaf.NotAfter.Add(-14*24*time.Hour)):
		lines = append(lines, Line{Status: Warn, Found: "ends on " + until, Do: "renew it; the appliance takes the new files over by itself"})
	case !own:
		lines = append(lines, Line{Status: OK, Found: "self-signed, until " + until + "; browsers ask once"})
	default:
		lines = append(lines, Line{Status: OK, Found: leaf.Subject.String() + ", until " + until})
	}
	if u, err := url.Parse(cfg.Config.Server.URL); err == nil && u.Hostname() != "" {
		// VerifyHostname takes addresses with or without brackets.
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			do := "take a certificate for " + u.Hostname()
			if !own {
				do = "made anew at the next start"
			}
			lines = append(lines, Line{Status: Warn, Found: "does not stand for server.url: " + err.Error(), Do: do})
		}
	}
	return lines
}

// openFiles wants a descriptor for the socket of each participant, and some
// for everything else.
func openFiles(cfg Config) Line {
	limit, err := cfg.Machine.Files().Limit()
	want := uint64(cfg.Config.Media.MaxSessions) + 256
	switch {
	case err != nil:
		return Line{Status: OK, Found: "the system does not say its limit"}
	case limit < want:
		return Line{Status: Warn, Found: fmt.Sprintf("limit %d", limit), Do: fmt.Sprintf("raise it to %d (ulimit -n, or LimitNOFILE= in systemd), or lower media.max_sessions", want)}
	}
	return Line{Status: OK, Found: fmt.Sprintf("limit %d", limit)}
}

// turnEngine says who relays; no line without a relay.
func turnEngine(e *Engine) Line {
	const allow = "run it as root, or with CAP_BPF and CAP_NET_ADMIN, on Linux 6.6 or later, with an address on an Ethernet interface"
	switch {
	case e == nil:
		return Line{}
	case e.Name == "":
		return Line{Status: Fail, Found: "not to be had: " + e.Why, Do: allow + "; or let turn.engine be auto"}
	case e.Wanted == config.EngineOff || e.Wanted == config.EngineBatch && e.Why == "":
		return Line{Status: OK, Found: e.Name + ", as turn.engine wants it"}
	case len(e.Interfaces) == 0:
		return Line{Status: Warn, Found: e.Name + ", not the kernel: " + e.Why, Do: allow + ", so that packets are relayed in the kernel; or let turn.engine be batch"}
	case e.Why != "":
		return Line{Status: OK, Found: fmt.Sprintf("%s on %s; not on all interfaces: %s", e.Name, strings.Join(e.Interfaces, ", "), e.Why)}
	}
	return Line{Status: OK, Found: fmt.Sprintf("%s on %s", e.Name, strings.Join(e.Interfaces, ", "))}
}

// Print writes the lines as a table, what to do below each.
func Print(lines []Line) string {
	width := 0
	for _, l := range lines {
		width = max(width, len(l.Check))
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", cmp.Or(l.Status, OK), width, l.Check, l.Found)
		if l.Do != "" {
			fmt.Fprintf(&b, "      %-*s  → %s\n", width, "", l.Do)
		}
	}
	return b.String()
}
