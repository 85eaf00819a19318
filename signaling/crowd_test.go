package signaling

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// reader takes what a client is sent, as a front door does: together what comes together.
type reader struct {
	mu     sync.Mutex
	pieces int
	kinds  []string
}

func (r *reader) carry(t *testing.T) Carrier {
	return func(frames [][]byte, _ *Closing) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(frames) > 0 {
			r.pieces++
		}
		for _, text := range frames {
			f, err := wire.DecodeServer(text)
			if err != nil {
				t.Error(err)
			} else if f.Event != nil {
				r.kinds = append(r.kinds, f.Event.Kind())
			}
		}
		return nil
	}
}

func (r *reader) take() (pieces int, kinds map[string]int, last string) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	kinds = map[string]int{}
	for _, k := range r.kinds {
		kinds[k]++
		last = k
	}
	pieces = r.pieces
	r.pieces, r.kinds = 0, nil
	return pieces, kinds, last
}

// In a small room everybody hears of a newcomer at once. In a large one many come in one piece, a little later, and what is urgent
// takes along what has waited.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		first := w.member("First", true)
		var r reader
		first.link.Carry(r.carry(t))
		synctest.Wait()
		r.take()
		for range 8 {
			w.member("Early", false)
		}
		if _, kinds, _ := r.take(); kinds["joined"] != 8 {
			t.Errorf("in a small room: %v", kinds)
		}
		for range 8 {
			w.member("Middle", false)
		}
		time.Sleep(reportDelay)
		r.take()

		var late []*client
		for range 20 {
			late = append(late, w.member("Late", false, mic))
		}
		if pieces, kinds, _ := r.take(); pieces != 0 {
			t.Errorf("at once: %v", kinds)
		}
		time.Sleep(reportDelay)
		if pieces, kinds, _ := r.take(); pieces != 1 || kinds["joined"] != 20 {
			t.Errorf("after the delay: %d pieces, %v", pieces, kinds)
		}
		must[*wire.PublishOK](late[0], &wire.Publish{Publications: []wire.Publication{{Source: wire.Camera}}})
		must[*wire.ChatOK](late[1], &wire.Chat{Text: "hello"})
		if pieces, kinds, last := r.take(); pieces != 1 || kinds["trackAdded"] != 1 || last != "chat" {
			t.Errorf("with something urgent: %d pieces, %v, %s last", pieces, kinds, last)
		}
		time.Sleep(time.Second)
		if pieces, kinds, _ := r.take(); pieces != 0 {
			t.Errorf("later: %v", kinds)
		}
		for _, c := range late {
			must[*wire.LeaveOK](c, &wire.Leave{})
		}
		time.Sleep(reportDelay)
		if pieces, kinds, _ := r.take(); pieces > 2 || kinds["left"] != 20 {
			t.Errorf("of who has left: %d pieces, %v", pieces, kinds)
		}
	})
}
