// Package link carries frames: over a byte stream, a WebSocket, or many connections over one (docs/kms-protocol.md §1 and §8).
//
// It promises that frames come whole, in order, and not above the size that was agreed; what is in them it does not know. A context
// that ends amid a frame ends the connection with it.
package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// MaxFrame is how long a frame may be: one of a channel, and what Mux puts before it.
const MaxFrame = 200<<10 + muxHeader

// ErrTooLong is a frame above the limit.
var ErrTooLong = errors.New("link: a frame is too long")

// Conn carries frames.
type Conn interface {
	Receive(ctx context.Context) ([]byte, error)
	Send(ctx context.Context, frame []byte) error
	Close() error
}

// Stream carries frames over a byte stream, each behind its length in four bytes.
func Stream(c net.Conn) Conn { return &stream{c: c} }

type stream struct {
	c    net.Conn
	send sync.Mutex
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Receive implements Conn.
func (s *stream) Receive(ctx context.Context) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = s.c.SetReadDeadline(past) })()
	var head [4]byte
	if _, err := io.ReadFull(s.c, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, ErrTooLong
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(s.c, frame); err != nil {
		return nil, err
	}
	return frame, nil
}

// Send implements Conn.
func (s *stream) Send(ctx context.Context, frame []byte) error {
	if len(frame) > MaxFrame {
		return ErrTooLong
	}
	s.send.Lock()
	defer s.send.Unlock()
	defer context.AfterFunc(ctx, func() { _ = s.c.SetWriteDeadline(past) })()
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame)))
	_, err := s.c.Write(append(out, frame...))
	return err
}

// Close implements Conn.
func (s *stream) Close() error { return s.c.Close() }

// Socket carries frames as binary messages of a WebSocket.
func Socket(c *websocket.Conn) Conn {
	c.SetReadLimit(MaxFrame)
	return socket{c}
}

type socket struct{ c *websocket.Conn }

// Receive implements Conn.
func (s socket) Receive(ctx context.Context) ([]byte, error) {
	kind, frame, err := s.c.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("link: a message that is not binary")
	}
	return frame, nil
}

// Send implements Conn.
func (s socket) Send(ctx context.Context, frame []byte) error {
	if len(frame) > MaxFrame {
		return ErrTooLong
	}
	return s.c.Write(ctx, websocket.MessageBinary, frame)
}

// Close implements Conn.
func (s socket) Close() error { return s.c.CloseNow() }

// Pump carries frames both ways until one side ends, and closes both.
func Pump(ctx context.Context, a, b Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 2)
	for _, way := range [][2]Conn{{a, b}, {b, a}} {
		go func() {
			done <- func() error {
				for {
					frame, err := way[0].Receive(ctx)
					if err != nil {
						return fmt.Errorf("link: pump: %w", err)
					}
					if err := way[1].Send(ctx, frame); err != nil {
						return fmt.Errorf("link: pump: %w", err)
					}
				}
			}()
		}()
	}
	err := <-done
	cancel()
	_, _ = a.Close(), b.Close()
	<-done
	return err
}
