package rtcp

import "encoding/binary"

const (
	reportBlockLen = 24
	senderInfoLen  = 20

	maxCumulativeLost = 1<<23 - 1
	minCumulativeLost = -1 << 23
)

// ReportBlock is what a receiver says of one stream (RFC 3550 §6.4.1).
type ReportBlock struct {
	SSRC             uint32
	FractionLost     uint8  // since the last report, in 1/256
	CumulativeLost   int32  // 24 bits, signed: duplicates can make it negative
	HighestSequence  uint32 // extended by the number of wraps
	Jitter           uint32 // in units of the RTP timestamp
	LastSR           uint32 // middle 32 bits of the NTP time of the last sender report, 0 if there was none
	DelaySinceLastSR uint32 // in 1/65536 s
}

func parseReportBlock(b []byte) ReportBlock {
	return ReportBlock{
		SSRC:         binary.BigEndian.Uint32(b),
		FractionLost: b[4],
		// Shifted up and down again, so that the sign of the 24 bits is kept.
		CumulativeLost:   int32(binary.BigEndian.Uint32(b[4:])<<8) >> 8,
		HighestSequence:  binary.BigEndian.Uint32(b[8:]),
		Jitter:           binary.BigEndian.Uint32(b[12:]),
		LastSR:           binary.BigEndian.Uint32(b[16:]),
		DelaySinceLastSR: binary.BigEndian.Uint32(b[20:]),
	}
}

func appendReportBlock(dst []byte, r ReportBlock) []byte {
	lost := uint32(min(max(r.CumulativeLost, minCumulativeLost), maxCumulativeLost))
	dst = binary.BigEndian.AppendUint32(dst, r.SSRC)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.FractionLost)<<24|lost&0xffffff)
	dst = binary.BigEndian.AppendUint32(dst, r.HighestSequence)
	dst = binary.BigEndian.AppendUint32(dst, r.Jitter)
	dst = binary.BigEndian.AppendUint32(dst, r.LastSR)
	return binary.BigEndian.AppendUint32(dst, r.DelaySinceLastSR)
}

// ReportBlocks is a view over the blocks of a report.
type ReportBlocks struct {
	b []byte
}

// Len is the number of blocks.
func (r ReportBlocks) Len() int {
	return len(r.b) / reportBlockLen
}

// At returns block i.
func (r ReportBlocks) At(i int) ReportBlock {
	return parseReportBlock(r.b[i*reportBlockLen:])
}

// All yields the blocks in order.
func (r ReportBlocks) All(yield func(ReportBlock) bool) {
	for i := range r.Len() {
		if !yield(r.At(i)) {
			return
		}
	}
}

// SenderReport is what a sender says of its own stream (RFC 3550 §6.4.1).
type SenderReport struct {
	SSRC    uint32
	NTP     uint64 // 32.32 fixed point, since 1900
	RTPTime uint32 // the same moment on the clock of the stream
	Packets uint32
	Octets  uint32 // payload only
	Blocks  ReportBlocks
}

// ParseSenderReport reads a sender report. Profile-specific extensions behind the blocks are passed over.
func ParseSenderReport(p Packet) (SenderReport, bool) {
	b := p.Body()
	if p.Type() != TypeSenderReport || len(b) < 4+senderInfoLen+p.Count()*reportBlockLen {
		return SenderReport{}, false
	}
	blocks := b[4+senderInfoLen:]
	return SenderReport{
		SSRC:    binary.BigEndian.Uint32(b),
		NTP:     binary.BigEndian.Uint64(b[4:]),
		RTPTime: binary.BigEndian.Uint32(b[12:]),
		Packets: binary.BigEndian.Uint32(b[16:]),
		Octets:  binary.BigEndian.Uint32(b[20:]),
		Blocks:  ReportBlocks{blocks[:p.Count()*reportBlockLen]},
	}, true
}

// ReceiverReport is what a participant that sends nothing says of the streams it receives (RFC 3550 §6.4.2).
type ReceiverReport struct {
	SSRC   uint32
	Blocks ReportBlocks
}

// ParseReceiverReport reads a receiver report. Profile-specific extensions behind the blocks are passed over.
func ParseReceiverReport(p Packet) (ReceiverReport, bool) {
	b := p.Body()
	if p.Type() != TypeReceiverReport || len(b) < 4+p.Count()*reportBlockLen {
		return ReceiverReport{}, false
	}
	return ReceiverReport{
		SSRC:   binary.BigEndian.Uint32(b),
		Blocks: ReportBlocks{b[4 : 4+p.Count()*reportBlockLen]},
	}, true
}

// AppendSenderReport appends a sender report; s.Blocks is not used, blocks are. Blocks beyond the 31 that fit follow in
// receiver reports of the same SSRC (RFC 3550 §6.1).
func AppendSenderReport(dst []byte, s SenderReport, blocks []ReportBlock) []byte {
	start := len(dst)
	n := min(len(blocks), maxCount)
	dst = appendHeader(dst, TypeSenderReport, uint8(n))
	dst = binary.BigEndian.AppendUint32(dst, s.SSRC)
	dst = binary.BigEndian.AppendUint64(dst, s.NTP)
	dst = binary.BigEndian.AppendUint32(dst, s.RTPTime)
	dst = binary.BigEndian.AppendUint32(dst, s.Packets)
	dst = binary.BigEndian.AppendUint32(dst, s.Octets)
	for _, r := range blocks[:n] {
		dst = appendReportBlock(dst, r)
	}
	dst = setLength(dst, start)
	if n < len(blocks) {
		dst = AppendReceiverReport(dst, s.SSRC, blocks[n:])
	}
	return dst
}

// AppendReceiverReport appends as many receiver reports as the blocks need, and an empty one when there are none, since
// a compound begins with a report (RFC 3550 §6.1).
func AppendReceiverReport(dst []byte, ssrc uint32, blocks []ReportBlock) []byte {
	for {
		start := len(dst)
		n := min(len(blocks), maxCount)
		dst = appendHeader(dst, TypeReceiverReport, uint8(n))
		dst = binary.BigEndian.AppendUint32(dst, ssrc)
		for _, r := range blocks[:n] {
			dst = appendReportBlock(dst, r)
		}
		dst = setLength(dst, start)
		blocks = blocks[n:]
		if len(blocks) == 0 {
			return dst
		}
	}
}
