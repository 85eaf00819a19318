package relay

import "errors"

// Engine relays flows.
type Engine interface {
	Add(Flow) error
	Remove(Flow)
	Count(Flow) (up, down Counters, ok bool)
	Engine() string
	Close() error
}

// Stack is two engines as one. Packets that the upper one passes up, and flows that it does not take or has lost, are the lower one's.
type Stack struct{ upper, lower Engine }

// NewStack puts one engine above another.
func NewStack(upper, lower Engine) *Stack { return &Stack{upper: upper, lower: lower} }

// Add begins to relay a flow, by the lower engine first: whatever is passed up has somebody who waits for it. The error is the upper
// one's when neither takes it.
func (s *Stack) Add(f Flow) error {
	below := s.lower.Add(f)
	if err := s.upper.Add(f); err != nil && below != nil {
		return err
	}
	return nil
}

// Remove ends it.
func (s *Stack) Remove(f Flow) {
	s.upper.Remove(f)
	s.lower.Remove(f)
}

// Count returns what both have relayed since Add.
func (s *Stack) Count(f Flow) (up, down Counters, ok bool) {
	up, down, above := s.upper.Count(f)
	u, d, below := s.lower.Count(f)
	up.Packets, up.Bytes = up.Packets+u.Packets, up.Bytes+u.Bytes
	down.Packets, down.Bytes = down.Packets+d.Packets, down.Bytes+d.Bytes
	return up, down, above || below
}

// Engine returns the upper one's name.
func (s *Stack) Engine() string { return s.upper.Engine() }

// EngineOf returns the name of the one that has a flow.
func (s *Stack) EngineOf(f Flow) string {
	if _, _, ok := s.upper.Count(f); ok {
		return s.upper.Engine()
	}
	return s.lower.Engine()
}

// Reconcile makes the upper one true to the flows that live.
func (s *Stack) Reconcile(live []Flow) {
	if r, ok := s.upper.(interface{ Reconcile([]Flow) }); ok {
		r.Reconcile(live)
	}
}

// Close closes both.
func (s *Stack) Close() error { return errors.Join(s.upper.Close(), s.lower.Close()) }
