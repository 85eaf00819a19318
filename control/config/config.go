// Package config owns the configuration of the appliance: one struct, whose
// tags make the annotated document that `sotto config` prints, and from which
// everything else about the file follows.
//
// It promises that a file with an unknown key, a wrong type or an impossible
// value is refused as a whole, each problem with its line and key, and that
// the zero file is a working laptop. What a running process can take over and
// what it cannot are two types, Live and Static. It opens no listener and
// knows no part of the appliance: cmd hands the values on.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
)

// Config is the whole file.
type Config struct {
	Static
	Live
}

// Static is what a process takes once, at its start.
type Static struct {
	Server    Server    `toml:"server" doc:"The web page, signaling and the admin interface."`
	Media     Media     `toml:"media" doc:"Audio and video. All media of all meetings goes through one UDP port."`
	Store     Store     `toml:"store" doc:"The database of what must not be lost."`
	TURN      TURN      `toml:"turn" doc:"A relay for clients that nothing else reaches (RFC 8656)."`
	Recording Recording `toml:"recording" doc:"Meetings written to disk when a host asks for it. Everybody in the meeting sees that it happens."`
	KMS       KMS       `toml:"kms" doc:"The way of clients to a key service, which runs by itself (sotto kms serve). The appliance carries what they say to each other and cannot read it."`
}

// TURN is the relay for clients that nothing else reaches. It is off until somebody turns it on: it opens ports of its own, and
// relays to addresses elsewhere.
type TURN struct {
	Enabled         bool     `toml:"enabled" doc:"Whether there is a TURN server. Participants of meetings get credentials for it when they join."`
	Listen          string   `toml:"listen" doc:"Address of TURN over UDP and TCP. Without a host part: all addresses that the machine has at the start."`
	TLSListen       string   `toml:"tls_listen" doc:"Address of TURN over DTLS and TLS, with the certificate of the page. Empty: none."`
	SharedPorts     bool     `toml:"shared_ports" doc:"Whether TURN is spoken on the ports of meetings, too: over UDP on that of media, over TCP and TLS on that of the page."`
	Realm           string   `toml:"realm" doc:"Realm that users and passwords belong to."`
	Users           []string `toml:"users" doc:"Users that are always let in, each as \"name:password\"."`
	Secrets         []string `toml:"secrets" doc:"Secrets shared with whoever hands out time-limited credentials (coturn's static-auth-secret). All of them are believed."`
	RelayAddresses  []string `toml:"relay_addresses" doc:"Addresses of this machine that are relayed from, one for each family. Empty: its first ones."`
	FirstPort       int      `toml:"first_port" doc:"First UDP or TCP port to relay from."`
	LastPort        int      `toml:"last_port" doc:"Last port to relay from."`
	AllowPeers      []string `toml:"allow_peers" doc:"Networks such as \"10.1.0.0/16\" that are relayed to though they are private or this machine's."`
	DenyPeers       []string `toml:"deny_peers" doc:"Networks that are not relayed to."`
	Allocations     int      `toml:"allocations" doc:"Most allocations at one time."`
	UserAllocations int      `toml:"user_allocations" doc:"Most allocations of one user at one time."`
	Alternates      []string `toml:"alternate_servers" doc:"Servers, as \"address:port\", that clients are sent to when all allocations are taken (coturn's alternate-server, which sends them away in any case)."`
	UserBytes       int      `toml:"user_bytes_per_second" doc:"Most that one user may relay, in both directions together. 0: no limit."`
	TotalBytes      int      `toml:"total_bytes_per_second" doc:"Most that all users may relay. 0: no limit."`
	Engine          string   `toml:"engine" doc:"What relays channels bound over UDP. auto: the kernel, by eBPF, where it is allowed and on interfaces that take it, else as batch. tcx: the kernel, or no start. batch: user space, many packets at a time. off: the server itself. doctor says which it is."`
	Guard           bool     `toml:"guard" doc:"Whether the kernel, where it relays, drops what strangers send to listen over UDP that is no STUN, or more than 100 packets per second and address. Nobody with an allocation is ever stopped."`
	AllowSources    []string `toml:"allow_sources" doc:"Networks from which the guard takes any number of packets."`
	DenySources     []string `toml:"deny_sources" doc:"Networks from which the guard takes none but of those who have an allocation. The longer prefix counts."`
	Realms          []Realm  `toml:"realms" doc:"Further realms, each a [[turn.realms]] table with a name, what it serves (addresses of this machine, TLS server names, origins), and users, secrets, allow_peers, deny_peers, allocations, user_allocations, user_bytes_per_second, total_bytes_per_second of its own."`
}

