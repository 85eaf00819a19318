package sfu_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu"
)

var (
	mic    = sfu.Publish{Source: sfu.Microphone}
	camera = sfu.Publish{Source: sfu.Camera, Simulcast: true}
	screen = sfu.Publish{Source: sfu.Screen, Codec: "AV1"}
	music  = sfu.Publish{Source: sfu.ScreenAudio}
)

// Sound is asked for with redundancy first, and taken without. Where the node must not open it, it is asked for plain.
func TestRedundancyOffered(t *testing.T) {
	names := func(s *sfu.Section) (out []string) {
		for _, c := range s.Codecs {
			out = append(out, fmt.Sprint(c.PayloadType, " ", c.Name, " ", c.FMTP))
		}
		return out
	}
	f := start(t)
	o := f.join("a", mic, sfu.Publish{Source: sfu.ScreenAudio, Encrypted: true}).offer(1)
	plain := "111 opus minptime=10;useinbandfec=1"
	for i, want := range [][]string{{"63 red 111/111", plain}, {plain}, {"63 red 111/111", plain}} {
		if d := cmp.Diff(want, names(&o.Sections[i])); d != "" {
			t.Errorf("section %d: %s", i, d)
		}
	}
}

func TestFirstOffer(t *testing.T) {
	f := start(t)
	a := f.join("a", mic, camera)
	o := a.offer(1)
	if len(o.ICE.Candidates) == 0 || o.ICE.Candidates[0].Addr != f.node.LocalAddr() || o.ICE.Ufrag == "" || len(o.ICE.Pwd) < 22 {
		t.Errorf("ICE %+v", o.ICE)
	}
	if o.Fingerprint.Algorithm != "sha-256" || len(o.Sections) != 8 {
		t.Errorf("%d sections, %+v", len(o.Sections), o.Fingerprint)
	}
	ssrcs := make(map[uint32]bool)
	for i, s := range o.Sections {
		if s.MID != fmt.Sprint(i) || s.Rejected {
			t.Errorf("section %d is %q", i, s.MID)
		}
		rids := false
		for _, x := range s.Extensions {
			rids = rids || x.URI == rtp.URIRID
		}
		switch {
		case i == 0:
			if s.Direction != sfu.RecvOnly || s.Source != sfu.Microphone || s.Track != a.track(sfu.Microphone) || s.RIDs != nil {
				t.Errorf("%+v", s)
			}
		case i == 1:
			if s.Direction != sfu.RecvOnly || s.Track != a.track(sfu.Camera) || !rids || cmp.Diff([]string{"q", "h", "f"}, s.RIDs) != "" {
				t.Errorf("%+v", s)
			}
		default:
			video := s.Kind == sfu.Video
			if s.Direction != sfu.SendOnly || s.SSRC == 0 || (s.RTXSSRC != 0) != video || s.CNAME == "" || rids || s.Track != "" {
				t.Errorf("%+v", s)
			}
			for _, v := range []uint32{s.SSRC, s.RTXSSRC} {
				if v != 0 && ssrcs[v] {
					t.Errorf("SSRC %d twice", v)
				}
				ssrcs[v] = true
			}
		}
	}
	if count(o, sfu.Audio, sfu.SendOnly) != 3 || count(o, sfu.Video, sfu.SendOnly) != 3 {
		t.Error("slots are not in pools of three")
	}
}

