package turn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
)

// kinds are well-formed messages of every kind, without credentials.
func kinds(t testing.TB) map[string][]byte {
	to4, to6 := peer(netip.MustParseAddrPort("127.0.0.1:9")), peer(netip.MustParseAddrPort("[::1]:9"))
	out := map[string][]byte{
		"Allocate":         build(t, stun.MethodAllocate, wantUDP, bothFamilies, attr(stun.AttrEvenPort, 0x80), attr(stun.AttrLifetime, 0, 0, 1, 0), attr(attrMobilityTicket)).Raw,
		"Refresh":          build(t, stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 2, 0), attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0), attr(attrMobilityTicket, 1, 2, 3, 4)).Raw,
		"CreatePermission": build(t, stun.MethodCreatePermission, to4, to6).Raw,
		"ChannelBind":      build(t, stun.MethodChannelBind, channelNumber(0x4001), to4).Raw,
		"Connect":          build(t, stun.MethodConnect, to4).Raw,
		"ConnectionBind":   build(t, stun.MethodConnectionBind, attr(stun.AttrConnectionID, 1, 2, 3, 4)).Raw,
		"Binding":          build(t, stun.MethodBinding, attr(stun.AttrPriority, 1, 2, 3, 4), stun.Fingerprint).Raw,
		"ChannelData":      {0x40, 1, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8},
	}
	for name, m := range map[string]*stun.Message{
		"Send":     build(t, stun.MethodSend, to4, attr(stun.AttrData, 1, 2, 3, 4, 5), attr(stun.AttrDontFragment)),
		"response": build(t, stun.MethodAllocate, attr(stun.AttrLifetime, 0, 0, 1, 0)),
	} {
		class := stun.ClassIndication
		if name == "response" {
			class = stun.ClassSuccessResponse
		}
		m.SetType(stun.NewType(m.Type.Method, class))
		out[name] = m.Raw
	}
	return out
}

// spoil makes a message one that nobody would write: bits turned, bytes cut off, put in or said twice, lengths that lie.
func spoil(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + r.IntN(3) {
		if len(b) == 0 {
			return b
		}
		at := r.IntN(len(b))
		switch r.IntN(7) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.Uint32())
		case 2:
			b = b[:at]
		case 3:
			b = append(b, make([]byte, r.IntN(40))...)
		case 4:
			b = slices.Insert(b, at, bytes.Clone(b[at:min(len(b), at+r.IntN(12))])...)
		case 5: // an attribute's length, or the message's
			if len(b) >= 24 {
				binary.BigEndian.PutUint16(b[[]int{2, 22}[r.IntN(2)]:], uint16(r.IntN(80)))
			}
		case 6: // as long as it says, so that the rest is looked at
			if len(b) >= 20 {
				binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20))
			}
		}
	}
	return b
}

// inMemory is a server on a port in memory, with a client that has credentials and an allocation.
type inMemory struct {
	*turn.Server
	wire   *wire
	client netip.AddrPort
	nonce  stun.Nonce
	realm  stun.Realm
	key    auth.Key

	mu      sync.Mutex // the server answers by itself, too
	answers [][]byte   // the last few
}

func newInMemory(t testing.TB) *inMemory {
	t.Helper()
	m := &inMemory{client: netip.MustParseAddrPort("198.51.100.1:1000"), key: auth.NewKey(name, realm, password, auth.MD5)}
	m.wire = newWire(func(b []byte, _ netip.AddrPort) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.answers = append(m.answers, bytes.Clone(b)); len(m.answers) > 8 {
			m.answers = m.answers[1:]
		}
	})
	m.Server = serveWire(t, m.wire, nil)
	challenge := &stun.Message{Raw: m.ask(m.client, build(t, stun.MethodAllocate, wantUDP).Raw)[0]}
	if err := challenge.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := challenge.Parse(&m.nonce, &m.realm); err != nil {
		t.Fatal(err)
	}
	m.restore(t)
	return m
}

// ask returns what is answered at once.
func (m *inMemory) ask(from netip.AddrPort, b []byte) [][]byte {
	m.mu.Lock()
	m.answers = nil
	m.mu.Unlock()
	m.wire.feed(from, b)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answers
}

