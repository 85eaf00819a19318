package layer

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer/layertest"
)

// world is a publisher with one or more streams, an uplink, a leg, and its receiver.
type world struct {
	t       testing.TB
	pubs    []*layertest.Publisher
	parsers []Parser
	sel     Selector
	recv    *layertest.Receiver
	frames  []*layertest.Frame
	r       *rand.Rand

	loss, reorder float64
	held          []held // lost packets on their way again, and late ones
	picture       int
	keyAsked      []bool
	answer        bool // key requests are answered
	sent          []sentPacket
	begins        int
	last          Target
	partial       map[int]bool // see changed
	changes       int
	churn         bool   // key frames come more often than structures are remembered
	midway        func() // called between the packets of a picture
}

type held struct {
	p   *layertest.Packet
	due int
}

type sentPacket struct {
	p       *layertest.Packet
	stamp   Stamp
	payload []byte
	dd      []byte
	marker  bool
}

func newWorld(t testing.TB, seed uint64, pubs ...layertest.Publisher) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 99)), answer: true, partial: map[int]bool{}, last: None}
	for i, p := range pubs {
		p.Stream = i
		w.pubs = append(w.pubs, layertest.New(p, seed, &w.frames))
	}
	w.parsers = make([]Parser, len(pubs))
	w.keyAsked = make([]bool, len(pubs))
	w.recv = layertest.NewReceiver(t, &w.frames)
	return w
}

// run lets the publisher make n pictures of each stream.
func (w *world) run(n int) {
	w.t.Helper()
	for range n {
		for i, p := range w.pubs {
			for _, pk := range p.Next(w.keyAsked[i]) {
				w.uplink(pk)
				if w.midway != nil {
					w.midway()
					w.changed(pk)
				}
			}
			w.keyAsked[i] = false
		}
		if s, ok := w.sel.NeedsKey(); ok && w.answer {
			w.keyAsked[s] = true
		}
		w.picture++
		w.deliver(w.picture)
	}
}

func (w *world) uplink(p *layertest.Packet) {
	switch x := w.r.Float64(); {
	case x < w.loss:
		w.held = append(w.held, held{p, w.picture + 2 + w.r.IntN(3)})
	case x < w.loss+w.reorder:
		w.held = append(w.held, held{p, w.picture + w.r.IntN(2)})
	default:
		w.arrive(p)
	}
}

// deliver lets in what is due.
func (w *world) deliver(until int) {
	rest := w.held[:0]
	for _, h := range w.held {
		if h.due < until {
			w.arrive(h.p)
		} else {
			rest = append(rest, h)
		}
	}
	w.held = rest
}

func (w *world) arrive(p *layertest.Packet) {
	w.t.Helper()
	in := w.parsers[p.Frame.Stream].Parse(p.Codec, p.DD, p.Payload, p.Marker)
	v, st := w.sel.Select(p.Frame.Stream, &in)
	w.changed(p)
	if v == Drop {
		return
	}
	if v == Begin {
		w.begins++
	}
	s := w.rewrite(p, &in, st)
	w.sent = append(w.sent, s)
	w.recv.Take(layertest.Got{TS: w.ts(p), Marker: s.marker, Payload: s.payload, DD: s.dd, Codec: p.Codec})
}

// changed notes whether what is sent changed, and with it a picture that is not whole, or has got more after its marker: one in
// which a stream begins, ends or goes up to another spatial layer.
func (w *world) changed(p *layertest.Packet) {
	cur := w.sel.Current()
	if cur == w.last {
		return
	}
	if cur.Stream != w.last.Stream || cur.Spatial > w.last.Spatial {
		w.partial[w.ts(p)] = true
	}
	w.changes++
	w.last = cur
}

func (w *world) ts(p *layertest.Packet) int { return p.Frame.Stream*1e6 + p.Frame.Picture }

// rewrite does what a leg does with a Stamp, and sees that the packet is as it was afterwards.
func (w *world) rewrite(p *layertest.Packet, in *Info, st Stamp) sentPacket {
	w.t.Helper()
	s := sentPacket{p: p, stamp: st, marker: st.Marker(in)}
	was := bytes.Clone(p.Payload)
	patch := st.Patch(in, p.Payload)
	patch.Apply(p.Payload)
	s.payload = bytes.Clone(p.Payload)
	patch.Undo(p.Payload)
	if !bytes.Equal(was, p.Payload) {
		w.t.Fatalf("payload %x after Undo, was %x", p.Payload, was)
	}
	if p.DD != nil {
		s.dd = st.AppendDependency(nil, in, p.DD)
		if len(s.dd) > len(p.DD)+MaxGrowth {
			w.t.Fatalf("descriptor grew by %d", len(s.dd)-len(p.DD))
		}
	}
	return s
}

// finish lets in what is under way, and checks what can be seen in the end.
func (w *world) finish(stalled int) {
	w.t.Helper()
	w.deliver(1 << 30)
	n, first := w.recv.Waiting()
	w.t.Logf("%d frames made, %d decoded, %d waiting, %d changes, %d begins", len(w.frames), len(w.recv.Decoded), n, w.changes, w.begins)
	if n > stalled {
		w.t.Errorf("%d frames never decoded, the first is %s", n, first)
	}
	w.again()
}

