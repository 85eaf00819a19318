package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FuzzBatch has a datagram cut and sorted: every one is a payload of the flow's, all of it, or is the server's as it came.
func FuzzBatch(f *testing.F) {
	f.Add([]byte{0x40, 1, 0, 2, 'h', 'i', 0, 0}, uint16(8), false)
	f.Add([]byte{0x40, 1, 0, 0, 0x40, 1, 0, 1, 'x'}, uint16(4), false)
	f.Add([]byte{0x40, 1, 0, 9, 'x'}, uint16(0), false)
	f.Add([]byte{0, 1, 0, 0}, uint16(0), true)
	f.Add([]byte{}, uint16(3), true)
	e := &Batch{ways: map[key]*way{}}
	s, err := newShard(e, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.wait.close)
	client, peer := netip.MustParseAddrPort("198.18.0.1:1000"), netip.MustParseAddrPort("198.18.0.2:2000")
	port, peers := &Port{id: 1}, &Peers{}
	port.sockets = []*socket{{id: 1, port: port, mail: &port.mail}}
	peers.id, peers.mail = 2, &peers.box
	up, down := &way{peers: peers}, &way{port: port, channel: 0x4001}
	e.ways[keyOf(1, client, 0x4001)], e.ways[keyOf(2, peer, 0)] = up, down
	f.Fuzz(func(t *testing.T, data []byte, seg uint16, toPeer bool) {
		data = data[:min(len(data), 2000)]
		port.mail, peers.box = mailbox{}, mailbox{}
		port.mail.open(4000)
		peers.box.open(4000)
		k, from := port.sockets[0], client
		if toPeer {
			k, from = &peers.socket, peer
		}
		putName(&s.names[0], from)
		m := &s.msgs[0]
		m.len = uint32(copy(s.buffer[head:], data))
		m.hdr.Flags = 0
		m.hdr.SetControllen(unix.CmsgSpace(4))
		c := (*unix.Cmsghdr)(unsafe.Pointer(&s.ctls[0]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_GRO
		c.SetLen(unix.CmsgLen(4))
		*(*int32)(unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))) = int32(seg)
		s.take(k, 0)

		cuts := [][]byte{data}
		if seg > 0 && int(seg) < len(data) {
			cuts = nil
			for rest := data; len(rest) > 0; rest = rest[min(int(seg), len(rest)):] {
				cuts = append(cuts, rest[:min(int(seg), len(rest))])
			}
		}
		var queued [][]byte
		for i := range s.out.m {
			r := &s.out.runs[i]
			n := 0
			for p := r.first; p >= 0; p = s.out.packets[p].next {
				var v [2]unix.Iovec
				var b []byte
				for _, x := range v[:s.out.packets[p].pieces(v[:])] {
					b = append(b, unsafe.Slice(x.Base, x.Len)...)
				}
				if n++; len(b) > r.seg || len(b) < r.seg && n < r.count {
					t.Fatalf("%d bytes are packet %d of a run of %d of %d each", len(b), n, r.count, r.seg)
				}
				queued = append(queued, b)
			}
		}
		left := append(port.mail.queue, peers.box.queue...)
		for _, cut := range cuts {
			whole := len(cut) >= 4 && cut[0] == 0x40 && cut[1] == 1 && 4+int(binary.BigEndian.Uint16(cut[2:])) <= len(cut)
			switch {
			case toPeer:
				want := append(binary.BigEndian.AppendUint16([]byte{0x40, 1}, uint16(len(cut))), cut...)
				if len(queued) == 0 || !bytes.Equal(queued[0], want) {
					t.Fatalf("%x became %x", cut, queued)
				}
				queued = queued[1:]
			case whole:
				if want := cut[4 : 4+binary.BigEndian.Uint16(cut[2:])]; len(queued) == 0 || !bytes.Equal(queued[0], want) {
					t.Fatalf("%x became %x", cut, queued)
				}
				queued = queued[1:]
			default:
				if len(left) == 0 || !bytes.Equal(left[0].data, cut) || left[0].from != from {
					t.Fatalf("%x was left as %+v", cut, left)
				}
				left = left[1:]
			}
		}
		if len(queued)+len(left) > 0 {
			t.Fatalf("%d and %d too many", len(queued), len(left))
		}
		s.out.outs, s.out.n, s.out.m = s.out.outs[:0], 0, 0
		s.out.batch++
	})
}
