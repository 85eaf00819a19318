package sfu_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// TestNothingForStrangersOnTheWire captures what a node really sends, while answers name third parties as candidates and datagrams of
// every kind come from addresses that never showed the password: each datagram that leaves goes to an address from which an
// authenticated check has come, except the plain answers to who asks without a name (decision 4).
//
// It runs in a network namespace of its own, in which all of 198.18.0.0/15 is this machine: anybody's address can be taken.
func TestNothingForStrangersOnTheWire(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace and a packet socket need root")
	}
	runtime.LockOSThread() // and is never unlocked: the thread dies with the test's goroutine, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", "198.18.0.1/15", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %v: %v: %s", args, err, out)
		}
	}
	wire := openWire(t)

	offers := offered(make(chan *sfu.Offer, 4))
	node, err := sfu.NewNode(sfu.Config{
		Listen: netip.MustParseAddrPort("198.18.0.1:0"), Observer: offers, NoGSO: true, // captured as they leave, one by one
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := node.Conference("hostile").Join(ctx, sfu.JoinOptions{
		Participant: "mallory", Publish: []sfu.Publish{{Source: sfu.Microphone}, {Source: sfu.Camera, Simulcast: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	offer := <-offers
	local := transport.LocalParams{Ufrag: offer.ICE.Ufrag, Pwd: offer.ICE.Pwd}

	// The answer names third parties.
	honest := dial(t, "198.18.0.2", node.LocalAddr())
	agent := transporttest.NewAgent(t, honest.addr, node.LocalAddr(), local)
	remote := agent.Remote()
	answer := sfu.Answer{
		ICE: sfu.ICEParams{Ufrag: remote.Ufrag, Pwd: remote.Pwd}, SetupActive: true,
		Fingerprint: sfu.Fingerprint{Algorithm: remote.Fingerprint.Algorithm(), Value: remote.Fingerprint.Value()},
	}
	for i := range 20 {
		answer.ICE.Candidates = append(answer.ICE.Candidates, sfu.Candidate{
			Addr:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 66, byte(i)}), uint16(1000+i)),
			Priority: 1 << 31, Foundation: "1",
		})
	}
	for _, s := range offer.Sections {
		answer.Sections = append(answer.Sections, sfu.AnswerSection{MID: s.MID, Rejected: true})
	}
	if err := e.Answer(ctx, offer.Number, answer); err != nil {
		t.Fatal(err)
	}

	// Strangers, each at an address of its own. Two of the kinds are plain questions, which have an answer.
	forged := agent
	forged.ServerKey = stun.NewKey("wrongpassword22charsXX")
	reflected := agent // signed with the client's password, which the attacker knows if it is the client
	reflected.ServerKey = agent.Key
	unsigned := agent
	unsigned.ServerKey = nil
	guessed := agent
	guessed.Server.Ufrag = "AQAC" + agent.Server.Ufrag[4:]
	plain := stun.Append(nil, stun.BindingRequest, stun.TxID{1})
	indication := stun.Append(nil, stun.BindingIndication, stun.TxID{2})
	allocate := stun.Append(nil, 0x0003, stun.TxID{3})
	hostile := [][]byte{
		forged.Request(), reflected.Request(), unsigned.Request(), guessed.Request(),
		agent.Answer(stun.TxID{4}, agent.Key), agent.Answer(stun.TxID{5}, nil),
		plain.End(nil, true), indication.End(nil, true), allocate.End(nil, true),
		transporttest.ClientHello,
		append([]byte{0x80, 111, 0, 1}, make([]byte, 60)...), // RTP
		append([]byte{0x81, 206, 0, 2}, make([]byte, 40)...), // RTCP, a request for a key frame
		{0x40, 0, 0, 4, 1, 2, 3, 4},                          // ChannelData
		{16, 1, 2, 3},
	}
	asked := 0
	for i, b := range hostile {
		s := dial(t, netip.AddrFrom4([4]byte{198, 18, 7, byte(i)}).String(), node.LocalAddr())
		for range 5 {
			s.send(b)
			asked++
		}
	}
	before, err := node.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for before.Transport.Datagrams < uint64(asked) {
		if before, err = node.Stats(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if before.Transport.Checks != 0 || before.Transport.Responses != 0 {
		t.Errorf("on account of strangers: %+v", before.Transport)
	}

	// And the honest client: it is answered, checked and nominated, and the strangers try again from beside it.
	honest.send(agent.Request())
	for deadline := time.Now().Add(patience); !slices.ContainsFunc(agent.Checks, func(c transporttest.Check) bool { return c.UseCandidate }); {
		if time.Now().After(deadline) {
			t.Fatalf("no nomination: %+v", agent)
		}
		for _, b := range agent.Receive(honest.receive(t), 0) {
			honest.send(b)
		}
	}
	beside := dial(t, "198.18.0.2", node.LocalAddr()) // the honest client's address, another port
	for _, b := range hostile {
		beside.send(b)
	}
	wire.wait(2 * time.Second) // timers would have struck by then

	allowed := map[netip.AddrPort]bool{honest.addr: true}
	plainAnswers := 0
	sent := wire.from(node.LocalAddr())
	for _, d := range sent {
		if allowed[d.to] {
			continue
		}
		var m stun.Message
		if m.Parse(d.data) == nil && m.Type == stun.BindingSuccess && !m.HasIntegrity() {
			if a, ok := m.XORMappedAddress(); ok && a == d.to {
				plainAnswers++
				continue
			}
		}
		t.Errorf("a datagram for %v, which never authenticated: %x", d.to, d.data)
	}
	if plainAnswers > 6 || plainAnswers == 0 {
		t.Errorf("%d plain answers to 6 plain questions", plainAnswers)
	}
	after, err := node.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(sent) == plainAnswers || uint64(len(sent)) != after.Socket.SentDatagrams {
		t.Errorf("captured %d datagrams, the node counts %d", len(sent), after.Socket.SentDatagrams)
	}
	t.Logf("%d datagrams sent, %d of them plain answers; %d hostile ones received", len(sent), plainAnswers, asked+len(hostile))
}

// offered takes a node's offers.
type offered chan *sfu.Offer

func (o offered) Event(e sfu.Event) {
	if e.Offer != nil {
		o <- e.Offer
	}
}

// socket is a client's, or a stranger's.
type socket struct {
	conn *net.UDPConn
	addr netip.AddrPort
	to   netip.AddrPort
}

func dial(t *testing.T, from string, to netip.AddrPort) *socket {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &socket{conn, conn.LocalAddr().(*net.UDPAddr).AddrPort(), to}
}

func (s *socket) send(b []byte) { _, _ = s.conn.WriteToUDPAddrPort(b, s.to) }

func (s *socket) receive(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 2048)
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := s.conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// packetSocket captures what goes over the loopback interface.
type packetSocket struct {
	t    *testing.T
	fd   int
	seen []captured
}

// captured is one UDP datagram over IPv4.
type captured struct {
	src, to netip.AddrPort
	data    []byte
}

func openWire(t *testing.T) *packetSocket {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL << 8 // in network order; sockets of one protocol do not see what goes out
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("no packet socket: ", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	return &packetSocket{t: t, fd: fd}
}

// wait captures for so long.
func (w *packetSocket) wait(d time.Duration) {
	w.t.Helper()
	b := make([]byte, 65536)
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			w.t.Fatal(err)
		}
		for {
			n, from, err := unix.Recvfrom(w.fd, b, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			// Over loopback everything is seen twice, going and coming.
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				w.keep(b[:n])
			}
		}
	}
}

// keep takes a datagram out of an IPv4 packet (RFC 791 §3.1, RFC 768).
func (w *packetSocket) keep(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
		return
	}
	header := int(b[0]&15) * 4
	if len(b) < header+8 {
		return
	}
	u := b[header:]
	at := func(ip, port []byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip)), binary.BigEndian.Uint16(port))
	}
	w.seen = append(w.seen, captured{at(b[12:16], u), at(b[16:20], u[2:]), slices.Clone(u[8:])})
}

// from returns what one port sent.
func (w *packetSocket) from(a netip.AddrPort) (out []captured) {
	for _, d := range w.seen {
		if d.src == a {
			out = append(out, d)
		}
	}
	return out
}
