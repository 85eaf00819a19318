package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/sotto-edge/sotto/control/backup"
	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
)

// kept are the files of the data folder that a backup holds: secrets, and certificates that others trust.
var kept = []string{"seed", "owner-token", "admin", "tls"}

// secret says what a backup is encrypted with.
type secret struct {
	PassphraseFile string `xor:"secret" required:"" type:"existingfile" placeholder:"FILE" help:"File whose first line is the passphrase, 12 characters at least."`
	KeyFile        string `xor:"secret" required:"" type:"existingfile" placeholder:"FILE" help:"File of age keys: public ones (age1…) are enough to back up, private ones are needed to restore."`
}

func (s secret) passphrase() (string, error) {
	text, err := os.ReadFile(s.PassphraseFile)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimRight(line, "\r")
	if len([]rune(line)) < 12 {
		return "", fmt.Errorf("%s: the passphrase has fewer than 12 characters", s.PassphraseFile)
	}
	return line, nil
}

func (s secret) recipients() ([]age.Recipient, error) {
	if s.KeyFile == "" {
		text, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(text)
		return []age.Recipient{r}, err
	}
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, err
	}
	if recipients, err := age.ParseRecipients(bytes.NewReader(text)); err == nil {
		return recipients, nil
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: neither public nor private age keys: %w", s.KeyFile, err)
	}
	var out []age.Recipient
	for _, i := range identities {
		switch i := i.(type) {
		case *age.X25519Identity:
			out = append(out, i.Recipient())
		case *age.HybridIdentity:
			out = append(out, i.Recipient())
		default:
			return nil, fmt.Errorf("%s: a kind of key that has no public one (%T)", s.KeyFile, i)
		}
	}
	return out, nil
}

func (s secret) identities() ([]age.Identity, error) {
	if s.KeyFile == "" {
		text, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		i, err := age.NewScryptIdentity(text)
		return []age.Identity{i}, err
	}
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, err
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: the private keys are needed: %w", s.KeyFile, err)
	}
	return identities, nil
}

type backupCommand struct {
	location
	secret
	Output string `required:"" placeholder:"FILE" help:"File to write; it must not be there yet."`
}

// Run writes the backup under another name first: a file under the right one is whole.
func (c backupCommand) Run(env environment) (err error) {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	cfg, dir, err := c.load(env)
	if err != nil {
		return err
	}
	recipients, err := c.recipients()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	part, err := os.CreateTemp(filepath.Dir(c.Output), ".backup-*") // mode 0600
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer os.Remove(part.Name())
	m, err := backup.Write(ctx, part, backup.Source{
		Dir: dir, Files: kept, Store: store.Config{Database: database(dir, cfg), Domains: domains()}, Program: version, Now: time.Now(),
	}, recipients...)
	if err == nil {
		err = part.Sync()
	}
	if err := errors.Join(err, part.Close()); err != nil {
		return err
	}
	if err := os.Link(part.Name(), c.Output); err != nil { // unlike a rename, it overwrites nothing
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Fprintf(env.out, "%s: %s\n", c.Output, contents(m))
	return nil
}

func contents(m backup.Manifest) string {
	files, rows := 0, int64(0)
	for _, e := range m.Entries {
		if strings.HasPrefix(e.Name, "files/") {
			files++
		}
	}
	for _, t := range m.Tables {
		rows += t.Rows
	}
	return fmt.Sprintf("%d files and %d rows of %d tables, by sotto %s on %s", files, rows, len(m.Tables), m.Program, m.Made.Format(time.RFC3339))
}

type restoreCommand struct {
	location
	secret
	From   string `required:"" type:"existingfile" placeholder:"FILE" help:"The backup."`
	Verify bool   `help:"Prove the backup: decrypt it, check every entry, load it into a database aside. What is live is not touched."`
	Force  bool   `help:"Overwrite what is there."`
}

// Run restores or verifies.
func (c restoreCommand) Run(env environment) (err error) {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	cfg, dir, err := c.load(env)
	if err != nil {
		return err
	}
	identities, err := c.identities()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	aside := "" // the folder for temporary files
	if !c.Verify {
		lock, err := lockData(dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.release()) }()
		aside = dir // the same file system, for renaming
	}
	f, err := os.Open(c.From)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	o, err := backup.Open(f, aside, identities...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if c.Verify {
		if err := o.Verify(ctx, domains()); err != nil {
			return err
		}
		fmt.Fprintf(env.out, "%s is good: %s\n", c.From, contents(o.Manifest))
		return nil
	}
	err = o.Restore(ctx, dir, store.Config{Database: database(dir, cfg), Domains: domains()}, c.Force)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; -force overwrites files (a PostgreSQL database must be empty)", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(env.out, "%s: restored %s\n", dir, contents(o.Manifest))
	return nil
}
