package sfu

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Clients that offer (WHIP, WHEP). Everything is settled by one offer and one answer: payload types, header extensions, RIDs and the
// number of slots are as the client says, and there is no second offer, so that what plays in a slot changes but the slots do not.

// FeedbackCongestion is congestion control feedback by stream (RFC 8888 §6). It is agreed with receivers that offer it and no
// transport-wide numbers, which say the same of all streams at once.
const FeedbackCongestion = "ack ccfb"

// ClientOffer is what a client offers.
type ClientOffer struct {
	ICE         ICEParams
	Fingerprint Fingerprint
	Sections    []ClientSection // in the order of their m-lines
}

// ClientSection is one m-line of a client's offer.
type ClientSection struct {
	AnswerSection // as the client sees it
	Kind          Kind
	Limits        map[string]uint64 // by RID: pixels, or bits per second, whatever tells resolutions apart; absent: not said
}

// OfferedJoin says who joins with an offer, and what the sections are for.
type OfferedJoin struct {
	Participant ParticipantID
	Label       string // what recordings call the participant
	Offer       ClientOffer
	// Sources is, by section, what the client sends in it. A section without a source is a slot, if the client would receive in it.
	Sources []Source
}

// JoinOffered adds an endpoint for a client that offers, and returns the answer. Sections that are of no use are rejected in it.
func (c *Conference) JoinOffered(ctx context.Context, o OfferedJoin) (*Endpoint, *Offer, error) {
	conf, err := c.node.enter(ctx, c.id, true)
	if err != nil {
		return nil, nil, err
	}
	defer conf.leave()
	a := newAnswering(&o)
	e, err := conf.admit(o.Participant, o.Label, a.begin)
	if err != nil {
		return nil, nil, err
	}
	a.settle(e)
	return &Endpoint{e: e}, a.answer, nil
}

// RestartOffered takes new ICE credentials of a client that offers, and returns new ones of the server (RFC 8445 §9). Media goes on
// over the old path until a new one is found.
func (e *Endpoint) RestartOffered(ctx context.Context, p ICEParams) (ICEParams, error) {
	var out ICEParams
	err := e.do(ctx, func(e *endpoint) error {
		if !e.answers || e.state == StateFailed {
			return fmt.Errorf("%w: there is nothing to restart", ErrClosed)
		}
		remote := e.remote
		remote.Ufrag, remote.Pwd = p.Ufrag, p.Pwd
		err := e.shard.call(func(now int64) error {
			if !remote.Valid() {
				return transport.ErrRemoteParams
			}
			e.local = e.sess.Restart()
			return e.sess.SetRemote(remote, now)
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadOffer, err)
		}
		e.remote = remote
		out = e.ice()
		return nil
	})
	return out, err
}

// ice is what the client needs to reach the endpoint.
func (e *endpoint) ice() ICEParams {
	return ICEParams{Ufrag: e.local.Ufrag, Pwd: e.local.Pwd, Candidates: e.conf.node.candidates}
}

// answering is an offer on its way to an answer.
type answering struct {
	join   *OfferedJoin
	answer *Offer
	ext    forward.Extensions
	stream bool // arrivals are told by stream
	tracks []arriving
}

// arriving is what the client publishes in a section, lowest resolution first.
type arriving struct {
	pub    *publication
	sent   *AnswerSection
	codecs []forward.CodecMap
	rids   []string
}

func newAnswering(o *OfferedJoin) *answering { return &answering{join: o, answer: &Offer{Number: 1}} }

