package rtcp

import "math"

const (
	nackCapacity = 256                  // gaps remembered; a burst of more is repaired by a key frame
	nackWindow   = 512                  // sequence numbers behind the newest that are still asked for
	nackTries    = 10                   // requests for one packet
	nackMaxAge   = 1 * second           // since the gap was seen
	nackMinRetry = 20 * millisecond     // between requests, however short the round trip
	nackSteady   = 3                    // repetitions in the same time; those after them wait longer and longer
	nackGrace    = 10 * millisecond     // for a reordered packet, when nothing comes behind it
	nackNever    = int64(math.MaxInt64) // deadline of a generator with no gaps
)

// NACKGenerator finds gaps in one stream and says which packets to ask for again, and when.
//
// A gap is given the time of one packet to be mere reordering: it is due when the second packet behind it arrives, or
// after 10 ms when none does. Then it is asked for again when the answer is overdue, an eighth of the round-trip time
// behind it (20 ms in all at least): a repair is lost as easily as any packet, and the picture stands still for as long as
// nobody notices. From the fourth repetition on each wait is half as long again. A packet is given up after 10 requests,
// after a second, when it is 512 behind, or when more than 256 are missing; the caller sees GaveUp go up and asks for a
// key frame.
//
// The zero NACKGenerator is ready to use. It takes 8 KiB and no more.
type NACKGenerator struct {
	GaveUp    uint64 // packets that will not be asked for any more
	Recovered uint64 // packets that came after they were asked for
	Requested uint64 // requests, repetitions included

	started bool
	highest int64
	next    int64 // deadline, valid if n > 0
	n       int
	missing [nackCapacity]missingPacket // the first n, in ascending order
}

type missingPacket struct {
	ext   int64
	found int64 // when the gap was seen
	due   int64 // when it is to be asked for
	tries uint8
}

// Received notes the arrival of a packet by its extended sequence number, repaired ones included. It is the number
// that Reception.Update returns.
func (g *NACKGenerator) Received(ext, now int64) {
	if !g.started {
		g.started, g.highest = true, ext
		return
	}
	if ext <= g.highest {
		g.arrived(ext)
		return
	}
	// What was a gap before this packet has had its grace.
	for i := range g.missing[:g.n] {
		if m := &g.missing[i]; m.tries == 0 && m.due > now {
			m.due, g.next = now, min(g.next, now)
		}
	}
	from := g.highest + 1
	g.highest = ext
	if low := ext - nackCapacity; from < low {
		g.GaveUp += uint64(low - from)
		from = low
	}
	if from == ext {
		return
	}
	g.drop(g.n + int(ext-from) - nackCapacity)
	if g.n == 0 {
		g.next = nackNever
	}
	for e := from; e < ext; e++ {
		g.missing[g.n] = missingPacket{ext: e, found: now, due: now + nackGrace}
		g.n++
	}
	g.next = min(g.next, now+nackGrace)
}

// Missing appends to out the sequence numbers to ask for now, oldest first and never beyond the capacity of out, and
// counts what it gives up. What found no room is due at once.
func (g *NACKGenerator) Missing(now, rtt int64, out []uint16) []uint16 {
	if g.n == 0 || now < g.next {
		return out
	}
	g.next = nackNever
	kept := 0
	for i := range g.missing[:g.n] {
		m := g.missing[i]
		expired := now-m.found >= nackMaxAge || g.highest-m.ext > nackWindow
		if m.due <= now && m.tries >= nackTries || expired {
			g.GaveUp++
			continue
		}
		if m.due <= now && len(out) < cap(out) {
			out = append(out, uint16(m.ext))
			m.due = now + retryAfter(rtt, m.tries)
			m.tries++
			g.Requested++
		}
		g.next = min(g.next, m.due, m.found+nackMaxAge)
		g.missing[kept] = m
		kept++
	}
	g.n = kept
	return out
}

// Next is the time at which Missing has something to do, and the highest int64 when there are no gaps.
func (g *NACKGenerator) Next() int64 {
	if g.n == 0 {
		return nackNever
	}
	return g.next
}

// Reset forgets all gaps without counting them, as when the stream goes on from a key frame, is paused or starts anew. The
// next packet received is taken as the first.
func (g *NACKGenerator) Reset() {
	g.started, g.n = false, 0
}

func retryAfter(rtt int64, tries uint8) int64 {
	d := min(max(rtt+rtt/8, nackMinRetry), nackMaxAge)
	for range int(tries) - nackSteady + 1 {
		d += d / 2
	}
	return d
}

// arrived takes one packet off the list.
func (g *NACKGenerator) arrived(ext int64) {
	lo, hi := 0, g.n
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); g.missing[mid].ext < ext {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == g.n || g.missing[lo].ext != ext {
		return
	}
	if g.missing[lo].tries > 0 {
		g.Recovered++
	}
	copy(g.missing[lo:g.n], g.missing[lo+1:g.n])
	g.n--
}

// drop gives up the k oldest.
func (g *NACKGenerator) drop(k int) {
	if k <= 0 {
		return
	}
	g.GaveUp += uint64(k)
	copy(g.missing[:], g.missing[k:g.n])
	g.n -= k
}
