// Package spool gives datagrams to a stream that may be slower than they come.
//
// It promises that Put never waits: a frame goes whole into a buffer of bounded size, or is lost and said to be, as one is on a full
// link. One goroutine writes what has gathered, many frames at a time. A stream that takes nothing for too long, or fails, is closed.
//
// It knows no framing and reads nothing.
package spool

import (
	"net"
	"sync"
	"time"
)

// Config is what a Spool is made of.
type Config struct {
	// Bytes may wait [256 KiB]: a quarter of a second of 8 Mbit/s. More would only make them late.
	Bytes int
	// Patience is how long one write may take [10 s].
	Patience time.Duration
}

// Spool is one stream's. The stream is closed with it.
type Spool struct {
	conn net.Conn
	cfg  Config
	gone chan struct{}

	mu     sync.Mutex
	come   sync.Cond
	filled []byte // waits
	ended  bool
}

// New begins to write to a stream.
func New(conn net.Conn, cfg Config) *Spool {
	if cfg.Bytes == 0 {
		cfg.Bytes = 256 << 10
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	s := &Spool{conn: conn, cfg: cfg, gone: make(chan struct{})}
	s.come.L = &s.mu
	go s.run()
	return s
}

// Put takes a frame, the parts of which follow each other, and copies it. False: there is no room for it, or the stream has ended.
func (s *Spool) Put(parts ...[]byte) bool {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.filled)+n > s.cfg.Bytes {
		return false
	}
	for _, p := range parts {
		s.filled = append(s.filled, p...)
	}
	s.come.Signal()
	return true
}

// Close ends the stream. What waits is lost. It returns when nothing is being written any more, and may be called twice.
func (s *Spool) Close() error {
	s.end()
	err := s.conn.Close()
	<-s.gone
	return err
}

func (s *Spool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.come.Signal()
}

// run writes until the stream ends.
func (s *Spool) run() {
	defer close(s.gone)
	var b []byte
	for {
		s.mu.Lock()
		for len(s.filled) == 0 && !s.ended {
			s.come.Wait()
		}
		if s.ended {
			s.mu.Unlock()
			return
		}
		b, s.filled = s.filled, b[:0]
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.cfg.Patience)) // fails on what is closed, as Write will
		if _, err := s.conn.Write(b); err != nil {
			s.end()
			_ = s.conn.Close() // whoever reads from it hears of it
			return
		}
	}
}
