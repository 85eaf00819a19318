package offheap_test

import (
	"runtime"
	"testing"

	"github.com/sotto-edge/sotto/internal/offheap"
)

type owner struct{ b []byte }

// What is obtained is zero and one's own, does not count as heap, and does not stop the collector from taking its owner.
func TestBytes(t *testing.T) {
	const size = 8 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all []*owner
	for i := range 8 {
		o := new(owner)
		o.b = offheap.Bytes(o, size)
		if len(o.b) != size || o.b[0] != 0 || o.b[size-1] != 0 {
			t.Fatalf("%d bytes", len(o.b))
		}
		o.b[0], o.b[size-1] = byte(i), byte(i)
		all = append(all, o)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > size {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	for i, o := range all {
		if o.b[0] != byte(i) || o.b[size-1] != byte(i) {
			t.Errorf("owner %d has another's memory", i)
		}
	}
	gone := make(chan struct{})
	runtime.AddCleanup(all[0], func(gone chan struct{}) { close(gone) }, gone)
	all[0] = nil
	for {
		runtime.GC()
		select {
		case <-gone:
			runtime.KeepAlive(all)
			return
		default:
			runtime.Gosched()
		}
	}
}
