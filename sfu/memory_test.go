package sfu_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
)

// What an endpoint holds that has joined and nothing else, its slots made ahead and its offer out; and what a node holds without any.
// Half as much again would be let pass.
func TestMemoryOfAnEndpoint(t *testing.T) {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	bare := live()
	node, err := sfu.NewNode(sfu.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Shards: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}()
	empty := live()
	if n := int64(empty) - int64(bare); n > 3<<20 {
		t.Errorf("an empty node holds %d kB of the heap", n/1000)
	}
	const people = 200
	for i := range people {
		if _, err := node.Conference("c").Join(t.Context(), sfu.JoinOptions{Participant: sfu.ParticipantID(fmt.Sprint("p", i))}); err != nil {
			t.Fatal(err)
		}
	}
	each := (int64(live()) - int64(empty)) / people
	t.Logf("%d bytes each, %d kB without", each, (int64(empty)-int64(bare))/1000)
	if each > 13000 {
		t.Errorf("%d bytes an endpoint", each)
	}
	runtime.KeepAlive(node)
}
