//go:build !linux

package seal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func pages(int) ([]byte, Protection, error) {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, "", err
	}
	if err := unix.Mlock(b); err != nil {
		return nil, "", errors.Join(err, unix.Munmap(b))
	}
	return b, Locked, nil
}

// release gives memory back. A failure leaves an empty page mapped, which nobody can do anything about.
func release(b []byte) { _ = unix.Munmap(b[:cap(b)]) }

// Harden keeps core dumps away.
func Harden() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
