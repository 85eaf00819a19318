package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

func guarding(t *testing.T, rate, burst int) *Guard {
	t.Helper()
	g, err := NewGuard(GuardConfig{
		Ports: 4, Sessions: 4, Sources: 64, Rate: rate, Burst: burst,
		Allow: []netip.Prefix{netip.MustParsePrefix("198.19.1.0/24"), netip.MustParsePrefix("2001:db8:a::/48")},
		Deny:  []netip.Prefix{netip.MustParsePrefix("198.19.0.0/16"), netip.MustParsePrefix("2001:db8:a:d::/64")},
	})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("needs CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, f := range [][4]netip.AddrPort{flow4, flow6} {
		if err := g.Watch(f[1]); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// meets feeds a frame to the guard and fails unless it passes or not, unchanged, and is counted so and not otherwise; no verdict: it is
// none of the guard's.
func meets(t *testing.T, g *Guard, frame []byte, verdict string) {
	t.Helper()
	before, err := g.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 2048)}
	got, err := g.objects.GuardTcx.Run(&o)
	if err != nil {
		t.Fatal(err)
	}
	const drop, unspec = 2, 0xffffffff
	want := uint32(unspec)
	switch verdict {
	case "denied", "malformed", "stray", "flood":
		want = drop
	}
	if got != want || !bytes.Equal(frame, o.DataOut) {
		t.Errorf("the program says %d, want %d; bytes (-want +got):\n%s", int32(got), int32(want), cmp.Diff(frame, o.DataOut))
	}
	after, err := g.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	if verdict != "" {
		before[verdict]++
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// binding is a STUN message with so many bytes of attributes.
func binding(attributes int) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1}, uint16(attributes))
	b = append(binary.BigEndian.AppendUint32(b, 0x2112a442), "transaction!"...)
	return append(b, make([]byte, attributes)...)
}

func TestGuardVerdicts(t *testing.T) {
	g := guarding(t, 1, 1000)
	edit := func(b []byte, at int, with byte) []byte {
		b = bytes.Clone(b)
		b[at] = with
		return b
	}
	for i, f := range [][4]netip.AddrPort{flow4, flow6} {
		stranger := f[0]
		allowed := []netip.AddrPort{netip.MustParseAddrPort("198.19.1.7:9"), netip.MustParseAddrPort("[2001:db8:a::7]:9")}[i]
		denied := []netip.AddrPort{netip.MustParseAddrPort("198.19.2.7:9"), netip.MustParseAddrPort("[2001:db8:a:d::7]:9")}[i]
		for _, test := range []struct {
			name    string
			from    netip.AddrPort
			payload []byte
			verdict string
		}{
			{"request", stranger, binding(0), "stranger"},
			{"long request", stranger, binding(400), "stranger"},
			{"longest request", stranger, binding(1400), "stranger"},
			{"message that ends early", stranger, binding(8)[:24], "malformed"},
			{"message with something behind it", stranger, append(binding(8), 0, 0, 0, 0), "malformed"},
			{"length no multiple of four", stranger, append(edit(binding(0), 3, 2), 0, 0), "malformed"},
			{"no cookie", stranger, edit(binding(0), 4, 0), "malformed"},
			{"cookie but for its last byte", stranger, edit(binding(0), 7, 0), "malformed"},
			{"half a header", stranger, binding(0)[:19], "malformed"},
			{"one byte", stranger, []byte{0}, "malformed"},
			{"four bytes", stranger, []byte{0, 1, 0, 0}, "malformed"},
			{"DTLS", stranger, append([]byte{22, 254, 253}, make([]byte, 60)...), "malformed"},
			{"RTP", stranger, append([]byte{0x80, 111}, make([]byte, 60)...), "malformed"},
			{"ChannelData", stranger, channelData(content(100, 1)), "stray"},
			{"ChannelData of a network that is allowed", allowed, channelData(content(100, 1)), "stray"},
			{"request of a network that is allowed", allowed, binding(0), "allowed"},
			{"request of a network that is denied", denied, binding(0), "denied"},
			{"nonsense of a network that is denied", denied, []byte("nonsense"), "denied"},
		} {
			t.Run(test.name, func(t *testing.T) {
				meets(t, g, datagram{test.from, f[1], test.payload, 64, false}.frame(), test.verdict)
				// Not the guarded port: nothing of the guard's.
				meets(t, g, datagram{test.from, netip.AddrPortFrom(f[1].Addr(), 1), test.payload, 64, false}.frame(), "")
				// Whoever has an allocation sends what he likes, from wherever he is; not so from another port of his.
				if err := g.Admit(test.from, f[1]); err != nil {
					t.Fatal(err)
				}
				meets(t, g, datagram{test.from, f[1], test.payload, 64, false}.frame(), "known")
				meets(t, g, datagram{netip.AddrPortFrom(test.from.Addr(), 10), f[1], test.payload, 64, false}.frame(), test.verdict)
				for range 2 {
					if err := g.Forget(test.from, f[1]); err != nil {
						t.Fatal(err)
					}
				}
				meets(t, g, datagram{test.from, f[1], test.payload, 64, false}.frame(), test.verdict)
			})
		}
	}
	// What the guard does not understand is for others to judge.
	frame := datagram{flow4[0], flow4[1], []byte("nonsense"), 64, false}.frame()
	for name, change := range map[string]func([]byte){
		"fragment": func(b []byte) { b[14+6] |= 0x20 },
		"options":  func(b []byte) { b[14] = 0x46 },
		"TCP":      func(b []byte) { b[14+9] = 6 },
		"ARP":      func(b []byte) { b[13] = 6 },
		"others'":  func(b []byte) { b[0] = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(frame)
			change(b)
			meets(t, g, b, "")
		})
	}
}

