package doctor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// clockSynchronised asks the kernel whether an NTP client steers the clock.
func clockSynchronised() (bool, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("doctor: adjtimex: %w", err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

func openFileLimit() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("doctor: open files: %w", err)
	}
	return l.Max, nil // the Go runtime raises the soft limit to the hard one
}

func writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}
