package srtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

// lease is how many packets per SSRC the holder of a lease may send beyond
// the checkpoint that was acknowledged.
const lease = 4096

// ledger seals and remembers every index used, whoever used it.
type ledger struct {
	t    *testing.T
	rtp  map[[2]uint64]bool
	rtcp map[uint32]bool
}

func (l *ledger) seal(c *Context, ssrc uint32, index uint64) []byte {
	l.t.Helper()
	pkt := seal(l.t, c, ssrc, index)
	if key := [2]uint64{uint64(ssrc), index}; l.rtp[key] {
		l.t.Fatalf("SSRC %d: index %x used twice", ssrc, index)
	} else {
		l.rtp[key] = true
	}
	return pkt
}

func (l *ledger) sealRTCP(c *Context) []byte {
	l.t.Helper()
	pkt, err := c.SealRTCP(nil, compound(1, 40))
	if err != nil {
		l.t.Fatal(err)
	}
	index := binary.BigEndian.Uint32(pkt[c.rtcpWord(pkt):]) &^ encryptedFlag
	if l.rtcp[index] {
		l.t.Fatalf("SRTCP index %x used twice", index)
	}
	l.rtcp[index] = true
	return pkt
}

func restore(t testing.TB, state []byte, skip uint64) *Context {
	t.Helper()
	c, rest, err := Restore(state, skip)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes left over", len(rest))
	}
	return c
}

// TestTwentyRestoresAcrossWrap hands a sender and a receiver over twenty
// times, from checkpoints after which the sequence number wraps before the
// standby begins, while the old sender goes on until its lease ends. Every
// later packet opens, at our receiver and at pion's; a replayed one does
// not; and no index is used twice.
func TestTwentyRestoresAcrossWrap(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		l := &ledger{t: t, rtp: map[[2]uint64]bool{}, rtcp: map[uint32]bool{}}
		sender, receiver, pionReceiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver), newPion(t, p)
		ssrcs := []uint32{1, 0xfedcba98}
		next := map[uint32]uint64{1: 0x1234, 0xfedcba98: 0x7fff}
		var opened [][]byte // in this round, by the present receiver or what it was restored from
		deliver := func(ssrc uint32, n int, step uint64) {
			t.Helper()
			for range n {
				index := next[ssrc]
				pkt := l.seal(sender, ssrc, index)
				open(t, receiver, pkt, ssrc, index)
				got, err := pionReceiver.DecryptRTP(nil, pkt, nil)
				check(t, "pion opens", got, err, append(header(ssrc, index), payload(ssrc, index)...))
				opened = append(opened, pkt)
				next[ssrc] += step
			}
		}
		replay := func() {
			t.Helper()
			for _, pkt := range opened {
				if _, _, err := receiver.OpenRTP(nil, pkt, rtpHeaderLen); !errors.Is(err, ErrReplay) {
					t.Fatalf("replayed: %v", err)
				}
				if _, err := pionReceiver.DecryptRTP(nil, pkt, nil); err == nil {
					t.Fatal("pion opens a replayed packet")
				}
			}
		}
		for round := range uint64(20) {
			for _, ssrc := range ssrcs {
				for next[ssrc] < round<<16+0xfe00 { // to the end of a cycle
					deliver(ssrc, 1, min(20_000, round<<16+0xfe00-next[ssrc]))
				}
			}
			opened = opened[:0]
			for _, ssrc := range ssrcs {
				deliver(ssrc, 100, 1)
			}
			rtcp := l.sealRTCP(sender)
			if _, err := receiver.OpenRTCP(nil, rtcp); err != nil {
				t.Fatal(err)
			}

			state, receiverState := sender.AppendState(nil), receiver.AppendState(nil)
			checkpoint := map[uint32]uint64{}
			sender.SetRTCPLimit(sender.RTCPNext() - 1 + lease)
			for _, ssrc := range ssrcs {
				checkpoint[ssrc], _ = stream(t, sender, ssrc).Highest()
				stream(t, sender, ssrc).SetLimit(checkpoint[ssrc] + lease)
			}

			// The primary goes on; nothing of it arrives. It is still alive, and
			// sends, while the standby does.
			old := sender
			sender = restore(t, state, lease)
			receiver = restore(t, receiverState, 0)
			for _, ssrc := range ssrcs {
				for range 1000 {
					l.seal(old, ssrc, next[ssrc])
					next[ssrc]++
				}
			}
			l.sealRTCP(old)
			for _, ssrc := range ssrcs {
				top, _ := stream(t, sender, ssrc).Highest()
				next[ssrc] = top + 1
				if checkpoint[ssrc]>>16 == next[ssrc]>>16 {
					t.Fatal("no wrap in the gap")
				}
				deliver(ssrc, 100, 1)
				limit := checkpoint[ssrc] + lease
				l.seal(old, ssrc, limit)
				if _, err := old.SealRTP(stream(t, old, ssrc), limit+1, header(ssrc, limit+1), nil); !errors.Is(err, ErrLease) {
					t.Fatalf("old sender beyond its lease: %v", err)
				}
				for i := checkpoint[ssrc] - 511; i <= limit; i += 97 {
					if _, err := sender.SealRTP(stream(t, sender, ssrc), i, header(ssrc, i), nil); !errors.Is(err, ErrIndexReused) {
						t.Fatalf("standby with index %x of the old sender: %v", i, err)
					}
				}
			}
			opened = opened[100*len(ssrcs):] // the others are too far back to be told from new ones
			replay()
			receiver = restore(t, receiver.AppendState(nil), 0)
			replay()

			second := l.sealRTCP(sender)
			if _, err := receiver.OpenRTCP(nil, second); err != nil {
				t.Fatal(err)
			}
			for _, pkt := range [][]byte{rtcp, second} {
				if _, err := receiver.OpenRTCP(nil, pkt); !errors.Is(err, ErrReplay) {
					t.Fatalf("compound replayed: %v", err)
				}
			}
			for old.RTCPNext() <= old.rtcpLimit {
				l.sealRTCP(old)
			}
		}
	})
}

