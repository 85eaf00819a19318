package forward_test

import (
	"bytes"
	"testing"

	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// The packets of a picture, which an encoder cuts into nearly equal parts, leave equally long, so that the kernel takes them as one
// run; what is in them, and what is sent again, is as it came.
func TestEven(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("picture"))
	c.take()

	sizes := []int{900, 900, 901, 901, 700}
	var batch, parts [][]byte
	for i, n := range sizes {
		b := bytes.Repeat([]byte{byte(i + 1)}, n)
		b[0] = 0
		if i == 0 {
			copy(b, delta(""))
		}
		parts = append(parts, b)
		batch = append(batch, sv.packet(b, i == len(sizes)-1))
	}
	a.deliver(batch...)
	got := c.take()
	if len(got) != len(sizes) {
		t.Fatalf("%d packets of %d", len(got), len(sizes))
	}
	for i, p := range got {
		if i < 4 && len(p.raw) != len(got[0].raw) {
			t.Errorf("packet %d has %d bytes, the first %d", i, len(p.raw), len(got[0].raw))
		}
		pad := rtp.PaddingLen(p.raw, &p.Header)
		if pad < 0 || i > 1 && pad != 0 {
			t.Fatalf("packet %d has %d bytes of padding", i, pad)
		}
		if content := p.payload[:len(p.payload)-pad]; len(content) != sizes[i] || !bytes.Equal(content[40:], parts[i][40:]) {
			t.Errorf("packet %d is not what was sent: %d bytes of %d", i, len(content), sizes[i])
		}
	}
	// Asked for again, the first comes with the padding that it went with, and says so.
	c.report(&pionrtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 1001, Nacks: []pionrtcp.NackPair{{PacketID: got[0].SequenceNumber}}})
	again := c.take()
	if len(again) != 1 || again[0].SSRC == 1001 {
		t.Fatalf("%d packets again", len(again))
	}
	pad := rtp.PaddingLen(again[0].raw, &again[0].Header)
	if content := again[0].payload[2 : len(again[0].payload)-max(pad, 0)]; pad != 1 || !bytes.Equal(content[40:], parts[0][40:]) {
		t.Errorf("sent again with %d bytes of padding: %d bytes of %d", pad, len(content), sizes[0])
	}
	if n := r.router.Counters.Evened; n != 2 {
		t.Errorf("%d counted", n)
	}
}
