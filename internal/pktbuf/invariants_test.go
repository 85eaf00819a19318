//go:build sotto_invariants

package pktbuf

import "testing"

func TestStaleUsePanics(t *testing.T) {
	p := NewPool(1)
	b := p.Get()
	stale := b.Tail()
	b.Release()
	mustPanic(t, "use of a released", func() { b.Bytes() })
	mustPanic(t, "use of a released", func() { b.Tail() })
	mustPanic(t, "use of a released", func() { b.SetLen(1) })
	mustPanic(t, "use of a released", func() { b.Prepend(1) })
	stale[17] = 1
	mustPanic(t, "written after its release", func() { p.Get() })
}