// TestRestoreExactly: with skip 0 the state is what it was, window, lease
// and all.
func TestRestoreExactly(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		rng := rand.New(rand.NewPCG(17, 18))
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		for range 5 {
			ssrc := rng.Uint32()
			for i := range uint64(1500) {
				if rng.IntN(5) == 0 && i < 1250 {
					continue // a gap, half of them still in the window
				}
				if pkt := seal(t, sender, ssrc, i); rng.IntN(9) > 0 {
					open(t, receiver, pkt, ssrc, i)
				}
			}
			stream(t, sender, ssrc).SetLimit(2000)
		}
		stream(t, sender, 77) // without a packet
		sender.SetRTCPLimit(1)
		state := sender.AppendState([]byte("before"))[len("before"):]
		again, rest, err := Restore(append(bytes.Clone(state), "behind"...), 0)
		if err != nil || string(rest) != "behind" {
			t.Fatalf("%v, rest %q", err, rest)
		}
		if !bytes.Equal(state, again.AppendState(nil)) {
			t.Fatal("sender's state differs")
		}
		for _, ssrc := range sender.streams.ssrcs {
			for i := range uint64(2002) {
				_, want := sender.SealRTP(stream(t, sender, ssrc), i, header(ssrc, i), nil)
				_, got := again.SealRTP(stream(t, again, ssrc), i, header(ssrc, i), nil)
				if !errors.Is(got, want) {
					t.Fatalf("SSRC %x, index %d: %v, want %v", ssrc, i, got, want)
				}
			}
		}
		for range 3 {
			_, want := sender.SealRTCP(nil, compound(1, 8))
			if _, got := again.SealRTCP(nil, compound(1, 8)); !errors.Is(got, want) {
				t.Fatalf("SRTCP: %v, want %v", got, want)
			}
		}
		state = receiver.AppendState(nil)
		if !bytes.Equal(state, restore(t, state, 12345).AppendState(nil)) {
			t.Fatal("receiver's state differs")
		}
	})
}