// The engines of TURN.
const (
	EngineAuto  = "auto"
	EngineTCX   = "tcx"
	EngineBatch = "batch"
	EngineOff   = "off"
)

// Realm is one more world of TURN users.
type Realm struct {
	Name            string   `toml:"name"`
	Serves          []string `toml:"serves"`
	Users           []string `toml:"users"`
	Secrets         []string `toml:"secrets"`
	AllowPeers      []string `toml:"allow_peers"`
	DenyPeers       []string `toml:"deny_peers"`
	Allocations     int      `toml:"allocations"`
	UserAllocations int      `toml:"user_allocations"`
	UserBytes       int      `toml:"user_bytes_per_second"`
	TotalBytes      int      `toml:"total_bytes_per_second"`
}

// Live is what SIGHUP changes in a running process.
type Live struct {
	TLS TLS `toml:"tls" doc:"The certificate of the web page and of signaling. Changed files are noticed within seconds; no connection is dropped."`
	Log Log `toml:"log" doc:"Lines on standard error, one for each event of a life."`
}

// Server is where the appliance listens on TCP, and where it keeps things.
type Server struct {
	Listen      string `toml:"listen" doc:"Address of HTTPS and WebSocket. Without a host part: all addresses, IPv4 and IPv6."`
	URL         string `toml:"url" doc:"How participants reach the page, such as \"https://meet.example.org\"; a proxy in front may give another name than the one this machine sees. Links made by the admin API begin with it, a self-signed certificate stands for it."`
	AdminListen string `toml:"admin_listen" doc:"Address of the admin interface: health, metrics and the admin API, over HTTPS. It belongs on loopback or an inside network."`
	DataDir     string `toml:"data_dir" doc:"Folder for keys, tokens and the certificate. Empty: /var/lib/sotto for root, else $XDG_STATE_HOME/sotto or ~/.local/state/sotto."`
}

// Media is where the appliance listens on UDP, and for how many.
type Media struct {
	Port            int      `toml:"port" doc:"The UDP port of all media, on all addresses. The same number as HTTPS means one number in a firewall. 0: any free one."`
	PublicAddresses []string `toml:"public_addresses" doc:"Addresses under which this machine is reached from elsewhere when it does not hold them itself (NAT, floating addresses). Its own are found without being named."`
	MaxSessions     int      `toml:"max_sessions" doc:"Most participants with media at one time. Each may cost about 1 MiB of packets held for repair."`
	MaxParticipants int      `toml:"max_participants" doc:"Most participants of one meeting."`
	MaxViewers      int      `toml:"max_viewers" doc:"Most viewers of one meeting's broadcast (WHEP), who have no seat in it. They count as sessions."`
	Loudest         int      `toml:"loudest" doc:"How many people are heard at a time by somebody in a meeting with more open microphones: those who speak. Whoever is pinned is heard besides."`
	Videos          int      `toml:"videos" doc:"Most pictures sent to one participant at a time: pinned ones, screens, who spoke last, who came first. More than 24 are hard work for browsers."`
	Data            bool     `toml:"data" doc:"Whether clients that ask for them get data channels: application data to the others in the meeting, hop by hop, over the media port. It costs nothing until one asks; Sotto's own page never does."`
	TCP             bool     `toml:"tcp" doc:"Whether clients that UDP does not reach may send their media over TCP, to the port of the page (ICE-TCP, RFC 6544)."`
	Shards          int      `toml:"shards" doc:"Threads that forward media, each with a socket of its own on the port. 0: one for each core."`
	ReceiveBuffer   int      `toml:"receive_buffer" doc:"Bytes of UDP receive buffer to ask of the kernel; doctor says when it grants less."`
	SendBuffer      int      `toml:"send_buffer" doc:"Bytes of UDP send buffer to ask of the kernel."`
}

// Store names the database.
type Store struct {
	Database string `toml:"database" doc:"Empty: the file core.db in data_dir. Or the address of a PostgreSQL (15 or later), as postgres://user@host1,host2/name?sslmode=verify-full&passfile=FILE, with every node of it; the one that takes writes is found. The password belongs into the passfile."`
}

