package sink

import (
	"net/netip"
	"testing"
	"time"
)

var local = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// The time over loopback is that of two sockets, and is no second.
func TestLoopback(t *testing.T) {
	p := NewPool(SampleEvery)
	defer p.Close()
	if took, err := p.Loopback(local); err != nil || took <= 0 || took > time.Second {
		t.Errorf("%s, %v", took, err)
	}
}

// Media is accounted for and stays in the sink; the rest comes through, and nothing goes elsewhere than to the server.
func TestSink(t *testing.T) {
	p := NewPool(SampleEvery)
	defer p.Close()
	a, err := p.Open(local, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Open(local, 2)
	if err != nil {
		t.Fatal(err)
	}
	to := b.addr.AddrPort()
	if n, err := a.WriteToAddrPort([]byte{0, 1}, to); n != 2 || err != nil {
		t.Errorf("before it is connected: %d, %v", n, err)
	}
	elsewhere := netip.AddrPortFrom(local, 9)
	a.Via(func(server netip.AddrPort) (netip.AddrPort, error) {
		if server != elsewhere {
			t.Errorf("the server is at %s", server)
		}
		return to, nil
	})
	if err := a.Connect(elsewhere, sotto); err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(a.addr.AddrPort(), sotto); err != nil {
		t.Fatal(err)
	}
	for seq := range uint16(100) {
		if _, err := a.WriteToAddrPort(packet(t, picture, 96, seq, seq), elsewhere); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.WriteToAddrPort([]byte{0, 9, 9}, elsewhere); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1500)
	for _, want := range []int{52, 52, 3} { // numbers 0 and 50 are samples
		n, from, err := b.ReadFromAddrPort(got)
		if err != nil || from != a.addr.AddrPort() || want == 3 != (n == 3) {
			t.Fatalf("%d bytes from %s, %v", n, from, err)
		}
	}
	st := b.State()
	if st.Packets != 100 || st.Streams != 1 || st.Highest[picture] != 99 || b.Missed() != 0 {
		t.Errorf("%+v", st)
	}
	if at, ok := b.Opened(picture, 50, false, 0); !ok || at < a.left[96].Load()-int64(time.Minute) {
		t.Errorf("packet 50 came at %d, %t", at, ok)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.WriteToAddrPort([]byte{1}, a.addr.AddrPort()); err == nil {
		t.Error("a closed sink sends")
	}
	if _, _, err := b.ReadFromAddrPort(got); err == nil {
		t.Error("a closed sink receives")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
