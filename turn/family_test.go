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
)

const (
	attrAddressErrorCode stun.AttrType = 0x8001
	attrMobilityTicket   stun.AttrType = 0x8030
	attrAdditional       stun.AttrType = 0x8000
)

var bothFamilies = attr(attrAdditional, 2, 0, 0, 0)

// relayedOf returns all the addresses that an answer tells.
func relayedOf(t *testing.T, m *stun.Message) (out []netip.AddrPort) {
	t.Helper()
	for _, a := range m.Attributes {
		if a.Type != stun.AttrXORRelayedAddress {
			continue
		}
		one := &stun.Message{TransactionID: m.TransactionID}
		one.WriteHeader()
		one.Add(stun.AttrXORRelayedAddress, a.Value)
		var x stun.XORMappedAddress
		if err := x.GetFromAs(one, stun.AttrXORRelayedAddress); err != nil {
			t.Fatal(err)
		}
		ip, _ := netip.AddrFromSlice(x.IP)
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(x.Port)))
	}
	return out
}

// read returns the next frame that is no answer.
func (c *client) read() []byte {
	c.t.Helper()
	b := make([]byte, 2048)
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := c.conn.Read(b)
	if err != nil {
		c.t.Fatalf("nothing comes: %v", err)
	}
	return b[:n]
}

// indicate sends a Send indication.
func (c *client) indicate(to netip.AddrPort, data []byte, more ...stun.Setter) {
	c.t.Helper()
	m := build(c.t, stun.MethodSend, append(more, peer(to), attr(stun.AttrData, data...))...)
	m.SetType(stun.NewType(stun.MethodSend, stun.ClassIndication))
	if _, err := c.conn.Write(m.Raw); err != nil {
		c.t.Fatal(err)
	}
}

// bounce sends to an echo by channel and by indication, and compares what comes back.
func (c *client) bounce(number uint16, far netip.AddrPort) {
	c.t.Helper()
	payload := []byte("12345678")
	frame := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, number), uint16(len(payload)))
	frame = append(frame, payload...)
	if _, err := c.conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
	if got := c.read(); !bytes.Equal(got, frame) {
		c.t.Fatalf("%s: %x came back as %x", far, frame, got)
	}
	c.indicate(far, payload)
	if got := c.read(); !bytes.Equal(got, frame) {
		c.t.Fatalf("%s: an indication came back as %x", far, got)
	}
}

func channelNumber(n uint16) stun.Setter {
	return attr(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0)
}

