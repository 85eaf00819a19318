package proc

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	stat := "42 (a ) b (c) R 1 42 42 0 -1 4194560 900 0 0 0 123 45 0 0 20 0 7 0 100 200 300\n"
	got, err := parseStat([]byte(stat))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Usage{User: 1230 * time.Millisecond, System: 450 * time.Millisecond}, got); diff != "" {
		t.Error(diff)
	}
	if rss, err := parseRSS([]byte("Name:\tx\nVmRSS:\t    2048 kB\n")); err != nil || rss != 2<<20 {
		t.Errorf("RSS %d, %v", rss, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) R 1 2", "42 (x) R 1 42 42 0 -1 4194560 900 0 0 0 one two 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	for _, bad := range []string{"", "VmRSS: 1 MB\n", "VmRSS: x kB\n"} {
		if _, err := parseRSS([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestSelf(t *testing.T) {
	before, err := Of(0)
	if err != nil || before.RSS < 1<<20 {
		t.Fatalf("%+v %v", before, err)
	}
	// Two ticks of work.
	for after := before; after.CPU() < before.CPU()+2*tick; {
		if after, err = Of(0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Of(1 << 30); err == nil {
		t.Error("a process that there is not is read")
	}
	if m := Here(); m.Cores < 1 || m.Kernel == "" {
		t.Errorf("%+v", m)
	}
}

func TestBusy(t *testing.T) {
	got, err := parseBusy([]byte("cpu  1 2 3 40 50 6 7 8 0 0\ncpu0 1 2 3 40 50 6 7 8 0 0\n"))
	if err != nil || got != 27*tick {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3 4 5 6 7 x"} {
		if _, err := parseBusy([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	if _, err := Busy(); err != nil {
		t.Error(err)
	}
}

// What the threads ran for is what the process used, to a few ticks.
func TestRan(t *testing.T) {
	if got, err := parseRan([]byte("123456789 5 6\n")); err != nil || got != 123456789 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseRan([]byte("x 5 6\n")); err == nil {
		t.Error("a word is read as a time")
	}
	own := os.Getpid()
	before, err := Ran(own)
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after < before+2*tick; {
		if after, err = Ran(own); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Ran(1 << 30); err == nil {
		t.Error("a process that there is not is read")
	}
}
