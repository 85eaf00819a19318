package layer

import (
	"bytes"
	"testing"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer/layertest"
)

// seedPackets adds what simulated publishers of a codec send.
func seedPackets(f *testing.F, add func(*layertest.Packet)) {
	for _, k := range kinds {
		var frames []*layertest.Frame
		p := layertest.New(k.pubs[0], 1, &frames)
		for range 5 {
			for _, pk := range p.Next(false) {
				add(pk)
			}
		}
	}
}

// sendFuzzed parses a packet in a stream that has begun, chooses, rewrites and undoes. Whatever it is, what is not to be changed
// must not be.
func sendFuzzed(t *testing.T, c rtp.Codec, first, dd, payload []byte, firstDD []byte, marker bool) {
	var p Parser
	var s Selector
	s.SetTarget(Target{Spatial: 1, Temporal: 1})
	packets := []struct{ dd, payload []byte }{{firstDD, first}, {dd, payload}, {firstDD, first}, {dd, payload}}
	for _, pk := range packets {
		in := p.Parse(c, pk.dd, pk.payload, marker)
		if in.Spatial > Top || in.Temporal > Top {
			t.Fatalf("layer S%dT%d", in.Spatial, in.Temporal)
		}
		if l := p.Layers(); !in.unknown && (l.Spatial <= in.Spatial || l.Temporal <= in.Temporal) {
			t.Fatalf("%v layers, but S%dT%d", l, in.Spatial, in.Temporal)
		}
		v, st := s.Select(0, &in)
		if v == Drop {
			continue
		}
		st.picture, st.tl0, st.keyIdx = st.picture+3, st.tl0+5, st.keyIdx+7
		was := bytes.Clone(pk.payload)
		patch := st.Patch(&in, pk.payload)
		patch.Apply(pk.payload)
		if len(pk.payload) > 6 && !bytes.Equal(was[6:], pk.payload[6:]) {
			t.Fatal("patched behind the descriptor")
		}
		var q Parser
		if again := q.Parse(c, nil, pk.payload, marker); c == rtp.VP8 && again.Temporal != in.Temporal && !in.described {
			t.Fatal("patched the layer")
		}
		patch.Undo(pk.payload)
		if !bytes.Equal(was, pk.payload) {
			t.Fatal("Undo did not")
		}
		out := st.AppendDependency(nil, &in, pk.dd)
		if len(out) > len(pk.dd)+MaxGrowth || len(out) < min(len(pk.dd), mandatoryLen) {
			t.Fatalf("descriptor of %d bytes became %d", len(pk.dd), len(out))
		}
		s.Reset()
	}
}

func FuzzVP8(f *testing.F) {
	seedPackets(f, func(p *layertest.Packet) {
		if p.Codec == rtp.VP8 {
			f.Add(p.Payload, p.Marker)
		}
	})
	f.Add([]byte{}, true)
	f.Add([]byte{0x90, 0x80, 0x11, 0x00}, false)
	f.Fuzz(func(t *testing.T, payload []byte, marker bool) {
		sendFuzzed(t, rtp.VP8, []byte{0x90, 0xf0, 0x81, 0x23, 0x44, 0x05, 0x00}, nil, payload, nil, marker)
	})
}

func FuzzVP9(f *testing.F) {
	seedPackets(f, func(p *layertest.Packet) {
		if p.Codec == rtp.VP9 {
			f.Add(p.Payload, p.Marker)
		}
	})
	f.Fuzz(func(t *testing.T, payload []byte, marker bool) {
		sendFuzzed(t, rtp.VP9, []byte{0xac, 0x81, 0x23, 0x00, 0x44, 0x00}, nil, payload, nil, marker)
	})
}

func FuzzDescriptor(f *testing.F) {
	seedPackets(f, func(p *layertest.Packet) {
		if p.DD != nil {
			f.Add(p.DD, p.Marker)
		}
	})
	for _, c := range captured {
		f.Add(unhex(f, c.hex), false)
	}
	first := unhex(f, captured[0].hex)
	f.Fuzz(func(t *testing.T, dd []byte, marker bool) {
		sendFuzzed(t, rtp.AV1, []byte{0x18, 0}, dd, []byte{0x10, 0}, first, marker)
		sendFuzzed(t, rtp.VP8, []byte{0x90, 0xf0, 0x81, 0x23, 0x44, 0x05, 0x00}, dd, []byte{0x90, 0xf0, 0x81, 0x24, 0x45, 0x05, 0x01}, first, marker)
	})
}
