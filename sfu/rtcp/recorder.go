package rtcp

import "math"

const (
	// twccWindow bounds what a recorder remembers, in packets: at 100 ms between feedbacks, 20000 packets per second.
	twccWindow = 2048
	// twccLate is how far behind the newest a packet may come and still be reported.
	twccLate = 512
	// twccMaxStatuses bounds one feedback packet, so that its deltas fit on the stack.
	twccMaxStatuses = 1024
	// twccMinLimit is what one feedback packet needs at the worst: as many losses as it can tell of, then one arrival.
	twccMinLimit = 320
)

// TWCCRecorder notes when the packets of a transport arrive, by transport-wide sequence number, and makes the feedback
// of it. A packet that comes after its place was already reported as lost is reported in the next feedback, together
// with everything since; senders expect that (libwebrtc's own receiver does the same). Sequence numbers that fall out of
// the window before they are reported are counted in Skipped.
//
// The zero TWCCRecorder is ready to use. It takes 9 KiB and no more.
type TWCCRecorder struct {
	Skipped uint64 // sequence numbers that no feedback told of

	started bool
	pending bool  // something arrived that was not reported
	next    int64 // first sequence number of the next feedback
	highest int64 // highest received
	count   uint8 // of feedback packets

	// Arrival in ticks of 250 µs. The 32 bits wrap exactly when the reference time of the feedback does.
	ticks    [twccWindow]uint32
	received [twccWindow / 64]uint64
}

// Received notes the arrival of a packet. Of duplicates the first counts.
func (r *TWCCRecorder) Received(seq uint16, now int64) {
	if !r.started {
		r.started = true
		// One cycle up, so that packets before the first are not negative.
		r.highest = 1<<16 | int64(seq)
		r.next = r.highest
		r.set(r.highest, now)
		return
	}
	ext := r.highest + int64(int16(seq-uint16(r.highest)))
	switch {
	case ext > r.highest:
		r.advance(ext)
	case r.highest-ext >= twccLate || r.has(ext):
		return
	case ext < r.next:
		r.next = ext
	}
	r.set(ext, now)
}

// Pending reports whether there is something to say.
func (r *TWCCRecorder) Pending() bool {
	return r.pending
}

// Append appends feedback on everything since the last call, in as many packets as it takes but in no more than limit
// bytes; each packet stays within 1200. What does not fit is left, and Pending says so:
//
//	for r.Pending() {
//		send(r.Append(buf[:0], sender, media, 1200))
//	}
//
// A limit below 320 makes nothing and drops what is pending, so that the loop ends.
func (r *TWCCRecorder) Append(dst []byte, sender, media uint32, limit int) []byte {
	if limit < twccMinLimit {
		r.next, r.pending = r.highest+1, false
		return dst
	}
	var deltas [twccMaxStatuses]int32
	start := len(dst)
	for r.pending {
		room := min(limit-(len(dst)-start), maxPacketLen)
		t := TWCC{SenderSSRC: sender, MediaSSRC: media, BaseSequence: uint16(r.next), FeedbackCount: r.count}
		statuses := r.collect(&deltas, room, &t.ReferenceTime)
		if len(statuses) == 0 {
			break // no room for another; the first always has it
		}
		dst = AppendTWCC(dst, t, statuses)
		r.count++
	}
	return dst
}

// collect fills deltas with the statuses of one packet of at most room bytes and moves next behind them. The last status
// is always one of a received packet: losses behind it belong to the next packet, where they may have arrived.
func (r *TWCCRecorder) collect(deltas *[twccMaxStatuses]int32, room int, reference *uint32) []int32 {
	var (
		n     int // statuses that count
		size  int // bytes of their deltas
		last  uint32
		ext   = r.next
		known bool
	)
	for i := 0; i < len(deltas) && ext <= r.highest; i, ext = i+1, ext+1 {
		if !r.has(ext) {
			deltas[i] = TWCCNotReceived
			continue
		}
		t := r.ticks[ext&(twccWindow-1)]
		if !known {
			known = true
			// The reference time is the arrival rounded down, so the first delta is below 64 ms.
			*reference = t >> twccRefShift
			last = *reference << twccRefShift
		}
		d := int32(t - last)
		if d < math.MinInt16 || d > math.MaxInt16 {
			break // more than 8 s apart: a new packet with its own reference time
		}
		size += int(twccSymbol(d))
		// Seven statuses a chunk at the worst, and up to three bytes that fill the last word.
		if twccFixedLen+2*((i+1+twccTwoBit-1)/twccTwoBit)+size+3 > room {
			break
		}
		deltas[i], last, n = d, t, i+1
	}
	if n == 0 && !known && ext <= r.highest {
		// Only losses as far as one packet reaches: say so, and go on behind them.
		n = len(deltas)
	}
	r.next += int64(n)
	if r.next > r.highest {
		r.pending = false
	}
	return deltas[:n]
}

// advance makes ext the highest, and forgets what the window then no longer holds.
func (r *TWCCRecorder) advance(ext int64) {
	if ext-r.highest >= twccWindow {
		clear(r.received[:])
	} else {
		for e := r.highest + 1; e <= ext; e++ {
			r.received[e&(twccWindow-1)>>6] &^= 1 << (e & 63)
		}
	}
	r.highest = ext
	if oldest := ext - twccWindow + 1; r.next < oldest {
		r.Skipped += uint64(oldest - r.next)
		r.next = oldest
	}
}

func (r *TWCCRecorder) has(ext int64) bool {
	return r.received[ext&(twccWindow-1)>>6]>>(ext&63)&1 != 0
}

func (r *TWCCRecorder) set(ext, now int64) {
	r.ticks[ext&(twccWindow-1)] = uint32(now / twccTick)
	r.received[ext&(twccWindow-1)>>6] |= 1 << (ext & 63)
	r.pending = true
}
