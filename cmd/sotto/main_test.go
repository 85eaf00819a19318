package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/doctor"
)

// shell runs one command line in an environment without a home.
func shell(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = execute(args, environment{out: &stdout, err: &stderr, getenv: func(string) string { return "" }, uid: 1000})
	return code, stdout.String(), stderr.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLongFlags(t *testing.T) {
	got := longFlags([]string{"serve", "-data", "-x", "--config=F", "-json=false", "-5s", "-", "--", "-report"})
	want := []string{"serve", "--data", "-x", "--config=F", "--json=false", "-5s", "-", "--", "-report"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args      []string
		code      int
		out, errs string // parts
	}{
		{[]string{"--help"}, 0, "serve", ""},
		{[]string{"-help"}, 0, "doctor", ""},
		{[]string{"ctl", "participants", "remove", "--help"}, 0, "<participant>", ""},
		{[]string{"version"}, 0, "sotto " + version, ""},
		{[]string{}, 2, "", "--help"},
		{[]string{"sing"}, 2, "", "unexpected argument sing"},
		{[]string{"serve", "-port", "1"}, 2, "", "unknown flag --port"},
		{[]string{"serve", "extra"}, 2, "", "unexpected argument"},
	}
	for _, tt := range tests {
		code, out, errs := shell(t, tt.args...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.errs) {
			t.Errorf("sotto %q: exit code %d, want %d\n%s%s", tt.args, code, tt.code, out, errs)
		}
	}
}

func TestConfigCommand(t *testing.T) {
	code, document, _ := shell(t, "config")
	if code != 0 || document != config.Document(config.Default()) {
		t.Errorf("exit code %d, document\n%s", code, document)
	}
	sound := write(t, "sotto.toml", document)
	if code, out, _ := shell(t, "config", "check", sound); code != 0 || !strings.Contains(out, "is sound") {
		t.Errorf("the printed document: exit code %d, %s", code, out)
	}
	unsound := write(t, "sotto.toml", "[server]\n\nlistn = \":1\"\n")
	code, out, errs := shell(t, "config", "check", unsound)
	if want := unsound + ":3: server.listn: unknown key; did you mean server.listen?\n"; code != 1 || out != "" || errs != want {
		t.Errorf("exit code %d, %q, want %q", code, errs, want)
	}
	if code, _, errs := shell(t, "config", "check", "/nowhere/sotto.toml"); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	if code, _, errs := shell(t, "serve", "-config", unsound); code != 1 || !strings.Contains(errs, ":3: server.listn") {
		t.Errorf("serve: exit code %d, %q", code, errs)
	}
}

func TestDoctorCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file := write(t, "sotto.toml", "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[media]\nport = 0\n")
	code, out, errs := shell(t, "doctor", "-config", file, "-data", dir)
	if code != 0 || !strings.Contains(out, "ok    data folder") || !strings.Contains(out, "media port") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	code, out, _ = shell(t, "doctor", "-config", file, "-data", "/dev/null/data", "-json")
	var lines []doctor.Line
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		t.Fatal(err)
	}
	if code != 1 || doctor.Worst(lines) != doctor.Fail {
		t.Errorf("an impossible folder: exit code %d\n%s", code, out)
	}
	if code, _, errs := shell(t, "doctor"); code != 1 || !strings.Contains(errs, "-data") {
		t.Errorf("no home: exit code %d, %s", code, errs)
	}
}

func TestOneProcessHoldsTheDataFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "-data") {
		t.Errorf("taken twice: %v", err)
	}
	in := instance{PID: os.Getpid(), URL: "https://localhost:1"}
	if err := lock.announce(in); err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), in.URL) {
		t.Errorf("taken twice: %v", err)
	}
	if got, ok := readInstance(dir); !ok || got != in {
		t.Errorf("announced %+v, %v", got, ok)
	}
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
	if _, ok := readInstance(dir); ok {
		t.Error("still announced")
	}
	again, err := lockData(dir)
	if err != nil {
		t.Fatalf("given up, but held: %v", err)
	}
	// What a crash leaves behind: a process id that is gone.
	if err := again.announce(instance{PID: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, ok := readInstance(dir); ok {
		t.Error("a process that is gone counts as running")
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
}
