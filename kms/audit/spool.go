package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/plain"
	"github.com/sotto-edge/sotto/internal/store"
)

// Errors of a Spool.
var (
	ErrSpoolFull    = errors.New("audit: the spool is full: nothing is released until the database is back")
	ErrSpoolDamaged = errors.New("audit: the spool is damaged")
)

// Spool is a file that keeps rows while the database is away: each is on the disk when Add returns. Drain moves them into their
// chains, each one time, whatever is killed when.
type Spool struct {
	path string
	most int

	draining sync.Mutex // one at a time

	mu    sync.Mutex
	f     *os.File
	size  int64 // of what is whole
	torn  bool  // something stands behind that
	n     int   // in the file
	aside int   // in the file that is being drained
}

const (
	spoolMark = "sotto audit spool 1\n"
	spoolID   = 16
	spoolHead = len(spoolMark) + spoolID
	maxRecord = 16 << 10
)

// OpenSpool opens the file or makes it. It takes at most so many rows.
func OpenSpool(path string, most int) (*Spool, error) {
	s := &Spool{path: path, most: most}
	if b, err := os.ReadFile(s.asidePath()); err == nil { // of a drain that was broken off
		_, rows, _, err := parseSpool(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, s.asidePath())
		}
		s.aside = len(rows)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.fresh()
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	_, rows, whole, err := parseSpool(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	if s.f, err = os.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	s.n, s.size, s.torn = len(rows), int64(whole), whole < len(b)
	return s, nil
}

func (s *Spool) asidePath() string { return s.path + ".draining" }

// fresh puts an empty file in place.
func (s *Spool) fresh() error {
	head := make([]byte, spoolHead)
	copy(head, spoolMark)
	_, _ = rand.Read(head[len(spoolMark):])
	f, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = f.Write(head)
	if err = errors.Join(err, f.Sync(), os.Rename(s.path+".new", s.path), syncDir(filepath.Dir(s.path))); err != nil {
		return errors.Join(fmt.Errorf("audit: %w", err), f.Close())
	}
	s.f, s.size, s.torn, s.n = f, int64(spoolHead), false, 0
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Add keeps an entry. An error means that it is not kept.
func (s *Spool) Add(e Entry, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return store.ErrClosed
	}
	if s.n >= s.most {
		return ErrSpoolFull
	}
	record, err := appendRecord(nil, e, at)
	if err != nil {
		return err
	}
	if s.torn {
		if err := s.f.Truncate(s.size); err != nil {
			return fmt.Errorf("audit: spool: %w", err)
		}
	}
	s.torn = true
	if _, err := s.f.WriteAt(record, s.size); err != nil {
		return fmt.Errorf("audit: spool: %w", err)
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("audit: spool: %w", err)
	}
	s.torn = false
	s.size += int64(len(record))
	s.n++
	return nil
}

// Len is how many rows are not known to be in their chains.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n + s.aside
}

type spooled struct {
	entry Entry
	at    int64
}

// codeEntry is the form of a row in a spool.
func codeEntry(c *plain.Coder, r *spooled) {
	plain.Int(c, &r.at)
	for _, t := range r.entry.texts() {
		plain.Text(c, t)
	}
}

// appendRecord appends a row: its length, its bytes, and the SHA-256 of them.
func appendRecord(dst []byte, e Entry, at time.Time) ([]byte, error) {
	w := plain.NewWriter(nil)
	codeEntry(w, &spooled{e, store.Micros(at)})
	if err := w.Err(); err != nil || len(w.Bytes()) > maxRecord {
		return nil, ErrTooLong
	}
	body := w.Bytes()
	out := plain.NewWriter(dst)
	out.Blob(&body)
	sum := sha256.Sum256(body)
	return append(out.Bytes(), sum[:]...), nil
}

// parseSpool reads a file. A record that is cut off at its end was never acknowledged, and is passed over; one that is damaged before the end is an error.
func parseSpool(b []byte) (id string, rows []spooled, whole int, err error) {
	if len(b) < spoolHead || string(b[:len(spoolMark)]) != spoolMark {
		return "", nil, 0, ErrSpoolDamaged
	}
	id = hex.EncodeToString(b[len(spoolMark):spoolHead])
	whole = spoolHead
	for whole < len(b) {
		r := plain.NewReader(b[whole:])
		var body []byte
		r.Blob(&body)
		if r.Err() != nil || len(r.Bytes()) < sha256.Size {
			break
		}
		left := r.Bytes()[sha256.Size:]
		if sum := sha256.Sum256(body); string(sum[:]) != string(r.Bytes()[:sha256.Size]) {
			if len(left) == 0 {
				break
			}
			return "", nil, 0, ErrSpoolDamaged
		}
		var row spooled
		c := plain.NewReader(body)
		if codeEntry(c, &row); c.End() != nil {
			return "", nil, 0, ErrSpoolDamaged
		}
		rows = append(rows, row)
		whole = len(b) - len(left)
	}
	return id, rows, whole, nil
}

// Drain moves what was kept into the chains, dated as it was, and returns how many rows. Rows may be added meanwhile.
func (s *Spool) Drain(ctx context.Context, db *store.Store, l *Log) (int, error) {
	s.draining.Lock()
	defer s.draining.Unlock()
	aside := s.asidePath()
	total := 0
	for {
		b, err := os.ReadFile(aside)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if more, err := s.putAside(aside); err != nil || !more {
				return total, err
			}
			continue
		case err != nil:
			return total, fmt.Errorf("audit: %w", err)
		}
		id, rows, _, err := parseSpool(b)
		if err != nil {
			return total, fmt.Errorf("%w: %s", err, aside)
		}
		_, repeated, err := db.Once(ctx, store.Key{Scope: "audit spool", ID: id}, func(tx *store.Tx) ([]byte, error) {
			for _, r := range rows {
				if _, err := l.append(tx, r.entry, store.Time(r.at)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		if err != nil {
			return total, err
		}
		if !repeated {
			total += len(rows)
		}
		if err := errors.Join(os.Remove(aside), syncDir(filepath.Dir(aside))); err != nil {
			return total, fmt.Errorf("audit: %w", err)
		}
		s.mu.Lock()
		s.aside = 0
		s.mu.Unlock()
	}
}

// putAside makes what the file has a file of its own, and says whether there was something.
func (s *Spool) putAside(aside string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil || s.n == 0 {
		return false, nil
	}
	if err := os.Rename(s.path, aside); err != nil {
		return false, fmt.Errorf("audit: %w", err)
	}
	old := s.f
	s.f, s.aside = nil, s.n
	if err := errors.Join(old.Close(), s.fresh()); err != nil {
		return false, err
	}
	return true, nil
}

// Close closes the file. What is in it is drained after the next start.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
