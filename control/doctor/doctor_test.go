package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/control/config"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// healthy is a machine on which all is well; tests make it ill.
type healthy struct {
	now          time.Time
	synchronised bool
	clockErr     error
	tcp          map[string]error
	media        Media
	mediaErr     map[int]error
	addresses    []netip.Addr

	mode       fs.FileMode
	modeErr    error
	createErr  error
	leaf       *x509.Certificate
	leafErr    error
	openFiles  uint64
	limitError error
}

func newHealthy() *healthy {
	return &healthy{
		now: noon, synchronised: true,
		media:     Media{Family: "dual-stack", GSO: true, GRO: true, ReceiveBuffer: 4 << 20, SendBuffer: 4 << 20},
		addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("203.0.113.9")},
		mode:      fs.ModeDir | 0o700,
		leafErr:   fs.ErrNotExist,
		openFiles: 1 << 20,
	}
}

func (h *healthy) ListenTCP(addr string) error { return h.tcp[addr] }
func (h *healthy) OpenMedia(m config.Media) (Media, error) {
	return h.media, h.mediaErr[m.Port]
}
func (h *healthy) Addresses() ([]netip.Addr, error) { return h.addresses, nil }
func (h *healthy) Clock() (time.Time, bool, error)  { return h.now, h.synchronised, h.clockErr }
func (h *healthy) Files() Files                     { return h }
func (h *healthy) Mode(string) (fs.FileMode, error) { return h.mode, h.modeErr }
func (h *healthy) Creatable(string) error           { return h.createErr }
func (h *healthy) Limit() (uint64, error)           { return h.openFiles, h.limitError }
func (h *healthy) Certificate(config.TLS, string) (*x509.Certificate, error) {
	return h.leaf, h.leafErr
}

