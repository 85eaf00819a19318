package ws

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/signaling"
)

// socket is one WebSocket after its handshake. Reading is its own goroutine; the Link's writes when there is something to write,
// and one sends a ping when nothing has come for a while. Whichever fails first closes the connection, which ends the others.
type socket struct {
	h    *Handler
	conn *websocket.Conn
	out  *bundle
	link *signaling.Link
	busy atomic.Bool // a request is being executed

	// Not the request's context: the handshake has taken the connection over, and package signaling decides when it ends.
	ctx    context.Context
	cancel context.CancelFunc

	heard atomic.Int64 // when something came last, as Handler.now

	mu      sync.Mutex
	ended   bool
	beating bool
	beats   sync.WaitGroup // holds a ping that is under way
}

func newSocket(h *Handler, conn *websocket.Conn, out *bundle, link *signaling.Link) *socket {
	s := &socket{h: h, conn: conn, out: out, link: link}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// serve is the socket's goroutine. The Link is disconnected when nothing of the connection runs any more.
func (s *socket) serve() {
	defer s.link.Disconnect()
	s.heard.Store(s.h.now())
	s.h.watch(s)
	s.link.Carry(s.write)
	s.read()
	s.end()
	s.h.forget(s)
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.beats.Wait()
}

// end ends whatever uses the connection.
func (s *socket) end() {
	s.cancel()
	_ = s.conn.CloseNow()
}

func (s *socket) read() {
	for {
		kind, frame, err := s.conn.Read(context.Background()) // until the connection is closed
		if err != nil {
			return // a frame above readLimit has been answered with close code 1009
		}
		s.heard.Store(s.h.now())
		if kind != websocket.MessageText {
			frame = nil // refused as malformed
		}
		s.busy.Store(true)
		s.link.Receive(s.ctx, frame)
		s.busy.Store(false)
	}
}

// write implements signaling.Carrier.
func (s *socket) write(frames [][]byte, closing *signaling.Closing) error {
	if closing != nil {
		// Close waits for the peer's close frame, a few seconds at most.
		err := s.conn.Close(websocket.StatusCode(closing.Code), closing.Reason)
		s.end()
		return err
	}
	for part := range slices.Chunk(frames, bundled) {
		if err := s.send(part); err != nil {
			s.end()
			return err
		}
	}
	return nil
}

// bundled is how many frames are sent within one time limit.
const bundled = 64

// send writes frames that have come together in as few pieces as they fit in.
func (s *socket) send(frames [][]byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.h.cfg.WriteTimeout)
	defer cancel()
	if len(frames) > 1 {
		s.out.hold()
	}
	for _, f := range frames {
		if err := s.conn.Write(ctx, websocket.MessageText, f); err != nil {
			return err
		}
	}
	if len(frames) > 1 {
		return s.out.release(time.Now().Add(s.h.cfg.WriteTimeout))
	}
	return nil
}

// check begins a ping if nothing has come for the time. It does not wait for it.
func (s *socket) check(now int64, patience time.Duration) {
	if now-s.heard.Load() < int64(patience) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && !s.beating {
		s.beating = true
		s.beats.Add(1)
		go s.beat()
	}
}

// beat finds out whether the peer is gone without a word. A pong is seen by the reader only, which sees nothing while a request is
// executed: that counts as life.
func (s *socket) beat() {
	defer s.beats.Done()
	timed, cancel := context.WithTimeout(s.ctx, s.h.svc.Heartbeat()*(100-stale-look)/100)
	err := s.conn.Ping(timed)
	cancel()
	if err != nil && !s.busy.Load() {
		s.end()
		return
	}
	s.heard.Store(s.h.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beating = false
}

// bufferSize holds the frames of requests and events that are frequent. Longer ones pass by the buffers.
const bufferSize = 512

// thrifty is a ResponseWriter whose connection is taken over with small buffers: those of net/http are 4 kB each, and a client's
// socket is idle nearly all of its life.
type thrifty struct {
	http.ResponseWriter
	bundle *bundle // the connection, once taken over
}

// Hijack implements http.Hijacker.
func (w *thrifty) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.bundle = &bundle{Conn: conn}
	conn = w.bundle
	early, err := buffers.Reader.Peek(buffers.Reader.Buffered()) // frames that the client did not wait with
	if err != nil {
		return conn, buffers, nil
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn), max(bufferSize, len(early)))
	if _, err := r.Peek(len(early)); err != nil { // websocket.Accept looks for them in the buffer only
		return conn, buffers, nil
	}
	return conn, bufio.NewReadWriter(r, bufio.NewWriterSize(conn, bufferSize)), nil
}

// bundleSize is about what goes into one record of TLS (RFC 8446 §5.1).
const bundleSize = 16 << 10

// bundle is a connection that can hold back what is written, so that many small frames are one record and one system call.
type bundle struct {
	net.Conn

	mu      sync.Mutex
	holding bool
	held    []byte // nil while nothing is held: most connections are idle
}

func (b *bundle) hold() {
	b.mu.Lock()
	b.holding = true
	b.mu.Unlock()
}

// release writes what is held, until a moment at the latest.
func (b *bundle) release(until time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.held
	b.holding, b.held = false, nil
	if len(held) == 0 {
		return nil
	}
	if err := b.SetWriteDeadline(until); err != nil {
		return err
	}
	if _, err := b.Conn.Write(held); err != nil {
		return err
	}
	return b.SetWriteDeadline(time.Time{})
}

// Write implements net.Conn.
func (b *bundle) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.holding {
		return b.Conn.Write(p)
	}
	b.held = append(b.held, p...)
	if len(b.held) < bundleSize {
		return len(p), nil
	}
	_, err := b.Conn.Write(b.held)
	b.held = b.held[:0]
	return len(p), err
}
