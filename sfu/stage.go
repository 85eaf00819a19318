package sfu

import (
	"cmp"
	"slices"
	"time"

	"github.com/sotto-edge/sotto/sfu/forward"
)

// Who is heard and seen, where more is wanted than is worth sending.
//
// A participant may ask for the tracks of everybody. As long as they are few it has all of them. Of more sound it has that of the
// loudest few, of the screens, and of whoever it has pinned; of more pictures those that it has pinned, the screens, who spoke last,
// and who came first, in this order. The bindings of slots change, and an event says so; no offer is needed.
//
// Sound changes at once: whoever begins to speak is heard from about the next packet on. Who has stopped speaking rests: the slot is
// still bound, and nothing is sent in it, until the same one speaks again or another needs it. So people who take turns cause no
// events, and silence costs nothing. Pictures change at most every stageStay.
const (
	slotsEvery = int64(300 * time.Millisecond) // between two events of a participant that only say who is heard
	stageStay  = int64(2 * time.Second)        // that somebody stays the last to have come on stage
)

// cast is who of a conference is to be heard and seen. It is under the conference's lock.
type cast struct {
	ready  map[Source][]*publication // answered publications, in the order in which their owners joined
	silent int                       // microphones whose publishers do not say how loud they are

	heard    []*endpoint // who is worth hearing, as the detector has said last
	stage    []*endpoint // who has spoken, the last first
	stagedAt int64       // when the first of them came there
	late     []*endpoint // whose slots have changed, and who are yet to be told

	mark  uint64 // of the choice at hand
	list  []*publication
	ids   []uint64
	moves [][]move // bindings that shards are yet to be told of, by their index
}

func newCast(n *Node) cast {
	return cast{ready: make(map[Source][]*publication), moves: make([][]move, len(n.shards))}
}

// move is a new binding of a slot.
type move struct {
	slot  *section
	track *forward.Track // nil: nothing is sent
	view  forward.View
}

// byJoining orders publications by when their owners came.
func byJoining(a, b *publication) int { return cmp.Compare(a.owner.speakerID, b.owner.speakerID) }

// enter takes in a publication that was answered.
func (c *cast) enter(p *publication) {
	list := c.ready[p.source]
	i, _ := slices.BinarySearchFunc(list, p, byJoining)
	c.ready[p.source] = slices.Insert(list, i, p)
	if p.source == Microphone && !p.levels {
		c.silent++
	}
}

// exit lets a publication go that had been answered.
func (c *cast) exit(p *publication) {
	c.ready[p.source] = slices.DeleteFunc(c.ready[p.source], func(x *publication) bool { return x == p })
	if p.source == Microphone && !p.levels {
		c.silent--
	}
}

// exeunt lets a participant go.
func (c *cast) exeunt(e *endpoint) {
	is := func(x *endpoint) bool { return x == e }
	c.heard = slices.DeleteFunc(c.heard, is)
	c.stage = slices.DeleteFunc(c.stage, is)
	c.late = slices.DeleteFunc(c.late, is)
}

// perform puts into effect what the detector says of who speaks.
func (c *conference) perform(speaker *endpoint, now int64) {
	c.ids = c.detector.Heard(c.ids[:0])
	same := len(c.ids) == len(c.heard)
	for i, id := range c.ids {
		same = same && c.heard[i].speakerID == id
	}
	if !same {
		c.heard = c.heard[:0]
		for _, id := range c.ids {
			c.heard = append(c.heard, c.speakers[id])
		}
		c.rearrange(Audio, now)
	}
	if speaker != nil && (len(c.stage) == 0 || c.stage[0] != speaker && now-c.stagedAt >= stageStay) {
		c.stage = slices.DeleteFunc(c.stage, func(e *endpoint) bool { return e == speaker })
		c.stage = slices.Insert(c.stage, 0, speaker)
		c.stagedAt = now
		c.rearrange(Video, now)
	}
	c.late = slices.DeleteFunc(c.late, func(e *endpoint) bool {
		if e.due && now-e.slotsAt >= slotsEvery {
			e.slotsAt = now
			e.emitSlots()
		}
		return !e.due
	})
}

