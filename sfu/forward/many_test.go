package forward_test

import (
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// crowd is one receiver of many publishers of one picture each.
type crowd struct {
	*rig
	c  *client
	p  *path
	ms []*simulcaster
}

func newCrowd(t *testing.T, n int, link int64, rate int) *crowd {
	r := newRig(t)
	c := r.join(1, ours)
	k := &crowd{rig: r, c: c, p: &path{c: c, rate: link, queue: sec}}
	for i := range n {
		a := r.join(2+i, theirs)
		track, s := a.video("1", uint32(cameraSSRC+i), uint32(cameraRTX+i))
		k.ms = append(k.ms, &simulcaster{c: a, s: []*source{s}, rates: []int{rate}})
		c.slot(uint32(1+i), rtp.KindVideo, vp8).Bind(track, r.now)
	}
	return k
}

// run lets d pass. It returns how many pictures came whole in the last second, and how many came in part.
func (k *crowd) run(d int64) (whole, part int) {
	for end := k.now + d; k.now < end; {
		if k.now/(35*ms) != (k.now-5*ms)/(35*ms) {
			for _, m := range k.ms {
				m.frame()
			}
		}
		k.rig.run(5 * ms)
		k.p.carry(k.now)
	}
	rates := make([]int, len(k.ms))
	for _, x := range k.c.got {
		if i := int(x.SSRC) - 1001; k.now-x.at < sec && i >= 0 && i < len(rates) {
			rates[i] += 8 * len(x.raw)
		}
	}
	for i, r := range rates {
		switch {
		case 10*r > 8*k.ms[i].rates[0]:
			whole++
		case r > 0:
			part++
		}
	}
	return whole, part
}

// C2: a receiver of nine pictures without smaller sizes has all of them soon when there is room, and as many whole ones as there is
// room for when there is not: none in pieces, and no queue.
func TestManyPictures(t *testing.T) {
	wide := newCrowd(t, 9, 50e6, 1e6)
	if whole, _ := wide.run(3 * sec); whole != 9 {
		t.Errorf("%d of 9 pictures after three seconds, estimate %d", whole, wide.c.peer.Estimate())
	}
	if n := wide.router.Counters.PacerDropped; n != 0 {
		t.Errorf("%d packets given up on a wide link", n)
	}

	narrow := newCrowd(t, 9, 4e6, 1e6)
	narrow.run(3 * sec)
	narrow.p.longest = 0
	dropped := narrow.router.Counters.PacerDropped
	whole, part := narrow.run(4 * sec)
	t.Logf("4 Mbit/s: %d pictures whole, %d in part, longest wait %d ms, estimate %d", whole, part, narrow.p.longest/ms, narrow.c.peer.Estimate())
	if whole < 3 || whole > 4 || part != 0 {
		t.Errorf("%d pictures of 1 Mbit/s whole and %d in part on a link of 4 Mbit/s", whole, part)
	}
	if narrow.p.longest > 150*ms || narrow.p.lost != 0 || narrow.router.Counters.PacerDropped != dropped {
		t.Errorf("packets have waited %d ms, %d are lost, %d were given up", narrow.p.longest/ms, narrow.p.lost, narrow.router.Counters.PacerDropped-dropped)
	}
}
