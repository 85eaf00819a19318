package relay

import (
	"net"
	"net/netip"
	"sync"
)

// letter is a datagram for the server.
type letter struct {
	from netip.AddrPort
	data []byte
}

// letterSize is what most datagrams fit into; longer ones have memory of their own.
const letterSize = 2048

var letters = sync.Pool{New: func() any { return &letter{data: make([]byte, 0, letterSize)} }}

// mailbox holds what an engine leaves to the server, until that has time. It bounds how much: more is dropped.
type mailbox struct {
	most int

	mu     sync.Mutex
	some   sync.Cond
	queue  []*letter
	closed bool
}

func (m *mailbox) open(most int) {
	m.most = most
	m.some.L = &m.mu
}

// put copies a datagram; false: there is no room.
func (m *mailbox) put(from netip.AddrPort, data []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.queue) >= m.most {
		return false
	}
	l := letters.Get().(*letter)
	l.from, l.data = from, append(l.data[:0], data...)
	m.queue = append(m.queue, l)
	m.some.Signal()
	return true
}

// get waits for a datagram and copies what b holds of it.
func (m *mailbox) get(b []byte) (int, netip.AddrPort, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) == 0 && !m.closed {
		m.some.Wait()
	}
	if m.closed {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	l := m.queue[0]
	m.queue[0] = nil
	if m.queue = m.queue[1:]; len(m.queue) == 0 {
		m.queue = nil // most have no second one for a long time
	}
	n, from := copy(b, l.data), l.from
	if cap(l.data) == letterSize {
		letters.Put(l)
	}
	return n, from, nil
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.queue = true, nil
	m.some.Broadcast()
}
