// Package record writes what a conference's participants publish to disk: a file for each track and a manifest that says whose
// it is, when it began, how files lie beside each other in time, and what is missing (docs/recording.md).
//
// It takes packets from rings of package tap, in a goroutine of its own for each recording: a slow or full disk costs the
// recording packets, which the manifest counts, and the packet path nothing. It promises that no name in the file system comes
// from a participant; that every file is playable up to the last second or so, and the manifest whole, whenever the process is
// killed; that memory is bounded by the number of tracks; and that Close returns when nothing of it runs any more.
//
// It decrypts nothing. What is encrypted end to end, because it was told so or because it does not read as its codec, it stores
// as the packets that came. It knows no roles and asks nobody whether a recording is allowed: that is for signaling.
package record

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers match.
var (
	ErrClosed = errors.New("record: closed")
	ErrNoRoom = errors.New("record: the disk has no room for recordings")
)

// Config is what a Recorder is made of. Directory must be set.
type Config struct {
	// Directory holds a folder for each recording. It is made if it is not there.
	Directory string
	// MaxBytes bounds what all recordings take together (0: no bound).
	MaxBytes int64
	// MinFree is what must stay free of the file system (0: 512 MiB).
	MinFree int64
	// Interval is how often what has come is written (0: 100 ms).
	Interval time.Duration
}

// Reason says why a recording ended.
type Reason string

// Reasons.
const (
	Stopped  Reason = "stopped"    // somebody asked for it
	Emptied  Reason = "emptied"    // the last participant left
	Moved    Reason = "moved"      // another node goes on with the conference
	Shutdown Reason = "shutdown"   // the server stopped
	Limit    Reason = "limit"      // recordings take what they may
	DiskFull Reason = "disk-full"  // the file system has no room
	DiskFail Reason = "disk-error" // it takes no data for another reason
	Crash    Reason = "crash"      // the server ended without a word; found at its next start
)

// Owner hears that a recording cannot go on. It is called once, from the recording's goroutine, and must not wait for it: it closes
// the taps and calls Finish.
type Owner interface {
	RecordingFails(r *Recording, reason Reason)
}

// Recorder makes recordings in one directory.
type Recorder struct {
	cfg  Config
	log  *slog.Logger
	used atomic.Int64

	mu     sync.Mutex
	closed bool
	active map[*Recording]struct{}
	wg     sync.WaitGroup
}

// New opens the directory. Recordings that a crash cut off are marked so.
func New(cfg Config, log *slog.Logger) (*Recorder, error) {
	if cfg.MinFree == 0 {
		cfg.MinFree = 512 << 20
	}
	if cfg.Interval == 0 {
		cfg.Interval = 100 * time.Millisecond
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Directory == "" {
		return nil, errors.New("record: no directory")
	}
	if err := os.MkdirAll(cfg.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	r := &Recorder{cfg: cfg, log: log, active: make(map[*Recording]struct{})}
	return r, r.survey()
}

// survey adds up what there is and marks what was cut off.
func (r *Recorder) survey() error {
	dirs, err := os.ReadDir(r.cfg.Directory)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		path := filepath.Join(r.cfg.Directory, d.Name())
		files, err := os.ReadDir(path)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				r.used.Add(info.Size())
			}
		}
		m, err := ReadManifest(path)
		if err != nil || m.State != StateRecording {
			continue // not ours, or complete
		}
		m.State, m.Reason = StateInterrupted, Crash
		m.EndedAt = &m.UpdatedAt
		if err := writeManifest(path, &m); err != nil {
			r.log.Warn("record: mark an interrupted recording", slog.String("recording", d.Name()), slog.Any("error", err))
		}
	}
	return nil
}

// Used returns the bytes that recordings take.
func (r *Recorder) Used() int64 { return r.used.Load() }

// room says whether a recording may go on, or why not.
func (r *Recorder) room() (Reason, bool) {
	if r.cfg.MaxBytes > 0 && r.used.Load() >= r.cfg.MaxBytes {
		return Limit, false
	}
	if free, ok := freeBytes(r.cfg.Directory); ok && free < r.cfg.MinFree {
		return DiskFull, false
	}
	return "", true
}

// Options describe a recording.
type Options struct {
	Conference string
	By         string // who asked for it
	Encrypted  bool   // the meeting is end-to-end encrypted: payloads are ciphertext
	Owner      Owner
}

// Start begins a recording without tracks.
func (r *Recorder) Start(o Options) (*Recording, error) {
	if why, ok := r.room(); !ok {
		return nil, fmt.Errorf("%w (%s)", ErrNoRoom, why)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	now := time.Now()
	id := now.UTC().Format("20060102T150405Z") + "-" + random()
	rec := &Recording{
		recorder: r, owner: o.Owner, dir: filepath.Join(r.cfg.Directory, id), started: now,
		finish: make(chan Reason, 1), done: make(chan struct{}), senders: make(map[string]*sender),
		log: r.log.With(slog.String("recording", id), slog.String("conference", o.Conference)),
		manifest: Manifest{
			Version: manifestVersion, ID: id, Conference: o.Conference, By: o.By, Encrypted: o.Encrypted,
			State: StateRecording, StartedAt: now, UpdatedAt: now, Tracks: []*TrackEntry{},
		},
	}
	if err := os.Mkdir(rec.dir, 0o700); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if err := writeManifest(rec.dir, &rec.manifest); err != nil {
		return nil, err
	}
	r.active[rec] = struct{}{}
	r.wg.Add(1)
	go rec.run()
	rec.log.Info("record: started", slog.String("by", o.By), slog.Bool("encrypted", o.Encrypted))
	return rec, nil
}

// Close finishes all recordings and returns when they are on disk. It may be called twice.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	for rec := range r.active {
		rec.Finish(Shutdown)
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

func random() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}
