package sfu

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/quality"
)

// assessEvery is how often it is looked how everybody fares (docs/quality.md). Reports of browsers come about once a second.
const assessEvery = 2 * time.Second

// sent is how a publication fares on its way to the node, received how a track fares in a slot, on its way to the participant. The last
// figures are kept, because counts are judged by how they grow.
type sent struct {
	last  forward.TrackHealth
	meter quality.Meter
}

type received struct {
	of    *publication
	last  forward.LegHealth
	meter quality.Meter
}

// assess looks how everybody fares until the Node closes. The shards only read figures out.
func (n *Node) assess() {
	defer n.assessor.Done()
	tick := time.NewTicker(assessEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.closing:
			return
		}
		for _, c := range n.live() {
			c.mu.Lock()
			if !c.away && !c.over {
				c.assess()
			}
			c.mu.Unlock()
		}
	}
}

func (c *conference) assess() {
	err := c.shards(func(_ *shard, es []*endpoint, now int64) error {
		for _, e := range es {
			if e.state == StateConnected {
				e.measure(now, &c.node.scores)
			}
		}
		return nil
	})
	if err != nil {
		return // the node ends
	}
	for _, e := range c.endpoints {
		if e.state == StateConnected {
			e.report()
		}
	}
}

// measure judges what e sends and gets. It is called on the shard's thread, with the conference's lock held.
func (e *endpoint) measure(now int64, scores *scores) {
	for _, p := range e.own {
		if p.media == nil || p.muted || !p.media.Live() {
			p.fares = nil
			continue
		}
		h := p.media.Health(now)
		if p.fares == nil {
			p.fares = &sent{last: h}
			continue
		}
		if s, ok := sampleSent(p.source, &p.fares.last, &h); ok {
			score := s.Score()
			p.fares.meter.Add(score)
			scores.add(p.source.Kind(), ofPublication, score)
		}
		p.fares.last = h
	}
	for _, s := range e.sections {
		p := s.shows
		if p == nil || s.rests || p.muted {
			s.fares = nil
			continue
		}
		h := s.leg.Health(now)
		if s.fares == nil || s.fares.of != p {
			s.fares = &received{of: p, last: h}
			continue
		}
		if x, ok := sampleReceived(s.kind, &s.fares.last, &h); ok {
			score := x.Score()
			s.fares.meter.Add(score)
			scores.add(s.kind, inSlot, score)
		}
		s.fares.last = h
	}
}

// sampleSent is what the node knows of a publication since the last time; false where it cannot be compared.
func sampleSent(source Source, last, h *forward.TrackHealth) (quality.Sample, bool) {
	if h.Expected < last.Expected || h.Received < last.Received || h.GaveUp < last.GaveUp {
		return quality.Sample{}, false // the streams are others
	}
	s := quality.Sample{Sound: source.Kind() == Audio, RoundTrip: time.Duration(h.RoundTrip), Jitter: time.Duration(h.Jitter)}
	expected, got := h.Expected-last.Expected, h.Received-last.Received
	if got == 0 && source != Screen { // one that does not change need not be sent
		s.Stalled = 1
	}
	switch {
	case expected == 0:
	case s.Sound:
		s.Loss = 1 - float64(got)/float64(expected)
	default:
		s.Loss = float64(h.GaveUp-last.GaveUp) / float64(expected)
	}
	s.Halvings = float64(max(0, min(h.Wanted, last.Wanted)-h.Live))
	return s, true
}

// sampleReceived is what the node knows of a slot since the last time; false where nothing was to be sent.
func sampleReceived(k Kind, last, h *forward.LegHealth) (quality.Sample, bool) {
	if !last.Due || !h.Due {
		return quality.Sample{}, false
	}
	s := quality.Sample{
		Sound: k == Audio, RoundTrip: time.Duration(h.RoundTrip), Jitter: time.Duration(h.Jitter),
		KeyRequests: int(h.KeyRequests - last.KeyRequests), Slower: float64(h.Slower),
	}
	packets := float64(h.Packets - last.Packets)
	lost := float64(h.Lost - last.Lost)
	if !s.Sound {
		lost -= float64(h.Resent - last.Resent)
	}
	if packets == 0 {
		s.Stalled = 1
	} else {
		s.Loss = max(0, lost) / packets
	}
	if h.Sent > 0 && h.Useful > h.Sent {
		s.Halvings = math.Log2(float64(h.Useful)/float64(h.Sent)) / 2
	}
	return s, true
}

// report tells e what has become better or worse: of what it gets, the worse of its two ways counts.
func (e *endpoint) report() {
	grades := make(map[TrackID]Grade)
	for _, p := range e.own {
		if p.fares != nil {
			grades[p.id] = p.fares.meter.Grade()
		}
	}
	for _, s := range e.sections {
		if s.fares == nil {
			continue
		}
		g := s.fares.meter.Grade()
		if up := s.fares.of.fares; up != nil {
			g = max(g, up.meter.Grade())
		}
		grades[s.fares.of.id] = g
	}
	var changed []Quality
	for id, g := range grades {
		if was, said := e.told[id]; was != g || e.restored && !said {
			changed = append(changed, Quality{Track: id, Grade: g})
		}
	}
	for id := range e.told { // what is not sent any more is not judged, and has no fault
		if _, ok := grades[id]; !ok {
			changed = append(changed, Quality{Track: id, Grade: Good})
			delete(e.told, id)
		}
	}
	if len(grades) > 0 {
		e.restored = false
	}
	if len(changed) == 0 {
		return
	}
	for _, q := range changed {
		switch {
		case q.Grade == Good:
			delete(e.told, q.Track)
		case e.told == nil:
			e.told = make(map[TrackID]Grade)
			fallthrough
		default:
			e.told[q.Track] = q.Grade
		}
	}
	slices.SortFunc(changed, func(a, b Quality) int { return cmp.Compare(a.Track, b.Track) })
	e.conf.emit(Event{Participant: e.id, Type: EventQuality, Qualities: changed})
}

// ScoreBounds are the upper bounds of what a ScoreHistogram counts.
var ScoreBounds = [...]float64{1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5}

// ScoreHistogram counts the scores of one kind of media from the start, from 1 (bad) to 5.
type ScoreHistogram struct {
	Kind   Kind
	Slot   bool                     // on the way to a receiver, else from a publisher
	Counts [len(ScoreBounds)]uint64 // those up to each bound, and above the one before
	Sum    float64
}

// The two ways of a track.
const (
	ofPublication = iota
	inSlot
)

// scores are the histograms of a Node.
type scores struct {
	mu   sync.Mutex
	list [Video + 1][2]ScoreHistogram
}

func (s *scores) add(k Kind, way int, score float64) {
	i, _ := slices.BinarySearch(ScoreBounds[:], score)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.list[k][way]
	h.Counts[min(i, len(h.Counts)-1)]++
	h.Sum += score
}

// Scores returns how everything has fared since the start.
func (n *Node) Scores() []ScoreHistogram {
	n.scores.mu.Lock()
	defer n.scores.mu.Unlock()
	var out []ScoreHistogram
	for k := Audio; k <= Video; k++ {
		for way, h := range n.scores.list[k] {
			h.Kind, h.Slot = k, way == inSlot
			out = append(out, h)
		}
	}
	return out
}
