package transport

import (
	"errors"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
)

// media handles one SRTP or SRTCP datagram.
func (m *Mux) media(d *udp.Datagram, now int64) {
	s := m.lookup(d.Path.Remote)
	if s == nil {
		if !m.pass(d) {
			m.counters.UnknownAddress++
		}
		return
	}
	if s.mode != modeActive || s.state >= StateFailed {
		m.counters.NotActive++
		return
	}
	if s.recv == nil {
		m.counters.NoKeys++
		return
	}
	i := s.findPath(d.Path)
	if i < 0 {
		m.counters.UnknownAddress++
		return
	}
	if rtp.IsRTCP(d.Data) {
		m.rtcpIn(s, i, d, now)
	} else {
		m.rtpIn(s, i, d.Data, now)
	}
}

func (m *Mux) rtpIn(s *Session, i int, b []byte, now int64) {
	h := &s.header
	if !h.Parse(b) {
		m.counters.RTPMalformed++
		return
	}
	buf := m.cfg.Pool.Get()
	if buf == nil {
		m.counters.NoBuffer++
		return
	}
	tail := buf.Tail()
	if len(b) > len(tail) {
		m.counters.RTPMalformed++
		buf.Release()
		return
	}
	plain, index, err := s.recv.OpenRTP(tail[:0], b, h.HeaderLen)
	if err != nil {
		m.countOpenError(err)
		buf.Release()
		return
	}
	buf.SetLen(len(plain))
	if !h.Parse(buf.Bytes()) { // the view moves to the copy
		m.counters.RTPMalformed++
		buf.Release()
		return
	}
	m.counters.RTPIn++
	m.counters.BytesIn += uint64(len(b))
	s.listen(i, now)
	m.handler.RTP(s, buf, h, index, now)
	buf.Release()
}

func (m *Mux) rtcpIn(s *Session, i int, d *udp.Datagram, now int64) {
	b := d.Data
	plain, err := s.recv.OpenRTCP(b[:0], b)
	if err != nil {
		m.countOpenError(err)
		return
	}
	m.counters.RTCPIn++
	m.counters.BytesIn += uint64(len(b))
	s.listen(i, now)
	s.arrived = now - d.Waited
	m.handler.RTCP(s, plain, now)
}

// listen notes that the client was heard on path i.
func (s *Session) listen(i int, now int64) {
	s.paths[i].heard = now
	s.heard = now
	if s.state == StateDisconnected {
		s.settle(now)
	}
}

func (m *Mux) countOpenError(err error) {
	switch {
	case errors.Is(err, srtp.ErrReplay):
		m.counters.Replayed++
	case errors.Is(err, srtp.ErrTooManyStreams):
		m.counters.StreamsRefused++
	case errors.Is(err, srtp.ErrShort):
		m.counters.RTPMalformed++
	default:
		m.counters.AuthFailed++
	}
}

// ReserveRTP returns n bytes of the output to build a packet's header in, with
// room behind them for the authentication tag: n is the length of header and
// payload together. It is valid until anything else is sent.
func (s *Session) ReserveRTP(n int) []byte {
	b := s.mux.reserve(n + s.rtpOver)
	if len(b) > 0 {
		s.mux.reserved = &b[0]
	}
	return b[:n:len(b)]
}

// SendRTP seals one packet under index and queues it. hdr is best the beginning of
// the last ReserveRTP, and is copied there otherwise; payload is left as it is.
func (s *Session) SendRTP(st *srtp.Stream, index uint64, hdr, payload []byte) error {
	m := s.mux
	if !s.Ready() {
		m.counters.SendRefused++
		return ErrNotReady
	}
	n := len(hdr) + len(payload) + s.rtpOver
	if len(hdr) == 0 || m.reserved != &hdr[0] || cap(hdr) < n {
		hdr = append(m.reserve(n)[:0], hdr...)
	}
	m.reserved = nil
	sealed, err := s.send.SealRTP(st, index, hdr, payload)
	if err != nil {
		m.counters.SendRefused++
		return err
	}
	m.out.Commit(len(sealed), s.paths[s.selected].addr)
	m.counters.RTPOut++
	m.counters.BytesOut += uint64(len(sealed))
	return nil
}

// SendRTCP seals one compound and queues it.
func (s *Session) SendRTCP(compound []byte) error {
	m := s.mux
	if !s.Ready() {
		m.counters.SendRefused++
		return ErrNotReady
	}
	sealed, err := s.send.SealRTCP(m.reserve(len(compound) + s.rtcpOver)[:0], compound)
	if err != nil {
		m.counters.SendRefused++
		return err
	}
	m.out.Commit(len(sealed), s.paths[s.selected].addr)
	m.counters.RTCPOut++
	m.counters.BytesOut += uint64(len(sealed))
	return nil
}
