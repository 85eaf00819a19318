package forward

import (
	"github.com/sotto-edge/sotto/internal/plain"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// PeerState is what another node needs of a Peer to go on in its place. Legs and tracks have states of their own, since they refer
// to each other across peers. It holds no key.
type PeerState struct {
	LocalSSRC    uint32
	CNAME        string
	TransportSeq uint16
	Extensions   Extensions
	ByStream     bool // it tells of arrivals by stream
	Inbound      []InboundState
}

// InboundState says which layer a stream belongs to.
type InboundState struct {
	SSRC   uint32
	Repair bool
	Track  int // place in the peer's tracks
	Layer  int
}

// TrackState is the state of a Track.
type TrackState struct {
	MID    string
	Kind   rtp.Kind
	Codec  rtp.Codec
	Codecs []CodecMap
	RIDs   []string
	SSRCs  []uint32
	RTX    uint32
	Muted  bool
	Live   bool
	Layers []LayerState
}

// LayerState is the state of one stream of a track. The history stays behind.
type LayerState struct {
	Bound     bool
	SSRC, RTX uint32
	Reception []byte // as package rtcp writes it
	Age       int64  // nanoseconds since the last packet, -1: there was none
}

// LegState is the state of a Leg.
type LegState struct {
	MID             string
	Kind            rtp.Kind
	SSRC, RTX       uint32
	Codecs          []CodecMap
	Layer           int   // of the track that is shown; -1: waits for a packet to start from
	First           int64 // leg's number from which on Offset holds
	Offset          int64 // leg's number less publisher's
	TSOffset        uint32
	Seen            int64 // publisher's highest number that was sent or left out
	Highest         int64
	LastTS          uint32
	Age             int64 // nanoseconds since the last packet, -1: there was none
	RepairSeq       int64
	Packets, Octets uint32
	Selection       layer.State
	Target          layer.Target
}

// Code describes the state to a Coder.
func (s *PeerState) Code(c *plain.Coder) {
	plain.Int(c, &s.LocalSSRC)
	plain.Text(c, &s.CNAME)
	plain.Int(c, &s.TransportSeq)
	s.Extensions.each(func(_ string, id *uint8) { plain.Int(c, id) })
	c.Bool(&s.ByStream)
	plain.List(c, &s.Inbound, func(c *plain.Coder, i *InboundState) {
		plain.Int(c, &i.SSRC)
		c.Bool(&i.Repair)
		plain.Int(c, &i.Track)
		plain.Int(c, &i.Layer)
	})
}

// Code describes the state to a Coder.
func (s *TrackState) Code(c *plain.Coder) {
	plain.Text(c, &s.MID)
	plain.Int(c, &s.Kind)
	plain.Int(c, &s.Codec)
	plain.List(c, &s.Codecs, codeCodec)
	plain.List(c, &s.RIDs, plain.Text[string])
	plain.List(c, &s.SSRCs, plain.Int[uint32])
	plain.Int(c, &s.RTX)
	c.Bool(&s.Muted)
	c.Bool(&s.Live)
	plain.List(c, &s.Layers, func(c *plain.Coder, l *LayerState) {
		c.Bool(&l.Bound)
		plain.Int(c, &l.SSRC)
		plain.Int(c, &l.RTX)
		c.Blob(&l.Reception)
		plain.Int(c, &l.Age)
	})
	if len(s.Layers) == 0 || len(s.Layers) > MaxLayers {
		c.Fail()
	}
}

// Code describes the state to a Coder.
func (s *LegState) Code(c *plain.Coder) {
	plain.Text(c, &s.MID)
	plain.Int(c, &s.Kind)
	plain.Int(c, &s.SSRC)
	plain.Int(c, &s.RTX)
	plain.List(c, &s.Codecs, codeCodec)
	plain.Int(c, &s.Layer)
	plain.Int(c, &s.First)
	plain.Int(c, &s.Offset)
	plain.Int(c, &s.TSOffset)
	plain.Int(c, &s.Seen)
	plain.Int(c, &s.Highest)
	plain.Int(c, &s.LastTS)
	plain.Int(c, &s.Age)
	plain.Int(c, &s.RepairSeq)
	plain.Int(c, &s.Packets)
	plain.Int(c, &s.Octets)
	s.Selection.Code(c)
	plain.Int(c, &s.Target.Stream)
	plain.Int(c, &s.Target.Spatial)
	plain.Int(c, &s.Target.Temporal)
}

func codeCodec(c *plain.Coder, m *CodecMap) {
	plain.Int(c, &m.Codec)
	plain.Int(c, &m.PayloadType)
	plain.Int(c, &m.RTX)
}

// age is the time since at; -1 for a time that never was.
func age(at, now int64) int64 {
	if at == 0 {
		return -1
	}
	return now - at
}

// since is the reverse of age.
func since(age, now int64) int64 {
	if age < 0 {
		return 0
	}
	return max(1, now-age)
}

// State returns the peer's state.
func (p *Peer) State() PeerState {
	s := PeerState{LocalSSRC: p.localSSRC, CNAME: p.cname, TransportSeq: p.transportSeq, Extensions: p.ext, ByStream: p.stream}
	for _, in := range p.in {
		for i, t := range p.tracks {
			if in.layer.track == t && in.layer.bound {
				s.Inbound = append(s.Inbound, InboundState{SSRC: in.ssrc, Repair: in.repair, Track: i, Layer: in.layer.index})
			}
		}
	}
	return s
}

// Restore sets the state of a new Peer whose tracks are restored already, in the order they had. The transport-wide numbers go on
// skip further, as the SRTP indices do.
func (p *Peer) Restore(s PeerState, skip uint16) bool {
	p.transportSeq, p.ext, p.stream = s.TransportSeq+skip, s.Extensions, s.ByStream
	for _, in := range s.Inbound {
		if in.Track < 0 || in.Track >= len(p.tracks) || in.Layer < 0 || in.Layer >= len(p.tracks[in.Track].layers) {
			return false
		}
		l := p.tracks[in.Track].layers[in.Layer]
		if !l.bound || len(p.in) >= maxInbound {
			return false
		}
		p.in = append(p.in, inbound{ssrc: in.SSRC, repair: in.Repair, layer: l})
	}
	return true
}

// State returns the track's state.
func (t *Track) State(now int64) TrackState {
	s := TrackState{
		MID: t.up.mid, Kind: t.kind, Codec: t.codec, Codecs: t.up.codecs, RIDs: t.up.rids, SSRCs: t.up.ssrcs, RTX: t.up.rtx,
		Muted: t.muted, Live: t.live,
	}
	for _, l := range t.layers {
		s.Layers = append(s.Layers, LayerState{
			Bound: l.bound, SSRC: l.ssrc, RTX: l.rtx, Reception: l.reception.AppendState(nil, now), Age: age(l.lastAt, now),
		})
	}
	return s
}

// RestoreTrack adds a track as s describes it. Of cfg the speaker and the owner's mark are used.
func (p *Peer) RestoreTrack(s TrackState, cfg TrackConfig, now int64) (*Track, bool) {
	cfg.MID, cfg.Kind, cfg.Codecs, cfg.RIDs, cfg.SSRCs, cfg.RTX, cfg.Muted = s.MID, s.Kind, s.Codecs, s.RIDs, s.SSRCs, s.RTX, s.Muted
	t := p.NewTrack(cfg)
	if len(t.layers) != len(s.Layers) {
		t.Close(now)
		return nil, false
	}
	t.setCodec(s.Codec)
	t.live = s.Live
	for i, ls := range s.Layers {
		if !ls.Bound {
			continue
		}
		l := t.layers[i]
		l.bind(ls.SSRC)
		t.sizes = i + 1
		rc, rest, err := rtcp.RestoreReception(ls.Reception, now)
		if err != nil || len(rest) > 0 {
			t.Close(now)
			return nil, false
		}
		l.reception, l.rtx, l.lastAt = rc, ls.RTX, since(ls.Age, now)
		if l.nack != nil && rc.Started {
			// What the other node still missed is asked for anew, and what it missed since with the next packet.
			for ext := max(rc.Base, rc.Highest-nackLookback); ext <= rc.Highest; ext++ {
				if rc.Seen(ext) {
					l.nack.Received(ext, now)
				}
			}
		}
	}
	return t, true
}

// State returns the leg's state.
func (l *Leg) State(now int64) LegState {
	s := LegState{
		MID: string(l.mid), Kind: l.kind, SSRC: l.ssrc, RTX: l.rtx, Codecs: l.codecs, Layer: -1,
		Highest: l.num.highest, LastTS: l.lastTS, Age: age(l.lastAt, now), RepairSeq: l.repairSeq, Packets: l.packets, Octets: l.octets,
		Selection: l.sel.State(), Target: l.sel.Target(),
	}
	if at := l.num.layer; at != nil && l.shows(at) {
		s.Layer = at.index
		s.First, s.Offset, s.TSOffset, s.Seen = l.num.from(), l.num.offset, l.num.ts, l.num.seen
	}
	return s
}

// nackLookback is how far behind the newest packet a restored layer looks for what is missing.
const nackLookback = 128

// RestoreLeg adds a leg as s describes it, showing t (nil: nothing). Every number goes on skip further: the node that had the leg
// before may still have used those between.
func (p *Peer) RestoreLeg(s LegState, t *Track, skip, now int64) *Leg {
	l := p.NewLeg(LegConfig{MID: s.MID, Kind: s.Kind, SSRC: s.SSRC, RTXSSRC: s.RTX})
	l.codecs, l.packets, l.octets = s.Codecs, s.Packets, s.Octets
	l.num.highest, l.lastTS, l.lastAt, l.repairSeq = s.Highest+skip, s.LastTS, since(s.Age, now), s.RepairSeq+skip
	p.router.timers.sooner(p, now+reportInterval) // a restored session may be connected already, and never say so
	if t == nil {
		return l
	}
	l.track = t
	t.legs = append(t.legs, l)
	l.waiting, l.fresh = now, true
	if s.Layer >= 0 && s.Layer < len(t.layers) && t.layers[s.Layer].bound {
		from := t.layers[s.Layer]
		l.clock, l.waiting = int64(t.codec.ClockRate()), 0
		first := s.First
		if skip != 0 {
			first = l.num.highest + 1 // what is late belongs to numbers that may be used
		}
		if s.Selection.Stream >= 0 && int(s.Target.Stream) < len(t.layers) {
			l.sel.SetTarget(s.Target)
			l.fresh = false
		}
		l.num.restore(from, s.Seen, first, s.Offset+skip, s.TSOffset, l.sel.Restore(s.Selection))
	}
	return l
}
