package turn_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
)

// TestAnswers: what requests are answered with that are not as they should be.
func TestAnswers(t *testing.T) {
	s := serve(t, nil)
	fresh := func(user string) *client {
		c := dial(t, s.udp, user)
		c.ask(stun.MethodAllocate) // answered 400, and the nonce is known
		return c
	}
	channel := attr(stun.AttrChannelNumber, 0x40, 0, 0, 0)
	to := peer(netip.MustParseAddrPort("127.0.0.1:5000"))
	for _, tt := range []struct {
		title   string
		user    string
		method  stun.Method
		setters []stun.Setter
		want    int
	}{
		{"no transport", name, stun.MethodAllocate, nil, 400},
		{"strange transport", name, stun.MethodAllocate, []stun.Setter{attr(stun.AttrRequestedTransport, 132, 0, 0, 0)}, 442},
		{"TCP over UDP", name, stun.MethodAllocate, []stun.Setter{wantTCP}, 400},
		{"strange family", name, stun.MethodAllocate, []stun.Setter{wantUDP, attr(stun.AttrRequestedAddressFamily, 9, 0, 0, 0)}, 440},
		{"token and even port", name, stun.MethodAllocate, []stun.Setter{wantUDP, attr(stun.AttrEvenPort, 0x80), attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}, 400},
		{"unknown token", name, stun.MethodAllocate, []stun.Setter{wantUDP, attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}, 508},
		{"unknown attribute", name, stun.MethodAllocate, []stun.Setter{wantUDP, attr(0x7FF0, 1)}, 420},
		{"unknown user", "mallory", stun.MethodAllocate, []stun.Setter{wantUDP}, 401},
		{"no allocation", name, stun.MethodRefresh, nil, 437},
		{"no allocation", name, stun.MethodCreatePermission, []stun.Setter{to}, 437},
		{"no allocation", name, stun.MethodChannelBind, []stun.Setter{channel, to}, 437},
		{"no allocation", name, stun.MethodConnect, []stun.Setter{to}, 437},
		{"bound over UDP", name, stun.MethodConnectionBind, []stun.Setter{attr(stun.AttrConnectionID, 1, 2, 3, 4)}, 400},
	} {
		if _, code := fresh(tt.user).ask(tt.method, tt.setters...); code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.title, code, tt.want)
		}
	}

	c := fresh(name)
	c.allocate()
	if _, code := c.ask(stun.MethodAllocate, wantUDP); code != 437 {
		t.Errorf("a second allocation: %d", code)
	}
	if _, code := c.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x30, 0, 0, 0), to); code != 400 {
		t.Errorf("a channel out of range: %d", code)
	}
	if _, code := c.ask(stun.MethodCreatePermission, peer(netip.MustParseAddrPort("[::1]:5"))); code != 443 {
		t.Errorf("a peer of the other family: %d", code)
	}
	c.name, c.key = "bob", stun.NewLongTermIntegrity("bob", realm, password)
	if _, code := c.ask(stun.MethodRefresh); code != 441 {
		t.Errorf("somebody else's allocation: %d", code)
	}
}

// TestNonces: a stale nonce is answered with another (RFC 8489 §9.2.4), whoever comes with it.
func TestNonces(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.udp, name)
	c.nonce, c.realm = stun.NewNonce("obMatJos2AAABmade-up"), stun.NewRealm(realm)
	m := build(t, stun.MethodAllocate, wantUDP, stun.NewUsername(c.name), c.realm, c.nonce, c.key)
	if code := codeOf(c.raw(m, patience)); code != 438 {
		t.Errorf("a made-up nonce: %d", code)
	}
	c.allocate() // ask learns the new one
	c.key = stun.NewLongTermIntegrity(name, realm, "wrong")
	if _, code := c.ask(stun.MethodRefresh); code != 401 {
		t.Errorf("a wrong password: %d", code)
	}
	got := s.Stats().Auth
	if got.StaleNonce != 2 || got.WrongPassword != 1 {
		t.Errorf("%+v", got)
	}
}

