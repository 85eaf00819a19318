package netns

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Machine is a namespace that plays a machine of its own within a bench. It lasts until Close, or as long as a process in it runs.
type Machine struct {
	work chan func()
	gone chan struct{}
	tid  int
}

// NewMachine makes one that has a loopback device.
func NewMachine() (*Machine, error) {
	m := &Machine{work: make(chan func()), gone: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(m.gone)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		m.tid = unix.Gettid()
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range m.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		m.Close()
		return nil, fmt.Errorf("bench: a network namespace: %w", err)
	}
	if err := m.IP("link set lo up"); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close lets the namespace go.
func (m *Machine) Close() {
	close(m.work)
	<-m.gone
}

// Do runs f inside and waits for it. Sockets that f opens and processes that it starts are inside for good.
func (m *Machine) Do(f func()) {
	done := make(chan struct{})
	m.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// IP runs ip (iproute2) inside.
func (m *Machine) IP(args string) (err error) {
	m.Do(func() {
		if out, e := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); e != nil {
			err = fmt.Errorf("bench: ip %s: %w: %s", args, e, out)
		}
	})
	return err
}

// End is one end of a line between machines: an interface of that name with these addresses, as 198.18.1.1/24.
type End struct {
	*Machine
	Device    string
	Addresses []string
}

// Join draws a line (a veth pair). Plain ends compute no checksums and cut no runs of datagrams for the senders, as simple network
// cards do not; others take them whole, as those with segmentation offload do.
func Join(a, b End, plain bool) error {
	err := a.IP("link add " + a.Device + " type veth peer name " + b.Device + " netns " + strconv.Itoa(b.tid))
	for _, end := range []End{a, b} {
		for _, addr := range end.Addresses {
			if strings.Contains(addr, ":") {
				addr += " nodad" // usable at once
			}
			err = errors.Join(err, end.IP("addr add "+addr+" dev "+end.Device))
		}
		err = errors.Join(err, end.IP("link set "+end.Device+" up"))
		if plain {
			err = errors.Join(err, end.plain(end.Device))
		}
	}
	return err
}

// plain turns checksums by the device off, and what hangs on them.
func (m *Machine) plain(device string) (err error) {
	m.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		off := struct{ command, value uint32 }{unix.ETHTOOL_STXCSUM, 0}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&off)}
		copy(request.name[:], device)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			err = errno
		}
	})
	if err != nil {
		return fmt.Errorf("bench: turn offloads of %s off: %w", device, err)
	}
	return nil
}
