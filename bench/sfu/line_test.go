package sfu

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"
)

// A line that is bad from the second to the middle: the layer falls, no picture comes for a while, and it rises again.
func TestLine(t *testing.T) {
	begin := time.Unix(1000, 0)
	l := &line{kind: lines[1], began: begin, lasts: 20 * time.Second, lost: 3}
	packet := func(at time.Duration, layer uint8, size int) {
		l.take(&rtp.Packet{Header: rtp.Header{Timestamp: uint32(at / time.Millisecond * 90)}, Payload: make([]byte, size-12)}, begin.Add(at).UnixNano(), layer)
	}
	packet(-time.Second, 2, 1000)
	for at := time.Duration(0); at < 20*time.Second; at += 100 * time.Millisecond {
		switch {
		case at < 4*time.Second:
			packet(at, 2, 5000)
		case at >= 6*time.Second && at < 6500*time.Millisecond: // nothing
		case at < 13*time.Second:
			packet(at, 0, 1250)
		default:
			packet(at, 2, 5000)
		}
	}
	packet(21*time.Second, 2, 1000)
	got := l.result()
	want := LineResult{Line: "300 kbit/s", PacketsLost: 3, PictureGap: 0.6, BitsBad: 92_307, LayerBad: 0, UpSwitch: 2}
	got.BitsBad = float64(int(got.BitsBad))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c := l.chart(); len(c.Series) != 2 || len(c.Series[0].Points) != 40 {
		t.Errorf("%+v", c)
	}
	if c := layersChart([]*line{l}); len(c.Series) != 1 || c.Series[0].Points[0].Y != 3 {
		t.Errorf("%+v", c)
	}
}

// Through which nothing came.
func TestLineDead(t *testing.T) {
	l := &line{kind: lines[0], began: time.Unix(1000, 0), lasts: 20 * time.Second}
	want := LineResult{Line: "a good line", LayerBad: -1, UpSwitch: -1}
	if diff := cmp.Diff(want, l.result()); diff != "" {
		t.Error(diff)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}
