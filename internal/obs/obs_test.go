package obs

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLoggerChangesInUse(t *testing.T) {
	var out bytes.Buffer
	root, control := NewLogger(&out)
	log := root.With("conference", "c1").WithGroup("peer")

	log.Debug("hidden")
	if out.Len() != 0 {
		t.Errorf("debug line at level info: %s", &out)
	}
	log.Info("joined", "name", "ann")
	if got := out.String(); !strings.Contains(got, `level=INFO msg=joined conference=c1 peer.name=ann`) {
		t.Errorf("text line is %q", got)
	}

	out.Reset()
	if err := control.Set("json", "debug"); err != nil {
		t.Fatal(err)
	}
	log.Debug("seen", "name", "bob")
	var line struct {
		Msg, Conference string
		Peer            struct{ Name string }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("line %q: %v", &out, err)
	}
	if line.Msg != "seen" || line.Conference != "c1" || line.Peer.Name != "bob" {
		t.Errorf("line is %+v", line)
	}
}

func TestLoggerKeepsItsFormWhenTheNewOneIsUnknown(t *testing.T) {
	var out bytes.Buffer
	log, control := NewLogger(&out)
	for _, bad := range [][2]string{{"xml", "debug"}, {"json", "loud"}} {
		if err := control.Set(bad[0], bad[1]); err == nil {
			t.Errorf("Set(%q, %q) was accepted", bad[0], bad[1])
		}
	}
	log.Debug("hidden")
	log.Info("text")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "msg=text") {
		t.Errorf("output is %q", got)
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d", w.Code)
	}
	return w.Body.String()
}

func TestLabelValuesAreBounded(t *testing.T) {
	m := NewMetrics("v1")
	c := m.Counters("sotto_errors_total", "Errors by code.", "code", "room_full", "not_found")
	c.Inc("room_full")
	c.Add("not_found", 2)
	for _, hostile := range []string{"a", "b", "\xff\n\"", ""} {
		c.Inc(hostile)
	}
	got := scrape(t, m)
	for _, want := range []string{
		`sotto_errors_total{code="room_full"} 1`,
		`sotto_errors_total{code="not_found"} 2`,
		`sotto_errors_total{code="other"} 4`,
		`sotto_build_info{version="v1"} 1`,
		"go_goroutines ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if n := strings.Count(got, "\nsotto_errors_total{"); n != 3 {
		t.Errorf("%d series, want 3", n)
	}
}

func TestFuncs(t *testing.T) {
	m := NewMetrics("v1")
	in, out := 3.0, 4.0
	m.CounterFunc("sotto_datagrams_total", "Datagrams.", func() float64 { return in }, Label{"direction", "in"})
	m.CounterFunc("sotto_datagrams_total", "Datagrams.", func() float64 { return out }, Label{"direction", "out"})
	m.GaugeFunc("sotto_conferences", "Live conferences.", func() float64 { return 7 })
	in++
	got := scrape(t, m)
	for _, want := range []string{
		`sotto_datagrams_total{direction="in"} 4`,
		`sotto_datagrams_total{direction="out"} 4`,
		"sotto_conferences 7",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

func TestExpose(t *testing.T) {
	type socket struct {
		ReceivedBytes, GSOSegments uint64
	}
	type stats struct {
		Conferences int
		Joins       int64
		Socket      socket
		Lanes       []socket
	}
	m := NewMetrics("v1")
	figures, failing := stats{Conferences: 2, Joins: 3, Socket: socket{1 << 40, 5}, Lanes: []socket{{1, 2}, {3, 4}}}, error(nil)
	Expose(m, "sotto_sfu", "media node", func() (stats, error) { return figures, failing })
	got := scrape(t, m)
	for _, want := range []string{
		"# TYPE sotto_sfu_conferences gauge", "\nsotto_sfu_conferences 2\n",
		"# TYPE sotto_sfu_joins_total counter", "\nsotto_sfu_joins_total 3\n",
		"\nsotto_sfu_socket_received_bytes_total 1.099511627776e+12\n",
		"# HELP sotto_sfu_socket_gso_segments_total media node: gso segments.",
		"\nsotto_sfu_lanes_received_bytes_total{lane=\"0\"} 1\n",
		"\nsotto_sfu_lanes_gso_segments_total{lane=\"1\"} 4\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	failing = errors.New("closed")
	if got := scrape(t, m); strings.Contains(got, "sotto_sfu") {
		t.Error("figures that could not be read are shown")
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{
		"PacketsIn": "packets_in", "NACKsIn": "nacks_in", "NACKsOut": "nacks_out", "RTPIn": "rtp_in", "DTLSUnexpected": "dtls_unexpected",
		"UnknownSSRC": "unknown_ssrc", "TURN": "turn", "GSOSegments": "gso_segments", "STUNMalformed": "stun_malformed", "MalformedRTCP": "malformed_rtcp",
		"Late": "late", "NoBuffer": "no_buffer", "IDs": "ids",
	} {
		if got := snake(name); got != want {
			t.Errorf("snake(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	m := NewMetrics("v")
	now := Histogram{Counts: make([]uint64, 3)}
	for _, kind := range []string{"audio", "video"} {
		m.HistogramFunc("sotto_score", "How good.", []float64{1, 2.5, 5}, func() Histogram { return now }, Label{"kind", kind})
	}
	now = Histogram{Counts: []uint64{1, 0, 3}, Sum: 12.5}
	got := scrape(t, m)
	for _, want := range []string{
		"# TYPE sotto_score histogram", `sotto_score_bucket{kind="audio",le="1"} 1`, `sotto_score_bucket{kind="video",le="2.5"} 1`,
		`sotto_score_bucket{kind="audio",le="5"} 4`, `sotto_score_sum{kind="audio"} 12.5`, `sotto_score_count{kind="video"} 4`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}
