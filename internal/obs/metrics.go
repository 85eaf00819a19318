package obs

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Other stands in for a label value that was not declared.
const Other = "other"

// Label is a label with a fixed value.
type Label struct{ Name, Value string }

// Metrics is the registry of one process. Names are registered once, at
// start; a name registered twice is a mistake in the program and panics.
type Metrics struct {
	registry *prometheus.Registry
}

// NewMetrics returns a registry that shows the process, the Go runtime and
// the version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.GaugeFunc("sotto_build_info", "Constant 1, labelled with the version.",
		func() float64 { return 1 }, Label{"version", version})
	return m
}

// Handler serves the metrics in the format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Counters returns a counter for each of the given values of one label. All
// of them are there from the start, at zero, so that a rate can be computed
// for the first event too.
func (m *Metrics) Counters(name, help, label string, values ...string) *Counters {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m.registry.MustRegister(vec)
	c := &Counters{byValue: make(map[string]prometheus.Counter, len(values)+1)}
	for _, v := range append(values, Other) {
		c.byValue[v] = vec.WithLabelValues(v)
	}
	return c
}

// CounterFunc shows a count that somebody else keeps. The same name may be
// registered again with another value of the same label.
func (m *Metrics) CounterFunc(name, help string, read func() float64, labels ...Label) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant(labels)}, read))
}

// GaugeFunc shows a level that somebody else keeps.
func (m *Metrics) GaugeFunc(name, help string, read func() float64, labels ...Label) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constant(labels)}, read))
}

// Histogram counts values by their size.
type Histogram struct {
	Counts []uint64 // of the values up to each bound and above the one before
	Sum    float64
}

// HistogramFunc shows a histogram that somebody else keeps. The same name may be registered again with another value of the same
// labels.
func (m *Metrics) HistogramFunc(name, help string, bounds []float64, read func() Histogram, labels ...Label) {
	m.registry.MustRegister(&histogram{prometheus.NewDesc(name, help, nil, constant(labels)), bounds, read})
}

// histogram is a collector.
type histogram struct {
	desc   *prometheus.Desc
	bounds []float64
	read   func() Histogram
}

// Describe implements prometheus.Collector.
func (h *histogram) Describe(out chan<- *prometheus.Desc) { out <- h.desc }

// Collect implements prometheus.Collector.
func (h *histogram) Collect(out chan<- prometheus.Metric) {
	now := h.read()
	upTo, sum := make(map[float64]uint64, len(h.bounds)), uint64(0)
	for i, bound := range h.bounds {
		sum += now.Counts[i]
		upTo[bound] = sum
	}
	out <- prometheus.MustNewConstHistogram(h.desc, sum, now.Sum, upTo)
}

func constant(labels []Label) prometheus.Labels {
	out := make(prometheus.Labels, len(labels))
	for _, l := range labels {
		out[l.Name] = l.Value
	}
	return out
}

// Counters are counters that differ in one label with known values.
type Counters struct {
	byValue map[string]prometheus.Counter
}

// Inc counts one event. A value that was not declared counts as Other.
func (c *Counters) Inc(value string) { c.Add(value, 1) }

// Add counts n events, which must not be negative.
func (c *Counters) Add(value string, n float64) {
	counter, known := c.byValue[value]
	if !known {
		counter = c.byValue[Other]
	}
	counter.Add(n)
}
