package transport

import "github.com/sotto-edge/sotto/perc/srtp"

// Stream is the sending state of one SSRC of a session: which SRTP indices are used, and up to which it may go. Whoever sends holds
// one per SSRC, so that a packet costs no look-up.
type Stream = srtp.Stream

// Stream returns the sending state of ssrc, made at the first call.
func (s *Session) Stream(ssrc uint32) (*Stream, error) {
	tx := s.Sender()
	if tx == nil {
		return nil, ErrNotReady
	}
	return tx.Stream(ssrc)
}
