package forward_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// path is what lies between the node and one receiver: a bottleneck with a queue, and a receiver that reports what came when.
type path struct {
	c     *client
	rate  int64 // bit/s
	queue int64 // longest, in time; what does not fit is lost
	delay int64 // behind it
	free  int64 // when the bottleneck is
	seen  int   // of c.got

	recorder   rtcp.TWCCRecorder
	streams    map[uint32]*arrivals // by SSRC; nil: it goes by transport-wide numbers
	lost       int
	longest    int64 // wait
	arrived    []packet
	feedbackAt int64
	view       *viewer // nil: nobody looks
}

// arrivals are what a receiver of RFC 8888 remembers of a stream since its last report.
type arrivals struct {
	next uint16 // first number that it has not told of
	at   map[uint16]int64
}

// tell writes the feedback of this moment.
func (s *arrivals) tell(ssrc uint32, now int64) []byte {
	var ages []int32
	for seq, left := s.next, len(s.at); left > 0; seq++ {
		age := int32(-1)
		if at, ok := s.at[seq]; ok {
			age = int32((now - at) * 1024 / sec)
			left--
		}
		ages = append(ages, age)
	}
	b := rtcp.AppendCCFB(nil, 1, ssrc, uint32(now/1000*65536/1_000_000), s.next, ages)
	s.next += uint16(len(ages))
	clear(s.at)
	return b
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
		x.at = p.free + p.delay
		p.arrived = append(p.arrived, x)
	}
	for len(p.arrived) > 0 && p.arrived[0].at <= now {
		x := p.arrived[0]
		p.arrived = p.arrived[1:]
		if p.view != nil {
			p.view.take(x)
		}
		if p.streams != nil {
			s := p.streams[x.SSRC]
			if s == nil {
				s = &arrivals{next: x.SequenceNumber, at: map[uint16]int64{}}
				p.streams[x.SSRC] = s
			}
			if int16(x.SequenceNumber-s.next) >= 0 {
				s.at[x.SequenceNumber] = x.at
			}
			continue
		}
		if v := x.Extension(ours.TransportCC); len(v) == 2 {
			p.recorder.Received(be16(v), x.at)
		}
	}
	if p.view != nil {
		p.view.look(now)
	}
	if now >= p.feedbackAt && p.streams != nil {
		p.feedbackAt = now + 50*ms
		for _, ssrc := range slices.Sorted(maps.Keys(p.streams)) {
			if s := p.streams[ssrc]; len(s.at) > 0 {
				p.c.reportRaw(s.tell(ssrc, now))
			}
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

// call is a publisher with picture and sound and one receiver behind a path.
type call struct {
	*rig
	c     *client
	p     *path
	m     *simulcaster
	voice *source
	begun int64
	rate  int   // of the picture, in the last second
	late  int64 // longest that sound has waited, see run
}

// newCall has three sizes of the picture, or one, of these rates.
func newCall(t *testing.T, rate int64, rates ...int) *call {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	k := &call{rig: r, c: c, p: &path{c: c, rate: rate, queue: sec}, begun: r.now}
	track, s := a.camera(cameraSSRC)
	if len(rates) == 1 {
		track.Close(r.now)
		track, s[0] = a.video("1", cameraSSRC, cameraRTX)
	}
	var mic *forward.Track
	mic, k.voice = a.audio("0", 0x22220001)
	k.m = &simulcaster{c: a, s: s[:len(rates)], rates: rates}
	c.slot(1, rtp.KindVideo, vp8).Bind(track, r.now)
	c.slot(2, rtp.KindAudio, opus).Bind(mic, r.now)
	return k
}

// run lets d pass, or less when until holds before.
func (k *call) run(d int64, until func() bool) int64 {
	from := k.now
	due := func(every int64) bool { return (k.now-k.begun)/every != (k.now+5*ms-k.begun)/every }
	k.late = 0
	for k.now-from < d {
		if due(20 * ms) {
			k.voice.push(make([]byte, 80))
		}
		if due(33 * ms) {
			k.m.frame()
		}
		k.rig.run(5 * ms)
		k.p.carry(k.now)
		k.rate = 0
		for _, x := range k.c.got[max(0, len(k.c.got)-400):] {
			if x.SSRC == 1001 && k.now-x.at < sec {
				k.rate += 8 * len(x.raw)
			}
		}
		k.late = max(k.late, k.p.free-k.now)
		if until != nil && until() {
			return k.now - from
		}
	}
	return d
}

// C2: a receiver gets the layer that its link has room for: soon the best one of a good link, at once less of one that becomes narrow,
// and the best again within ten seconds after.
func TestFollowsLink(t *testing.T) { followsLink(t, newCall(t, 6e6, 150e3, 500e3, 1500e3)) }

// The same of a receiver that tells of arrivals by the numbers of each stream (RFC 8888).
func TestFollowsLinkByStream(t *testing.T) {
	k := newCall(t, 6e6, 150e3, 500e3, 1500e3)
	ext := ours
	ext.TransportCC = 0
	k.c.peer.SetExtensions(ext)
	k.c.peer.SetStreamFeedback(true)
	k.p.streams = map[uint32]*arrivals{}
	followsLink(t, k)
}

func followsLink(t *testing.T, k *call) {
	best := func() bool { return k.rate > 1400e3 }
	up := k.run(10*sec, best)
	t.Logf("the best layer after %d ms", up/ms)
	if up > 3*sec {
		t.Errorf("the best layer after %d ms", up/ms)
	}
	k.run(3*sec, nil)
	k.p.longest, k.p.lost = 0, 0

	k.p.rate = 300e3
	down := k.run(10*sec, func() bool { return k.rate < 300e3 })
	k.run(5*sec, nil)
	t.Logf("less after %d ms, longest wait %d ms, %d lost; then %d kbit/s, estimate %d", down/ms, k.p.longest/ms, k.p.lost, k.rate/1000, k.c.peer.Estimate()/1000)
	if k.rate == 0 || k.rate > 300e3 {
		t.Errorf("%d bit/s of picture on a link of 300 kbit/s", k.rate)
	}
	if k.p.longest > 700*ms {
		t.Errorf("packets have waited %d ms", k.p.longest/ms)
	}
	if k.run(3*sec, nil); k.late > 200*ms {
		t.Errorf("the queue stands at %d ms", k.late/ms)
	}

	k.p.rate = 6e6
	again := k.run(15*sec, best)
	t.Logf("the best layer again after %d ms", again/ms)
	if again > 10*sec {
		t.Errorf("the best layer again after %d ms", again/ms)
	}
	if n := k.router.Counters; n.Probes == 0 || n.Paced == 0 {
		t.Errorf("counters %+v", n)
	}
}

// C2: a picture that is far too large for the link and has no smaller size gives way to the sound, and comes back when there is room.
func TestPictureGivesWayToSound(t *testing.T) {
	k := newCall(t, 6e6, 1500e3)
	k.run(5*sec, nil)
	if k.rate < 1400e3 {
		t.Fatalf("%d bit/s", k.rate)
	}
	k.p.rate = 300e3
	k.run(6*sec, nil)
	k.run(4*sec, nil)
	t.Logf("sound waits %d ms, picture %d kbit/s, estimate %d kbit/s", k.late/ms, k.rate/1000, k.c.peer.Estimate()/1000)
	if k.late > 300*ms || k.rate > 300e3 {
		t.Errorf("sound waits %d ms, with %d bit/s of picture", k.late/ms, k.rate)
	}
	k.p.rate = 6e6
	again := k.run(20*sec, func() bool { return k.rate > 1400e3 })
	t.Logf("the picture again after %d ms, %d probes", again/ms, k.router.Counters.Probes)
	if again > 15*sec {
		t.Errorf("the picture again after %d ms, estimate %d", again/ms, k.c.peer.Estimate())
	}
}

// C2: on a link that has become narrow, with a queue of 300 ms, media waits until the queue is gone, and from then on stays below what
// the link carries: nothing is lost for what is tried in between, and it is not taken for somebody else's queue.
func TestBottleneck(t *testing.T) {
	for _, rates := range [][]int{{150e3, 500e3, 1500e3}, {100e3, 350e3, 1200e3}, {130e3, 260e3, 1000e3}} {
		k := newCall(t, 20e6, rates...)
		k.p.queue = 300 * ms
		k.run(6*sec, nil)
		k.p.rate = 300e3
		k.run(2*sec, nil)
		k.p.longest, k.p.lost = 0, 0
		k.run(13*sec, nil)
		t.Logf("%v: %d kbit/s of picture, longest wait %d ms, %d lost, estimate %d kbit/s", rates, k.rate/1000, k.p.longest/ms, k.p.lost, k.c.peer.Estimate()/1000)
		if k.rate < rates[0]*9/10 || k.rate > 300e3 {
			t.Errorf("%d bit/s of picture", k.rate)
		}
		if k.p.longest > 200*ms || k.p.lost > 0 {
			t.Errorf("packets wait up to %d ms, %d are lost", k.p.longest/ms, k.p.lost)
		}
	}
}

// A receiver that never reports is not held back.
func TestNoReports(t *testing.T) {
	k := newCall(t, 6e6, 150e3, 500e3, 1500e3)
	k.p.feedbackAt = 1 << 62
	if after := k.run(10*sec, func() bool { return k.rate > 1400e3 }); after > 5*sec {
		t.Errorf("the best layer after %d ms", after/ms)
	}
}

// What is asked for while packets wait for room goes before them: it is what the picture stands still for. Only while a queue on the
// path drains does it wait as everything does.
func TestRepairsGoBeforeWhatWaits(t *testing.T) {
	k := newCall(t, 6e6, 150e3, 500e3, 1500e3)
	k.run(6*sec, nil)
	k.p.rate = 300e3
	k.run(10*sec, func() bool { return k.rate < 300e3 }) // when a smaller one begins, what was missing of the larger is given up
	held, gone, answered := k.router.Counters.RetransmitHeld, k.router.Counters.RetransmitMissed, 0
	var waits []int64
	for range 100 {
		k.run(30*ms, nil)
		media := of(k.c.got, 1001)
		last := media[len(media)-1].SequenceNumber
		before, asked := len(k.c.got), k.now
		had := k.router.Counters.RetransmitHeld
		k.c.report(nack(1001, last))
		if k.router.Counters.RetransmitHeld == had {
			continue // there was room
		}
		wait := k.run(300*ms, func() bool {
			for _, x := range k.c.got[before:] {
				if x.SSRC == 2001 && be16(x.payload) == last {
					return true
				}
			}
			return false
		})
		if wait < 300*ms {
			answered++
		} else if missed := k.router.Counters.RetransmitMissed; missed != gone {
			gone = missed // no picture has left for a second, and this one is no longer kept
			continue
		}
		waits = append(waits, (k.now-asked)/ms)
	}
	t.Logf("%d of %d that found no room were answered, after ms %v", answered, len(waits), waits)
	if k.router.Counters.RetransmitHeld == held || len(waits) < 20 || 20*answered < 19*len(waits) {
		t.Fatalf("%d of %d answered", answered, len(waits))
	}
	slices.Sort(waits)
	if most := waits[len(waits)*19/20]; most > 100 {
		t.Errorf("nineteen of twenty waited up to %d ms", most)
	}
}