// clientOver connects a client that writes what it is told to.
func clientOver(t *testing.T, s *service, transport turn.Transport) *client {
	t.Helper()
	c := dial(t, s.udp, name)
	if transport == turn.TCP {
		conn, err := net.Dial("tcp", s.tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c.conn = conn
	}
	return c
}

// TestBothFamilies [C14]: one allocation with a relayed address of each family (RFC 8656 §7.2), and everything that is done with it.
func TestBothFamilies(t *testing.T) {
	for _, transport := range []turn.Transport{turn.UDP, turn.TCP} {
		t.Run(string(transport), func(t *testing.T) {
			s := serve(t, nil)
			c := clientOver(t, s, transport)
			c.ask(stun.MethodAllocate) // learns the nonce
			request := build(t, stun.MethodAllocate, wantUDP, bothFamilies, stun.NewUsername(c.name), c.realm, c.nonce, c.key)
			var at []netip.AddrPort
			for range 2 { // a repeated request makes no more
				m := c.raw(request, patience)
				if m == nil || codeOf(m) != 0 || c.key.Check(m) != nil {
					t.Fatalf("%v", m)
				}
				got := relayedOf(t, m)
				if at != nil && cmp.Diff(at, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) != "" {
					t.Errorf("%v, then %v", at, got)
				}
				at = got
				var mapped stun.XORMappedAddress
				if err := mapped.GetFrom(m); err != nil || mapped.String() != c.conn.LocalAddr().String() {
					t.Errorf("the client is told that it is %s: %v", mapped, err)
				}
			}
			if len(at) != 2 || !at[0].Addr().Is4() || !at[1].Addr().Is6() || len(s.Allocations()) != 2 {
				t.Fatalf("%v, %+v", at, s.Allocations())
			}
			far4, far6 := echo(t, loopback4), echo(t, loopback6)
			if _, code := c.ask(stun.MethodCreatePermission, peer(far4), peer(far6)); code != 0 {
				t.Errorf("permissions of both families: %d", code)
			}
			c.indicate(far6, []byte("ping"))
			var got stun.Message
			if got.Raw = c.read(); got.Decode() != nil || got.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
				t.Errorf("%v", got)
			}
			for n, far := range map[uint16]netip.AddrPort{0x4001: far4, 0x4002: far6} {
				if _, code := c.ask(stun.MethodChannelBind, channelNumber(n), peer(far)); code != 0 {
					t.Fatalf("a channel to %s: %d", far, code)
				}
				c.bounce(n, far)
			}
			m, code := c.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0x07, 0x08)) // 1800 s
			if v, err := m.Get(stun.AttrLifetime); code != 0 || err != nil || !bytes.Equal(v, []byte{0, 0, 7, 8}) {
				t.Errorf("refresh: %d %x %v", code, v, err)
			}
			for _, a := range s.Allocations() {
				if left := time.Until(a.Expires); left < 1700*time.Second {
					t.Errorf("%s is left for %s", a.Relayed, left)
				}
			}
			// One family ends, the other goes on, whichever it is.
			if _, code := c.ask(stun.MethodRefresh, attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0), attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
				t.Errorf("the end of one family: %d", code)
			}
			if left := s.Allocations(); len(left) != 1 || left[0].Relayed != at[1] {
				t.Fatalf("%+v", left)
			}
			c.bounce(0x4002, far6)
			if _, code := c.ask(stun.MethodRefresh, attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0)); code != 443 {
				t.Errorf("a refresh of the family that has ended: %d", code)
			}
			if transport == turn.TCP { // with the connection ends what it has
				_ = c.conn.Close()
			} else if _, code := c.ask(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
				t.Errorf("the end: %d", code)
			}
			for range 500 {
				if len(s.Allocations()) == 0 {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			if got := s.Stats(); len(s.Allocations()) != 0 || got.Allocations.Created != got.Allocations.Deleted {
				t.Errorf("%+v", got.Allocations)
			}
		})
	}
}

// TestOneOfBothFamilies: who wants both gets the one that there is, and is told why (RFC 8656 §18.12).
func TestOneOfBothFamilies(t *testing.T) {
	for _, tt := range []struct {
		title string
		edit  func(*turn.Config)
		want  []byte // family, class, number
		is6   bool
	}{
		{"no IPv6", func(c *turn.Config) { c.Relay6 = netip.Addr{} }, []byte{2, 0, 4, 40}, false},
		{"no IPv4", func(c *turn.Config) { c.Relay4 = netip.Addr{} }, []byte{1, 0, 4, 40}, true},
		{"no room", func(c *turn.Config) { c.Limits.UserAllocations = 1 }, []byte{2, 0, 5, 8}, false},
	} {
		s := serve(t, tt.edit)
		c := dial(t, s.udp, name)
		m, code := c.ask(stun.MethodAllocate, wantUDP, bothFamilies)
		at := relayedOf(t, m)
		why, err := m.Get(attrAddressErrorCode)
		if code != 0 || len(at) != 1 || at[0].Addr().Is6() != tt.is6 || err != nil || !bytes.HasPrefix(why, tt.want) {
			t.Errorf("%s: %d %v %x %v", tt.title, code, at, why, err)
		}
	}
	s := serve(t, nil)
	for _, setters := range [][]stun.Setter{
		{bothFamilies, attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0)},
		{bothFamilies, attr(stun.AttrEvenPort, 0x80)},
		{bothFamilies, attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)},
		{attr(attrAdditional, 1, 0, 0, 0)},
	} {
		if _, code := dial(t, s.udp, name).ask(stun.MethodAllocate, append(setters, wantUDP)...); code != 400 {
			t.Errorf("%v: %d", setters, code)
		}
	}
}

