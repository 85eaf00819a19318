package forward

import "github.com/sotto-edge/sotto/internal/rtp"

// LegHealth are the figures by which it is judged how a leg fares. Counts are from the leg's beginning.
type LegHealth struct {
	Due         bool   // something is to be sent: what it shows comes in, and is seen
	Packets     uint32 // sent
	Resent      uint32 // of those, how many once more because they were asked for
	Lost        int32  // as the receiver reports it, which does not know of what was sent again
	KeyRequests uint32 // of the receiver: its picture stands still
	RoundTrip   int64  // nanoseconds; 0: not known
	Jitter      int64  // nanoseconds
	Sent        uint32 // pixels of the picture that is sent
	Useful      uint32 // and of the one that should be: the smallest that comes in and is as large as it is shown
	Slower      uint8  // temporal layers that are left out
}

// Health returns the figures of the leg.
func (l *Leg) Health(now int64) LegHealth {
	h := LegHealth{
		Packets: l.packets, Resent: l.resends, Lost: l.lost, KeyRequests: l.keyRequests, RoundTrip: l.peer.RoundTrip(),
	}
	if l.clock > 0 {
		h.Jitter = int64(l.jitter) * second / l.clock
	}
	t := l.track
	if t == nil || t.muted || !l.Usable() || !l.peer.ready() || t.best(now) == nil {
		return h
	}
	if l.kind == rtp.KindAudio {
		h.Due = true
		return h
	}
	if l.view.Pixels == 0 {
		return h
	}
	h.Due = true
	current := l.sel.Current()
	for i, y := range t.layers {
		if !y.live(now) {
			continue
		}
		have := y.parser.Layers()
		spatial, temporal := max(have.Spatial, 1), max(have.Temporal, 1)
		for s := range spatial {
			size := t.pixelsOf(i) >> (2 * (spatial - 1 - s))
			if 10*uint64(h.Useful) < 7*uint64(l.view.Pixels) {
				h.Useful = size
			}
			if int(current.Stream) == i && current.Spatial == s {
				h.Sent, h.Slower = size, temporal-1-min(current.Temporal, temporal-1)
			}
		}
	}
	return h
}

// TrackHealth are the figures by which it is judged how a publication comes in. Counts are from the beginning of the streams that come
// now: they may fall when streams change.
type TrackHealth struct {
	Expected, Received uint64 // packets, retransmissions left out
	GaveUp             uint64 // of pictures: those that were asked for and never came
	RoundTrip          int64  // nanoseconds; 0: not known
	Jitter             int64  // nanoseconds
	Live               int    // layers up to the highest that comes
	Wanted             int    // that are of use, as far as they ever came
}

// Health returns the figures of the track. It is for the shard of its publisher.
func (t *Track) Health(now int64) TrackHealth {
	h := TrackHealth{RoundTrip: t.peer.RoundTrip(), Wanted: min(t.demand+1, t.sizes)}
	for i, l := range t.layers {
		if l.nack != nil {
			h.GaveUp += l.nack.GaveUp
		}
		if !l.bound || !l.reception.Started {
			continue
		}
		h.Expected += uint64(l.reception.Highest - l.reception.Base + 1)
		h.Received += l.reception.Packets
		if l.live(now) {
			h.Live = i + 1
			h.Jitter = max(h.Jitter, int64(l.reception.Jitter())*second/max(int64(t.codec.ClockRate()), 1))
		}
	}
	return h
}
