package rtcp

import (
	"encoding/binary"
	"errors"

	"github.com/sotto-edge/sotto/internal/plain"
)

// Status says what a sequence number is to the packets before it.
type Status uint8

const (
	New       Status = iota // ahead of all before it
	Late                    // behind the newest, and not seen before
	Duplicate               // seen before, or too old to know
)

const (
	// seenWindow is how many sequence numbers behind the newest are told apart; the replay window of perc/srtp is the same.
	seenWindow = 512

	receptionState = 1       // version of the checkpoint
	maxExtended    = 1 << 62 // no stream ever comes there, and sums with it do not wrap
)

// ErrState is returned for a checkpoint that this version cannot read.
var ErrState = errors.New("rtcp: unreadable reception state")

// Reception is what a receiver keeps about one stream of a remote sender: the extended sequence number (RFC 3550 §A.1),
// losses (§A.3) and jitter (§A.8), and the last sender report.
//
// The two packets of probation of §A.1 are left out: the packets are authenticated, so that a first one is no accident.
// A jump back over the whole window is taken as a restart of the sender at its second packet, as in §A.1, and the
// extended sequence number then goes on into the next cycle, so that it never falls.
//
// The zero Reception is ready to use; SSRC is what Block writes.
type Reception struct {
	SSRC uint32

	// Of the last sender report: NTP and RTP time of one moment, and when it came.
	SenderNTP uint64
	SenderRTP uint32
	SenderAt  int64
	HasReport bool

	Started  bool
	Base     int64  // extended sequence number of the first packet
	Highest  int64  // and of the newest
	Packets  uint64 // received, late and duplicate ones included (RFC 3550 §6.4.1)
	Restarts uint64

	expectedPrior int64 // at the last report
	receivedPrior uint64
	badSeq        uint32 // the sequence number that would confirm a restart; above 16 bits: none
	transit       uint32 // of the packet before, in units of the RTP timestamp
	rate          uint32 // of those units; 0 before the first packet
	jitter        uint32 // scaled by 16
	seen          [seenWindow / 64]uint64
}

const noBadSeq = 1 << 16

// Update takes a packet into account and returns its extended sequence number. now is when it arrived.
func (r *Reception) Update(seq uint16, ts, clockRate uint32, now int64) (int64, Status) {
	r.Packets++
	ext, status := r.place(seq)
	if status != Duplicate {
		r.interarrival(ts, clockRate, now)
	}
	return ext, status
}

// Repaired marks a packet that came by retransmission, so that the original is a duplicate if it still comes. It does not
// count as received: reports speak of what the path did (RFC 4588 §6 leaves the original's statistics alone).
func (r *Reception) Repaired(seq uint16) (int64, Status) {
	if !r.Started {
		return int64(seq), Late
	}
	ext := r.Extend(seq)
	if ext > r.Highest {
		return r.place(seq)
	}
	return ext, r.mark(ext)
}

// Seen says whether the packet with that extended sequence number has come. Of one that is behind the window nothing is known.
func (r *Reception) Seen(ext int64) bool {
	d := r.Highest - ext
	return r.Started && d >= 0 && d < seenWindow && r.seen[d>>6]&(1<<(d&63)) != 0
}

// Extend returns the extended sequence number of seq, the one nearest to the newest packet, and changes nothing.
func (r *Reception) Extend(seq uint16) int64 {
	if !r.Started {
		return int64(seq)
	}
	return r.Highest + int64(int16(seq-uint16(r.Highest)))
}

// SenderReport notes the times of a report of this sender, and when it came.
func (r *Reception) SenderReport(ntp uint64, rtp uint32, now int64) {
	r.SenderNTP, r.SenderRTP, r.SenderAt, r.HasReport = ntp, rtp, now, true
}

// Jitter is the interarrival jitter in units of the RTP timestamp (RFC 3550 §6.4.1).
func (r *Reception) Jitter() uint32 {
	return r.jitter >> 4
}

// Lost is the number of packets expected but not received. Duplicates can make it negative.
func (r *Reception) Lost() int64 {
	if !r.Started {
		return 0
	}
	return r.Highest - r.Base + 1 - int64(r.Packets)
}

// Block makes a report block. The loss fraction is of the time since the block before, so each is to be sent.
func (r *Reception) Block(now int64) ReportBlock {
	b := ReportBlock{
		SSRC:            r.SSRC,
		CumulativeLost:  int32(min(max(r.Lost(), minCumulativeLost), maxCumulativeLost)),
		HighestSequence: uint32(r.Highest),
		Jitter:          r.Jitter(),
	}
	if r.Started {
		expected := r.Highest - r.Base + 1
		interval := expected - r.expectedPrior
		lost := interval - int64(r.Packets-r.receivedPrior)
		if interval > 0 && lost > 0 {
			b.FractionLost = uint8(min(lost<<8/interval, 255))
		}
		r.expectedPrior, r.receivedPrior = expected, r.Packets
	}
	if r.HasReport {
		b.LastSR = NTPMiddle(r.SenderNTP)
		b.DelaySinceLastSR = shortTime(now - r.SenderAt)
	}
	return b
}