// TestStrongerIntegrity [C14]: RFC 8489's MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM and USERHASH.
func TestStrongerIntegrity(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.udp, name)
	challenge := c.raw(build(t, stun.MethodAllocate, wantUDP), patience)
	if err := challenge.Parse(&c.nonce, &c.realm); err != nil {
		t.Fatal(err)
	}
	algorithms, err := challenge.Get(0x8002)
	if err != nil {
		t.Fatal(err)
	}
	hash := auth.UserHash(name, realm)
	request := func(algorithms []byte, one byte) *stun.Message {
		m := build(t, stun.MethodAllocate, wantUDP, attr(0x1E, hash[:]...), c.realm, c.nonce, attr(0x8002, algorithms...), attr(0x1D, 0, one, 0, 0))
		m.Raw = auth.NewKey(name, realm, password, auth.Algorithm(one)).Seal(m.Raw, auth.SHA256Integrity)
		return m
	}
	if code := codeOf(c.raw(request(algorithms[4:], 1), patience)); code != 400 {
		t.Errorf("who was told of one algorithm only: %d", code)
	}
	// Bidding down (RFC 8489 §9.2.4): a part of what the server has said, one that it has not, and a nonce whose features are other ones.
	nothing := func(m *stun.Message) *stun.Message {
		m.Raw = auth.NewKey(name, realm, password, auth.MD5).Seal(m.Raw, auth.SHA256Integrity)
		return m
	}
	long := stun.NewUsername(name)
	only := attr(0x1D, 0, 1, 0, 0)
	bare := stun.NewNonce(strings.Replace(c.nonce.String(), "obMatJos2AAAB", "obMatJos2AAAA", 1))
	if bare.String() == c.nonce.String() {
		t.Fatalf("the nonce %s carries no features", c.nonce)
	}
	for title, tt := range map[string]struct {
		m    *stun.Message
		want int
	}{
		"one without the list":    {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, c.nonce, only)), 400},
		"the list without one":    {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, c.nonce, attr(0x8002, algorithms...))), 400},
		"the list turned around":  {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, c.nonce, only, attr(0x8002, append(append([]byte{}, algorithms[4:]...), algorithms[:4]...)...))), 400},
		"one that is not offered": {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, c.nonce, attr(0x1D, 0, 3, 0, 0), attr(0x8002, algorithms...))), 400},
		"a nonce of no features":  {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, bare)), 438},
		"a key by the other one":  {nothing(build(t, stun.MethodAllocate, wantUDP, long, c.realm, c.nonce, attr(0x1D, 0, 2, 0, 0), attr(0x8002, algorithms...))), 401},
		"a hash of nobody's name": {nothing(build(t, stun.MethodAllocate, wantUDP, attr(0x1E, make([]byte, 32)...), c.realm, c.nonce)), 401},
		"half a hash":             {nothing(build(t, stun.MethodAllocate, wantUDP, attr(0x1E, hash[:16]...), c.realm, c.nonce)), 401},
	} {
		if code := codeOf(c.raw(tt.m, patience)); code != tt.want {
			t.Errorf("%s: %d, want %d", title, code, tt.want)
		}
	}
	answer := c.raw(request(algorithms, 2), patience)
	if code := codeOf(answer); code != 0 {
		t.Fatalf("code %d", code)
	}
	sum, err := answer.Get(0x1C)
	if err != nil || len(sum) != sha256.Size {
		t.Fatalf("the answer's integrity: %x, %v", sum, err)
	}
	key := sha256.Sum256([]byte(name + ":" + realm + ":" + password))
	mac := hmac.New(sha256.New, key[:])
	mac.Write(answer.Raw[:len(answer.Raw)-4-len(sum)])
	if !hmac.Equal(mac.Sum(nil), sum) {
		t.Error("the answer's integrity is wrong")
	}
}

// TestEvenPort [C14]: EVEN-PORT, and the port beside it by RESERVATION-TOKEN (RFC 8656 §7.2).
func TestEvenPort(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.udp, name)
	m, code := c.ask(stun.MethodAllocate, wantUDP, attr(stun.AttrEvenPort, 0x80))
	if code != 0 {
		t.Fatal(code)
	}
	var x stun.XORMappedAddress
	if err := x.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil || x.Port%2 != 0 {
		t.Fatalf("%v, %v", x, err)
	}
	reservation, err := m.Get(stun.AttrReservationToken)
	if err != nil {
		t.Fatal(err)
	}
	if got := dial(t, s.udp, name).allocate(attr(stun.AttrReservationToken, reservation...)); int(got.Port()) != x.Port+1 {
		t.Errorf("reserved %d beside %d", got.Port(), x.Port)
	}
}

// TestShortFramesOverStreams: no payload is too short, and none waits for the next one.
func TestShortFramesOverStreams(t *testing.T) {
	s := serve(t, nil)
	conn, err := net.Dial("tcp", s.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := dial(t, s.udp, name)
	c.conn = conn
	c.allocate()
	if _, code := c.ask(stun.MethodChannelBind, attr(stun.AttrChannelNumber, 0x40, 0, 0, 0), peer(echo(t, loopback4))); code != 0 {
		t.Fatal(code)
	}
	for size := 1; size < 10; size++ {
		out := binary.BigEndian.AppendUint16([]byte{0x40, 0}, uint16(size))
		out = append(out, bytes.Repeat([]byte{byte(size)}, size)...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
		// In two pieces: a stream has no frames of its own.
		for _, piece := range [][]byte{out[:3], out[3:]} {
			if _, err := conn.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		in := make([]byte, len(out))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, in); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(in[:4+size], out[:4+size]) {
			t.Errorf("%x came back as %x", out, in)
		}
	}
}

// TestCloseWithEverythingOpen: Close ends allocations of every kind, and the sockets are free again.
func TestCloseWithEverythingOpen(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.udp, name)
	relayed := c.allocate()
	stream, err := net.Dial("tcp", s.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	d := dial(t, s.udp, name)
	d.conn = stream
	d.ask(stun.MethodAllocate, wantTCP)
	if n := len(s.Allocations()); n != 2 {
		t.Fatalf("%d allocations", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Allocations.UDP+got.Allocations.TCP+got.Connections != 0 || got.Allocations.Deleted != 2 {
		t.Errorf("%+v", got)
	}
	for _, at := range []netip.AddrPort{relayed, s.udp} {
		again, err := turn.Listen(at)
		if err != nil {
			t.Errorf("the socket is still open: %v", err)
			continue
		}
		_ = again.Close()
	}
}
