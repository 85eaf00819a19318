package layer

import (
	"testing"
	"unsafe"

	"github.com/sotto-edge/sotto/sfu/layer/layertest"
)

// steady is a publisher's stream in the middle, as a leg and its parser meet it again and again.
type steady struct {
	packets []*layertest.Packet
	infos   []Info
	parser  Parser
	sel     Selector
	dst     []byte
	sink    bool
}

func newSteady(t testing.TB, k []layertest.Publisher, target Target) *steady {
	w := newWorld(t, 1, k...)
	w.sel.SetTarget(target)
	w.run(9)
	s := &steady{parser: w.parsers[0], sel: w.sel, dst: make([]byte, 0, 300)}
	for range 24 {
		s.packets = append(s.packets, w.pubs[0].Next(false)...)
	}
	s.infos = make([]Info, len(s.packets))
	return s
}

func (s *steady) parse(i int) {
	i %= len(s.packets)
	p := s.packets[i]
	s.infos[i] = s.parser.Parse(p.Codec, p.DD, p.Payload, p.Marker)
}

// forward is all that a leg does with a packet.
func (s *steady) forward(i int) {
	i %= len(s.packets)
	p, in := s.packets[i], &s.infos[i]
	v, st := s.sel.Select(0, in)
	if v == Drop {
		return
	}
	s.sink = st.Marker(in)
	patch := st.Patch(in, p.Payload)
	patch.Apply(p.Payload)
	s.dst = st.AppendDependency(s.dst[:0], in, p.DD)
	patch.Undo(p.Payload)
}

func TestNoAllocation(t *testing.T) {
	for _, k := range kinds {
		s := newSteady(t, k.pubs, Target{Spatial: 1, Temporal: 1})
		i := 0
		if n := testing.AllocsPerRun(2*len(s.packets), func() {
			s.parse(i)
			s.forward(i)
			i++
		}); n != 0 {
			t.Errorf("%s: %v allocations for a packet", k.name, n)
		}
	}
	t.Logf("Selector %d, Info %d, Parser %d, structure %d bytes", unsafe.Sizeof(Selector{}), unsafe.Sizeof(Info{}), unsafe.Sizeof(Parser{}), unsafe.Sizeof(structure{}))
	if n := unsafe.Sizeof(Selector{}); n > 320 {
		t.Errorf("a Selector of %d bytes: every leg has one", n)
	}
	if n := unsafe.Sizeof(Stamp{}); n > 8 {
		t.Errorf("a Stamp of %d bytes: a leg keeps many", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			s := newSteady(b, k.pubs, Target{Spatial: 1, Temporal: 1})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.parse(i)
			}
		})
	}
}

func BenchmarkForward(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			s := newSteady(b, k.pubs, Target{Spatial: 1, Temporal: 1})
			for i := range s.packets {
				s.parse(i)
			}
			before := s.sel
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(s.packets) == 0 {
					s.sel = before // the same packets are new again
				}
				s.forward(i)
			}
		})
	}
}
