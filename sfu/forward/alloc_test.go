package forward_test

import (
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// TestPathAllocatesNothing follows batches of one publisher's sound and picture the whole way: sealed datagrams through the Mux, the
// Router and its history, into ten receivers, sealed again; with feedback, reports, losses and repair both ways beside it.
func TestPathAllocatesNothing(t *testing.T) {
	r := newRig(t)
	a := r.join(1, theirs)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	ta, sa := a.audio("0", micSSRC)
	var first *client
	for i := range 10 {
		c := r.join(10+i, ours)
		if first == nil {
			first = c
		}
		c.slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
		c.slot(2, rtp.KindAudio, opus).Bind(ta, r.now)
	}
	tv.Tap(tap.NewRing(1<<20), r.now)
	ta.Tap(tap.NewRing(0), r.now)
	sv.push(key("begin"))
	r.null = true
	const warm, runs = 150, 300 // a second and a half: the history has its size
	payload := make([]byte, 1000)
	copy(payload, delta(""))
	n := uint16(0)
	lost := uint64(0)
	var batches [][]udp.Datagram
	add := func(batch []udp.Datagram, c *client, b []byte) []udp.Datagram {
		return append(batch, udp.Datagram{Data: b, Path: udp.Path{Remote: c.Addr, Local: serverAddr.Addr()}})
	}
	tcc := func() element { n++; return element{4, []byte{byte(n >> 8), byte(n)}} }
	for i := range warm + runs + 2 {
		var batch []udp.Datagram
		for range 3 {
			batch = add(batch, a, sv.next(payload, tcc(), element{7, []byte{1}}))
		}
		sv.next(payload, tcc()) // lost, and repaired a batch later
		batch = add(batch, a, sv.next(payload, tcc(), element{8, payload[:20]}))
		if lost != 0 {
			batch = add(batch, a, sv.repair(lost))
		}
		lost = sv.seq - 1
		batch = add(batch, a, sa.next(payload[:80], tcc(), element{6, []byte{0x85}}))
		ask := []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0x03, 0xe9, 0, 0, 0, 3} // a NACK for leg 1001
		at := 32761 + 5*max(0, i-2)
		ask[12], ask[13] = byte(at>>8), byte(at)
		ask = append(ask, 0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0x03, 0xe9) // a PLI
		sealed, err := first.media.Send.SealRTCP(nil, ask)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, add(batch, first, sealed))
	}
	i := 0
	step := func() {
		r.mux.Receive(batches[i], r.now)
		r.router.Flush(r.now)
		r.now += 10 * ms
		if r.router.NextDeadline() <= r.now {
			r.router.Tick(r.now)
		}
		i++
	}
	for range warm {
		step()
	}
	if got := testing.AllocsPerRun(runs, step); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
	c := r.router.Counters
	all := uint64((i - 1) * 6 * 10)
	if c.PacketsOut < all || c.SendErrors != 0 || c.Retransmitted < uint64(2*i) || c.Recovered != uint64(i-1) || c.FeedbackOut < 10 || c.ReportsOut < 4 || c.NACKsOut == 0 {
		t.Errorf("not the whole path: %+v", c)
	}
	if r.n < int(all) {
		t.Errorf("%d datagrams", r.n)
	}
}

// TestMirroredPathAllocatesNothing follows packets from a publisher on one shard to receivers on another, with loss, repair and
// requests for key frames on the way, and datagrams that crossed.
func TestMirroredPathAllocatesNothing(t *testing.T) {
	p := newPair(t, 256)
	a := p.a.join(1, theirs)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	ta, sa := a.audio("0", micSSRC)
	mv, ma := p.mirror(tv), p.mirror(ta)
	var first *client
	for i := range 10 {
		c := p.b.join(10+i, ours)
		if first == nil {
			first = c
		}
		c.slot(1, rtp.KindVideo, vp8).Bind(mv.Track(), p.b.now)
		c.slot(2, rtp.KindAudio, opus).Bind(ma.Track(), p.b.now)
	}
	p.push(sv, key("begin"))
	p.a.null, p.b.null = true, true
	const warm, runs = 150, 300
	payload := make([]byte, 1000)
	copy(payload, delta(""))
	type step struct {
		in    []udp.Datagram
		cross udp.Datagram
	}
	from := func(c *client, b []byte) udp.Datagram {
		return udp.Datagram{Data: b, Path: udp.Path{Remote: c.Addr, Local: serverAddr.Addr()}}
	}
	var steps []step
	for i := range warm + runs + 2 {
		var s step
		for range 3 {
			s.in = append(s.in, from(a, sv.next(payload)))
		}
		lost := sv.next(payload)
		if i%2 == 0 {
			s.in = append(s.in, from(a, lost))
		}
		s.in = append(s.in, from(a, sa.next(payload[:80])))
		ask := []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0x03, 0xe9, 0, 0, 0, 0} // a NACK for leg 1001
		at := 32761 + 4*max(0, i-2)
		ask[12], ask[13] = byte(at>>8), byte(at)
		ask = append(ask, 0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0x03, 0xe9) // a PLI
		sealed, err := first.media.Send.SealRTCP(nil, ask)
		if err != nil {
			t.Fatal(err)
		}
		s.cross = from(first, sealed)
		steps = append(steps, s)
	}
	i := 0
	run := func() {
		s := &steps[i]
		i++
		p.a.mux.Receive(s.in, p.a.now)
		p.a.router.Flush(p.a.now)
		p.down.Forward(&s.cross)
		p.down.Publish()
		p.down.Receive(p.b.router, p.b.mux, 64, p.b.now)
		p.b.router.Flush(p.b.now)
		p.up.Publish()
		p.up.Receive(p.a.router, p.a.mux, 64, p.a.now)
		for _, r := range []*rig{p.a, p.b} {
			r.now += 10 * ms
			if r.router.NextDeadline() <= r.now {
				r.router.Tick(r.now)
			}
		}
	}
	for range warm {
		run()
	}
	if got := testing.AllocsPerRun(runs, run); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
	c := p.b.router.Counters
	if c.PacketsOut < uint64(i*4*10) || c.SendErrors != 0 || c.Retransmitted == 0 || p.up.Counters.Messages == 0 || p.down.Counters.Datagrams != uint64(i) ||
		p.a.router.Counters.PacketsOut != 0 || p.down.Counters.Dropped != 0 {
		t.Errorf("not the whole path: %+v, %+v, %+v", c, p.down.Counters, p.up.Counters)
	}
}

func BenchmarkForward(b *testing.B) {
	r := newRig(b)
	a := r.join(1, theirs)
	tv, sv := a.video("1", cameraSSRC, cameraRTX)
	for i := range 10 {
		r.join(10+i, ours).slot(1, rtp.KindVideo, vp8).Bind(tv, r.now)
	}
	sv.push(key("begin"))
	r.null = true
	payload := make([]byte, 1100)
	copy(payload, delta(""))
	b.ReportAllocs()
	batch := make([]udp.Datagram, 1)
	for b.Loop() {
		b.StopTimer()
		batch[0] = udp.Datagram{Data: sv.next(payload), Path: udp.Path{Remote: a.Addr, Local: serverAddr.Addr()}}
		clear(sv.history)
		b.StartTimer()
		r.mux.Receive(batch, r.now)
		r.router.Flush(r.now)
		r.now += ms
	}
}
