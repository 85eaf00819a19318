package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// Two flows, one of each family, both over the interface that is there in every namespace: what leaves is read, not sent.
var (
	flow4 = [4]netip.AddrPort{ // client, server, relayed, peer
		netip.MustParseAddrPort("198.18.1.2:40000"), netip.MustParseAddrPort("198.18.1.1:3478"),
		netip.MustParseAddrPort("198.18.2.1:50000"), netip.MustParseAddrPort("198.18.2.2:4000"),
	}
	flow6 = [4]netip.AddrPort{
		netip.MustParseAddrPort("[2001:db8:1::2]:40000"), netip.MustParseAddrPort("[2001:db8:1::1]:3478"),
		netip.MustParseAddrPort("[2001:db8:2::1]:50000"), netip.MustParseAddrPort("[2001:db8:2::2]:4000"),
	}
)

const channel = 0x4abc

func loaded(t *testing.T) *Relay {
	t.Helper()
	r, err := NewRelay(16)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("needs CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, f := range [][4]netip.AddrPort{flow4, flow6} {
		up, down := Key{Local: f[1], Remote: f[0], Channel: channel}, Key{Local: f[2], Remote: f[3]}
		for _, err := range []error{
			r.Put(up, Way{Source: f[2], Dest: f[3], Hop: f[3].Addr(), MTU: 1500, Interface: 1, Slot: uint32(2 * i)}),
			r.Put(down, Way{Source: f[1], Dest: f[0], Hop: f[0].Addr(), Channel: channel, MTU: 1500, Interface: 1, Slot: uint32(2*i + 1)}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// datagram is a packet by what it says; its bytes are made from nothing, checksums included, and so are those that are expected.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
	hops     byte
	noSum    bool // no UDP checksum
}

func (d datagram) frame() []byte {
	udp := binary.BigEndian.AppendUint16(nil, d.from.Port())
	udp = binary.BigEndian.AppendUint16(udp, d.to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(d.payload)))
	udp = append(append(udp, 0, 0), d.payload...)
	from, to := d.from.Addr().AsSlice(), d.to.Addr().AsSlice()
	if !d.noSum {
		pseudo := append(append([]byte{}, from...), to...)
		pseudo = binary.BigEndian.AppendUint16(append(pseudo, 0, 17), uint16(len(udp)))
		sum := ^sum16(append(pseudo, udp...))
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(udp[6:], sum)
	}
	frame := make([]byte, 12, 1600) // addresses of the loopback device
	if d.from.Addr().Is6() {
		frame = append(frame, 0x86, 0xdd, 0x6a, 0x51, 0x23, 0x45) // traffic class a5, a flow label
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(udp)))
		frame = append(frame, 17, d.hops)
		return append(append(append(frame, from...), to...), udp...)
	}
	ip := []byte{0x45, 0xa5, 0, 0, 0x12, 0x34, 0x40, 0, d.hops, 17, 0, 0} // DSCP and ECN, an identification, DF
	ip = append(append(ip, from...), to...)
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
	binary.BigEndian.PutUint16(ip[10:], ^sum16(ip))
	return append(append(append(frame, 8, 0), ip...), udp...)
}

func sum16(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func channelData(payload []byte, padding ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, channel)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(append(b, payload...), padding...)
}

func content(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + seed*31 + i>>8)
	}
	return b
}

