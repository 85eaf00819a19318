package client_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// lossy loses every tenth packet of some streams, once each.
type lossy struct {
	mu     sync.Mutex
	only   map[uint32]bool    // SSRCs; nil: none yet
	lost   map[[2]uint32]bool // by SSRC and sequence number
	repair atomic.Int32       // packets of other streams of the same payload family: retransmissions
}

func (l *lossy) choose(ssrcs ...uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.only, l.lost = map[uint32]bool{}, map[[2]uint32]bool{}
	for _, s := range ssrcs {
		l.only[s] = true
	}
}

func (l *lossy) lose(b []byte) bool {
	h := header(b)
	if h == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.PayloadType == 97 {
		l.repair.Add(1)
	}
	which := [2]uint32{h.SSRC, uint32(h.SequenceNumber)}
	if !l.only[h.SSRC] || h.SequenceNumber%10 != 0 || l.lost[which] {
		return false
	}
	l.lost[which] = true
	return true
}

func (l *lossy) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lost)
}

// whole reads until the numbers from the first on are all there, n of them, in whatever order. It returns how many came by
// retransmission.
func whole(t *testing.T, s *client.Stream, n uint32) (repaired int) {
	t.Helper()
	first, _, _ := number(receive(t, "packet", s.Packets()))
	seen := map[uint32]bool{first: true}
	numbers := map[uint16]bool{}
	for end := time.Now().Add(patience); ; {
		missing := uint32(0)
		for i := first; i < first+n; i++ {
			if !seen[i] {
				missing++
			}
		}
		if missing == 0 {
			return repaired
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d packets are missing", missing, n)
		}
		p := receive(t, "packet", s.Packets())
		v, _, ok := number(p)
		if !ok || numbers[p.SequenceNumber] || seen[v] {
			t.Fatalf("packet %d (number %d) is not of a talker, or came before", p.SequenceNumber, v)
		}
		seen[v], numbers[p.SequenceNumber] = true, true
		if p.Repaired {
			repaired++
		}
	}
}

// Packets lost on the way to a receiver are asked for by it and sent again by the node, over the retransmission stream.
func TestRepairOfReceiver(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	loss := &lossy{}
	ann := m.join("Ann", publish(camera))
	bob := m.join("Bob", with(auto, socket(t, loss.lose, nil)))
	talk(t, ann.Local(wire.Camera), nil)
	stream := bob.stream(wire.Camera)
	continuous(t, read(t, stream, 10), videoClock)
	loss.choose(stream.SSRC())
	repaired := whole(t, stream, 200)
	if repaired < 15 || loss.count() < 15 {
		t.Errorf("%d packets repaired, %d lost", repaired, loss.count())
	}
	st := m.stats().Forward
	if st.NACKsIn == 0 || st.Retransmitted+st.Probes < uint64(repaired) || st.RetransmitMissed != 0 { // probes are packets sent again, too
		t.Errorf("counters %+v", st)
	}
}

// Packets lost on the way from a publisher are asked for by the node.
func TestRepairOfPublisher(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	loss := &lossy{}
	ann := m.join("Ann", with(publish(camera), socket(t, nil, loss.lose)))
	bob := m.join("Bob", auto)
	track := ann.Local(wire.Camera)
	talk(t, track, nil)
	stream := bob.stream(wire.Camera)
	continuous(t, read(t, stream, 10), videoClock)
	loss.choose(track.SSRCs()...)
	whole(t, stream, 200) // in the gap of the receiver's numbers, or over its own request when that is quicker
	if loss.count() < 15 || loss.repair.Load() < 15 {
		t.Errorf("%d packets lost, %d sent again", loss.count(), loss.repair.Load())
	}
	asked := map[uint16]bool{}
	for len(track.Feedback()) > 0 {
		for _, n := range nacked(<-track.Feedback()) {
			asked[n] = true
		}
	}
	loss.mu.Lock()
	defer loss.mu.Unlock()
	missing := 0
	for which := range loss.lost {
		if !asked[uint16(which[1])] {
			missing++
		}
	}
	if missing > 2 { // the newest may be asked for later
		t.Errorf("%d lost packets were never asked for", missing)
	}
	if st := m.stats().Forward; st.Recovered < 15 {
		t.Errorf("counters %+v", st)
	}
}

