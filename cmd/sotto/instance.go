package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// instance is what a running appliance tells the tools on the same machine,
// in node.json of its data folder: listeners may have been given port 0.
type instance struct {
	PID   int    `json:"pid"`
	URL   string `json:"url"`
	Admin string `json:"admin"`
	Media string `json:"media"` // address of the media port
}

func instanceFile(dir string) string { return filepath.Join(dir, "node.json") }

// readInstance returns the appliance that runs on the data folder, if one
// does.
func readInstance(dir string) (instance, bool) {
	var in instance
	text, err := os.ReadFile(instanceFile(dir))
	if err != nil || json.Unmarshal(text, &in) != nil || in.PID <= 0 {
		return instance{}, false
	}
	// A file left behind by a crash names a process that is gone, or somebody
	// else's. A process of another user counts: it answers EPERM.
	if err := unix.Kill(in.PID, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return instance{}, false
	}
	return in, true
}

// dataLock holds a data folder for one process.
type dataLock struct {
	dir  string
	file *os.File
}

// lockData makes the folder and takes it. Two appliances on one folder would
// overwrite each other's keys.
func lockData(dir string) (*dataLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			if running, ok := readInstance(dir); ok {
				return nil, fmt.Errorf("process %d serves %s already, at %s; stop it, or give this one a folder of its own with -data", running.PID, dir, running.URL)
			}
			return nil, fmt.Errorf("another process holds %s; stop it, or give this one a folder of its own with -data", dir)
		}
		return nil, fmt.Errorf("data folder: lock: %w", err)
	}
	return &dataLock{dir: dir, file: f}, nil
}

// announce writes node.json.
func (l *dataLock) announce(in instance) error {
	text, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	aside := instanceFile(l.dir) + ".new"
	if err := os.WriteFile(aside, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := os.Rename(aside, instanceFile(l.dir)); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// release removes node.json and gives the folder up.
func (l *dataLock) release() error {
	err := os.Remove(instanceFile(l.dir))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.file.Close())
}