// rearrange lets those who want more of kind k than they can have, have what matters now.
func (c *conference) rearrange(k Kind, now int64) {
	for _, e := range c.endpoints {
		if e.ready[k] <= e.most(k) {
			continue
		}
		e.arrange(k)
		if e.changed {
			e.announce(k, now)
		}
		e.offer()
	}
	c.flush(nil)
}

// announce says what the slots show: at once of pictures, whose names must be right, of sound not too often.
func (e *endpoint) announce(k Kind, now int64) {
	switch {
	case k == Video:
		e.emitSlots()
	case now-e.slotsAt >= slotsEvery:
		e.slotsAt = now
		e.emitSlots()
	case !e.due:
		e.due, e.changed = true, false
		e.conf.late = append(e.conf.late, e)
	}
}

// flush tells the shards of the new bindings. It waits for the shard of waitFor, if there is one.
func (c *conference) flush(waitFor *shard) {
	for i, moves := range c.moves {
		if len(moves) == 0 {
			continue
		}
		s := c.node.shards[i]
		tell := s.finish
		if s != waitFor {
			tell = func(f func(now int64)) { s.post(f) }
		}
		moves = slices.Clone(moves)
		clear(c.moves[i])
		c.moves[i] = c.moves[i][:0]
		tell(func(now int64) {
			for _, m := range moves {
				m.slot.leg.Bind(m.track, now)
				if m.track != nil {
					m.slot.leg.SetView(m.view, now)
				}
			}
		})
	}
}

// most is how many tracks of a kind e is sent at a time, those of sound that have a right of their own aside.
func (e *endpoint) most(k Kind) int {
	n := min(e.videos, e.conf.node.cfg.Videos)
	if k == Audio {
		n = e.conf.node.cfg.Loudest
	}
	if e.answers { // it gets no more slots than it has offered
		slots := 0
		for _, s := range e.sections {
			if s.slot && s.kind == k {
				slots++
			}
		}
		n = min(n, slots)
	}
	return n
}

// bind gives the slots to what is to be heard and seen, makes more slots where there are too few, and says what changed.
func (e *endpoint) bind() { e.conf.settle(nil, e) }

// settle is bind for several. What is not sent any more is not when it returns, on shard waitFor.
func (c *conference) settle(waitFor *shard, es ...*endpoint) {
	for _, e := range es {
		e.arrange(Audio)
		e.arrange(Video)
	}
	c.flush(waitFor)
	for _, e := range es {
		if e.changed {
			e.emitSlots()
		}
		e.offer()
	}
}

// arrange gives the slots of kind k to what e is to have of it. The shards are told by flush.
func (e *endpoint) arrange(k Kind) {
	list, awake := e.choose(k)
	for i, p := range list {
		p.rests = i >= awake
	}
	for _, s := range e.sections {
		switch p := s.shows; {
		case !s.slot || s.kind != k || p == nil:
		case p.mark != e.conf.mark:
			e.free(s)
		default:
			p.mark = 0 // it has its slot
			if s.rests != p.rests {
				e.rest(s, p.rests)
			}
		}
	}
	short := 0
	for _, p := range list {
		if p.mark == 0 {
			continue
		}
		fits, more := e.freeSlot(p)
		switch {
		case fits != nil:
			e.show(fits, p)
		case more:
			short++
		}
	}
	if short > 0 {
		e.grow(k, short)
	}
}

// choose lists what e is to have of kind k, of which all behind the first awake rest. What is in the list has the conference's mark.
func (e *endpoint) choose(k Kind) (list []*publication, awake int) {
	c := e.conf
	c.mark++
	c.list = c.list[:0]
	switch {
	case e.ready[k] <= e.most(k):
		for p := range e.wants[k] {
			e.add(p)
		}
		slices.SortFunc(c.list, func(a, b *publication) int { return cmp.Or(byJoining(a, b), cmp.Compare(a.source, b.source)) })
	case k == Audio:
		return e.chooseSound()
	default:
		e.choosePictures()
	}
	return c.list, len(c.list)
}

// add puts p into the list, if e is to have it at all and it is not there yet.
func (e *endpoint) add(p *publication) bool {
	c := e.conf
	if p == nil || p.media == nil || p.mark == c.mark || !e.wantsTrack(p) {
		return false
	}
	p.mark = c.mark
	c.list = append(c.list, p)
	return true
}

