package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// A closed room is closed on the machine that the backup of a running one was restored to, and its tokens are good there.
func TestBackupOfARunningAppliance(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts)
	_, opened, _ := r.ctl(t, "conferences", "open")
	room := roomOf(t, opened)
	if code, _, errs := r.ctl(t, "conferences", "close", room); code != 0 {
		t.Fatalf("close: %s", errs)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	private, public := write(t, "key", key.String()+"\n"), write(t, "key.pub", key.Recipient().String()+"\n")
	phrase, short := write(t, "phrase", "correct horse battery\n"), write(t, "short", "horse\n")
	file, byPhrase := filepath.Join(t.TempDir(), "b.age"), filepath.Join(t.TempDir(), "p.age")
	here := []string{"-config", r.file, "-data", r.dir}
	with := func(command string, args ...string) (int, string) {
		t.Helper()
		code, out, errs := shell(t, append(append([]string{command}, args...), here...)...)
		return code, out + errs
	}
	for _, x := range []struct {
		code int
		part string
		args []string
	}{
		{0, "1 rows of 1 tables", []string{"backup", "-output", file, "-key-file", public}},
		{0, "1 rows of 1 tables", []string{"backup", "-output", byPhrase, "-passphrase-file", phrase}},
		{1, "exists", []string{"backup", "-output", file, "-key-file", private}},
		{1, "12 characters", []string{"backup", "-output", file + "2", "-passphrase-file", short}},
		{2, "passphrase-file", []string{"backup", "-output", file + "2"}},
		{0, "is good", []string{"restore", "-verify", "-from", file, "-key-file", private}},
		{0, "is good", []string{"restore", "-verify", "-from", byPhrase, "-passphrase-file", phrase}},
		{1, "private keys", []string{"restore", "-verify", "-from", file, "-key-file", public}},
		{1, "passphrase", []string{"restore", "-verify", "-from", file, "-passphrase-file", phrase}},
		{1, "serves", []string{"restore", "-force", "-from", file, "-key-file", private}},
	} {
		if code, out := with(x.args[0], x.args[1:]...); code != x.code || !strings.Contains(out, x.part) {
			t.Errorf("%v: code %d, want %d and %q in: %s", x.args, code, x.code, x.part, out)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if code, out := with("restore", "-from", file, "-key-file", private); code != 1 || !strings.Contains(out, "-force") {
		t.Errorf("over a data folder in use: %d, %s", code, out)
	}

	// An empty machine.
	there := t.TempDir()
	if code, out, errs := shell(t, "restore", "-from", file, "-key-file", private, "-config", r.file, "-data", there); code != 0 {
		t.Fatalf("restore: %s%s", out, errs)
	}
	for _, name := range []string{"seed", "owner-token", "admin/token"} {
		was, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(filepath.Join(there, name)); err != nil || string(is) != string(was) {
			t.Errorf("%s did not come back: %v", name, err)
		}
	}
	again := start(t, there, anyPorts)
	if code, _, errs := again.ctl(t, "tokens", "join", room); code == 0 || !strings.Contains(errs, "not found") {
		t.Errorf("the closed room: %d, %s", code, errs)
	}
	_, opened, _ = again.ctl(t, "conferences", "open")
	if code, _, errs := again.ctl(t, "tokens", "join", roomOf(t, opened)); code != 0 {
		t.Errorf("another room: %s", errs)
	}
}

// roomOf finds the room in what `sotto ctl conferences open` prints.
func roomOf(t *testing.T, out string) string {
	t.Helper()
	_, rest, ok := strings.Cut(out, "/m/")
	if !ok {
		t.Fatalf("no link in %q", out)
	}
	return strings.FieldsFunc(rest, func(r rune) bool { return r == '"' || r <= ' ' })[0]
}
