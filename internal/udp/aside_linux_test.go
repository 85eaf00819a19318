package udp

import (
	"testing"
	"time"
)

// What is aside ends a wait when it is heeded, then and only then, and tells how long it has been there.
func TestAside(t *testing.T) {
	g := group(t, Config{Listen: loopback("127.0.0.1")}, 2)
	if !g[0].Features().Aside {
		t.Skip("this kernel sets nothing aside")
	}
	s, c := g[1], listen(t, Config{Listen: loopback("127.0.0.1")})
	to := s.LocalAddr()
	if _, err := s.Steer([]Steered{{Remote: c.LocalAddr(), Index: 1}}); err != nil {
		t.Fatal(err)
	}
	batch := make([]Datagram, 4)
	waited := int64(0) // at most; the kernel begins to stamp a moment after it was asked to
	for range 20 {
		say(c, to, 0x81, 201, 0, 7, 1)
		if s.Wait(3 * time.Millisecond) {
			t.Error("a report ends a wait")
		}
		s.Heed(true) // of what has come before, too
		if !s.Wait(-1) {
			t.Error("a report does not end a wait that is for it too")
		}
		if n := s.Receive(batch); n != 0 {
			t.Errorf("%d datagrams among the others", n)
		}
		if n := s.ReceiveAside(batch); n != 1 || batch[0].Waited > int64(patience) {
			t.Errorf("%d datagrams, waited %v", n, time.Duration(batch[0].Waited))
		}
		waited = max(waited, batch[0].Waited)
		say(c, to, 0, 1, 0, 0)
		say(c, to, 0, 1, 0, 0)
		if !s.Wait(-1) || s.ReceiveAside(batch[:1]) != 1 || !s.Wait(0) || s.ReceiveAside(batch) != 1 {
			t.Error("two requests are not seen one after the other")
		}
		s.Heed(false)
		say(c, to, 0x90, 96, 3)
		if !s.Wait(-1) {
			t.Error("media does not end a wait")
		}
		if n := s.Receive(batch); n != 1 || batch[0].Waited != 0 {
			t.Errorf("%d datagrams, waited %v", n, time.Duration(batch[0].Waited))
		}
		say(c, to, 0, 1, 0, 0)
		if s.Wait(3*time.Millisecond) || s.ReceiveAside(batch) != 1 {
			t.Error("a request ends a wait")
		}
	}
	if waited < int64(3*time.Millisecond) {
		t.Errorf("waited %v", time.Duration(waited))
	}
}
