package record

// How far the media clock of a sender may run away from the arrival of its packets before it is set right.
const (
	maxDrift  = int64(2e9)
	restarted = int64(1e8) // after a mute, in which some senders stop their clock

	// firstReports say where a track lies in its sender's time. The earliest counts: a sender that reads its clock late, because its
	// machine is busy, says that media is newer than it is, never older. Later reports show the drift of its clocks.
	firstReports = 16
)

// timeline places RTP timestamps of a track in time, in nanoseconds from the track's first packet, over changes of the stream.
type timeline struct {
	rate    int64
	started bool
	stream  uint32
	last    int64 // unwrapped timestamp of the packet before
	base    int64 // the one that lies at basePos
	basePos int64
	firstAt int64 // arrival of the first packet
	firstTS uint32
	lag     int64 // of the packet before: how much later it came than its timestamp says
	pos     int64 // of the packet before

	clocks  [4]streamClock // of the streams that reported last
	clockN  int
	origin  int64 // NTP time at position 0 by the reports, nanoseconds since 1970
	reports int
	firstR  report
	lastR   report
}

// streamClock is the last sender report of one stream.
type streamClock struct {
	stream uint32
	report
}

type report struct {
	ntp int64 // nanoseconds since 1970
	raw uint32
	pos int64 // once it is known
}

func (t *timeline) duration(ticks int64) int64 { return ticks * 1e9 / t.rate }

// place returns the position of a packet.
func (t *timeline) place(p *packet) int64 {
	switch {
	case !t.started:
		t.started, t.stream, t.firstAt, t.firstTS = true, p.stream, p.at, p.ts
		t.last, t.base = int64(p.ts), int64(p.ts)
		t.anchor(t.clock(p.stream))
	case p.stream != t.stream:
		t.change(p)
	default:
		t.last += int64(int32(p.ts - uint32(t.last)))
	}
	pos := t.basePos + t.duration(t.last-t.base)
	lag := p.at - t.firstAt - pos
	if d := lag - t.lag; d > maxDrift || d < -maxDrift || p.unmuted && d > restarted {
		pos = max(pos+d, t.pos)
		t.base, t.basePos = t.last, pos
		lag = p.at - t.firstAt - pos
	}
	t.lag, t.pos = lag, pos
	return pos
}

// change goes over to another stream: by the sender's clock, if it has reported on both, or else by arrival.
func (t *timeline) change(p *packet) {
	from, to := t.clock(t.stream), t.clock(p.stream)
	pos := t.pos + max(0, p.at-t.firstAt-t.pos-t.lag)
	if from != nil && to != nil {
		was := t.basePos + t.duration(t.last+int64(int32(from.raw-uint32(t.last)))-t.base) // position of from's report
		is := from.ntp + pos - was                                                         // NTP time by arrival
		by := to.ntp + t.duration(int64(int32(p.ts-to.raw)))                               // and by the report
		if d := by - is; d < maxDrift && d > -maxDrift {
			pos += d
		}
	}
	t.stream, t.last, t.base, t.basePos = p.stream, int64(p.ts), int64(p.ts), max(pos, t.pos)
	t.anchor(to)
}

func (t *timeline) clock(stream uint32) *streamClock {
	for i := range t.clocks {
		if c := &t.clocks[i]; c.ntp != 0 && c.stream == stream {
			return c
		}
	}
	return nil
}

// reported takes a sender report of a stream.
func (t *timeline) reported(stream uint32, ntp int64, ts uint32) {
	c := t.clock(stream)
	if c == nil {
		c = &t.clocks[t.clockN%len(t.clocks)]
		t.clockN++
	}
	*c = streamClock{stream: stream, report: report{ntp: ntp, raw: ts}}
	if t.started && stream == t.stream {
		t.anchor(c)
	}
}

// anchor learns from a report of the stream at hand, if there is one, where the track lies in the sender's time.
func (t *timeline) anchor(c *streamClock) {
	if c == nil {
		return
	}
	c.pos = t.basePos + t.duration(t.last+int64(int32(c.raw-uint32(t.last)))-t.base)
	origin := c.ntp - c.pos
	if t.reports == 0 {
		t.origin, t.firstR = origin, c.report
	}
	if t.reports++; t.reports <= firstReports {
		t.origin = min(t.origin, origin)
	}
	t.lastR = c.report
}

// ntpAtZero returns the NTP time of position 0 in nanoseconds since 1970, if the sender has said it.
func (t *timeline) ntpAtZero() (int64, bool) { return t.origin, t.reports > 0 }

// drift returns by how many millionths RTP time runs faster than NTP time.
func (t *timeline) drift() float64 {
	span := t.lastR.ntp - t.firstR.ntp
	if span < 10e9 { // below that it is the jitter of two reports
		return 0
	}
	return (float64(t.lastR.pos-t.firstR.pos)/float64(span) - 1) * 1e6
}
