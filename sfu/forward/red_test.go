package forward_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/tap"
)

var red = forward.CodecMap{Codec: rtp.RED, PayloadType: 63}

// twice is a packet of redundant sound: what was said before, and what is said now (RFC 2198 §3).
func twice(before, now string) []byte {
	b := []byte{0x80 | opusPT, 0, 0, byte(len(before)), opusPT}
	return append(append(b, before...), now...)
}

// sound is what a receiver was sent, with its payload type.
type sound struct {
	PT   uint8
	Text string
}

func sounds(ps []packet) (out []sound) {
	for _, p := range ps {
		out = append(out, sound{p.PayloadType, string(p.payload)})
	}
	return out
}

// redundantAudio adds a track that is sent as redundant sound.
func (c *client) redundantAudio(mid string, ssrc uint32) (*forward.Track, *source) {
	t := c.peer.NewTrack(forward.TrackConfig{MID: mid, Kind: rtp.KindAudio, Codecs: []forward.CodecMap{red, opus}, SSRCs: []uint32{ssrc}})
	return t, c.source(ssrc, 0, forward.CodecMap{Codec: rtp.Opus, PayloadType: red.PayloadType})
}

// Redundant sound goes to receivers that lose something and take it, for a while. All others get the sound itself, and those who
// cannot have that, because it is encrypted, get the packet as it is or nothing.
func TestRedundancy(t *testing.T) {
	r := newRig(t)
	a, b, c, d := r.join(1, theirs), r.join(2, ours), r.join(3, ours), r.join(4, ours)
	track, src := a.redundantAudio("0", micSSRC)
	other := forward.CodecMap{Codec: rtp.Opus, PayloadType: 109} // to whom the payload types inside mean nothing
	b.slot(1, rtp.KindAudio, red, opus).Bind(track, r.now)
	c.slot(2, rtp.KindAudio, opus).Bind(track, r.now)
	d.slot(3, rtp.KindAudio, red, other).Bind(track, r.now)
	if track.Codec() != rtp.Opus {
		t.Errorf("codec %v", track.Codec())
	}
	expect := func(what string, wantB, wantC, wantD []sound) {
		t.Helper()
		r.pump()
		got := [][]sound{sounds(b.take()), sounds(c.take()), sounds(d.take())}
		if d := cmp.Diff([][]sound{wantB, wantC, wantD}, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	loses := func(lost uint8) {
		for i, c := range []*client{b, c, d} {
			c.report(&pionrtcp.ReceiverReport{SSRC: 9, Reports: []pionrtcp.ReceptionReport{{SSRC: uint32(1001 + i), FractionLost: lost}}})
		}
	}
	src.push(twice("one", "two"))
	expect("without loss", []sound{{111, "two"}}, []sound{{111, "two"}}, []sound{{109, "two"}})
	loses(10)
	src.push(twice("two", "three"))
	expect("with loss", []sound{{63, string(twice("two", "three"))}}, []sound{{111, "three"}}, []sound{{109, "three"}})
	loses(0)
	r.run(29 * sec)
	src.push(twice("three", "four"))
	expect("a while after it", []sound{{63, string(twice("three", "four"))}}, []sound{{111, "four"}}, []sound{{109, "four"}})
	r.run(2 * sec)
	src.push(twice("four", "five"))
	expect("long after it", []sound{{111, "five"}}, []sound{{111, "five"}}, []sound{{109, "five"}})
	unknown := r.router.Counters.UnknownPayload
	src.push([]byte("ciphertext"))
	expect("encrypted", []sound{{63, "ciphertext"}}, nil, []sound{{63, "ciphertext"}})
	if n := r.router.Counters.UnknownPayload - unknown; n != 1 {
		t.Errorf("%d packets that a receiver cannot take", n)
	}
	if k := r.router.Counters; k.Redundant != 5 || k.Unpacked != 10 {
		t.Errorf("%d packets came, %d went on without redundancy", k.Redundant, k.Unpacked)
	}
}

// A recorder gets the sound itself, or nothing.
func TestTapRedundancy(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	track, src := a.redundantAudio("0", micSSRC)
	c.slot(1, rtp.KindAudio, red, opus).Bind(track, r.now)
	ring := tap.NewRing(1 << 16)
	track.Tap(ring, r.now)
	src.push(twice("one", "two"))
	src.push([]byte("ciphertext"))
	r.pump()
	var got []sound
	var rec tap.Record
	for ring.Take(&rec) {
		var h rtp.Header
		if rec.Kind != tap.Packet || !h.Parse(rec.Data) || h.SSRC != micSSRC {
			t.Fatalf("%+v", rec)
		}
		got = append(got, sound{uint8(rec.Codec), string(rec.Data[h.HeaderLen:])})
	}
	want := []sound{{uint8(rtp.Opus), "two"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]sound{{111, "two"}, {63, "ciphertext"}}, sounds(c.take())); d != "" {
		t.Error(d)
	}
}
