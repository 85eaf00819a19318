package netem

import (
	"math/bits"
	"slices"
	"time"
)

// Stats is what has become of the packets of one direction. It marshals to JSON, with times in nanoseconds.
type Stats struct {
	Packets uint64 `json:"packets"` // that came, with their payload
	Bytes   uint64 `json:"bytes"`

	Delivered      uint64 `json:"delivered"` // those that were doubled count twice
	DeliveredBytes uint64 `json:"delivered_bytes"`
	Duplicated     uint64 `json:"duplicated"`
	Held           uint64 `json:"held"` // held back so that others passed

	Lost      uint64 `json:"lost"`       // by Loss
	LostBurst uint64 `json:"lost_burst"` // by Burst
	Dropped   uint64 `json:"dropped"`    // by a full queue

	// How long packets waited for the line and took on it, of those that the queue did not drop.
	QueueP50 time.Duration `json:"queue_p50"`
	QueueP99 time.Duration `json:"queue_p99"`
	QueueMax time.Duration `json:"queue_max"`

	Interval time.Duration `json:"interval"`
	Series   []Sample      `json:"series"` // one for each interval from First on, the last of them not yet over
	First    time.Duration `json:"first"`  // more than 0 once the oldest had to make room
}

// Sample is one interval of a direction.
type Sample struct {
	In      uint32        `json:"in"`  // bytes that came
	Out     uint32        `json:"out"` // bytes delivered
	Lost    uint32        `json:"lost"`
	Dropped uint32        `json:"dropped"`
	Queue   time.Duration `json:"queue"` // the longest wait of what left the queue
}

// maxSamples bounds the series: an hour and a half at ten a second.
const maxSamples = 54_000

// cause is why a packet did not arrive.
type cause uint8

const (
	byLoss cause = iota
	byBurst
	byQueue
)

// recorder counts for one line.
type recorder struct {
	total    Stats
	interval time.Duration
	series   []Sample
	first    int64 // number of the interval of series[0]
	waits    histogram
}

func newRecorder(interval time.Duration) recorder { return recorder{interval: interval} }

// sample returns that of a time; what is older than the series counts to its first.
func (r *recorder) sample(at time.Duration) *Sample {
	n := int64(at / r.interval)
	if more := n - r.first - maxSamples + 1; more > 0 { // the oldest make room, a quarter at a time
		more = max(more, maxSamples/4)
		r.series = slices.Delete(r.series, 0, int(min(more, int64(len(r.series)))))
		r.first += more
	}
	n = max(0, n-r.first)
	for int64(len(r.series)) <= n {
		r.series = append(r.series, Sample{})
	}
	return &r.series[n]
}

func (r *recorder) came(at time.Duration, size int) {
	r.total.Packets++
	r.total.Bytes += uint64(size)
	r.sample(at).In += uint32(size)
}

func (r *recorder) arrived(at time.Duration, size int) {
	r.total.Delivered++
	r.total.DeliveredBytes += uint64(size)
	r.sample(at).Out += uint32(size)
}

func (r *recorder) waited(at, wait time.Duration) {
	r.waits.add(wait)
	r.total.QueueMax = max(r.total.QueueMax, wait)
	s := r.sample(at)
	s.Queue = max(s.Queue, wait)
}

func (r *recorder) dropped(at time.Duration, why cause) {
	s := r.sample(at)
	switch why {
	case byLoss:
		r.total.Lost++
		s.Lost++
	case byBurst:
		r.total.LostBurst++
		s.Lost++
	case byQueue:
		r.total.Dropped++
		s.Dropped++
	}
}

func (r *recorder) snapshot(now time.Duration) Stats {
	r.sample(now)
	out := r.total
	out.QueueP50, out.QueueP99 = min(r.waits.at(0.50), out.QueueMax), min(r.waits.at(0.99), out.QueueMax)
	out.Interval = r.interval
	out.First = time.Duration(r.first) * r.interval
	out.Series = slices.Clone(r.series)
	return out
}

// histogram counts times in steps that grow with them, none wider than a sixteenth of the time itself.
type histogram struct {
	counts [16 * 32]uint64
	n      uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[slot(uint64(max(0, d)/time.Microsecond))]++
	h.n++
}

// slot is the number of the step of a time in microseconds.
func slot(us uint64) int {
	if us < 16 {
		return int(us)
	}
	shift := min(bits.Len64(us)-5, 30)
	return 16*shift + int(min(us>>shift, 31))
}

// edge is where a step ends.
func edge(slot int) time.Duration {
	if slot < 32 {
		return time.Duration(slot) * time.Microsecond
	}
	shift := slot/16 - 1
	return time.Duration((uint64(slot%16+17)<<shift)-1) * time.Microsecond
}

// at returns a time that a share q of all does not exceed, to the microsecond and a sixteenth above the least such time at most.
func (h *histogram) at(q float64) time.Duration {
	rank := uint64(q*float64(h.n) + 0.999999)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return edge(i)
		}
	}
	return 0
}
