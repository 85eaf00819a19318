package sfu_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu"
)

// carrier keeps what it is to send.
type carrier chan datagram

type datagram struct {
	path udp.Path
	b    []byte
}

func (c carrier) Send(p udp.Path, b []byte) { c <- datagram{p, bytes.Clone(b)} }

func beside(c *sfu.Config) { c.Beside, c.Relay = true, true }

func check(ice sfu.ICEParams, theirs string) []byte {
	var tx stun.TxID
	_, _ = rand.Read(tx[:])
	b := stun.Append(nil, stun.BindingRequest, tx)
	b.Username(ice.Ufrag + ":" + theirs)
	b.Priority(1)
	b.ICEControlled(1)
	return b.End(stun.NewKey(ice.Pwd), true)
}

// TestBeside [A4]: what comes by another way than the socket reaches its session, on whatever shard, and the answer goes back by the
// same way; the socket sees nothing of it.
func TestBeside(t *testing.T) {
	f := start(t, beside)
	out := make(carrier, 64)
	f.node.Carry(udp.Inside, out)
	local := netip.MustParseAddr("198.18.0.1")
	for i := range 4 {
		m := f.join(sfu.ParticipantID(fmt.Sprint("p", i)))
		ice := m.offer(1).ICE
		from := netip.AddrPortFrom(netip.MustParseAddr("198.18.0.9"), uint16(50000+i))
		for range 3 { // the first finds its session, the others its address
			b := check(ice, "abcd")
			if !f.node.Deliver(udp.Path{Remote: from, Local: local, Way: udp.Inside}, b) {
				t.Fatal("no room")
			}
			var asked, answer stun.Message
			if err := asked.Parse(b); err != nil {
				t.Fatal(err)
			}
			got := wait(t, out)
			if err := answer.Parse(got.b); err != nil || answer.Type != stun.BindingSuccess || answer.Tx != asked.Tx {
				t.Fatalf("%v %+v", err, answer)
			}
			if at, ok := answer.XORMappedAddress(); !ok || at != from || got.path != (udp.Path{Remote: from, Local: local, Way: udp.Inside}) {
				t.Errorf("it says %s by %+v, want %s", at, got.path, from)
			}
		}
	}
	st, err := f.node.Stats(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.Transport.Requests != 12 || st.Socket.ReceivedDatagrams+st.Socket.SentDatagrams != 0 {
		t.Errorf("requests %d, through the socket %d and %d", st.Transport.Requests, st.Socket.ReceivedDatagrams, st.Socket.SentDatagrams)
	}
}

func wait(t *testing.T, c carrier) datagram {
	t.Helper()
	select {
	case d := <-c:
		return d
	case <-time.After(patience):
		t.Fatal("no answer")
		return datagram{}
	}
}

// TestBesideIsBounded: what nobody takes is lost, and counted; nobody waits.
func TestBesideIsBounded(t *testing.T) {
	f := start(t, beside)
	stuck, free := make(chan struct{}), make(chan struct{})
	f.node.Carry(udp.Stream, holdUp{stuck, free})
	var tx stun.TxID
	b := stun.Append(nil, stun.BindingRequest, tx)
	question := b.End(nil, true)
	p := udp.Path{Remote: netip.MustParseAddrPort("198.18.0.9:5000"), Way: udp.Stream}
	f.node.Deliver(p, question)
	<-stuck
	if f.node.Deliver(p, make([]byte, 4096)) {
		t.Error("a datagram that is longer than any was taken")
	}
	close(free)
	st, err := f.node.Stats(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	lost := uint64(0)
	for _, s := range st.Shards {
		lost += s.BesideDrops
	}
	if lost != 1 {
		t.Errorf("%d are lost", lost)
	}
}

// holdUp is a carrier that does not return until it may.
type holdUp struct{ stuck, free chan struct{} }

func (h holdUp) Send(udp.Path, []byte) {
	close(h.stuck)
	<-h.free
}

// TestRelayPort [N4]: what is TURN on the media port is for the TURN server, which answers from there.
func TestRelayPort(t *testing.T) {
	f := start(t, beside)
	relay := f.node.RelayPort()
	c, err := net.Dial("udp", f.node.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var tx stun.TxID
	allocate := stun.Append(nil, stun.NewType(3, stun.ClassRequest), tx)
	send := stun.Append(nil, stun.NewType(6, stun.ClassIndication), tx)
	want := [][]byte{allocate.End(nil, true), send.End(nil, false), {0x40, 0, 0, 1, 'x', 0, 0, 0}, {0x4f, 0xff, 0, 0}}
	b := make([]byte, 2048)
	for _, w := range want {
		if _, err := c.Write(w); err != nil {
			t.Fatal(err)
		}
		n, p, err := relay.Read(b)
		if err != nil || !bytes.Equal(b[:n], w) || p.Remote.String() != c.LocalAddr().String() || p.Way != udp.Wire {
			t.Fatalf("%x from %+v, want %x from %s: %v", b[:n], p, w, c.LocalAddr(), err)
		}
		if err := relay.Write([]byte("answer"), p); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" {
			t.Fatalf("%q: %v", b[:n], err)
		}
	}
	done := make(chan error)
	go func() {
		_, _, err := relay.Read(b)
		done <- err
	}()
	if err := relay.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := f.node.Close(); err != nil {
		t.Error(err)
	}
	if err := relay.Write(b[:1], udp.Path{Remote: f.node.LocalAddr()}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed port: %v", err)
	}
}

// signal is a carrier that only says that something came.
type signal chan struct{}

func (s signal) Send(udp.Path, []byte) { s <- struct{}{} }

// TestBesideAllocatesNothing: a datagram in and its answer out.
func TestBesideAllocatesNothing(t *testing.T) {
	f := start(t, beside)
	came := make(signal)
	f.node.Carry(udp.Inside, came)
	ice := f.join("p").offer(1).ICE
	b := check(ice, "abcd")
	p := udp.Path{Remote: netip.MustParseAddrPort("198.18.0.9:5000"), Local: netip.MustParseAddr("198.18.0.1"), Way: udp.Inside}
	trip := func() {
		if !f.node.Deliver(p, b) {
			t.Error("no room")
		}
		<-came
	}
	for range 3 {
		trip()
	}
	if n := testing.AllocsPerRun(500, trip); n >= 1 { // the node's other goroutines run beside it
		t.Errorf("%v allocations", n)
	}
}
