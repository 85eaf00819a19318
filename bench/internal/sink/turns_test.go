package sink

import (
	"net"
	"testing"
	"time"
)

// What passes before a message belongs to who sends it; the first of media ends the count.
func TestTurns(t *testing.T) {
	turns := &Turns{last: 1}
	stun, media := []byte{0, 1, 0, 0}, []byte{0x80, 96, 0, 1}
	turns.message(11, client)
	turns.datagram(stun, 31, client)
	turns.datagram(stun, 61, server)
	turns.datagram(stun, 51, client) // read late
	turns.message(101, server)
	turns.datagram(stun, 106, client)
	turns.datagram(media, 500, server)
	turns.message(600, client)
	if turns.Client() != 35 || turns.Server() != 70 {
		t.Errorf("client %d, server %d", turns.Client(), turns.Server())
	}
}

// A connection that is counted passes everything on, and its wait for the answer is the server's.
func TestTurnsDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	thinks := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 4)
		n, _ := c.Read(b)
		<-thinks
		_, _ = c.Write(b[:n])
	}()
	turns := NewTurns()
	c, err := turns.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := turns.Server()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	const long = 20 * time.Millisecond
	time.AfterFunc(long, func() { close(thinks) })
	b := make([]byte, 4)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "ping" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if got := turns.Server() - before; got < long/2 {
		t.Errorf("the server thought for %s, its share is %s", long, got)
	}
}
