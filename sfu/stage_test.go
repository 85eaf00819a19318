package sfu_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
)

const ms = int64(1e6)

// stage is a conference in which people speak, in time of its own.
type stage struct {
	*fixture
	now    int64
	people []*member
	ear    *member // wants everything of everybody
}

// newStage lets n participants, p0, p1, …, publish a microphone and what else is given, and one more, ear, want all of it.
func newStage(t *testing.T, n int, publish []sfu.Publish, change ...func(*sfu.Config)) *stage {
	t.Helper()
	s := &stage{fixture: start(t, change...), now: 1e15} // the real clock stays out of this
	var all []sfu.TrackID
	for i := range n {
		m := s.join(sfu.ParticipantID(fmt.Sprint("p", i)), append([]sfu.Publish{mic}, publish...)...)
		s.people = append(s.people, m)
		m.answer(1)
		all = append(all, m.track(sfu.Microphone))
		for _, p := range publish {
			all = append(all, m.track(p.Source))
		}
	}
	s.ear = s.join("ear")
	s.ear.answer(1)
	if err := s.ear.Subscribe(s.ctx, all); err != nil {
		t.Fatal(err)
	}
	return s
}

// speak lets some speak for a while, in milliseconds, and all others be silent.
func (s *stage) speak(span int64, who ...int) {
	for end := s.now + span*ms; s.now < end; s.now += 20 * ms {
		for i, m := range s.people {
			if slices.Contains(who, i) {
				sfu.Hear(m.Endpoint, 30, true, s.now)
			}
		}
		if len(who) > 0 || s.now/(100*ms)*(100*ms) == s.now {
			sfu.Look(s.people[0].Endpoint, s.now)
		}
	}
}

