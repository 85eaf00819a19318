package relay

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

// namespace is a network of its own, of one thread; it goes with the test.
type namespace struct {
	t    *testing.T
	work chan func()
	tid  int
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t, work: make(chan func())}
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
	n.ip("link set lo up")
	return n
}

// do runs f inside and waits for it.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
}

// ip runs ip inside.
func (n *namespace) ip(args string) {
	n.t.Helper()
	n.do(func() {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			n.t.Errorf("ip %s: %v: %s", args, err, out)
		}
	})
	if n.t.Failed() {
		n.t.FailNow()
	}
}

// join makes a veth pair between two namespaces, each end with an address of each family.
func join(n *namespace, dev, v4, v6 string, m *namespace, dev2, v42, v62 string) {
	n.t.Helper()
	n.ip("link add " + dev + " type veth peer name " + dev2 + " netns " + strconv.Itoa(m.tid))
	for _, end := range []struct {
		*namespace
		dev, v4, v6 string
	}{{n, dev, v4, v6}, {m, dev2, v42, v62}} {
		end.ip("addr add " + end.v4 + "/24 dev " + end.dev)
		end.ip("addr add " + end.v6 + "/64 dev " + end.dev + " nodad")
		end.ip("link set " + end.dev + " up")
		end.fill(end.dev)
	}
}

// fill makes senders fill in checksums, as they are on a wire.
func (n *namespace) fill(dev string) {
	n.t.Helper()
	n.do(func() {
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
