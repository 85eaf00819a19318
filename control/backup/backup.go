// Package backup writes everything that an appliance cannot make again into one encrypted file, and puts it back.
//
// It owns the format (docs/backup.md): an age file, in it a tar archive of the files, of every row of the database as of one
// moment, and last a manifest with the SHA-256 of each entry. It promises that a backup is made beside a process that serves;
// that one which was cut short, changed or made for another key is refused before anything is touched; that Verify loads
// it into a database of its own and compares that row by row; and that nothing there is overwritten without force.
//
// It does not keep recordings, which are large and files already, and it does not say when backups are made.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/sotto-edge/sotto/internal/store"
)

// Format is the number of the layout in the archive.
const Format = 1

const (
	manifestName = "manifest.json"
	chunkBytes   = 1 << 20 // of rows in one entry, about
	entryLimit   = 64 << 20
	entries      = 1 << 20 // most of them
)

// Manifest is the last entry: what there is, and what it must be.
type Manifest struct {
	Format   int               `json:"format"`
	Program  string            `json:"program"`
	Made     time.Time         `json:"made"`
	Versions map[string]int64  `json:"versions"` // of the tables, by domain
	Tables   map[string]Digest `json:"tables"`
	Entries  []Entry           `json:"entries"`
}

// Entry is one file of the archive.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Source is what is backed up.
type Source struct {
	Dir     string   // the data folder
	Files   []string // in it: files, and folders as a whole; those that are not there are left out
	Store   store.Config
	Program string // its version, for the manifest
	Now     time.Time
}

// Write writes a backup for the recipients.
func Write(ctx context.Context, w io.Writer, src Source, recipients ...age.Recipient) (m Manifest, err error) {
	db, err := store.Inspect(ctx, src.Store)
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sealed, err := age.Encrypt(w, recipients...)
	if err != nil {
		return m, fmt.Errorf("backup: encrypt: %w", err)
	}
	a := &archive{tar: tar.NewWriter(sealed), manifest: Manifest{Format: Format, Program: src.Program, Made: src.Now.UTC(), Tables: map[string]Digest{}}}
	// The versions before the rows: a migration in between makes the restore fail, and the check of the backup with it.
	if a.manifest.Versions, err = db.Versions(ctx); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	if err := a.rows(ctx, db); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	for _, name := range src.Files {
		if err := a.files(src.Dir, name); err != nil {
			return m, fmt.Errorf("backup: %w", err)
		}
	}
	text, err := json.MarshalIndent(a.manifest, "", "  ")
	if err != nil {
		return m, fmt.Errorf("backup: manifest: %w", err)
	}
	if err := errors.Join(a.add(manifestName, 0o600, text), a.tar.Close(), sealed.Close()); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	return a.manifest, nil
}

// archive is a backup that is being written.
type archive struct {
	tar      *tar.Writer
	manifest Manifest
}

func (a *archive) add(name string, mode fs.FileMode, content []byte) error {
	h := &tar.Header{Name: name, Mode: int64(mode.Perm()), Size: int64(len(content)), ModTime: a.manifest.Made, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := a.tar.Write(content); err != nil {
		return err
	}
	a.manifest.Entries = append(a.manifest.Entries, Entry{name, h.Size, hash(content)})
	return nil
}

func (a *archive) files(dir, name string) error {
	return filepath.WalkDir(filepath.Join(dir, name), func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return a.add(path.Join("files", filepath.ToSlash(rel)), info.Mode(), content)
	})
}

func (a *archive) rows(ctx context.Context, db *store.Store) error {
	var last store.Table
	var chunk []byte
	n := 0
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		n++
		err := a.add(fmt.Sprintf("rows/%06d-%s.jsonl", n, last.Name), 0o600, chunk)
		chunk = chunk[:0]
		return err
	}
	err := db.Dump(ctx, func(t store.Table, values []any) error {
		if t.Name != last.Name || len(chunk) >= chunkBytes {
			if err := flush(); err != nil {
				return err
			}
			last = t
			head, err := json.Marshal(t)
			if err != nil {
				return err
			}
			chunk = append(append(chunk, head...), '\n')
		}
		line, err := encodeRow(values)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		a.manifest.Tables[t.Name] = a.manifest.Tables[t.Name].with(t, line)
		chunk = append(append(chunk, line...), '\n')
		return nil
	})
	return errors.Join(err, flush())
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Opened is a backup that has been decrypted and found whole, unpacked in a folder that only its owner can read.
type Opened struct {
	Manifest Manifest
	dir      string
}

// Open reads a whole backup into a new folder inside dir and checks every entry against the manifest. Close removes the folder.
func Open(r io.Reader, dir string, identities ...age.Identity) (_ *Opened, err error) {
	plain, err := age.Decrypt(r, identities...)
	if err != nil {
		return nil, fmt.Errorf("backup: decrypt: %w (another passphrase or key, or no backup)", err)
	}
	o := &Opened{}
	if o.dir, err = os.MkdirTemp(dir, ".restore-"); err != nil { // mode 0700
		return nil, fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	found, err := o.unpack(tar.NewReader(plain))
	if err != nil {
		return nil, err
	}
	// Behind the archive is nothing but its padding; the last chunk of age is there only if the file is whole.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return nil, fmt.Errorf("backup: damaged or cut short: %w", err)
	}
	m := o.Manifest
	if m.Format != Format {
		return nil, fmt.Errorf("backup: format %d, this program knows %d", m.Format, Format)
	}
	if !slices.Equal(m.Entries, found) {
		return nil, errors.New("backup: what is in it is not what its manifest says")
	}
	return o, nil
}

func (o *Opened) unpack(t *tar.Reader) (found []Entry, err error) {
	for {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("backup: damaged or cut short: no manifest: %w", err)
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > entryLimit || len(found) == entries {
			return nil, fmt.Errorf("backup: entry %q is none of a backup", h.Name)
		}
		content, err := io.ReadAll(io.LimitReader(t, entryLimit))
		if err != nil {
			return nil, fmt.Errorf("backup: damaged or cut short: %w", err)
		}
		if h.Name == manifestName {
			if err := json.Unmarshal(content, &o.Manifest); err != nil {
				return nil, fmt.Errorf("backup: manifest: %w", err)
			}
			return found, nil
		}
		if !filepath.IsLocal(filepath.FromSlash(h.Name)) || path.Clean(h.Name) != h.Name {
			return nil, fmt.Errorf("backup: entry %q points elsewhere", h.Name)
		}
		file := filepath.Join(o.dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		if err := writeFile(file, content, fs.FileMode(h.Mode).Perm()); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		found = append(found, Entry{h.Name, int64(len(content)), hash(content)})
	}
}

// writeFile writes and syncs a file that is not there yet.
func writeFile(name string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// Close removes what was unpacked.
func (o *Opened) Close() error { return os.RemoveAll(o.dir) }

// Files are the names of the files, from the data folder.
func (o *Opened) Files() (out []string) {
	for _, e := range o.Manifest.Entries {
		if name, ok := strings.CutPrefix(e.Name, "files/"); ok {
			out = append(out, name)
		}
	}
	return out
}
