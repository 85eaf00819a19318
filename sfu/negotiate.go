package sfu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// offer sends what there is to offer, unless an offer is outstanding: then it comes after the answer, together with whatever is
// wished until then.
func (e *endpoint) offer() {
	if !e.dirty || e.outstanding || e.closed || e.answers {
		return
	}
	if e.restart {
		e.restart = false
		if !e.remote.Fingerprint.IsZero() { // before the first answer there is nothing to restart
			_ = e.shard.call(func(int64) error { // only a shard that has ended fails
				e.local = e.sess.Restart()
				return nil
			})
		}
	}
	e.number++
	e.outstanding, e.dirty = true, false
	e.offered = len(e.sections)
	o := &Offer{
		Number:      e.number,
		ICE:         ICEParams{Ufrag: e.local.Ufrag, Pwd: e.local.Pwd, Candidates: e.conf.node.candidates},
		Fingerprint: e.fingerprint,
	}
	for _, sec := range e.sections {
		sec.later = false
		o.Sections = append(o.Sections, sec.describe(e))
	}
	e.conf.emit(Event{Participant: e.id, Type: EventOffer, Offer: o})
}

func (s *section) describe(e *endpoint) Section {
	d := Section{MID: s.mid, Kind: s.kind, Source: s.source}
	if s.data {
		d.Data, d.Rejected = e.conf.node.data.MessageBytes(), e.data == nil
		return d
	}
	d.Codecs, d.Extensions = audioCodecs, audioExtensions
	if s.kind == Video {
		d.Codecs, d.Extensions = videoCodecs, videoExtensions
	}
	if s.slot {
		d.Direction, d.SSRC, d.RTXSSRC, d.CNAME, d.StreamID = SendOnly, s.ssrc, s.rtx, e.peer.CNAME(), "slots-"+strconv.Itoa(s.pair)
		return d
	}
	if s.kind == Video {
		d.Extensions = videoInExtensions
	}
	if s.pub == nil {
		return d
	}
	d.Direction, d.Track, d.Codecs = RecvOnly, s.pub.id, s.pub.codecs
	if s.pub.simulcast {
		d.RIDs = simulcastRIDs
	}
	return d
}

// answer takes the answer to offer number. Nothing changes if it does not fit.
func (e *endpoint) answer(number int, a Answer) error {
	if !e.outstanding || number != e.number {
		return ErrStaleOffer
	}
	if err := e.check(&a); err != nil {
		return err
	}
	fp, err := transport.ParseFingerprint(a.Fingerprint.Algorithm, a.Fingerprint.Value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	remote := transport.RemoteParams{Ufrag: a.ICE.Ufrag, Pwd: a.ICE.Pwd, Fingerprint: fp}
	if !e.remote.Fingerprint.IsZero() && e.remote.Fingerprint != fp {
		return fmt.Errorf("%w: the certificate may not change", ErrBadAnswer)
	}
	var ext forward.Extensions
	for i := range a.Sections {
		for _, x := range a.Sections[i].Extensions {
			ext.Set(x.URI, x.ID)
		}
	}
	slots := make(map[*section][]forward.CodecMap)
	var tracks []forward.TrackConfig
	for i, sec := range e.sections[:e.offered] {
		as := &a.Sections[i]
		if sec.data {
			if as.Data && !as.Rejected && e.data != nil {
				e.data.SetTakes(as.Largest)
			}
			continue
		}
		if sec.slot {
			slots[sec] = codecMaps(as, videoCodecs, audioCodecs)
			continue
		}
		if sec.pub == nil || sec.agreed || sec.later {
			continue
		}
		if codecs := codecMaps(as, sec.pub.codecs); as.Direction == SendOnly && len(codecs) > 0 {
			tracks = append(tracks, e.track(sec, as, codecs))
		} // else it is not sent, for now: the publication waits for the client's next answer
	}
	err = e.shard.call(func(now int64) error {
		if err := e.sess.SetRemote(remote, now); err != nil { // always: after Restart the same credentials are news, too
			return fmt.Errorf("%w: %w", ErrBadAnswer, err)
		}
		e.peer.SetExtensions(ext)
		for s, codecs := range slots {
			s.leg.SetCodecs(codecs)
		}
		for _, cfg := range tracks {
			cfg.User.(*publication).media = e.peer.NewTrack(cfg)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.remote = remote
	e.outstanding = false

	more := false
	for s, codecs := range slots {
		more = more || !s.agreed
		s.agreed, s.codecs = true, codecs
	}
	for _, cfg := range tracks {
		p := cfg.User.(*publication)
		p.section.agreed, p.levels = true, ext.AudioLevel != 0
		e.conf.tap(p)
		e.conf.published(p)
	}
	e.changed = e.changed || more
	e.bind()
	return nil
}

// check sees that the answer's sections are the offer's.
func (e *endpoint) check(a *Answer) error {
	if len(a.Sections) != e.offered {
		return fmt.Errorf("%w: %d sections, offered were %d", ErrBadAnswer, len(a.Sections), e.offered)
	}
	for i := range a.Sections {
		if as := &a.Sections[i]; !as.Rejected && as.MID != e.sections[i].mid {
			return fmt.Errorf("%w: section %d is %q, offered was %q", ErrBadAnswer, i, as.MID, e.sections[i].mid)
		}
	}
	if !a.SetupActive {
		return fmt.Errorf("%w: the client must be the DTLS client (a=setup:active)", ErrBadAnswer)
	}
	return nil
}

// track describes the publication of a section that was answered.
func (e *endpoint) track(sec *section, as *AnswerSection, codecs []forward.CodecMap) forward.TrackConfig {
	p := sec.pub
	cfg := forward.TrackConfig{
		MID: sec.mid, Kind: sec.kind, Codecs: codecs, RTX: as.RTXSSRC, Muted: p.muted, User: p,
	}
	if p.simulcast && len(as.RIDs) > 0 {
		for _, rid := range simulcastRIDs { // our order, lowest first, whatever the answer's
			for _, r := range as.RIDs {
				if r == rid {
					cfg.RIDs = append(cfg.RIDs, rid)
				}
			}
		}
	} else {
		cfg.SSRCs = as.SSRCs[:min(1, len(as.SSRCs))]
	}
	if p.source == Microphone {
		cfg.Speaker, cfg.SpeakerID = newEar(e.shard, e.conf), e.speakerID
	}
	return cfg
}

// codecMaps lists what an answer accepted of the codecs in offered, in the answer's order.
func codecMaps(as *AnswerSection, offered ...[]Codec) []forward.CodecMap {
	if as.Rejected || as.Direction == Inactive {
		return nil
	}
	var out []forward.CodecMap
	for _, a := range as.Codecs {
		for _, list := range offered {
			for _, o := range list {
				if o.PayloadType == a.PayloadType && strings.EqualFold(o.Name, a.Name) {
					out = append(out, forward.CodecMap{Codec: rtp.ParseCodec(o.Name), PayloadType: o.PayloadType, RTX: a.RTX})
				}
			}
		}
	}
	return out
}
