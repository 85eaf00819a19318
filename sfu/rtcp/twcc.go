package rtcp

import (
	"encoding/binary"
	"math"
)

// Transport-wide congestion control feedback: draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.
const (
	twccFixedLen = feedbackHeaderLen + 8

	twccLost     = 0
	twccSmall    = 1 // one byte of delta, unsigned
	twccLarge    = 2 // two bytes of delta, signed
	twccReserved = 3

	twccMaxRun   = 1<<13 - 1
	twccOneBit   = 14 // statuses in a vector of one-bit symbols
	twccTwoBit   = 7  // statuses in a vector of two-bit symbols
	twccTick     = 250_000
	twccRefShift = 8 // 256 ticks of 250 µs are the 64 ms of the reference time
)

// TWCC is feedback on the arrival of every packet of a transport, by transport-wide sequence number.
type TWCC struct {
	SenderSSRC    uint32
	MediaSSRC     uint32
	BaseSequence  uint16
	StatusCount   uint16
	ReferenceTime uint32 // 24 bits, in 64 ms, of an arbitrary clock of the receiver
	FeedbackCount uint8  // goes up by one with each packet
	chunks        []byte
	deltas        []byte
}

// TWCCPacket is the fate of one packet.
type TWCCPacket struct {
	Sequence uint16
	Received bool
	// Delta is the time since the packet received before it in this feedback, or since the reference time for the first,
	// in ticks of 250 µs.
	Delta int32
	// Arrival is the sum: the arrival in ticks on the receiver's clock. It wraps with the reference time, so that
	// int32(a-b) is the difference between any two.
	Arrival uint32
}

// ParseTWCC reads transport-wide feedback. The whole packet is checked here: the chunks must cover the status count and
// there must be a delta for each packet received. The symbol that the draft reserves is an error, as it is in libwebrtc.
func ParseTWCC(p Packet) (TWCC, bool) {
	if !p.is(TypeTransportFeedback, FormatTWCC) || len(p.raw) < twccFixedLen {
		return TWCC{}, false
	}
	b := p.raw[feedbackHeaderLen:]
	t := TWCC{
		SenderSSRC:    p.SenderSSRC(),
		MediaSSRC:     p.MediaSSRC(),
		BaseSequence:  binary.BigEndian.Uint16(b),
		StatusCount:   binary.BigEndian.Uint16(b[2:]),
		ReferenceTime: binary.BigEndian.Uint32(b[4:]) >> 8,
		FeedbackCount: b[7],
	}
	b = b[8:]
	left, size, at := int(t.StatusCount), 0, 0
	for left > 0 {
		if at+2 > len(b) {
			return TWCC{}, false
		}
		c := twccChunk(binary.BigEndian.Uint16(b[at:]))
		at += 2
		n := min(left, c.len())
		left -= n
		if c.isRun() {
			if c.symbol(0) == twccReserved {
				return TWCC{}, false
			}
			size += n * int(c.symbol(0))
			continue
		}
		for i := range n {
			s := c.symbol(i)
			if s == twccReserved {
				return TWCC{}, false
			}
			size += int(s)
		}
	}
	if size > len(b)-at {
		return TWCC{}, false
	}
	t.chunks, t.deltas = b[:at], b[at:at+size]
	return t, true
}

// Packets yields the fate of each packet from BaseSequence on.
func (t TWCC) Packets(yield func(TWCCPacket) bool) {
	p := TWCCPacket{Sequence: t.BaseSequence, Arrival: t.ReferenceTime << twccRefShift}
	left, deltas := int(t.StatusCount), t.deltas
	for b := t.chunks; len(b) >= 2; b = b[2:] {
		c := twccChunk(binary.BigEndian.Uint16(b))
		n := min(left, c.len())
		left -= n
		for i := range n {
			p.Received, p.Delta = true, 0
			switch c.symbol(i) {
			case twccSmall:
				p.Delta = int32(deltas[0])
				deltas = deltas[1:]
			case twccLarge:
				p.Delta = int32(int16(binary.BigEndian.Uint16(deltas)))
				deltas = deltas[2:]
			default:
				p.Received = false
			}
			p.Arrival += uint32(p.Delta)
			if !yield(p) {
				return
			}
			p.Sequence++
		}
	}
}

