package sfu_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
)

// clientOffer is the offer of a client that numbers formats and extensions in its own way.
func clientOffer(d sfu.Direction, change ...func(*sfu.ClientOffer)) sfu.ClientOffer {
	ext := []sfu.Extension{
		{ID: 9, URI: "urn:ietf:params:rtp-hdrext:sdes:mid"},
		{ID: 10, URI: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"},
		{ID: 11, URI: "urn:ietf:params:rtp-hdrext:ssrc-audio-level"},
		{ID: 12, URI: "urn:example:nobody"},
		{ID: 20, URI: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"},
	}
	o := sfu.ClientOffer{
		ICE:         sfu.ICEParams{Ufrag: "clnt", Pwd: "clientpassword22charsX"},
		Fingerprint: sfu.Fingerprint{Algorithm: "sha-256", Value: "00" + repeat(":01", 31)},
		Sections: []sfu.ClientSection{
			{Kind: sfu.Audio, AnswerSection: sfu.AnswerSection{MID: "a", Direction: d, Extensions: ext, Codecs: []sfu.Codec{
				{PayloadType: 0, Name: "PCMU", ClockRate: 8000},
				{PayloadType: 120, Name: "OPUS", ClockRate: 48000, Channels: 2, FMTP: "stereo=1", Feedback: []string{"transport-cc", "nack"}},
			}}},
			{Kind: sfu.Video, AnswerSection: sfu.AnswerSection{MID: "v", Direction: d, Extensions: ext, SSRCs: []uint32{77}, RTXSSRC: 78, Codecs: []sfu.Codec{
				{PayloadType: 100, Name: "H264", ClockRate: 90000, FMTP: "packetization-mode=0;profile-level-id=42e01f"},
				{PayloadType: 101, Name: "H264", ClockRate: 90000, FMTP: "packetization-mode=1;profile-level-id=64001f"},
				{PayloadType: 102, Name: "H264", ClockRate: 90000, FMTP: "packetization-mode=1; profile-level-id=42e01f", RTX: 103, Feedback: []string{"nack", "nack pli", "goog-remb"}},
				{PayloadType: 50, Name: "VP9", ClockRate: 90000, FMTP: "profile-id=2"},
				{PayloadType: 51, Name: "VP8", ClockRate: 90000},
			}}},
		},
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

func describe(o *sfu.Offer) string {
	var out strings.Builder
	for _, s := range o.Sections {
		if s.Rejected {
			fmt.Fprintf(&out, "%s rejected\n", s.MID)
			continue
		}
		fmt.Fprintf(&out, "%s %s %s", s.MID, s.Direction, s.Source)
		for _, c := range s.Codecs {
			fmt.Fprintf(&out, " %s:%d/%d(%s)%v", c.Name, c.PayloadType, c.RTX, c.FMTP, c.Feedback)
		}
		for _, e := range s.Extensions {
			fmt.Fprintf(&out, " %d", e.ID)
		}
		fmt.Fprintf(&out, " rids=%v ssrc=%v rtx=%v\n", s.RIDs, s.SSRC != 0, s.RTXSSRC != 0)
	}
	return out.String()
}

var whipSources = []sfu.Source{sfu.Microphone, sfu.Camera}

func (f *fixture) offered(id sfu.ParticipantID, o sfu.ClientOffer, sources ...sfu.Source) (*sfu.Endpoint, *sfu.Offer) {
	f.t.Helper()
	e, a, err := f.node.Conference("room").JoinOffered(f.ctx, sfu.OfferedJoin{Participant: id, Offer: o, Sources: sources})
	if err != nil {
		f.t.Fatal(err)
	}
	return e, a
}

func TestAnswerToAPublisher(t *testing.T) {
	f := start(t)
	_, a := f.offered("whip", clientOffer(sfu.SendRecv), whipSources...)
	want := `a recvonly microphone opus:120/0(stereo=1)[transport-cc] 9 11 rids=[] ssrc=false rtx=false
v recvonly camera H264:102/103(packetization-mode=1; profile-level-id=42e01f)[nack nack pli] VP8:51/0()[] 9 10 rids=[] ssrc=false rtx=false
`
	if diff := cmp.Diff(want, describe(a)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if a.ICE.Ufrag == "" || len(a.ICE.Candidates) == 0 || a.Fingerprint.Value == "" {
		t.Errorf("answer %+v", a)
	}
	if n := len(f.all("whip", sfu.EventOffer)); n != 0 {
		t.Errorf("%d offers to a client that offers", n)
	}
}

func TestAnswerToSimulcast(t *testing.T) {
	for _, c := range []struct {
		rids   string
		limits map[string]uint64
		want   string // lowest first, as the node keeps them
		answer string
	}{
		{"f h q", nil, "q h f", "f h q"},
		{"l h m", nil, "l m h", "l h m"},
		{"0 1 2", nil, "2 1 0", "0 1 2"},
		{"0 1 2", map[string]uint64{"0": 320, "1": 640, "2": 1280}, "0 1 2", "0 1 2"},
		{"a b c d", nil, "c b a", "a b c"},
		{"only", nil, "only", "only"},
	} {
		f := start(t)
		_, a := f.offered("whip", clientOffer(sfu.SendOnly, func(o *sfu.ClientOffer) {
			o.Sections[1].RIDs, o.Sections[1].Limits = strings.Fields(c.rids), c.limits
		}), whipSources...)
		if got := strings.Join(a.Sections[1].RIDs, " "); got != c.answer {
			t.Errorf("%s: answered %s", c.rids, got)
		}
		infos, err := f.node.Conferences(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range infos[0].Endpoints[0].Tracks {
			for _, l := range x.Layers {
				if l.RID != "" {
					got = append(got, l.RID)
				}
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: layers %v, want %s", c.rids, got, c.want)
		}
	}
}

func TestViewerThatOffers(t *testing.T) {
	f := start(t)
	view, a := f.offered("whep", clientOffer(sfu.RecvOnly))
	want := `a sendonly  opus:120/0(stereo=1)[transport-cc] 9 11 rids=[] ssrc=true rtx=false
v sendonly  H264:102/103(packetization-mode=1; profile-level-id=42e01f)[nack nack pli] VP8:51/0()[] 9 rids=[] ssrc=true rtx=true
`
	if diff := cmp.Diff(want, describe(a)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	v := &member{view, f, "whep"}
	bob := f.join("bob", sfu.Publish{Source: sfu.Microphone}, sfu.Publish{Source: sfu.Camera}, sfu.Publish{Source: sfu.Screen})
	bob.answer(1)
	mic, cam, screen := bob.track(sfu.Microphone), bob.track(sfu.Camera), bob.track(sfu.Screen)
	subscribe := func(ids ...sfu.TrackID) {
		t.Helper()
		if err := v.Subscribe(f.ctx, ids); err != nil {
			t.Fatal(err)
		}
	}
	subscribe(mic, cam)
	if diff := cmp.Diff(map[string]sfu.TrackID{"a": mic, "v": cam}, v.slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	// There are no more slots than it has offered, and what is to be seen takes the place of the other.
	if err := v.SetViews(f.ctx, []sfu.View{{Track: screen, Width: 1920, Height: 1080, Pinned: true}}); err != nil {
		t.Fatal(err)
	}
	subscribe(screen)
	if diff := cmp.Diff(map[string]sfu.TrackID{"a": mic, "v": screen}, v.slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	_ = bob.Close()
	if got := v.slots(); len(got) != 0 {
		t.Errorf("slots %v after the publisher has left", got)
	}
	if n := len(f.all("whep", sfu.EventOffer)); n != 0 {
		t.Errorf("%d offers to a client that offers", n)
	}
}

// A viewer may tell of arrivals by stream (RFC 8888) if it offers that for everything, and no transport-wide numbers.
func TestViewerThatReportsByStream(t *testing.T) {
	f := start(t)
	feedback := func(name string, numbers bool, leave string) (agreed bool) {
		o := clientOffer(sfu.RecvOnly, func(o *sfu.ClientOffer) {
			for i := range o.Sections {
				s := &o.Sections[i]
				s.Extensions = s.Extensions[:1]
				if numbers {
					s.Extensions = append(s.Extensions, sfu.Extension{ID: 5, URI: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"})
				}
				for k := range s.Codecs {
					if s.Codecs[k].Name != leave {
						s.Codecs[k].Feedback = append(s.Codecs[k].Feedback, sfu.FeedbackCongestion)
					}
				}
			}
		})
		_, a := f.offered(sfu.ParticipantID(name), o)
		for _, c := range a.Sections[1].Codecs {
			agreed = slices.Contains(c.Feedback, sfu.FeedbackCongestion)
		}
		return agreed
	}
	if !feedback("stream", false, "") {
		t.Error("not agreed")
	}
	if feedback("both", true, "") {
		t.Error("agreed beside transport-wide numbers")
	}
	if feedback("some", false, "VP9") {
		t.Error("agreed though not offered for all")
	}
}

func TestOffersThatCannotBeAnswered(t *testing.T) {
	f := start(t)
	for name, c := range map[string]struct {
		change  func(*sfu.ClientOffer)
		sources []sfu.Source
		want    error
	}{
		"no codec": {func(o *sfu.ClientOffer) {
			o.Sections[0].Codecs, o.Sections[1].Codecs = o.Sections[0].Codecs[:1], o.Sections[1].Codecs[:1]
		}, whipSources, sfu.ErrBadOffer},
		"nothing to receive": {func(*sfu.ClientOffer) {}, nil, sfu.ErrBadOffer},
		"fingerprint":        {func(o *sfu.ClientOffer) { o.Fingerprint.Value = "00" }, whipSources, sfu.ErrBadOffer},
		"credentials":        {func(o *sfu.ClientOffer) { o.ICE.Pwd = "short" }, whipSources, sfu.ErrBadOffer},
		"long mid":           {func(o *sfu.ClientOffer) { o.Sections[0].MID = strings.Repeat("m", 17) }, whipSources, sfu.ErrBadOffer},
		"kind":               {func(*sfu.ClientOffer) {}, []sfu.Source{sfu.Camera}, sfu.ErrBadOffer},
		"twice": {func(o *sfu.ClientOffer) {
			o.Sections = append(o.Sections, o.Sections[1])
		}, []sfu.Source{"", sfu.Camera, sfu.Camera}, sfu.ErrConflict},
		"many": {func(o *sfu.ClientOffer) {
			for range 50 {
				o.Sections = append(o.Sections, o.Sections[1])
			}
		}, whipSources, sfu.ErrBadOffer},
	} {
		_, _, err := f.node.Conference("room").JoinOffered(f.ctx, sfu.OfferedJoin{
			Participant: "x", Offer: clientOffer(sfu.SendOnly, c.change), Sources: c.sources,
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	st, err := f.node.Stats(f.ctx)
	if err != nil || st.Conferences != 0 || st.Endpoints != 0 {
		t.Errorf("left behind: %d conferences, %d endpoints, %v", st.Conferences, st.Endpoints, err)
	}
	// A section that is of no use does not keep the others from being answered.
	_, a := f.offered("whip", clientOffer(sfu.SendOnly, func(o *sfu.ClientOffer) { o.Sections[1].Codecs = o.Sections[1].Codecs[:1] }), whipSources...)
	if a.Sections[0].Rejected || !a.Sections[1].Rejected || a.Sections[1].MID != "v" {
		t.Errorf("answer\n%s", describe(a))
	}
}

func TestRestartOffered(t *testing.T) {
	f := start(t)
	e, a := f.offered("whip", clientOffer(sfu.SendOnly), whipSources...)
	if _, err := e.RestartOffered(f.ctx, sfu.ICEParams{Ufrag: "x", Pwd: "y"}); !errors.Is(err, sfu.ErrBadOffer) {
		t.Errorf("bad credentials: %v", err)
	}
	ice, err := e.RestartOffered(f.ctx, sfu.ICEParams{Ufrag: "next", Pwd: "nextpassword22characters"})
	if err != nil || ice.Ufrag == a.ICE.Ufrag || ice.Pwd == a.ICE.Pwd || len(ice.Candidates) == 0 {
		t.Errorf("%+v after %+v: %v", ice, a.ICE, err)
	}
	bob := f.join("bob")
	if _, err := bob.RestartOffered(f.ctx, sfu.ICEParams{Ufrag: "next", Pwd: "nextpassword22characters"}); !errors.Is(err, sfu.ErrClosed) {
		t.Errorf("a participant that is offered to: %v", err)
	}
	if _, err := e.Publish(f.ctx, sfu.Publish{Source: sfu.Screen}); !errors.Is(err, sfu.ErrConflict) {
		t.Errorf("publish beside the offer: %v", err)
	}
	_ = e.Close()
	if _, err := e.RestartOffered(f.ctx, sfu.ICEParams{Ufrag: "next", Pwd: "nextpassword22characters"}); !errors.Is(err, sfu.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestClientsThatOfferAreHandedOver(t *testing.T) {
	f, g := pair(t)
	e, _ := f.offered("whip", clientOffer(sfu.SendOnly), whipSources...)
	view, _ := f.offered("whep", clientOffer(sfu.RecvOnly))
	tracks, err := e.Tracks(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.Subscribe(f.ctx, []sfu.TrackID{tracks[sfu.Microphone]}); err != nil {
		t.Fatal(err)
	}
	there := f.handOver(g)
	// What comes later finds the slots as they were offered, and makes no offer.
	if err := there["whep"].Subscribe(g.ctx, []sfu.TrackID{tracks[sfu.Camera]}); err != nil {
		t.Fatal(err)
	}
	v := &member{there["whep"], g, "whep"}
	if diff := cmp.Diff(map[string]sfu.TrackID{"a": tracks[sfu.Microphone], "v": tracks[sfu.Camera]}, v.slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if n := len(g.all("whep", sfu.EventOffer)); n != 0 {
		t.Errorf("%d offers", n)
	}
	if _, err := there["whip"].RestartOffered(g.ctx, sfu.ICEParams{Ufrag: "next", Pwd: "nextpassword22characters"}); err != nil {
		t.Error(err)
	}
}
