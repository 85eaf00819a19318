package seal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// pages maps memory of n bytes by memfd_secret(2), or where the kernel has it not, locked and left out of dumps and of children.
func pages(n int) ([]byte, Protection, error) {
	if fd, err := unix.MemfdSecret(unix.FD_CLOEXEC); err == nil {
		b, err := mapSecret(fd, n)
		if err := errors.Join(err, unix.Close(fd)); err == nil {
			return b, Hidden, nil
		}
	}
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, "", err
	}
	err = errors.Join(unix.Mlock(b), unix.Madvise(b, unix.MADV_DONTDUMP), unix.Madvise(b, unix.MADV_WIPEONFORK))
	if err != nil {
		return nil, "", errors.Join(err, unix.Munmap(b))
	}
	return b, Locked, nil
}

func mapSecret(fd, n int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	clear(b[:n]) // the page is there from now on, or the program learns it here
	return b, nil
}

// release gives memory back. A failure leaves an empty page mapped, which nobody can do anything about.
func release(b []byte) { _ = unix.Munmap(b[:cap(b)]) }

// Harden keeps the process out of reach of debuggers and core dumps of the same user: what is unwrapped for a request is in
// ordinary memory for a moment. It is for the process of the KMS to call, once.
func Harden() error {
	return errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
}
