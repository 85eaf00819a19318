package forward_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// loses has the client report a loss of its leg n.
func (c *client) loses(n uint32, fraction uint8) {
	c.report(&pionrtcp.ReceiverReport{SSRC: 9, Reports: []pionrtcp.ReceptionReport{{SSRC: 1000 + n, FractionLost: fraction}}})
}

// A repair goes a second time, a little later, to who loses much; to others, or when that is long ago, it does not.
func TestRepairGoesTwiceOnALossyLink(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	repaired := func(what string, want ...int64) {
		t.Helper()
		sv.push(key(what))
		lost := c.take()[0]
		began := r.now
		c.report(nack(1001, lost.SequenceNumber))
		r.run(40 * ms)
		var got []int64
		seen := make(map[uint64]bool)
		for _, p := range of(c.take(), 2001) {
			if be16(p.payload) != lost.SequenceNumber || string(p.payload[4:]) != what || seen[p.index] {
				t.Errorf("%s: %+v", what, p)
			}
			seen[p.index] = true
			got = append(got, (p.at-began)/ms)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: sent after ms %s", what, d)
		}
	}
	repaired("no loss", 0)
	c.loses(1, 2)
	repaired("little loss", 0)
	c.loses(1, 13)
	repaired("5 % loss", 0, 10)
	c.loses(1, 0)
	repaired("a moment later", 0, 10)
	r.run(31 * sec)
	repaired("long after", 0)
	if n := r.router.Counters; n.Retransmitted != 5 || n.Echoed != 2 {
		t.Errorf("counters %+v", n)
	}
}

// However much is asked for at once, no more than 64 packets wait to go a second time; and what is gone by then is passed over.
func TestEchoesAreBounded(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, unreporting)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	leg := c.slot(1, rtp.KindVideo, vp8)
	leg.Bind(tv, r.now)
	c.loses(1, 50)
	sv.push(key("0"))
	for i := range 200 {
		sv.push(delta(fmt.Sprint(i)))
	}
	first := c.take()[0].SequenceNumber
	ask := func(from uint16) {
		var seqs []uint16
		for i := range uint16(60) {
			seqs = append(seqs, first+from+i)
		}
		c.report(nack(1001, seqs...))
	}
	ask(0)
	ask(60)
	r.run(30 * ms)
	if got := of(c.take(), 2001); len(got) != 120+64 || r.router.Counters.Echoed != 64 {
		t.Errorf("%d packets, counters %+v", len(got), r.router.Counters)
	}
	ask(120)
	leg.Bind(nil, r.now)
	c.take()
	r.run(30 * ms)
	if got := c.take(); len(got) != 0 || r.router.Counters.Echoed != 64 {
		t.Errorf("%d packets of a leg that shows nothing, counters %+v", len(got), r.router.Counters)
	}
}

// A receiver that sends nothing learns the round trip time from our answer to its reference time (RFC 3611 §4.5), with the next
// report.
func TestReferenceTimeIsAnswered(t *testing.T) {
	r := newRig(t)
	a, c := r.join(1, theirs), r.join(2, ours)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	sv.push(key("0"))
	a.report(&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: 5 << 32})
	r.run(sec)
	ask := func(ssrc uint32, ntp uint64) {
		c.report(&pionrtcp.ExtendedReport{SenderSSRC: ssrc, Reports: []pionrtcp.ReportBlock{&pionrtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: ntp}}})
	}
	reports[*pionrtcp.ExtendedReport](c)
	ignored := r.router.Counters.IgnoredRTCP
	ask(1, 0x1122_33334444_5555)
	ask(1, 0x1122_66667777_5555) // the later one counts
	ask(2, 0x1122_88889999_5555)
	asked := r.now
	var got []*pionrtcp.ExtendedReport
	for len(got) == 0 && r.now < asked+2*sec {
		sv.push(delta("x"))
		r.run(50 * ms)
		got = reports[*pionrtcp.ExtendedReport](c)
	}
	if len(got) != 1 || len(got[0].Reports) != 1 {
		t.Fatalf("%d answers: %+v", len(got), got)
	}
	block, ok := got[0].Reports[0].(*pionrtcp.DLRRReportBlock)
	if !ok || len(block.Reports) != 2 {
		t.Fatalf("%+v", got[0].Reports[0])
	}
	for i, want := range []pionrtcp.DLRRReport{{SSRC: 1, LastRR: 0x66667777}, {SSRC: 2, LastRR: 0x88889999}} {
		d := block.Reports[i]
		delay := int64(d.DLRR) * sec / 65536
		if d.SSRC != want.SSRC || d.LastRR != want.LastRR || delay <= 0 || delay > r.now-asked {
			t.Errorf("answer %d is %+v after %d ns", i, d, r.now-asked)
		}
	}
	for range 30 { // it is answered once
		sv.push(delta("x"))
		r.run(50 * ms)
	}
	if got := reports[*pionrtcp.ExtendedReport](c); len(got) != 0 {
		t.Errorf("%d answers to nothing", len(got))
	}
	c.report(&pionrtcp.ExtendedReport{SenderSSRC: 1})
	if n := r.router.Counters.IgnoredRTCP; n != ignored+1 {
		t.Errorf("%d ignored", n-ignored)
	}
}
