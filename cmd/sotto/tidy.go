package main

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu"
)

// What joins leave behind is garbage of ten times what stays, and it lies until as much again has been made: for ever, in a meeting
// that is complete. So it is collected, and its pages are given back, when so many have joined and nobody has for so long. That takes
// some milliseconds.
const (
	tidyJoins = 8
	tidyAfter = 400 * time.Millisecond
)

// tidier passes events on and tidies up after joins.
type tidier struct {
	sfu.Observer
	tidy func()

	mu    sync.Mutex
	joins int // since it was done last
	timer *time.Timer
}

func newTidier(to sfu.Observer) *tidier { return &tidier{Observer: to, tidy: debug.FreeOSMemory} }

// Event implements sfu.Observer.
func (t *tidier) Event(e sfu.Event) {
	if e.Type == sfu.EventState && e.State == sfu.StateConnected {
		t.joined()
	}
	t.Observer.Event(e)
}

func (t *tidier) joined() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.joins++; {
	case t.joins < tidyJoins:
	case t.timer == nil:
		t.timer = time.AfterFunc(tidyAfter, t.calm)
	default:
		t.timer.Reset(tidyAfter)
	}
}

// calm is called when nobody has joined for a while.
func (t *tidier) calm() {
	t.mu.Lock()
	t.joins = 0
	t.mu.Unlock()
	t.tidy()
}

// stop lets nothing be tidied any more.
func (t *tidier) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}
