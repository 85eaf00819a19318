// Package speaker finds out who speaks, from the audio levels that clients put into their packets (RFC 6464).
//
// A Detector owns the levels of one conference. It promises calm: a noise shorter than 100 ms never makes a speaker,
// however loud; another speaker takes over only when clearly louder for 300 ms, or when the current one has fallen
// silent; and two seconds after everybody has, there is none.
//
// It also keeps the order in which those who speak at one time are worth hearing, with calm of another kind: whoever
// begins is in it with the first packet, so that no word loses its beginning, and stays a while after the last, so that
// none loses its end. Where more speak than can be heard, one comes before another only by speaking clearly louder, or
// when the other has paused.
//
// It reads no clock and opens no packet; levels and times are handed in. It believes the levels: a client can lie about
// its own. It does not lock: whoever owns the conference calls it. It allocates only when somebody new speaks up.
package speaker

import "slices"

const millisecond int64 = 1e6

// Levels are in decibels above the lowest level that RFC 6464 §3 can express, so that louder is more.
const (
	floor = 127

	activeVoice   = floor - 55 // from here on a packet counts as activity, if the client says that it is voice
	activeUnsaid  = floor - 45 // and if it does not: some clients never set the flag
	louder        = 6          // decibels that are "clearly louder"
	notLouder     = 3          // below which the clock of "clearly louder" starts again
	attack        = 60 * millisecond
	release       = 250 * millisecond
	proof         = 100 * millisecond  // of activity, before anybody can be the speaker
	takeover      = 300 * millisecond  // of being clearly louder
	syllables     = 50 * millisecond   // of quiet packets, after which an activity is over
	lost          = 125 * millisecond  // of no packets, likewise: above the longest packet of Opus
	longest       = 60 * millisecond   // that one packet stands for
	stale         = 100 * millisecond  // without a packet, after which the level falls
	pause         = 500 * millisecond  // without activity, after which a speaker is silent and others may take over
	hangover      = 1500 * millisecond // without activity, after which nobody need hear somebody any more
	steadyUp      = 300 * millisecond  // of speech, in which what is taken for somebody's loudness rises …
	steadyDown    = 1000 * millisecond // … and falls
	contested     = 16                 // places that one may come to before one's turn; behind them it is the order of beginning
	nobodyTimeout = 2000 * millisecond // without activity, after which there is no speaker
)

// Detector follows the levels of one conference. The zero Detector is ready to use.
type Detector struct {
	members []member
	index   map[uint64]int
	current uint64   // 0: nobody
	floor   []uint64 // who speaks, or did until a moment ago, in the order of Heard
	now     int64
}

type member struct {
	id     uint64
	level  float32 // smoothed
	steady float32 // smoothed over what is spoken, pauses left out
	heard  int64   // last packet
	from   int64   // begin of the activity
	active int64   // last active packet; the activity lasts from..active
	louder int64   // since when clearly louder than the speaker, if isLouder

	running  bool // an activity is going on
	ever     bool // active is set
	proven   bool // the activity was long enough to be speech, or is a pause of one that was
	isLouder bool
	floored  bool  // among those of floor …
	began    int64 // … since
}

// Active says whether a packet of that level counts as activity.
func Active(level uint8, voice bool) bool {
	loud := floor - int(min(level, floor))
	return loud >= activeUnsaid || voice && loud >= activeVoice
}

// Level takes in the level of one packet of id, which is not 0: level in -dBov, 0 the loudest and 127 silence, and voice
// as the client says it (RFC 6464 §3).
func (d *Detector) Level(id uint64, level uint8, voice bool, now int64) {
	i, ok := d.index[id]
	if !ok {
		if d.index == nil {
			d.index = make(map[uint64]int)
		}
		i = len(d.members)
		d.index[id] = i
		d.members = append(d.members, member{id: id, heard: now})
	}
	d.now = max(d.now, now)
	m := &d.members[i]
	loud := float32(floor - int(min(level, floor)))
	span := m.smooth(loud, now)
	if Active(level, voice) {
		if !m.running || now-m.active > lost {
			m.running, m.from = true, now
		}
		if m.ever && now-m.active > pause {
			m.proven = false
		}
		m.active, m.ever = now, true
		m.proven = m.proven || now-m.from >= proof
		if !m.floored {
			m.floored, m.steady, m.began = true, loud, now
			d.floor = append(d.floor, id)
		}
		m.speaks(loud, span)
	} else if now-m.active > syllables {
		m.running = false
	}
}

