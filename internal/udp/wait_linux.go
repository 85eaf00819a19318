package udp

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// wakeCount is what Wake adds to the eventfd: any number but zero, so that the byte order
// does not matter.
var wakeCount = [8]byte{1}

// Wait sleeps until there is something to receive, somebody calls Wake, or the timeout
// has passed; a negative timeout never passes. Feedback ends it only if it is asked to. It
// tells whether a Receive is worthwhile, and after a wake-up alone it is not.
func (s *Socket) Wait(timeout time.Duration, feedback bool) (ready bool) {
	if s.rx.next < s.rx.got || s.rx.full || feedback && (s.late.next < s.late.got || s.late.full) {
		// Something is known to be there, or likely: asking the kernel costs as much as
		// trying. A wake-up is not lost by this, only found at the next sleep; who is
		// woken looks at its work after every Wait.
		return true
	}
	var deadline *unix.Timespec
	var ts unix.Timespec
	if timeout >= 0 {
		ts = unix.NsecToTimespec(int64(timeout))
		deadline = &ts
	}
	poll := s.poll[:2]
	if feedback {
		poll = s.poll[:]
	}
	for {
		s.poll[0].Revents, s.poll[1].Revents, s.poll[2].Revents = 0, 0, 0
		s.counters.waitCalls.Add(1)
		_, err := unix.Ppoll(poll, deadline, nil)
		if errors.Is(err, unix.EINTR) {
			continue // the kernel has written what is left into ts
		}
		if err != nil {
			return true // let Receive find out
		}
		break
	}
	if s.poll[1].Revents != 0 {
		_, _ = unix.Read(s.eventfd, s.woken[:])
		// After the read: a Wake in between finds the flag still up and leaves the
		// eventfd alone, but its caller's work was there before this Wait returns.
		s.awake.Store(false)
	}
	return s.poll[0].Revents|s.poll[2].Revents != 0
}

// Wake ends the current or the next Wait, from any goroutine. Many calls before that
// Wait are one.
func (s *Socket) Wake() {
	if s.awake.Swap(true) {
		return
	}
	s.wakeMu.Lock()
	defer s.wakeMu.Unlock()
	if s.eventfd < 0 {
		return
	}
	_, _ = unix.Write(s.eventfd, wakeCount[:])
}