// Recording says whether meetings may be recorded, and where to. It is off
// until somebody turns it on: what people say in meetings is then on a disk of
// the operator's, who has to know that, and may have to ask.
type Recording struct {
	Enabled   bool   `toml:"enabled" doc:"Whether hosts may record meetings. Off, no meeting is ever written to disk."`
	Directory string `toml:"directory" doc:"Folder with a folder for each recording. Empty: recordings in data_dir. Nothing is ever deleted from it."`
	MaxBytes  int    `toml:"max_bytes" doc:"Most that all recordings take together; at it recordings end and none begins. 0: no limit but the disk, of which 512 MiB always stay free."`
}

// KMS names the key service whose clients are carried.
type KMS struct {
	Domain         string `toml:"domain" doc:"Mail domain of the key service, in lower case. Empty: none."`
	Socket         string `toml:"socket" doc:"Unix socket of a key service on this machine. Empty: kms/kms.sock in data_dir."`
	RelayTokenFile string `toml:"relay_token_file" doc:"File with the token, 16 characters at least, by which a key service elsewhere is known when it dials in; it opens no key. Empty: none may dial in."`
}

// TLS names a certificate of one's own.
type TLS struct {
	CertFile string `toml:"cert_file" doc:"Certificate chain in PEM. Empty: a self-signed one, made at the first start and kept."`
	KeyFile  string `toml:"key_file" doc:"Private key in PEM."`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `toml:"level" doc:"Lowest level written: debug, info, warn or error."`
	Format string `toml:"format" doc:"text or json."`
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Static: Static{
			Server: Server{Listen: ":8443", AdminListen: "127.0.0.1:8444"},
			Media: Media{
				Port:            8443,
				PublicAddresses: []string{},
				MaxSessions:     2000,
				MaxParticipants: 100,
				MaxViewers:      500,
				Loudest:         3,
				Videos:          24,
				Data:            true,
				TCP:             true,
				ReceiveBuffer:   4 << 20,
				SendBuffer:      4 << 20,
			},
			TURN: TURN{
				Listen: ":3478", TLSListen: ":5349", SharedPorts: true, Realm: "sotto", Users: []string{}, Secrets: []string{}, RelayAddresses: []string{},
				FirstPort: 49152, LastPort: 65535, AllowPeers: []string{}, DenyPeers: []string{}, Allocations: 10000, UserAllocations: 20, Alternates: []string{}, Engine: EngineAuto,
				Guard: true, AllowSources: []string{}, DenySources: []string{}, Realms: []Realm{},
			},
			Recording: Recording{MaxBytes: 50 << 30},
		},
		Live: Live{
			Log: Log{Level: "info", Format: "text"},
		},
	}
}

// LoadFile reads and checks a file. An empty name is an empty file.
func LoadFile(name string) (Config, error) {
	if name == "" {
		return Default(), nil
	}
	document, err := os.ReadFile(name)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	return Load(name, document)
}

// ResolveDataDir returns the folder for a configured data_dir, which may be
// empty. A relative one counts from the working folder.
func ResolveDataDir(configured string, getenv func(string) string, uid int) (string, error) {
	dir := configured
	switch {
	case dir != "":
	case uid == 0:
		dir = "/var/lib/sotto"
	case filepath.IsAbs(getenv("XDG_STATE_HOME")):
		// The XDG base directory specification: relative ones are invalid and
		// to be ignored.
		dir = filepath.Join(getenv("XDG_STATE_HOME"), "sotto")
	case getenv("HOME") != "":
		dir = filepath.Join(getenv("HOME"), ".local", "state", "sotto")
	default:
		return "", errors.New("config: no home directory: set server.data_dir or -data")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("config: data_dir: %w", err)
	}
	return dir, nil
}

// NeedsRestart returns the keys in which two static parts differ: those that
// a reload cannot take over.
func NeedsRestart(running, wanted Static) []string {
	var keys []string
	now := map[string]any{}
	for e := range entries(running) {
		now[e.key] = e.value.Interface()
	}
	for e := range entries(wanted) {
		if !reflect.DeepEqual(now[e.key], e.value.Interface()) {
			keys = append(keys, e.key)
		}
	}
	return keys
}
