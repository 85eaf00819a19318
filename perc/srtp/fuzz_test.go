package srtp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzOpenRTP: nothing crashes the receiver, what does not open leaves no
// state, and what opens is exactly what a sender makes of the plaintext.
func FuzzOpenRTP(f *testing.F) {
	for i, p := range profiles {
		c := newTestContext(f, p, Sender)
		for _, index := range []uint64{0, 19, 0xffff} {
			f.Add(uint8(i), 12, seal(f, c, 1, index))
		}
		ext := append(header(2, 5), 0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0)
		ext[0] |= 0x10
		pkt, err := c.SealRTP(stream(f, c, 2), 5, ext, []byte("payload"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), 20, pkt)
	}
	f.Fuzz(func(t *testing.T, profile uint8, headerLen int, pkt []byte) {
		p := profiles[int(profile)%len(profiles)]
		c := newTestContext(t, p, Receiver)
		before := c.AppendState(nil)
		got, index, err := c.OpenRTP(nil, pkt, headerLen)
		if err != nil {
			if !bytes.Equal(before, c.AppendState(nil)) {
				t.Fatal("state of a packet that did not open")
			}
			return
		}
		sender := newTestContext(t, p, Sender)
		s := stream(t, sender, binary.BigEndian.Uint32(got[8:]))
		again, err := sender.SealRTP(s, index, bytes.Clone(got[:headerLen]), got[headerLen:])
		if err != nil || !bytes.Equal(again, pkt) {
			t.Fatalf("opened what no sender seals (%v)", err)
		}
		if _, _, err := c.OpenRTP(nil, pkt, headerLen); err == nil {
			t.Fatal("opened twice")
		}
	})
}

func FuzzOpenRTCP(f *testing.F) {
	for i, p := range profiles {
		c := newTestContext(f, p, Sender)
		for _, n := range []int{8, 28, 200} {
			pkt, err := c.SealRTCP(nil, compound(uint32(n), n))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), pkt)
			pkt = bytes.Clone(pkt)
			pkt[c.rtcpWord(pkt)] &= 0x7f
			f.Add(uint8(i), pkt)
		}
	}
	f.Fuzz(func(t *testing.T, profile uint8, pkt []byte) {
		p := profiles[int(profile)%len(profiles)]
		c := newTestContext(t, p, Receiver)
		before, input := c.AppendState(nil), bytes.Clone(pkt)
		got, err := c.OpenRTCP(nil, pkt)
		if !bytes.Equal(pkt, input) {
			t.Fatal("input changed")
		}
		if err != nil {
			if !bytes.Equal(before, c.AppendState(nil)) {
				t.Fatal("state of a packet that did not open")
			}
			return
		}
		if word := binary.BigEndian.Uint32(pkt[c.rtcpWord(pkt):]); word&encryptedFlag != 0 {
			sender := newTestContext(t, p, Sender)
			sender.rtcpNext = uint64(word &^ encryptedFlag)
			again, err := sender.SealRTCP(nil, got)
			if err != nil || !bytes.Equal(again, pkt) {
				t.Fatalf("opened what no sender seals (%v)", err)
			}
		}
		if _, err := c.OpenRTCP(nil, pkt); err == nil {
			t.Fatal("opened twice")
		}
	})
}

// FuzzRestore: what is accepted is the one binary form of the state, and no
// skip brings an index back.
func FuzzRestore(f *testing.F) {
	for _, p := range profiles {
		sender, receiver := newTestContext(f, p, Sender), newTestContext(f, p, Receiver)
		f.Add(sender.AppendState(nil), uint64(0))
		f.Add(receiver.AppendState(nil), uint64(1))
		for _, i := range []uint64{1, 2, 600, 601, 0x8100, 0x1_0000} {
			for _, ssrc := range []uint32{7, 1} {
				if _, _, err := receiver.OpenRTP(nil, seal(f, sender, ssrc, i), rtpHeaderLen); err != nil {
					f.Fatal(err)
				}
			}
		}
		stream(f, sender, 7).SetLimit(1 << 20)
		f.Add(sender.AppendState(nil), uint64(4096))
		f.Add(receiver.AppendState(nil), ^uint64(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, skip uint64) {
		c, rest, err := Restore(b, 0)
		if err != nil {
			return
		}
		if state := c.AppendState(nil); !bytes.Equal(append(state, rest...), b) {
			t.Fatal("not the form that AppendState gives")
		}
		d, _, err := Restore(b, skip)
		if err != nil {
			t.Fatalf("with a skip: %v", err)
		}
		if d.RTCPNext() < c.RTCPNext() {
			t.Fatal("SRTCP index went back")
		}
		for i, s := range c.streams.values {
			was, ok := s.Highest()
			now, still := d.streams.values[i].Highest()
			if ok && (!still || now < was || now < min(was+min(skip, maxIndex), maxIndex)) {
				t.Fatalf("highest %d, restored with skip %d: %d", was, skip, now)
			}
		}
		if _, _, err := Restore(d.AppendState(nil), 0); err != nil {
			t.Fatalf("state after a skip: %v", err)
		}
	})
}
