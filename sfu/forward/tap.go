package forward

import (
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// Tap shows a track to a reader outside of the packet path, over a ring: always the highest layer that is received, as it came,
// without rewriting. It is a watcher of the track as a leg is, but that nothing is ever sent for it. It belongs to the publisher's
// shard; the reader has only the ring.
type Tap struct {
	track *Track
	ring  *tap.Ring

	layer   *Layer // nil: waits for a packet to start from
	layerID uint32
	waiting int64 // since when it waits for a key frame
}

// Tap begins to copy what the publisher sends into ring. A track has one tap at a time: another one ends the first.
func (t *Track) Tap(ring *tap.Ring, now int64) *Tap {
	t.Untap(now)
	x := &Tap{track: t, ring: ring, waiting: now}
	t.tap = x
	for _, l := range t.layers {
		x.report(l)
	}
	if t.muted {
		x.note(tap.Muted, now)
	}
	t.review(now)
	t.RequestKey(now)
	return x
}

// RequestKey asks for a key frame of the layer that is copied: the reader cannot go on without one.
func (x *Tap) RequestKey(now int64) {
	if x.track.tap != x || x.track.kind != rtp.KindVideo {
		return
	}
	if x.shows(x.layer) && x.layer.live(now) {
		x.layer.wantKey(now)
		return
	}
	x.track.RequestKey(now)
}

// Close ends the copying. It may be called twice, and after the track's Close.
func (x *Tap) Close(now int64) {
	if x.track.tap != x {
		return
	}
	x.track.tap = nil
	x.track.review(now)
	x.note(tap.End, now)
}

// Untap ends the track's tap, if it has one.
func (t *Track) Untap(now int64) {
	if t.tap != nil {
		t.tap.Close(now)
	}
}

// note puts a record that is no packet.
func (x *Tap) note(k tap.Kind, now int64) { x.ring.Put(&tap.Record{Kind: k, At: now}) }

// report passes the publisher's clock on, if it is known.
func (x *Tap) report(l *Layer) {
	if rc := &l.reception; l.bound && rc.HasReport {
		x.ring.Put(&tap.Record{
			Kind: tap.Report, Layer: uint8(l.index), Stream: l.id, At: rc.SenderAt, NTP: rc.SenderNTP, Sequence: int64(rc.SenderRTP),
		})
	}
}

// shows says whether from is what is copied, as it is bound now.
func (x *Tap) shows(from *Layer) bool { return from != nil && x.layer == from && x.layerID == from.id }

// take copies what is wanted of a batch.
func (x *Tap) take(from *Layer, ps []packet, now int64) {
	if !x.shows(from) && x.track.best(now) != from {
		return
	}
	for i := range ps {
		p := &ps[i]
		if !x.shows(from) {
			if !x.canStart(p, now) {
				from.wantKey(now)
				continue
			}
			x.layer, x.layerID, x.waiting = from, from.id, 0
		}
		codec, data := p.codec, p.buf.Bytes()
		if codec == rtp.RED { // the header goes in front of the sound itself: the legs have had the packet
			if p.opusAt == 0 {
				continue // a format that files do not have
			}
			codec = rtp.Opus
			copy(data[p.opusAt:], data[:p.h.HeaderLen])
			data = data[p.opusAt:]
		}
		x.ring.Put(&tap.Record{
			Kind: tap.Packet, Codec: codec, Layer: uint8(from.index), Key: p.info.Key, Stream: from.id,
			At: now, Sequence: p.ext, Data: data,
		})
	}
}

// canStart says whether the copy can go over to another layer at p. Where a codec hides its key frames it does so after a while
// without one, as legs do, unless there is still a picture.
func (x *Tap) canStart(p *packet, now int64) bool {
	if x.track.kind != rtp.KindVideo || p.info.Key {
		return true
	}
	if x.shows(x.layer) && x.layer.live(now) {
		return false
	}
	if x.waiting == 0 {
		x.waiting = now
	}
	return now-x.waiting > keyPatience
}
