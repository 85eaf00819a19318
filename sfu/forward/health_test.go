package forward_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

func TestHealth(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	track, s := a.camera(cameraSSRC)
	leg := c.slot(1, rtp.KindVideo, vp8)
	leg.Bind(track, r.now)
	pictures := func(layers, n int) {
		for i := range n {
			for _, x := range s[:layers] {
				if i == 0 {
					x.push(key("x"))
				} else {
					x.push(delta("x"))
				}
			}
			r.run(20 * ms)
		}
	}
	leg.SetView(forward.View{Pixels: 1280 * 720}, r.now)
	pictures(3, 20)
	health := func(want forward.LegHealth) {
		t.Helper()
		ignore := cmpopts.IgnoreFields(forward.LegHealth{}, "Packets", "RoundTrip", "Jitter")
		if d := cmp.Diff(want, leg.Health(r.now), ignore); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
	const full = 1280 * 720
	health(forward.LegHealth{Due: true, Sent: full, Useful: full})
	c.report(&pionrtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 1001})
	health(forward.LegHealth{Due: true, Sent: full, Useful: full, KeyRequests: 1})
	leg.SetView(forward.View{Pixels: 300 * 170}, r.now)
	health(forward.LegHealth{Due: true, Sent: full, Useful: full / 16, KeyRequests: 1}) // until there is a key frame
	pictures(3, 20)
	health(forward.LegHealth{Due: true, Sent: full / 16, Useful: full / 16, KeyRequests: 1})
	leg.SetView(forward.View{}, r.now)
	health(forward.LegHealth{KeyRequests: 1})
	leg.SetView(forward.View{Pixels: 1280 * 720}, r.now)
	pictures(3, 20)

	was := track.Health(r.now)
	if was.Live != 3 || was.Wanted != 3 || was.Expected != was.Received {
		t.Errorf("%+v", was)
	}
	s[2].next(delta("lost"))
	pictures(3, 5)
	now := track.Health(r.now)
	if now.Expected-was.Expected != 16 || now.Received-was.Received != 15 {
		t.Errorf("%+v, then %+v", was, now)
	}
	pictures(2, 100) // the publisher has no room for the highest
	if h := track.Health(r.now); h.Live != 2 || h.Wanted != 3 {
		t.Errorf("%+v", h)
	}
	track.SetMuted(true, r.now)
	health(forward.LegHealth{Sent: 0, KeyRequests: 1})
}