func TestOneOfferOutstanding(t *testing.T) {
	f := start(t)
	a := f.join("a", mic)
	first := a.offer(1)
	for _, p := range []sfu.Publish{screen, music} {
		if _, err := a.Publish(f.ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	a.offer(1)
	for _, n := range []int{0, 2, -1} {
		if err := a.Answer(f.ctx, n, accept(first)); !errors.Is(err, sfu.ErrStaleOffer) {
			t.Errorf("answer to %d: %v", n, err)
		}
	}
	a.answer(1)
	second := a.offer(2) // all wishes in one
	if len(second.Sections) != len(first.Sections)+2 || second.ICE.Ufrag == first.ICE.Ufrag {
		t.Errorf("%d sections, ufrag %q", len(second.Sections), second.ICE.Ufrag)
	}
	for i := range first.Sections {
		if d := cmp.Diff(first.Sections[i], second.Sections[i]); d != "" {
			t.Errorf("section %d changed: %s", i, d)
		}
	}
	if err := a.Answer(f.ctx, 1, accept(first)); !errors.Is(err, sfu.ErrStaleOffer) {
		t.Errorf("answer to 1 again: %v", err)
	}
	a.answer(2, func(a *sfu.Answer) { a.ICE.Ufrag = "newu" })
	a.offer(2)
	if err := a.Answer(f.ctx, 2, accept(second)); !errors.Is(err, sfu.ErrStaleOffer) {
		t.Errorf("answer to 2 again: %v", err)
	}
}

func TestBadAnswers(t *testing.T) {
	f := start(t)
	a, b := f.join("a", mic), f.join("b")
	b.answer(1)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Microphone)}); err != nil {
		t.Fatal(err)
	}
	o := a.offer(1)
	bad := map[string]func(*sfu.Answer){
		"one section less":     func(a *sfu.Answer) { a.Sections = a.Sections[1:] },
		"no sections":          func(a *sfu.Answer) { a.Sections = nil },
		"one section more":     func(a *sfu.Answer) { a.Sections = append(a.Sections, a.Sections[0]) },
		"sections changed":     func(a *sfu.Answer) { a.Sections[0].MID, a.Sections[1].MID = a.Sections[1].MID, a.Sections[0].MID },
		"the server as client": func(a *sfu.Answer) { a.SetupActive = false },
		"no fingerprint":       func(a *sfu.Answer) { a.Fingerprint = sfu.Fingerprint{} },
		"weak fingerprint":     func(a *sfu.Answer) { a.Fingerprint.Algorithm = "md5" },
		"short fingerprint":    func(a *sfu.Answer) { a.Fingerprint.Value = "00:01" },
		"short ufrag":          func(a *sfu.Answer) { a.ICE.Ufrag = "abc" },
		"short password":       func(a *sfu.Answer) { a.ICE.Pwd = "short" },
		"line in password":     func(a *sfu.Answer) { a.ICE.Pwd = "clientpassword22chars\n" },
	}
	try := func(number int, o *sfu.Offer) {
		t.Helper()
		for name, change := range bad {
			if err := a.Answer(f.ctx, number, accept(o, change)); !errors.Is(err, sfu.ErrBadAnswer) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	try(1, o)
	if len(b.slots()) != 0 {
		t.Error("a bad answer has opened a track")
	}
	a.answer(1)
	if len(b.slots()) != 1 {
		t.Error("a good answer behind bad ones has opened none")
	}
	bad["another certificate"] = func(a *sfu.Answer) { a.Fingerprint.Value = "11" + repeat(":01", 31) }
	bad["other credentials"] = func(a *sfu.Answer) { a.ICE.Ufrag = "othr" }
	if _, err := a.Publish(f.ctx, music); err != nil {
		t.Fatal(err)
	}
	try(2, a.offer(2))
	a.answer(2)
	a.offer(2)
}

func TestPublish(t *testing.T) {
	f := start(t)
	a := f.join("a")
	for _, p := range []sfu.Publish{
		{Source: sfu.Camera, Codec: "theora"},
		{Source: sfu.Microphone, Codec: "vp8"},
		{Source: sfu.Camera, Codec: "opus"},
	} {
		if _, err := a.Publish(f.ctx, p); !errors.Is(err, sfu.ErrUnsupportedCodec) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if _, err := a.Publish(f.ctx, sfu.Publish{Source: "nose"}); !errors.Is(err, sfu.ErrNotFound) {
		t.Error(err)
	}
	a.answer(1)
	id, err := a.Publish(f.ctx, screen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(f.ctx, screen); !errors.Is(err, sfu.ErrConflict) {
		t.Error(err)
	}
	o := a.answer(2)
	s := o.Sections[len(o.Sections)-1]
	if s.Codecs[0].Name != "AV1" || s.Codecs[1].Name != "VP8" || len(s.Codecs) != 2 || s.Track != id || s.RIDs != nil {
		t.Errorf("%+v", s)
	}
	if err := a.Unpublish(f.ctx, "t0"); !errors.Is(err, sfu.ErrNotFound) {
		t.Error(err)
	}
	if err := a.SetMuted(f.ctx, "t0", true); !errors.Is(err, sfu.ErrNotFound) {
		t.Error(err)
	}
	if err := a.SetMuted(f.ctx, id, true); err != nil {
		t.Error(err)
	}
	if err := a.Unpublish(f.ctx, id); err != nil {
		t.Fatal(err)
	}
	o = a.answer(3)
	if s := o.Sections[len(o.Sections)-1]; s.Direction != sfu.Inactive || s.Track != "" {
		t.Errorf("%+v", s)
	}
	again, err := a.Publish(f.ctx, sfu.Publish{Source: sfu.Screen})
	if err != nil || again == id {
		t.Fatalf("%v, %v", again, err)
	}
	o4 := a.answer(4)
	if s := o4.Sections[len(o4.Sections)-1]; len(o4.Sections) != len(o.Sections) || s.Track != again || s.Codecs[0].Name != "VP8" {
		t.Errorf("the section is not taken up again: %+v", s)
	}
}

// A publication that takes a section up while an offer is outstanding is not what that offer's answer speaks of.
func TestPublicationReplacedBeforeTheAnswer(t *testing.T) {
	f := start(t)
	a, b := f.join("a", camera), f.join("b")
	b.answer(1)
	o := a.offer(1)
	if err := a.Unpublish(f.ctx, a.track(sfu.Camera)); err != nil {
		t.Fatal(err)
	}
	id, err := a.Publish(f.ctx, sfu.Publish{Source: sfu.Camera, Codec: "h264"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Subscribe(f.ctx, []sfu.TrackID{id}); err != nil {
		t.Fatal(err)
	}
	if err := a.Answer(f.ctx, 1, accept(o)); err != nil {
		t.Fatal(err)
	}
	if s := b.slots(); len(s) != 0 {
		t.Errorf("opened by the answer to another: %v", s)
	}
	if o := a.answer(2); o.Sections[0].Track != id || o.Sections[0].RIDs != nil {
		t.Errorf("%+v", o.Sections[0])
	}
	if s := b.slots(); len(s) != 1 {
		t.Errorf("slots %v", s)
	}
}

// A section that the client does not send in, or in no codec of ours, waits for another answer.
func TestPublicationNotSent(t *testing.T) {
	f := start(t)
	a, b := f.join("a", mic), f.join("b")
	b.answer(1)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Microphone)}); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*sfu.Answer){
		func(a *sfu.Answer) { a.Sections[0].Direction = sfu.Inactive },
		func(a *sfu.Answer) { a.Sections[0] = sfu.AnswerSection{Rejected: true} },
		func(a *sfu.Answer) { a.Sections[0].Codecs = nil },
	} {
		a.answer(i+1, change)
		if s := b.slots(); len(s) != 0 {
			t.Errorf("answer %d: slots %v", i+1, s)
		}
		if err := a.Restart(f.ctx); err != nil {
			t.Fatal(err)
		}
	}
	a.answer(4)
	if s := b.slots(); len(s) != 1 {
		t.Errorf("slots %v", s)
	}
}

func TestRestart(t *testing.T) {
	f := start(t)
	a := f.join("a")
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	o1 := a.answer(1)
	o2 := a.answer(2) // the client may keep its own credentials, if it is so minded
	if o2.ICE.Ufrag == o1.ICE.Ufrag || o2.ICE.Pwd == o1.ICE.Pwd {
		t.Error("no new credentials")
	}
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	o3 := a.answer(3, func(a *sfu.Answer) { a.ICE.Ufrag = "next" })
	if o3.ICE.Ufrag == o2.ICE.Ufrag || o3.Fingerprint != o1.Fingerprint {
		t.Error("no new credentials")
	}
}