func TestRestoreSkips(t *testing.T) {
	const none = ^uint64(0)
	for _, c := range []struct {
		what           string
		highest, limit uint64
		skip, want     uint64
		rtcp, wantRTCP uint64
		rtcpLimit      uint64
		untouched      bool
	}{
		{what: "skip", highest: 100, limit: none, skip: 50, want: 150, rtcp: 7, rtcpLimit: none, wantRTCP: 57},
		{what: "lease longer than skip", highest: 100, limit: 500, skip: 50, want: 500, rtcp: 7, rtcpLimit: 99, wantRTCP: 100},
		{what: "lease shorter than skip", highest: 100, limit: 110, skip: 50, want: 150, rtcp: 7, rtcpLimit: 8, wantRTCP: 57},
		{what: "unused with a lease", highest: none, limit: 500, skip: 50, want: 500, rtcpLimit: none, wantRTCP: 50},
		{what: "unused without", highest: none, limit: none, skip: 50, untouched: true, rtcpLimit: none, wantRTCP: 50},
		{what: "to the end", highest: 100, limit: none, skip: none, want: maxIndex, rtcp: 7, rtcpLimit: none, wantRTCP: maxRTCPIndex + 1},
		{what: "endless lease", highest: 1, limit: none - 1, skip: 1, want: maxIndex, rtcpLimit: none, wantRTCP: 1},
	} {
		a := newTestContext(t, AEADAES128GCM, Sender)
		s := stream(t, a, 1)
		if c.highest != none {
			seal(t, a, 1, c.highest)
		}
		s.SetLimit(c.limit)
		a.rtcpNext = c.rtcp
		a.SetRTCPLimit(c.rtcpLimit)
		b := restore(t, a.AppendState(nil), c.skip)
		got, ok := stream(t, b, 1).Highest()
		if ok == c.untouched || got != c.want {
			t.Errorf("%s: highest %d %v, want %d", c.what, got, ok, c.want)
		}
		if b.RTCPNext() != c.wantRTCP {
			t.Errorf("%s: SRTCP goes on with %d, want %d", c.what, b.RTCPNext(), c.wantRTCP)
		}
		if c.want < maxIndex && !c.untouched {
			seal(t, b, 1, got+1) // the lease is gone
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	sender, receiver := newTestContext(t, AES128CMHMACSHA1_80, Sender), newTestContext(t, AES128CMHMACSHA1_80, Receiver)
	for _, i := range []uint64{3, 5, 700} {
		for _, ssrc := range []uint32{1, 2} {
			open(t, receiver, seal(t, sender, ssrc, i), ssrc, i)
		}
	}
	for _, state := range [][]byte{sender.AppendState(nil), receiver.AppendState(nil)} {
		for n := range state {
			if c, _, err := Restore(state[:n], 0); !errors.Is(err, ErrState) || c != nil {
				t.Fatalf("cut to %d of %d: %v", n, len(state), err)
			}
		}
		edit := func(what string, want error, f func(b []byte)) {
			b := bytes.Clone(state)
			f(b)
			if _, _, err := Restore(b, 0); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		edit("version", ErrStateVersion, func(b []byte) { b[0]++ })
		edit("role", ErrState, func(b []byte) { b[1] = 3 })
		edit("profile", ErrState, func(b []byte) { b[3] = 2 })
		count := 4 + 16 + 14
		if state[1] == byte(Sender) {
			count += 8
			edit("SRTCP index", ErrState, func(b []byte) { b[count-8], b[count-5] = 0x80, 1 })
			edit("SRTCP limit", ErrState, func(b []byte) { b[count-4] = 0x80 })
		}
		edit("count", ErrState, func(b []byte) { b[count] = 0xff })
		edit("fewer streams", nil, func(b []byte) { b[count+1]-- })
		edit("order of SSRCs", ErrState, func(b []byte) { b[count+2] = 1 })
		window := count + 2 + 4
		if state[1] == byte(Sender) {
			window += 8
		}
		edit("window flag", ErrState, func(b []byte) { b[window] = 2 })
		edit("highest index", ErrState, func(b []byte) { b[window+6]++ }) // its own bit is not set
		edit("word code", ErrState, func(b []byte) { b[window+7] |= 0xc0 })
		edit("explicit zeros", ErrState, func(b []byte) { clear(b[window+9 : window+17]) })
	}
}

// TestStateIsSmall: what a checkpoint of a large conference costs per stream.
func TestStateIsSmall(t *testing.T) {
	c := newTestContext(t, AEADAES128GCM, Sender)
	empty := len(c.AppendState(nil))
	for i := range uint64(1000) {
		seal(t, c, 1, i)
	}
	if n := len(c.AppendState(nil)) - empty; n > 24 {
		t.Errorf("a stream without loss takes %d bytes", n)
	}
}