// again sends everything again: the bytes must be those of the first time.
func (w *world) again() {
	w.t.Helper()
	for _, s := range w.sent[max(0, len(w.sent)-40):] {
		in := w.parsers[s.p.Frame.Stream].Peek(s.p.Codec, s.p.DD, s.p.Payload, s.p.Marker)
		if in.unknown && w.churn {
			continue
		}
		got := w.rewrite(s.p, &in, s.stamp)
		if !bytes.Equal(got.payload, s.payload) || !bytes.Equal(got.dd, s.dd) || got.marker != s.marker {
			w.t.Fatalf("frame %d sent again: %x %x %v, first %x %x %v", s.p.Frame.UID, got.payload, got.dd, got.marker, s.payload, s.dd, s.marker)
		}
	}
}

var kinds = []struct {
	name string
	pubs []layertest.Publisher
}{
	{"vp8 T3", []layertest.Publisher{{Codec: rtp.VP8, Temporal: 3}}},
	{"vp8 T3 with descriptor", []layertest.Publisher{{Codec: rtp.VP8, Temporal: 3, Descriptor: true}}},
	{"vp8 simulcast T3", []layertest.Publisher{{Codec: rtp.VP8, Temporal: 3}, {Codec: rtp.VP8, Temporal: 3}, {Codec: rtp.VP8, Temporal: 3}}},
	{"vp9 L3T3 flexible", []layertest.Publisher{{Codec: rtp.VP9, Spatial: 3, Temporal: 3, Flexible: true}}},
	{"vp9 L3T3", []layertest.Publisher{{Codec: rtp.VP9, Spatial: 3, Temporal: 3}}},
	{"vp9 L3T3_KEY flexible", []layertest.Publisher{{Codec: rtp.VP9, Spatial: 3, Temporal: 3, KSVC: true, Flexible: true}}},
	{"vp9 L3T3_KEY", []layertest.Publisher{{Codec: rtp.VP9, Spatial: 3, Temporal: 3, KSVC: true}}},
	{"vp9 L3T3 with descriptor", []layertest.Publisher{{Codec: rtp.VP9, Spatial: 3, Temporal: 3, Flexible: true, Descriptor: true}}},
	{"av1 L1T3", []layertest.Publisher{{Codec: rtp.AV1, Temporal: 3, Descriptor: true}}},
	{"av1 L3T3", []layertest.Publisher{{Codec: rtp.AV1, Spatial: 3, Temporal: 3, Descriptor: true, HighFirst: true}}},
	{"av1 L3T3 custom", []layertest.Publisher{{Codec: rtp.AV1, Spatial: 3, Temporal: 3, Descriptor: true, Custom: true}}},
	{"av1 L3T3_KEY", []layertest.Publisher{{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Descriptor: true}}},
	{"av1 L3T3_KEY_SHIFT", []layertest.Publisher{{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Shift: true, Descriptor: true, HighFirst: true, Custom: true}}},
	{"av1 simulcast L1T3", []layertest.Publisher{{Codec: rtp.AV1, Temporal: 3, Descriptor: true}, {Codec: rtp.AV1, Temporal: 3, Descriptor: true}, {Codec: rtp.AV1, Temporal: 3, Descriptor: true}}},
	{"av1 L3T3_KEY, opaque", []layertest.Publisher{{Codec: rtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Descriptor: true, Opaque: true}}},
	{"h264 simulcast L1T3, opaque", []layertest.Publisher{
		{Codec: rtp.H264, Temporal: 3, Descriptor: true, Opaque: true}, {Codec: rtp.H264, Temporal: 3, Descriptor: true, Opaque: true},
	}},
}

// TestSwitching changes the target at random over every kind of stream, without loss: nothing may ever stall. Row C1.
func TestSwitching(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(20) {
				w := newWorld(t, seed, k.pubs...)
				w.churn = true
				p := w.pubs[0]
				aim := func() {
					w.sel.SetTarget(Target{
						Stream: int8(w.r.IntN(len(k.pubs))), Spatial: uint8(w.r.IntN(p.Spatial)), Temporal: uint8(w.r.IntN(p.Temporal)),
					})
				}
				for range 40 {
					aim()
					switch w.r.IntN(12) {
					case 0:
						w.sel.Reset()
					case 1:
						w.sel.SetTarget(None)
					case 2:
						w.sel.SetTarget(Target{Stream: int8(len(k.pubs) - 1), Spatial: Top, Temporal: Top})
					case 3:
						p.Refresh = p.Spatial > 1 && !p.KSVC
						w.answer = false
					}
					w.run(1 + w.r.IntN(30))
					w.answer = true
					w.midway = func() {
						if w.r.IntN(4) == 0 {
							aim()
						}
					}
					w.run(2)
					w.midway = nil
				}
				w.finish(0)
				w.recv.CheckMarkers(func(ts int) bool { return w.partial[ts] })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// TestImpaired loses, repeats and reorders what the publisher sends. A lost packet comes a few pictures late; what cannot be
// decoded for that must be little, and nothing may be wrong.
func TestImpaired(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			made, waiting := 0, 0
			for seed := range uint64(20) {
				w := newWorld(t, seed, k.pubs...)
				w.loss, w.reorder, w.recv.Late = 0.02, 0.05, true
				p := w.pubs[0]
				for range 20 {
					w.sel.SetTarget(Target{
						Stream: int8(w.r.IntN(len(k.pubs))), Spatial: uint8(w.r.IntN(p.Spatial)), Temporal: uint8(w.r.IntN(p.Temporal)),
					})
					w.run(20 + w.r.IntN(40))
				}
				w.finish(1 << 30)
				made += len(w.recv.Order)
				n, _ := w.recv.Waiting()
				waiting += n
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			t.Logf("%d decoded, %d not", made, waiting)
			if waiting*1000 > made {
				t.Errorf("%d of %d frames were not decoded in the end", waiting, made)
			}
		})
	}
}