// run feeds a frame and fails unless the program's answer, the bytes, and all counters are as said.
func run(t *testing.T, r *Relay, frame, want []byte, verdict string) {
	t.Helper()
	before, err := r.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 2048)
	o := ebpf.RunOptions{Data: frame, DataOut: out}
	got, err := r.objects.RelayTcx.Run(&o)
	if err != nil {
		t.Fatal(err)
	}
	const redirect, unspec = 7, 0xffffffff
	code := uint32(redirect)
	if want == nil {
		code, want = unspec, frame
	}
	if got != code {
		t.Errorf("the program says %d, want %d", int32(got), int32(code))
	}
	if !bytes.Equal(want, o.DataOut) {
		t.Errorf("bytes (-want +got):\n%s", cmp.Diff(want, o.DataOut))
	}
	after, err := r.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	before[verdict]++
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func TestRelayBytes(t *testing.T) {
	r := loaded(t)
	for family, f := range map[string][4]netip.AddrPort{"IPv4": flow4, "IPv6": flow6} {
		client, server, relayed, peer := f[0], f[1], f[2], f[3]
		slot := uint32(0)
		if family == "IPv6" {
			slot = 2
		}
		t.Run(family, func(t *testing.T) {
			var packets, octets uint64
			for n := 1; n <= 1400; n++ {
				payload := content(n, n)
				in := datagram{client, server, channelData(payload), 64, false}
				out := datagram{relayed, peer, payload, 63, false}
				run(t, r, in.frame(), out.frame(), "relayed-up")
				run(t, r, datagram{peer, relayed, payload, 2, false}.frame(), datagram{server, client, channelData(payload), 1, false}.frame(), "relayed-down")
				packets, octets = packets+1, octets+uint64(n)
				if pad := -n & 3; pad > 0 {
					in.payload = channelData(payload, content(pad, 99)...)
					run(t, r, in.frame(), out.frame(), "relayed-up")
					packets, octets = packets+1, octets+uint64(n)
				}
				// A device pads what is shorter than its least frame; that is no part of the packet.
				if frame := in.frame(); len(frame) < 64 {
					run(t, r, append(frame, content(64-len(frame), 5)...), out.frame(), "relayed-up")
					packets, octets = packets+1, octets+uint64(n)
				}
			}
			got, err := r.Traffic(slot)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Traffic{packets, octets}); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

// A checksum that comes out as zero is sent as ffff; one that was absent stays absent (RFC 768), and under IPv6 must not be.
func TestRelayChecksumZero(t *testing.T) {
	r := loaded(t)
	for _, f := range [][4]netip.AddrPort{flow4, flow6} {
		client, server, relayed, peer := f[0], f[1], f[2], f[3]
		payload := make([]byte, 2)
		zero := false
		for n := range 1 << 16 {
			binary.BigEndian.PutUint16(payload, uint16(n))
			out := datagram{relayed, peer, payload, 63, false}.frame()
			if binary.BigEndian.Uint16(out[len(out)-4:]) != 0xffff {
				continue
			}
			zero = true
			run(t, r, datagram{client, server, channelData(payload), 64, false}.frame(), out, "relayed-up")
		}
		if !zero {
			t.Error("no payload gives a checksum of zero")
		}
	}
	payload := content(100, 1)
	run(t, r, datagram{flow4[0], flow4[1], channelData(payload), 64, true}.frame(), datagram{flow4[2], flow4[3], payload, 63, true}.frame(), "relayed-up")
	run(t, r, datagram{flow4[3], flow4[2], payload, 64, true}.frame(), datagram{flow4[1], flow4[0], channelData(payload), 63, true}.frame(), "relayed-down")
	run(t, r, datagram{flow6[0], flow6[1], channelData(payload), 64, true}.frame(), nil, "checksum")
	run(t, r, datagram{flow6[3], flow6[2], payload, 64, true}.frame(), nil, "checksum")
}

// What was broken on the way in must not look whole on the way out.
func TestRelayKeepsBrokenChecksum(t *testing.T) {
	r := loaded(t)
	payload := content(100, 1)
	in := datagram{flow4[0], flow4[1], channelData(payload), 64, false}.frame()
	out := datagram{flow4[2], flow4[3], payload, 63, false}.frame()
	in[len(in)-1] ^= 1
	out[len(out)-1] ^= 1
	run(t, r, in, out, "relayed-up")
}

func TestRelayPassesUp(t *testing.T) {
	r := loaded(t)
	payload := content(100, 1)
	for i, f := range [][4]netip.AddrPort{flow4, flow6} {
		up := datagram{f[0], f[1], channelData(payload), 64, false}
		down := datagram{f[3], f[2], payload, 64, false}
		l3 := []int{20, 40}[i]
		edit := func(d datagram, change func(ip []byte)) []byte {
			frame := d.frame()
			change(frame[14:])
			return frame
		}
		with := func(d datagram, change func(*datagram)) []byte {
			change(&d)
			return d.frame()
		}
		tests := []struct {
			name    string
			frame   []byte
			verdict string
		}{
			{"another client", with(up, func(d *datagram) { d.from = netip.AddrPortFrom(d.from.Addr(), 1) }), "miss"},
			{"another port of the server", with(up, func(d *datagram) { d.to = netip.AddrPortFrom(d.to.Addr(), 1) }), "miss"},
			{"another channel", with(up, func(d *datagram) { d.payload = append([]byte{0x4a, 0xbd}, d.payload[2:]...) }), "miss"},
			{"no channel", with(up, func(d *datagram) { d.payload = []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42} }), "miss"},
			{"another peer", with(down, func(d *datagram) { d.from = netip.AddrPortFrom(d.from.Addr(), 1) }), "miss"},
			{"from the server's side", with(down, func(d *datagram) { d.from, d.to = d.to, d.from }), "miss"},
			{"hops used up, up", with(up, func(d *datagram) { d.hops = 1 }), "hops"},
			{"hops used up, down", with(down, func(d *datagram) { d.hops = 1 }), "hops"},
			{"no hops at all", with(down, func(d *datagram) { d.hops = 0 }), "hops"},
			{"length beyond the packet", with(up, func(d *datagram) { d.payload = channelData(payload)[:50] }), "length"},
			{"length far below the packet", with(up, func(d *datagram) { d.payload = channelData(payload, 0, 0, 0, 0) }), "length"},
			{"header alone", with(up, func(d *datagram) { d.payload = channelData(nil) }), "length"},
			{"half a header", with(up, func(d *datagram) { d.payload = d.payload[:3] }), "miss"},
			{"empty", with(down, func(d *datagram) { d.payload = nil }), "length"},
			{"UDP shorter than IP", edit(down, func(ip []byte) { ip[l3+5]-- }), "length"},
			{"UDP longer than IP", edit(down, func(ip []byte) { ip[l3+5]++ }), "length"},
			{"cut off", func() []byte { b := down.frame(); return b[:len(b)-1] }(), "length"},
			{"no room for a header", with(down, func(d *datagram) { d.payload = content(1500-l3-8-3, 1) }), "room"},
			{"too long for the way out", with(up, func(d *datagram) { d.payload = channelData(content(1500-l3-8+1, 1)) }), "room"},
			{"TCP", edit(up, func(ip []byte) { ip[[]int{9, 6}[i]] = 6 }), "other"},
			{"for another machine", append([]byte{2, 2, 2, 2, 2, 2}, up.frame()[6:]...), "other"},
			{"ARP", append(make([]byte, 12), append([]byte{8, 6}, make([]byte, 46)...)...), "other"},
			{"checksum left to a device", edit(up, func(ip []byte) {
				from, to := up.from.Addr().AsSlice(), up.to.Addr().AsSlice()
				pseudo := append(append([]byte{}, from...), to...)
				pseudo = append(pseudo, 0, 17, ip[l3+4], ip[l3+5])
				binary.BigEndian.PutUint16(ip[l3+6:], sum16(pseudo))
			}), "checksum"},
		}
		if i == 0 {
			tests = append(tests, []struct {
				name    string
				frame   []byte
				verdict string
			}{
				{"options", edit(up, func(ip []byte) { ip[0] = 0x46 }), "options"},
				{"first fragment", edit(up, func(ip []byte) { ip[6] |= 0x20 }), "fragment"},
				{"last fragment", edit(up, func(ip []byte) { ip[7] = 5 }), "fragment"},
			}...)
		} else {
			tests = append(tests, struct {
				name    string
				frame   []byte
				verdict string
			}{"fragment header", edit(up, func(ip []byte) { ip[6] = 44 }), "other"})
		}
		for _, test := range tests {
			t.Run(fmt.Sprintf("IPv%d/%s", []int{4, 6}[i], test.name), func(t *testing.T) {
				run(t, r, test.frame, nil, test.verdict)
			})
		}
	}
}

// The longest that fits is relayed.
func TestRelayRoom(t *testing.T) {
	r := loaded(t)
	for i, f := range [][4]netip.AddrPort{flow4, flow6} {
		payload := content(1500-[]int{20, 40}[i]-8-4, 3)
		run(t, r, datagram{f[3], f[2], payload, 64, false}.frame(), datagram{f[1], f[0], channelData(payload), 63, false}.frame(), "relayed-down")
	}
}

func TestRelayForgets(t *testing.T) {
	r := loaded(t)
	payload := content(20, 1)
	in := datagram{flow4[0], flow4[1], channelData(payload), 64, false}.frame()
	run(t, r, in, datagram{flow4[2], flow4[3], payload, 63, false}.frame(), "relayed-up")
	for range 2 {
		if err := r.Delete(Key{Local: flow4[1], Remote: flow4[0], Channel: channel}); err != nil {
			t.Fatal(err)
		}
	}
	run(t, r, in, nil, "miss")
	if err := r.Clear(0); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Traffic(0); err != nil || got != (Traffic{}) {
		t.Errorf("after Clear: %+v, %v", got, err)
	}
}