// has returns whose tracks of a source m is sent, and whose rest in its slots.
func (s *stage) has(m *member, source sfu.Source) (sent, rest []int) {
	s.t.Helper()
	infos, err := s.node.Conferences(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range infos[0].Endpoints {
		if e.Participant != m.id {
			continue
		}
		for _, slot := range e.Slots {
			for i, p := range s.people {
				if slot.Track != p.track(source) {
					continue
				}
				if slot.Resting {
					rest = append(rest, i)
				} else {
					sent = append(sent, i)
				}
			}
		}
	}
	slices.Sort(sent)
	slices.Sort(rest)
	return sent, rest
}

func (s *stage) expect(m *member, source sfu.Source, sent, rest []int) {
	s.t.Helper()
	gotSent, gotRest := s.has(m, source)
	if d := cmp.Diff([][]int{sent, rest}, [][]int{gotSent, gotRest}); d != "" {
		s.t.Errorf("%s of %s: sent and resting: %s", source, m.id, d)
	}
}

func (s *stage) events(m *member) int { return len(s.all(m.id, sfu.EventSlots)) }

// C3: of more microphones than three only those are sent that are spoken into, from the first word to a while after the last. Who has
// spoken keeps the slot as long as nobody else needs it, so that taking turns is no event.
func TestHeardInTurns(t *testing.T) {
	s := newStage(t, 6, nil)
	before := s.events(s.ear)
	s.expect(s.ear, sfu.Microphone, nil, nil)
	s.speak(20, 1)
	s.expect(s.ear, sfu.Microphone, []int{1}, nil) // with the first packet
	s.speak(1000, 1)
	s.speak(1200)
	s.expect(s.ear, sfu.Microphone, []int{1}, nil) // a breath
	s.speak(1000)
	s.expect(s.ear, sfu.Microphone, nil, []int{1})
	s.speak(1000, 2)
	s.speak(3000, 5)
	s.expect(s.ear, sfu.Microphone, []int{5}, []int{1, 2})
	if n := s.events(s.ear) - before; n != 3 {
		t.Errorf("%d events for three new speakers", n)
	}
	for range 5 {
		for _, who := range []int{1, 2, 5} {
			s.speak(2500, who)
			if sent, _ := s.has(s.ear, sfu.Microphone); !slices.Contains(sent, who) {
				t.Errorf("%d speaks, %v are heard", who, sent)
			}
		}
	}
	if n := s.events(s.ear) - before; n != 3 {
		t.Errorf("%d events, of which taking turns was %d", n, n-3)
	}
	s.speak(2000, 0)
	s.expect(s.ear, sfu.Microphone, []int{0}, []int{2, 5}) // 1 has been silent for the longest time
	s.speak(1000, 0, 2, 3, 5)
	s.expect(s.ear, sfu.Microphone, []int{0, 2, 3}, nil) // 5 is a moment later, and no louder than they
	s.speak(700, 0, 3, 5)
	s.expect(s.ear, sfu.Microphone, []int{0, 3, 5}, nil) // 2 has paused
	s.ear.offer(1)
	if st, _ := s.has(s.people[0], sfu.Microphone); len(st) != 0 {
		t.Error("sent to somebody who has not asked")
	}
}

// A speaker does not use up a place for itself, somebody who wants few has all of those, and what is muted, unpublished or gone is
// neither heard nor has it a place.
func TestHeardByEach(t *testing.T) {
	s := newStage(t, 6, nil)
	var all []sfu.TrackID
	for _, p := range s.people {
		all = append(all, p.track(sfu.Microphone))
	}
	if err := s.people[0].Subscribe(s.ctx, all[1:]); err != nil {
		t.Fatal(err)
	}
	few := s.join("few")
	few.answer(1)
	if err := few.Subscribe(s.ctx, all[3:]); err != nil {
		t.Fatal(err)
	}
	s.expect(few, sfu.Microphone, []int{3, 4, 5}, nil)
	s.speak(200, 0)
	s.speak(200, 0, 1)
	s.speak(200, 0, 1, 2)
	s.speak(2000, 0, 1, 2, 3)
	s.expect(s.ear, sfu.Microphone, []int{0, 1, 2}, nil)
	s.expect(s.people[0], sfu.Microphone, []int{1, 2, 3}, nil)
	s.expect(few, sfu.Microphone, []int{3, 4, 5}, nil)
	if err := s.people[1].Unpublish(s.ctx, all[1]); err != nil {
		t.Fatal(err)
	}
	s.speak(20, 0, 2, 3)
	s.expect(s.ear, sfu.Microphone, []int{0, 2, 3}, nil)
	if err := s.people[2].Close(); err != nil {
		t.Fatal(err)
	}
	s.people = slices.Delete(s.people, 1, 3) // 0, 3, 4, 5 are left, and the ear wants four
	s.speak(20, 0, 1, 2)
	s.expect(s.ear, sfu.Microphone, []int{0, 1, 2}, nil)
	if err := s.people[3].Close(); err != nil {
		t.Fatal(err)
	}
	s.people = s.people[:3]
	s.speak(3000)
	s.expect(s.ear, sfu.Microphone, []int{0, 1, 2}, nil) // few enough to have all of them, silent or not
}

// Whoever is pinned is heard besides, and so is the sound of a screen. That may need more slots, and one offer.
func TestHeardPinned(t *testing.T) {
	s := newStage(t, 8, []sfu.Publish{camera})
	shown := s.join("shown", music)
	shown.answer(1)
	if err := s.ear.Subscribe(s.ctx, []sfu.TrackID{shown.track(sfu.ScreenAudio)}); err != nil {
		t.Fatal(err)
	}
	s.ear.answer(2) // eight cameras need more slots
	if err := s.ear.SetViews(s.ctx, []sfu.View{{Track: s.people[7].track(sfu.Camera), Width: 640, Height: 360, Pinned: true}}); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Microphone, []int{7}, nil)
	s.speak(1000, 1, 2, 3, 4)
	s.ear.answer(3)
	s.expect(s.ear, sfu.Microphone, []int{1, 2, 3, 7}, nil)
	if !slices.Contains(slices.Collect(func(yield func(sfu.TrackID) bool) {
		for _, id := range s.ear.slots() {
			if !yield(id) {
				return
			}
		}
	}), shown.track(sfu.ScreenAudio)) {
		t.Error("the screen is not heard")
	}
	if err := s.ear.SetViews(s.ctx, []sfu.View{{Track: s.people[7].track(sfu.Camera), Width: 640, Height: 360}}); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Microphone, []int{1, 2, 3}, nil)
	s.ear.offer(3)
}

// A publisher that does not say how loud it is has a place as long as those leave one who are known to speak.
func TestHeardWithoutLevels(t *testing.T) {
	s := newStage(t, 4, nil)
	m := s.join("mute", mic)
	m.answer(1, func(a *sfu.Answer) {
		for i := range a.Sections {
			a.Sections[i].Extensions = a.Sections[i].Extensions[:1]
		}
	})
	s.people = append(s.people, m)
	if err := s.ear.Subscribe(s.ctx, []sfu.TrackID{m.track(sfu.Microphone)}); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Microphone, []int{4}, nil)
	s.speak(1000, 0, 1)
	s.expect(s.ear, sfu.Microphone, []int{0, 1, 4}, nil)
	s.speak(1000, 0, 1, 2)
	s.expect(s.ear, sfu.Microphone, []int{0, 1, 2}, nil)
	s.speak(2500, 0)
	s.expect(s.ear, sfu.Microphone, []int{0, 4}, []int{2})
}

