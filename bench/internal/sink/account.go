package sink

import (
	"encoding/binary"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/rtcp"
)

// SampleEvery is how many packets of a stream go by for one that is opened, where every packet need not be.
const SampleEvery = 50

// Layout says what the numbers in clear headers mean, as negotiated with the server. A zero is a thing that is not negotiated.
type Layout struct {
	Transport uint8 // header extension with the transport-wide sequence number
	Sound     uint8 // payload type of Opus; every other one is pictures
	Repair    uint8 // payload type of retransmissions (RFC 4588)
}

// account is what one receiver knows of what it is sent, from clear headers alone: which sequence numbers came, which are to be asked
// for again, and what to tell the server. It is not for use by several goroutines at once.
type account struct {
	own    uint32 // SSRC of what it reports as
	every  uint16 // packets go by for one that is opened
	layout Layout

	streams []*stream // in the order of their first packets
	arrived rtcp.TWCCRecorder
	first   int64 // wall clock of the first packet; 0: none
	picture int64 // and of the first of pictures

	packets, bytes, duplicates, repaired uint64
}

// stream is one SSRC.
type stream struct {
	ssrc      uint32
	video     bool
	reception rtcp.Reception
	nack      rtcp.NACKGenerator
	base      int64 // of seen
	seen      []uint64
	sampled   [64]sample
}

// sample is a packet that was handed on to be opened.
type sample struct {
	seq uint16
	at  int64
}

func (a *account) stream(ssrc uint32) *stream {
	for _, s := range a.streams {
		if s.ssrc == ssrc {
			return s
		}
	}
	return nil
}

// take notes one datagram that came at a moment of the wall clock, and says whether it is to be handed on: what is not RTP, what
// repairs, and one packet in fifty.
func (a *account) take(b []byte, at int64) (on bool) {
	if len(b) < 12 || b[0]>>6 != 2 || rtp.IsRTCP(b) {
		return true
	}
	var h rtp.Header
	if !h.Parse(b) {
		return false
	}
	if v := h.Extension(a.layout.Transport); a.layout.Transport != 0 && len(v) == 2 {
		a.arrived.Received(binary.BigEndian.Uint16(v), at)
	}
	if a.layout.Repair != 0 && h.PayloadType == a.layout.Repair {
		return true // counted when it is opened: only then is it known what it repairs
	}
	s := a.stream(h.SSRC)
	if s == nil {
		s = &stream{ssrc: h.SSRC, video: h.PayloadType != a.layout.Sound, reception: rtcp.Reception{SSRC: h.SSRC}}
		a.streams = append(a.streams, s)
	}
	if a.first == 0 {
		a.first = at
	}
	if s.video && a.picture == 0 {
		a.picture = at
	}
	clock := uint32(48000)
	if s.video {
		clock = 90000
	}
	ext, status := s.reception.Update(h.SequenceNumber, h.Timestamp, clock, at)
	if status == rtcp.Duplicate || !s.note(ext) {
		a.duplicates++
		return false
	}
	if s.video {
		s.nack.Received(ext, at)
	}
	a.packets++
	a.bytes += uint64(len(b))
	if h.SequenceNumber%a.every != 0 {
		return false
	}
	s.sampled[int(h.SequenceNumber/a.every)%len(s.sampled)] = sample{h.SequenceNumber, at}
	return true
}

// repairedBy notes a packet that came by retransmission.
func (a *account) repairedBy(ssrc uint32, seq uint16, at int64) {
	s := a.stream(ssrc)
	if s == nil {
		return
	}
	ext, status := s.reception.Repaired(seq)
	s.nack.Received(ext, at)
	if status == rtcp.Duplicate || !s.note(ext) {
		a.duplicates++
		return
	}
	a.packets++
	a.repaired++
}

// arrival returns when a sampled packet came.
func (a *account) arrival(ssrc uint32, seq uint16) (int64, bool) {
	s := a.stream(ssrc)
	if s == nil {
		return 0, false
	}
	v := s.sampled[int(seq/a.every)%len(s.sampled)]
	return v.at, v.seq == seq && v.at != 0
}

// note marks a number as seen; false: it was.
func (s *stream) note(ext int64) bool {
	if s.seen == nil {
		s.base = ext
	}
	i := ext - s.base
	if i < 0 {
		return true // before the first: outside of what is measured
	}
	for int(i/64) >= len(s.seen) {
		s.seen = append(s.seen, 0)
	}
	bit := uint64(1) << (i % 64)
	if s.seen[i/64]&bit != 0 {
		return false
	}
	s.seen[i/64] |= bit
	return true
}

// missing counts the numbers above from, up to to, that were not seen.
func (s *stream) missing(from, to int64) uint64 {
	n := uint64(0)
	for ext := from + 1; ext <= to; ext++ {
		if i := ext - s.base; i < 0 || int(i/64) >= len(s.seen) || s.seen[i/64]>>(i%64)&1 == 0 {
			n++
		}
	}
	return n
}

// highest returns the newest number of each stream.
func (a *account) highest() map[uint32]int64 {
	out := make(map[uint32]int64, len(a.streams))
	for _, s := range a.streams {
		out[s.ssrc] = s.reception.Highest
	}
	return out
}

// lost counts what is missing between two moments, over all streams. A stream that began in between counts from its first packet.
func (a *account) lost(from, to map[uint32]int64) uint64 {
	n := uint64(0)
	for _, s := range a.streams {
		low, known := from[s.ssrc]
		if !known {
			low = s.base - 1
		}
		n += s.missing(low, to[s.ssrc])
	}
	return n
}

// requests appends what is to be asked for again (RFC 4585 §6.2.1).
func (a *account) requests(dst []byte, now int64) []byte {
	var room [64]uint16
	for _, s := range a.streams {
		if seqs := s.nack.Missing(now, 0, room[:0]); len(seqs) > 0 {
			dst = rtcp.AppendNACK(dst, a.own, s.ssrc, seqs)
		}
	}
	return dst
}

// feedback appends the arrivals since the last call, as browsers report them.
func (a *account) feedback(dst []byte) []byte {
	if a.arrived.Pending() && len(a.streams) > 0 {
		dst = a.arrived.Append(dst, a.own, a.streams[0].ssrc, 1100)
	}
	return dst
}

// report appends a receiver report.
func (a *account) report(dst []byte, now int64) []byte {
	var blocks []rtcp.ReportBlock
	for _, s := range a.streams {
		blocks = append(blocks, s.reception.Block(now))
	}
	return rtcp.AppendReceiverReport(dst, a.own, blocks)
}
