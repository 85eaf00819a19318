package forward

// Parts of a stream that are measured apart: spatial layers, and temporal layers of each.
const (
	maxSpatial  = 3
	maxTemporal = 4
)

// meterWindow is the time a rate is taken over; the first one comes sooner, since nobody can be given a layer of which nothing is
// known.
const (
	meterWindow = 500 * millisecond
	meterFirst  = 150 * millisecond
)

// meter measures a stream by its layers.
type meter struct {
	since int64
	known bool
	bytes [maxSpatial][maxTemporal]uint32
	rate  [maxSpatial][maxTemporal]uint32 // bit/s, of that layer alone
}

// add counts a packet of so many bytes on the wire.
func (m *meter) add(spatial, temporal uint8, size int, now int64) {
	if m.since == 0 {
		m.since = now
	}
	m.roll(now)
	m.bytes[min(spatial, maxSpatial-1)][min(temporal, maxTemporal-1)] += uint32(size)
}

// roll closes a window that is over.
func (m *meter) roll(now int64) {
	gap := now - m.since
	if m.since == 0 || gap < meterWindow && (m.known || gap < meterFirst) {
		return
	}
	for s := range m.bytes {
		for t := range m.bytes[s] {
			got := uint32(min(uint64(m.bytes[s][t])*8*uint64(second)/uint64(gap), 1<<32-1))
			if m.known && gap < 4*meterWindow {
				got = (got + m.rate[s][t]) / 2 // a key frame makes one window heavy
			}
			m.rate[s][t], m.bytes[s][t] = got, 0
		}
	}
	m.known, m.since = true, now
}

// upTo is the rate of the stream with its spatial layers up to s and its temporal layers up to t.
func (m *meter) upTo(s, t uint8) (sum uint64) {
	for i := range min(int(s)+1, maxSpatial) {
		for j := range min(int(t)+1, maxTemporal) {
			sum += uint64(m.rate[i][j])
		}
	}
	return sum
}

// reset forgets everything: another stream begins.
func (m *meter) reset() { *m = meter{} }
