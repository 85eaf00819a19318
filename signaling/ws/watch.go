package ws

import (
	"sync"
	"time"
)

// A connection from which nothing has come for a heartbeat is asked for a sign of life. One timer looks after all of them, so that an
// idle process is woken by it once, however many there are. In percent of a heartbeat: how long after one a connection is stale (a
// client that sends a heartbeat of its own just makes it), and how often it is looked. The answer has what is left of the second one.
const (
	stale = 5
	look  = 10
)

// watched is the connections that are looked after.
type watched struct {
	began time.Time

	mu    sync.Mutex
	open  map[*socket]struct{}
	timer *time.Timer // nil: there are none
}

// now is the time that sockets note.
func (h *Handler) now() int64 { return int64(time.Since(h.watched.began)) }

func (h *Handler) watch(s *socket) {
	w := &h.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[s] = struct{}{}
	if w.timer == nil {
		w.timer = time.AfterFunc(h.svc.Heartbeat()*look/100, h.look)
	}
}

func (h *Handler) forget(s *socket) {
	w := &h.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, s)
	if len(w.open) == 0 && w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

func (h *Handler) look() {
	w := &h.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return // the last one went meanwhile
	}
	now, patience := h.now(), h.svc.Heartbeat()*(100+stale)/100
	for s := range w.open {
		s.check(now, patience)
	}
	w.timer.Reset(h.svc.Heartbeat() * look / 100)
}
