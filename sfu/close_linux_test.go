package sfu_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
)

// A Node gives back every file descriptor, also one that cannot start because another has the port: they would share what comes.
func TestCloseGivesFilesBack(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	cfg := sfu.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Shards: shards}
	once := func() {
		n, err := sfu.NewNode(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := n.Stats(t.Context()); err != nil || len(st.Shards) != shards {
			t.Errorf("%d shards, %v", len(st.Shards), err)
		}
		taken := cfg
		taken.Listen = n.LocalAddr()
		if other, err := sfu.NewNode(taken, nil); err == nil {
			t.Error("two nodes on one port")
			_ = other.Close()
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	once() // what the runtime opens for itself stays
	before := files()
	for range 5 {
		once()
	}
	if after := files(); after > before {
		t.Errorf("%d files, before %d", after, before)
	}
}
