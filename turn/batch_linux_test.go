package turn_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/relay"
)

// batched has a server relay by the batch.
func batched(t *testing.T, edit func(*turn.Config)) *service {
	t.Helper()
	engine, err := relay.NewBatch(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return serve(t, func(c *turn.Config) {
		for i, s := range c.Sockets {
			at := s.LocalAddr()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if c.Sockets[i], err = engine.Listen(at); err != nil {
				t.Fatal(err)
			}
		}
		c.Offloader, c.ListenPeers = engine, engine.ListenPeers
		if edit != nil {
			edit(c)
		}
	})
}

// Clients, peers and the library do not notice who relays, in any pair of families; the server counts what the engine did, and takes
// it back when the allocation ends.
func TestBatchBehindServer(t *testing.T) {
	for _, c := range []struct {
		name   string
		near   func(*service) netip.AddrPort
		far    netip.Addr
		family byte
	}{
		{"IPv4", func(s *service) netip.AddrPort { return s.udp }, loopback4, 1},
		{"IPv6", func(s *service) netip.AddrPort { return s.udp6 }, loopback6, 2},
		{"IPv4 to IPv6", func(s *service) netip.AddrPort { return s.udp }, loopback6, 2},
		{"IPv6 to IPv4", func(s *service) netip.AddrPort { return s.udp6 }, loopback4, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := batched(t, nil)
			cl := dial(t, c.near(s), name)
			at := cl.allocate(attr(stun.AttrRequestedAddressFamily, c.family, 0, 0, 0))
			remote, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.far, 0)), net.UDPAddrFromAddrPort(at))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = remote.Close() })
			far := netip.MustParseAddrPort(remote.LocalAddr().String())
			if _, code := cl.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 7, 0, 0), peer(far)); code != 0 {
				t.Fatalf("channel bind: %d", code)
			}
			until(t, "relayed by the batch", func() bool { return s.Stats().Flows == 1 })
			read := func(c net.Conn) []byte {
				b := make([]byte, 2048)
				_ = c.SetReadDeadline(time.Now().Add(patience))
				n, err := c.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				return b[:n]
			}
			var octets uint64
			const n = 1400
			for i := 1; i <= n; i++ {
				payload := bytes.Repeat([]byte{byte(i)}, i)
				frame := append(binary.BigEndian.AppendUint16([]byte{0x40, 7}, uint16(i)), payload...)
				octets += uint64(i)
				if _, err := cl.conn.Write(frame); err != nil {
					t.Fatal(err)
				}
				if got := read(remote); !bytes.Equal(got, payload) {
					t.Fatalf("the peer gets %x, want %x", got, payload)
				}
				if _, err := remote.Write(payload); err != nil {
					t.Fatal(err)
				}
				if got := read(cl.conn); !bytes.Equal(got, frame) {
					t.Fatalf("the client gets %x, want %x", got, frame)
				}
			}
			// A Send indication is the server's, and so is what a peer without a channel sends.
			if _, err := cl.conn.Write(build(t, stun.MethodSend, stun.NewType(stun.MethodSend, stun.ClassIndication), peer(far), attr(stun.AttrData, []byte("by hand")...)).Raw); err != nil {
				t.Fatal(err)
			}
			if got := read(remote); string(got) != "by hand" {
				t.Errorf("the peer gets %q", got)
			}
			if s.Engine() != "batch" {
				t.Errorf("the engine is %s", s.Engine())
			}
			if _, code := cl.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
				t.Fatalf("refresh to zero: %d", code)
			}
			want := turn.Traffic{Packets: n, Bytes: octets}
			got := s.Stats()
			if diff := cmp.Diff([]turn.Traffic{want, want, {Packets: 1, Bytes: 7}}, []turn.Traffic{got.OffloadedUp, got.OffloadedDown, got.Up}); diff != "" {
				t.Error(diff)
			}
			// The relayed address is closed with it: who writes there is refused.
			for {
				if _, err := remote.Write([]byte("x")); err != nil {
					break
				}
			}
		})
	}
}

// The library's padding is for streams: nobody who relays adds it over UDP.
func TestNoPadding(t *testing.T) {
	s := serve(t, nil)
	cl := dial(t, s.udp, name)
	at := cl.allocate()
	far := echo(t, loopback4)
	if _, code := cl.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 7, 0, 0), peer(far)); code != 0 {
		t.Fatalf("channel bind: %d (%s)", code, at)
	}
	frame := []byte{0x40, 7, 0, 5, 'h', 'e', 'l', 'l', 'o'}
	if _, err := cl.conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_ = cl.conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := cl.conn.Read(b); err != nil || !bytes.Equal(b[:n], frame) {
		t.Errorf("%x came back as %x, %v", frame, b[:n], err)
	}
}

// An engine is told when a client goes elsewhere, and relays both addresses of one that has both.
func TestBatchFollowsClient(t *testing.T) {
	s := batched(t, nil)
	far4, far6 := echo(t, loopback4), echo(t, loopback6)
	first := dial(t, s.udp, name)
	m, code := first.ask(stun.MethodAllocate, wantUDP, attr(attrMobilityTicket), bothFamilies)
	ticket, err := m.Get(attrMobilityTicket)
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	for n, far := range map[uint16]netip.AddrPort{0x4001: far4, 0x4002: far6} {
		if _, code := first.ask(stun.MethodChannelBind, channelNumber(n), peer(far)); code != 0 {
			t.Fatal(code)
		}
	}
	places := []*client{first, dial(t, s.udp, name), dial(t, s.udp6, name), dial(t, s.udp, name)}
	for i, c := range places {
		if i > 0 {
			if m, code = c.ask(stun.MethodRefresh, attr(attrMobilityTicket, ticket...)); code != 0 {
				t.Fatalf("from elsewhere: %d", code)
			}
			ticket, _ = m.Get(attrMobilityTicket)
		}
		for n, far := range map[uint16]netip.AddrPort{0x4001: far4, 0x4002: far6} {
			frame := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, n), 8)
			frame = append(frame, "12345678"...)
			for range 20 {
				if _, err := c.conn.Write(frame); err != nil {
					t.Fatal(err)
				}
				if got := c.read(); !bytes.Equal(got, frame) {
					t.Fatalf("%s from %s: %x came back as %x", far, c.conn.LocalAddr(), frame, got)
				}
				until(t, "relayed by the batch", func() bool { return s.Stats().Flows == 2 })
			}
		}
	}
	if got := s.Stats(); got.Flows != 2 || got.Allocations.Moved != 3 {
		t.Errorf("%+v", got)
	}
	for _, a := range s.Allocations() {
		s.End(a.ID)
	}
	if got := s.Stats(); got.Flows != 0 || got.OffloadedUp.Packets < 150 || got.OffloadedUp.Packets+got.Up.Packets != 160 || got.OffloadedDown.Packets+got.Down.Packets != 160 {
		t.Errorf("%+v", got)
	}
}
