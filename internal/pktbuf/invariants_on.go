//go:build sotto_invariants

package pktbuf

// invariants makes released buffers poisoned and stale use a panic.
const invariants = true
