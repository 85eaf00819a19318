package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestDocumentOfDefaults(t *testing.T) {
	const golden = "testdata/default.toml"
	got := Document(Default())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("document (-golden +got), -update writes it anew:\n%s", diff)
	}
}

func TestDocumentSaysWhatTheStructSays(t *testing.T) {
	changed := Default()
	changed.Server.Listen = "[::1]:443"
	changed.Server.DataDir = "/srv/\"odd\"\\name\twith\u0001everything 会議"
	changed.Media.PublicAddresses = []string{"198.51.100.7", "2001:db8::7"}
	changed.Log.Level = "debug"
	changed.TURN.Realms = []Realm{
		{Name: "second", Serves: []string{"198.51.100.7"}, Users: []string{"a:b"}, Secrets: []string{}, AllowPeers: []string{}, DenyPeers: []string{}, UserBytes: 7},
		{Name: "third", Serves: []string{}, Users: []string{}, Secrets: []string{strings.Repeat("s", 16)}, AllowPeers: []string{"10.0.0.0/8"}, DenyPeers: []string{}, Allocations: 5},
	}
	for _, c := range []Config{Default(), changed} {
		got, err := Load("printed", []byte(Document(c)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	for s := range sections(Default()) {
		if s.doc == "" || s.name == "" {
			t.Errorf("section %q has no name or no doc", s.name)
		}
		for e := range s.entries() {
			if e.doc == "" || strings.HasSuffix(e.key, ".") {
				t.Errorf("key %q has no name or no doc", e.key)
			}
		}
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, document := range []string{"", "# nothing\n", "[server]\n"} {
		got, err := Load("x", []byte(document))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Default(), got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", document, diff)
		}
	}
}

func TestPartOfAFile(t *testing.T) {
	got, err := Load("x", []byte("server.listen = \"127.0.0.1:0\"\n[media]\nport = 0\npublic_addresses = [\"198.51.100.7\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server.Listen = "127.0.0.1:0"
	want.Media.Port = 0
	want.Media.PublicAddresses = []string{"198.51.100.7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusedFiles(t *testing.T) {
	tests := []struct {
		name, document string
		want           []string // in order, one for each problem
	}{
		{
			"unknown key", "[server]\nlisten = \":1\"\nlistn = \":2\"\n",
			[]string{"f.toml:3: server.listn: unknown key; did you mean server.listen?"},
		},
		{
			"several unknown keys", "color = 1\n[server]\n\nlisten_admin = 3\n[median]\nport = 1\n",
			[]string{
				"f.toml:1: color: unknown key; `sotto config` prints the known ones",
				"f.toml:4: server.listen_admin: unknown key; did you mean server.listen?",
				"f.toml:5: median: unknown key; did you mean media?",
			},
		},
		{
			"key under the wrong section", "[server]\nlevel = \"info\"\n",
			[]string{"f.toml:2: server.level: unknown key; did you mean log.level?"},
		},
		{
			"wrong type", "[media]\n\nport = \"8443\"\n",
			[]string{"f.toml:3: media.port: "},
		},
		{
			"not TOML", "[server]\nlisten = :8443\n",
			[]string{"f.toml:2: "},
		},
		{
			"twice", "[media]\nport = 1\nport = 2\n",
			[]string{"f.toml:3"},
		},
		{
			"values", "[server]\nlisten = \"8443\"\nadmin_listen = \"meet.example.org:1\"\nurl = \"http://x\"\n\n[media]\nport = 70000\nmax_sessions = 0\npublic_addresses = [\n  \"198.51.100.7\",\n  \"198.51.100.7:8443\",\n  \"0.0.0.0\",\n]\n[log]\nformat = \"xml\"\nlevel = \"loud\"\n",
			[]string{
				`f.toml:2: server.listen: "8443": want host:port`,
				`f.toml:3: server.admin_listen: "meet.example.org:1": host must be an address`,
				`f.toml:4: server.url: "http://x": want https://`,
				`f.toml:7: media.port: 70000: a port is 0 to 65535`,
				`f.toml:8: media.max_sessions: 0: want more than 0`,
				`f.toml:9: media.public_addresses: "198.51.100.7:8443": want an IPv4 or IPv6 address`,
				`f.toml:9: media.public_addresses: "0.0.0.0": not an address that others can send to`,
				`f.toml:15: log.format: "xml": want text or json`,
				`f.toml:16: log.level: "loud": want debug`,
			},
		},
		{
			"dotted and inline", "log.level = \"x\"\nmedia = { port = -1, shards = 300 }\n",
			[]string{`f.toml:1: log.level: "x"`, `f.toml:2: media.port: -1`, `f.toml:2: media.shards: 300: want 0 to 256`},
		},
		{
			"realms", "[turn]\nrealm = \"\"\nusers = [\"a\"]\nalternate_servers = [\"turn.example.org:3478\"]\n\n[[turn.realms]]\nname = \"x\"\nallow_peers = [\"10\"]\n[[turn.realms]]\nname = \"x\"\nsecrets = [\"short\"]\nallocations = -1\n",
			[]string{
				`f.toml:2: turn.realm: "": want 1 to 127 bytes`,
				`f.toml:3: turn.users: number 1: want name:password`,
				`f.toml:4: turn.alternate_servers: "turn.example.org:3478": want an address with a port`,
				`f.toml:9: turn.realms: number 1: allow_peers: "10": want a network`,
				`f.toml:9: turn.realms: number 2: secrets: number 1: want 16 characters or more`,
				`f.toml:9: turn.realms: number 2: name: "x" is there already`,
				`f.toml:9: turn.realms: number 2: allocations: -1: want 0 or more`,
			},
		},
		{
			"engine", "[turn]\nengine = \"ebpf\"\ndeny_sources = [\"10.0.0.1\"]\n",
			[]string{`f.toml:2: turn.engine: "ebpf": want auto, tcx, batch or off`, `f.toml:3: turn.deny_sources: "10.0.0.1": want a network`},
		},
		{
			"unknown key of a realm", "[[turn.realms]]\nnam = \"x\"\n",
			[]string{"f.toml:2: turn.realms.nam: unknown key"},
		},
		{
			"a relay for nobody", "[kms]\nrelay_token_file = \"f\"\n",
			[]string{`f.toml:2: kms.relay_token_file: set without domain`},
		},
		{
			"a key service that is no domain", "[kms]\ndomain = \"Example.org\"\n",
			[]string{`f.toml:2: kms.domain: "Example.org": want a domain name in lower case`},
		},
		{
			"half a certificate", "[tls]\nkey_file = \"k.pem\"\n",
			[]string{`f.toml:2: tls.key_file: set without cert_file`},
		},
		{
			"the other half", "[tls]\ncert_file = \"c.pem\"\n",
			[]string{`f.toml:2: tls.cert_file: set without key_file`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load("f.toml", []byte(tt.document))
			var invalid *Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("error %v is no *Invalid", err)
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(got), len(tt.want), err)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("problem %d is\n %s, want\n %s", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestLoadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sotto.toml")
	if _, err := LoadFile(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte("[log]\nlevel = \"debug\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadFile(name)
	if err != nil || c.Log.Level != "debug" {
		t.Errorf("level %q, %v", c.Log.Level, err)
	}
	if c, err = LoadFile(""); err != nil || c.Log.Level != "info" {
		t.Errorf("no file: level %q, %v", c.Log.Level, err)
	}
}

func TestResolveDataDir(t *testing.T) {
	tests := []struct {
		name, configured string
		env              map[string]string
		uid              int
		want             string
	}{
		{"configured", "/srv/sotto", map[string]string{"HOME": "/home/ann"}, 0, "/srv/sotto"},
		{"root", "", map[string]string{"HOME": "/root"}, 0, "/var/lib/sotto"},
		{"state home", "", map[string]string{"HOME": "/home/ann", "XDG_STATE_HOME": "/state"}, 1000, "/state/sotto"},
		{"relative state home", "", map[string]string{"HOME": "/home/ann", "XDG_STATE_HOME": "state"}, 1000, "/home/ann/.local/state/sotto"},
		{"home", "", map[string]string{"HOME": "/home/ann"}, 1000, "/home/ann/.local/state/sotto"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ResolveDataDir(tt.configured, func(k string) string { return tt.env[k] }, tt.uid)
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := ResolveDataDir("", func(string) string { return "" }, 1000); err == nil {
		t.Error("no home directory: no error")
	}
	if got, err := ResolveDataDir("data", func(string) string { return "" }, 0); err != nil || !filepath.IsAbs(got) {
		t.Errorf("relative: %q, %v", got, err)
	}
}

func TestNeedsRestart(t *testing.T) {
	running, wanted := Default().Static, Default().Static
	if got := NeedsRestart(running, wanted); len(got) != 0 {
		t.Errorf("equal parts: %v", got)
	}
	wanted.Media.Port = 9
	wanted.Server.Listen = ":9"
	wanted.Media.PublicAddresses = []string{"198.51.100.7"}
	want := []string{"server.listen", "media.port", "media.public_addresses"}
	if diff := cmp.Diff(want, NeedsRestart(running, wanted)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(Document(Default())))
	f.Add([]byte("[server]\nlistn = 1\n"))
	f.Add([]byte("media = { port = -1, x = { y = [1, 2] } }\n"))
	f.Add([]byte("[[server]]\n"))
	f.Add([]byte("log.level = \"\\u0001\"\n"))
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := Load("f", document)
		var invalid *Invalid
		switch {
		case err == nil:
			again, err := Load("again", []byte(Document(c)))
			if err != nil {
				t.Fatalf("accepted, but not when printed: %v", err)
			}
			if diff := cmp.Diff(c, again); diff != "" {
				t.Fatalf("printed and read back (-want +got):\n%s", diff)
			}
		case !errors.As(err, &invalid) || len(invalid.Problems) == 0:
			t.Fatalf("refused without a problem: %v", err)
		}
	})
}