// restore gives the client its allocation and its channel, if it has lost them.
func (m *inMemory) restore(t testing.TB) {
	t.Helper()
	to := peer(netip.MustParseAddrPort("127.0.0.1:9"))
	m.ask(m.client, m.sign(build(t, stun.MethodAllocate, wantUDP).Raw))
	answers := m.ask(m.client, m.sign(build(t, stun.MethodCreatePermission, to).Raw))
	m.ask(m.client, m.sign(build(t, stun.MethodChannelBind, channelNumber(0x4001), to).Raw))
	if len(answers) == 0 || !bytes.HasPrefix(answers[len(answers)-1], []byte{0x01, 0x08}) {
		t.Fatalf("a permission is answered %x", answers)
	}
}

// sign puts credentials behind a message, whatever it is.
func (m *inMemory) sign(b []byte) []byte {
	out := bytes.Clone(b)
	for _, x := range []struct {
		t stun.AttrType
		v []byte
	}{{stun.AttrUsername, []byte(name)}, {stun.AttrRealm, m.realm}, {stun.AttrNonce, m.nonce}} {
		out = binary.BigEndian.AppendUint16(out, uint16(x.t))
		out = binary.BigEndian.AppendUint16(out, uint16(len(x.v)))
		out = append(out, x.v...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	if len(out) < 20 {
		return out
	}
	return m.key.Seal(out, auth.SHA1Integrity)
}

// TestMalformed [A4]: 200 000 malformed packets of each kind, of strangers and of somebody with credentials, end no server and leave
// nothing behind.
func TestMalformed(t *testing.T) {
	each := 200_000
	if testing.Short() {
		each = 3_000
	}
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(all)
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	filesBefore, heapBefore, routines := files(), heap(), runtime.NumGoroutine()
	m := newInMemory(t)
	stranger := netip.MustParseAddrPort("203.0.113.9:1000")
	for kind, b := range kinds(t) {
		r := rand.New(rand.NewPCG(uint64(len(kind)), uint64(len(b))))
		for i := range each {
			bad := spoil(r, b)
			from := m.client
			if kind == "Allocate" || kind == "Refresh" { // one that holds nothing, and may get something
				from = netip.AddrPortFrom(m.client.Addr(), uint16(2000+i%100))
			}
			switch i % 4 {
			case 0: // behind the right integrity, so that it is looked at in full
				m.wire.feed(from, m.sign(bad))
			case 1:
				m.wire.feed(from, bad)
			default:
				m.wire.feed(stranger, bad)
			}
			if i%1000 == 0 {
				for _, a := range m.Allocations() {
					if a.Client != m.client {
						m.End(a.ID)
					}
				}
			}
		}
		m.restore(t)
		if n := files(); n > filesBefore+60 {
			t.Errorf("%s: %d files are open", kind, n)
		}
	}
	got := m.Stats()
	t.Logf("%d of each kind: %+v", each, got)
	if got.Dropped.Malformed < uint64(each) || got.Auth.Authenticated < uint64(each)/10 {
		t.Errorf("they have not been what they should be: %+v", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if got := m.Stats().Allocations; got.Created != got.Deleted {
		t.Errorf("%+v", got)
	}
	for range 500 { // what the library has started ends by itself
		if runtime.NumGoroutine() <= routines {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if n := files(); n > filesBefore {
		t.Errorf("%d files are open, %d were", n, filesBefore)
	}
	if n := runtime.NumGoroutine(); n > routines {
		t.Errorf("%d goroutines, %d were", n, routines)
	}
	if n := heap(); n > heapBefore+4<<20 {
		t.Errorf("%d bytes are in use, %d were", n, heapBefore)
	}
}

// FuzzFront feeds datagrams of a stranger, of a client and of one with the right integrity behind them, whatever they are.
func FuzzFront(f *testing.F) {
	for _, b := range kinds(f) {
		for who := range byte(3) {
			f.Add(who, b)
		}
	}
	m := newInMemory(f)
	stranger := netip.MustParseAddrPort("203.0.113.9:1000")
	f.Fuzz(func(t *testing.T, who byte, b []byte) {
		if len(b) > 1400 {
			return
		}
		before := m.Stats()
		from, sent := m.client, b
		switch who % 3 {
		case 0:
			from = stranger
		case 2:
			sent = m.sign(b)
		}
		for _, answer := range m.ask(from, sent) {
			a := &stun.Message{Raw: answer}
			switch err := a.Decode(); {
			case err != nil:
				t.Fatalf("%x is answered %x: %v", sent, answer, err)
			case a.Type.Class != stun.ClassSuccessResponse && a.Type.Class != stun.ClassErrorResponse:
				t.Fatalf("%x is answered with a %s", sent, a.Type)
			case from == stranger && (len(sent) < 20 || !bytes.Equal(a.TransactionID[:], sent[8:20])):
				t.Fatalf("%x is answered %x", sent, answer)
			case from == stranger && 2*(len(answer)+headers) > 5*(len(sent)+headers):
				t.Fatalf("%d bytes for %d", len(answer), len(sent))
			case from == stranger && a.Type.Class == stun.ClassSuccessResponse && a.Type.Method != stun.MethodBinding:
				t.Fatalf("a stranger gets a %s", a.Type)
			}
		}
		after := m.Stats()
		if from == stranger && (after.Allocations.Created != before.Allocations.Created || after.Up != before.Up || after.Auth.Authenticated != before.Auth.Authenticated) {
			t.Fatalf("a stranger has done something: %+v", after)
		}
		for _, a := range m.Allocations() {
			for _, c := range a.Channels {
				if !c.Peer.Addr().IsLoopback() && (c.Peer.Addr().IsPrivate() || !c.Peer.Addr().IsGlobalUnicast() || c.Peer.Port() == 0) {
					t.Fatalf("a channel to %s", c.Peer)
				}
			}
			if a.Client != m.client {
				t.Fatalf("an allocation of %s", a.Client)
			}
		}
		if len(m.Allocations()) == 0 {
			m.restore(t)
		}
	})
}

// accepting is a listener in memory.
type accepting chan net.Conn

func (a accepting) Accept() (net.Conn, error) {
	c, ok := <-a
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (a accepting) Close() error {
	defer func() { _ = recover() }() // twice
	close(a)
	return nil
}

func (a accepting) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:3478"))
}

// end is one end of a connection in memory, with an address.
type end struct {
	net.Conn
	local, remote netip.AddrPort
}

func (e end) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(e.local) }
func (e end) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.remote) }

// FuzzStream writes anything to a connection, in pieces of any size: the server answers in frames, or hangs up.
func FuzzStream(f *testing.F) {
	var all []byte
	for _, b := range kinds(f) {
		f.Add(b, uint8(7))
		all = append(all, b...)
	}
	f.Add(all, uint8(200))
	l := make(accepting)
	serveWire(f, newWire(func([]byte, netip.AddrPort) {}), func(c *turn.Config) {
		c.Listeners = []turn.Listener{{Listener: l, Transport: turn.TCP}}
	})
	port := uint16(1000)
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		port++
		ours, theirs := net.Pipe()
		_ = ours.SetDeadline(time.Now().Add(patience))
		l <- end{theirs, netip.MustParseAddrPort("192.0.2.1:3478"), netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), port)}
		answers := make(chan []byte)
		go func() {
			got, err := io.ReadAll(ours)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %x nothing comes and nothing ends", got)
			}
			answers <- got
		}()
		for len(b) > 0 {
			n := min(len(b), 1+int(size))
			if _, err := ours.Write(b[:n]); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("nobody reads %x", b)
			} else if err != nil {
				break // it has hung up
			}
			b = b[n:]
		}
		_ = ours.Close()
		got := <-answers
		for len(got) > 0 {
			if len(got) < 20 || got[0] > 1 {
				return // the last one was under way
			}
			n := 20 + int(binary.BigEndian.Uint16(got[2:]))
			if len(got) < n {
				return
			}
			if a := (&stun.Message{Raw: got[:n]}); a.Decode() != nil {
				t.Fatalf("answered %x", got[:n])
			}
			got = got[n:]
		}
	})
}
