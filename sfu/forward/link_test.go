package forward_test

import (
	"slices"
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// path is what lies between the node and one receiver: a bottleneck with a queue, and a receiver that reports what came when.
type path struct {
	c     *client
	rate  int64 // bit/s
	queue int64 // longest, in time; what does not fit is lost
	free  int64 // when the bottleneck is
	seen  int   // of c.got

	recorder   rtcp.TWCCRecorder
	lost       int
	longest    int64 // wait
	arrived    []packet
	feedbackAt int64
}

// carry takes what the node has sent to the receiver through the bottleneck.
func (p *path) carry(now int64) {
	for ; p.seen < len(p.c.got); p.seen++ {
		x := p.c.got[p.seen]
		start := max(x.at, p.free)
		if start-x.at > p.queue {
			p.lost++
			continue
		}
		p.free = start + int64(len(x.raw)+16+28)*8*sec/p.rate
		p.longest = max(p.longest, p.free-x.at)
		x.at = p.free
		p.arrived = append(p.arrived, x)
	}
	for len(p.arrived) > 0 && p.arrived[0].at <= now {
		x := p.arrived[0]
		p.arrived = p.arrived[1:]
		if v := x.Extension(ours.TransportCC); len(v) == 2 {
			p.recorder.Received(be16(v), x.at)
		}
	}
	if now >= p.feedbackAt && p.recorder.Pending() {
		p.feedbackAt = now + 50*ms
		p.c.reportRaw(p.recorder.Append(nil, 1, 1001, 1100))
	}
}

// simulcaster sends three sizes of a picture, a key frame when asked for one.
type simulcaster struct {
	c     *client
	s     []*source
	rates []int
	n     int
}

func (m *simulcaster) frame() {
	m.n++
	wanted := reports[pliPacket](m.c)
	for i, s := range m.s {
		size := m.rates[i] / 8 / 30
		asked := m.n == 1 || slices.ContainsFunc(wanted, func(p pliPacket) bool { return p.MediaSSRC == s.ssrc })
		head := delta("")
		if asked {
			head, size = key(""), 3*size
		}
		var batch [][]byte
		first := true
		for size > 0 {
			b := make([]byte, min(size, 1100))
			if first {
				copy(b, head)
			} else {
				b[0] = 0 // no start of a partition
			}
			first = false
			size -= len(b)
			batch = append(batch, s.packet(b, size <= 0))
		}
		m.c.deliver(batch...)
	}
}

// A receiver gets the layer that its link has room for: soon the best one of a good link, at once less of one that becomes narrow,
// and the best again within ten seconds after.
func TestFollowsLink(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	track, s := a.camera(cameraSSRC)
	mic, voice := a.audio("0", 0x22220001)
	c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	c.slot(2, rtp.KindAudio, opus).Bind(mic, r.now)
	p := &path{c: c, rate: 6e6, queue: sec}
	m := &simulcaster{c: a, s: s, rates: []int{150e3, 500e3, 1500e3}}

	begun := r.now
	var rate int // of the picture, in the last second
	run := func(d int64, until func() bool) int64 {
		from := r.now
		for r.now-from < d {
			if (r.now-begun)/(20*ms) != (r.now+5*ms-begun)/(20*ms) {
				voice.push(make([]byte, 80))
			}
			if (r.now-begun)/(33*ms) != (r.now+5*ms-begun)/(33*ms) {
				m.frame()
			}
			r.run(5 * ms)
			p.carry(r.now)
			rate = 0
			for _, x := range c.got[max(0, len(c.got)-400):] {
				if x.SSRC == 1001 && r.now-x.at < sec {
					rate += 8 * len(x.raw)
				}
			}
			if until != nil && until() {
				return r.now - from
			}
		}
		return d
	}

	up := run(10*sec, func() bool { return rate > 1400e3 })
	t.Logf("the best layer after %d ms", up/ms)
	if up > 3*sec {
		t.Errorf("the best layer after %d ms", up/ms)
	}
	run(3*sec, nil)
	p.longest, p.lost = 0, 0

	p.rate = 300e3
	down := run(10*sec, func() bool { return rate < 300e3 })
	run(5*sec, nil)
	t.Logf("less after %d ms, longest wait %d ms, %d lost; then %d kbit/s, estimate %d", down/ms, p.longest/ms, p.lost, rate/1000, c.peer.Estimate()/1000)
	if rate == 0 || rate > 300e3 {
		t.Errorf("%d bit/s of picture on a link of 300 kbit/s", rate)
	}
	if p.longest > 1100*ms {
		t.Errorf("packets have waited %d ms", p.longest/ms)
	}

	p.rate = 6e6
	again := run(15*sec, func() bool { return rate > 1400e3 })
	t.Logf("the best layer again after %d ms", again/ms)
	if again > 10*sec {
		t.Errorf("the best layer again after %d ms", again/ms)
	}
	if n := r.router.Counters; n.Probes == 0 || n.Paced == 0 {
		t.Errorf("counters %+v", n)
	}
}
