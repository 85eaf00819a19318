package sfu

import (
	"math"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/speaker"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// speakerInterval is how often the active speaker is looked for, speakerSilence how long after the last level: the detector has
// decided by then.
const (
	speakerInterval = int64(100 * time.Millisecond)
	speakerSilence  = int64(3 * time.Second)
)

// notice is what a shard has to tell control: one of its fields is set.
type notice struct {
	live   *publication // its first packet has arrived
	wanted *publication // another layer than before is the highest that is of use: top
	top    int
	moved  *endpoint // its transport is in another state: to
	to     State
	levels []level
	now    int64
}

// level is the loudness of one packet, as its publisher says it.
type level struct {
	conf   *conference
	id     uint64
	voice  bool
	loud   uint8
	at     int64
	remove bool // nothing of id any more
}

// ear implements forward.Speakers on a shard, for one microphone: levels are gathered there and handled with the conference's state.
// Who begins to speak is told of at once; who is silent costs nothing.
type ear struct {
	shard  *shard
	conf   *conference
	active int64 // the last active packet
}

// What control is told of a microphone that has fallen silent, and when activity is a beginning again.
const (
	earTail = int64(500 * time.Millisecond)
	earRest = int64(time.Second)
)

func newEar(s *shard, c *conference) *ear { return &ear{shard: s, conf: c, active: math.MinInt64 / 2} }

// Level implements forward.Speakers.
func (e *ear) Level(id uint64, loud uint8, voice bool, now int64) {
	active := speaker.Active(loud, voice)
	silent := now - e.active
	if !active && silent > earTail {
		return
	}
	e.shard.hear(level{conf: e.conf, id: id, voice: voice, loud: loud, at: now}, now)
	if !active {
		return
	}
	e.active = now
	if silent > earRest {
		e.shard.tellAt = now
	}
}

// Remove implements forward.Speakers.
func (e *ear) Remove(id uint64) {
	e.active = math.MinInt64 / 2
	e.shard.hear(level{conf: e.conf, id: id, remove: true}, 0)
	e.shard.tellAt = 0 // at once
}

func (s *shard) hear(l level, now int64) {
	if len(s.heard) == 0 {
		s.tellAt = now + speakerInterval
	}
	s.heard = append(s.heard, l)
}

// tell hands what was heard to control.
func (s *shard) tell(now int64) {
	s.node.notices.put(notice{levels: s.heard, now: now})
	s.heard = make([]level, 0, cap(s.heard))
}

// Live implements forward.Observer.
func (s *shard) Live(t *forward.Track) { s.node.notices.put(notice{live: t.User.(*publication)}) }

// Demand implements forward.Observer.
func (s *shard) Demand(t *forward.Track, top int) {
	s.node.notices.put(notice{wanted: t.User.(*publication), top: top})
}

// State implements forward.Observer.
func (s *shard) State(p *forward.Peer, st transport.State) {
	s.node.notices.put(notice{moved: p.User.(*endpoint), to: st})
}

// listen handles notices until there are no more to come. While somebody speaks it also looks at the time: silence comes without a
// packet.
func (n *Node) listen() {
	defer n.helpers.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	talking := make(map[*conference]struct{})
	for {
		select {
		case <-n.notices.came:
		case <-timer.C:
		}
		batch, ok := n.notices.poll()
		if !ok {
			return
		}
		for i := range batch {
			n.handle(&batch[i], talking)
		}
		now := n.now()
		for c := range talking {
			if !c.findSpeaker(now) {
				delete(talking, c)
			}
		}
		if len(talking) > 0 {
			timer.Reset(time.Duration(speakerInterval))
		}
	}
}

func (n *Node) handle(x *notice, talking map[*conference]struct{}) {
	switch {
	case x.live != nil:
		x.live.owner.conf.wentLive(x.live)
	case x.wanted != nil:
		x.wanted.owner.conf.demanded(x.wanted, x.top)
	case x.moved != nil:
		x.moved.conf.moved(x.moved, x.to)
	}
	for rest := x.levels; len(rest) > 0; {
		c, k := rest[0].conf, 1
		for k < len(rest) && rest[k].conf == c {
			k++
		}
		c.hear(rest[:k])
		talking[c] = struct{}{}
		rest = rest[k:]
	}
}

// mailbox is an unbounded queue with one reader: who fills it must never wait for it. What fills it is bounded by what participants
// may do.
type mailbox[T any] struct {
	came chan struct{} // has one in it when there is something to read

	mu     sync.Mutex
	items  []T
	closed bool
}

func (m *mailbox[T]) init() { m.came = make(chan struct{}, 1) }

func (m *mailbox[T]) put(x T) {
	m.mu.Lock()
	m.items = append(m.items, x)
	m.mu.Unlock()
	m.ring()
}

func (m *mailbox[T]) ring() {
	select {
	case m.came <- struct{}{}:
	default:
	}
}

// poll returns what there is. With the last of it, after close, comes false.
func (m *mailbox[T]) poll() ([]T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	batch := m.items
	m.items = nil
	return batch, !m.closed
}

func (m *mailbox[T]) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.ring()
}
