// Package offheap owns memory beside Go's heap, for buffers that are made once, large and without pointers.
//
// It promises that such memory does not count when the collector decides how much garbage may lie about, which is a share of all that
// is in use: megabytes of buffers that are never collected would otherwise let as many megabytes of garbage lie. It is returned to the
// system when its owner is collected, so that whoever uses it has to hold the owner; where the system has none to give it is Go's.
package offheap

import "runtime"

// Bytes returns n bytes, all zero, that live as long as owner does. The collector does not see what is stored in them.
func Bytes[T any](owner *T, n int) []byte {
	b, err := obtain(n)
	if err != nil {
		return make([]byte, n)
	}
	runtime.AddCleanup(owner, release, b)
	return b
}
