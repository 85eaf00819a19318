package forward_test

import (
	"testing"

	pionrtcp "github.com/pion/rtcp"
)

// viewer is what shows the picture of a path's receiver: it asks for what is missing, and shows what can be decoded, when that can be.
type viewer struct {
	c     *client
	got   map[uint16]packet // of the picture's stream, by number
	next  uint16            // first packet of the next picture
	top   uint16            // highest that came
	begun bool
	asked map[uint16]int64
	plied int64

	shown []int64 // when
}

func newViewer(c *client) *viewer {
	return &viewer{c: c, got: map[uint16]packet{}, asked: map[uint16]int64{}}
}

// take takes a packet in.
func (v *viewer) take(x packet) {
	seq, body := x.SequenceNumber, x.payload
	switch x.SSRC {
	case 1001:
	case 2001:
		if x.Padding { // a probe
			return
		}
		if len(body) < 3 {
			return
		}
		seq, body = be16(body), body[2:]
		x.payload = body
	default:
		return
	}
	if !v.begun {
		v.begun, v.next, v.top = true, seq, seq
	}
	if int16(seq-v.next) < 0 {
		return
	}
	if _, ok := v.got[seq]; !ok {
		x.SequenceNumber = seq
		v.got[seq] = x
	}
	if int16(seq-v.top) > 0 {
		v.top = seq
	}
}

// whole returns the last packet of the picture that begins at from.
func (v *viewer) whole(from uint16) (uint16, bool) {
	for seq := from; ; seq++ {
		x, ok := v.got[seq]
		if !ok || x.Timestamp != v.got[from].Timestamp {
			return 0, false
		}
		if x.Marker {
			return seq, true
		}
	}
}

// isKey says whether a packet begins a key frame.
func isKey(x packet) bool { return len(x.payload) > 1 && x.payload[0]&0x10 != 0 && x.payload[1]&1 == 0 }

// look shows what can be shown, and asks for what is missing.
func (v *viewer) look(now int64) {
	for v.begun {
		if end, ok := v.whole(v.next); ok {
			v.show(end, now)
			continue
		}
		found := false
		for seq := v.next; int16(v.top-seq) >= 0; seq++ { // a key frame behind needs nothing of what is missing
			if x, ok := v.got[seq]; ok && isKey(x) {
				if end, ok := v.whole(seq); ok && seq != v.next {
					v.show(end, now)
					found = true
					break
				}
			}
		}
		if !found {
			break
		}
	}
	var missing []uint16
	for seq := v.next; int16(v.top-seq) > 0; seq++ {
		if _, ok := v.got[seq]; !ok && now-v.asked[seq] > 100*ms {
			v.asked[seq] = now
			missing = append(missing, seq)
		}
	}
	if len(missing) > 0 {
		v.c.report(&pionrtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 1001, Nacks: pionrtcp.NackPairsFromSequenceNumbers(missing)})
	}
	if n := len(v.shown); n > 0 && now-v.shown[n-1] > 400*ms && now-v.plied > 400*ms {
		v.plied = now
		v.c.report(&pionrtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 1001})
	}
}

func (v *viewer) show(end uint16, now int64) {
	v.shown = append(v.shown, now)
	for seq := v.next; seq != end+1; seq++ {
		delete(v.got, seq)
		delete(v.asked, seq)
	}
	v.next = end + 1
	if int16(v.top-v.next) < 0 {
		v.top = v.next
	}
}

// C2: a link that becomes a bottleneck of 300 kbit/s with a queue of 300 ms lets the picture stand still for at most 300 ms in nine of
// ten runs: what fills the queue must be seen soon, and what is to be shown behind it must be the first that leaves when it is gone.
func TestFreezeAtBottleneck(t *testing.T) {
	runs, long := 0, 0
	for _, rates := range [][]int{{100e3, 350e3, 1200e3}, {130e3, 260e3, 1000e3}, {150e3, 500e3, 1500e3}} {
		for phase := range int64(4) {
			k := newCall(t, 20e6, rates...)
			k.p.queue, k.p.delay, k.p.view = 300*ms, 20*ms, newViewer(k.c)
			k.run(6*sec+phase*13*ms, nil)
			last, worst := k.now, int64(0)
			k.p.view.shown = nil
			k.p.rate = 300e3
			k.run(12*sec, nil)
			for _, at := range append(k.p.view.shown, k.now) {
				worst = max(worst, at-last)
				last = at
			}
			t.Logf("%v, phase %d: longest freeze %d ms, %d lost, %d pictures", rates, phase, worst/ms, k.p.lost, len(k.p.view.shown))
			if runs++; worst > 300*ms {
				long++
			}
			if worst > 400*ms {
				t.Errorf("the picture stands still for %d ms", worst/ms)
			}
		}
	}
	if 10*long > runs {
		t.Errorf("over 300 ms in %d of %d runs", long, runs)
	}
}
