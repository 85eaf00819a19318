// Package speaker finds out who speaks, from the audio levels that clients put into their packets (RFC 6464).
//
// A Detector owns the levels of one conference. It promises calm: a noise shorter than 100 ms never makes a speaker,
// however loud; another speaker takes over only when clearly louder for 300 ms, or when the current one has fallen
// silent; and two seconds after everybody has, there is none.
//
// It reads no clock and opens no packet; levels and times are handed in. It believes the levels: a client can lie about
// its own. It does not lock: whoever owns the conference calls it. It allocates only when somebody new speaks up.
package speaker

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
	recent        = 1000 * millisecond // without activity, after which somebody is not among the loudest
	nobodyTimeout = 2000 * millisecond // without activity, after which there is no speaker
)

// Detector follows the levels of one conference. The zero Detector is ready to use.
type Detector struct {
	members []member
	index   map[uint64]int
	current uint64 // 0: nobody
	now     int64
}

type member struct {
	id     uint64
	level  float32 // smoothed
	heard  int64   // last packet
	from   int64   // begin of the activity
	active int64   // last active packet; the activity lasts from..active
	louder int64   // since when clearly louder than the speaker, if isLouder

	running  bool // an activity is going on
	ever     bool // active is set
	proven   bool // the activity was long enough to be speech, or is a pause of one that was
	isLouder bool
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
	loud := floor - int(min(level, floor))
	m.smooth(float32(loud), now)
	if loud >= activeUnsaid || voice && loud >= activeVoice {
		if !m.running || now-m.active > lost {
			m.running, m.from = true, now
		}
		if m.ever && now-m.active > pause {
			m.proven = false
		}
		m.active, m.ever = now, true
		m.proven = m.proven || now-m.from >= proof
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
	return d.current, d.current != was
}

// Loudest appends up to n of those active within the last second to dst, the loudest first.
func (d *Detector) Loudest(n int, dst []uint64) []uint64 {
	var lastLevel float32
	var lastID uint64
	for k := range n {
		// One pass for each place: n is small, and nothing needs to be sorted or kept.
		var best *member
		var bestLevel float32
		for i := range d.members {
			m := &d.members[i]
			if !m.ever || d.now-m.active > recent {
				continue
			}
			level := m.at(d.now)
			if k > 0 && !before(lastLevel, lastID, level, m.id) {
				continue
			}
			if best == nil || before(level, m.id, bestLevel, best.id) {
				best, bestLevel = m, level
			}
		}
		if best == nil {
			break
		}
		dst = append(dst, best.id)
		lastLevel, lastID = bestLevel, best.id
	}
	return dst
}

// before is the order of Loudest: by level, equal ones by id.
func before(level float32, id uint64, otherLevel float32, other uint64) bool {
	return level > otherLevel || level == otherLevel && id < other
}

// smooth moves the level towards that of a new packet: fast up, slow down.
func (m *member) smooth(to float32, now int64) {
	span := release
	if to > m.level {
		span = attack
	}
	// A packet stands for the time since the one before, but not for a gap of silence suppression.
	dt := min(max(now-m.heard, 0), longest)
	m.level = m.at(now)
	m.level += (to - m.level) * float32(dt) / float32(span+dt)
	m.heard = max(m.heard, now)
}

// at is the level at a moment: that of the last packet, or less when none has come for a while.
func (m *member) at(now int64) float32 {
	gap := now - m.heard - stale
	if gap <= 0 {
		return m.level
	}
	return m.level * float32(release) / float32(release+gap)
}