// C3: pictures: pinned ones, screens, who spoke last, who came first. Somebody on stage stays there until others have spoken.
func TestSeen(t *testing.T) {
	s := newStage(t, 8, []sfu.Publish{camera}, func(c *sfu.Config) { c.Videos = 4 })
	s.ear.answer(2)
	s.expect(s.ear, sfu.Camera, []int{0, 1, 2, 3}, nil)
	before := s.events(s.ear)
	s.speak(3000, 2)
	s.expect(s.ear, sfu.Camera, []int{0, 1, 2, 3}, nil)
	s.speak(3000, 6)
	s.expect(s.ear, sfu.Camera, []int{0, 1, 2, 6}, nil)
	s.speak(3000, 2)
	s.speak(3000, 6)
	s.speak(10000)
	s.expect(s.ear, sfu.Camera, []int{0, 1, 2, 6}, nil)
	if n := s.events(s.ear) - before; n > 3 { // one of them for the picture
		t.Errorf("%d events", n)
	}
	s.speak(3000, 7)
	s.expect(s.ear, sfu.Camera, []int{0, 2, 6, 7}, nil)
	if err := s.people[7].SetMuted(s.ctx, s.people[7].track(sfu.Camera), true); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, []int{0, 1, 2, 6}, nil)
	if err := s.people[7].SetMuted(s.ctx, s.people[7].track(sfu.Camera), false); err != nil {
		t.Fatal(err)
	}
	hidden := []sfu.View{{Track: s.people[6].track(sfu.Camera)}, {Track: s.people[5].track(sfu.Camera), Width: 1, Height: 1, Pinned: true}}
	if err := s.ear.SetViews(s.ctx, hidden); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, []int{0, 2, 5, 7}, nil)
	id, err := s.people[4].Publish(s.ctx, screen)
	if err != nil {
		t.Fatal(err)
	}
	s.people[4].answer(2)
	if err := s.ear.Subscribe(s.ctx, []sfu.TrackID{id}); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, []int{2, 5, 7}, nil)
	s.expect(s.ear, sfu.Screen, []int{4}, nil)
	if err := s.ear.SetVideos(s.ctx, 2); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, []int{5}, nil)
	s.expect(s.ear, sfu.Screen, []int{4}, nil)
	if err := s.ear.SetVideos(s.ctx, 0); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, nil, nil)
	if err := s.ear.SetVideos(s.ctx, 99); err != nil {
		t.Fatal(err)
	}
	s.expect(s.ear, sfu.Camera, []int{2, 5, 7}, nil)
	s.ear.offer(3) // the third is for the sound of who was pinned
}

// However people speak over each other, pictures do not change in a shorter time than the stage allows.
func TestSeenCalm(t *testing.T) {
	s := newStage(t, 6, []sfu.Publish{camera}, func(c *sfu.Config) { c.Videos = 1 })
	var last []int
	changed := s.now
	for turn := range 60 {
		s.speak(400, turn%6) // and a pause long enough for anybody to take over
		s.speak(600)
		if sent, _ := s.has(s.ear, sfu.Camera); !slices.Equal(sent, last) {
			if last != nil && s.now-changed < 2000*ms {
				t.Fatalf("changed after %d ms", (s.now-changed)/ms)
			}
			last, changed = sent, s.now
		}
	}
	if len(last) != 1 {
		t.Errorf("shown: %v", last)
	}
}

// Hundreds of open microphones, of which anybody may speak at any time: nobody is told more than a few times a second, three are
// heard, and the first offer does.
func TestHeardOfHundreds(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 60
	}
	s := newStage(t, n, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	until := make([]int64, n)
	began := s.now
	for i := range 1000 { // 20 s
		if i%5 == 0 {
			until[rnd.IntN(n)] = s.now + rnd.Int64N(4000)*ms
		}
		for i, m := range s.people {
			if s.now < until[i] {
				sfu.Hear(m.Endpoint, uint8(20+rnd.IntN(20)), true, s.now)
			}
		}
		sfu.Look(s.ear.Endpoint, s.now)
		s.now += 20 * ms
	}
	events := s.events(s.ear)
	if most := int((s.now - began) / (250 * ms)); events < 5 || events > most {
		t.Errorf("%d events in %d s", events, (s.now-began)/(1000*ms))
	}
	if sent, _ := s.has(s.ear, sfu.Microphone); len(sent) != 3 {
		t.Errorf("heard: %v", sent)
	}
	s.ear.offer(1)
	s.speak(5000)
	if sent, _ := s.has(s.ear, sfu.Microphone); len(sent) != 0 {
		t.Errorf("heard in silence: %v", sent)
	}
	for sfu.Look(s.ear.Endpoint, s.now) {
		if s.now += 100 * ms; s.now > began+60000*ms {
			t.Fatal("looks for speakers where nobody is heard")
		}
	}
}