// begin opens the endpoint on a shard, with the sections that the offer has.
func (a *answering) begin(e *endpoint) error {
	offer := &a.join.Offer
	fp, err := transport.ParseFingerprint(offer.Fingerprint.Algorithm, offer.Fingerprint.Value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadOffer, err)
	}
	e.answers = true
	e.remote = transport.RemoteParams{Ufrag: offer.ICE.Ufrag, Pwd: offer.ICE.Pwd, Fingerprint: fp}
	if len(offer.Sections) > maxSections {
		return fmt.Errorf("%w: %d sections, %d are allowed", ErrBadOffer, len(offer.Sections), maxSections)
	}
	var legs newLegs
	for i := range offer.Sections {
		source := Source("")
		if i < len(a.join.Sources) {
			source = a.join.Sources[i]
		}
		if err := a.section(e, &offer.Sections[i], source, &legs); err != nil {
			return err
		}
	}
	if len(e.sections) == 0 {
		return fmt.Errorf("%w: no section with a codec that is spoken here", ErrBadOffer)
	}
	cname := token(10)
	err = e.open(cname, func(now int64) error {
		e.sess.PeerOffers()
		if err := e.sess.SetRemote(e.remote, now); err != nil {
			return fmt.Errorf("%w: %w", ErrBadOffer, err)
		}
		e.peer.SetExtensions(a.ext)
		e.peer.SetStreamFeedback(a.stream)
		legs.open(e)
		for _, x := range legs {
			x.slot.leg.SetCodecs(x.slot.codecs)
		}
		for _, x := range a.tracks {
			cfg := e.track(x.pub.section, x.sent, x.codecs)
			if cfg.RIDs = x.rids; len(x.rids) > 0 {
				cfg.SSRCs = nil
			}
			x.pub.media = e.peer.NewTrack(cfg)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.answer.ICE, a.answer.Fingerprint = e.ice(), e.fingerprint
	for i := range a.answer.Sections {
		if s := &a.answer.Sections[i]; s.SSRC != 0 {
			s.CNAME = cname
		}
	}
	return nil
}

// section makes what becomes of one section of the offer, and what is answered.
func (a *answering) section(e *endpoint, cs *ClientSection, source Source, legs *newLegs) error {
	answer := Section{MID: cs.MID, Kind: cs.Kind, Codecs: agreeCodecs(cs), Rejected: true}
	if len(cs.MID) > maxMID {
		return fmt.Errorf("%w: mid %.20q is longer than %d", ErrBadOffer, cs.MID, maxMID)
	}
	sends := source != "" && (cs.Direction == SendOnly || cs.Direction == SendRecv)
	slot := source == "" && (cs.Direction == RecvOnly || cs.Direction == SendRecv)
	if cs.Rejected || len(answer.Codecs) == 0 || !sends && !slot {
		answer.Codecs = cs.Codecs
		a.answer.Sections = append(a.answer.Sections, answer)
		return nil
	}
	answer.Rejected = false
	s := &section{mid: cs.MID, kind: cs.Kind, agreed: true}
	maps := codecMaps(&AnswerSection{Codecs: answer.Codecs, Direction: RecvOnly}, answer.Codecs)
	if slot {
		answer.Direction, answer.StreamID = SendOnly, "broadcast"
		answer.Extensions = a.agreeExtensions(cs, audioExtensions, videoExtensions)
		a.agreeCongestion(cs, &answer)
		s.slot, s.codecs, s.ssrc = true, maps, e.newSSRC()
		if slices.ContainsFunc(maps, func(m forward.CodecMap) bool { return m.RTX != 0 }) {
			s.rtx = e.newSSRC()
		}
		answer.SSRC, answer.RTXSSRC = s.ssrc, s.rtx
		*legs = append(*legs, newLegFor(s))
	} else {
		if source.Kind() != cs.Kind {
			return fmt.Errorf("%w: %s in a section of %s", ErrBadOffer, source, cs.Kind)
		}
		if e.ownSource(source) != nil {
			return ErrConflict
		}
		if len(e.own) >= maxPublications {
			return ErrTooMany
		}
		answer.Direction, answer.Source = RecvOnly, source
		answer.Extensions = a.agreeExtensions(cs, audioExtensions, videoInExtensions)
		rids := byResolution(cs)
		if len(rids) > forward.MaxLayers {
			rids = rids[len(rids)-forward.MaxLayers:]
		}
		for _, r := range cs.RIDs { // in the client's order
			if slices.Contains(rids, r) {
				answer.RIDs = append(answer.RIDs, r)
			}
		}
		p := &publication{
			id: TrackID("t" + token(10)), owner: e, source: source, codecs: answer.Codecs, simulcast: len(rids) > 0, section: s,
		}
		s.source, s.pub, answer.Track = source, p, p.id
		a.tracks = append(a.tracks, arriving{p, &cs.AnswerSection, maps, rids})
		e.own = append(e.own, p)
		e.conf.publications[p.id] = p
	}
	e.sections = append(e.sections, s)
	a.answer.Sections = append(a.answer.Sections, answer)
	return nil
}

// settle lets the others have what the endpoint publishes. It is in the conference now.
func (a *answering) settle(e *endpoint) {
	for _, x := range a.tracks {
		p := x.pub
		p.levels = a.ext.AudioLevel != 0
		e.conf.tap(p)
		e.conf.published(p)
	}
	e.changed = slices.ContainsFunc(e.sections, func(s *section) bool { return s.slot })
	e.bind()
}

// agreeExtensions lists the header extensions of the offer that are used here, by the client's numbers. In a bundle a number means
// one thing (RFC 8285 §5), and numbers above 14 need a longer form, which is not sent.
func (a *answering) agreeExtensions(cs *ClientSection, audio, video []Extension) (out []Extension) {
	list := audio
	if cs.Kind == Video {
		list = video
	}
	for _, x := range cs.Extensions {
		if x.ID < 15 && slices.ContainsFunc(list, func(o Extension) bool { return o.URI == x.URI }) {
			out = append(out, x)
			a.ext.Set(x.URI, x.ID)
		}
	}
	return out
}

// agreeCongestion takes feedback by stream from a client that offers it for all that it receives, and nothing better.
func (a *answering) agreeCongestion(cs *ClientSection, answer *Section) {
	if slices.ContainsFunc(answer.Extensions, func(x Extension) bool { return x.URI == rtp.URITransportCC }) ||
		slices.ContainsFunc(cs.Codecs, func(c Codec) bool { return !slices.Contains(c.Feedback, FeedbackCongestion) }) {
		return
	}
	a.stream = true
	for i := range answer.Codecs {
		answer.Codecs[i].Feedback = append(answer.Codecs[i].Feedback, FeedbackCongestion)
	}
}

// agreeCodecs lists the codecs of the offer that are spoken here, in the client's order and by its numbers. Of several forms of one
// codec it takes the one that more receivers understand.
func agreeCodecs(cs *ClientSection) (out []Codec) {
	list := audioCodecs
	if cs.Kind == Video {
		list = videoCodecs
	}
	var ranks []int
	for _, c := range cs.Codecs {
		i := slices.IndexFunc(list, func(o Codec) bool { return strings.EqualFold(o.Name, c.Name) && o.ClockRate == c.ClockRate })
		rank := codecForm(c)
		if i < 0 || rank == 0 {
			continue
		}
		agreed := list[i]
		agreed.PayloadType, agreed.RTX, agreed.FMTP = c.PayloadType, c.RTX, c.FMTP
		agreed.Feedback = nil
		for _, f := range list[i].Feedback {
			if slices.Contains(c.Feedback, f) {
				agreed.Feedback = append(agreed.Feedback, f)
			}
		}
		switch k := slices.IndexFunc(out, func(o Codec) bool { return o.Name == agreed.Name }); {
		case k < 0:
			out, ranks = append(out, agreed), append(ranks, rank)
		case rank > ranks[k]:
			out[k], ranks[k] = agreed, rank
		}
	}
	return out
}

// codecForm ranks a form of a codec by its parameters; 0 is one that is not spoken here.
func codecForm(c Codec) int {
	parameters := make(map[string]string)
	for f := range strings.SplitSeq(c.FMTP, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		parameters[strings.ToLower(k)] = strings.ToLower(v)
	}
	switch rtp.ParseCodec(c.Name) {
	case rtp.H264:
		if parameters["packetization-mode"] != "1" { // RFC 6184 §8.1: without it no packet may hold a part of a unit
			return 0
		}
		if strings.HasPrefix(parameters["profile-level-id"], "42e0") { // constrained baseline, which all browsers have
			return 2
		}
	case rtp.VP9:
		if p := parameters["profile-id"]; p != "" && p != "0" {
			return 0
		}
	case rtp.AV1:
		if p := parameters["profile"]; p != "" && p != "0" {
			return 0
		}
	}
	return 1
}

// maxMID is the longest name of a section that fits the header extension (RFC 8285 §4.2).
const maxMID = 16

// ladders are names that clients give to resolutions, lowest first.
var ladders = [][]string{
	{"q", "h", "f"}, {"l", "m", "h"}, {"low", "mid", "high"}, {"low", "medium", "high"}, {"quarter", "half", "full"},
}

// byResolution orders the RIDs of an offer from the lowest resolution to the highest. The offer may say so by limits or by names that
// everybody uses; else its order is that of preference (RFC 8853 §5.2), so the best is first.
func byResolution(cs *ClientSection) []string {
	rids := slices.Clone(cs.RIDs)
	limited := !slices.ContainsFunc(rids, func(r string) bool { return cs.Limits[r] == 0 })
	if limited {
		slices.SortStableFunc(rids, func(a, b string) int { return cmp.Compare(cs.Limits[a], cs.Limits[b]) })
		return rids
	}
	for _, l := range ladders {
		place := func(r string) int { return slices.Index(l, r) }
		if !slices.ContainsFunc(rids, func(r string) bool { return place(r) < 0 }) {
			slices.SortFunc(rids, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
			return rids
		}
	}
	slices.Reverse(rids)
	return rids
}
