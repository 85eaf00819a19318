package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sotto-edge/sotto/sfu"
)

type heard struct{ events int }

func (h *heard) Event(sfu.Event) { h.events++ }

// It is tidied up once after many have joined, when there is time, and not after a few.
func TestTidier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tidied atomic.Int32 // by a timer's goroutine
		h := &heard{}
		x := newTidier(h)
		x.tidy = func() { tidied.Add(1) }
		join := func(n int, every time.Duration) {
			for range n {
				x.Event(sfu.Event{Type: sfu.EventState, State: sfu.StateConnected})
				time.Sleep(every)
			}
		}
		for range 2 {
			join(tidyJoins-1, time.Minute)
			if tidied.Load() != 0 {
				t.Error("tidied after a few")
			}
			join(50, tidyAfter/2)
			x.Event(sfu.Event{Type: sfu.EventSpeaker})
			if tidied.Load() != 0 {
				t.Error("tidied amid joins")
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if tidied.Load() != 1 {
				t.Errorf("tidied %d times", tidied.Load())
			}
			tidied.Store(0)
		}
		if want := 2 * (tidyJoins + 50); h.events != want {
			t.Errorf("%d events of %d passed on", h.events, want)
		}
		join(tidyJoins, 0)
		x.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if tidied.Load() != 0 {
			t.Error("tidied after the end")
		}
	})
}
