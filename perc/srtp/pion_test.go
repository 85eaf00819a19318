package srtp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	pion "github.com/pion/srtp/v3"
)

// newPion makes pion's context under the keys of newTestContext.
func newPion(t testing.TB, p Profile) *pion.Context {
	t.Helper()
	key, salt := testMaster(p)
	c, err := pion.CreateContext(key, salt, pion.ProtectionProfile(p),
		pion.SRTPReplayProtection(512), pion.SRTCPReplayProtection(512))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// randomPacket makes a packet with CSRCs, header extensions of both forms,
// padding and payload at random, and returns its header length.
func randomPacket(t *testing.T, rng *rand.Rand, ssrc uint32, seq uint16) (pkt []byte, headerLen int) {
	t.Helper()
	h := rtp.Header{
		Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: rng.Uint32(),
		Marker: rng.IntN(2) == 0, PayloadType: uint8(rng.IntN(128)),
	}
	for range rng.IntN(4) {
		h.CSRC = append(h.CSRC, rng.Uint32())
	}
	switch rng.IntN(3) {
	case 1:
		h.Extension, h.ExtensionProfile = true, rtp.ExtensionProfileOneByte
		for id := range uint8(rng.IntN(5)) {
			if err := h.SetExtension(id+1, randomBytes(rng, 1+rng.IntN(16))); err != nil {
				t.Fatal(err)
			}
		}
	case 2:
		h.Extension, h.ExtensionProfile = true, rtp.ExtensionProfileTwoByte
		for id := range uint8(rng.IntN(5)) {
			if err := h.SetExtension(id+100, randomBytes(rng, rng.IntN(40))); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	n := rng.IntN(100)
	if rng.IntN(2) == 0 {
		n = rng.IntN(1300)
	}
	return append(b, randomBytes(rng, n)...), len(b)
}

// TestAgainstPionRTP: the same packets from both, byte for byte, and each
// opens the other's, over several wraps of the sequence number.
func TestAgainstPionRTP(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		rng := rand.New(rand.NewPCG(14, uint64(p)))
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		pionSender, pionReceiver := newPion(t, p), newPion(t, p)
		ssrcs := []uint32{0, 1, 0xdeadbeef, rng.Uint32()}
		next := make([]uint64, len(ssrcs))
		for i := range next {
			next[i] = rng.Uint64N(1 << 15)
		}
		for range 2000 {
			i := rng.IntN(len(ssrcs))
			ssrc, index := ssrcs[i], next[i]
			next[i] += 1 + rng.Uint64N(2)
			if rng.IntN(8) == 0 {
				next[i] += rng.Uint64N(1<<15 - 3)
			}
			pkt, n := randomPacket(t, rng, ssrc, uint16(index))
			want, err := pionSender.EncryptRTP(nil, pkt, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sender.SealRTP(stream(t, sender, ssrc), index, bytes.Clone(pkt[:n]), pkt[n:])
			check(t, "seal", got, err, want)
			back, at, err := receiver.OpenRTP(nil, want, n)
			check(t, "open pion's", back, err, pkt)
			if at != index {
				t.Fatalf("index %x, want %x", at, index)
			}
			back, err = pionReceiver.DecryptRTP(nil, got, nil)
			check(t, "pion opens", back, err, pkt)
		}
		for i, ssrc := range ssrcs {
			if next[i] < 3<<16 {
				t.Errorf("SSRC %x wrapped only %d times", ssrc, next[i]>>16)
			}
		}
	})
}

// TestAgainstPionReordered: both receivers agree on what a shuffled stream
// with duplicates and gaps contains.
func TestAgainstPionReordered(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		rng := rand.New(rand.NewPCG(15, uint64(p)))
		sender, receiver, pionReceiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver), newPion(t, p)
		var held [][]byte
		opened, refused := 0, 0
		for index := uint64(0xf000); index < 0x1_1000; index++ {
			held = append(held, seal(t, sender, 3, index))
			for len(held) >= 200 {
				k := rng.IntN(len(held))
				pkt := held[k]
				if rng.IntN(4) > 0 { // else it comes again
					held[k] = held[len(held)-1]
					held = held[:len(held)-1]
				}
				want, wantErr := pionReceiver.DecryptRTP(nil, pkt, nil)
				got, _, err := receiver.OpenRTP(nil, pkt, rtpHeaderLen)
				if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
					t.Fatalf("sequence number %x: %v, pion says %v", binary.BigEndian.Uint16(pkt[2:]), err, wantErr)
				}
				if err == nil {
					opened++
				} else {
					refused++
				}
			}
		}
		if opened < 5000 || refused < 500 {
			t.Errorf("%d opened, %d refused: not much of a test", opened, refused)
		}
	})
}

func TestAgainstPionRTCP(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		rng := rand.New(rand.NewPCG(16, uint64(p)))
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		pionSender, pionReceiver := newPion(t, p), newPion(t, p)
		for i := range 1000 {
			pkt := compound(uint32(rng.IntN(3)), rtcpHeaderLen+4*rng.IntN(300))
			binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)/4-1))
			index := sender.rtcpNext
			got, err := sender.SealRTCP(nil, pkt)
			if err != nil {
				t.Fatal(err)
			}
			// pion counts per SSRC and before each packet, we for all and after.
			pionSender.SetIndex(binary.BigEndian.Uint32(pkt[4:]), uint32(index)-1)
			if i > 0 {
				want, err := pionSender.EncryptRTCP(nil, pkt, nil)
				check(t, "pion seals", want, err, got)
			}
			back, err := pionReceiver.DecryptRTCP(nil, got, nil)
			check(t, "pion opens", back, err, pkt)
			back, err = receiver.OpenRTCP(nil, got)
			check(t, "open", back, err, pkt)
		}
	})
}
