package seal

import (
	"fmt"
	"sync"
)

// memory holds one key outside the Go heap, where the collector does not copy it and no swap or core dump takes it.
type memory struct {
	mu sync.Mutex
	b  []byte // nil once it is wiped
}

// Protection says how the keys in locked memory are kept; for logs and readiness.
type Protection string

// The ways.
const (
	Hidden Protection = "memfd_secret" // not even the kernel maps these pages
	Locked Protection = "mlock"        // never swapped, left out of core dumps
)

// lock returns fresh memory for a key.
func lock() (*memory, Protection, error) {
	b, how, err := pages(keyLen)
	if err != nil {
		return nil, "", fmt.Errorf("seal: no memory that stays out of swap (raise the limit of locked memory, LimitMEMLOCK=): %w", err)
	}
	return &memory{b: b[:keyLen]}, how, nil
}

// use runs f with the key; ErrSealed once it is wiped.
func (m *memory) use(f func(key []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return ErrSealed
	}
	return f(m.b)
}

// wipe overwrites the key and gives the memory back. It may be called twice.
func (m *memory) wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b != nil {
		clear(m.b)
		release(m.b)
		m.b = nil
	}
}
