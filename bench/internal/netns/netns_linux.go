// Package netns runs a program again inside a network namespace of its own, for servers that will not talk over loopback addresses.
//
// It owns nothing outside of that namespace, which goes when the program ends. Inside there are a loopback device and one address of
// the range for benchmarks (RFC 2544 appendix C.2.2), on an end of a veth pair; traffic to it stays in the kernel as loopback's does.
//
// For loads that are to cross a wire there is Machine: several namespaces within one program, and lines between them.
package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// Address is the one that there is beside loopback.
var Address = netip.AddrFrom4([4]byte{198, 18, 0, 1})

// device holds it.
const device = "bench0"

// mark tells the program that it is inside.
const mark = "SOTTO_BENCH_NAMESPACE"

// Inside says whether this process is in a namespace that Run has made.
func Inside() bool { return os.Getenv(mark) != "" }

// Possible says why Run would fail; nil: it would not.
func Possible() error {
	if Inside() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("bench: a network namespace needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("bench: a network namespace needs ip (apt-get install iproute2): %w", err)
	}
	return nil
}

// Enter runs this very command line again in a namespace of its own, and returns when that has ended, with its error: then it is
// done. Inside it brings the namespace's devices up, and it is the caller's turn.
func Enter() (done bool, err error) {
	if Inside() {
		return false, setUp()
	}
	if err := Possible(); err != nil {
		return false, err
	}
	return true, again()
}

func again() error {
	runtime.LockOSThread() // at the end of which the child would be ended (PR_SET_PDEATHSIG)
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: find this program: %w", err)
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), mark+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	// The terminal's interrupt reaches the child too; this process waits for its end.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	if err := c.Run(); err != nil {
		return fmt.Errorf("bench: in a network namespace: %w", err)
	}
	return nil
}

// setUp brings the devices up, unless a program that this one was started by has done so.
func setUp() error {
	if _, err := net.InterfaceByName(device); err == nil {
		return nil
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", device, "type", "veth", "peer", "name", "bench1"},
		{"addr", "add", Address.String() + "/24", "dev", device},
		{"link", "set", "bench1", "up"},
		{"link", "set", device, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("bench: ip %v: %w: %s", args, err, out)
		}
	}
	return nil
}
