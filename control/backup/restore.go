package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sotto-edge/sotto/internal/store"
)

// Digest is how many rows a table has, and which, in whatever order.
type Digest struct {
	Rows int64  `json:"rows"`
	Sum  string `json:"sum"` // exclusive or of the SHA-256 of each row; every table has a primary key, so none is there twice
}

func (d Digest) with(t store.Table, line []byte) Digest {
	head := strings.Join(t.Columns, "\x00") + "\x00\x00"
	row := sha256.Sum256(append([]byte(head), line...))
	old, err := hex.DecodeString(d.Sum)
	if err == nil && len(old) == len(row) {
		for i := range row {
			row[i] ^= old[i]
		}
	}
	return Digest{d.Rows + 1, hex.EncodeToString(row[:])}
}

// encodeRow writes the values as a JSON array: numbers are integers; {"f": "…"} is another number, {"b": "…"} bytes.
func encodeRow(values []any) ([]byte, error) {
	out := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case float64:
			out[i] = map[string]string{"f": strconv.FormatFloat(v, 'g', -1, 64)}
		case []byte:
			out[i] = map[string]string{"b": base64.StdEncoding.EncodeToString(v)}
		case string:
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return nil, errors.New("a text that is no UTF-8, or has a NUL")
			}
			out[i] = v
		default:
			out[i] = v
		}
	}
	return json.Marshal(out)
}

// decodeRow reads what encodeRow has written.
func decodeRow(line []byte) ([]any, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var out []any
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	if _, err := d.Token(); out == nil || !errors.Is(err, io.EOF) {
		return nil, errors.New("a row is one array")
	}
	for i, v := range out {
		var err error
		switch v := v.(type) {
		case nil, string, bool:
		case json.Number:
			out[i], err = strconv.ParseInt(v.String(), 10, 64)
		case map[string]any:
			out[i], err = tagged(v)
		default:
			err = fmt.Errorf("%T is no value", v)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func tagged(v map[string]any) (any, error) {
	if b, ok := v["b"].(string); ok && len(v) == 1 {
		out, err := base64.StdEncoding.Strict().DecodeString(b)
		if out == nil {
			out = []byte{} // which is not NULL
		}
		return out, err
	}
	if f, ok := v["f"].(string); ok && len(v) == 1 {
		return strconv.ParseFloat(f, 64)
	}
	return nil, errors.New("an object is no value")
}

// Load fills an empty database with the rows of the backup, and sees that they are all there.
func (o *Opened) Load(ctx context.Context, cfg store.Config) error {
	err := store.Load(ctx, cfg, o.Manifest.Versions, func(put func(store.Table, []any) error) error {
		for _, e := range o.Manifest.Entries {
			if !strings.HasPrefix(e.Name, "rows/") {
				continue
			}
			if err := o.loadFile(e.Name, put); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return o.compare(ctx, cfg)
}

func (o *Opened) loadFile(name string, put func(store.Table, []any) error) error {
	f, err := os.Open(filepath.Join(o.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, entryLimit)
	if !lines.Scan() {
		return errors.Join(errors.New("no first line"), lines.Err())
	}
	var t store.Table
	if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
		return err
	}
	for lines.Scan() {
		values, err := decodeRow(lines.Bytes())
		if err == nil && len(values) != len(t.Columns) {
			err = fmt.Errorf("%d values for %d columns", len(values), len(t.Columns))
		}
		if err != nil {
			return err
		}
		if err := put(t, values); err != nil {
			return err
		}
	}
	return lines.Err()
}

// compare reads the database again.
func (o *Opened) compare(ctx context.Context, cfg store.Config) (err error) {
	db, err := store.Inspect(ctx, cfg)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	got := map[string]Digest{}
	if err := db.Dump(ctx, func(t store.Table, values []any) error {
		line, err := encodeRow(values)
		got[t.Name] = got[t.Name].with(t, line)
		return err
	}); err != nil {
		return fmt.Errorf("backup: read again: %w", err)
	}
	for name, want := range o.Manifest.Tables {
		if got[name] != want {
			return fmt.Errorf("backup: table %s came back with %d rows that are not the %d of the backup", name, got[name].Rows, want.Rows)
		}
	}
	if len(got) != len(o.Manifest.Tables) {
		return errors.New("backup: there are tables that the backup does not have")
	}
	return nil
}

// Verify proves the backup: it is loaded into an SQLite database of its own, brought up to date, and removed.
func (o *Opened) Verify(ctx context.Context, domains []*store.Domain) error {
	cfg := store.Config{Database: filepath.Join(o.dir, "verify.db"), Domains: domains}
	if err := o.Load(ctx, cfg); err != nil {
		return err
	}
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("backup: bring up to date: %w", err)
	}
	return db.Close()
}

// Restore puts files and rows back. Nothing that is there is overwritten without force; the database is tried before any file is
// touched. Nothing may run on the data folder meanwhile. A database file is filled aside and renamed; a PostgreSQL must be empty, and
// force does not change that.
func (o *Opened) Restore(ctx context.Context, dir string, cfg store.Config, force bool) error {
	if !force {
		for _, name := range o.Files() {
			if err := absent(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return err
			}
		}
	}
	if store.Remote(cfg.Database) {
		if err := o.Load(ctx, cfg); err != nil {
			return err
		}
	} else if err := o.restoreFile(ctx, cfg, force); err != nil {
		return err
	}
	for _, name := range o.Files() {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if err := move(filepath.Join(o.dir, "files", filepath.FromSlash(name)), to); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	return nil
}

func absent(name string) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("backup: %s is there already: %w", name, fs.ErrExist), err)
	}
	return nil
}

func (o *Opened) restoreFile(ctx context.Context, cfg store.Config, force bool) error {
	live := cfg.Database
	if !force {
		if err := absent(live); err != nil {
			return err
		}
	}
	cfg.Database = filepath.Join(o.dir, "restore.db")
	if err := o.Load(ctx, cfg); err != nil {
		return err
	}
	if err := absent(cfg.Database + "-wal"); err != nil {
		return err // part of it would stay behind
	}
	// The log of the old database would be taken for the new one's.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(live + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("backup: %w", err)
		}
	}
	if err := move(cfg.Database, live); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// move renames, and syncs the folder: both are in the same file system.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
