package ws

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// A client on which nothing happens costs the goroutine that reads from it: nothing of net/http, nobody who waits to write.
func TestIdleSocketIsOneGoroutine(t *testing.T) {
	s := newServer(t, nil)
	m := s.meeting()
	const people = 8
	for n := range people {
		p := s.connect()
		p.join(s.joinToken(m, ""), fmt.Sprintf("Person %d", n))
		see[*wire.Offer](p)
	}
	s.Client().CloseIdleConnections() // of the HTTP calls
	count := func() map[string]int {
		found := map[string]int{}
		stacks := make([]byte, 1<<20)
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			for _, what := range []string{"ws.(*socket).serve", "net/http.(*conn).serve", "signaling.(*Link).carry", "ws.(*socket).beat"} {
				if strings.Contains(g, what) {
					found[what]++
				}
			}
		}
		return found
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for {
		found := count()
		if len(found) == 1 && found["ws.(*socket).serve"] == people {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("goroutines %v, want one for each of %d", found, people)
		}
	}
}

// A client that does not wait for the answer to its handshake has its frames heard all the same, longer than the buffers though
// they are.
func TestFramesBehindTheHandshake(t *testing.T) {
	for _, size := range []int{20, 900, 3000} {
		s := newServer(t, nil)
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), s.Client().Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		payload := []byte(strings.Repeat("x", size)) // refused as malformed, which is an answer
		text := bytes.NewBufferString("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n\r\n")
		for range 3 {
			if size < 126 { // RFC 6455 §5.2: final text frames, masked with zeros
				text.Write([]byte{0x81, 0x80 | byte(size), 0, 0, 0, 0})
			} else {
				text.Write([]byte{0x81, 0x80 | 126, byte(size >> 8), byte(size), 0, 0, 0, 0})
			}
			text.Write(payload)
		}
		if _, err := conn.Write(text.Bytes()); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", resp.StatusCode)
		}
		for n := range 3 {
			head := make([]byte, 2)
			if _, err := io.ReadFull(r, head); err != nil {
				t.Fatal(err)
			}
			length := int(head[1])
			if length == 126 {
				if _, err := io.ReadFull(r, head); err != nil {
					t.Fatal(err)
				}
				length = int(head[0])<<8 | int(head[1])
			}
			frame := make([]byte, length)
			if _, err := io.ReadFull(r, frame); err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(frame, []byte(wire.BadRequest)) {
				t.Errorf("size %d, answer %d: %s", size, n, frame)
			}
		}
		_ = conn.Close()
	}
}
