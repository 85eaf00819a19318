package sfu

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/bench/internal/report"
	"github.com/sotto-edge/sotto/bench/netem"
)

// lineKind is what becomes of a receiver's line for a part of the measure.
type lineKind struct {
	name string
	bad  netem.Impairment
}

// lines are those of the simulcast scenario, a receiver behind each.
var lines = [...]lineKind{
	{"a good line", netem.Impairment{Delay: lineDelay}},
	{"300 kbit/s", netem.Impairment{Delay: lineDelay, Rate: 300_000, QueueTime: lineQueue}},
	{"900 kbit/s", netem.Impairment{Delay: lineDelay, Rate: 900_000, QueueTime: lineQueue}},
	{"5 % loss", netem.Impairment{Delay: lineDelay, Loss: 0.05}},
}

const (
	lineDelay  = 10 * time.Millisecond // each way, always
	lineQueue  = 300 * time.Millisecond
	lineBucket = 500 * time.Millisecond
)

// badFrom and badTo are when the lines are bad, as shares of the measure.
const badFrom, badTo = 0.2, 0.55

// line is one receiver's way to the server, and what came through it while it was measured.
type line struct {
	kind  lineKind
	seed  uint64
	proxy *netem.Proxy
	lost  uint64 // after repair

	mu        sync.Mutex
	began     time.Time // zero: it is not measured
	lasts     time.Duration
	buckets   []bucket
	timestamp uint32 // of the newest picture
	picture   time.Duration
	gap       time.Duration
	seen      bool
}

// bucket is what came in half a second.
type bucket struct {
	bytes int
	layer int // the highest
}

// open puts the proxy between a socket and the server.
func (l *line) open(server netip.AddrPort) (netip.AddrPort, error) {
	if l.proxy != nil {
		return netip.AddrPort{}, errors.New("bench: a line is for one connection")
	}
	good := netem.Impairment{Delay: lineDelay}
	var err error
	l.proxy, err = netem.New(netem.Config{Listen: netip.AddrPortFrom(server.Addr(), 0), To: server, Seed: l.seed, Up: good, Down: good})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return l.proxy.Addr(), nil
}

// begin begins the measure, and the timeline of the line.
func (l *line) begin(now time.Time, lasts time.Duration) error {
	l.mu.Lock()
	l.began, l.lasts = now, lasts
	l.mu.Unlock()
	down := []netem.Direction{netem.Down}
	return l.proxy.Play([]netem.Step{
		{At: l.share(badFrom), Directions: down, Impairment: l.kind.bad},
		{At: l.share(badTo), Directions: down, Impairment: netem.Impairment{Delay: lineDelay}},
	})
}

func (l *line) share(of float64) time.Duration { return time.Duration(of * float64(l.lasts)) }

func (l *line) close() error {
	if l.proxy == nil {
		return nil
	}
	return l.proxy.Close()
}

// take notes a packet of pictures that came at a moment of the wall clock.
func (l *line) take(p *rtp.Packet, at int64, layer uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := time.Duration(at - l.began.UnixNano())
	if l.began.IsZero() || t < 0 || t >= l.lasts {
		return
	}
	for int(t/lineBucket) >= len(l.buckets) {
		l.buckets = append(l.buckets, bucket{layer: -1})
	}
	b := &l.buckets[t/lineBucket]
	b.bytes += p.MarshalSize()
	b.layer = max(b.layer, int(layer))
	if l.seen && int32(p.Timestamp-l.timestamp) <= 0 {
		return
	}
	if l.seen {
		l.gap = max(l.gap, t-l.picture)
	}
	l.seen, l.timestamp, l.picture = true, p.Timestamp, t
}

// LineResult is what -json says of a receiver behind a line that changes.
type LineResult struct {
	Line        string  `json:"line"` // what it is while it is bad
	PacketsLost uint64  `json:"packets_lost"`
	PictureGap  float64 `json:"picture_gap_seconds_max"` // longest time in which no new picture began to arrive
	BitsBad     float64 `json:"bits_per_second_while_bad"`
	LayerBad    int     `json:"layer_while_bad"`   // the one that came most of the time, 0 the lowest; -1: none
	UpSwitch    float64 `json:"up_switch_seconds"` // from when the line is good again to the highest layer; -1: it did not come
}

func (l *line) result() LineResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := LineResult{Line: l.kind.name, PacketsLost: l.lost, PictureGap: l.gap.Seconds(), LayerBad: -1, UpSwitch: -1}
	from, to := int(l.share(badFrom)/lineBucket)+1, int(l.share(badTo)/lineBucket)
	if l.seen {
		r.PictureGap = max(l.gap, l.lasts-l.picture).Seconds()
	}
	counts := make([]int, len(layerShare)+1)
	bits := 0
	for i := from; i < min(to, len(l.buckets)); i++ {
		bits += 8 * l.buckets[i].bytes
		counts[l.buckets[i].layer+1]++
	}
	if to > from {
		r.BitsBad = float64(bits) / (time.Duration(to-from) * lineBucket).Seconds()
	}
	if most := slices.Max(counts); most > 0 {
		r.LayerBad = slices.Index(counts, most) - 1
	}
	for i := to; i < len(l.buckets); i++ {
		if l.buckets[i].layer == len(layerShare)-1 {
			r.UpSwitch = max(0, (time.Duration(i)*lineBucket - l.share(badTo)).Seconds())
			break
		}
	}
	return r
}

// chart shows what came beside what the line carried.
func (l *line) chart() report.Chart {
	l.mu.Lock()
	defer l.mu.Unlock()
	came, highest := report.Series{Name: "received"}, 0.0
	for i, b := range l.buckets {
		v := 8 * float64(b.bytes) / lineBucket.Seconds() / 1e6
		highest = max(highest, v)
		came.Points = append(came.Points, report.Point{X: (time.Duration(i) * lineBucket).Seconds(), Y: v})
	}
	c := report.Chart{Title: "Pictures over a line: " + l.kind.name, X: "seconds", Y: "Mbit/s", Series: []report.Series{came}}
	if rate := float64(l.kind.bad.Rate) / 1e6; rate > 0 {
		from, to := l.share(badFrom).Seconds(), l.share(badTo).Seconds()
		top := max(highest, rate)
		c.Series = append(c.Series, report.Series{Name: "the line carries at most", Points: []report.Point{
			{X: 0, Y: top}, {X: from, Y: top}, {X: from, Y: rate}, {X: to, Y: rate}, {X: to, Y: top}, {X: l.lasts.Seconds(), Y: top},
		}})
	}
	return c
}

// layersChart shows which layer each receiver had.
func layersChart(all []*line) report.Chart {
	c := report.Chart{Title: "Layer received, 1 the lowest", X: "seconds", Y: "layer"}
	for _, l := range all {
		l.mu.Lock()
		s := report.Series{Name: l.kind.name}
		for i, b := range l.buckets {
			at := (time.Duration(i) * lineBucket).Seconds()
			s.Points = append(s.Points, report.Point{X: at, Y: float64(b.layer + 1)}, report.Point{X: at + lineBucket.Seconds(), Y: float64(b.layer + 1)})
		}
		l.mu.Unlock()
		c.Series = append(c.Series, s)
	}
	return c
}