// twccChunk is a packet status chunk: a run of one symbol, or a vector of one-bit or two-bit symbols.
type twccChunk uint16

func (c twccChunk) isRun() bool {
	return c>>15 == 0
}

func (c twccChunk) len() int {
	switch c >> 14 {
	case 2:
		return twccOneBit
	case 3:
		return twccTwoBit
	default:
		return int(c & twccMaxRun)
	}
}

func (c twccChunk) symbol(i int) uint8 {
	switch c >> 14 {
	case 2:
		return uint8(c >> (twccOneBit - 1 - i) & 1)
	case 3:
		return uint8(c >> (2 * (twccTwoBit - 1 - i)) & 3)
	default:
		return uint8(c >> 13 & 3)
	}
}

// TWCCNotReceived in place of a delta tells AppendTWCC that the packet did not arrive.
const TWCCNotReceived = math.MinInt32

func twccSymbol(delta int32) uint8 {
	switch {
	case delta == TWCCNotReceived:
		return twccLost
	case delta >= 0 && delta <= math.MaxUint8:
		return twccSmall
	default:
		return twccLarge
	}
}

// AppendTWCC appends one feedback packet with the fields of t and one status per entry of deltas: the ticks since the
// packet received before (the first: since the reference time), within 16 signed bits, or TWCCNotReceived. There are at
// most 65535 of them. The other fields of t are not used.
func AppendTWCC(dst []byte, t TWCC, deltas []int32) []byte {
	start := len(dst)
	dst = appendFeedbackHeader(dst, TypeTransportFeedback, FormatTWCC, t.SenderSSRC, t.MediaSSRC)
	dst = binary.BigEndian.AppendUint16(dst, t.BaseSequence)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(deltas)))
	dst = binary.BigEndian.AppendUint32(dst, t.ReferenceTime<<8|uint32(t.FeedbackCount))
	for rest := deltas; len(rest) > 0; {
		c := nextTWCCChunk(rest)
		dst = binary.BigEndian.AppendUint16(dst, uint16(c))
		rest = rest[min(len(rest), c.len()):]
	}
	for _, d := range deltas {
		switch twccSymbol(d) {
		case twccSmall:
			dst = append(dst, uint8(d))
		case twccLarge:
			dst = binary.BigEndian.AppendUint16(dst, uint16(d))
		}
	}
	// Zeros fill the last word, as the draft draws it. libwebrtc makes RTCP padding of them, which RFC 3550 §6.4.1 allows in
	// the last packet of a compound only; readers find the deltas by counting and take both.
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	return setLength(dst, start)
}

// nextTWCCChunk makes the chunk that covers most of the statuses ahead. Any chunk but the last covers at least seven,
// which is what the recorder's bound counts on.
func nextTWCCChunk(deltas []int32) twccChunk {
	first := twccSymbol(deltas[0])
	run := 1
	for run < min(len(deltas), twccMaxRun) && twccSymbol(deltas[run]) == first {
		run++
	}
	if run > twccOneBit || run == len(deltas) {
		return twccChunk(first)<<13 | twccChunk(run)
	}
	oneBit := twccChunk(1 << 15)
	n := min(len(deltas), twccOneBit)
	for i, d := range deltas[:n] {
		s := twccSymbol(d)
		if s == twccLarge {
			oneBit = 0
			break
		}
		oneBit |= twccChunk(s) << (twccOneBit - 1 - i)
	}
	if oneBit != 0 {
		return oneBit
	}
	if run > twccTwoBit {
		return twccChunk(first)<<13 | twccChunk(run)
	}
	twoBit := twccChunk(3 << 14)
	for i, d := range deltas[:min(len(deltas), twccTwoBit)] {
		twoBit |= twccChunk(twccSymbol(d)) << (2 * (twccTwoBit - 1 - i))
	}
	return twoBit
}
