package sink

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Of the loopback baseline.
const (
	loopbackPackets = 101
	loopbackSize    = 1100
	loopbackLimit   = time.Second
)

// Loopback measures what a datagram takes from before its system call to its time stamp in another socket, with nobody in between:
// the median of a hundred.
func (s *Pool) Loopback(local netip.Addr) (time.Duration, error) {
	from, err := s.Open(local, 1)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := s.Open(local, 2)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	if err := errors.Join(from.Connect(to.addr.AddrPort(), Layout{}), to.Connect(from.addr.AddrPort(), Layout{})); err != nil {
		return 0, err
	}
	const payloadType, ssrc = 96, 1
	b := make([]byte, loopbackSize)
	b[0], b[1] = 2<<6, payloadType
	binary.BigEndian.PutUint32(b[8:], ssrc)
	took := make([]time.Duration, loopbackPackets)
	for i := range took {
		seq := uint16(i * int(s.every))
		binary.BigEndian.PutUint16(b[2:], seq)
		if _, err := from.WriteToAddrPort(b, to.addr.AddrPort()); err != nil {
			return 0, err
		}
		limit := time.Now().Add(loopbackLimit)
		at, ok := int64(0), false
		for !ok {
			if at, ok = to.Opened(ssrc, seq, false, 0); !ok && time.Now().After(limit) {
				return 0, errors.New("bench: a datagram is lost over loopback")
			}
			if !ok {
				time.Sleep(time.Millisecond / 10)
			}
		}
		took[i] = time.Duration(at - from.Departure(payloadType))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
