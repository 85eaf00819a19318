//go:build !linux

package doctor

import (
	"errors"
	"os"
)

var errUnknown = errors.New("doctor: not known on this system")

func clockSynchronised() (bool, error) { return false, errUnknown }

func openFileLimit() (uint64, error) { return 0, errUnknown }

// writable makes a file and removes it again: there is no other way to ask
// that all systems share.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