// TestMobility [C14]: an allocation goes on when its client comes from elsewhere with the ticket (RFC 8016).
func TestMobility(t *testing.T) {
	s := serve(t, nil)
	far := echo(t, loopback4)
	first := dial(t, s.udp, name)
	m, code := first.ask(stun.MethodAllocate, wantUDP, attr(attrMobilityTicket), bothFamilies)
	ticket, err := m.Get(attrMobilityTicket)
	at := relayedOf(t, m)
	if code != 0 || err != nil || len(ticket) < 16 || len(at) != 2 {
		t.Fatalf("%d, %v, %v", code, at, err)
	}
	if _, code := first.ask(stun.MethodChannelBind, channelNumber(0x4001), peer(far)); code != 0 {
		t.Fatal(code)
	}
	first.bounce(0x4001, far)

	elsewhere := func(c *client, ticket []byte, want int) []byte {
		t.Helper()
		m, code := c.ask(stun.MethodRefresh, attr(attrMobilityTicket, ticket...))
		if code != want {
			t.Fatalf("from elsewhere: %d, want %d", code, want)
		}
		next, _ := m.Get(attrMobilityTicket)
		return next
	}
	elsewhere(dial(t, s.udp, "bob"), ticket, 441)
	elsewhere(dial(t, s.udp, name), []byte("made up"), 437)
	elsewhere(dial(t, s.udp, name), nil, 437)
	// Who has announced himself is spoken to where he was until he sends data from elsewhere, and may do so from both.
	from, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, 0)), net.UDPAddrFromAddrPort(at[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	speak := func(c *client) {
		t.Helper()
		if _, err := from.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if got := c.read(); !bytes.HasSuffix(got, []byte("ping")) {
			t.Errorf("%x", got)
		}
	}
	announced := dial(t, s.udp6, name)
	ticket = elsewhere(announced, ticket, 0)
	speak(first)
	first.bounce(0x4001, far)
	if _, code := announced.ask(stun.MethodCreatePermission, peer(far)); code != 0 {
		t.Errorf("a request from where the client will be: %d", code)
	}
	speak(first)
	announced.indicate(far, []byte("here"))
	if got := announced.read(); !bytes.Equal(got, append([]byte{0x40, 1, 0, 4}, "here"...)) {
		t.Errorf("%x", got)
	}
	speak(announced)
	// To another port, to the other family, to TCP and back.
	for _, c := range []*client{dial(t, s.udp, name), dial(t, s.udp6, name), clientOver(t, s, turn.TCP), dial(t, s.udp, name)} {
		ticket = elsewhere(c, ticket, 0)
		if len(ticket) < 16 {
			t.Fatalf("no new ticket: %x", ticket)
		}
		c.bounce(0x4001, far)
		for _, a := range s.Allocations() {
			if !a.Mobile || a.Client.String() != c.conn.LocalAddr().String() {
				t.Errorf("%+v is not at %s", a, c.conn.LocalAddr())
			}
		}
	}
	// One family ends; the ticket is as good for the other.
	last := dial(t, s.udp6, name)
	ticket = elsewhere(last, ticket, 0)
	if _, code := last.ask(stun.MethodRefresh, attr(stun.AttrRequestedAddressFamily, 2, 0, 0, 0), attr(stun.AttrLifetime, 0, 0, 0, 0)); code != 0 {
		t.Fatal(code)
	}
	last = dial(t, s.udp, name)
	elsewhere(last, ticket, 0)
	last.bounce(0x4001, far)
	// Where the client has been nobody holds anything.
	if _, code := first.ask(stun.MethodCreatePermission, peer(far)); code != 437 {
		t.Errorf("where the client was: %d", code)
	}
	if got := s.Stats().Allocations; got.Moved != 6 || got.UDP != 1 || got.Created != 2 {
		t.Errorf("%+v", got)
	}
	if _, code := dial(t, s.udp, name).ask(stun.MethodAllocate, wantUDP, attr(attrMobilityTicket, 1, 2)); code != 400 {
		t.Errorf("a ticket in an Allocate request: %d", code)
	}
	if _, code := clientOver(t, s, turn.TCP).ask(stun.MethodAllocate, wantTCP, attr(attrMobilityTicket)); code != 405 {
		t.Errorf("a TCP allocation that moves: %d", code)
	}
}

// TestReservationIsHeld: the port beside an even one is nobody else's until it is asked for (RFC 8656 §7.2), and counts.
func TestReservationIsHeld(t *testing.T) {
	s := serve(t, func(c *turn.Config) { c.Limits.UserAllocations = 2 })
	c := dial(t, s.udp, name)
	m, code := c.ask(stun.MethodAllocate, wantUDP, attr(stun.AttrEvenPort, 0x80))
	token, err := m.Get(stun.AttrReservationToken)
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	at := relayedOf(t, m)[0]
	beside := netip.AddrPortFrom(at.Addr(), at.Port()+1)
	if x, err := turn.Listen(beside); err == nil {
		_ = x.Close()
		t.Errorf("%s is free", beside)
	}
	if _, code := dial(t, s.udp, name).ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("the reservation does not count: %d", code)
	}
	if got := dial(t, s.udp, name).allocate(attr(stun.AttrReservationToken, token...)); got != beside {
		t.Errorf("%s beside %s", got, at)
	}
	if _, code := dial(t, s.udp, "bob").ask(stun.MethodAllocate, wantUDP, attr(stun.AttrReservationToken, token...)); code != 508 {
		t.Errorf("a token that has been used: %d", code)
	}
}

