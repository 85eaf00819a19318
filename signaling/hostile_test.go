package signaling

import (
	"math/rand/v2"
	"testing"

	"github.com/sotto-edge/sotto/signaling/sdp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// mangle changes a few bytes of a frame, or cuts, doubles or empties it.
func mangle(rng *rand.Rand, b []byte) []byte {
	out := append([]byte(nil), b...)
	for range 1 + rng.IntN(4) {
		if len(out) == 0 {
			return out
		}
		i := rng.IntN(len(out))
		switch rng.IntN(5) {
		case 0:
			out[i] = byte(rng.Uint32())
		case 1:
			out = out[:i]
		case 2:
			out = append(out, out[i:]...)
		case 3:
			out[i] = `{}[]":,0`[rng.IntN(8)]
		case 4:
			out = append(out[:i], out[i+1:]...)
		}
	}
	return out
}

// A hundred thousand malformed frames change nothing but the counter of connections that were cut for them.
func TestMalformedFramesByTheThousand(t *testing.T) {
	w := newWorld(t, nil)
	member := w.member("Ada", true, mic)
	answer := wire.Answer{Number: 1, SDP: "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"}
	var seeds [][]byte
	for _, r := range []wire.Request{
		&wire.Join{Version: 1, Token: "st1.e30.AAAA", Name: "x", Publish: []wire.Publication{camera}}, member.resumption(0), &answer,
		&wire.Publish{Publications: []wire.Publication{mic}}, &wire.Moderate{Action: wire.ActionRemove, Participant: "p"},
	} {
		text, err := wire.EncodeRequest(1, r)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, text)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	c := w.connect()
	cuts := 0
	for i := range 100_000 {
		text := mangle(rng, seeds[i%len(seeds)])
		if f, err := wire.Decode(text); err == nil {
			if _, takes := f.Request.(*wire.Resume); takes {
				continue // still whole, and good: not what this test is about
			}
		}
		c.link.Receive(t.Context(), text)
		if c.drain(); c.closing != nil {
			if c.closing.Code != wire.CloseViolation {
				t.Fatalf("closing %+v", c.closing)
			}
			cuts++
			c.disconnect()
			c = w.connect()
		}
		c.replies = map[int64]wire.Reply{}
	}
	c.disconnect()
	if st := w.svc.Stats(); st.Violations != int64(cuts) || cuts < 2000 || st.Sessions != 1 || st.Rooms != 1 {
		t.Errorf("%d cuts, %+v", cuts, st)
	}
	must[*wire.PingOK](member, &wire.Ping{})
}

// The same for answers, which are cut off from certificate and credentials.
func TestMalformedAnswersByTheThousand(t *testing.T) {
	seed := []byte("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n" +
		"a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rid:q send\r\na=simulcast:send q\r\na=ssrc-group:FID 1 2\r\n")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		a, err := sdp.ParseAnswer(string(mangle(rng, seed)))
		if err != nil {
			continue
		}
		for _, s := range a.Sections {
			if !s.Rejected { // there is no certificate, so nothing can be in use
				t.Fatalf("accepted %+v", a)
			}
		}
	}
}
