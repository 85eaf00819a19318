package sfu

import "github.com/sotto-edge/sotto/sfu/forward"

// mirrored is a publication on a shard where slots show it.
type mirrored struct {
	origin *forward.Track  // the publisher's
	track  *forward.Track  // here
	mirror *forward.Mirror // nil on the publisher's own shard
	users  int             // slots
}

// reach returns p's track on s, for one more slot: that of its publisher, or a mirror, which is made for the first slot.
func (p *publication) reach(s *shard) *mirrored {
	m := p.mirrors[s]
	if m == nil {
		m = &mirrored{origin: p.media, track: p.media}
		if at := p.owner.shard; at != s {
			m.mirror = forward.NewMirror(p.media, s.router, at.out[s.index], s.out[at.index], p.muted)
			m.track = m.mirror.Track()
			at.post(func(int64) { m.origin.AddMirror(m.mirror) })
		}
		if p.mirrors == nil {
			p.mirrors = make(map[*shard]*mirrored)
		}
		p.mirrors[s] = m
	}
	m.users++
	return m
}

// leave says that a slot on s shows p no more. With the last one a mirror ends.
func (p *publication) leave(s *shard) {
	m := p.mirrors[s]
	if m == nil {
		return // p has ended
	}
	if m.users--; m.users > 0 {
		return
	}
	delete(p.mirrors, s)
	if m.mirror != nil {
		p.owner.shard.post(func(now int64) { m.origin.RemoveMirror(m.mirror, now) })
		s.post(m.mirror.Close)
	}
}

// receivers counts the slots that show p.
func (p *publication) receivers() (n int) {
	for _, m := range p.mirrors {
		n += m.users
	}
	return n
}

// end closes p's tracks on all shards. When it returns nothing of p is sent any more.
func (p *publication) end() {
	for s, m := range p.mirrors {
		if m.mirror != nil {
			s.finish(m.mirror.Close)
		}
	}
	p.mirrors = nil
	if t := p.media; t != nil {
		p.media = nil
		p.owner.shard.finish(t.Close)
	}
}

// mute stops or resumes forwarding. When it returns, no shard sends anything of a muted publication; what is on its way to a mirror
// is dropped there. A mirror is there for the first packet after a pause.
func (p *publication) mute(muted bool) error {
	p.muted = muted
	if p.media == nil {
		return nil
	}
	set := func(s *shard, t *forward.Track) error {
		return s.call(func(now int64) error {
			t.SetMuted(muted, now)
			return nil
		})
	}
	for s, m := range p.mirrors {
		if m.mirror != nil {
			if err := set(s, m.track); err != nil {
				return err
			}
		}
	}
	return set(p.owner.shard, p.media)
}