// Lost packets of simulcast layers are repaired too: their retransmissions name the layer.
func TestRepairOfLayers(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	loss := &lossy{}
	ann := m.join("Ann", with(publish(client.Publication{Source: wire.Camera, Simulcast: true}), socket(t, nil, loss.lose)))
	bob := m.join("Bob", auto)
	track := ann.Local(wire.Camera)
	talk(t, track, func(w *talker) { w.layers.Store(3) })
	stream := bob.stream(wire.Camera)
	await(t, "highest layer", stream.Packets(), func(p client.Packet) bool { _, layer, _ := number(p); return layer == 2 })
	loss.choose(track.SSRCs()...)
	whole(t, stream, 200)
	if st := m.stats().Forward; st.Recovered < 30 {
		t.Errorf("counters %+v", st)
	}
}

// The node tells a publisher when its packets came, each of them once, ten times a second (transport-wide congestion control).
func TestTransportFeedback(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(camera))
	track := ann.Local(wire.Camera)
	w := talk(t, track, nil)
	var got []*rtcp.TransportLayerCC
	began := time.Now()
	for len(got) < 12 {
		if cc, ok := receive(t, "feedback", track.Feedback()).(*rtcp.TransportLayerCC); ok {
			got = append(got, cc)
		}
	}
	took := time.Since(began)
	next := got[0].BaseSequenceNumber
	packets := 0
	for i, cc := range got {
		if cc.FbPktCount != got[0].FbPktCount+uint8(i) {
			t.Errorf("feedback %d has number %d, the first %d", i, cc.FbPktCount, got[0].FbPktCount)
		}
		if cc.BaseSequenceNumber != next {
			t.Errorf("feedback %d begins with %d, want %d", i, cc.BaseSequenceNumber, next)
		}
		next = cc.BaseSequenceNumber + cc.PacketStatusCount
		packets += int(cc.PacketStatusCount)
		var sum int64
		for _, d := range cc.RecvDeltas {
			sum += d.Delta
		}
		if len(cc.RecvDeltas) != int(cc.PacketStatusCount) {
			t.Errorf("feedback %d: %d packets, %d of them came", i, cc.PacketStatusCount, len(cc.RecvDeltas))
		}
		if sum > int64(time.Second/time.Microsecond) {
			t.Errorf("feedback %d covers %d µs", i, sum)
		}
	}
	if sent := int(w.sent.Load()); packets > sent || packets < sent/2 {
		t.Errorf("%d packets reported, %d sent", packets, sent)
	}
	// Twelve at 100 ms are 1.1 s; more only when the machine is busy.
	if took < 800*time.Millisecond {
		t.Errorf("twelve feedbacks within %s", took)
	}
}

// Three layers are received; the highest is forwarded, and when it stops the next one, under one SSRC and without a gap.
func TestSimulcast(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	ann := m.join("Ann", publish(client.Publication{Source: wire.Camera, Simulcast: true}))
	bob := m.join("Bob", auto)
	track := ann.Local(wire.Camera)
	w := talk(t, track, func(w *talker) { w.layers.Store(3) })
	if track.Layers() != 3 {
		t.Fatalf("%d layers were asked for, want 3", track.Layers())
	}
	stream := bob.stream(wire.Camera)
	if p := person(t, bob, "Ann"); !p.Tracks[0].Simulcast {
		t.Errorf("roster: %+v", p)
	}
	eventually(t, "three layers at the node", func() bool {
		all, err := m.node.Conferences(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all[0].Endpoints {
			if string(e.Participant) == ann.Participant() && len(e.Tracks) == 1 {
				return len(e.Tracks[0].Layers) == 3 && !slices.ContainsFunc(e.Tracks[0].Layers, func(l sfu.LayerInfo) bool { return l.Packets < 20 })
			}
		}
		return false
	})
	isLayer := func(want byte) func(client.Packet) bool {
		return func(p client.Packet) bool { _, layer, _ := number(p); return layer == want }
	}
	await(t, "highest layer", stream.Packets(), isLayer(2))
	before := read(t, stream, 20)
	continuous(t, before, videoClock)
	w.layers.Store(2) // as an encoder does that runs out of bandwidth
	last := before[len(before)-1]
	after := []client.Packet{await(t, "middle layer", stream.Packets(), func(p client.Packet) bool {
		if isLayer(2)(p) {
			last = p
		}
		return isLayer(1)(p)
	})}
	after = append(after, read(t, stream, 20)...)
	continuous(t, after, videoClock)
	if !isKey(after[0]) {
		t.Errorf("goes on with %x, want a key frame of the middle layer", after[0].Payload)
	}
	if after[0].SSRC != last.SSRC || after[0].SequenceNumber != last.SequenceNumber+1 {
		t.Errorf("goes on with %x:%d after %x:%d", after[0].SSRC, after[0].SequenceNumber, last.SSRC, last.SequenceNumber)
	}
}
