// Package netlab is for tests between machines: network namespaces, and Ethernet between them.
//
// A namespace belongs to one thread and goes with the test that made it; nothing is left behind, however that ends. Addresses in it are to
// be from 198.18.0.0/15 and 2001:db8::/32. Without the capability for it a test is skipped, and says so.
package netlab

import (
	"errors"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Namespace is a network of its own.
type Namespace struct {
	t    testing.TB
	work chan func()
	tid  int
}

// New makes a namespace with a loopback device.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{t: t, work: make(chan func())}
	made, gone := make(chan error), make(chan struct{})
	go func() {
		defer close(gone)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		n.tid = unix.Gettid()
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range n.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		close(n.work)
		if errors.Is(err, unix.EPERM) {
			t.Skip("needs CAP_SYS_ADMIN for network namespaces")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.work); <-gone })
	n.IP("link set lo up")
	return n
}

// Do runs f inside and waits for it. Sockets opened and processes started by f are inside for good.
func (n *Namespace) Do(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
}

// IP runs ip (iproute2) inside.
func (n *Namespace) IP(args string) {
	n.t.Helper()
	n.Do(func() {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			n.t.Errorf("ip %s: %v: %s", args, err, out)
		}
	})
	if n.t.Failed() {
		n.t.FailNow()
	}
}

// End is one end of a line: an interface of that name with these addresses, as 198.18.1.1/24.
type End struct {
	*Namespace
	Device    string
	Addresses []string
}

// Join draws a line (a veth pair). Senders fill in checksums, as they are on a wire.
func Join(a, b End) {
	a.t.Helper()
	a.IP("link add " + a.Device + " type veth peer name " + b.Device + " netns " + strconv.Itoa(b.tid))
	for _, end := range []End{a, b} {
		for _, addr := range end.Addresses {
			if strings.Contains(addr, ":") {
				addr += " nodad" // usable at once
			}
			end.IP("addr add " + addr + " dev " + end.Device)
		}
		end.IP("link set " + end.Device + " up")
		end.fill(end.Device)
	}
}

// fill turns the device off that would do it.
func (n *Namespace) fill(dev string) {
	n.t.Helper()
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			n.t.Error(err)
			return
		}
		defer unix.Close(fd)
		off := struct{ command, value uint32 }{unix.ETHTOOL_STXCSUM, 0}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&off)}
		copy(request.name[:], dev)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			n.t.Errorf("turn checksum offload of %s off: %v", dev, errno)
		}
	})
}