// Remove forgets somebody. If it was the speaker, the next Tick chooses another or nobody.
func (d *Detector) Remove(id uint64) {
	i, ok := d.index[id]
	if !ok {
		return
	}
	if d.members[i].floored {
		d.floor = slices.DeleteFunc(d.floor, func(x uint64) bool { return x == id })
	}
	last := len(d.members) - 1
	d.members[i] = d.members[last]
	d.index[d.members[i].id] = i
	d.members = d.members[:last]
	delete(d.index, id)
}

// Tick decides. It returns the speaker, 0 for nobody, and whether that is a change since the last Tick. It is to be called
// every 20 to 100 ms; a coarser tick only decides later.
func (d *Detector) Tick(now int64) (speaker uint64, changed bool) {
	d.now = max(d.now, now)
	var cur *member
	if i, ok := d.index[d.current]; ok {
		cur = &d.members[i]
	}
	curLevel := float32(0)
	if cur != nil {
		curLevel = cur.at(now)
	}
	silent := cur == nil || now-cur.active > pause
	var best *member
	for i := range d.members {
		m := &d.members[i]
		if m == cur {
			continue
		}
		level := m.at(now)
		switch {
		case level >= curLevel+louder && !m.isLouder:
			m.isLouder, m.louder = true, now
		case level < curLevel+notLouder:
			m.isLouder = false
		}
		if !m.proven || now-m.active > lost {
			continue // only who speaks at this moment takes over
		}
		if (silent || m.isLouder && now-m.louder >= takeover) && (best == nil || level > best.at(now)) {
			best = m
		}
	}
	was := d.current
	switch {
	case best != nil:
		d.current = best.id
		for i := range d.members {
			d.members[i].isLouder = false // than another, from now on
		}
	case cur == nil, now-cur.active > nobodyTimeout:
		d.current = 0
	}
	d.contest(now)
	return d.current, d.current != was
}

// Heard appends those who speak, or did until a moment ago, to dst: whom it is most worth to hear first. As many as can be heard
// are to be taken from the front.
func (d *Detector) Heard(dst []uint64) []uint64 { return append(dst, d.floor...) }

// contest lets those go who have fallen silent, and those behind come before others where they have the right to.
func (d *Detector) contest(now int64) {
	d.floor = slices.DeleteFunc(d.floor, func(id uint64) bool {
		m := &d.members[d.index[id]]
		m.floored = now-m.active <= hangover
		return !m.floored
	})
	for j := 1; j < len(d.floor); j++ {
		m := &d.members[d.index[d.floor[j]]]
		if !m.proven || m.yields(now) {
			continue
		}
		patient := now-m.began >= takeover
		// The one to change places with: who has paused, or else who is the least loud, the last of equals.
		weakest, by := -1, float32(0)
		for i := range min(j, contested) {
			x := &d.members[d.index[d.floor[i]]]
			over := m.steady - x.steady
			switch {
			case x.yields(now):
				over += floor
			case !patient:
				continue
			}
			if over >= louder && over >= by {
				weakest, by = i, over
			}
		}
		if weakest >= 0 {
			d.floor[weakest], d.floor[j] = d.floor[j], d.floor[weakest]
		}
	}
}

// yields says whether somebody who speaks may come before m: it has paused, or was a noise that is over.
func (m *member) yields(now int64) bool {
	silent := now - m.active
	return silent > pause || !m.proven && silent > lost
}

// speaks takes in an active packet, which stands for the time span.
func (m *member) speaks(loud float32, span int64) {
	over := steadyDown
	if loud > m.steady {
		over = steadyUp
	}
	m.steady += (loud - m.steady) * float32(span) / float32(over+span)
}

// smooth moves the level towards that of a new packet: fast up, slow down. It returns the time that the packet stands for.
func (m *member) smooth(to float32, now int64) int64 {
	span := release
	if to > m.level {
		span = attack
	}
	// A packet stands for the time since the one before, but not for a gap of silence suppression.
	dt := min(max(now-m.heard, 0), longest)
	m.level = m.at(now)
	m.level += (to - m.level) * float32(dt) / float32(span+dt)
	m.heard = max(m.heard, now)
	return dt
}

// at is the level at a moment: that of the last packet, or less when none has come for a while.
func (m *member) at(now int64) float32 {
	gap := now - m.heard - stale
	if gap <= 0 {
		return m.level
	}
	return m.level * float32(release) / float32(release+gap)
}