func leaf(t *testing.T, name string, from, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wrap(err error) error { return fmt.Errorf("listen: %w", err) }

func TestExamine(t *testing.T) {
	day := 24 * time.Hour
	tests := []struct {
		name string
		ill  func(*healthy, *Config)
		want []string // "status check: part of found → part of do", for lines that are not ok, or are asked for
	}{
		{"all well", func(*healthy, *Config) {}, nil},
		{"clock not synchronised", func(m *healthy, _ *Config) { m.synchronised = false }, []string{"warn clock: not synchronised → NTP"}},
		{"clock unknown", func(m *healthy, _ *Config) { m.clockErr = errors.New("no") }, nil},
		{"clock never set", func(m *healthy, _ *Config) { m.now = time.Unix(0, 0) }, []string{"fail clock: lies in the past → set the clock"}},
		{"no data folder yet", func(m *healthy, _ *Config) { m.modeErr = fs.ErrNotExist }, nil},
		{
			"data folder cannot be made",
			func(m *healthy, _ *Config) { m.modeErr, m.createErr = fs.ErrNotExist, syscall.EACCES },
			[]string{"fail data folder: cannot be made → -data"},
		},
		{"data folder of another", func(m *healthy, _ *Config) { m.createErr = syscall.EACCES }, []string{"fail data folder: cannot be written → owner"}},
		{"data folder is a file", func(m *healthy, _ *Config) { m.mode = 0o600 }, []string{"fail data folder: is no folder → -data"}},
		{"data folder open to others", func(m *healthy, _ *Config) { m.mode = fs.ModeDir | 0o755 }, []string{"warn data folder: mode 0755 → chmod 700"}},
		{
			"ports taken",
			func(m *healthy, _ *Config) {
				m.tcp = map[string]error{":8443": wrap(syscall.EADDRINUSE), "127.0.0.1:8444": wrap(syscall.EADDRINUSE)}
				m.mediaErr = map[int]error{8443: wrap(syscall.EADDRINUSE)}
			},
			[]string{
				"fail https port: address already in use → ss -ltnp", "fail admin port: address already in use → server.admin_listen",
				"fail media port: address already in use → ss -lunp",
			},
		},
		{
			"ports taken by the running appliance",
			func(m *healthy, c *Config) {
				c.RunningPID = 4711
				m.tcp = map[string]error{":8443": wrap(syscall.EADDRINUSE), "127.0.0.1:8444": wrap(syscall.EADDRINUSE)}
				m.mediaErr = map[int]error{8443: wrap(syscall.EADDRINUSE)}
			},
			nil,
		},
		{
			"privileged port",
			func(m *healthy, c *Config) {
				c.Config.Server.Listen = ":443"
				m.tcp = map[string]error{":443": wrap(syscall.EACCES)}
			},
			[]string{"fail https port: permission denied → CAP_NET_BIND_SERVICE"},
		},
		{
			"address of another machine",
			func(m *healthy, c *Config) {
				c.Config.Server.Listen = "203.0.113.77:443"
				m.tcp = map[string]error{"203.0.113.77:443": wrap(syscall.EADDRNOTAVAIL)}
			},
			[]string{"fail https port: cannot assign → does not hold the address"},
		},
		{"admin for all", func(_ *healthy, c *Config) { c.Config.Server.AdminListen = ":8444" }, []string{"warn admin port: reached from outside → loopback"}},
		{"admin inside", func(_ *healthy, c *Config) { c.Config.Server.AdminListen = "10.0.0.1:8444" }, nil},
		{"IPv4 only", func(m *healthy, _ *Config) { m.media.Family = "ipv4" }, []string{"warn media port: IPv4 only → IPv6"}},
		{
			"small buffers",
			func(m *healthy, _ *Config) { m.media.ReceiveBuffer, m.media.SendBuffer = 212992, 212992 },
			[]string{"warn udp buffers: 208 KiB to receive, 208 KiB to send, of 4 MiB → net.core.rmem_max=4194304 && sysctl -w net.core.wmem_max=4194304"},
		},
		{
			"small buffers of a running one",
			func(m *healthy, c *Config) {
				c.RunningPID = 1
				m.mediaErr = map[int]error{8443: wrap(syscall.EADDRINUSE)}
				m.media.ReceiveBuffer = 212992
			},
			[]string{"warn udp buffers: 208 KiB → rmem_max"},
		},
		{"no offload", func(m *healthy, _ *Config) { m.media.GSO, m.media.GRO = false, false }, []string{"warn udp offload: no GSO → 4.18"}},
		{"half offload", func(m *healthy, _ *Config) { m.media.GRO = false }, []string{"warn udp offload: no GRO → 5.0"}},
		{
			"loopback only",
			func(m *healthy, _ *Config) { m.addresses = m.addresses[:2] },
			[]string{"warn addresses: loopback only → Firefox"},
		},
		{
			"behind NAT",
			func(m *healthy, _ *Config) {
				m.addresses = []netip.Addr{netip.MustParseAddr("192.168.1.4"), netip.MustParseAddr("100.64.0.9"), netip.MustParseAddr("fd00::4")}
			},
			[]string{"warn addresses: 192.168.1.4, 100.64.0.9, fd00::4 → media.public_addresses"},
		},
		{
			"behind NAT, and said so",
			func(m *healthy, c *Config) {
				m.addresses = []netip.Addr{netip.MustParseAddr("192.168.1.4")}
				c.Config.Media.PublicAddresses = []string{"203.0.113.9"}
			},
			nil,
		},
		{
			"own certificate cannot be read",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				m.leafErr = fs.ErrNotExist
			},
			[]string{"fail certificate: not exist → tls.cert_file"},
		},
		{
			"own certificate",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				c.Config.Server.URL = "https://meet.example.org:8443"
				m.leaf, m.leafErr = leaf(t, "meet.example.org", noon.Add(-day), noon.Add(60*day)), nil
			},
			nil,
		},
		{
			"own certificate of another",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				c.Config.Server.URL = "https://meet.example.org"
				m.leaf, m.leafErr = leaf(t, "www.example.org", noon.Add(-day), noon.Add(60*day)), nil
			},
			[]string{"warn certificate: does not stand for server.url → take a certificate for meet.example.org"},
		},
		{
			"own certificate about to end",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				m.leaf, m.leafErr = leaf(t, "x", noon.Add(-day), noon.Add(5*day)), nil
			},
			[]string{"warn certificate: ends on 2030-01-06 → renew"},
		},
		{
			"own certificate ended",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				m.leaf, m.leafErr = leaf(t, "x", noon.Add(-9*day), noon.Add(-day)), nil
			},
			[]string{"fail certificate: ended on 2029-12-31 → renew"},
		},
		{
			"certificate of the future",
			func(m *healthy, c *Config) {
				c.Config.TLS = config.TLS{CertFile: "c", KeyFile: "k"}
				m.leaf, m.leafErr = leaf(t, "x", noon.Add(day), noon.Add(9*day)), nil
			},
			[]string{"fail certificate: begins on 2030-01-02 → clock"},
		},
		{
			"self-signed ended",
			func(m *healthy, _ *Config) { m.leaf, m.leafErr = leaf(t, "x", noon.Add(-9*day), noon.Add(-day)), nil },
			nil,
		},
		{"relay by the kernel", func(_ *healthy, c *Config) {
			c.Engine = &Engine{Wanted: "auto", Name: "tcx", Interfaces: []string{"eth0"}}
		}, nil},
		{
			"relay by the kernel, not everywhere",
			func(_ *healthy, c *Config) {
				c.Engine = &Engine{Wanted: "auto", Name: "tcx", Interfaces: []string{"eth0"}, Why: "wg0: no"}
			},
			nil,
		},
		{"relay not by the kernel, as wanted", func(_ *healthy, c *Config) { c.Engine = &Engine{Wanted: "batch", Name: "batch"} }, nil},
		{
			"relay not by the kernel",
			func(_ *healthy, c *Config) {
				c.Engine = &Engine{Wanted: "auto", Name: "batch", Why: "operation not permitted"}
			},
			[]string{"warn turn engine: batch, not the kernel: operation not permitted → CAP_BPF"},
		},
		{
			"relay by the kernel or not at all",
			func(_ *healthy, c *Config) { c.Engine = &Engine{Wanted: "tcx", Why: "operation not permitted"} },
			[]string{"fail turn engine: not to be had: operation not permitted → turn.engine"},
		},
		{"few open files", func(m *healthy, _ *Config) { m.openFiles = 1024 }, []string{"warn open files: limit 1024 → raise it to 2256"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newHealthy()
			cfg := Config{Config: config.Default(), DataDir: "/srv/sotto", Machine: m}
			tt.ill(m, &cfg)
			lines := Examine(cfg)
			var ill []Line
			for _, l := range lines {
				if l.Status == OK && l.Do != "" || l.Status != OK && l.Do == "" {
					t.Errorf("%s: only what is not well says what to do: %+v", l.Check, l)
				}
				if l.Status != OK {
					ill = append(ill, l)
				}
			}
			if len(ill) != len(tt.want) {
				t.Fatalf("found\n%s, want %q", Print(ill), tt.want)
			}
			worst := OK
			for i, want := range tt.want {
				head, do, _ := strings.Cut(want, " → ")
				check, found, _ := strings.Cut(head, ": ")
				if got := string(ill[i].Status) + " " + ill[i].Check; got != check || !strings.Contains(ill[i].Found, found) || !strings.Contains(ill[i].Do, do) {
					t.Errorf("found %s, want %s", Print(ill[i:i+1]), want)
				}
				if strings.HasPrefix(want, "fail") || worst == OK {
					worst = ill[i].Status
				}
			}
			if got := Worst(lines); got != worst {
				t.Errorf("worst is %s, want %s", got, worst)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	got := Print([]Line{
		{Status: OK, Check: "clock", Found: "right"},
		{Status: Warn, Check: "udp buffers", Found: "small", Do: "sysctl"},
		{Status: Fail, Check: "https port", Found: "taken", Do: "stop that"},
	})
	want := `ok    clock        right
warn  udp buffers  small
                   → sysctl
fail  https port   taken
                   → stop that
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The real machine of the test answers all questions, and is left as it was.
func TestHere(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := (Here{}).ListenTCP(taken.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}

	cfg := config.Default()
	cfg.Server.Listen, cfg.Server.AdminListen, cfg.Media.Port = "127.0.0.1:0", "127.0.0.1:0", 0
	dir := filepath.Join(t.TempDir(), "not", "yet")
	lines := Examine(Config{Config: cfg, DataDir: dir, Machine: Here{}})
	if Worst(lines) == Fail {
		t.Errorf("this machine cannot run it:\n%s", Print(lines))
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking made folders: %v", err)
	}
	if err := (Here{}).Files().Creatable("/dev/null/sotto"); err == nil {
		t.Error("files can be made below a file")
	}
}

func TestMediaPortInUse(t *testing.T) {
	held, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	m := config.Default().Media
	m.Port = held.LocalAddr().(*net.UDPAddr).Port
	if _, err := (Here{}).OpenMedia(m); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
}