// place extends seq, moves Highest and the window, and says what the packet is.
func (r *Reception) place(seq uint16) (int64, Status) {
	if !r.Started {
		r.Started, r.badSeq = true, noBadSeq
		r.Base, r.Highest = int64(seq), int64(seq)
		r.seen[0] = 1
		return r.Highest, New
	}
	ext := r.Extend(seq)
	if ext <= r.Highest-seenWindow {
		if uint32(seq) != r.badSeq {
			r.badSeq = uint32(seq + 1)
			return ext, Duplicate
		}
		// Two in sequence, far behind: the sender started anew. The skipped part of the cycle is nobody's loss.
		ext = r.Highest + int64(seq-uint16(r.Highest))
		r.Base += ext - r.Highest - 1
		r.Restarts++
	}
	r.badSeq = noBadSeq
	if ext > r.Highest {
		r.shift(ext - r.Highest)
		r.Highest = ext
		r.seen[0] |= 1
		return ext, New
	}
	return ext, r.mark(ext)
}

// mark notes a packet at or behind Highest.
func (r *Reception) mark(ext int64) Status {
	d := r.Highest - ext
	if d >= seenWindow {
		return Duplicate
	}
	word, bit := &r.seen[d>>6], uint64(1)<<(d&63)
	if *word&bit != 0 {
		return Duplicate
	}
	*word |= bit
	return Late
}

// shift moves the window n numbers on; bit 0 of word 0 stands for Highest.
func (r *Reception) shift(n int64) {
	if n >= seenWindow {
		clear(r.seen[:])
		return
	}
	words, bits := int(n>>6), uint(n&63)
	for i := len(r.seen) - 1; i >= 0; i-- {
		var w uint64
		if j := i - words; j >= 0 {
			w = r.seen[j] << bits
			if j > 0 {
				w |= r.seen[j-1] >> (64 - bits) // a shift by 64 is 0
			}
		}
		r.seen[i] = w
	}
}

func (r *Reception) interarrival(ts, rate uint32, now int64) {
	if rate == 0 {
		return
	}
	transit := rtpTime(now, rate) - ts
	if r.rate == rate {
		d := int64(int32(transit - r.transit))
		if d < 0 {
			d = -d
		}
		// A step of the sender's clock is no jitter; without the bound one would show for minutes.
		if d < int64(rate)*10 {
			r.jitter += uint32(d) - (r.jitter+8)>>4
		}
	}
	r.transit, r.rate = transit, rate
}

// AppendState appends a checkpoint. Times are written as ages at now, so that another process with another monotonic clock
// can go on.
func (r *Reception) AppendState(dst []byte, now int64) []byte {
	var flags uint8
	if r.Started {
		flags |= 1
	}
	if r.HasReport {
		flags |= 2
	}
	dst = append(dst, receptionState, flags)
	dst = binary.BigEndian.AppendUint32(dst, r.SSRC)
	dst = binary.BigEndian.AppendUint64(dst, r.SenderNTP)
	dst = binary.BigEndian.AppendUint32(dst, r.SenderRTP)
	dst = binary.BigEndian.AppendUint64(dst, uint64(now-r.SenderAt))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Base))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Highest))
	dst = binary.BigEndian.AppendUint64(dst, r.Packets)
	dst = binary.BigEndian.AppendUint64(dst, r.Restarts)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.expectedPrior))
	dst = binary.BigEndian.AppendUint64(dst, r.receivedPrior)
	dst = binary.BigEndian.AppendUint32(dst, r.badSeq)
	dst = binary.BigEndian.AppendUint32(dst, r.jitter)
	for _, w := range r.seen {
		dst = binary.BigEndian.AppendUint64(dst, w)
	}
	return dst
}

// RestoreReception reads what AppendState wrote and returns what stands behind it. The transit time starts afresh, since
// clocks of two processes cannot be compared: the next packet adds no jitter.
func RestoreReception(b []byte, now int64) (Reception, []byte, error) {
	p := plain.Read(b)
	version, flags := p.Uint8(), p.Uint8()
	p.Require(version == receptionState && flags <= 3)
	r := Reception{Started: flags&1 != 0, HasReport: flags&2 != 0}
	r.SSRC = p.Uint32()
	r.SenderNTP = p.Uint64()
	r.SenderRTP = p.Uint32()
	r.SenderAt = now - int64(p.Uint64())
	r.Base, r.Highest = int64(p.Uint64()), int64(p.Uint64())
	r.Packets, r.Restarts = p.Uint64(), p.Uint64()
	r.expectedPrior, r.receivedPrior = int64(p.Uint64()), p.Uint64()
	r.badSeq, r.jitter = p.Uint32(), p.Uint32()
	for i := range r.seen {
		r.seen[i] = p.Uint64()
	}
	p.Require(r.badSeq <= noBadSeq && 0 <= r.Base && r.Base <= r.Highest && r.Highest <= maxExtended)
	if !p.OK() {
		return Reception{}, nil, ErrState
	}
	return r, p.Rest(), nil
}