// A stranger gets as much as is in his bucket and no more, whatever port he sends from; others do not pay for him, and neither do
// those who have an allocation.
func TestGuardFloods(t *testing.T) {
	const burst = 50
	g := guarding(t, 1, burst) // none comes back within this test, or one in ten seconds of a halting machine
	for i, f := range [][4]netip.AddrPort{flow4, flow6} {
		send := func(from netip.AddrPort, verdict string) {
			t.Helper()
			meets(t, g, datagram{from, f[1], binding(20), 64, false}.frame(), verdict)
		}
		for n := range burst {
			send(netip.AddrPortFrom(f[0].Addr(), uint16(1000+n)), "stranger")
		}
		before, err := g.Verdicts()
		if err != nil {
			t.Fatal(err)
		}
		const flood = 1000
		frame := datagram{f[0], f[1], binding(20), 64, false}.frame()
		if _, err := g.objects.GuardTcx.Run(&ebpf.RunOptions{Data: frame, Repeat: flood}); err != nil {
			t.Fatal(err)
		}
		after, err := g.Verdicts()
		if err != nil || after["flood"]-before["flood"] < flood-10 {
			t.Errorf("%v, then %v: %v", before, after, err)
		}
		neighbour := []string{"198.18.1.3:1", "[2001:db8:1:1::2]:1"}[i]
		send(netip.MustParseAddrPort(neighbour), "stranger")
		if i == 1 { // of the same network of 64 bits
			before := after["flood"]
			_, err := g.objects.GuardTcx.Run(&ebpf.RunOptions{Data: datagram{netip.MustParseAddrPort("[2001:db8:1::ffff]:1"), f[1], binding(20), 64, false}.frame(), Repeat: 100})
			if after, err2 := g.Verdicts(); err != nil || err2 != nil || after["flood"]-before < 90 {
				t.Errorf("a neighbour has a bucket of his own: %v %v %v", after, err, err2)
			}
		}
		if err := g.Admit(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
		for range 2 * burst {
			send(f[0], "known")
		}
	}
}

// BenchmarkGuard is what a dropped packet costs.
func BenchmarkGuard(b *testing.B) {
	g, err := NewGuard(GuardConfig{Ports: 1, Sessions: 1, Sources: 16, Rate: 1, Burst: 1})
	if err != nil {
		b.Skip(err)
	}
	defer g.Close()
	if err := g.Watch(flow4[1]); err != nil {
		b.Fatal(err)
	}
	for name, payload := range map[string][]byte{"flood": binding(20), "stray": channelData(content(100, 1)), "malformed": []byte("nonsense")} {
		b.Run(name, func(b *testing.B) {
			frame := datagram{flow4[0], flow4[1], payload, 64, false}.frame()
			_, each, err := g.objects.GuardTcx.Benchmark(frame, b.N, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
		})
	}
}
