package layer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// recorded is a packet that a browser has sent.
type recorded struct {
	stream  int
	ts      uint32
	marker  bool
	dd      []byte
	payload []byte // its beginning
}

func readRecorded(t *testing.T, name string) (out []recorded) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var p recorded
		var marker int
		var dd, payload string
		if _, err := fmt.Sscan(line, &p.stream, &p.ts, &marker, &dd, &payload); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		p.marker, p.dd, p.payload = marker == 1, unhex(t, dd), unhex(t, payload)
		out = append(out, p)
	}
	return out
}

// TestChromium: what Chromium sends is understood, and comes out whole on the other side of every switch. The streams are as its own
// encoders made them, with layers that are off while it knows too little of the link. Row C1.
func TestChromium(t *testing.T) {
	tests := []struct {
		name    string
		codec   rtp.Codec
		streams int
		layers  Layers
		size    Size // of the highest stream
	}{
		{"chromium-vp9-L3T3_KEY", rtp.VP9, 1, Layers{3, 3}, Size{960, 540}},
		{"chromium-av1-L3T3_KEY", rtp.AV1, 1, Layers{3, 3}, Size{960, 540}},
		{"chromium-vp8-simulcast", rtp.VP8, 3, Layers{1, 3}, Size{960, 540}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packets := readRecorded(t, tt.name)
			parsers, plain := make([]Parser, tt.streams), make([]Parser, tt.streams)
			infos := make([]Info, len(packets))
			for i, p := range packets {
				in := parsers[p.stream].Parse(tt.codec, p.dd, p.payload, p.marker)
				if in.unknown || !in.described {
					t.Fatalf("packet %d: descriptor %x was not understood", i, p.dd)
				}
				infos[i] = in
				if tt.codec == rtp.AV1 {
					continue // nothing but the descriptor tells layers
				}
				// The codec's own descriptor says the same.
				own := plain[p.stream].Parse(tt.codec, nil, p.payload, p.marker)
				want, got := in.facts(), own.facts()
				want.Switch, got.Switch = false, false // it knows less of that
				if tt.codec == rtp.VP8 {               // and VP8's is left out beside the other, but for where a frame starts
					want.End, got.End, want.Temporal = false, false, 0
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("packet %d: by the codec's descriptor (-dependency +own):\n%s", i, diff)
				}
			}
			for s := range parsers {
				if got := parsers[s].Layers(); got != tt.layers {
					t.Errorf("stream %d: layers %v, want %v", s, got, tt.layers)
				}
			}
			if got := parsers[tt.streams-1].Size(); got != tt.size {
				t.Errorf("size %v, want %v", got, tt.size)
			}
			sent, switches := 0, 0
			for seed := range uint64(50) {
				n, k := forwardRecorded(t, packets, infos, tt.codec, tt.streams, seed)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
				sent, switches = sent+n, switches+k
			}
			t.Logf("%d packets sent, %d switches", sent, switches)
			if sent < 50*len(packets)/8 || switches < 150 {
				t.Errorf("%d of %d packets sent, %d switches", sent, 50*len(packets), switches)
			}
		})
	}
}

// forwardRecorded switches at random, between pictures, and sees that every frame that is sent finds what it refers to, that numbers
// go on, and that each picture ends with its one marker.
func forwardRecorded(t *testing.T, packets []recorded, infos []Info, codec rtp.Codec, streams int, seed uint64) (n, switches int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	var sel Selector
	var far Parser // the receiver's
	sel.SetTarget(Target{Stream: int8(streams - 1), Spatial: Top, Temporal: Top})
	sent := map[int64]bool{} // frames, by the receiver's numbers
	last, marked := int64(-1), false
	var at uint32
	for i := range packets {
		p, in := &packets[i], &infos[i]
		if i > 0 && p.ts != packets[i-1].ts && r.IntN(6) == 0 {
			sel.SetTarget(Target{Stream: int8(r.IntN(streams)), Spatial: uint8(r.IntN(3)), Temporal: uint8(r.IntN(3))})
		}
		was := sel.Current()
		v, st := sel.Select(p.stream, in)
		if v == Drop {
			continue
		}
		if sel.Current() != was {
			switches++
		}
		payload := append([]byte(nil), p.payload...)
		patch := st.Patch(in, payload)
		patch.Apply(payload)
		marker := st.Marker(in)
		out := far.Parse(codec, st.AppendDependency(nil, in, p.dd), payload, marker)
		switch {
		case out.unknown:
			t.Errorf("packet %d: the receiver does not understand its descriptor", i)
		case out.Spatial != in.Spatial || out.Temporal != in.Temporal || out.Key != in.Key:
			t.Errorf("packet %d: came as %v, went as %v", i, in.facts(), out.facts())
		case out.present&out.active == 0:
			t.Errorf("packet %d: of none of the decode targets that the receiver is told", i)
		case out.frame < last:
			t.Errorf("packet %d: frame %d after %d", i, out.frame, last)
		case last >= 0 && v != Begin && p.ts != at && !marked:
			t.Errorf("packet %d: the picture before has no marker", i)
		case p.ts == at && marked:
			t.Errorf("packet %d: more of a picture after its marker", i)
		}
		for _, diff := range out.refs[:out.nrefs] {
			if !sent[out.frame-int64(diff)] {
				t.Errorf("packet %d: S%dT%d refers to a frame %d before, which was not sent", i, out.Spatial, out.Temporal, diff)
			}
		}
		sent[out.frame] = true
		last, marked, at = out.frame, marker, p.ts
		n++
	}
	return n, switches
}