func (e *endpoint) chooseSound() (list []*publication, awake int) {
	c, most := e.conf, e.most(Audio)
	for _, p := range e.pinned { // whoever is pinned, by picture or by sound
		e.add(p.owner.ownSource(Microphone))
		if p.source == ScreenAudio {
			e.add(p)
		}
	}
	n := 0
	for _, p := range c.ready[ScreenAudio] {
		if n < most && e.add(p) {
			n++
		}
	}
	n = 0
	for _, x := range c.heard {
		if n == most {
			break
		}
		if e.add(x.ownSource(Microphone)) {
			n++
		}
	}
	if c.silent > 0 { // as far as those leave room who are known to speak
		for _, p := range c.ready[Microphone] {
			if n < most && !p.levels && !p.muted && e.add(p) {
				n++
			}
		}
	}
	awake = len(c.list)
	if n < most { // who spoke last rests where he was heard
		rests := make([]*section, 0, slotPool)
		for _, s := range e.sections {
			if s.slot && s.kind == Audio && s.shows != nil && s.shows.mark != c.mark && s.shows.source == Microphone {
				rests = append(rests, s)
			}
		}
		slices.SortStableFunc(rests, func(a, b *section) int { return cmp.Compare(b.restN, a.restN) })
		for _, s := range rests[:min(len(rests), most-n)] {
			e.add(s.shows)
		}
	}
	return c.list, awake
}

func (e *endpoint) choosePictures() {
	c, most := e.conf, e.most(Video)
	for _, p := range e.pinned {
		if p.source.Kind() == Video && len(c.list) < most {
			e.add(p)
		}
	}
	for _, p := range c.ready[Screen] {
		if len(c.list) < most {
			e.add(p)
		}
	}
	for _, x := range c.stage {
		if p := x.ownSource(Camera); len(c.list) < most && p != nil && e.seen(p) {
			e.add(p)
		}
	}
	for _, p := range c.ready[Camera] {
		if len(c.list) == most {
			break
		}
		if e.seen(p) {
			e.add(p)
		}
	}
	for _, s := range e.sections { // what is not seen may stay while nobody needs its slot
		if s.slot && s.kind == Video && s.shows != nil && len(c.list) < most {
			e.add(s.shows)
		}
	}
}

// seen says whether there is anything of p to be seen, and e shows it.
func (e *endpoint) seen(p *publication) bool {
	v, said := e.views[p.id]
	return !p.muted && (!said || v.Width > 0 && v.Height > 0)
}

// grow makes more slots, if too few are on their way already.
func (e *endpoint) grow(k Kind, n int) {
	for _, s := range e.sections {
		if s.slot && s.kind == k && !s.agreed {
			n--
		}
	}
	if n <= 0 || len(e.sections) >= maxSections || e.answers {
		return
	}
	legs := e.newSlots(k, (n+slotPool-1)/slotPool*slotPool)
	e.shard.post(func(int64) { legs.open(e) })
	e.dirty = true
}

// show lets slot s, which is free, show p.
func (e *endpoint) show(s *section, p *publication) {
	s.shows, s.rests = p, false
	e.changed = true
	e.place(s, p.reach(e.shard).track)
}

// rest stops what s shows from being sent, or has it sent again.
func (e *endpoint) rest(s *section, rests bool) {
	s.rests = rests
	if !rests {
		e.place(s, s.shows.reach(e.shard).track)
		return
	}
	e.restN++
	s.restN = e.restN
	e.place(s, nil)
	s.shows.leave(e.shard)
}

// free lets slot s show nothing.
func (e *endpoint) free(s *section) {
	p, rests := s.shows, s.rests
	s.shows, s.rests = nil, false
	e.changed = true
	if !rests {
		e.place(s, nil)
		p.leave(e.shard)
	}
}

func (e *endpoint) place(s *section, t *forward.Track) {
	m := move{slot: s, track: t}
	if t != nil {
		m.view = e.viewOf(s.shows)
	}
	moves := &e.conf.moves[e.shard.index]
	*moves = append(*moves, m)
}
