package transport

// Grain is what Coarse rounds to.
const Grain = 50 * millisecond

// Coarse returns the moment at or after at when what need not be exact falls due: the same for many sessions, and for what else
// their shard does, so that its thread wakes once for all of them.
func Coarse(at int64) int64 { return at + Grain - 1 - (at+Grain-1)%Grain }

// timers is a binary heap of sessions by deadline. Sessions know their place in
// it, so that a deadline can be moved; packets never touch it.
type timers struct {
	heap []*Session
}

func (t *timers) first() *Session {
	if len(t.heap) == 0 {
		return nil
	}
	return t.heap[0]
}

// set puts s at its new deadline; Never takes it out.
func (t *timers) set(s *Session, deadline int64) {
	switch {
	case deadline == Never:
		t.remove(s)
		s.deadline = Never
	case s.timer == 0:
		s.deadline = deadline
		t.heap = append(t.heap, s)
		s.timer = len(t.heap)
		t.up(s.timer)
	case deadline < s.deadline:
		s.deadline = deadline
		t.up(s.timer)
	default:
		s.deadline = deadline
		t.down(s.timer)
	}
}

func (t *timers) remove(s *Session) {
	i := s.timer
	if i == 0 {
		return
	}
	n := len(t.heap)
	last := t.heap[n-1]
	t.heap[n-1] = nil
	t.heap = t.heap[:n-1]
	s.timer = 0
	if last == s {
		return
	}
	t.put(i, last)
	t.up(i)
	t.down(last.timer)
}

// Places count from 1, so that a session's zero value is "not in the heap".
func (t *timers) at(i int) *Session { return t.heap[i-1] }

func (t *timers) put(i int, s *Session) {
	t.heap[i-1] = s
	s.timer = i
}

func (t *timers) up(i int) {
	s := t.at(i)
	for i > 1 && t.at(i/2).deadline > s.deadline {
		t.put(i, t.at(i/2))
		i /= 2
	}
	t.put(i, s)
}

func (t *timers) down(i int) {
	s := t.at(i)
	for {
		c := 2 * i
		if c > len(t.heap) {
			break
		}
		if c < len(t.heap) && t.at(c+1).deadline < t.at(c).deadline {
			c++
		}
		if t.at(c).deadline >= s.deadline {
			break
		}
		t.put(i, t.at(c))
		i = c
	}
	t.put(i, s)
}
