package forward

import (
	"math"

	"github.com/sotto-edge/sotto/sfu/bwe"
)

// On a link that loses much a repair is lost as often as anything else, and the receiver finds out only a round trip later, when the
// picture has stood still for two. So what is sent again goes twice there: a second time echoDelay after the first, behind the end of
// a short burst of losses. That costs such a link at most as many bytes more as it loses, and others nothing.
const (
	echoDelay = 10 * millisecond
	maxEchoes = 64 // that wait for one peer
)

// echo is a repair that goes a second time.
type echo struct {
	leg    *Leg
	number int64
	at     int64
}

// echo lets the repair of number go a second time, if the link is such that it is worth it. A queue on the path says that packets are
// lost for want of room: more of them would make it worse.
func (l *Leg) echo(number, now int64) {
	o := &l.peer.out
	if now >= l.lossyUntil || o.est != nil && o.est.Congested() || len(o.echoes) >= maxEchoes {
		return
	}
	if o.echoes == nil {
		o.echoes = make([]echo, 0, maxEchoes)
	}
	o.echoes = append(o.echoes, echo{leg: l, number: number, at: now + echoDelay})
	l.peer.router.timers.sooner(l.peer, now+echoDelay)
}

// sendEchoes sends the echoes that are due, as far as the link has room for them, and returns when the next one is.
func (p *Peer) sendEchoes(now int64) int64 {
	o, sent := &p.out, 0
	for _, e := range o.echoes {
		if e.at > now {
			break
		}
		sent++
		if !p.ready() || !o.pace.affords(now) {
			continue
		}
		if e.leg.again(e.number, 0, bwe.NoProbe, now) {
			p.router.Counters.Echoed++
		}
	}
	if sent > 0 {
		kept := copy(o.echoes, o.echoes[sent:])
		clear(o.echoes[kept:])
		o.echoes = o.echoes[:kept]
	}
	if len(o.echoes) == 0 {
		return math.MaxInt64
	}
	return o.echoes[0].at
}

// later lets a repair wait for room on the link. While packets wait in the pacer they use up all room there is as it comes, so that a
// request finds none whenever it comes: without a place of its own in front of them what the receiver stands still for would be sent
// last of all.
func (l *Leg) later(number, now int64) {
	o := &l.peer.out
	for _, e := range o.held {
		if e.leg == l && e.number == number {
			return
		}
	}
	if len(o.held) >= maxEchoes {
		return
	}
	if o.held == nil {
		o.held = make([]echo, 0, maxEchoes)
	}
	o.held = append(o.held, echo{leg: l, number: number, at: now})
	l.peer.router.timers.sooner(l.peer, max(o.pace.room(), now))
}

// forgetHeld gives up the repairs that wait for leg: it begins anew with a key frame, and of the pictures before none is missed.
func (o *sender) forgetHeld(leg *Leg) {
	kept := o.held[:0]
	for _, e := range o.held {
		if e.leg != leg {
			kept = append(kept, e)
		}
	}
	clear(o.held[len(kept):])
	o.held = kept
}

// sendHeld sends the repairs that waited for room, as far as there is some now, and returns when there is more.
func (p *Peer) sendHeld(now int64) int64 {
	o, done := &p.out, 0
	for _, e := range o.held {
		if !o.pace.affords(now) {
			break
		}
		done++
		if p.ready() && now-e.at <= pacerPatient {
			e.leg.repairNow(e.number, now)
		}
	}
	if done > 0 {
		kept := copy(o.held, o.held[done:])
		clear(o.held[kept:])
		o.held = o.held[:kept]
	}
	if len(o.held) == 0 {
		return math.MaxInt64
	}
	return max(o.pace.room(), now+quantum)
}
