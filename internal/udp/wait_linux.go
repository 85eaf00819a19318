package udp

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waiter is the sleep of a socket's owner. A thread that blocks in poll(2) by itself is one that Go's scheduler keeps looking after: it
// polled 1 500 times a second for a shard that slept 200 times, a fifth of all CPU. So what is waited for is gathered in an epoll
// instance, and that is handed to the runtime's own poller, in which the last thread with nothing to do sleeps. The runtime counts in
// milliseconds there; the time comes from a timerfd, which counts in nanoseconds.
type waiter struct {
	epoll int
	timer int
	event int // an eventfd; -1 once closed
	file  *os.File
	raw   interface {
		Read(f func(fd uintptr) bool) error
	}
	look   func(fd uintptr) bool // bound once: a closure made for each wait would be an allocation
	events [4]unix.EpollEvent
	got    int
	armed  bool // the timer is set
	heeds  bool // what is aside, too
}

// wakeCount is what Wake adds to the eventfd: any number but zero, so that the byte order
// does not matter.
var wakeCount = [8]byte{1}

func (w *waiter) open(socket int) error {
	var err error
	if w.event, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for _, fd := range [...]int{socket, w.event, w.timer} {
		if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	if err := unix.SetNonblock(w.epoll, true); err != nil { // or the runtime would not poll it
		return err
	}
	w.file = os.NewFile(uintptr(w.epoll), "media socket")
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	w.raw, w.look = raw, w.ready
	return nil
}

// ready looks what has happened. The runtime calls it before it sleeps and after.
func (w *waiter) ready(fd uintptr) bool {
	n, errno := uintptr(0), unix.EINTR
	for errno == unix.EINTR {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), 0, 0, 0)
	}
	w.got = 0
	if errno != 0 {
		return true // let Receive find out
	}
	w.got = int(n)
	return n > 0
}

// set sets the timer, or stops it with a negative time.
func (w *waiter) set(d time.Duration) {
	if d < 0 && !w.armed {
		return
	}
	var spec unix.ItimerSpec
	if w.armed = d >= 0; w.armed {
		spec.Value = unix.NsecToTimespec(max(1, int64(d))) // zero would stop it
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(w.timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

func (w *waiter) close() {
	if w.file != nil {
		_ = w.file.Close()
	} else if w.epoll >= 0 {
		_ = unix.Close(w.epoll)
	}
	if w.timer >= 0 {
		_ = unix.Close(w.timer)
	}
	if w.event >= 0 {
		_ = unix.Close(w.event)
	}
	w.file, w.epoll, w.timer, w.event = nil, -1, -1, -1
}

// Heed says whether what comes aside ends a Wait, too. At first it does not.
func (s *Socket) Heed(on bool) {
	w := &s.wait
	if on == w.heeds || s.aside < 0 {
		return
	}
	e := unix.EpollEvent{Fd: int32(s.aside)}
	if on {
		e.Events = unix.EPOLLIN
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(w.epoll), unix.EPOLL_CTL_MOD, uintptr(s.aside), uintptr(unsafe.Pointer(&e)), 0, 0)
	w.heeds = on
}

// Wait sleeps until there is something to receive, but for what is aside (see Heed), somebody calls Wake, or the timeout has passed; a
// negative timeout never passes. It tells whether a Receive is worthwhile, and after a wake-up alone it is not.
func (s *Socket) Wait(timeout time.Duration) (ready bool) {
	if s.rx.next < s.rx.got || s.rx.full || s.wait.heeds && (s.late.next < s.late.got || s.late.full) {
		// Something is known to be there, or likely: asking the kernel costs as much as
		// trying. A wake-up is not lost by this, only found at the next sleep; who is
		// woken looks at its work after every Wait.
		return true
	}
	w := &s.wait
	if timeout != 0 {
		w.set(timeout)
		s.counters.waitCalls.Add(1)
		if w.raw.Read(w.look) != nil {
			return true // let Receive find out
		}
	} else {
		w.ready(uintptr(w.epoll))
	}
	for _, e := range w.events[:w.got] {
		switch int(e.Fd) {
		case s.fd, s.aside:
			ready = true
		case w.event:
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(w.event), uintptr(unsafe.Pointer(&s.woken[0])), uintptr(len(s.woken)))
			// After the read: a Wake in between finds the flag still up and leaves the
			// eventfd alone, but its caller's work was there before this Wait returns.
			s.awake.Store(false)
		case w.timer:
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(w.timer), uintptr(unsafe.Pointer(&s.woken[0])), uintptr(len(s.woken)))
			w.armed = false
		}
	}
	return ready
}

// Wake ends the current or the next Wait, from any goroutine. Many calls before that
// Wait are one.
func (s *Socket) Wake() {
	if s.awake.Swap(true) {
		return
	}
	s.wakeMu.Lock()
	defer s.wakeMu.Unlock()
	if s.wait.event < 0 {
		return
	}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(s.wait.event), uintptr(unsafe.Pointer(&wakeCount[0])), uintptr(len(wakeCount)))
}
