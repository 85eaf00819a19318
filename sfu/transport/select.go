package transport

// settle is called after everything that may change which path is best, what state
// the session is in, or when it has to act next.
func (s *Session) settle(now int64) {
	if s.over() {
		return
	}
	if s.mode == modeActive {
		s.choose(now)
		s.judge(now)
	}
	if !s.over() {
		s.schedule(now)
	}
	s.count()
}

// count keeps Mux.unsettled: how many sessions are about to find a way, or another one.
func (s *Session) count() {
	u := !s.over() && s.mode == modeActive &&
		(s.state == StateConnecting || s.nominating >= 0 || s.selected < 0 || s.paths[s.selected].generation != s.current.number)
	if u == s.unsettled {
		return
	}
	if s.unsettled = u; u {
		s.mux.unsettled++
	} else {
		s.mux.unsettled--
	}
}

// choose decides which path to nominate: the first that is proven; a better one
// that turns up soon; and another when the selected one dies. Besides, a path is
// never left: flapping costs more than the second-best path.
func (s *Session) choose(now int64) {
	if s.role.yielded {
		s.follow(now)
		return
	}
	if n := s.nominating; n >= 0 {
		p := &s.paths[n]
		if p.valid && now-p.tx.began < nominationPatience {
			return
		}
		if best := s.bestPath(n, now); best >= 0 {
			s.nominate(best, now, firstRetry)
		}
		return
	}
	cur := s.selected
	if cur < 0 || s.paths[cur].generation != s.current.number {
		if best := s.bestPath(-1, now); best >= 0 {
			s.nominate(best, now, firstRetry)
		}
		return
	}
	best := s.bestPath(cur, now)
	if best < 0 {
		return
	}
	p, q := &s.paths[cur], &s.paths[best]
	switch {
	case s.dead(p, now):
		// The other one is proven, so media need not wait for the answer.
		s.selectPath(best, now)
		s.nominate(best, now, firstRetry)
	case q.priority > p.priority && now-s.selectedAt < improveWithin:
		s.nominate(best, now, firstRetry)
	case s.suspect(p, q, now) && p.tx.kind == txNone:
		s.begin(cur, txCheck, firstRetry, now)
	}
}

// dead reports whether the selected path is not worth staying on when there is
// another.
func (s *Session) dead(p *path, now int64) bool {
	if now-p.heard >= disconnectAfter || now-p.consent >= consentExpiry {
		return true
	}
	t := &p.tx
	return t.kind != txNone && t.began >= p.heard && t.tries > 2 && now-t.began >= probePatience+2*p.rtt
}

// suspect reports that q has been heard since p fell silent: the client may have
// got a new address from its NAT.
func (s *Session) suspect(p, q *path, now int64) bool {
	return q.heard > p.heard && now-p.heard >= suspectAfter
}

// selectPath sends media to path i from now on. With the first path of a new
// generation the old credentials end (RFC 8445 §9).
func (s *Session) selectPath(i int, now int64) {
	if s.selected != i {
		s.mux.counters.PathChanges++
	}
	s.selected = i
	if s.paths[i].generation != s.current.number {
		return
	}
	if s.selectedAt == 0 {
		s.selectedAt = now
	}
	if s.previous.used {
		s.dropOtherPaths(s.current.number)
		s.previous = generation{}
	}
}

// judge sets the state.
func (s *Session) judge(now int64) {
	silent := now-s.heard >= disconnectAfter
	switch {
	case s.selected >= 0 && now-s.paths[s.selected].consent >= consentExpiry:
		// choose would have left it for another.
		s.mux.counters.ConsentExpired++
		s.fail(now)
	case s.state == StateConnecting && s.Ready():
		s.setState(StateConnected, now)
	case s.state == StateConnecting && s.connectBy != 0 && now >= s.connectBy:
		s.fail(now)
	case s.state == StateConnected && (silent || s.selected < 0):
		s.connectBy = now + consentExpiry
		s.setState(StateDisconnected, now)
	case s.state == StateDisconnected && !silent && s.selected >= 0:
		s.setState(StateConnected, now)
	case s.state == StateDisconnected && s.selected < 0 && now >= s.connectBy:
		s.mux.counters.ConsentExpired++
		s.fail(now)
	}
}

// schedule computes when the session has to act next. Packets do not call it: the
// deadlines that they push back are computed anew when they come.
func (s *Session) schedule(now int64) {
	due := Never
	for i := range s.paths {
		p := &s.paths[i]
		if !p.used || p.inherited {
			continue
		}
		switch {
		case p.tx.kind != txNone:
			due = min(due, p.tx.next)
		case p.valid:
			due = min(due, Coarse(s.checkDue(i)))
		}
		if p.valid || i == s.selected {
			due = min(due, Coarse(p.consent+consentExpiry))
		} else {
			due = min(due, Coarse(p.heard+consentExpiry))
		}
	}
	if s.mode == modeActive {
		due = min(due, s.choiceDue(now))
	}
	s.mux.timers.set(s, max(due, now+millisecond))
}

// choiceDue is when choose or judge must look again.
func (s *Session) choiceDue(now int64) int64 {
	due := Never
	if s.state == StateConnected {
		due = min(due, Coarse(s.heard+disconnectAfter))
	} else if s.connectBy > now {
		due = min(due, s.connectBy)
	}
	if s.selected < 0 {
		return due
	}
	p := &s.paths[s.selected]
	if best := s.bestPath(s.selected, now); best >= 0 && s.paths[best].heard > p.heard {
		if at := p.heard + suspectAfter; at > now {
			due = min(due, at)
		}
		if at := p.heard + disconnectAfter; at > now {
			due = min(due, at)
		}
	}
	return due
}

// tick does what is due for the session.
func (s *Session) tick(now int64) {
	for i := range s.paths {
		s.tickPath(i, now)
	}
	s.settle(now)
	if s.over() {
		s.mux.timers.remove(s)
	}
}

func (s *Session) tickPath(i int, now int64) {
	p := &s.paths[i]
	if !p.used || p.inherited {
		return
	}
	expired := p.valid && now-p.consent >= consentExpiry
	if expired {
		p.valid = false
	}
	switch {
	case expired || now-max(p.heard, p.consent) >= consentExpiry:
		if i != s.selected {
			s.dropPath(i)
			return
		}
		p.tx = transaction{}
		if s.nominating == i {
			s.nominating = -1
		}
	case p.tx.kind != txNone && now >= p.tx.next:
		s.retry(i, now)
	case p.tx.kind == txNone && p.valid && now >= s.checkDue(i):
		s.begin(i, txCheck, firstRetry, now)
	}
}