// TestEnd [A13]: the operator ends any kind of allocation at once.
func TestEnd(t *testing.T) {
	s := serve(t, nil)
	for _, tt := range []struct {
		title   string
		over    turn.Transport
		setters []stun.Setter
		want    int
	}{
		{"UDP", turn.UDP, []stun.Setter{wantUDP}, 1},
		{"both families", turn.UDP, []stun.Setter{wantUDP, bothFamilies}, 2},
		{"mobile", turn.UDP, []stun.Setter{wantUDP, attr(attrMobilityTicket)}, 1},
		{"over TCP", turn.TCP, []stun.Setter{wantUDP}, 1},
		{"of connections", turn.TCP, []stun.Setter{wantTCP}, 1},
	} {
		c := clientOver(t, s, tt.over)
		if _, code := c.ask(stun.MethodAllocate, tt.setters...); code != 0 {
			t.Fatalf("%s: %d", tt.title, code)
		}
		all := s.Allocations()
		if len(all) != tt.want {
			t.Fatalf("%s: %+v", tt.title, all)
		}
		for _, a := range all {
			if !s.End(a.ID) || s.End(a.ID) {
				t.Errorf("%s: %s has not ended once", tt.title, a.ID)
			}
			if again, err := net.Listen("tcp", a.Relayed.String()); a.TCP && err != nil {
				t.Errorf("%s: the address is still open: %v", tt.title, err)
			} else if err == nil {
				_ = again.Close()
			}
		}
		if _, code := c.ask(stun.MethodRefresh); code != 437 {
			t.Errorf("%s: a refresh of what has ended: %d", tt.title, code)
		}
		c.allocate() // its client may make another
		for _, a := range s.Allocations() {
			s.End(a.ID)
		}
	}
	if got := s.Stats().Allocations; got.Ended != 11 || got.Deleted != got.Created || s.End("a_nothing") {
		t.Errorf("%+v", got)
	}
}

// TestDeafClient: somebody who reads nothing of what he is answered holds up nobody else, though all moving clients share a socket.
func TestDeafClient(t *testing.T) {
	s := serve(t, nil)
	deaf := clientOver(t, s, turn.TCP)
	if _, code := deaf.ask(stun.MethodAllocate, wantUDP, attr(attrMobilityTicket)); code != 0 {
		t.Fatal(code)
	}
	_ = deaf.conn.(*net.TCPConn).SetReadBuffer(4096)
	far := echo(t, loopback4)
	if _, code := deaf.ask(stun.MethodChannelBind, channelNumber(0x4001), peer(far)); code != 0 {
		t.Fatal(code)
	}
	// What the peer sends back fills the way to the client, until nothing more goes; then it asks and asks.
	frame := append([]byte{0x40, 1, 0x05, 0x00}, make([]byte, 1280)...)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	full := func() bool {
		was := s.Stats().Down.Bytes
		for range 50 {
			for range 20 {
				if _, err := deaf.conn.Write(frame); err != nil {
					t.Fatal(err)
				}
			}
			<-tick.C
		}
		return s.Stats().Down.Bytes-was < 2*uint64(len(frame))
	}
	for n := 0; !full(); n++ {
		if n == 60 {
			t.Skip("the way to the client does not fill")
		}
	}
	for range 40 {
		if _, err := deaf.conn.Write(build(t, stun.MethodRefresh, stun.NewUsername(deaf.name), deaf.realm, deaf.nonce, deaf.key).Raw); err != nil {
			break
		}
	}
	other := dial(t, s.udp, "bob")
	other.ask(stun.MethodAllocate) // learns the nonce
	began := time.Now()
	if _, code := other.ask(stun.MethodAllocate, wantUDP, attr(attrMobilityTicket)); code != 0 {
		t.Fatal(code)
	}
	for range 10 {
		if _, code := other.ask(stun.MethodRefresh); code != 0 {
			t.Fatal(code)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("another client waits for %s", took)
	}
}
