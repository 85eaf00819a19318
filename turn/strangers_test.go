package turn_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/policy"
)

// wire is a UDP port in memory: what is fed in has been dealt with when feed returns, but for what the server does by itself.
type wire struct {
	local netip.AddrPort
	in    chan datagram
	idle  chan struct{}
	done  chan struct{}
	out   func(b []byte, to netip.AddrPort)
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

func newWire(out func(b []byte, to netip.AddrPort)) *wire {
	return &wire{
		local: netip.MustParseAddrPort("192.0.2.1:3478"), in: make(chan datagram), idle: make(chan struct{}, 1), done: make(chan struct{}), out: out,
	}
}

func (w *wire) Read(b []byte) (int, udp.Path, error) {
	select {
	case w.idle <- struct{}{}:
	default:
	}
	select {
	case d := <-w.in:
		return copy(b, d.b), udp.Path{Remote: d.from, Local: w.local.Addr()}, nil
	case <-w.done:
		return 0, udp.Path{}, net.ErrClosed
	}
}

func (w *wire) Write(b []byte, to udp.Path) error {
	w.out(b, to.Remote)
	return nil
}

func (w *wire) LocalAddr() netip.AddrPort { return w.local }

func (w *wire) Close() error {
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	return nil
}

// feed returns when the server wants the next datagram.
func (w *wire) feed(from netip.AddrPort, b []byte) {
	<-w.idle
	w.in <- datagram{b, from}
	<-w.idle
	w.idle <- struct{}{}
}

// serveWire starts a server on a port in memory. Strangers are not limited.
func serveWire(t testing.TB, w *wire, edit func(*turn.Config)) *turn.Server {
	t.Helper()
	cfg := turn.Config{
		Auth: authority(t), Peers: policy.NewPeers(loopback, nil), Relay4: loopback4, Relay6: loopback6, Sockets: []turn.Socket{w},
		Limits: turn.Limits{SourceRequests: -1},
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := turn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// headers are what IPv4 and UDP put before a datagram.
const headers = 28

// TestNoAmplification [A4]: what strangers get for each kind of what they may send, in bytes on the wire. The only answer that is much
// longer than its request is the one that RFC 8489 §9.2.4 demands, with nothing in it that need not be.
func TestNoAmplification(t *testing.T) {
	var answers [][]byte
	w := newWire(func(b []byte, _ netip.AddrPort) { answers = append(answers, bytes.Clone(b)) })
	s := serveWire(t, w, nil)
	ask := func(method stun.Method, setters ...stun.Setter) []byte { return build(t, method, setters...).Raw }
	class := func(b []byte, c stun.MessageClass) []byte {
		m := &stun.Message{Raw: b}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		m.SetType(stun.NewType(m.Type.Method, c))
		return m.Raw
	}
	from4, from6 := netip.MustParseAddrPort("198.51.100.1:1000"), netip.MustParseAddrPort("[2001:db8::1]:1000")
	w.feed(from4, ask(stun.MethodAllocate))
	var nonce stun.Nonce
	var theirs stun.Realm
	first := &stun.Message{Raw: answers[0]}
	if err := first.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := first.Parse(&nonce, &theirs); err != nil {
		t.Fatal(err)
	}
	if len(nonce) > 32 {
		t.Errorf("a nonce of %d bytes", len(nonce))
	}
	wrong := stun.NewLongTermIntegrity(name, realm, "wrong")
	to := peer(netip.MustParseAddrPort("8.8.8.8:53"))
	kinds := []struct {
		title string
		b     []byte
		most  float64 // bytes out for a byte in, on the wire
	}{
		{"Binding", ask(stun.MethodBinding), 1.3},
		{"Binding with FINGERPRINT", ask(stun.MethodBinding, stun.Fingerprint), 1.3},
		{"Binding with an unknown attribute", ask(stun.MethodBinding, attr(0x7FF0)), 1.3},
		{"Binding with many of them", ask(stun.MethodBinding, attr(0x7FF0), attr(0x7FF1), attr(0x7FF2), attr(0x7FF3), attr(0x7FF4)), 1.2},
		{"Allocate", ask(stun.MethodAllocate, wantUDP), 2.2},
		{"Allocate without anything", ask(stun.MethodAllocate), 2.5},
		{"Refresh", ask(stun.MethodRefresh), 2.5},
		{"CreatePermission", ask(stun.MethodCreatePermission, to), 2},
		{"ChannelBind", ask(stun.MethodChannelBind, to, channelNumber(0x4000)), 1.8},
		{"Connect", ask(stun.MethodConnect, to), 2},
		{"ConnectionBind", ask(stun.MethodConnectionBind, attr(stun.AttrConnectionID, 1, 2, 3, 4)), 2.2},
		{"a wrong password", ask(stun.MethodAllocate, wantUDP, stun.NewUsername(name), theirs, nonce, wrong), 1},
		{"an unknown user", ask(stun.MethodAllocate, wantUDP, stun.NewUsername("mallory"), theirs, nonce, wrong), 1},
		{"expired credentials", ask(stun.MethodAllocate, wantUDP, stun.NewUsername("1:x"), theirs, nonce, wrong), 1},
		{"a made-up nonce", ask(stun.MethodAllocate, wantUDP, stun.NewUsername(name), theirs, stun.NewNonce("x"), wrong), 1.2},
		{"no nonce", ask(stun.MethodAllocate, wantUDP, stun.NewUsername(name), theirs, wrong), 1},
		{"an integrity and nothing else", ask(stun.MethodAllocate, wrong), 1},
		{"an unknown method", ask(0x0FE), 0},
		{"a Binding indication", class(ask(stun.MethodBinding), stun.ClassIndication), 0},
		{"a Send indication", class(ask(stun.MethodSend, to, attr(stun.AttrData, 1, 2, 3)), stun.ClassIndication), 0},
		{"a Data indication", class(ask(stun.MethodData, to, attr(stun.AttrData, 1, 2, 3)), stun.ClassIndication), 0},
		{"a success response", class(ask(stun.MethodAllocate), stun.ClassSuccessResponse), 0},
		{"an error response", class(ask(stun.MethodBinding), stun.ClassErrorResponse), 0},
		{"ChannelData", []byte{0x40, 0, 0, 4, 1, 2, 3, 4}, 0},
		{"half a message", ask(stun.MethodAllocate, wantUDP)[:24], 0},
		{"no message", []byte("\x16\xfe\xfdhello"), 0},
		{"nothing", nil, 0},
	}
	for _, from := range []netip.AddrPort{from4, from6} {
		more := 0.0
		if from.Addr().Is6() { // an address is 12 bytes longer
			more = 0.3
		}
		for _, k := range kinds {
			answers = nil
			w.feed(from, k.b)
			out := 0
			for _, a := range answers {
				out += headers + len(a)
				m := &stun.Message{Raw: a}
				if err := m.Decode(); err != nil {
					t.Fatal(err)
				}
				for _, x := range m.Attributes {
					switch x.Type {
					case stun.AttrErrorCode, stun.AttrRealm, stun.AttrNonce, 0x8002, stun.AttrXORMappedAddress, stun.AttrUnknownAttributes, stun.AttrFingerprint:
					default:
						t.Errorf("%s: the answer has a %s, which it need not have", k.title, x.Type)
					}
				}
			}
			ratio := float64(out) / float64(headers+len(k.b))
			t.Logf("%-34s %3d B in %3d B out, %.2f", k.title, headers+len(k.b), out, ratio)
			if len(answers) > 1 || ratio > k.most+min(k.most, more) || (ratio == 0) != (k.most == 0) {
				t.Errorf("%s: %d answers, %d bytes for %d", k.title, len(answers), out, headers+len(k.b))
			}
		}
	}
	if got := s.Stats(); got.Allocations.Created != 0 || got.Auth.Authenticated != 0 {
		t.Errorf("%+v", got)
	}
}

// TestStrangersAreLimited: each kind of what strangers are answered counts against the source's budget, and all sources share one.
func TestStrangersAreLimited(t *testing.T) {
	answers := 0
	w := newWire(func([]byte, netip.AddrPort) { answers++ })
	s := serveWire(t, w, func(c *turn.Config) { c.Limits = turn.Limits{SourceRequests: 1, Requests: 30} })
	for i := range 40 { // from a bucket of five each
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i / 10)}), 1000)
		for _, method := range []stun.Method{stun.MethodBinding, stun.MethodAllocate, stun.MethodRefresh} {
			w.feed(from, build(t, method).Raw)
		}
	}
	if answers < 20 || answers > 25 || s.Stats().Dropped.RateLimited != uint64(120-answers) {
		t.Errorf("%d answers to 120 requests of four sources, %+v", answers, s.Stats().Dropped)
	}
	for i := range 100 {
		w.feed(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), 1}), 1000), build(t, stun.MethodBinding).Raw)
	}
	if answers > 35 {
		t.Errorf("%d answers to all", answers)
	}
}
